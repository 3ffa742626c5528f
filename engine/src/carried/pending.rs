//! What the shell is to do and was not told yet.

use std::collections::BTreeMap;

use super::{Carriage, Change, Flow, Seen};

/// Changes that are to be ordered: no more than flows that are carried, and flows that the kernel has still to leave.
#[derive(Debug, Default)]
pub(super) struct Pending {
    everything: bool,
    leave: Vec<Seen>,
    carry: BTreeMap<Seen, Carriage>,
}

impl Pending {
    /// Everything is left; whatever was to be done before is void.
    pub(super) fn leave_all(&mut self) {
        *self = Self {
            everything: true,
            ..Self::default()
        };
    }

    /// A flow is left that was ordered to be carried.
    pub(super) fn leave(&mut self, seen: Seen) {
        self.leave.push(seen);
    }

    /// A flow is carried that is not on its way to be left.
    pub(super) fn carry(&mut self, flow: &Flow) {
        self.carry.insert(flow.seen, flow.then);
    }

    /// A flow is not to be carried after all.
    pub(super) fn cancel(&mut self, seen: &Seen) {
        self.carry.remove(seen);
    }

    /// All of them, to be ordered now.
    pub(super) fn take(&mut self) -> Vec<Change> {
        let Self {
            everything,
            leave,
            carry,
        } = core::mem::take(self);
        let all = everything.then_some(Change::LeaveAll);
        let leave = leave.into_iter().map(Change::Leave);
        let carry = carry
            .into_iter()
            .map(|(seen, then)| Change::Carry(seen, then));
        all.into_iter().chain(leave).chain(carry).collect()
    }
}
