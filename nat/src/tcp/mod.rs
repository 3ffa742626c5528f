//! TCP, as seen by somebody in the middle.
//!
//! The states, the transitions and the four window bounds are those of Linux'
//! `nf_conntrack_proto_tcp.c`, after van Rooij, "Real stateful TCP packet filtering in IP Filter"
//! (2001). Each side's [`Peer`] remembers how far it may send and how far it has sent:
//!
//! ```text
//! I    seq  ≤ sender.maxend + 1                 not beyond what the receiver offered
//! II   end  ≥ sender.end − receiver.maxwin − 1  not older than one window
//! III  ack  ≤ receiver.end + 1                  no acknowledgement of what was not sent
//! IV   ack  ≥ receiver.end − max(sender.maxwin, 66 000) − 1
//! ```
//!
//! Bounds II and III do not hold against a side that was not heard yet, or was first heard in the middle of the
//! connection: it may have sent more than was seen, up to what the other side has offered.
//!
//! Of a connection that somebody else has carried for a while, anything may be missing, and what is heard first may be
//! old. Nothing is held against its numbers, as Linux does with flows that it has offloaded
//! (`IP_CT_TCP_FLAG_BE_LIBERAL`, `flow_offload_ct_tcp`): a segment that does not fit tells anew where they are. If it were
//! dropped, and with it what is sent again, neither side would say anything that moves the bounds.
//! Selective acknowledgements are not looked at: bounds III and IV apply to the cumulative one.

mod segment;
mod state;
mod window;

use pontoon_packet::{Frame, Ip, L4};

use crate::Direction;
use segment::Segment;
pub use state::State;
use state::{Kind, Step, step};
use window::{Peer, before, in_window};

/// What is remembered of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tracker {
    pub(crate) state: State,
    peers: [Peer; 2],
    /// Not all of it was seen: no segment is refused for its numbers.
    liberal: bool,
}

/// What a segment that fits means to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It is part of it.
    Counts,
    /// It passes, but proves nothing: it neither refreshes nor answers.
    Passes,
    /// It resets the connection, or is forged: there is nothing that it can be held against.
    Doubtful,
}

/// A segment does not belong to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Invalid;

impl Tracker {
    /// A connection before its first segment.
    pub(crate) const fn new() -> Self {
        Self {
            state: State::None,
            peers: [Peer::QUIET; 2],
            liberal: false,
        }
    }

    /// A connection that was there before: its next segments tell where its numbers are.
    pub(crate) const fn in_the_middle(state: State) -> Self {
        Self {
            state,
            peers: [Peer::IN_THE_MIDDLE; 2],
            liberal: true,
        }
    }

    /// Reads it, for no other reason than to have it near.
    pub(crate) const fn touch(&self) -> u32 {
        self.peers[0].maxend ^ self.peers[1].maxend
    }

    /// Whether the segment begins a connection anew that is over.
    pub(crate) fn begins_anew(&self, direction: Direction, frame: &Frame<'_>, ip: &Ip) -> bool {
        let mut after = *self;
        self.state.is_over()
            && after.track(direction, frame, ip).is_ok()
            && after.state == State::SynSent
    }

    /// Takes a segment into account, or says that it does not belong. An invalid segment changes
    /// nothing.
    pub(crate) fn track(
        &mut self,
        direction: Direction,
        frame: &Frame<'_>,
        ip: &Ip,
    ) -> Result<Fit, Invalid> {
        let L4::Tcp(header) = ip.l4 else {
            return Err(Invalid);
        };
        let segment = Segment::of(frame, ip, &header).ok_or(Invalid)?;
        let next = match step(self.state, segment.kind, direction) {
            Step::Invalid => return Err(Invalid),
            Step::Ignore => return Ok(Fit::Passes),
            Step::To(next) => next,
        };
        let reopened = next == State::SynSent
            && matches!(self.state, State::TimeWait | State::Close)
            && segment.kind == Kind::Syn;
        let mut after = if reopened { Self::new() } else { *self };
        if self.answers_a_challenge(direction, &segment) {
            return Ok(Fit::Passes);
        }
        if in_window(&mut after.peers, self.state, direction, &segment).is_err() {
            if !after.liberal || segment.kind == Kind::Rst {
                return Err(Invalid);
            }
            after.peers = [Peer::IN_THE_MIDDLE; 2];
            in_window(&mut after.peers, self.state, direction, &segment)?;
        }
        if segment.kind == Kind::Rst {
            match self.reset_counts(direction, &segment)? {
                Fit::Counts => {}
                other => return Ok(other),
            }
        }
        after.peers[direction as usize].finished |= segment.kind == Kind::Fin;
        after.state = next;
        *self = after;
        Ok(Fit::Counts)
    }

    /// Whether the segment is what a client says to a server that remembers an earlier connection between
    /// the same ends: it acknowledges old bytes instead of the SYN, the client resets those, and its SYN
    /// is welcome then (RFC 9293 §3.10.7.3). A client that gives up resets what it has sent itself.
    fn answers_a_challenge(&self, direction: Direction, segment: &Segment) -> bool {
        self.state == State::SynSent
            && direction == Direction::Original
            && segment.kind == Kind::Rst
            && segment.seq != self.peers[direction as usize].end
    }

    /// What a reset means to the connection. One that is below what its receiver has acknowledged is
    /// forged or late. One that is in the window but not exactly what the receiver expects is passed
    /// on (the receiver will challenge it, RFC 5961 §3.2) and changes nothing here, unless the
    /// connection is closing anyway, or follows exactly what its sender has sent last: then the data
    /// in front of it has only not been acknowledged yet.
    fn reset_counts(&self, direction: Direction, segment: &Segment) -> Result<Fit, Invalid> {
        let receiver = &self.peers[direction.inverted() as usize];
        if !receiver.acked && self.liberal {
            return Ok(Fit::Doubtful);
        }
        if !receiver.acked || self.state.is_half_open() {
            return Ok(Fit::Counts);
        }
        if before(segment.seq, receiver.maxack) {
            return Err(Invalid);
        }
        let closing = self.peers.iter().any(|peer| peer.finished);
        let follows_data = segment.seq == self.peers[direction as usize].end;
        if closing || follows_data || segment.seq == receiver.maxack {
            return Ok(Fit::Counts);
        }
        Ok(Fit::Passes)
    }
}
