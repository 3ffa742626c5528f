//! Established flows in compiled form.
//!
//! The first packet of a direction walks routes, neighbours and the forwarding database. The
//! [`Way`] it found is numbered, and its number kept beside the connection. Any change of what a
//! walk could find (routes, neighbours, the forwarding database, ports) begins a new *epoch*, whose
//! numbers start where those of the last one stopped, and thereby ends every way at once: a way is
//! never searched for, only disbelieved.
//!
//! A way also vouches for the addresses of whatever comes by the same port with the flow's tuple:
//! they were checked when it was found, and what they were checked against is under the epoch too.
//!
//! Cap: one pair of paths for each connection slot, 16 bytes; the connection table is the bound. Ways
//! are shared by all flows with the same next hop, of which there are no more than neighbours. Slots
//! are reused: who lets a flow in calls [`FlowCache::forget`].

use core::net::IpAddr;

use ahash::RandomState;
use hashbrown::HashMap;
use pontoon_nat::{ConnId, Direction};
use pontoon_packet::{MacAddr, Timestamp};

use crate::config::PortId;

/// The way out to a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Way {
    /// Where it leaves.
    pub(crate) port: PortId,
    /// Next hop's hardware address.
    pub(crate) dst_mac: MacAddr,
    /// The leaving interface's hardware address.
    pub(crate) src_mac: MacAddr,
    /// Largest IP datagram that leaves whole.
    pub(crate) mtu: u16,
}

/// What is known of a way.
#[derive(Debug)]
struct Found {
    way: Way,
    next_hop: IpAddr,
    /// When the neighbour entry behind it must be looked at again.
    valid_until: Timestamp,
}

/// The way of one direction of one flow.
#[derive(Clone, Copy, Debug, Default)]
struct Path {
    /// Number of the way; 0, of which there is none, as long as none was found.
    way: u32,
    /// The port by which its datagrams come.
    ingress: u32,
}

/// Compiled paths by connection slot and direction.
#[derive(Debug)]
pub(crate) struct FlowCache {
    paths: Vec<[Path; 2]>,
    /// The ways of this epoch.
    ways: Vec<Found>,
    /// Number of the first of them.
    first: u32,
    /// Places among them, by the next hop as well: each neighbour is believed for a time of its own.
    places: HashMap<(IpAddr, Way), u32, RandomState>,
}

impl FlowCache {
    /// No flows.
    pub(crate) const fn new(hasher: RandomState) -> Self {
        Self {
            paths: Vec::new(),
            ways: Vec::new(),
            first: 1,
            places: HashMap::with_hasher(hasher),
        }
    }

    /// Ends every path. Numbers that come round would be believed again by accident: the paths are
    /// therefore emptied before half of the numbers have been used.
    pub(crate) fn bump_epoch(&mut self) {
        self.first += self.ways.len() as u32;
        self.ways.clear();
        self.places.clear();
        if self.first > u32::MAX / 2 {
            self.paths.clear();
            self.first = 1;
        }
    }

    /// Ends the paths of whoever had the slot before.
    pub(crate) fn forget(&mut self, slot: u32) {
        if let Some(paths) = self.paths.get_mut(slot as usize) {
            *paths = [Path::default(); 2];
        }
    }

    /// Reads the paths of these slots, side by side.
    pub(crate) fn warm(&self, slots: &[u32]) {
        for slot in slots {
            let paths = self.paths.get(*slot as usize);
            core::hint::black_box(paths.map(|[there, back]| there.way ^ back.way));
        }
    }

    /// The way out of what comes by `ingress`, if it is known and still believed.
    pub(crate) fn get(
        &self,
        now: Timestamp,
        id: ConnId,
        direction: Direction,
        ingress: PortId,
    ) -> Option<&Way> {
        let path = &self.paths.get(id.slot as usize)?[direction as usize];
        let place = path.way.wrapping_sub(self.first);
        let found = self.ways.get(place as usize)?;
        (now < found.valid_until && path.ingress == ingress.0).then_some(&found.way)
    }

    /// The next hop to which a flow's way leads in this epoch.
    pub(crate) fn next_hop(&self, id: ConnId, direction: Direction) -> Option<IpAddr> {
        let path = &self.paths.get(id.slot as usize)?[direction as usize];
        let found = self.ways.get(path.way.wrapping_sub(self.first) as usize)?;
        Some(found.next_hop)
    }

    /// Keeps the way out to `next_hop` that a walk has found, until the next epoch. It is believed
    /// until `valid_until`, and so is that of any other flow to the same neighbour.
    pub(crate) fn insert(
        &mut self,
        id: ConnId,
        direction: Direction,
        ingress: PortId,
        next_hop: IpAddr,
        way: Way,
        valid_until: Timestamp,
    ) {
        let slot = id.slot as usize;
        if self.paths.len() <= slot {
            self.paths.resize(slot + 1, [Path::default(); 2]);
        }
        let ways = &mut self.ways;
        let place = *self.places.entry((next_hop, way)).or_insert_with(|| {
            ways.push(Found {
                way,
                next_hop,
                valid_until,
            });
            ways.len() as u32 - 1
        });
        ways[place as usize].valid_until = valid_until;
        self.paths[slot][direction as usize] = Path {
            way: self.first + place,
            ingress: ingress.0,
        };
    }
}
