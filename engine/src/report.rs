//! What the engine tells senders: ICMP errors and their limits; and what time brings.

use pontoon_nat::Expired;
use pontoon_packet::{Facts, Frame, MacAddr, Offload, Timestamp, build, icmp, parse};

use crate::carried::Dependence;
use crate::config::PortId;
use crate::datapath::{Datapath, Role, Transmit};
use crate::drop::DropReason;
use crate::neighbour::{Event, Waiting};
use crate::route::InterfaceId;
use crate::router::Arrival;

impl Datapath {
    /// Tells the sender of a frame that has just come in why it goes no further.
    pub(crate) fn report(
        &mut self,
        now: Timestamp,
        arrival: Arrival,
        frame: &Frame<'_>,
        facts: &Facts,
        error: icmp::Error,
        out: &mut impl Transmit,
    ) {
        let (Some(ip), Some(own)) = (facts.ip(), self.address_of(arrival.interface)) else {
            return;
        };
        if !icmp::may_be_answered(facts) || !self.may_report(now, ip.src, error) {
            return;
        }
        let Some(mac) = self.mac_of(arrival.interface) else {
            return;
        };
        if let Some(bytes) = build::icmp_error(frame, facts, error, own, (mac, facts.src_mac)) {
            self.counters.icmp_sent += 1;
            self.emit(arrival.ingress, &bytes, Offload::NONE, out);
        }
    }

    /// Tells the container behind `port`, by an error from its gateway, what became of the datagram
    /// that `quoted` begins (IP header and at least eight bytes), which the host's own sockets carried
    /// or did not.
    pub fn refuse(
        &mut self,
        now: Timestamp,
        port: PortId,
        quoted: &[u8],
        error: icmp::Error,
        out: &mut impl Transmit,
    ) {
        let Some(place) = self.port_mut(port) else {
            return;
        };
        let (Role::Member(network), Some(config)) = (place.role, &place.config) else {
            return;
        };
        let (mac, Some(source)) = (config.mac, config.addresses.first().copied()) else {
            return;
        };
        let interface = InterfaceId::Network(network);
        let (Some(own), Some(own_mac)) = (self.address_of(interface), self.mac_of(interface))
        else {
            return;
        };
        if !self.may_report(now, source, error) {
            return;
        }
        if let Some(bytes) = build::icmp_error_about(quoted, source, error, own, (own_mac, mac)) {
            self.counters.icmp_sent += 1;
            self.emit(port, &bytes, Offload::NONE, out);
        }
    }

    fn may_report(
        &mut self,
        now: Timestamp,
        target: core::net::IpAddr,
        error: icmp::Error,
    ) -> bool {
        let allowed = match error {
            icmp::Error::FragmentationNeeded { .. } => self.icmp_limiter.allow_any(now),
            _ => self.icmp_limiter.allow(now, target),
        };
        if !allowed {
            self.counters.icmp_limited += 1;
        }
        allowed
    }

    /// When [`handle_timeout`](Self::handle_timeout) next has something to do.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let networks = self.networks.values().flat_map(|network| {
            [
                network.neighbours.poll_timeout(),
                network.switch.poll_timeout(),
            ]
        });
        let uplinks = self
            .uplinks
            .values()
            .map(|uplink| uplink.neighbours.poll_timeout());
        let tables = [self.nat.poll_timeout(), self.reassembler.poll_timeout()];
        networks.chain(uplinks).chain(tables).flatten().min()
    }

    /// Lets time pass up to `now`: ages tables, asks again, gives up.
    pub fn handle_timeout(&mut self, now: Timestamp, out: &mut impl Transmit) {
        self.nat.handle_timeout(now);
        for expired in self.reassembler.handle_timeout(now) {
            self.report_reassembly_timeout(now, &expired, out);
        }
        let networks: Vec<_> = self
            .networks
            .keys()
            .copied()
            .map(InterfaceId::Network)
            .collect();
        let uplinks: Vec<_> = self
            .uplinks
            .keys()
            .copied()
            .map(InterfaceId::Uplink)
            .collect();
        let mut aged = Vec::new();
        for network in self.networks.values_mut() {
            network.switch.handle_timeout(now);
            aged.extend(network.switch.changed().into_iter().flatten());
        }
        if !aged.is_empty() {
            self.lose_places(&aged);
        }
        for interface in networks.into_iter().chain(uplinks) {
            let mut events = Vec::new();
            if let Some(neighbours) = self.neighbours_mut(interface) {
                neighbours.handle_timeout(now, &mut events);
            }
            for event in events {
                self.handle_neighbour_event(now, interface, event, out);
            }
        }
    }

    /// Tells the sender of a datagram whose other parts never came (RFC 1122 §3.3.2).
    fn report_reassembly_timeout(
        &mut self,
        now: Timestamp,
        expired: &Expired,
        out: &mut impl Transmit,
    ) {
        let ingress = PortId(expired.owner.0);
        let interface = match self.port_mut(ingress).map(|port| port.role) {
            Some(Role::Member(id)) => InterfaceId::Network(id),
            Some(Role::Uplink(id)) => InterfaceId::Uplink(id),
            Some(Role::User) => InterfaceId::User,
            None => return,
        };
        let mut bytes = expired.first.clone();
        let Ok(facts) = parse(&bytes) else { return };
        let arrival = Arrival {
            interface,
            ingress,
            fragment_to: u16::MAX,
        };
        let error = icmp::Error::ReassemblyTimeExceeded;
        self.report(now, arrival, &Frame::plain(&mut bytes), &facts, error, out);
    }

    fn handle_neighbour_event(
        &mut self,
        now: Timestamp,
        interface: InterfaceId,
        event: Event,
        out: &mut impl Transmit,
    ) {
        match event {
            Event::Ask(ask) => {
                if ask.to.is_group() {
                    // Nobody knows any more which hardware address it has.
                    self.leave_dependent(Dependence::Hop(ask.addr));
                }
                self.ask(interface, ask, out);
            }
            Event::Failed(_, undelivered) => {
                for waiting in undelivered {
                    self.counters.drop(DropReason::NeighbourFailed);
                    self.report_undelivered(now, interface, waiting, out);
                }
            }
        }
    }

    /// Tells the sender of an edited datagram that its next hop does not answer. The error is made
    /// about the datagram as it would have left, and finds its way back like one that a router
    /// beyond had sent: through the translation of errors.
    fn report_undelivered(
        &mut self,
        now: Timestamp,
        interface: InterfaceId,
        mut waiting: Waiting,
        out: &mut impl Transmit,
    ) {
        let Ok(facts) = parse(&waiting.bytes) else {
            return;
        };
        let (Some(ip), Some(own)) = (facts.ip(), self.address_of(interface)) else {
            return;
        };
        let error = icmp::Error::HostUnreachable;
        if !icmp::may_be_answered(&facts) || !self.may_report(now, ip.src, error) {
            return;
        }
        let frame = Frame {
            bytes: &mut waiting.bytes,
            offload: waiting.offload,
        };
        let macs = (MacAddr::ZERO, MacAddr::ZERO);
        let Some(mut bytes) = build::icmp_error(&frame, &facts, error, own, macs) else {
            return;
        };
        self.counters.icmp_sent += 1;
        if let Err(reason) = self.return_error(now, interface, &mut bytes, out) {
            self.counters.drop(reason);
        }
    }

    fn return_error(
        &mut self,
        now: Timestamp,
        interface: InterfaceId,
        bytes: &mut [u8],
        out: &mut impl Transmit,
    ) -> Result<(), DropReason> {
        let mut frame = Frame::plain(bytes);
        let facts = parse(frame.bytes)?;
        self.nat.translate_error(now, &mut frame, &facts)?;
        let facts = parse(frame.bytes)?;
        let Some(ip) = facts.ip() else {
            return Err(DropReason::NotRouted);
        };
        let hop = self
            .route(interface, ip.dst)
            .map_err(|failure| failure.reason)?;
        let arrival = Arrival {
            interface,
            ingress: PortId(u32::MAX),
            fragment_to: u16::MAX,
        };
        self.carry(
            now,
            arrival,
            hop,
            Default::default(),
            None,
            &mut frame,
            &facts,
            out,
        )
        .map_err(|failure| failure.reason)
    }
}
