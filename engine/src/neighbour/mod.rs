//! Who has which address: the neighbour table of one interface.
//!
//! Before working on this file read RFC 1122 §2.3.2 and Linux `net/core/neighbour.c`, whose states
//! and timing it follows: an unknown address is asked for three times, one second apart, while at
//! most [`MAX_QUEUED`] datagrams wait; an answer is believed for [`REACHABLE`]; an older one is
//! still used, but checked by unicast after [`DELAY`] of use.
//!
//! The table makes no frames. It says what to ask ([`Ask`]) and gives back what waited.
//!
//! * Cap: [`MAX_ENTRIES`] entries, [`MAX_QUEUED_BYTES`] bytes waiting. Permanent entries (bound when
//!   a port is attached) do not count towards the cap and never change.
//! * Ageing: lazily, when an entry is used. A full table gives up the entries that are not in use
//!   (stale or failed) all at once.
//! * Origination: at most [`ASKS_PER_SECOND`] requests, so that a scan of unused addresses does not
//!   become a broadcast storm.

mod entry;

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BinaryHeap;

use ahash::RandomState;
use hashbrown::HashMap;
use pontoon_packet::{MacAddr, Timestamp};

use crate::rate::TokenBucket;
pub use entry::Waiting;
use entry::{Due, Entry, State};

/// Dynamic entries of one table; Linux `gc_thresh3`.
pub const MAX_ENTRIES: usize = 1024;
/// Datagrams that wait for one address.
pub const MAX_QUEUED: usize = 8;
/// Bytes that wait in one table. Sixteen super-frames: enough to start every stream of a burst.
pub const MAX_QUEUED_BYTES: usize = 1 << 20;
/// How long an answer is believed without another sign of life; Linux `base_reachable_time`.
pub const REACHABLE: Duration = Duration::from_secs(30);
/// How long a stale entry is used before it is checked; Linux `delay_first_probe_time`.
pub const DELAY: Duration = Duration::from_secs(5);
/// Time between two requests for one address; Linux `retrans_time`, RFC 1122 §2.3.2.1.
pub const RETRANSMIT: Duration = Duration::from_secs(1);
/// Requests before an address counts as unreachable; Linux `mcast_solicit`.
pub const MAX_PROBES: u8 = 3;
/// Requests that one interface originates per second.
pub const ASKS_PER_SECOND: u32 = 100;

/// A request to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The address asked for.
    pub addr: IpAddr,
    /// Where to: everybody, or the one that had it last.
    pub to: MacAddr,
}

/// What the table knows of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Send to this hardware address; the answer may be kept until the given time.
    Known(MacAddr, Timestamp),
    /// Not known: hand over the datagram with [`Neighbours::enqueue`].
    Wait,
    /// Not known, and no room to wait for it.
    Full,
}

/// Whether a sign of life from an unknown address makes an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learn {
    /// Only addresses already in the table are updated (RFC 826's merge flag).
    Known,
    /// A request that was meant for this interface also makes an entry.
    Asker,
}

/// Something that happened while time passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Send this request.
    Ask(Ask),
    /// Nobody answers for the address; these datagrams cannot be delivered.
    Failed(IpAddr, Vec<Waiting>),
}

/// The neighbour table of one interface.
#[derive(Debug)]
pub struct Neighbours {
    entries: HashMap<IpAddr, Entry, RandomState>,
    dynamic: usize,
    deadlines: BinaryHeap<core::cmp::Reverse<(Timestamp, IpAddr)>>,
    queued_bytes: usize,
    asks: TokenBucket,
}

impl Neighbours {
    /// An empty table whose hash is keyed by `hasher`.
    pub fn new(hasher: RandomState) -> Self {
        Self {
            entries: HashMap::with_hasher(hasher),
            dynamic: 0,
            deadlines: BinaryHeap::new(),
            queued_bytes: 0,
            asks: TokenBucket::new(ASKS_PER_SECOND, ASKS_PER_SECOND),
        }
    }

    /// Binds `addr` to `mac` for as long as the port is there. Gives back what waited for it.
    pub fn bind(&mut self, addr: IpAddr, mac: MacAddr) -> Vec<Waiting> {
        let released = self.unbind(addr);
        self.entries.insert(addr, Entry::new(State::Permanent(mac)));
        released
    }

    /// Forgets `addr`, whatever its state. Gives back what waited for it.
    pub fn unbind(&mut self, addr: IpAddr) -> Vec<Waiting> {
        let Some(mut entry) = self.entries.remove(&addr) else {
            return Vec::new();
        };
        if !entry.state.is_permanent() {
            self.dynamic -= 1;
        }
        let (released, bytes) = entry.release();
        self.queued_bytes -= bytes;
        released
    }

    /// The address is bound.
    pub fn is_bound(&self, addr: IpAddr) -> bool {
        self.entries
            .get(&addr)
            .is_some_and(|e| e.state.is_permanent())
    }

    /// Forgets everything that was learned; bindings stay. For an interface that lost its link.
    pub fn flush(&mut self) {
        self.entries.retain(|_, e| e.state.is_permanent());
        self.dynamic = 0;
        self.queued_bytes = 0;
        self.deadlines.clear();
    }

    /// Where to send a datagram for `addr`.
    pub fn resolve(&mut self, now: Timestamp, addr: IpAddr) -> Resolution {
        let Some(entry) = self.entries.get_mut(&addr) else {
            return if self.has_room() {
                Resolution::Wait
            } else {
                Resolution::Full
            };
        };
        match entry.state {
            State::Permanent(mac) => Resolution::Known(mac, Timestamp::from_nanos(u64::MAX)),
            State::Reachable(mac, until) if now < until => Resolution::Known(mac, until),
            State::Reachable(mac, _) | State::Stale(mac) => {
                entry.state = State::Delay(mac, now + DELAY);
                self.deadlines.push(core::cmp::Reverse((now + DELAY, addr)));
                Resolution::Known(mac, now + DELAY)
            }
            State::Delay(mac, until) => Resolution::Known(mac, until),
            State::Probe(mac, _, next) => Resolution::Known(mac, next),
            State::Incomplete(..) | State::Failed => Resolution::Wait,
        }
    }

    /// Lets a datagram wait for `addr`, and says what to ask, if anything now. `None` in the first
    /// place means that there was no room and the datagram is gone.
    pub fn enqueue(
        &mut self,
        now: Timestamp,
        addr: IpAddr,
        waiting: Waiting,
    ) -> (Option<()>, Option<Ask>) {
        let ask = self.start_asking(now, addr);
        let room = self.queued_bytes + waiting.bytes.len() <= MAX_QUEUED_BYTES;
        let Some(entry) = self.entries.get_mut(&addr) else {
            return (None, None);
        };
        if !room || entry.queue.len() >= MAX_QUEUED {
            return (None, ask);
        }
        self.queued_bytes += waiting.bytes.len();
        entry.queue.push_back(waiting);
        (Some(()), ask)
    }

    /// `addr` has shown itself with `mac`, in a request or an answer. Changes what is known only for
    /// addresses that somebody here asked for (`learn` is [`Learn::Known`]) or that asked for us.
    /// Gives back what waited.
    pub fn confirm(
        &mut self,
        now: Timestamp,
        addr: IpAddr,
        mac: MacAddr,
        learn: Learn,
    ) -> Vec<Waiting> {
        if !self.entries.contains_key(&addr) {
            if learn == Learn::Known || !self.has_room() {
                return Vec::new();
            }
            self.dynamic += 1;
        }
        let entry = self
            .entries
            .entry(addr)
            .or_insert(Entry::new(State::Stale(mac)));
        if entry.state.is_permanent() {
            return Vec::new();
        }
        entry.state = State::Reachable(mac, now + REACHABLE);
        let (released, bytes) = entry.release();
        self.queued_bytes -= bytes;
        released
    }

    /// The hardware address that is known, or was last, for `addr`.
    pub fn mac_of(&self, addr: IpAddr) -> Option<MacAddr> {
        self.entries.get(&addr)?.state.mac()
    }

    /// When [`handle_timeout`](Self::handle_timeout) next has something to do.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.deadlines.peek().map(|reverse| reverse.0.0)
    }

    /// Lets time pass up to `now`.
    pub fn handle_timeout(&mut self, now: Timestamp, events: &mut Vec<Event>) {
        while let Some(&core::cmp::Reverse((at, addr))) = self.deadlines.peek() {
            if at > now {
                break;
            }
            self.deadlines.pop();
            self.advance(at, now, addr, events);
        }
    }

    /// Every entry: address, hardware address, state in Linux' words, datagrams waiting.
    pub fn entries(
        &self,
        now: Timestamp,
    ) -> impl Iterator<Item = (IpAddr, Option<MacAddr>, &'static str, usize)> {
        self.entries.iter().map(move |(addr, entry)| {
            (
                *addr,
                entry.state.mac(),
                entry.state.name(now),
                entry.queue.len(),
            )
        })
    }

    fn has_room(&mut self) -> bool {
        if self.dynamic >= MAX_ENTRIES {
            self.entries
                .retain(|_, e| !matches!(e.state, State::Stale(_) | State::Failed));
            self.dynamic = self
                .entries
                .values()
                .filter(|e| !e.state.is_permanent())
                .count();
        }
        self.dynamic < MAX_ENTRIES
    }

    fn start_asking(&mut self, now: Timestamp, addr: IpAddr) -> Option<Ask> {
        let known = self.entries.get(&addr).map(|e| e.state);
        if matches!(known, Some(State::Incomplete(..))) || !self.asks.take(now) {
            return None;
        }
        if known.is_none() {
            self.dynamic += 1;
        }
        let next = now + RETRANSMIT;
        let entry = self
            .entries
            .entry(addr)
            .or_insert(Entry::new(State::Failed));
        entry.state = State::Incomplete(1, next);
        self.deadlines.push(core::cmp::Reverse((next, addr)));
        Some(Ask {
            addr,
            to: MacAddr::BROADCAST,
        })
    }

    /// Moves one entry on whose deadline `at` has passed. Deadlines are not taken back when an entry
    /// changes, so one that no longer matches the entry means nothing.
    fn advance(&mut self, at: Timestamp, now: Timestamp, addr: IpAddr, events: &mut Vec<Event>) {
        let Some(entry) = self.entries.get_mut(&addr) else {
            return;
        };
        let next = now + RETRANSMIT;
        match entry.state.due(at, next) {
            Due::Nothing => {}
            Due::Ask(state, to) => {
                entry.state = state;
                self.deadlines.push(core::cmp::Reverse((next, addr)));
                events.push(Event::Ask(Ask { addr, to }));
            }
            Due::GiveUp => {
                entry.state = State::Failed;
                let (failed, bytes) = entry.release();
                self.queued_bytes -= bytes;
                events.push(Event::Failed(addr, failed));
            }
        }
    }
}

#[cfg(test)]
mod tests;
