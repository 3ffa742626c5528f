//! Asking upstreams, one after the other.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use ahash::RandomState;
use hickory_proto::op::ResponseCode;
use pontoon_packet::Timestamp;

use crate::message::{Query, response_header, set_id};
use crate::pending::{Pending, Table};
use crate::{Action, Client, Delivery, DropReason, Forward, Key, Limits, Step, Transport, reply};

/// How long an upstream has before the next one is asked.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often each upstream is asked.
const ROUNDS: usize = 2;

/// The queries that were forwarded and the common upstreams.
#[derive(Debug)]
pub(crate) struct Forwarder {
    pub(crate) table: Table,
    upstreams: Arc<[SocketAddr]>,
    last_key: u64,
}

impl Forwarder {
    pub(crate) fn new(limits: Limits, hasher: RandomState) -> Self {
        Self {
            table: Table::new(limits, hasher),
            upstreams: Arc::new([]),
            last_key: 0,
        }
    }

    /// Queries that are waiting go on with the new ones from their next try.
    pub(crate) fn set_upstreams(&mut self, upstreams: &[SocketAddr]) {
        let new: Arc<[SocketAddr]> = upstreams.into();
        for pending in self.table.iter_mut() {
            if Arc::ptr_eq(&pending.upstreams, &self.upstreams) {
                pending.upstreams = new.clone();
                pending.tries = 0;
                // Who is being asked may still answer; who was asked before is gone.
                pending.asked.drain(..pending.asked.len().saturating_sub(1));
            }
        }
        self.upstreams = new;
    }

    /// Forwards `query`, which came as `bytes`, to the client's own upstreams or the common ones.
    pub(crate) fn begin(
        &mut self,
        now: Timestamp,
        id: u16,
        asker: (Client, Transport),
        query: Query,
        bytes: &[u8],
        own: Option<Arc<[SocketAddr]>>,
    ) -> Action {
        let (client, transport) = asker;
        if self.table.holds(client, transport, bytes) {
            return Action::Drop(DropReason::Retransmission);
        }
        let upstreams = own.unwrap_or_else(|| self.upstreams.clone());
        let Some(&first) = upstreams.first() else {
            return Action::Answer(reply::error(&query, ResponseCode::ServFail));
        };
        let displaced = self.table.make_room(client).map(failure);
        self.last_key += 1;
        let mut bytes = bytes.to_vec();
        set_id(&mut bytes, id);
        let pending = Pending {
            key: Key(self.last_key),
            client,
            transport,
            query,
            bytes,
            upstreams,
            tries: 1,
            asked: vec![first],
            deadline: now + PATIENCE,
        };
        let forward = pending.forward(first);
        self.table.insert(pending);
        Action::Forward { forward, displaced }
    }

    pub(crate) fn response(
        &mut self,
        now: Timestamp,
        key: Key,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Option<Step> {
        let pending = self.table.get(key)?;
        if !pending.is_answered_by(from, bytes) {
            return None;
        }
        let code = response_header(bytes)?.response_code;
        if let ResponseCode::ServFail | ResponseCode::Refused = code {
            // Another one is being asked meanwhile and may do better.
            (pending.asked.last() == Some(&from)).then_some(())?;
            if pending.tries < pending.upstreams.len() {
                return self.next(now, key);
            }
        }
        let pending = self.table.remove(key)?;
        Some(Step::Deliver(pending.answered(bytes)))
    }

    pub(crate) fn failed(
        &mut self,
        now: Timestamp,
        key: Key,
        upstream: SocketAddr,
    ) -> Option<Step> {
        let pending = self.table.get(key)?;
        (pending.asked.last() == Some(&upstream)).then_some(())?;
        self.next(now, key)
    }

    pub(crate) fn handle_timeout(&mut self, now: Timestamp) -> Vec<Step> {
        let mut steps = Vec::new();
        while let Some(step) = self.table.due(now).and_then(|key| self.next(now, key)) {
            steps.push(step);
        }
        steps
    }

    /// The next upstream, or SERVFAIL after the last.
    fn next(&mut self, now: Timestamp, key: Key) -> Option<Step> {
        if let Some(forward) = self.next_try(now, key) {
            return Some(Step::Forward(forward));
        }
        let pending = self.table.remove(key)?;
        Some(Step::Deliver(failure(pending)))
    }

    fn next_try(&mut self, now: Timestamp, key: Key) -> Option<Forward> {
        let pending = self.table.get(key)?;
        let count = pending.upstreams.len();
        if pending.tries >= ROUNDS * count {
            return None;
        }
        let upstream = pending.upstreams[pending.tries % count];
        let forward = pending.forward(upstream);
        self.table.retry(key, upstream, now + PATIENCE);
        Some(forward)
    }
}

fn failure(pending: Pending) -> Delivery {
    pending.delivery(reply::error(&pending.query, ResponseCode::ServFail))
}
