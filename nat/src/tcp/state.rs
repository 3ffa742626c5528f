//! States and transitions.

use pontoon_packet::parse::tcp_flags::{ACK, FIN, RST, SYN, URG};

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

    /// One side has finished sending.
    pub(crate) const fn is_half_closed(self) -> bool {
        matches!(self, Self::FinWait | Self::CloseWait)
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
pub(super) enum Kind {
    Syn,
    SynAck,
    Fin,
    Ack,
    Rst,
}

/// What a segment does to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    To(State),
    /// Passes, and changes nothing: the far end will sort it out.
    Ignore,
    Invalid,
}

/// Flag combinations that some implementation sends (`tcp_valid_flags` in Linux); null, Xmas,
/// SYN+FIN and SYN+RST segments are not among them.
pub(super) fn kind(flags: u8) -> Option<Kind> {
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

/// What a segment of that kind does in that state.
pub(super) fn step(state: State, kind: Kind, direction: Direction) -> Step {
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
