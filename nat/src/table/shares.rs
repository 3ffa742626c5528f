//! Whose connections they are, and who has to go when there are too many.

use super::Table;
use super::connection::Connection;
use super::ring::Ring;
use crate::wheel::NONE;
use crate::{Owner, Refusal};

/// Places looked at to find out who floods. Our choice: with 16, an owner of half of the table is
/// missed once in 65 536.
pub(super) const SAMPLES: usize = 16;
/// How many of an owner's evictable flows are looked at to find a handshake.
const HALF_OPEN_SCAN: usize = 64;

/// What an owner has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) flows: usize,
    pub(super) half_open: usize,
    /// Oldest evictable flow.
    oldest: u32,
}

impl Share {
    pub(super) const EMPTY: Self = Self {
        flows: 0,
        half_open: 0,
        oldest: NONE,
    };
}

/// How often a cap was hit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pressure {
    pub(crate) evicted: u64,
    pub(crate) table_full: u64,
    pub(crate) share_full: u64,
    pub(crate) half_open_full: u64,
}

impl Table {
    /// Makes room within the caps, at the expense of who fills them.
    pub(crate) fn make_room(&mut self, owner: Owner, half_open: bool) -> Result<(), Refusal> {
        if half_open {
            self.make_room_for_handshake(owner)?;
        }
        if self.share(owner).flows >= self.limits.flows_per_owner {
            self.pressure.share_full += 1;
            self.evict_oldest(owner).ok_or(Refusal::ShareFull)?;
        }
        if self.live >= self.limits.flows {
            self.pressure.table_full += 1;
            let victim = self.largest_share().ok_or(Refusal::TableFull)?;
            self.evict_oldest(victim).ok_or(Refusal::TableFull)?;
        }
        Ok(())
    }

    /// The same for a handshake of a connection that is in the table already.
    pub(crate) fn make_room_for_handshake(&mut self, owner: Owner) -> Result<(), Refusal> {
        let share = self.share(owner);
        if share.half_open >= self.limits.half_open_per_owner {
            self.pressure.half_open_full += 1;
            let victim = self.oldest_half_open(share).ok_or(Refusal::HalfOpenFull)?;
            self.evict(victim);
        }
        Ok(())
    }

    /// A handshake of the owner has ended, one way or the other.
    pub(crate) fn count_half_open(&mut self, owner: Owner, change: isize) {
        if let Some(share) = self.shares.get_mut(&owner) {
            share.half_open = share.half_open.saturating_add_signed(change);
        }
    }

    fn share(&self, owner: Owner) -> Share {
        self.shares.get(&owner).copied().unwrap_or(Share::EMPTY)
    }

    pub(super) fn join_evictable(&mut self, slot: u32) {
        let owner = self.connections.0[slot as usize].owner;
        let Some(share) = self.shares.get_mut(&owner) else {
            return;
        };
        if share.oldest == NONE {
            share.oldest = slot;
            self.connections.0[slot as usize].evictable = Ring::of_one(slot);
        } else {
            let oldest = share.oldest;
            self.ring_insert(slot, oldest, |c| &mut c.evictable);
        }
    }

    pub(super) fn leave_evictable(&mut self, slot: u32) {
        let owner = self.connections.0[slot as usize].owner;
        let heir = self.ring_remove(slot, |c| &mut c.evictable);
        if let Some(share) = self.shares.get_mut(&owner)
            && share.oldest == slot
        {
            share.oldest = heir.unwrap_or(NONE);
        }
    }

    pub(super) fn leave_share(&mut self, connection: &Connection) {
        let half_open = connection.is_half_open();
        let Some(share) = self.shares.get_mut(&connection.owner) else {
            return;
        };
        share.flows -= 1;
        share.half_open = share.half_open.saturating_sub(usize::from(half_open));
        if share.flows == 0 {
            self.shares.remove(&connection.owner);
        }
    }

    fn oldest_half_open(&self, share: Share) -> Option<u32> {
        let all = &self.connections.0;
        let next = |slot: &u32| Some(all[*slot as usize].evictable.next);
        core::iter::successors((share.oldest != NONE).then_some(share.oldest), next)
            .take(HALF_OPEN_SCAN)
            .find(|slot| all[*slot as usize].is_half_open())
    }

    fn largest_share(&mut self) -> Option<Owner> {
        let mut largest: Option<(usize, Owner)> = None;
        for _ in 0..SAMPLES {
            let at = self.next_random() % self.connections.0.len().max(1) as u64;
            let Some(connection) = self.connections.0.get(at as usize) else {
                continue;
            };
            let owner = connection.owner;
            let evictable = |share: &&Share| connection.live && share.oldest != NONE;
            let Some(share) = self.shares.get(&owner).filter(evictable) else {
                continue;
            };
            if largest.is_none_or(|(flows, _)| share.flows > flows) {
                largest = Some((share.flows, owner));
            }
        }
        largest.map(|(_, owner)| owner)
    }

    fn evict_oldest(&mut self, owner: Owner) -> Option<()> {
        let oldest = self.shares.get(&owner)?.oldest;
        (oldest != NONE).then(|| self.evict(oldest))
    }

    fn evict(&mut self, slot: u32) {
        self.pressure.evicted += 1;
        self.remove(slot);
    }
}
