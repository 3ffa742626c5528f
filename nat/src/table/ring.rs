//! Circular lists that run through the table.

use super::Table;
use super::connection::Connection;
use crate::wheel::NONE;

/// Links in a circular list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ring {
    pub(super) next: u32,
    pub(super) previous: u32,
}

impl Ring {
    /// In no list.
    pub(super) const ALONE: Self = Self {
        next: NONE,
        previous: NONE,
    };

    /// The list of one.
    pub(super) const fn of_one(slot: u32) -> Self {
        Self {
            next: slot,
            previous: slot,
        }
    }
}

/// Which of the lists.
pub(super) type Which = fn(&mut Connection) -> &mut Ring;

impl Table {
    /// Puts `slot` in front of `at` in a ring, which is the end when `at` is the first.
    pub(super) fn ring_insert(&mut self, slot: u32, at: u32, ring: Which) {
        let all = &mut self.connections.0;
        let previous = ring(&mut all[at as usize]).previous;
        *ring(&mut all[slot as usize]) = Ring { next: at, previous };
        ring(&mut all[previous as usize]).next = slot;
        ring(&mut all[at as usize]).previous = slot;
    }

    /// Takes `slot` out of its ring; says who came after it.
    pub(super) fn ring_remove(&mut self, slot: u32, ring: Which) -> Option<u32> {
        let all = &mut self.connections.0;
        let Ring { next, previous } = *ring(&mut all[slot as usize]);
        *ring(&mut all[slot as usize]) = Ring::ALONE;
        if next == slot || next == NONE {
            return None;
        }
        ring(&mut all[next as usize]).previous = previous;
        ring(&mut all[previous as usize]).next = next;
        Some(next)
    }
}
