//! The network layer: what may be routed, where it goes, and as whom.
//!
//! Nothing is edited here before everything is decided: a refused datagram is quoted to its sender
//! as it came, and a connection enters the table only once its first packet has passed every check
//! (`new_flow`). The edit itself is in `output`.

mod checks;
mod services;

use core::net::IpAddr;

use pontoon_nat::{ConnId, Direction, Lookup, Owner, Pending, Refusal, SourceNat};
use pontoon_packet::{Facts, Frame, Ip, L4, Timestamp, checksum, icmp, parse};

use crate::config::{Outside, PortId};
use crate::datapath::{Datapath, Transmit};
use crate::drop::DropReason;
use crate::output::Hop;
use crate::route::{InterfaceId, Route};
use checks::has_source_route;

/// How a datagram came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// The interface it was addressed to.
    pub(crate) interface: InterfaceId,
    /// The port it came from.
    pub(crate) ingress: PortId,
    /// Size of the largest fragment it was put together from, in bytes of IP datagram; it is cut
    /// again to no more than that.
    pub(crate) fragment_to: u16,
}

/// A refusal, and what the sender is told of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    pub(crate) reason: DropReason,
    pub(crate) report: Option<icmp::Error>,
}

impl<R: Into<DropReason>> From<R> for Failure {
    fn from(reason: R) -> Self {
        Self {
            reason: reason.into(),
            report: None,
        }
    }
}

impl Failure {
    const fn reported(reason: DropReason, report: icmp::Error) -> Self {
        Self {
            reason,
            report: Some(report),
        }
    }
}

/// What a new flow will be.
struct Plan {
    hop: Hop,
    source: SourceNat,
    owner: Owner,
}

impl Plan {
    /// One to the name server, whose end is among the host's own sockets.
    const fn query(arrival: Arrival, ip: &Ip) -> Self {
        Self {
            hop: Hop {
                interface: InterfaceId::User,
                next: ip.dst,
            },
            source: SourceNat::Relayed,
            owner: Owner(arrival.ingress.0),
        }
    }
}

impl Datapath {
    /// Takes an IPv4 datagram, or a part of one, that was addressed to the engine.
    pub(crate) fn datagram(
        &mut self,
        now: Timestamp,
        interface: InterfaceId,
        ingress: PortId,
        frame: &mut Frame<'_>,
        facts: &Facts,
        out: &mut impl Transmit,
    ) -> Result<(), DropReason> {
        let Some(ip) = facts.ip() else {
            return Err(DropReason::NotRouted);
        };
        if let Some(verdict) = self.follow_known(now, ingress, frame, facts, ip, out) {
            return verdict;
        }
        self.check_addresses(interface, ip)?;
        if ip.has_options() && has_source_route(frame, ip) {
            return Err(DropReason::SourceRoute);
        }
        let arrival = Arrival {
            interface,
            ingress,
            fragment_to: u16::MAX,
        };
        if ip.fragment.is_none() {
            return self.route_whole(now, arrival, frame, facts, out);
        }
        let whole = self
            .reassembler
            .insert(now, Owner(ingress.0), frame.bytes, facts)?;
        let Some(mut whole) = whole else {
            return Ok(());
        };
        self.counters.reassembled += 1;
        let facts = parse(&whole.bytes)?;
        let arrival = Arrival {
            fragment_to: whole.largest_fragment,
            ..arrival
        };
        self.route_whole(
            now,
            arrival,
            &mut Frame::plain(&mut whole.bytes),
            &facts,
            out,
        )
    }

    /// A plain datagram of an established flow whose way is compiled; anything else is `None`.
    fn follow_known(
        &mut self,
        now: Timestamp,
        ingress: PortId,
        frame: &mut Frame<'_>,
        facts: &Facts,
        ip: &Ip,
        out: &mut impl Transmit,
    ) -> Option<Result<(), DropReason>> {
        let (id, direction) = self.nat.find(now, ip)?;
        let way = *self.cache.get(now, id, direction, ingress)?;
        if ip.ttl <= 1 || ip.has_options() || !fits(frame, ip, way.mtu) {
            return None;
        }
        if !checksum::transport_is_valid(frame, ip) {
            return Some(Err(DropReason::BadChecksum));
        }
        if let Err(refusal) = self.nat.track(now, id, direction, frame, ip) {
            return Some(Err(refusal.into()));
        }
        self.counters.cached += 1;
        let translation = self.nat.translation(id, direction);
        if self.is_looked_at() {
            self.look_at_routed(now, ingress, (id, direction), translation, way, facts);
        }
        Some(self.follow(way, id, ingress, translation, frame, facts, out))
    }

    fn route_whole(
        &mut self,
        now: Timestamp,
        arrival: Arrival,
        frame: &mut Frame<'_>,
        facts: &Facts,
        out: &mut impl Transmit,
    ) -> Result<(), DropReason> {
        let Some(ip) = facts.ip() else {
            return Err(DropReason::NotRouted);
        };
        let outcome = if !checksum::transport_is_valid(frame, ip) {
            Err(DropReason::BadChecksum.into())
        } else if matches!(ip.l4, L4::Icmp(header) if icmp::is_error(header.kind)) {
            self.route_error(now, arrival, frame, facts, out)
        } else {
            match self.nat.lookup(now, ip, || {
                self.is_local(arrival.interface, ip.dst)
                    && !self.asks_for_names(arrival.interface, ip)
            }) {
                Ok(Lookup::Known { id, direction }) => {
                    self.known_flow(now, arrival, (id, direction), frame, facts, out)
                }
                Ok(Lookup::New(pending)) => self.new_flow(now, arrival, pending, frame, facts, out),
                Err(refusal) => Err(refusal.into()),
            }
        };
        outcome.map_err(|failure| {
            if let Some(error) = failure.report {
                self.report(now, arrival, frame, facts, error, out);
            }
            failure.reason
        })
    }

    fn known_flow(
        &mut self,
        now: Timestamp,
        arrival: Arrival,
        flow: (ConnId, Direction),
        frame: &mut Frame<'_>,
        facts: &Facts,
        out: &mut impl Transmit,
    ) -> Result<(), Failure> {
        let Some(ip) = facts.ip() else {
            return Err(DropReason::NotRouted.into());
        };
        let (id, direction) = flow;
        self.nat.track(now, id, direction, frame, ip)?;
        let translation = self.nat.translation(id, direction);
        let dst = translation.dst.map_or(ip.dst, |end| end.addr);
        // What a host socket began goes back to it, whoever it speaks for.
        let hop = if self.nat.is_relayed(id) && arrival.interface != InterfaceId::User {
            Hop {
                interface: InterfaceId::User,
                next: dst,
            }
        } else {
            self.route(arrival.interface, dst)?
        };
        self.check_transit(arrival, &hop, frame, ip)?;
        self.carry(
            now,
            arrival,
            hop,
            translation,
            Some(flow),
            frame,
            facts,
            out,
        )
    }

    fn new_flow(
        &mut self,
        now: Timestamp,
        arrival: Arrival,
        pending: Pending,
        frame: &mut Frame<'_>,
        facts: &Facts,
        out: &mut impl Transmit,
    ) -> Result<(), Failure> {
        let Some(ip) = facts.ip() else {
            return Err(DropReason::NotRouted.into());
        };
        let query = self.asks_for_names(arrival.interface, ip);
        if !query && !pending.is_published() && self.is_local(arrival.interface, ip.dst) {
            return self.serve(arrival, frame, facts, out);
        }
        let Plan { hop, source, owner } = if query {
            Plan::query(arrival, ip)
        } else {
            self.plan(arrival, &pending, frame, ip)?
        };
        let id = self
            .nat
            .admit(now, pending, source, owner, frame, ip)
            .map_err(report_lack_of_room)?;
        self.cache.forget(id.slot);
        let flow = (id, Direction::Original);
        let translation = self.nat.translation(id, Direction::Original);
        self.carry(
            now,
            arrival,
            hop,
            translation,
            Some(flow),
            frame,
            facts,
            out,
        )
    }

    /// Where a new flow goes, once everything that could forbid it has been asked.
    fn plan(
        &self,
        arrival: Arrival,
        pending: &Pending,
        frame: &Frame<'_>,
        ip: &Ip,
    ) -> Result<Plan, Failure> {
        let hop = self.route(arrival.interface, pending.destination().addr)?;
        let source = self.policy(arrival.interface, hop.interface, pending)?;
        self.check_transit(arrival, &hop, frame, ip)?;
        let owner = match (pending.owner(), arrival.interface) {
            (Some(owner), _) => owner,
            (None, InterfaceId::User) => self.owner_of(&hop).ok_or(DropReason::NoRoute)?,
            (None, _) => Owner(arrival.ingress.0),
        };
        Ok(Plan { hop, source, owner })
    }

    /// The container behind a next hop.
    fn owner_of(&self, hop: &Hop) -> Option<Owner> {
        let InterfaceId::Network(id) = hop.interface else {
            return None;
        };
        let network = self.networks.get(&id)?;
        let mac = network.neighbours.mac_of(hop.next)?;
        network.switch.lookup(mac).map(|port| Owner(port.0))
    }

    /// An ICMP error about a flow is translated with it; any other is dropped.
    fn route_error(
        &mut self,
        now: Timestamp,
        arrival: Arrival,
        frame: &mut Frame<'_>,
        facts: &Facts,
        out: &mut impl Transmit,
    ) -> Result<(), Failure> {
        let Some(ip) = facts.ip() else {
            return Err(DropReason::NotRouted.into());
        };
        if ip.ttl <= 1 {
            return Err(DropReason::TtlExceeded.into());
        }
        self.nat.translate_error(now, frame, facts)?;
        let facts = parse(frame.bytes).map_err(DropReason::Malformed)?;
        let Some(ip) = facts.ip() else {
            return Err(DropReason::NotRouted.into());
        };
        if self.is_gateway(arrival.interface, ip.dst) {
            return Err(DropReason::NoService.into());
        }
        let hop = self.route(arrival.interface, ip.dst)?;
        self.carry(
            now,
            arrival,
            hop,
            Default::default(),
            None,
            frame,
            &facts,
            out,
        )
    }

    /// The way to `dst` for what came in at `from`.
    pub(crate) fn route(&self, from: InterfaceId, dst: IpAddr) -> Result<Hop, Failure> {
        let outside = self
            .uplink_of(from)
            .and_then(|uplink| uplink.routes.lookup(dst));
        let found = match (self.connected.lookup(dst), outside) {
            _ if self.is_host_loopback(from, dst) => self.user_route(from),
            (Some((inner, _)), Some((outer, route))) if outer.prefix_len() > inner.prefix_len() => {
                Some(route)
            }
            (Some((_, route)), _) | (None, Some((_, route))) => Some(route),
            (None, None) => self.user_route(from),
        };
        let route = found.ok_or(Failure::reported(
            DropReason::NoRoute,
            icmp::Error::NetworkUnreachable,
        ))?;
        Ok(Hop {
            interface: route.interface,
            next: route.gateway.unwrap_or(dst),
        })
    }

    /// The host's own sockets, if that is how the network speaks to the world.
    fn user_route(&self, from: InterfaceId) -> Option<Route> {
        let InterfaceId::Network(id) = from else {
            return None;
        };
        let outside = self.networks.get(&id)?.config.outside;
        (outside == Outside::User && self.user_port.is_some()).then_some(Route {
            interface: InterfaceId::User,
            gateway: None,
        })
    }
}

/// Whether a datagram leaves in one piece, or a super-frame in segments that do.
pub(crate) fn fits(frame: &Frame<'_>, ip: &Ip, mtu: u16) -> bool {
    if !frame.offload.is_super_frame() {
        return ip.total_len <= u32::from(mtu);
    }
    let transport = match ip.l4 {
        L4::Tcp(header) => usize::from(header.header_len),
        L4::Udp(_) => 8,
        L4::Icmp(_) | L4::Fragment | L4::Other => 0,
    };
    usize::from(ip.header_len) + transport + usize::from(frame.offload.gso_size) <= usize::from(mtu)
}

fn report_lack_of_room(refusal: Refusal) -> Failure {
    match refusal {
        Refusal::TableFull | Refusal::ShareFull | Refusal::PortsExhausted => {
            Failure::reported(refusal.into(), icmp::Error::AdministrativelyProhibited)
        }
        other => other.into(),
    }
}
