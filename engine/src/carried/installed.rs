//! The flows that are carried, and what leads to them.

use core::hash::Hash;
use core::net::IpAddr;

use ahash::RandomState;
use hashbrown::HashMap;
use pontoon_nat::{ConnId, Direction};
use pontoon_packet::{MacAddr, Timestamp};

use super::{Flow, Seen};
use crate::config::PortId;

/// Something that a container may change and that a flow depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dependence {
    /// Where a hardware address is: the sender's, or that of who gets the frames.
    Place(MacAddr),
    /// Which hardware address a next hop has.
    Hop(IpAddr),
    /// Whether frames pass by a port and how long they may be: by which they come, or leave.
    Port(PortId),
}

/// A flow that is carried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) flow: Flow,
    /// Number of the orders by which it is installed.
    pub(super) orders: u64,
    pub(super) since: Timestamp,
    /// As the kernel has counted.
    pub(super) packets: u64,
    pub(super) bytes: u64,
    /// When something was last counted.
    pub(super) moved: Timestamp,
}

impl Entry {
    pub(super) const fn new(now: Timestamp, flow: Flow, orders: u64) -> Self {
        Self {
            flow,
            orders,
            since: now,
            packets: 0,
            bytes: 0,
            moved: now,
        }
    }
}

impl Flow {
    fn dependences(&self) -> impl Iterator<Item = Dependence> + use<> {
        let to = self.then.rewritten.map_or(self.seen.dst_mac, |r| r.dst_mac);
        let places = [self.seen.src_mac, to].map(Dependence::Place);
        let ports = [self.seen.ingress, self.then.egress].map(Dependence::Port);
        let hop = self.next_hop.map(Dependence::Hop);
        places.into_iter().chain(ports).chain(hop)
    }

    pub(super) fn depends_on(&self, what: Dependence) -> bool {
        self.dependences().any(|dependence| dependence == what)
    }
}

/// How many there are of each kind.
#[derive(Debug)]
struct Census<K>(HashMap<K, u32, RandomState>);

impl<K: Eq + Hash> Census<K> {
    fn of(&self, kind: &K) -> u32 {
        self.0.get(kind).copied().unwrap_or(0)
    }

    fn add(&mut self, kind: K) {
        *self.0.entry(kind).or_insert(0) += 1;
    }

    fn take(&mut self, kind: &K) {
        if let Some(count) = self.0.get_mut(kind) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(kind);
            }
        }
    }
}

/// All of them. A flow is in every index or in none.
#[derive(Debug)]
pub(super) struct Installed {
    entries: HashMap<Seen, Entry, RandomState>,
    by_connection: HashMap<(ConnId, Direction), Seen, RandomState>,
    by_port: Census<PortId>,
    dependences: Census<Dependence>,
    /// Flows that were left and not counted for the last time, each with the number of the orders that say so.
    departed: HashMap<Seen, (Entry, u64), RandomState>,
}

impl Installed {
    pub(super) fn new(hasher: &RandomState) -> Self {
        Self {
            entries: HashMap::with_hasher(hasher.clone()),
            by_connection: HashMap::with_hasher(hasher.clone()),
            by_port: Census(HashMap::with_hasher(hasher.clone())),
            dependences: Census(HashMap::with_hasher(hasher.clone())),
            departed: HashMap::with_hasher(hasher.clone()),
        }
    }

    /// Puts a flow in that is not there, nor another one of its connection's direction.
    pub(super) fn insert(&mut self, entry: Entry) {
        let flow = entry.flow;
        self.entries.insert(flow.seen, entry);
        if let Some(direction) = flow.connection {
            self.by_connection.insert(direction, flow.seen);
        }
        self.by_port.add(flow.seen.ingress);
        for dependence in flow.dependences() {
            self.dependences.add(dependence);
        }
    }

    pub(super) fn remove(&mut self, seen: &Seen) -> Option<Entry> {
        let entry = self.entries.remove(seen)?;
        if let Some(direction) = entry.flow.connection {
            self.by_connection.remove(&direction);
        }
        self.by_port.take(&seen.ingress);
        for dependence in entry.flow.dependences() {
            self.dependences.take(&dependence);
        }
        Some(entry)
    }

    /// Takes all of them out.
    pub(super) fn drain(&mut self) -> Vec<Entry> {
        self.by_connection.clear();
        self.by_port.0.clear();
        self.dependences.0.clear();
        self.entries.drain().map(|(_, entry)| entry).collect()
    }

    /// A flow was taken out that the kernel still has, until it obeys the orders of that number.
    pub(super) fn depart(&mut self, entry: Entry, orders: u64) {
        self.departed.insert(entry.flow.seen, (entry, orders));
    }

    /// The flow was taken out, and nobody has told what the kernel had counted in all.
    pub(super) fn departs(&self, seen: &Seen) -> bool {
        self.departed.contains_key(seen)
    }

    /// One that was counted for the last time.
    pub(super) fn departed(&mut self, seen: &Seen) -> Option<Entry> {
        self.departed.remove(seen).map(|(entry, _)| entry)
    }

    /// What is not counted by now, with the orders of that number obeyed, never will be.
    pub(super) fn settle(&mut self, orders: u64) {
        self.departed.retain(|_, (_, by)| *by > orders);
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn contains(&self, seen: &Seen) -> bool {
        self.entries.contains_key(seen)
    }

    pub(super) fn get_mut(&mut self, seen: &Seen) -> Option<&mut Entry> {
        self.entries.get_mut(seen)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The flow that carries a direction of a connection.
    pub(super) fn of(&self, id: ConnId, direction: Direction) -> Option<Seen> {
        self.by_connection.get(&(id, direction)).copied()
    }

    /// How many come by a port.
    pub(super) fn of_port(&self, port: PortId) -> u32 {
        self.by_port.of(&port)
    }

    /// A flow of the port by which most come, if there are more than so many.
    pub(super) fn of_largest_port(&self, more_than: u32) -> Option<Seen> {
        let ports = self.by_port.0.iter();
        let (port, count) = ports.max_by_key(|(port, count)| (**count, port.0))?;
        let mut known = self.entries.keys();
        let found = known.find(|seen| seen.ingress == *port);
        found.filter(|_| *count > more_than).copied()
    }

    /// Those that depend on something. Looks at all of them, but only if there is one.
    pub(super) fn that_depend_on(&self, what: Dependence) -> Vec<Seen> {
        if self.dependences.of(&what) == 0 {
            return Vec::new();
        }
        let flows = self.entries.values().map(|entry| entry.flow);
        let found = flows.filter(|flow| flow.depends_on(what));
        found.map(|flow| flow.seen).collect()
    }
}
