//! The flow interface: look up, track, admit, translate.

use core::net::IpAddr;
use core::ops::Range;
use core::time::Duration;

use pontoon_packet::parse::protocol;
use pontoon_packet::rewrite::Translation;
use pontoon_packet::{Endpoint, Frame, Ip, Timestamp};

use crate::compact::Tuples;
use crate::publish::PublishedPorts;
use crate::table::{AHEAD, Connection, FlowView, Followed, Kind, NewConnection, Table, deadline};
use crate::tcp::{Fit, State, Tracker};
use crate::{ConnId, Direction, Limits, Owner, Profile, PublishError, Published, Refusal, Tuple};

/// What is known of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It belongs to a connection.
    Known {
        /// Which.
        id: ConnId,
        /// Which way it goes.
        direction: Direction,
    },
    /// It would begin one.
    New(Pending),
}

/// A flow that is in no table yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    tuple: Tuple,
    target: Option<(Endpoint, Owner)>,
}

impl Pending {
    /// It was sent to a published port.
    pub const fn is_published(&self) -> bool {
        self.target.is_some()
    }

    /// Where it goes, once its destination has been replaced.
    pub fn destination(&self) -> Endpoint {
        self.target.map_or(self.tuple.dst, |(target, _)| target)
    }

    /// The container whose port it was sent to.
    pub fn owner(&self) -> Option<Owner> {
        self.target.map(|(_, owner)| owner)
    }
}

/// Whose name a new flow bears where it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceNat {
    /// Its own.
    Keep,
    /// An external address, with a port that is its own (RFC 4787).
    Masquerade(IpAddr),
    /// The gateway's address, so that replies come back through it (hairpin).
    Fixed(IpAddr),
    /// Its own, and the other end is a socket of the engine's: its end is reported
    /// ([`Nat::ended`]).
    Relayed,
}

/// Attempts to find a free port; Linux `nf_nat_core.c`.
const MAX_PORT_TRIES: usize = 128;
/// Connections swept per call. Our choice: well under a millisecond, so that fifty thousand that end
/// in the same second delay no frame noticeably.
const SWEEP_BUDGET: usize = 512;

/// Connection tracking and translation for a whole datapath.
#[derive(Debug)]
pub struct Nat {
    pub(crate) table: Table,
    pub(crate) published: PublishedPorts,
    pub(crate) profile: Profile,
    ports_exhausted: u64,
}

impl Nat {
    /// No connections, no published ports. `seeds` key the tables and the choice of ports.
    pub fn new(profile: Profile, limits: Limits, seeds: [u64; 4]) -> Self {
        let [a, b, c, d] = seeds;
        Self {
            table: Table::new(limits, seeds),
            published: PublishedPorts::new(ahash::RandomState::with_seeds(d, c, b, a)),
            profile,
            ports_exhausted: 0,
        }
    }

    /// What is known of a datagram. `is_local` says whether its destination is an address of the
    /// engine's own, where ports can be published; it is asked only for new flows.
    ///
    /// # Errors
    /// [`Refusal::InvalidIcmp`] for ICMP that is no query.
    pub fn lookup(
        &self,
        now: Timestamp,
        ip: &Ip,
        is_local: impl FnOnce() -> bool,
    ) -> Result<Lookup, Refusal> {
        let tuple = Tuple::of(ip).ok_or(Refusal::InvalidIcmp)?;
        if let Some((id, direction)) = self.table.find(now, &tuple) {
            return Ok(Lookup::Known { id, direction });
        }
        let published = if is_local() {
            self.published.lookup(&tuple)
        } else {
            None
        };
        let target = published.map(|published| (published.target, published.owner));
        Ok(Lookup::New(Pending { tuple, target }))
    }

    /// The connection that a datagram belongs to, and which way it goes.
    pub fn find(&self, now: Timestamp, ip: &Ip) -> Option<(ConnId, Direction)> {
        self.table.find(now, &Tuple::of(ip)?)
    }

    /// Reads the state of the flows that these tuples belong to, and gives the slots it lies
    /// in (guesses; `u32::MAX` for none). Changes nothing but what the processor's caches hold.
    pub fn warm(&self, tuples: &[Option<Tuple>; AHEAD]) -> [u32; AHEAD] {
        self.table.warm(tuples)
    }

    /// Takes a datagram of a known flow into account: state, timeout, counters.
    ///
    /// # Errors
    /// [`Refusal::InvalidTcp`]: it does not belong, and has changed nothing. [`Refusal::HalfOpenFull`]:
    /// it would begin the connection anew, and its owner has too many handshakes under way.
    pub fn track(
        &mut self,
        now: Timestamp,
        id: ConnId,
        direction: Direction,
        frame: &Frame<'_>,
        ip: &Ip,
    ) -> Result<(), Refusal> {
        let profile = self.profile;
        let connection = self.table.get(id).ok_or(Refusal::Clash)?;
        if connection.tcp.begins_anew(direction, frame, ip) {
            self.table.make_room_for_handshake(connection.owner)?;
        }
        let connection = self.table.get_mut(id).ok_or(Refusal::Clash)?;
        if connection.followed != Followed::Closely && self.hear_apart(now, id, direction, ip) {
            return Ok(());
        }
        let connection = self.table.get_mut(id).ok_or(Refusal::Clash)?;
        let before = connection.tcp.state;
        let mut fit = Fit::Counts;
        if ip.protocol == protocol::TCP {
            fit = connection
                .tcp
                .track(direction, frame, ip)
                .map_err(|_| Refusal::InvalidTcp)?;
        }
        if fit == Fit::Doubtful {
            self.doubt(now, id, direction, ip);
            return Ok(());
        }
        connection.count(direction, 1, ip.total_len.into());
        if fit == Fit::Passes {
            return Ok(());
        }
        let state = connection.tcp.state;
        let begins_anew = before.is_over() && state == State::SynSent;
        connection.replied = !begins_anew && (connection.replied || direction == Direction::Reply);
        let expires = deadline(now, timeout(&profile, connection));
        let sooner = expires < connection.expires;
        connection.expires = expires;
        let is_tcp = ip.protocol == protocol::TCP;
        let agreed = !is_tcp || (state == State::Established && !connection.is_in_doubt());
        let assured = connection.replied && agreed;
        let (owner, was_assured) = (connection.owner, connection.assured);
        let was_half_open = before.is_half_open();
        let half_open = state.is_half_open();
        if sooner {
            self.table.hasten(id.slot);
        }
        if assured {
            self.table.assure(id.slot);
        } else if is_tcp && (state.is_over() || begins_anew) {
            self.table.unassure(id.slot);
        } else if was_assured && state != before {
            self.table.note(id.slot);
        }
        if ip.protocol == protocol::TCP && half_open != was_half_open {
            self.table
                .count_half_open(owner, if half_open { 1 } else { -1 });
        }
        Ok(())
    }

    /// The new ends of datagrams of that direction.
    pub fn translation(&self, id: ConnId, direction: Direction) -> Translation {
        let Some(connection) = self.table.get(id) else {
            return Translation::default();
        };
        let seen = connection.tuples.of(direction);
        let leaves = connection.tuples.of(direction.inverted()).inverted();
        Translation {
            src: (leaves.src != seen.src).then_some(leaves.src),
            dst: (leaves.dst != seen.dst).then_some(leaves.dst),
        }
    }

    /// Lets a new flow in, whose first packet `frame` has passed everything else.
    ///
    /// # Errors
    /// Caps, ports, clashes, or a TCP segment that may not begin a connection: anything but a SYN, or,
    /// from inside, a plain segment of a connection that was there before the engine (loose pickup).
    pub fn admit(
        &mut self,
        now: Timestamp,
        pending: Pending,
        source: SourceNat,
        owner: Owner,
        frame: &Frame<'_>,
        ip: &Ip,
    ) -> Result<ConnId, Refusal> {
        let mut tcp = Tracker::new();
        let is_tcp = ip.protocol == protocol::TCP;
        if is_tcp {
            tcp.track(Direction::Original, frame, ip)
                .map_err(|_| Refusal::InvalidTcp)?;
            if pending.is_published() && tcp.state != State::SynSent {
                return Err(Refusal::InvalidTcp);
            }
        }
        self.table.bury(now, &pending.tuple);
        let half_open = is_tcp && tcp.state.is_half_open();
        let reply = self.choose_reply(now, &pending, source)?;
        if self.table.is_taken(&pending.tuple) || self.table.is_taken(&reply) {
            return Err(Refusal::Clash);
        }
        let tuples = Tuples::new(&pending.tuple, &reply).ok_or(Refusal::Clash)?;
        self.table.make_room(owner, half_open)?;
        self.table.skip_to(now);
        let life = first_timeout(&self.profile, ip.protocol, tcp.state);
        let id = self.table.insert(NewConnection {
            tuples,
            tcp,
            owner,
            expires: deadline(now, life),
            half_open,
            kind: match source {
                SourceNat::Masquerade(_) => Kind::Masqueraded,
                SourceNat::Relayed => Kind::Relayed,
                SourceNat::Keep | SourceNat::Fixed(_) => Kind::Passing,
            },
        });
        if let Some(connection) = self.table.get_mut(id) {
            connection.traffic[0].packets = 1;
            connection.traffic[0].bytes = u64::from(ip.total_len);
        }
        Ok(id)
    }

    /// Publishes a port.
    ///
    /// # Errors
    /// It is published already; the error names the holder.
    pub fn publish(&mut self, published: Published) -> Result<(), PublishError> {
        let (protocol, port) = (published.protocol, published.port);
        self.published.insert(published)?;
        // Flows that were masqueraded to the port would get its clients' packets.
        self.table.remove_where(|connection| {
            let reply = connection.tuples.of(Direction::Reply);
            connection.kind == Kind::Masqueraded
                && reply.protocol == protocol
                && reply.dst.port == port
        });
        Ok(())
    }

    /// Takes a published port back and ends the flows that came by it.
    pub fn unpublish(&mut self, published: &Published) {
        self.published.remove(published);
        self.table.remove_where(|connection| {
            let [original, reply] = connection.both();
            original.protocol == published.protocol
                && original.dst.port == published.port
                && (published.addr.is_unspecified() || original.dst.addr == published.addr)
                && reply.src == published.target
                && original.dst != reply.src
        });
    }

    /// Ends every flow of `owner`, and takes its published ports back.
    pub fn remove_owner(&mut self, owner: Owner) {
        self.published.remove_owner(owner);
        self.table
            .remove_where(|connection| connection.owner == owner);
    }

    /// Ends every flow with one of these addresses on its inner side, whoever owns it: the next to have it is
    /// somebody else.
    pub fn end_flows_of(&mut self, addresses: &[IpAddr]) {
        self.table.remove_where(|connection| {
            let inner = connection.both().map(|tuple| tuple.src.addr);
            inner.iter().any(|addr| addresses.contains(addr))
        });
    }

    /// Ends every flow that bears `addr` outside (Linux `nf_nat_masquerade.c`).
    pub fn flush_address(&mut self, addr: IpAddr) {
        self.table.remove_where(|connection| {
            let [original, reply] = connection.both();
            original.dst.addr == addr || reply.dst.addr == addr
        });
    }

    /// Ends a connection.
    pub fn end(&mut self, id: ConnId) {
        if self.table.get(id).is_some() {
            self.table.remove(id.slot);
        }
    }

    /// One end of the connection is a socket of the engine's.
    pub fn is_relayed(&self, id: ConnId) -> bool {
        self.table.get(id).is_some_and(|c| c.kind == Kind::Relayed)
    }

    /// Relayed connections that have ended since the last call, at most once each.
    pub fn ended(&mut self) -> Vec<ConnId> {
        core::mem::take(&mut self.table.ended)
    }

    /// Every connection.
    pub fn flows(&self, now: Timestamp) -> impl Iterator<Item = FlowView> {
        self.flows_at(now, 0..self.places())
    }

    /// The connections in a part of the table, for listings that must not hold packets up. One keeps its place
    /// as long as it lives.
    pub fn flows_at(&self, now: Timestamp, places: Range<usize>) -> impl Iterator<Item = FlowView> {
        self.table.views(now, places)
    }

    /// How many places the table has, taken or free.
    pub fn places(&self) -> usize {
        self.table.places()
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counters by name.
    pub fn counters(&self) -> Vec<(String, u64)> {
        let sizes = [
            ("flows", self.table.len() as u64),
            ("flows.evicted", self.table.pressure.evicted),
        ];
        let all = sizes.into_iter().chain(self.limits());
        all.map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// How often there was no room, by the names of the counters.
    pub const fn limits(&self) -> [(&'static str, u64); 4] {
        let pressure = &self.table.pressure;
        [
            ("flows.table_full", pressure.table_full),
            ("flows.share_full", pressure.share_full),
            ("flows.half_open_full", pressure.half_open_full),
            ("flows.ports_exhausted", self.ports_exhausted),
        ]
    }

    /// When [`handle_timeout`](Self::handle_timeout) next has something to do.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.table.poll_timeout()
    }

    /// Ends what has been silent for too long; a bounded number of flows per call.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.table.sweep(now, SWEEP_BUDGET);
    }

    /// What replies to a new flow will look like.
    fn choose_reply(
        &mut self,
        now: Timestamp,
        pending: &Pending,
        source: SourceNat,
    ) -> Result<Tuple, Refusal> {
        let tuple = &pending.tuple;
        let target = pending.destination();
        // A query has one identifier, which stands at both ends of its tuple.
        let query = matches!(tuple.protocol, protocol::ICMP | protocol::ICMPV6);
        let reply = |end: Endpoint| {
            let port = if query { end.port } else { target.port };
            Tuple {
                src: Endpoint::new(target.addr, port),
                dst: end,
                protocol: tuple.protocol,
            }
        };
        match source {
            SourceNat::Keep | SourceNat::Relayed => {
                self.table.bury(now, &reply(tuple.src));
                if !pending.is_published() {
                    return Ok(reply(tuple.src));
                }
                // Two published ports may lead to one target: what one client sends from one port to
                // both must stay apart there (Linux' null binding does the same).
                self.choose_port(tuple.protocol, tuple.src, |nat, end| {
                    !nat.table.is_taken(&reply(end))
                })
                .map(reply)
            }
            SourceNat::Masquerade(addr) => {
                let mapped = self.table.external_of(tuple.protocol, tuple.src);
                if let Some(external) = mapped.filter(|external| external.addr == addr) {
                    self.table.bury(now, &reply(external));
                    return Ok(reply(external));
                }
                let wanted = Endpoint::new(addr, tuple.src.port);
                self.choose_port(tuple.protocol, wanted, |nat, end| {
                    !nat.table.is_mapped(tuple.protocol, end)
                        && !nat.published.holds(tuple.protocol, end)
                        && !nat.table.is_taken(&reply(end))
                })
                .map(reply)
            }
            SourceNat::Fixed(addr) => {
                let wanted = Endpoint::new(addr, tuple.src.port);
                self.choose_port(tuple.protocol, wanted, |nat, end| {
                    !nat.table.is_taken(&reply(end))
                })
                .map(reply)
            }
        }
    }

    /// The wanted endpoint when it is free, or another of the same class of ports (RFC 4787 REQ-3a,
    /// Linux `nf_nat_core.c`), tried from a random one on.
    fn choose_port(
        &mut self,
        protocol: u8,
        wanted: Endpoint,
        is_free: impl Fn(&Self, Endpoint) -> bool,
    ) -> Result<Endpoint, Refusal> {
        if is_free(self, wanted) {
            return Ok(wanted);
        }
        let (low, high) = match (protocol, wanted.port) {
            (protocol::TCP | protocol::UDP, 1..512) => (1, 511),
            (protocol::TCP | protocol::UDP, 512..1024) => (600, 1023),
            (protocol::TCP | protocol::UDP, _) => (1024, 65_535),
            (protocol::ICMP | protocol::ICMPV6, _) => (0, 65_535),
            // Nothing to choose from: protocols without ports are known by their addresses.
            _ => return Err(Refusal::Clash),
        };
        let span = high - low + 1;
        for _ in 0..MAX_PORT_TRIES {
            let port = low + (self.table.next_random() >> 33) as u32 % span;
            let candidate = Endpoint::new(wanted.addr, port as u16);
            if is_free(self, candidate) {
                return Ok(candidate);
            }
        }
        self.ports_exhausted += 1;
        Err(Refusal::PortsExhausted)
    }
}

pub(crate) fn timeout(profile: &Profile, connection: &Connection) -> Duration {
    match connection.tuples.protocol() {
        protocol::TCP
            if connection.tcp.state == State::Established
                && (!connection.replied || connection.is_in_doubt()) =>
        {
            profile.tcp_unanswered
        }
        protocol::TCP
            if connection.kind == Kind::Relayed && connection.tcp.state.is_half_closed() =>
        {
            profile.tcp_relayed_half_closed
        }
        protocol::TCP => profile.tcp(connection.tcp.state),
        protocol::UDP if connection.replied => profile.udp_stream,
        other => first_timeout(profile, other, State::None),
    }
}

const fn first_timeout(profile: &Profile, protocol: u8, state: State) -> Duration {
    match (protocol, state) {
        (protocol::TCP, State::Established) => profile.tcp_unanswered,
        (protocol::TCP, state) => profile.tcp(state),
        (protocol::UDP, _) => profile.udp_unreplied,
        (protocol::ICMP | protocol::ICMPV6, _) => profile.icmp,
        _ => profile.generic,
    }
}
