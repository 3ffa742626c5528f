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
//! Selective acknowledgements are not looked at: bounds III and IV apply to the cumulative one.

use pontoon_packet::parse::tcp_flags::{ACK, FIN, PSH, RST, SYN, URG};
use pontoon_packet::{Frame, Ip, L4, Tcp};

use crate::Direction;

/// State of a tracked connection, named as Linux names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing seen yet.
    None,
    /// SYN seen.
    SynSent,
    /// SYN-ACK seen.
    SynRecv,
    /// Handshake complete.
    Established,
    /// FIN seen.
    FinWait,
    /// FIN acknowledged.
    CloseWait,
    /// FIN of the other side seen.
    LastAck,
    /// Last ACK seen.
    TimeWait,
    /// RST seen.
    Close,
    /// SYN of both sides seen (simultaneous open).
    SynSent2,
}

impl State {
    /// The name that `conntrack -L` shows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::SynSent2 => "SYN_SENT2",
        }
    }

    /// Nothing more is to come: evicting it loses nobody anything.
    pub(crate) const fn is_over(self) -> bool {
        matches!(self, Self::TimeWait | Self::Close)
    }

    /// The handshake is not complete.
    pub const fn is_half_open(self) -> bool {
        matches!(
            self,
            Self::None | Self::SynSent | Self::SynRecv | Self::SynSent2
        )
    }
}

/// What kind of segment it is, for the state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Syn,
    SynAck,
    Fin,
    Ack,
    Rst,
}

/// What a segment does to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    To(State),
    /// Passes, and changes nothing: the far end will sort it out.
    Ignore,
    Invalid,
}

/// Flag combinations that some implementation sends (`tcp_valid_flags` in Linux); null, Xmas,
/// SYN+FIN and SYN+RST segments are not among them.
fn kind(flags: u8) -> Option<Kind> {
    match flags & (SYN | FIN | RST | ACK | URG) {
        SYN => Some(Kind::Syn),
        f if f == SYN | URG => Some(Kind::Syn),
        f if f == SYN | ACK => Some(Kind::SynAck),
        RST => Some(Kind::Rst),
        f if f == RST | ACK => Some(Kind::Rst),
        f if f == FIN | ACK || f == FIN | ACK | URG => Some(Kind::Fin),
        ACK => Some(Kind::Ack),
        f if f == ACK | URG => Some(Kind::Ack),
        _ => None,
    }
}

fn step(state: State, kind: Kind, direction: Direction) -> Step {
    use State as S;
    match (kind, direction) {
        (Kind::Syn, Direction::Original) => match state {
            S::None | S::SynSent | S::TimeWait | S::Close => Step::To(S::SynSent),
            S::SynSent2 => Step::To(S::SynSent2),
            _ => Step::Ignore,
        },
        (Kind::Syn, Direction::Reply) => match state {
            S::SynSent | S::SynSent2 => Step::To(S::SynSent2),
            _ => Step::Invalid,
        },
        (Kind::SynAck, Direction::Original) => match state {
            S::SynRecv | S::SynSent2 => Step::To(S::SynRecv),
            _ => Step::Invalid,
        },
        (Kind::SynAck, Direction::Reply) => match state {
            S::None => Step::Invalid,
            S::SynSent | S::SynSent2 => Step::To(S::SynRecv),
            _ => Step::Ignore,
        },
        (Kind::Fin, _) => match state {
            S::SynRecv | S::Established => Step::To(S::FinWait),
            S::FinWait | S::CloseWait | S::LastAck => Step::To(S::LastAck),
            S::TimeWait => Step::To(S::TimeWait),
            S::Close => Step::To(S::Close),
            S::None | S::SynSent | S::SynSent2 => Step::Invalid,
        },
        (Kind::Ack, direction) => acknowledged(state, direction),
        (Kind::Rst, _) if state == S::None => Step::Invalid,
        (Kind::Rst, _) => Step::To(S::Close),
    }
}

fn acknowledged(state: State, direction: Direction) -> Step {
    use State as S;
    match (state, direction) {
        (S::None, Direction::Original) => Step::To(S::Established),
        (S::None, Direction::Reply) | (S::SynSent | S::SynSent2, Direction::Original) => {
            Step::Invalid
        }
        (S::SynSent | S::SynSent2, Direction::Reply) => Step::Ignore,
        (S::SynRecv, Direction::Original) => Step::To(S::Established),
        (S::SynRecv, Direction::Reply) => Step::To(S::SynRecv),
        (S::Established, _) => Step::To(S::Established),
        (S::FinWait | S::CloseWait, _) => Step::To(S::CloseWait),
        (S::LastAck | S::TimeWait, _) => Step::To(S::TimeWait),
        (S::Close, _) => Step::To(S::Close),
    }
}

/// One side of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Peer {
    /// Highest sequence number sent, plus one.
    end: u32,
    /// Highest sequence number that the other side lets it send.
    maxend: u32,
    /// Largest window it has offered; zero as long as nothing was heard of it.
    maxwin: u32,
    /// Highest acknowledgement it has sent.
    maxack: u32,
    /// Window scale it announced (RFC 7323 §2.3: at most 14).
    scale: u8,
    /// Announced a window scale.
    scales: bool,
    /// Has acknowledged something.
    acked: bool,
    /// Has sent a FIN.
    finished: bool,
}

/// Largest assumed window for acknowledgements that lag (Linux `MAXACKWINCONST`).
const MAX_ACK_WINDOW: u32 = 66_000;
/// RFC 7323 §2.3.
const MAX_SCALE: u8 = 14;

/// What is remembered of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tracker {
    pub(crate) state: State,
    peers: [Peer; 2],
}

/// What a segment that fits means to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It is part of it.
    Counts,
    /// It passes, but proves nothing: it neither refreshes nor answers.
    Passes,
}

/// A segment does not belong to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Invalid;

/// The numbers of one segment.
#[derive(Clone, Copy)]
struct Segment {
    kind: Kind,
    seq: u32,
    end: u32,
    ack: u32,
    window: u32,
    has_ack: bool,
    has_syn: bool,
    scale: Option<u8>,
}

impl Tracker {
    /// A connection before its first segment.
    pub(crate) const fn new() -> Self {
        const QUIET: Peer = Peer {
            end: 0,
            maxend: 0,
            maxwin: 0,
            maxack: 0,
            scale: 0,
            scales: false,
            acked: false,
            finished: false,
        };
        Self {
            state: State::None,
            peers: [QUIET; 2],
        }
    }

    /// Reads it, for no other reason than to have it near.
    pub(crate) const fn touch(&self) -> u32 {
        self.peers[0].maxend ^ self.peers[1].maxend
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
        let mut peers = if reopened {
            Self::new().peers
        } else {
            self.peers
        };
        in_window(&mut peers, self.state, direction, &segment)?;
        if segment.kind == Kind::Rst && !self.reset_counts(direction, &segment)? {
            return Ok(Fit::Passes);
        }
        peers[direction as usize].finished |= segment.kind == Kind::Fin;
        self.peers = peers;
        self.state = next;
        Ok(Fit::Counts)
    }

    /// Whether a reset ends the connection. One that is below what its receiver has acknowledged is
    /// forged or late. One that is in the window but not exactly what the receiver expects is passed
    /// on (the receiver will challenge it, RFC 5961 §3.2) and changes nothing here, unless the
    /// connection is closing anyway, or follows exactly what its sender has sent last: then the data
    /// in front of it has only not been acknowledged yet.
    fn reset_counts(&self, direction: Direction, segment: &Segment) -> Result<bool, Invalid> {
        let receiver = &self.peers[direction.inverted() as usize];
        if !receiver.acked || self.state.is_half_open() {
            return Ok(true);
        }
        if before(segment.seq, receiver.maxack) {
            return Err(Invalid);
        }
        let closing = self.peers.iter().any(|peer| peer.finished);
        let follows_data = segment.seq == self.peers[direction as usize].end;
        Ok(closing || follows_data || segment.seq == receiver.maxack)
    }
}

impl Segment {
    fn of(frame: &Frame<'_>, ip: &Ip, header: &Tcp) -> Option<Self> {
        let kind = kind(header.flags & !PSH)?;
        let payload = ip.payload_len() - usize::from(header.header_len);
        let has_syn = header.flags & SYN != 0;
        let length = payload as u32 + u32::from(has_syn) + u32::from(header.flags & FIN != 0);
        Some(Self {
            kind,
            seq: header.seq,
            end: header.seq.wrapping_add(length),
            ack: header.ack,
            window: u32::from(header.window),
            has_ack: header.flags & ACK != 0,
            has_syn,
            scale: if has_syn {
                window_scale(frame, ip, header)
            } else {
                None
            },
        })
    }
}

/// The window scale option (RFC 7323 §2.2), if the segment carries one.
fn window_scale(frame: &Frame<'_>, ip: &Ip, header: &Tcp) -> Option<u8> {
    let start = ip.l4_start();
    let mut options = &frame.bytes[start + 20..start + usize::from(header.header_len)];
    while let Some((&kind, rest)) = options.split_first() {
        match kind {
            0 => return None,
            1 => options = rest,
            _ => {
                let length = usize::from(*rest.first()?);
                let option = options.get(..length).filter(|_| length >= 2)?;
                if let (3, [_, _, scale]) = (kind, option) {
                    return Some((*scale).min(MAX_SCALE));
                }
                options = &options[length..];
            }
        }
    }
    None
}

/// `a` comes before `b` on the circle of sequence numbers.
const fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

fn in_window(
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
    if sender.maxwin == 0 || (resent && segment.has_syn && before(sender.end, segment.end)) {
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
    let lag = sender.maxwin.max(MAX_ACK_WINDOW);
    let fits = before(seq, sender.maxend.wrapping_add(1))
        && before(
            sender.end.wrapping_sub(receiver.maxwin).wrapping_sub(1),
            end,
        )
        && before(ack, receiver.end.wrapping_add(1))
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
    let allowed = ack.wrapping_add(window.max(1));
    if before(receiver.maxend.wrapping_sub(1), allowed) {
        receiver.maxend = allowed;
    }
}
