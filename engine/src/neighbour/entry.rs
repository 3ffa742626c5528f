//! One neighbour: what is known of it, and what waits for it.

use std::collections::VecDeque;

use pontoon_packet::{MacAddr, Offload, Timestamp};

use super::MAX_PROBES;

/// A datagram that waits for its next hop's address: a whole frame, hardware addresses not yet set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The frame.
    pub bytes: Vec<u8>,
    /// What came beside it.
    pub offload: Offload,
    /// Size to which it is to be fragmented, in bytes of IP datagram.
    pub fragment_to: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Permanent(MacAddr),
    Reachable(MacAddr, Timestamp),
    Stale(MacAddr),
    Delay(MacAddr, Timestamp),
    /// Asked by unicast so many times; next at.
    Probe(MacAddr, u8, Timestamp),
    /// Asked by broadcast so many times; next at.
    Incomplete(u8, Timestamp),
    Failed,
}

/// What a deadline that has passed calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing: it was the deadline of an earlier state.
    Nothing,
    /// Go over to that state and ask that hardware address.
    Ask(State, MacAddr),
    /// Nobody answers.
    GiveUp,
}

impl State {
    pub(super) const fn mac(&self) -> Option<MacAddr> {
        match self {
            Self::Permanent(mac)
            | Self::Reachable(mac, _)
            | Self::Stale(mac)
            | Self::Delay(mac, _)
            | Self::Probe(mac, ..) => Some(*mac),
            Self::Incomplete(..) | Self::Failed => None,
        }
    }

    pub(super) const fn is_permanent(&self) -> bool {
        matches!(self, Self::Permanent(_))
    }

    /// Its name in Linux' words.
    pub(super) fn name(&self, now: Timestamp) -> &'static str {
        match self {
            Self::Permanent(_) => "PERMANENT",
            Self::Reachable(_, until) if now < *until => "REACHABLE",
            Self::Reachable(..) | Self::Stale(_) => "STALE",
            Self::Delay(..) => "DELAY",
            Self::Probe(..) => "PROBE",
            Self::Incomplete(..) => "INCOMPLETE",
            Self::Failed => "FAILED",
        }
    }

    /// What the deadline `at` calls for; a request is followed by another at `next`.
    pub(super) fn due(self, at: Timestamp, next: Timestamp) -> Due {
        match self {
            Self::Delay(mac, due) if due == at => Due::Ask(Self::Probe(mac, 1, next), mac),
            Self::Probe(mac, sent, due) if due == at && sent < MAX_PROBES => {
                Due::Ask(Self::Probe(mac, sent + 1, next), mac)
            }
            Self::Probe(_, _, due) if due == at => {
                Due::Ask(Self::Incomplete(1, next), MacAddr::BROADCAST)
            }
            Self::Incomplete(sent, due) if due == at && sent < MAX_PROBES => {
                Due::Ask(Self::Incomplete(sent + 1, next), MacAddr::BROADCAST)
            }
            Self::Incomplete(_, due) if due == at => Due::GiveUp,
            _ => Due::Nothing,
        }
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) state: State,
    pub(super) queue: VecDeque<Waiting>,
}

impl Entry {
    /// An entry for which nothing waits.
    pub(super) const fn new(state: State) -> Self {
        Self {
            state,
            queue: VecDeque::new(),
        }
    }

    /// Takes out what waits, and says how many bytes that is.
    pub(super) fn release(&mut self) -> (Vec<Waiting>, usize) {
        let released: Vec<_> = self.queue.drain(..).collect();
        let bytes = released.iter().map(|waiting| waiting.bytes.len()).sum();
        (released, bytes)
    }
}
