//! Queries under way, and who makes room for whom.

use core::net::IpAddr;
use core::net::SocketAddr;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashMap;
use pontoon_packet::Timestamp;

use crate::message::{self, Query};
use crate::{Client, Delivery, Forward, Key, Transport, ZoneId, reply};

/// How many queries may be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In all. When full, the client with the most loses its eldest.
    pub pending: usize,
    /// Of one client address. When full, its eldest goes.
    pub pending_per_client: usize,
}

impl Default for Limits {
    /// 1 024 as Docker has, 64 for a client.
    fn default() -> Self {
        Self {
            pending: 1024,
            pending_per_client: 64,
        }
    }
}

/// A query under way.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) key: Key,
    pub(crate) client: Client,
    pub(crate) transport: Transport,
    /// As the client sent it.
    pub(crate) query: Query,
    /// As it is forwarded, with an id of ours.
    pub(crate) bytes: Vec<u8>,
    pub(crate) upstreams: Arc<[SocketAddr]>,
    /// How often one of `upstreams` was asked.
    pub(crate) tries: usize,
    /// Whoever was asked, the last one last.
    pub(crate) asked: Vec<SocketAddr>,
    pub(crate) deadline: Timestamp,
}

/// A client whose queries are counted together: all ports of an address in a network.
type Holder = (ZoneId, IpAddr);

impl Pending {
    fn holder(&self) -> Holder {
        holder(self.client)
    }

    /// The same query once more from the same endpoint.
    fn is_same(&self, client: Client, transport: Transport, bytes: &[u8]) -> bool {
        let id = self.query.header.id.to_be_bytes();
        self.client == client
            && self.transport == transport
            && bytes.starts_with(&id)
            && message::question_bytes(bytes) == message::question_bytes(&self.bytes)
    }

    /// `bytes` from `from` answer what was asked.
    pub(crate) fn is_answered_by(&self, from: SocketAddr, bytes: &[u8]) -> bool {
        self.asked.contains(&from)
            && bytes.get(..2) == self.bytes.get(..2)
            && message::question_bytes(bytes) == message::question_bytes(&self.bytes)
    }

    /// The query for the upstream whose turn it is.
    pub(crate) fn forward(&self, upstream: SocketAddr) -> Forward {
        Forward {
            key: self.key,
            upstream,
            transport: self.transport,
            bytes: self.bytes.clone(),
        }
    }

    pub(crate) fn delivery(&self, bytes: Vec<u8>) -> Delivery {
        Delivery {
            key: self.key,
            client: self.client,
            transport: self.transport,
            bytes,
        }
    }

    /// An upstream's answer, as long as the client takes it.
    pub(crate) fn answered(&self, answer: &[u8]) -> Delivery {
        if answer.len() > reply::limit(&self.query, self.transport) {
            return self.delivery(reply::truncated(&self.query, answer));
        }
        let mut bytes = answer.to_vec();
        message::set_id(&mut bytes, self.query.header.id);
        self.delivery(bytes)
    }
}

fn holder(client: Client) -> Holder {
    (client.zone, client.addr.ip())
}

/// All queries under way, by key, by client and by deadline.
#[derive(Debug)]
pub(crate) struct Table {
    entries: HashMap<Key, Pending, RandomState>,
    /// Eldest first. Never empty.
    by_holder: HashMap<Holder, VecDeque<Key>, RandomState>,
    deadlines: BTreeSet<(Timestamp, Key)>,
    limits: Limits,
}

impl Table {
    pub(crate) fn new(limits: Limits, hasher: RandomState) -> Self {
        Self {
            entries: HashMap::with_hasher(hasher.clone()),
            by_holder: HashMap::with_hasher(hasher),
            deadlines: BTreeSet::new(),
            limits,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Pending> {
        self.entries.get(&key)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Pending> {
        self.entries.values_mut()
    }

    /// The query is under way already.
    pub(crate) fn holds(&self, client: Client, transport: Transport, bytes: &[u8]) -> bool {
        self.of(holder(client)).any(|key| {
            let pending = self.entries.get(&key);
            pending.is_some_and(|pending| pending.is_same(client, transport, bytes))
        })
    }

    /// The keys of a client's queries, eldest first.
    pub(crate) fn of(&self, holder: Holder) -> impl Iterator<Item = Key> {
        self.by_holder.get(&holder).into_iter().flatten().copied()
    }

    /// The keys of all queries of a network.
    pub(crate) fn of_zone(&self, zone: ZoneId) -> Vec<Key> {
        let holders = self.by_holder.iter();
        let own = holders.filter(|((other, _), _)| *other == zone);
        own.flat_map(|(_, keys)| keys).copied().collect()
    }

    /// Takes out who must go before one more query of `client` fits.
    pub(crate) fn make_room(&mut self, client: Client) -> Option<Pending> {
        let own = self.by_holder.get(&holder(client));
        let count = own.map_or(0, VecDeque::len);
        let victim = if count >= self.limits.pending_per_client {
            own
        } else if self.entries.len() >= self.limits.pending {
            let most = self.by_holder.values().max_by_key(|keys| keys.len());
            most.filter(|keys| keys.len() > count).or(own)
        } else {
            None
        };
        let eldest = *victim?.front()?;
        self.remove(eldest)
    }

    pub(crate) fn insert(&mut self, pending: Pending) {
        let key = pending.key;
        self.deadlines.insert((pending.deadline, key));
        let keys = self.by_holder.entry(pending.holder()).or_default();
        keys.push_back(key);
        self.entries.insert(key, pending);
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<Pending> {
        let pending = self.entries.remove(&key)?;
        self.deadlines.remove(&(pending.deadline, key));
        let holder = pending.holder();
        if let Some(keys) = self.by_holder.get_mut(&holder) {
            keys.retain(|other| *other != key);
            if keys.is_empty() {
                self.by_holder.remove(&holder);
            }
        }
        Some(pending)
    }

    /// Notes that `upstream` was asked and has until `deadline`.
    pub(crate) fn retry(&mut self, key: Key, upstream: SocketAddr, deadline: Timestamp) {
        if let Some(pending) = self.entries.get_mut(&key) {
            self.deadlines.remove(&(pending.deadline, key));
            self.deadlines.insert((deadline, key));
            pending.deadline = deadline;
            pending.tries += 1;
            pending.asked.retain(|other| *other != upstream);
            pending.asked.push(upstream);
        }
    }

    /// When the first query is due.
    pub(crate) fn first_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// A query that is due.
    pub(crate) fn due(&self, now: Timestamp) -> Option<Key> {
        let (at, key) = self.deadlines.first()?;
        (*at <= now).then_some(*key)
    }
}
