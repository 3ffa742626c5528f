//! Established flows in compiled form.
//!
//! The first packet of a direction walks routes, neighbours and the forwarding database. What it
//! found is kept beside the connection as a [`Path`], stamped with the cache's *epoch*. Any change
//! of what a walk could find (routes, neighbours, the forwarding database, ports) bumps the epoch
//! and thereby ends every path at once: a path is never searched for, only disbelieved.
//!
//! Cap: one pair of paths for each connection slot; the connection table is the bound. 28 bytes a
//! path, so 56 bytes a flow.

use pontoon_nat::{ConnId, Direction};
use pontoon_packet::{MacAddr, Timestamp};

use crate::config::PortId;

/// The way out of one direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// Where it leaves.
    pub(crate) port: PortId,
    /// Next hop's hardware address.
    pub(crate) dst_mac: MacAddr,
    /// The leaving interface's hardware address.
    pub(crate) src_mac: MacAddr,
    /// Largest IP datagram that leaves whole.
    pub(crate) mtu: u16,
}

#[derive(Clone, Copy, Debug)]
struct Compiled {
    epoch: u32,
    generation: u32,
    /// Whole seconds: the neighbour entry behind the path must be looked at again from then on.
    valid_until: u32,
    path: Path,
}

/// Compiled paths by connection slot and direction.
#[derive(Debug, Default)]
pub(crate) struct FlowCache {
    paths: Vec<[Option<Compiled>; 2]>,
    epoch: u32,
}

impl FlowCache {
    /// Ends every path. A path that is older than 2³² epochs could be believed again by accident;
    /// wrapping therefore empties the cache.
    pub(crate) fn bump_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        if self.epoch == 0 {
            self.paths.clear();
        }
    }

    /// The way out, if it is known and still believed.
    pub(crate) fn get(&self, now: Timestamp, id: ConnId, direction: Direction) -> Option<&Path> {
        let compiled = self.paths.get(id.slot as usize)?[direction as usize].as_ref()?;
        let current = compiled.epoch == self.epoch && compiled.generation == id.generation;
        let fresh = now.as_nanos() < u64::from(compiled.valid_until) * 1_000_000_000;
        (current && fresh).then_some(&compiled.path)
    }

    /// Keeps the way out that a walk has found, until `valid_until` or the next epoch.
    pub(crate) fn insert(
        &mut self,
        id: ConnId,
        direction: Direction,
        path: Path,
        valid_until: Timestamp,
    ) {
        let slot = id.slot as usize;
        if self.paths.len() <= slot {
            self.paths.resize(slot + 1, [None; 2]);
        }
        let seconds = u32::try_from(valid_until.as_nanos() / 1_000_000_000).unwrap_or(u32::MAX);
        self.paths[slot][direction as usize] = Some(Compiled {
            epoch: self.epoch,
            generation: id.generation,
            valid_until: seconds,
            path,
        });
    }
}
