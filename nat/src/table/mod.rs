//! The table of connections.
//!
//! | module | what it holds |
//! |---|---|
//! | `connection` | what is remembered of one, and how it is shown |
//! | `index` | finding them by tuple and by mapping |
//! | `shares` | caps, and eviction |
//! | `ring` | the lists that run through them |

mod connection;
mod index;
mod ring;
mod shares;

use core::ops::Range;
use core::time::Duration;

use ahash::RandomState;
use hashbrown::{HashMap, HashTable};
use pontoon_packet::Timestamp;

pub(crate) use connection::{Connection, Connections, Followed, Kind, NewConnection};
pub use connection::{FlowView, Traffic};
pub(crate) use shares::Pressure;
use shares::Share;

use crate::resume::Resumable;
use crate::wheel::Wheel;
use crate::{Limits, Owner};

/// Names a connection as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId {
    /// Place in the table; reused.
    pub slot: u32,
    /// Tells the users of one place apart.
    pub generation: u32,
}

/// Connections, found by either tuple in constant time.
///
/// * Cap: [`Limits::flows`], [`Limits::flows_per_owner`], [`Limits::half_open_per_owner`].
/// * Ageing: a timing wheel; a connection that is over but not yet swept is not found any more.
/// * Eviction: only flows that are not assured, or over (TCP in TIME_WAIT or CLOSE). An owner at its
///   own cap loses its own oldest. When the table is full, [`SAMPLES`](shares::SAMPLES) places drawn at random tell whose share is largest, and that owner
///   loses its oldest: who floods evicts himself.
/// * Invariant: a connection is indexed by both tuples or by neither.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) connections: Connections,
    free: Vec<u32>,
    by_tuple: HashTable<u32>,
    /// One flow of each mapping, by protocol and inside endpoint.
    by_inside: HashTable<u32>,
    /// The same by protocol and external endpoint.
    by_external: HashTable<u32>,
    shares: HashMap<Owner, Share, RandomState>,
    wheel: Wheel,
    hasher: RandomState,
    limits: Limits,
    live: usize,
    random: u64,
    /// Relayed connections that were taken out; no more than there were.
    pub(crate) ended: Vec<ConnId>,
    /// Connections that were carried elsewhere and are not to be any more; no more than there were.
    pub(crate) released: Vec<ConnId>,
    /// Places of established connections that have changed; each once.
    pub(crate) changed: Vec<u32>,
    pub(crate) pressure: Pressure,
}

/// Packets whose state is fetched side by side. Our choice: what a processor can wait for at a time.
pub const AHEAD: usize = 16;

impl Table {
    pub(crate) fn new(limits: Limits, seeds: [u64; 4]) -> Self {
        let [a, b, c, d] = seeds;
        let hasher = RandomState::with_seeds(a, b, c, d);
        Self {
            connections: Connections::default(),
            free: Vec::new(),
            by_tuple: HashTable::new(),
            by_inside: HashTable::new(),
            by_external: HashTable::new(),
            shares: HashMap::with_hasher(hasher.clone()),
            wheel: Wheel::new(),
            hasher,
            limits,
            live: 0,
            random: a ^ d | 1,
            ended: Vec::new(),
            released: Vec::new(),
            changed: Vec::new(),
            pressure: Pressure::default(),
        }
    }

    pub(crate) fn get(&self, id: ConnId) -> Option<&Connection> {
        let connection = self.connections.0.get(id.slot as usize)?;
        (connection.live && connection.generation == id.generation).then_some(connection)
    }

    pub(crate) fn get_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        let connection = self.connections.0.get_mut(id.slot as usize)?;
        (connection.live && connection.generation == id.generation).then_some(connection)
    }

    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Puts a connection in. The caller has made room and seen to it that neither tuple is taken.
    pub(crate) fn insert(&mut self, new: NewConnection) -> ConnId {
        let slot = self.free.pop().unwrap_or(self.connections.0.len() as u32);
        let old = self.connections.0.get(slot as usize);
        let generation = old.map_or(0, |old| old.generation.wrapping_add(1));
        let noted = old.is_some_and(|old| old.noted);
        let connection = Connection::begin(&new, generation, noted);
        match self.connections.0.get_mut(slot as usize) {
            Some(place) => *place = connection,
            None => self.connections.0.push(connection),
        }
        self.live += 1;
        self.index(slot);
        self.wheel
            .link(&mut self.connections, slot, u64::from(new.expires));
        let share = self.shares.entry(new.owner).or_insert(Share::EMPTY);
        share.flows += 1;
        share.half_open += usize::from(new.half_open);
        self.join_evictable(slot);
        ConnId { slot, generation }
    }

    /// Both sides have agreed to the connection: it is not evicted any more.
    pub(crate) fn assure(&mut self, slot: u32) {
        let connection = &mut self.connections.0[slot as usize];
        if !connection.assured {
            connection.assured = true;
            self.leave_evictable(slot);
            self.note(slot);
        }
    }

    /// The connection is over, or begins anew: it may be evicted again.
    pub(crate) fn unassure(&mut self, slot: u32) {
        let connection = &mut self.connections.0[slot as usize];
        if connection.assured {
            connection.assured = false;
            self.join_evictable(slot);
            self.note(slot);
        }
    }

    /// What is written down of an established connection has changed.
    pub(crate) fn note(&mut self, slot: u32) {
        let connection = &mut self.connections.0[slot as usize];
        if !core::mem::replace(&mut connection.noted, true) {
            self.changed.push(slot);
        }
    }

    /// How a connection that was noted stands; `None` when there is none, or it is not established.
    pub(crate) fn take_change(&mut self, slot: u32) -> Option<Resumable> {
        let connection = self.connections.0.get_mut(slot as usize)?;
        connection.noted = false;
        connection.live.then(|| connection.resumable()).flatten()
    }

    /// The deadline of a connection has moved towards the present: the wheel must come to it sooner.
    pub(crate) fn hasten(&mut self, slot: u32) {
        let expires = u64::from(self.connections.0[slot as usize].expires);
        self.wheel.unlink(&mut self.connections, slot);
        self.wheel.link(&mut self.connections, slot, expires);
    }

    /// Takes a connection out.
    pub(crate) fn remove(&mut self, slot: u32) {
        let connection = self.connections.0[slot as usize];
        if !connection.live {
            return;
        }
        self.unindex(slot);
        self.wheel.unlink(&mut self.connections, slot);
        if connection.assured {
            self.note(slot);
        } else {
            self.leave_evictable(slot);
        }
        let generation = connection.generation;
        if connection.kind == Kind::Relayed {
            self.ended.push(ConnId { slot, generation });
        }
        if connection.followed == Followed::Elsewhere {
            self.released.push(ConnId { slot, generation });
        }
        self.connections.0[slot as usize].live = false;
        self.free.push(slot);
        self.live -= 1;
        self.leave_share(&connection);
    }

    /// Takes out every connection of which `ends` says so. For rare events: it looks at all of them.
    pub(crate) fn remove_where(&mut self, ends: impl Fn(&Connection) -> bool) {
        for slot in 0..self.connections.0.len() as u32 {
            let connection = &self.connections.0[slot as usize];
            if connection.live && ends(connection) {
                self.remove(slot);
            }
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        self.wheel.next_slot().map(Timestamp::from_secs)
    }

    /// Sweeps what has ended by `now`, but no more than `budget` connections.
    pub(crate) fn sweep(&mut self, now: Timestamp, budget: usize) {
        let now = second(now);
        for _ in 0..budget {
            let Some(slot) = self.wheel.pop(&mut self.connections, u64::from(now)) else {
                return;
            };
            let expires = self.connections.0[slot as usize].expires;
            if expires <= now {
                self.remove(slot);
            } else {
                self.wheel
                    .link(&mut self.connections, slot, u64::from(expires));
            }
        }
    }

    pub(crate) fn skip_to(&mut self, now: Timestamp) {
        self.wheel.skip_to(u64::from(second(now)));
    }

    /// Places that connections have, or had.
    pub(crate) fn places(&self) -> usize {
        self.connections.0.len()
    }

    /// The connections at some of these places.
    pub(crate) fn views(
        &self,
        now: Timestamp,
        places: Range<usize>,
    ) -> impl Iterator<Item = FlowView> {
        let now = second(now);
        let end = places.end.min(self.places());
        let part = self.connections.0.get(places.start..end);
        part.unwrap_or_default()
            .iter()
            .filter(move |c| c.live && c.expires > now)
            .map(move |c| c.view(now))
    }

    /// A number that outsiders cannot predict: xorshift64* (Marsaglia 2003, Vigna 2016), seeded.
    pub(crate) fn next_random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// The second that a moment lies in; also the resolution of all deadlines.
pub(crate) const fn second(now: Timestamp) -> u32 {
    (now.as_nanos() / 1_000_000_000) as u32
}

/// The second by which `timeout` has passed for certain.
pub(crate) fn deadline(now: Timestamp, timeout: Duration) -> u32 {
    second(now + timeout + Duration::from_nanos(999_999_999))
}
