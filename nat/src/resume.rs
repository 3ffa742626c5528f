//! What outlives the engine of a connection, and taking it up again.
//!
//! Established connections are written down when they become so, when TCP changes its state, and when they
//! end: not by frames that only move them on. What is missing is what the next frames tell: sequence numbers are
//! picked up as Linux does in the middle of a connection (`nf_conntrack_tcp_loose`), timeouts begin anew,
//! and counters at zero.

use core::net::{IpAddr, Ipv4Addr};

use pontoon_packet::parse::protocol;
use pontoon_packet::{Endpoint, Timestamp};

use crate::compact::Tuples;
use crate::nat::{Nat, timeout};
use crate::table::{Kind, NewConnection, deadline};
use crate::tcp::{State, Tracker};
use crate::{Direction, Owner, Refusal, Tuple};

/// An established connection as it is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumable {
    /// What the first packet looked like.
    pub original: Tuple,
    /// What replies look like.
    pub reply: Tuple,
    /// Whose share it counts to.
    pub owner: Owner,
    /// State of TCP; [`State::None`] for everything else.
    pub state: State,
    /// The engine has chosen its external endpoint.
    pub masqueraded: bool,
    /// One end is a socket of the engine's, and ends with it.
    pub relayed: bool,
}

const THERE: u8 = 1;
const MASQUERADED: u8 = 2;
const RELAYED: u8 = 4;
/// States in which a connection is written down, by number.
const STATES: [State; 5] = [
    State::None,
    State::Established,
    State::FinWait,
    State::CloseWait,
    State::LastAck,
];

impl Resumable {
    /// Bytes of a record. All zero where there is none.
    pub const LEN: usize = 32;

    /// The record; `None` for IPv6, which no network routes.
    pub fn to_bytes(&self) -> Option<[u8; Self::LEN]> {
        let state = STATES.iter().position(|state| *state == self.state)?;
        let flag = |is: bool, flag| if is { flag } else { 0 };
        let mut record = [0; Self::LEN];
        record[0] = THERE | flag(self.masqueraded, MASQUERADED) | flag(self.relayed, RELAYED);
        record[1] = self.original.protocol;
        record[2] = state as u8;
        record[4..8].copy_from_slice(&self.owner.0.to_le_bytes());
        let ends = [
            self.original.src,
            self.original.dst,
            self.reply.src,
            self.reply.dst,
        ];
        for (place, end) in record[8..].chunks_exact_mut(6).zip(ends) {
            let IpAddr::V4(address) = end.addr else {
                return None;
            };
            place[..4].copy_from_slice(&address.octets());
            place[4..].copy_from_slice(&end.port.to_le_bytes());
        }
        Some(record)
    }

    /// The connection of a record; `None` where there is none.
    pub fn from_bytes(record: &[u8; Self::LEN]) -> Option<Self> {
        let [flags, protocol, state, _, owner @ ..] = record;
        let end = |nth: usize| {
            let place = &record[8 + 6 * nth..][..6];
            let address: [u8; 4] = place[..4].try_into().ok()?;
            let port = u16::from_le_bytes([place[4], place[5]]);
            Some(Endpoint::new(Ipv4Addr::from(address).into(), port))
        };
        let tuple = |nth| {
            Some(Tuple {
                src: end(nth)?,
                dst: end(nth + 1)?,
                protocol: *protocol,
            })
        };
        (flags & THERE != 0).then_some(())?;
        Some(Self {
            original: tuple(0)?,
            reply: tuple(2)?,
            owner: Owner(u32::from_le_bytes(owner[..4].try_into().ok()?)),
            state: *STATES.get(usize::from(*state))?,
            masqueraded: flags & MASQUERADED != 0,
            relayed: flags & RELAYED != 0,
        })
    }
}

impl Nat {
    /// What has become of established connections since the last call, by place in the table: how they
    /// stand, or that there is none any more. No more than there are places.
    pub fn changes(&mut self) -> impl Iterator<Item = (u32, Option<Resumable>)> {
        let changed = core::mem::take(&mut self.table.changed);
        let table = &mut self.table;
        changed
            .into_iter()
            .map(move |slot| (slot, table.take_change(slot)))
    }

    /// Takes up a connection that an engine before has had.
    ///
    /// # Errors
    /// Its ends are in use, there is no room, or it contradicts itself.
    pub fn resume(&mut self, now: Timestamp, flow: &Resumable) -> Result<(), Refusal> {
        let tuples = Tuples::new(&flow.original, &flow.reply).ok_or(Refusal::Clash)?;
        let is_tcp = flow.original.protocol == protocol::TCP;
        let taken = |tuple: &Tuple| self.table.is_taken(tuple);
        let contradicts = flow.relayed
            || is_tcp != (flow.state != State::None)
            || flow.original == flow.reply
            || (flow.masqueraded && self.is_another_s(flow));
        if contradicts || taken(&flow.original) || taken(&flow.reply) {
            return Err(Refusal::Clash);
        }
        self.table.make_room(flow.owner, false)?;
        self.table.skip_to(now);
        let id = self.table.insert(NewConnection {
            tuples,
            tcp: Tracker::in_the_middle(flow.state),
            owner: flow.owner,
            expires: deadline(now, self.profile.generic),
            half_open: false,
            kind: if flow.masqueraded {
                Kind::Masqueraded
            } else {
                Kind::Passing
            },
        });
        if let Some(connection) = self.table.get_mut(id) {
            connection.replied = true;
            connection.expires = deadline(now, timeout(&self.profile, connection));
        }
        self.table.hasten(id.slot);
        self.table.assure(id.slot);
        Ok(())
    }

    /// Ends connections whose owner is not there, or that came by a port that is not published.
    pub fn end_orphans(&mut self, is_there: impl Fn(Owner) -> bool) {
        let published = &self.published;
        self.table.remove_where(|connection| {
            let [original, reply] = connection.both();
            let translated = original.dst.addr != reply.src.addr;
            let leads = |to: &crate::Published| to.target == reply.src;
            !is_there(connection.owner)
                || (translated && !published.lookup(&original).is_some_and(leads))
        });
    }

    /// The external endpoint belongs to another inside endpoint, or the other way round.
    fn is_another_s(&self, flow: &Resumable) -> bool {
        let (protocol, external) = (flow.original.protocol, flow.reply.dst);
        match self.table.external_of(protocol, flow.original.src) {
            Some(mapped) => mapped != external,
            None => self.table.is_mapped(protocol, external),
        }
    }
}

impl crate::table::Connection {
    /// As it is written down; `None` while it is not established.
    pub(crate) fn resumable(&self) -> Option<Resumable> {
        let is_tcp = self.tuples.protocol() == protocol::TCP;
        self.assured.then(|| Resumable {
            original: self.tuples.of(Direction::Original),
            reply: self.tuples.of(Direction::Reply),
            owner: self.owner,
            state: if is_tcp { self.tcp.state } else { State::None },
            masqueraded: self.kind == Kind::Masqueraded,
            relayed: self.kind == Kind::Relayed,
        })
    }
}
