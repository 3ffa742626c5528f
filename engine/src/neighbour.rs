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

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BinaryHeap, VecDeque};

use ahash::RandomState;
use hashbrown::HashMap;
use pontoon_packet::{MacAddr, Offload, Timestamp};

use crate::rate::TokenBucket;

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

/// A datagram that waits for its next hop's address: a whole frame, hardware addresses not yet set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The frame.
    pub bytes: Vec<u8>,
    /// What came beside it.
    pub offload: Offload,
    /// Size to which it is to be fragmented, in bytes of IP datagram.
    pub fragment_to: u16,
}

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

/// Something that happened while time passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Send this request.
    Ask(Ask),
    /// Nobody answers for the address; these datagrams cannot be delivered.
    Failed(IpAddr, Vec<Waiting>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Permanent(MacAddr),
    Reachable(MacAddr, Timestamp),
    Stale(MacAddr),
    Delay(MacAddr, Timestamp),
    /// Asked by unicast so many times; next at.
    Probe(MacAddr, u8, Timestamp),
    /// Asked by broadcast so many times; next at.
    Incomplete(u8, Timestamp),
    Failed,
}

impl State {
    const fn mac(&self) -> Option<MacAddr> {
        match self {
            Self::Permanent(mac)
            | Self::Reachable(mac, _)
            | Self::Stale(mac)
            | Self::Delay(mac, _)
            | Self::Probe(mac, ..) => Some(*mac),
            Self::Incomplete(..) | Self::Failed => None,
        }
    }
}

#[derive(Debug)]
struct Entry {
    state: State,
    queue: VecDeque<Waiting>,
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
        self.entries.insert(
            addr,
            Entry {
                state: State::Permanent(mac),
                queue: VecDeque::new(),
            },
        );
        released
    }

    /// Forgets `addr`, whatever its state. Gives back what waited for it.
    pub fn unbind(&mut self, addr: IpAddr) -> Vec<Waiting> {
        let Some(entry) = self.entries.remove(&addr) else {
            return Vec::new();
        };
        if !matches!(entry.state, State::Permanent(_)) {
            self.dynamic -= 1;
        }
        self.queued_bytes -= entry.queue.iter().map(|w| w.bytes.len()).sum::<usize>();
        entry.queue.into()
    }

    /// The address is bound.
    pub fn is_bound(&self, addr: IpAddr) -> bool {
        self.entries
            .get(&addr)
            .is_some_and(|e| matches!(e.state, State::Permanent(_)))
    }

    /// Forgets everything that was learned; bindings stay. For an interface that lost its link.
    pub fn flush(&mut self) {
        self.entries
            .retain(|_, e| matches!(e.state, State::Permanent(_)));
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
        let entry = self.entries.entry(addr).or_insert(Entry {
            state: State::Stale(mac),
            queue: VecDeque::new(),
        });
        if matches!(entry.state, State::Permanent(_)) {
            return Vec::new();
        }
        entry.state = State::Reachable(mac, now + REACHABLE);
        let released: Vec<_> = entry.queue.drain(..).collect();
        self.queued_bytes -= released.iter().map(|w| w.bytes.len()).sum::<usize>();
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
            let state = match entry.state {
                State::Permanent(_) => "PERMANENT",
                State::Reachable(_, until) if now < until => "REACHABLE",
                State::Reachable(..) | State::Stale(_) => "STALE",
                State::Delay(..) => "DELAY",
                State::Probe(..) => "PROBE",
                State::Incomplete(..) => "INCOMPLETE",
                State::Failed => "FAILED",
            };
            (*addr, entry.state.mac(), state, entry.queue.len())
        })
    }

    fn has_room(&mut self) -> bool {
        if self.dynamic >= MAX_ENTRIES {
            self.entries
                .retain(|_, e| !matches!(e.state, State::Stale(_) | State::Failed));
            self.dynamic = self
                .entries
                .values()
                .filter(|e| !matches!(e.state, State::Permanent(_)))
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
        let entry = self.entries.entry(addr).or_insert(Entry {
            state: State::Failed,
            queue: VecDeque::new(),
        });
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
        let (state, to) = match entry.state {
            State::Delay(mac, due) if due == at => (State::Probe(mac, 1, next), mac),
            State::Probe(mac, sent, due) if due == at && sent < MAX_PROBES => {
                (State::Probe(mac, sent + 1, next), mac)
            }
            State::Probe(_, _, due) if due == at => {
                (State::Incomplete(1, next), MacAddr::BROADCAST)
            }
            State::Incomplete(sent, due) if due == at && sent < MAX_PROBES => {
                (State::Incomplete(sent + 1, next), MacAddr::BROADCAST)
            }
            State::Incomplete(_, due) if due == at => {
                entry.state = State::Failed;
                let failed: Vec<_> = entry.queue.drain(..).collect();
                self.queued_bytes -= failed.iter().map(|w| w.bytes.len()).sum::<usize>();
                events.push(Event::Failed(addr, failed));
                return;
            }
            _ => return,
        };
        entry.state = state;
        self.deadlines.push(core::cmp::Reverse((next, addr)));
        events.push(Event::Ask(Ask { addr, to }));
    }
}

/// Whether a sign of life from an unknown address makes an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learn {
    /// Only addresses already in the table are updated (RFC 826's merge flag).
    Known,
    /// A request that was meant for this interface also makes an entry.
    Asker,
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    const ADDR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);

    fn table() -> Neighbours {
        Neighbours::new(RandomState::with_seeds(1, 2, 3, 4))
    }

    fn waiting(tag: u8) -> Waiting {
        Waiting {
            bytes: vec![tag; 60],
            offload: Offload::NONE,
            fragment_to: 1500,
        }
    }

    fn addr(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n))
    }

    #[test]
    fn first_datagram_waits_and_is_released_by_the_answer() {
        let mut n = table();
        let now = Timestamp::from_secs(1);
        assert_eq!(n.resolve(now, ADDR), Resolution::Wait);
        let (queued, ask) = n.enqueue(now, ADDR, waiting(1));
        assert!(queued.is_some());
        assert_eq!(
            ask,
            Some(Ask {
                addr: ADDR,
                to: MacAddr::BROADCAST
            })
        );
        assert_eq!(n.enqueue(now, ADDR, waiting(2)).1, None);
        assert_eq!(
            n.confirm(now, ADDR, MAC, Learn::Known),
            [waiting(1), waiting(2)]
        );
        assert_eq!(
            n.resolve(now, ADDR),
            Resolution::Known(MAC, now + REACHABLE)
        );
    }

    #[test]
    fn three_requests_a_second_apart_then_failure_with_what_waited() {
        let mut n = table();
        n.enqueue(Timestamp::ZERO, ADDR, waiting(1));
        let mut events = Vec::new();
        n.handle_timeout(Timestamp::from_millis(999), &mut events);
        assert_eq!(events, []);
        for second in 1..=2 {
            n.handle_timeout(Timestamp::from_secs(second), &mut events);
        }
        let ask = Event::Ask(Ask {
            addr: ADDR,
            to: MacAddr::BROADCAST,
        });
        assert_eq!(events, [ask.clone(), ask]);
        events.clear();
        n.handle_timeout(Timestamp::from_secs(3), &mut events);
        assert_eq!(events, [Event::Failed(ADDR, vec![waiting(1)])]);
        assert_eq!(n.poll_timeout(), None);
    }

    #[test]
    fn stale_entry_is_used_then_checked_by_unicast_then_asked_anew() {
        let mut n = table();
        let mut events = Vec::new();
        n.enqueue(Timestamp::ZERO, ADDR, waiting(1));
        n.confirm(Timestamp::ZERO, ADDR, MAC, Learn::Known);
        n.handle_timeout(Timestamp::from_secs(10), &mut events);
        assert_eq!(events, []);
        let used = Timestamp::from_secs(31);
        assert_eq!(n.resolve(used, ADDR), Resolution::Known(MAC, used + DELAY));
        n.handle_timeout(used + DELAY, &mut events);
        assert_eq!(
            events,
            [Event::Ask(Ask {
                addr: ADDR,
                to: MAC
            })]
        );
        for second in 37..=39 {
            n.handle_timeout(Timestamp::from_secs(second), &mut events);
        }
        assert_eq!(
            events.last(),
            Some(&Event::Ask(Ask {
                addr: ADDR,
                to: MacAddr::BROADCAST
            }))
        );
    }

    #[test]
    fn binding_never_changes_whatever_anybody_claims() {
        let mut n = table();
        n.bind(ADDR, MAC);
        n.confirm(
            Timestamp::ZERO,
            ADDR,
            MacAddr([2, 0, 0, 0, 0, 9]),
            Learn::Asker,
        );
        let Resolution::Known(mac, _) = n.resolve(Timestamp::ZERO, ADDR) else {
            panic!()
        };
        assert_eq!(mac, MAC);
    }

    #[test]
    fn unsolicited_answer_from_an_unknown_address_makes_no_entry() {
        let mut n = table();
        n.confirm(Timestamp::ZERO, ADDR, MAC, Learn::Known);
        assert_eq!(n.entries(Timestamp::ZERO).count(), 0);
    }

    #[test]
    fn queue_of_one_address_is_bounded() {
        let mut n = table();
        for tag in 0..20 {
            n.enqueue(Timestamp::ZERO, ADDR, waiting(tag));
        }
        assert_eq!(
            n.confirm(Timestamp::ZERO, ADDR, MAC, Learn::Known).len(),
            MAX_QUEUED
        );
    }

    #[test]
    fn bytes_that_wait_are_bounded_and_returned() {
        let mut n = table();
        let big = || Waiting {
            bytes: vec![0; 65_000],
            offload: Offload::NONE,
            fragment_to: 1500,
        };
        let accepted = (0..50).filter(|i| n.enqueue(Timestamp::ZERO, addr(*i), big()).0.is_some());
        assert_eq!(accepted.count(), MAX_QUEUED_BYTES / 65_000);
        n.flush();
        assert!(
            n.enqueue(Timestamp::from_secs(9), addr(99), big())
                .0
                .is_some()
        );
    }

    #[test]
    fn a_scan_of_unused_addresses_asks_at_most_the_declared_rate() {
        let mut n = table();
        let asked = (0..60_000).filter(|i| {
            let now = Timestamp::from_nanos(u64::from(*i) * 16_667);
            n.enqueue(now, addr(*i), waiting(0)).1.is_some()
        });
        let asked = asked.count();
        assert!(
            asked <= 2 * ASKS_PER_SECOND as usize,
            "{asked} requests in one second"
        );
        assert!(n.entries(Timestamp::ZERO).count() <= MAX_ENTRIES);
    }

    #[test]
    fn full_table_gives_up_what_is_not_in_use() {
        let mut n = table();
        for i in 0..MAX_ENTRIES as u32 {
            n.confirm(Timestamp::ZERO, addr(i), MAC, Learn::Asker);
        }
        assert_eq!(n.resolve(Timestamp::ZERO, ADDR), Resolution::Full);
        let later = Timestamp::from_secs(60);
        for i in 0..10 {
            n.resolve(later, addr(i));
        }
        let mut events = Vec::new();
        for second in 60..80 {
            n.handle_timeout(Timestamp::from_secs(second), &mut events);
        }
        assert_eq!(n.resolve(Timestamp::from_secs(80), ADDR), Resolution::Wait);
    }
}
