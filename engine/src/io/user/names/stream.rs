//! A container's connection to the name server.
#![allow(
    unsafe_code,
    reason = "lends a connection memory that outlives it in the same value"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use pontoon_names::{MAX_QUERY, StreamDecoder, frame};
use pontoon_packet::Timestamp;
use pontoon_relay::{Arena, Connection, Incoming};

use super::Asker;
use crate::io::user::memory::{Memory, Region};

/// How long a connection may bring no query (RFC 7766 §6.2.3: a few seconds).
const IDLE: Duration = Duration::from_secs(10);
/// Queries of one connection that may wait for an answer; more wait in the connection itself.
const PIPELINE: usize = 8;
/// Bytes of answers that the container has not taken, above which no more queries are read.
const UNSENT: usize = 16 << 10;

/// A connection that ends in the name server.
#[derive(Debug)]
pub(in crate::io::user) struct Stream {
    // Dropped before `region`, which it borrows.
    connection: Box<Connection>,
    region: Region,
    asker: Asker,
    decoder: StreamDecoder,
    unsent: Vec<u8>,
    /// Queries that an answer will come for.
    waiting: usize,
    idle_at: Timestamp,
    /// Its TCP has panicked.
    broken: bool,
}

impl Stream {
    /// A connection whose SYN is the first datagram to be received.
    pub(super) fn accept(now: Timestamp, asker: Asker, region: Region, isn: u32) -> Self {
        // SAFETY: `connection` is the only borrower; `close` and the order of fields see to it that it is
        // gone before the region is.
        let setup = unsafe { asker.ends.setup(&region, isn) };
        Self {
            connection: Box::new(Connection::accept(now, setup)),
            region,
            asker,
            decoder: StreamDecoder::new(MAX_QUERY as u16),
            unsent: Vec::new(),
            waiting: 0,
            idle_at: now + IDLE,
            broken: false,
        }
    }

    /// Takes a datagram of the container's.
    pub(in crate::io::user) fn receive(
        &mut self,
        now: Timestamp,
        datagram: &[u8],
        arena: &mut Arena,
    ) {
        if !self.broken {
            let receive = AssertUnwindSafe(|| self.connection.receive(now, datagram, arena));
            self.broken = catch_unwind(receive).is_err();
        }
    }

    /// Takes an answer to one of its queries.
    pub(super) fn answer(&mut self, now: Timestamp, message: &[u8]) {
        self.waiting -= 1;
        self.idle_at = now + IDLE;
        match frame(message) {
            Ok(framed) => self.unsent.extend(framed),
            Err(_) => self.connection.abort(),
        }
    }

    /// Gives every query that has come to `ask`, which says whether an answer will come, and sends
    /// answers. Each connection is a failure domain of its own.
    pub(super) fn serve(
        &mut self,
        now: Timestamp,
        arena: &mut Arena,
        ask: impl FnMut(Asker, &[u8]) -> bool,
    ) {
        if !self.broken {
            let advance = AssertUnwindSafe(|| self.advance(now, arena, ask));
            self.broken = catch_unwind(advance).is_err();
        }
    }

    fn advance(
        &mut self,
        now: Timestamp,
        arena: &mut Arena,
        mut ask: impl FnMut(Asker, &[u8]) -> bool,
    ) {
        while self.waiting < PIPELINE
            && self.unsent.len() < UNSENT
            && let Some(message) = self.next_query()
        {
            self.idle_at = now + IDLE;
            self.waiting += usize::from(ask(self.asker, &message));
        }
        self.send_answers();
        let finished = self.connection.incoming() == Incoming::Finished;
        if finished && self.waiting == 0 && self.unsent.is_empty() {
            self.connection.finish();
        }
        if now >= self.idle_at {
            self.connection.abort();
        }
        self.connection.transmit(now, arena);
    }

    fn next_query(&mut self) -> Option<Vec<u8>> {
        let Self {
            connection,
            decoder,
            ..
        } = self;
        loop {
            let taken = connection.take(|bytes| {
                let mut rest = bytes;
                let message = decoder.next_message(&mut rest);
                (bytes.len() - rest.len(), message)
            });
            match taken? {
                Ok(None) => {}
                Ok(message) => return message,
                Err(_) => {
                    connection.abort();
                    return None;
                }
            }
        }
    }

    fn send_answers(&mut self) {
        let Self {
            connection, unsent, ..
        } = self;
        while !unsent.is_empty() {
            let put = connection.put(|room| {
                let len = room.len().min(unsent.len());
                room[..len].copy_from_slice(&unsent[..len]);
                (len, len)
            });
            match put {
                None | Some(0) => break,
                Some(len) => drop(unsent.drain(..len)),
            }
        }
    }

    /// Both sides are done, or one has reset the connection.
    pub(super) fn is_over(&self) -> bool {
        self.broken || self.connection.is_over()
    }

    /// Its TCP has broken a rule of its own. Nothing more can be said by it.
    pub(super) const fn is_broken(&self) -> bool {
        self.broken
    }

    /// When it next has something to do on its own account.
    pub(super) fn poll_timeout(&mut self, now: Timestamp) -> Timestamp {
        let due = self.connection.poll_timeout(now);
        due.map_or(self.idle_at, |due| due.min(self.idle_at))
    }

    /// Lets go of everything.
    pub(super) fn close(self, memory: &mut Memory) {
        drop(self.connection);
        memory.give_back(self.region);
    }
}
