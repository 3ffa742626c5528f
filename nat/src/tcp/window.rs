//! How far each side may send: the four bounds, and what moves them.

use super::Invalid;
use super::segment::{MAX_SCALE, Segment};
use super::state::{Kind, State};
use crate::Direction;

/// Largest assumed window for acknowledgements that lag (Linux `MAXACKWINCONST`).
const MAX_ACK_WINDOW: u32 = 66_000;

/// One side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// Highest sequence number sent, plus one.
    pub(super) end: u32,
    /// Highest sequence number that the other side lets it send.
    pub(super) maxend: u32,
    /// Largest window it has offered; zero as long as nothing was heard of it.
    maxwin: u32,
    /// Highest acknowledgement it has sent.
    pub(super) maxack: u32,
    /// Window scale it announced (RFC 7323 §2.3: at most 14).
    scale: u8,
    /// Announced a window scale.
    scales: bool,
    /// Has acknowledged something.
    pub(super) acked: bool,
    /// Has sent a FIN.
    pub(super) finished: bool,
}

impl Peer {
    /// Nothing was heard of it.
    pub(super) const QUIET: Self = Self {
        end: 0,
        maxend: 0,
        maxwin: 0,
        maxack: 0,
        scale: 0,
        scales: false,
        acked: false,
        finished: false,
    };

    /// Nothing was heard of it, in a connection that was there before.
    pub(super) const IN_THE_MIDDLE: Self = Self {
        scale: MAX_SCALE,
        ..Self::QUIET
    };

    /// Its first segments were not seen, so that it may have sent more than is known.
    const fn is_picked_up(&self) -> bool {
        self.scale == MAX_SCALE && !self.scales
    }
}

/// `a` comes before `b` on the circle of sequence numbers.
pub(super) const fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// Holds a segment against the four bounds, and moves them on when it fits.
pub(super) fn in_window(
    peers: &mut [Peer; 2],
    state: State,
    direction: Direction,
    segment: &Segment,
) -> Result<(), Invalid> {
    let [original, reply] = peers;
    let (sender, receiver) = match direction {
        Direction::Original => (original, reply),
        Direction::Reply => (reply, original),
    };
    let resent = matches!(
        (state, direction),
        (State::SynSent, Direction::Original) | (State::SynRecv, Direction::Reply)
    );
    let first = sender.maxwin == 0;
    if first || (resent && segment.has_syn && before(sender.end, segment.end)) {
        first_heard(sender, receiver, segment);
    }
    // A reset with a zero acknowledgement, or without one, says nothing about what it has seen.
    let silent = !segment.has_ack || (segment.kind == Kind::Rst && segment.ack == 0);
    let ack = if silent { receiver.end } else { segment.ack };
    let refused = segment.kind == Kind::Rst && segment.seq == 0 && state == State::SynSent;
    let (seq, end) = if refused {
        (sender.end, sender.end)
    } else {
        (segment.seq, segment.end)
    };
    // How far it had gone before it was heard is not known until the other side speaks.
    let unseen = receiver.is_picked_up() && (first || !before(receiver.maxend, ack));
    let lag = sender.maxwin.max(MAX_ACK_WINDOW);
    let fits = before(seq, sender.maxend.wrapping_add(1))
        && (receiver.maxwin == 0
            || before(
                sender.end.wrapping_sub(receiver.maxwin).wrapping_sub(1),
                end,
            ))
        && (unseen || before(ack, receiver.end.wrapping_add(1)))
        && before(receiver.end.wrapping_sub(lag).wrapping_sub(1), ack);
    if !fits {
        return Err(Invalid);
    }
    advance(sender, receiver, segment, ack, end);
    Ok(())
}

/// The first segment of a side: where its numbers start. The other side may not have been heard
/// either (a connection picked up in the middle): it is then taken to have sent what is acknowledged.
fn first_heard(sender: &mut Peer, receiver: &mut Peer, segment: &Segment) {
    sender.end = segment.end;
    sender.maxwin = segment.window.max(1);
    if segment.has_syn {
        sender.maxend = segment.end;
        sender.scales = segment.scale.is_some();
        sender.scale = segment.scale.unwrap_or(0);
        if segment.kind == Kind::SynAck && !(sender.scales && receiver.scales) {
            sender.scale = 0;
            receiver.scale = 0;
        }
    } else {
        // The scale is unknown in the middle of a connection: assume the largest.
        sender.scale = MAX_SCALE;
        sender.maxwin = (segment.window << MAX_SCALE).max(1);
        sender.maxend = segment.end.wrapping_add(sender.maxwin);
    }
    if receiver.maxwin == 0 {
        receiver.end = segment.ack;
        receiver.maxend = segment.ack;
    }
    if receiver.maxwin == 0 && !segment.has_syn {
        receiver.scale = MAX_SCALE;
    }
}

fn advance(sender: &mut Peer, receiver: &mut Peer, segment: &Segment, ack: u32, end: u32) {
    let scale = if segment.has_syn { 0 } else { sender.scale };
    let window = segment.window << scale;
    sender.maxwin = sender.maxwin.max(window);
    if before(sender.end, end) {
        sender.end = end;
    }
    if segment.has_ack && segment.kind != Kind::Rst {
        if !sender.acked || before(sender.maxack, ack) {
            sender.maxack = ack;
        }
        sender.acked = true;
    }
    if receiver.maxwin != 0 && before(sender.maxend, end) {
        receiver.maxwin = receiver
            .maxwin
            .saturating_add(end.wrapping_sub(sender.maxend));
    }
    if receiver.is_picked_up() && before(receiver.end, ack) {
        receiver.end = ack;
    }
    let allowed = ack.wrapping_add(window.max(1));
    if before(receiver.maxend.wrapping_sub(1), allowed) {
        receiver.maxend = allowed;
    }
}
