//! What the table holds.

use core::time::Duration;

use pontoon_packet::parse::protocol;

use super::ring::Ring;
use crate::compact::Tuples;
use crate::tcp::Tracker;
use crate::wheel::{Linked, Links};
use crate::{Direction, Owner, Tuple};

/// What went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames; a super-frame counts once.
    pub packets: u64,
    /// Bytes of IP datagrams.
    pub bytes: u64,
}

/// A connection as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowView {
    /// What the first packet looked like.
    pub original: Tuple,
    /// What replies look like.
    pub reply: Tuple,
    /// TCP state, or nothing.
    pub state: &'static str,
    /// Time until it ends when nothing more comes.
    pub expires_in: Duration,
    /// Both sides agreed to it, and it is not over: never evicted.
    pub assured: bool,
    /// Its packets are carried elsewhere.
    pub carried: bool,
    /// Whose share it counts to.
    pub owner: Owner,
    /// By direction.
    pub traffic: [Traffic; 2],
}

/// What the engine does for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It passes, to another destination perhaps.
    Passing,
    /// It bears an external endpoint that the engine has chosen.
    Masqueraded,
    /// One end is a socket of the engine's.
    Relayed,
}

/// How much of a connection is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Followed {
    /// Everything.
    Closely,
    /// Little: its packets are carried elsewhere.
    Elsewhere,
    /// Everything since a reset that could not be held against a window; who is said to have sent it has not spoken
    /// again.
    InDoubt(Direction),
    /// The same: who answers has reset it and has spoken again, and the side that began has not since. Of who
    /// answers, [`Connection::replied`] says it.
    Unconfirmed,
}

/// What the table holds of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection {
    pub(crate) tuples: Tuples,
    pub(crate) tcp: Tracker,
    pub(crate) traffic: [Traffic; 2],
    /// Second at which it ends.
    pub(crate) expires: u32,
    pub(super) generation: u32,
    pub(crate) owner: Owner,
    /// The reply direction has been seen.
    pub(crate) replied: bool,
    pub(crate) assured: bool,
    pub(crate) kind: Kind,
    pub(crate) followed: Followed,
    pub(super) live: bool,
    /// Stands in [`Table::changed`](super::Table::changed).
    pub(super) noted: bool,
    pub(super) wheel: Links,
    /// Others of the same owner that may be evicted, oldest first.
    pub(super) evictable: Ring,
    /// Others with the same mapping.
    pub(super) mapping: Ring,
}

/// A connection about to enter the table.
pub(crate) struct NewConnection {
    pub(crate) tuples: Tuples,
    pub(crate) tcp: Tracker,
    pub(crate) owner: Owner,
    pub(crate) expires: u32,
    pub(crate) half_open: bool,
    pub(crate) kind: Kind,
}

impl Connection {
    /// One that has just been let in.
    pub(super) const fn begin(new: &NewConnection, generation: u32, noted: bool) -> Self {
        Self {
            tuples: new.tuples,
            tcp: new.tcp,
            traffic: [Traffic {
                packets: 0,
                bytes: 0,
            }; 2],
            expires: new.expires,
            generation,
            owner: new.owner,
            replied: false,
            assured: false,
            kind: new.kind,
            followed: Followed::Closely,
            live: true,
            noted,
            wheel: Links::UNLINKED,
            evictable: Ring::ALONE,
            mapping: Ring::ALONE,
        }
    }

    /// What packets look like, by direction.
    pub(crate) fn both(&self) -> [Tuple; 2] {
        [Direction::Original, Direction::Reply].map(|direction| self.tuples.of(direction))
    }

    /// So much more went one way.
    pub(crate) const fn count(&mut self, direction: Direction, packets: u64, bytes: u64) {
        let traffic = &mut self.traffic[direction as usize];
        traffic.packets += packets;
        traffic.bytes += bytes;
    }

    /// As it is shown at second `now`.
    pub(super) fn view(&self, now: u32) -> FlowView {
        let [original, reply] = self.both();
        let tcp = original.protocol == protocol::TCP;
        FlowView {
            original,
            reply,
            state: if tcp { self.tcp.state.name() } else { "" },
            expires_in: Duration::from_secs(u64::from(self.expires - now)),
            assured: self.assured,
            carried: self.followed == Followed::Elsewhere,
            owner: self.owner,
            traffic: self.traffic,
        }
    }

    /// Reads a little of every cache line of it.
    pub(super) fn touch(&self) -> u64 {
        let [sent, received] = &self.traffic;
        u64::from(self.tuples.touch() ^ u16::from(self.live))
            ^ u64::from(self.expires ^ self.evictable.next ^ self.tcp.touch())
            ^ sent.bytes
            ^ received.packets
    }

    /// A reset has come that may be true.
    pub(crate) const fn is_in_doubt(&self) -> bool {
        matches!(self.followed, Followed::InDoubt(_) | Followed::Unconfirmed)
    }

    pub(super) fn is_half_open(&self) -> bool {
        self.tuples.protocol() == protocol::TCP && self.tcp.state.is_half_open()
    }
}

/// All places, by number.
#[derive(Debug, Default)]
pub(crate) struct Connections(pub(super) Vec<Connection>);

impl Linked for Connections {
    fn links(&mut self, index: u32) -> &mut Links {
        &mut self.0[index as usize].wheel
    }
}
