//! Deciding what is worth it.

use ahash::RandomState;
use hashbrown::HashMap;
use pontoon_nat::{ConnId, Direction};
use pontoon_packet::Timestamp;

use super::{CANDIDATES, Change, Flow, LOOKS, OF_A_PORT, SILENCE, Seen, WINDOW};
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
    /// The port it came by.
    pub ingress: PortId,
    /// The port it left by.
    pub egress: PortId,
    /// The connection.
    pub connection: Option<(ConnId, Direction)>,
    /// Frames.
    pub packets: u64,
    /// Bytes of IP datagrams.
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    seen: Seen,
    since: Timestamp,
    looks: u8,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    flow: Flow,
    packets: u64,
    bytes: u64,
    moved: Timestamp,
}

/// Flows that are watched, and flows that are carried.
#[derive(Debug)]
pub struct Planner {
    hasher: RandomState,
    candidates: Vec<Option<Candidate>>,
    carried: HashMap<Seen, Entry, RandomState>,
    /// Of a connection's directions.
    by_slot: HashMap<(u32, Direction), Seen, RandomState>,
    /// How many come by each port.
    by_port: HashMap<PortId, u32, RandomState>,
    changes: Vec<Change>,
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

impl Planner {
    /// Nothing is carried.
    pub fn new(hasher: RandomState) -> Self {
        Self {
            candidates: vec![None; CANDIDATES],
            carried: HashMap::with_hasher(hasher.clone()),
            by_slot: HashMap::with_hasher(hasher.clone()),
            by_port: HashMap::with_hasher(hasher.clone()),
            hasher,
            changes: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// A frame of a flow has been looked at. Says whether the flow is carried from now on.
    pub fn meet(&mut self, now: Timestamp, flow: Flow) -> bool {
        if self.carried.contains_key(&flow.seen) {
            // Came before the kernel knew, or is one that it leaves to the engine.
            return false;
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
            return false;
        }
        *candidate = None;
        self.carry(now, flow)
    }

    fn carry(&mut self, now: Timestamp, flow: Flow) -> bool {
        let of_port = self.by_port.get(&flow.seen.ingress).copied().unwrap_or(0);
        if self.carried.len() >= CARRIED || of_port >= OF_A_PORT {
            self.tally.refused += 1;
            return false;
        }
        if let Some((id, direction)) = flow.connection
            && let Some(other) = self.by_slot.insert((id.slot, direction), flow.seen)
        {
            // The same direction by another port, or with another time to live.
            self.remove(other);
        }
        let entry = Entry {
            flow,
            packets: 0,
            bytes: 0,
            moved: now,
        };
        self.carried.insert(flow.seen, entry);
        *self.by_port.entry(flow.seen.ingress).or_insert(0) += 1;
        self.tally.begun += 1;
        self.changes.push(Change::Carry(flow.seen, flow.then));
        true
    }

    fn remove(&mut self, seen: Seen) {
        if self.forget(&seen).is_some() {
            self.tally.left += 1;
            self.changes.push(Change::Leave(seen));
        }
    }

    fn forget(&mut self, seen: &Seen) -> Option<Entry> {
        let entry = self.carried.remove(seen)?;
        if let Some(count) = self.by_port.get_mut(&seen.ingress) {
            *count -= 1;
        }
        Some(entry)
    }

    /// One direction of a connection is carried no more. Gives it back if the other is not either.
    fn alone(&mut self, connection: Option<(ConnId, Direction)>) -> Option<ConnId> {
        let (id, direction) = connection?;
        self.by_slot.remove(&(id.slot, direction));
        let other = (id.slot, direction.inverted());
        (!self.by_slot.contains_key(&other)).then_some(id)
    }

    /// Something has changed that any decision may have depended on. Gives back the connections that were
    /// carried; `None` when nothing was.
    pub fn leave_all(&mut self) -> Option<Vec<ConnId>> {
        self.candidates.fill(None);
        if self.carried.is_empty() {
            return None;
        }
        self.tally.left += self.carried.len() as u64;
        self.by_port.clear();
        let flows = self.carried.drain().map(|(_, entry)| entry.flow);
        let connections = flows.filter_map(|flow| Some(flow.connection?.0)).collect();
        self.by_slot.clear();
        self.changes.clear();
        self.changes.push(Change::LeaveAll);
        Some(connections)
    }

    /// A connection has ended, or is not what it was: both of its directions are the engine's again. Says
    /// whether one of them was not.
    pub fn leave(&mut self, slot: u32) -> bool {
        let before = self.carried.len();
        for direction in [Direction::Original, Direction::Reply] {
            if let Some(seen) = self.by_slot.remove(&(slot, direction)) {
                self.remove(seen);
            }
        }
        self.carried.len() < before
    }

    /// Takes note of what the kernel has counted. Gives back whose it is.
    pub fn counted(&mut self, now: Timestamp, counted: &[Counted]) -> Vec<Credit> {
        counted.iter().filter_map(|c| self.credit(now, c)).collect()
    }

    /// Leaves flows that have been silent for too long. Gives back the connections of which nothing is
    /// carried any more.
    pub fn leave_silent(&mut self, now: Timestamp) -> Vec<ConnId> {
        let silent = |entry: &&Entry| now.since(entry.moved) >= SILENCE;
        let silent: Vec<_> = self
            .carried
            .values()
            .filter(silent)
            .map(|e| e.flow)
            .collect();
        let mut connections = Vec::new();
        for flow in silent {
            self.remove(flow.seen);
            connections.extend(self.alone(flow.connection));
        }
        connections
    }

    /// The kernel does not take these. Gives back the connections of which nothing is carried any more.
    pub fn refused(&mut self, refused: &[Seen]) -> Vec<ConnId> {
        let mut connections = Vec::new();
        for seen in refused {
            let Some(entry) = self.forget(seen) else {
                continue;
            };
            self.tally.refused += 1;
            connections.extend(self.alone(entry.flow.connection));
        }
        connections
    }

    fn credit(&mut self, now: Timestamp, counted: &Counted) -> Option<Credit> {
        let entry = self.carried.get_mut(&counted.seen)?;
        let packets = counted.packets.saturating_sub(entry.packets);
        let bytes = counted.bytes.saturating_sub(entry.bytes);
        (packets > 0).then(|| {
            (entry.packets, entry.bytes, entry.moved) = (counted.packets, counted.bytes, now);
            self.tally.packets += packets;
            self.tally.bytes += bytes;
            Credit {
                ingress: counted.seen.ingress,
                egress: entry.flow.then.egress,
                connection: entry.flow.connection,
                packets,
                bytes,
            }
        })
    }

    /// What the shell is to do, since the last call.
    pub fn changes(&mut self) -> Vec<Change> {
        core::mem::take(&mut self.changes)
    }

    /// How many flows are carried.
    pub fn len(&self) -> usize {
        self.carried.len()
    }

    /// None is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a direction of the connection in this place is carried.
    pub fn carries(&self, slot: u32) -> bool {
        let mut directions = [Direction::Original, Direction::Reply].into_iter();
        directions.any(|direction| self.by_slot.contains_key(&(slot, direction)))
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
mod tests {
    use core::net::Ipv4Addr;
    use core::time::Duration;

    use pontoon_packet::MacAddr;
    use pontoon_packet::parse::protocol::TCP;

    use super::super::{Carriage, EVERY};
    use super::*;

    fn planner() -> Planner {
        Planner::new(RandomState::with_seeds(1, 2, 3, 4))
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos(millis * 1_000_000)
    }

    fn flow(nth: u32) -> Flow {
        Flow {
            seen: Seen {
                ingress: PortId(nth),
                dst_mac: MacAddr([2; 6]),
                src_mac: MacAddr([4; 6]),
                protocol: TCP,
                src: Ipv4Addr::new(10, 0, 0, 1),
                dst: Ipv4Addr::new(10, 0, 0, 2),
                routed: None,
            },
            then: Carriage {
                egress: PortId(1000),
                rewritten: None,
            },
            connection: None,
        }
    }

    fn of_connection(nth: u32, slot: u32, direction: Direction) -> Flow {
        let generation = 0;
        let connection = Some((ConnId { slot, generation }, direction));
        Flow {
            connection,
            ..flow(nth)
        }
    }

    fn looked_at(planner: &mut Planner, times: u8, flow: Flow) {
        for _ in 0..times {
            planner.meet(at(0), flow);
        }
    }

    fn carried(planner: &mut Planner, flow: Flow) {
        looked_at(planner, LOOKS, flow);
        let changes = planner.changes();
        assert_eq!(changes.last(), Some(&Change::Carry(flow.seen, flow.then)));
    }

    #[test]
    fn a_flow_that_is_met_often_enough_is_carried_once() {
        let mut planner = planner();
        for look in 1..LOOKS {
            planner.meet(at(u64::from(look)), flow(1));
            assert_eq!(planner.changes(), []);
        }
        for _ in 0..10 {
            planner.meet(at(10), flow(1));
        }
        assert_eq!(
            planner.changes(),
            [Change::Carry(flow(1).seen, flow(1).then)]
        );
        assert_eq!(planner.len(), 1);
    }

    #[test]
    fn a_flow_that_is_met_now_and_then_is_not() {
        let mut planner = planner();
        let pause = WINDOW.as_millis() as u64 / u64::from(LOOKS - 1) + 1;
        for look in 0..100 {
            planner.meet(at(look * pause), flow(1));
        }
        assert!(planner.is_empty() && planner.changes().is_empty());
        assert!(
            EVERY * u32::from(LOOKS) >= 128,
            "short flows are not carried"
        );
    }

    #[test]
    fn however_many_flows_there_are_no_more_are_watched() {
        let mut planner = planner();
        for nth in 0..100_000 {
            planner.meet(at(0), flow(nth));
        }
        assert_eq!(planner.candidates.len(), CANDIDATES);
        assert!(planner.is_empty());
    }

    #[test]
    fn a_new_epoch_leaves_everything_and_what_was_to_be_carried() {
        let mut planner = planner();
        planner.leave_all();
        assert_eq!(planner.changes(), [], "nothing was carried");
        carried(&mut planner, flow(1));
        looked_at(&mut planner, LOOKS, flow(2));
        looked_at(&mut planner, LOOKS - 1, flow(3));
        planner.leave_all();
        planner.meet(at(0), flow(3));
        assert_eq!(planner.changes(), [Change::LeaveAll]);
        assert!(planner.is_empty());
        carried(&mut planner, flow(1));
    }

    #[test]
    fn both_directions_of_a_connection_are_left_together() {
        let mut planner = planner();
        let there = of_connection(1, 7, Direction::Original);
        let back = of_connection(2, 7, Direction::Reply);
        carried(&mut planner, there);
        carried(&mut planner, back);
        carried(&mut planner, of_connection(3, 8, Direction::Original));
        planner.leave(7);
        let left = [there, back].map(|flow| Change::Leave(flow.seen));
        assert_eq!(planner.changes(), left);
        planner.leave(7);
        assert_eq!((planner.changes(), planner.len()), (Vec::new(), 1));
    }

    #[test]
    fn a_direction_that_comes_another_way_is_carried_only_that_way() {
        let mut planner = planner();
        let before = of_connection(1, 7, Direction::Original);
        let after = of_connection(2, 7, Direction::Original);
        carried(&mut planner, before);
        looked_at(&mut planner, LOOKS, after);
        let expected = [
            Change::Leave(before.seen),
            Change::Carry(after.seen, after.then),
        ];
        assert_eq!((planner.changes(), planner.len()), (expected.to_vec(), 1));
    }

    #[test]
    fn what_was_counted_is_credited_once_and_silent_flows_are_left() {
        let mut planner = planner();
        carried(&mut planner, flow(1));
        let silence = SILENCE.as_millis() as u64;
        let counted = |packets, bytes| {
            let seen = flow(1).seen;
            [Counted {
                seen,
                packets,
                bytes,
            }]
        };
        let credit = |planner: &mut Planner, millis, packets, bytes| {
            let credits = planner.counted(at(millis), &counted(packets, bytes));
            credits
                .iter()
                .map(|c| (c.packets, c.bytes))
                .collect::<Vec<_>>()
        };
        assert_eq!(credit(&mut planner, 1000, 10, 1000), [(10, 1000)]);
        assert_eq!(credit(&mut planner, 2000, 10, 1000), []);
        assert_eq!(credit(&mut planner, 3000, 15, 1900), [(5, 900)]);
        assert_eq!(planner.leave_silent(at(2999 + silence)), []);
        assert_eq!(planner.changes(), []);
        assert_eq!(planner.leave_silent(at(3000 + silence)), []);
        assert_eq!(planner.changes(), [Change::Leave(flow(1).seen)]);
        assert_eq!(credit(&mut planner, 4000 + silence, 20, 2000), []);
        assert!(
            Duration::from_secs(120) > SILENCE,
            "no connection ends before it is left"
        );
    }
}
