//! Established flows in compiled form.
//!
//! The first packet of a direction walks routes, neighbours and the forwarding database. The
//! [`Way`] it found is kept beside the connection, stamped with the cache's *epoch*. Any change
//! of what a walk could find (routes, neighbours, the forwarding database, ports) bumps the epoch
//! and thereby ends every way at once: a way is never searched for, only disbelieved.
//!
//! A way also vouches for the addresses of whatever comes by the same port with the flow's tuple:
//! they were checked when it was found, and what they were checked against is under the epoch too.
//!
//! Cap: one pair of paths for each connection slot, 40 bytes; the connection table is the bound. Ways
//! are shared by all flows with the same next hop, of which there are no more than neighbours.

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

/// The way of one direction of one flow.
#[derive(Clone, Copy, Debug, Default)]
struct Path {
    /// 0: there is none.
    epoch: u32,
    generation: u32,
    /// Whole seconds: the neighbour entry behind the way must be looked at again from then on.
    valid_until: u32,
    /// The port by which its datagrams come.
    ingress: u32,
    /// Index of the way.
    way: u32,
}

/// Compiled paths by connection slot and direction.
#[derive(Debug)]
pub(crate) struct FlowCache {
    paths: Vec<[Path; 2]>,
    /// The ways of this epoch.
    ways: Vec<Way>,
    numbers: HashMap<Way, u32, RandomState>,
    epoch: u32,
}

impl FlowCache {
    /// No flows.
    pub(crate) const fn new(hasher: RandomState) -> Self {
        Self {
            paths: Vec::new(),
            ways: Vec::new(),
            numbers: HashMap::with_hasher(hasher),
            epoch: 1,
        }
    }

    /// Ends every path. One that is older than 2³² epochs could be believed again by accident;
    /// wrapping therefore empties the cache.
    pub(crate) fn bump_epoch(&mut self) {
        self.ways.clear();
        self.numbers.clear();
        self.epoch = self.epoch.wrapping_add(1);
        if self.epoch == 0 {
            self.paths.clear();
            self.epoch = 1;
        }
    }

    /// Reads the paths of these slots, side by side.
    pub(crate) fn warm(&self, slots: &[u32]) {
        for slot in slots {
            let paths = self.paths.get(*slot as usize);
            core::hint::black_box(paths.map(|[there, back]| there.epoch ^ back.epoch));
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
        let current = path.epoch == self.epoch && path.generation == id.generation;
        let fresh = now.as_nanos() < u64::from(path.valid_until) * 1_000_000_000;
        let way = self.ways.get(path.way as usize)?;
        (current && fresh && path.ingress == ingress.0).then_some(way)
    }

    /// Keeps the way out that a walk has found, until `valid_until` or the next epoch.
    pub(crate) fn insert(
        &mut self,
        id: ConnId,
        direction: Direction,
        ingress: PortId,
        way: Way,
        valid_until: Timestamp,
    ) {
        let slot = id.slot as usize;
        if self.paths.len() <= slot {
            self.paths.resize(slot + 1, [Path::default(); 2]);
        }
        let seconds = u32::try_from(valid_until.as_nanos() / 1_000_000_000).unwrap_or(u32::MAX);
        let ways = &mut self.ways;
        let number = *self.numbers.entry(way).or_insert_with(|| {
            ways.push(way);
            ways.len() as u32 - 1
        });
        self.paths[slot][direction as usize] = Path {
            epoch: self.epoch,
            generation: id.generation,
            valid_until: seconds,
            ingress: ingress.0,
            way: number,
        };
    }
}
