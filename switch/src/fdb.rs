//! The forwarding database: which hardware address is behind which port.

use core::time::Duration;

use ahash::RandomState;
use hashbrown::HashMap;
use pontoon_packet::{MacAddr, Timestamp};

use crate::PortId;

/// Sizes and times of a forwarding database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbLimits {
    /// Learned addresses in all.
    pub entries: usize,
    /// Learned addresses behind one port.
    pub entries_per_port: usize,
    /// How long an address is believed after it was last seen.
    pub ageing: Duration,
}

impl Default for FdbLimits {
    /// 4 096 and 1 024 addresses (Linux knows no limit unless `fdb_max_learned` is set), 300 s as
    /// IEEE 802.1Q 8.8.3 and Linux' bridge.
    fn default() -> Self {
        Self {
            entries: 4096,
            entries_per_port: 1024,
            ageing: Duration::from_secs(300),
        }
    }
}

/// What learning a source did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Learned {
    /// It was not known.
    New,
    /// It was behind another port.
    Moved,
    /// Nothing changed but the time.
    Refreshed,
    /// No room; it stays unknown.
    Full,
    /// It is bound to another port.
    BoundElsewhere,
}

/// One entry, as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbView {
    /// The hardware address.
    pub mac: MacAddr,
    /// The port behind which it is.
    pub port: PortId,
    /// Bound, not learned.
    pub bound: bool,
    /// Time since it was last seen as a source; zero when bound.
    pub age: Duration,
}

impl FdbView {
    /// Bound when the port was plugged in: never moves, never ages.
    pub const fn is_static(&self) -> bool {
        self.bound
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    port: PortId,
    /// `None`: bound.
    seen: Option<Timestamp>,
}

/// The table.
///
/// * Cap: [`FdbLimits`]; beyond it new addresses are not learned (and therefore flooded to), known
///   ones stay, so a flood of addresses turns nobody's unicast into a broadcast.
/// * Ageing: at look-up, and by a sweep when the table is full or its oldest entry is due.
/// * Bound entries do not count, do not age, and override learned ones.
#[derive(Debug)]
pub(crate) struct Fdb {
    entries: HashMap<MacAddr, Entry, RandomState>,
    per_port: HashMap<PortId, usize, RandomState>,
    learned: usize,
    limits: FdbLimits,
    next_sweep: Option<Timestamp>,
    /// Addresses that moved or were too old, until somebody asks.
    pub(crate) changed: Vec<MacAddr>,
    pub(crate) moves: u64,
    pub(crate) full: u64,
}

impl Fdb {
    pub(crate) fn new(limits: FdbLimits, hasher: RandomState) -> Self {
        Self {
            entries: HashMap::with_hasher(hasher.clone()),
            per_port: HashMap::with_hasher(hasher),
            learned: 0,
            limits,
            next_sweep: None,
            changed: Vec::new(),
            moves: 0,
            full: 0,
        }
    }

    pub(crate) fn bind(&mut self, mac: MacAddr, port: PortId) {
        self.forget(mac);
        self.entries.insert(mac, Entry { port, seen: None });
    }

    pub(crate) fn is_bound(&self, mac: MacAddr) -> bool {
        self.entries
            .get(&mac)
            .is_some_and(|entry| entry.seen.is_none())
    }

    pub(crate) fn lookup(&self, now: Option<Timestamp>, mac: MacAddr) -> Option<PortId> {
        let entry = self.entries.get(&mac)?;
        match (entry.seen, now) {
            (Some(seen), Some(now)) if now.since(seen) >= self.limits.ageing => None,
            _ => Some(entry.port),
        }
    }

    pub(crate) fn learn(&mut self, now: Timestamp, mac: MacAddr, port: PortId) -> Learned {
        if let Some(entry) = self.entries.get_mut(&mac) {
            return match entry.seen {
                None if entry.port == port => Learned::Refreshed,
                None => Learned::BoundElsewhere,
                Some(_) if entry.port == port => {
                    entry.seen = Some(now);
                    Learned::Refreshed
                }
                Some(_) => self.relearn(now, mac, port),
            };
        }
        if !self.has_room(now, port) {
            self.full += 1;
            return Learned::Full;
        }
        self.insert(now, mac, port);
        Learned::New
    }

    pub(crate) fn learned(&self) -> usize {
        self.learned
    }

    /// Forgets what was learned behind `port`; with its bindings when it is `unplugged`.
    pub(crate) fn flush_learned(&mut self, port: PortId) {
        self.entries
            .retain(|_, entry| entry.port != port || entry.seen.is_none());
        self.learned -= self.per_port.remove(&port).unwrap_or(0);
        if self.learned == 0 {
            self.next_sweep = None;
        }
    }

    pub(crate) fn unplug(&mut self, port: PortId) {
        self.flush_learned(port);
        self.entries.retain(|_, entry| entry.port != port);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        self.next_sweep
    }

    /// Forgets what is too old.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp) {
        if self.next_sweep.is_some_and(|at| at <= now) {
            self.sweep(now);
        }
    }

    /// A learned address was seen at its port.
    pub(crate) fn refresh(&mut self, now: Timestamp, port: PortId, mac: MacAddr) {
        if let Some(entry) = self.entries.get_mut(&mac)
            && entry.port == port
            && let Some(seen) = &mut entry.seen
        {
            *seen = (*seen).max(now);
        }
    }

    pub(crate) fn entries(&self, now: Timestamp) -> impl Iterator<Item = FdbView> {
        self.entries.iter().map(move |(mac, entry)| FdbView {
            mac: *mac,
            port: entry.port,
            bound: entry.seen.is_none(),
            age: entry.seen.map_or(Duration::ZERO, |seen| now.since(seen)),
        })
    }

    fn relearn(&mut self, now: Timestamp, mac: MacAddr, port: PortId) -> Learned {
        if self.per_port.get(&port).copied().unwrap_or(0) >= self.limits.entries_per_port {
            self.full += 1;
            return Learned::Full;
        }
        self.forget(mac);
        self.insert(now, mac, port);
        self.changed.push(mac);
        self.moves += 1;
        Learned::Moved
    }

    fn insert(&mut self, now: Timestamp, mac: MacAddr, port: PortId) {
        self.entries.insert(
            mac,
            Entry {
                port,
                seen: Some(now),
            },
        );
        *self.per_port.entry(port).or_insert(0) += 1;
        self.learned += 1;
        self.next_sweep.get_or_insert(now + self.limits.ageing);
    }

    fn forget(&mut self, mac: MacAddr) {
        if let Some(Entry {
            port,
            seen: Some(_),
        }) = self.entries.remove(&mac)
        {
            self.learned -= 1;
            if let Some(count) = self.per_port.get_mut(&port) {
                *count -= 1;
            }
        }
    }

    fn has_room(&mut self, now: Timestamp, port: PortId) -> bool {
        let full = |fdb: &Self| {
            fdb.learned >= fdb.limits.entries
                || fdb.per_port.get(&port).copied().unwrap_or(0) >= fdb.limits.entries_per_port
        };
        if full(self) && self.next_sweep.is_some_and(|at| at <= now) {
            self.sweep(now);
        }
        !full(self)
    }

    /// Takes out what is too old, and notes when the next entry will be.
    fn sweep(&mut self, now: Timestamp) {
        let ageing = self.limits.ageing;
        let mut oldest: Option<Timestamp> = None;
        let Self {
            entries,
            per_port,
            learned,
            changed,
            ..
        } = self;
        entries.retain(|mac, entry| {
            let Some(seen) = entry.seen else { return true };
            if now.since(seen) >= ageing {
                changed.push(*mac);
                *learned -= 1;
                if let Some(count) = per_port.get_mut(&entry.port) {
                    *count -= 1;
                }
                return false;
            }
            oldest = Some(oldest.map_or(seen, |o| o.min(seen)));
            true
        });
        self.next_sweep = oldest.map(|seen| seen + ageing);
    }
}
