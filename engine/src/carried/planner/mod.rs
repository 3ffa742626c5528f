//! Deciding what is worth it.

use ahash::RandomState;
use pontoon_nat::{ConnId, Direction};
use pontoon_packet::Timestamp;

use super::installed::{Dependence, Entry, Installed};
use super::pending::Pending;
use super::{CANDIDATES, Change, Flow, LOOKS, OF_A_PORT, SILENCE, STEADY, Seen, WINDOW};
use crate::config::PortId;

/// Flows that are carried at most: both directions of a connection table that is full.
pub const CARRIED: usize = 131_072;

/// What the kernel has counted of a flow since it was installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Which.
    pub seen: Seen,
    /// Frames; a super-frame is one.
    pub packets: u64,
    /// Bytes of IP datagrams.
    pub bytes: u64,
}

/// What was carried since the last report, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// What it belongs to.
    pub flow: Flow,
    /// Frames.
    pub packets: u64,
    /// Bytes of IP datagrams.
    pub bytes: u64,
}

/// A flow is carried from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// A connection that is not any more, for lack of room.
    pub given_up: Option<ConnId>,
}

/// There is no room for a flow.
#[derive(Clone, Copy, Debug)]
struct Full;

#[derive(Clone, Copy, Debug)]
struct Candidate {
    seen: Seen,
    since: Timestamp,
    looks: u8,
}

/// Flows that are watched, and flows that are carried.
#[derive(Debug)]
pub struct Planner {
    hasher: RandomState,
    candidates: Vec<Option<Candidate>>,
    carried: Installed,
    pending: Pending,
    /// Number of the orders that were given out last.
    orders: u64,
    /// Number of those that were obeyed last.
    obeyed: u64,
    /// A flow was carried since everything was left: the kernel may not have left it yet.
    used: bool,
    tally: Tally,
}

/// How often what has happened.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    begun: u64,
    left: u64,
    refused: u64,
    packets: u64,
    bytes: u64,
}

impl Tally {
    /// What has come since a flow was counted the last time.
    fn credit(&mut self, entry: &mut Entry, counted: &Counted) -> Option<Credit> {
        let packets = counted.packets.saturating_sub(entry.packets);
        let bytes = counted.bytes.saturating_sub(entry.bytes);
        (entry.packets, entry.bytes) = (counted.packets, counted.bytes);
        self.packets += packets;
        self.bytes += bytes;
        let flow = entry.flow;
        (packets > 0).then_some(Credit {
            flow,
            packets,
            bytes,
        })
    }
}

impl Planner {
    /// Nothing is carried.
    pub fn new(hasher: RandomState) -> Self {
        Self {
            candidates: vec![None; CANDIDATES],
            carried: Installed::new(&hasher),
            hasher,
            pending: Pending::default(),
            orders: 0,
            obeyed: 0,
            used: false,
            tally: Tally::default(),
        }
    }

    /// A frame of a flow has been looked at. Says when the flow is carried from now on.
    pub fn meet(&mut self, now: Timestamp, flow: Flow) -> Option<Begun> {
        if self.carried.contains(&flow.seen) || self.carried.departs(&flow.seen) {
            // Came before the kernel knew, or is one that it leaves to the engine; or its end was not told yet.
            return None;
        }
        let place = self.hasher.hash_one(flow.seen) as usize % CANDIDATES;
        let candidate = &mut self.candidates[place];
        let known = candidate.filter(|c| c.seen == flow.seen && now.since(c.since) < WINDOW);
        let (since, looks) = known.map_or((now, 1), |c| (c.since, c.looks + 1));
        if looks < LOOKS {
            *candidate = Some(Candidate {
                seen: flow.seen,
                since,
                looks,
            });
            return None;
        }
        *candidate = None;
        self.carry(now, flow)
    }

    fn carry(&mut self, now: Timestamp, flow: Flow) -> Option<Begun> {
        // The same direction by another port, or with another time to live.
        let same = flow.connection.and_then(|(id, d)| self.carried.of(id, d));
        let entry = same.and_then(|other| self.carried.get_mut(&other));
        if entry.is_some_and(|entry| now.since(entry.since) < STEADY) {
            return None;
        }
        let Ok(given_up) = self.make_room(flow.seen.ingress) else {
            self.tally.refused += 1;
            return None;
        };
        if let Some(other) = same {
            self.remove(other);
        }
        self.carried.insert(Entry::new(now, flow, self.orders + 1));
        self.used = true;
        self.tally.begun += 1;
        self.pending.carry(&flow);
        Some(Begun { given_up })
    }

    /// Makes room for one more flow that comes by a port, at the expense of a port that has more. Gives back the
    /// connection that is not carried any more for that.
    fn make_room(&mut self, port: PortId) -> Result<Option<ConnId>, Full> {
        let of_port = self.carried.of_port(port);
        if of_port >= OF_A_PORT {
            return Err(Full);
        }
        if self.carried.len() < CARRIED {
            return Ok(None);
        }
        let other = self.carried.of_largest_port(of_port + 1);
        Ok(self.remove(other.ok_or(Full)?))
    }

    /// Leaves a flow. Gives back its connection when nothing of it is carried any more.
    fn remove(&mut self, seen: Seen) -> Option<ConnId> {
        let entry = self.carried.remove(&seen)?;
        self.tally.left += 1;
        if entry.orders > self.orders {
            // Nobody has been told to carry it.
            self.pending.cancel(&seen);
        } else {
            self.pending.leave(seen);
            self.carried.depart(entry, self.orders + 1);
        }
        self.whole_connection(&entry)
    }

    /// The connection of a flow that was taken out, when nothing of it is carried any more.
    fn whole_connection(&self, entry: &Entry) -> Option<ConnId> {
        let (id, direction) = entry.flow.connection?;
        let other = self.carried.of(id, direction.inverted());
        other.is_none().then_some(id)
    }

    /// The kernel has not taken these flows of the orders of that number. Gives back the connections of which
    /// nothing is carried.
    pub fn refused(&mut self, orders: u64, refused: &[Seen]) -> Vec<ConnId> {
        let mut connections = Vec::new();
        for seen in refused {
            let entry = self.carried.get_mut(seen);
            if entry.is_some_and(|entry| entry.orders <= orders) {
                self.tally.refused += 1;
                let entry = self.carried.remove(seen);
                connections.extend(entry.and_then(|entry| self.whole_connection(&entry)));
            }
        }
        connections
    }

    /// Something has changed that any decision may have depended on. Gives back the connections that were
    /// carried; `None` when nothing was since the last time.
    pub fn leave_all(&mut self) -> Option<Vec<ConnId>> {
        self.candidates.fill(None);
        if !core::mem::take(&mut self.used) {
            return None;
        }
        self.tally.left += self.carried.len() as u64;
        self.pending.leave_all();
        let entries = self.carried.drain();
        for entry in entries.iter().filter(|entry| entry.orders <= self.orders) {
            self.carried.depart(*entry, self.orders + 1);
        }
        let flows = entries.iter().map(|entry| entry.flow);
        Some(flows.filter_map(|flow| Some(flow.connection?.0)).collect())
    }

    /// A connection has ended, or is not what it was: both of its directions are the engine's again.
    pub fn leave(&mut self, id: ConnId) {
        for direction in [Direction::Original, Direction::Reply] {
            if let Some(seen) = self.carried.of(id, direction) {
                self.remove(seen);
            }
        }
    }

    /// Something is not as it was: flows that depend on it are the engine's again. Gives back the connections
    /// of which nothing is carried any more.
    pub fn leave_dependent(&mut self, what: Dependence) -> Vec<ConnId> {
        let dependent = self.carried.that_depend_on(what);
        dependent
            .into_iter()
            .filter_map(|seen| self.remove(seen))
            .collect()
    }

    /// Takes note of what the kernel had counted when it had obeyed the orders of that number. Gives back whose it
    /// is.
    pub fn counted(&mut self, now: Timestamp, orders: u64, counted: &[Counted]) -> Vec<Credit> {
        let credits = counted.iter().filter_map(|c| self.credit(now, orders, c));
        credits.collect()
    }

    /// Takes note of what the kernel had counted in all of flows that were left. Gives back whose it is.
    pub fn counted_last(&mut self, counted: &[Counted]) -> Vec<Credit> {
        let credits = counted.iter().filter_map(|counted| {
            let mut entry = self.carried.departed(&counted.seen)?;
            self.tally.credit(&mut entry, counted)
        });
        credits.collect()
    }

    /// The kernel has obeyed the orders of that number, and all that it had counted of what they leave was told.
    pub fn settled(&mut self, orders: u64) {
        self.obeyed = self.obeyed.max(orders);
        self.carried.settle(orders);
    }

    /// All orders that were given out were obeyed.
    pub const fn is_settled(&self) -> bool {
        self.obeyed == self.orders
    }

    /// Leaves flows that have been silent for too long. Gives back the connections of which nothing is carried any
    /// more.
    pub fn leave_silent(&mut self, now: Timestamp) -> Vec<ConnId> {
        let silent = |entry: &&Entry| now.since(entry.moved) >= SILENCE;
        let silent = self.carried.iter().filter(silent);
        let silent: Vec<_> = silent.map(|entry| entry.flow.seen).collect();
        silent
            .into_iter()
            .filter_map(|seen| self.remove(seen))
            .collect()
    }

    fn credit(&mut self, now: Timestamp, orders: u64, counted: &Counted) -> Option<Credit> {
        let entry = self.carried.get_mut(&counted.seen)?;
        if orders < entry.orders {
            // Counted before it was left and carried again.
            return None;
        }
        let credit = self.tally.credit(entry, counted)?;
        entry.moved = now;
        Some(credit)
    }

    /// What the shell is to do, since the last call, and the number of these orders: each flow is in it once.
    pub fn changes(&mut self) -> (u64, Vec<Change>) {
        let changes = self.pending.take();
        self.orders += u64::from(!changes.is_empty());
        (self.orders, changes)
    }

    /// How many flows are carried.
    pub fn len(&self) -> usize {
        self.carried.len()
    }

    /// None is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counters by name.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let tally = &self.tally;
        vec![
            ("carried.flows", self.len() as u64),
            ("carried.installed", tally.begun),
            ("carried.removed", tally.left),
            ("carried.refused", tally.refused),
            ("carried.frames", tally.packets),
            ("carried.bytes", tally.bytes),
        ]
    }
}

#[cfg(test)]
mod tests;
