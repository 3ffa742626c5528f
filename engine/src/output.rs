//! The way out: next hop, hardware addresses, and pieces that fit.

use core::net::{IpAddr, Ipv4Addr};

use pontoon_nat::{ConnId, Direction};
use pontoon_packet::rewrite::{self, Translation};
use pontoon_packet::{
    Arp, Facts, Frame, Ip, L4, MacAddr, Offload, Segments, Timestamp, arp, fragment, parse,
};

use crate::config::PortId;
use crate::datapath::{Datapath, Transmit};
use crate::drop::DropReason;
use crate::flow_cache::Way;
use crate::neighbour::{Ask, Resolution, Waiting};
use crate::route::InterfaceId;
use crate::router::{Arrival, Failure, fits};

/// Where a datagram leaves, and to whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hop {
    pub(crate) interface: InterfaceId,
    pub(crate) next: IpAddr,
}

/// Where a frame leaves a network for a hardware address.
enum Egress {
    Port(PortId),
    /// Nobody has been heard with that address: everybody gets it.
    Flood,
}

impl Datapath {
    /// Edits a checked datagram and sends it to its next hop, or lets it wait for the next hop's
    /// hardware address.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a different fact about one datagram"
    )]
    pub(crate) fn carry(
        &mut self,
        now: Timestamp,
        arrival: Arrival,
        hop: Hop,
        translation: Translation,
        flow: Option<(ConnId, Direction)>,
        frame: &mut Frame<'_>,
        facts: &Facts,
        out: &mut impl Transmit,
    ) -> Result<(), Failure> {
        if hop.interface == InterfaceId::User {
            return self.hand_over(arrival, flow, frame, facts, out);
        }
        let fragment_to = self.mtu_of(hop.interface).min(arrival.fragment_to);
        let neighbours = self
            .neighbours_mut(hop.interface)
            .ok_or(DropReason::NoRoute)?;
        let resolution = neighbours.resolve(now, hop.next);
        if resolution == Resolution::Full {
            return Err(DropReason::NeighbourQueueFull.into());
        }
        self.edit(translation, frame, facts);
        match resolution {
            Resolution::Known(mac, valid_until) => {
                let way = self.transmit(hop.interface, mac, fragment_to, frame, out)?;
                if let (Some((id, direction)), Some(way)) = (flow, way)
                    && arrival.fragment_to == u16::MAX
                {
                    let ingress = arrival.ingress;
                    self.cache
                        .insert(id, direction, ingress, hop.next, way, valid_until);
                }
                Ok(())
            }
            Resolution::Wait | Resolution::Full => {
                let waiting = Waiting {
                    bytes: frame.bytes.to_vec(),
                    offload: frame.offload,
                    fragment_to,
                };
                Ok(self.wait(now, hop, waiting, out)?)
            }
        }
    }

    /// Gives a datagram of a flow to the host's own sockets, as it came.
    fn hand_over(
        &mut self,
        arrival: Arrival,
        flow: Option<(ConnId, Direction)>,
        frame: &Frame<'_>,
        facts: &Facts,
        out: &mut impl Transmit,
    ) -> Result<(), Failure> {
        let (Some((id, direction)), Some(port)) = (flow, self.user_port) else {
            return Err(DropReason::NotRouted.into());
        };
        let way = Way {
            port,
            dst_mac: MacAddr::ZERO,
            src_mac: MacAddr::ZERO,
            mtu: u16::MAX,
        };
        if arrival.fragment_to == u16::MAX {
            let sockets = Ipv4Addr::UNSPECIFIED.into();
            let always = Timestamp::from_nanos(u64::MAX);
            self.cache
                .insert(id, direction, arrival.ingress, sockets, way, always);
        }
        self.deliver(port, id, arrival.ingress, frame, facts, out);
        Ok(())
    }

    fn deliver(
        &mut self,
        port: PortId,
        id: ConnId,
        from: PortId,
        frame: &Frame<'_>,
        facts: &Facts,
        out: &mut impl Transmit,
    ) {
        if let Some(port) = self.port_mut(port) {
            port.counters.tx_frames += 1;
            port.counters.tx_bytes += frame.bytes.len() as u64;
        }
        out.deliver(id, from, frame, facts);
    }

    /// Edits and sends a datagram of an established flow along its compiled way.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a different fact about one datagram"
    )]
    pub(crate) fn follow(
        &mut self,
        way: Way,
        id: ConnId,
        ingress: PortId,
        translation: Translation,
        frame: &mut Frame<'_>,
        facts: &Facts,
        out: &mut impl Transmit,
    ) -> Result<(), DropReason> {
        if self.user_port == Some(way.port) {
            self.deliver(way.port, id, ingress, frame, facts, out);
            return Ok(());
        }
        self.edit(translation, frame, facts);
        rewrite::set_macs(frame, way.dst_mac, way.src_mac);
        self.send(way.port, frame, out)
    }

    /// New ends, one hop less to live, and an identification that no other container uses towards
    /// the same destination at the same time (RFC 6864 §5.3.1).
    fn edit(&mut self, translation: Translation, frame: &mut Frame<'_>, facts: &Facts) {
        let Some(ip) = facts.ip() else { return };
        if translation.src.is_some() || translation.dst.is_some() {
            rewrite::translate(frame, facts, translation);
        }
        rewrite::decrement_ttl(frame, ip);
        if translation.src.is_some() && !ip.dont_fragment {
            rewrite::set_ipv4_id(frame, ip, self.next_ipv4_id);
            let segments = frame.bytes.len() / usize::from(frame.offload.gso_size.max(536)) + 1;
            self.next_ipv4_id = self.next_ipv4_id.wrapping_add(segments as u16);
        }
    }

    /// Sends an edited datagram to a hardware address. Gives back the way it took, if later ones
    /// may take the same.
    pub(crate) fn transmit(
        &mut self,
        interface: InterfaceId,
        dst_mac: MacAddr,
        fragment_to: u16,
        frame: &mut Frame<'_>,
        out: &mut impl Transmit,
    ) -> Result<Option<Way>, DropReason> {
        let src_mac = self.mac_of(interface).ok_or(DropReason::NoRoute)?;
        rewrite::set_macs(frame, dst_mac, src_mac);
        let port = match self.egress(interface, dst_mac) {
            Some(Egress::Port(port)) => port,
            Some(Egress::Flood) => {
                self.flood_from_gateway(interface, frame, out);
                return Ok(None);
            }
            None => return Err(DropReason::NoRoute),
        };
        let facts = parse(frame.bytes)?;
        let Some(ip) = facts.ip() else {
            return Err(DropReason::NotRouted);
        };
        if fits(frame, ip, fragment_to) {
            self.send(port, frame, out)?;
        } else if frame.offload.segments() == Some(Segments::Tcp4) {
            shrink_segments(frame, ip, fragment_to);
            self.send(port, frame, out)?;
        } else {
            self.send_fragments(port, fragment_to, frame, &facts, out);
            return Ok(None);
        }
        let mtu = self.mtu_of(interface);
        Ok(Some(Way {
            port,
            dst_mac,
            src_mac,
            mtu,
        }))
    }

    fn send_fragments(
        &mut self,
        port: PortId,
        fragment_to: u16,
        frame: &mut Frame<'_>,
        facts: &Facts,
        out: &mut impl Transmit,
    ) {
        fragment::fragments(frame, facts, fragment_to, |piece| {
            self.counters.fragments_sent += 1;
            self.emit(port, piece, Offload::NONE, out);
        });
    }

    fn wait(
        &mut self,
        now: Timestamp,
        hop: Hop,
        waiting: Waiting,
        out: &mut impl Transmit,
    ) -> Result<(), DropReason> {
        let neighbours = self
            .neighbours_mut(hop.interface)
            .ok_or(DropReason::NoRoute)?;
        let (queued, ask) = neighbours.enqueue(now, hop.next, waiting);
        if let Some(ask) = ask {
            self.ask(hop.interface, ask, out);
        }
        queued.ok_or(DropReason::NeighbourQueueFull)
    }

    /// Sends what waited for an answer that has come.
    pub(crate) fn release(
        &mut self,
        _now: Timestamp,
        interface: InterfaceId,
        mac: MacAddr,
        mut waiting: Waiting,
        out: &mut impl Transmit,
    ) {
        let mut frame = Frame {
            bytes: &mut waiting.bytes,
            offload: waiting.offload,
        };
        if let Err(reason) = self.transmit(interface, mac, waiting.fragment_to, &mut frame, out) {
            self.counters.drop(reason);
        }
    }

    /// Sends an ARP request for a neighbour.
    pub(crate) fn ask(&mut self, interface: InterfaceId, ask: Ask, out: &mut impl Transmit) {
        let (Some(sender_mac), Some(IpAddr::V4(sender_ip)), IpAddr::V4(target_ip)) =
            (self.mac_of(interface), self.address_of(interface), ask.addr)
        else {
            return;
        };
        let request = Arp {
            operation: arp::REQUEST,
            sender_mac,
            sender_ip,
            target_mac: MacAddr::ZERO,
            target_ip,
        };
        self.counters.arp_asked += 1;
        let mut bytes = arp::frame(ask.to, &request);
        match self.egress(interface, ask.to) {
            Some(Egress::Port(port)) => self.emit(port, &bytes, Offload::NONE, out),
            Some(Egress::Flood) => {
                self.flood_from_gateway(interface, &Frame::plain(&mut bytes), out);
            }
            None => {}
        }
    }

    fn egress(&self, interface: InterfaceId, mac: MacAddr) -> Option<Egress> {
        match interface {
            InterfaceId::User => None,
            InterfaceId::Uplink(id) => Some(Egress::Port(self.uplinks.get(&id)?.config.port)),
            InterfaceId::Network(id) => {
                let network = self.networks.get(&id)?;
                if network.host_port.is_some() && mac == network.config.gateway_mac {
                    return network.host_port.map(Egress::Port);
                }
                Some(
                    network
                        .switch
                        .lookup(mac)
                        .map_or(Egress::Flood, Egress::Port),
                )
            }
        }
    }

    fn flood_from_gateway(
        &mut self,
        interface: InterfaceId,
        frame: &Frame<'_>,
        out: &mut impl Transmit,
    ) {
        let InterfaceId::Network(id) = interface else {
            return;
        };
        let Some(network) = self.networks.get(&id) else {
            return;
        };
        // A copy of the list: flooding is the rare way out of a gateway, and sending needs `self`.
        let ports: Vec<PortId> = network.switch.all_ports().collect();
        for port in ports {
            self.emit(port, frame.bytes, frame.offload, out);
        }
    }
}

/// Makes the segments of a TCP super-frame small enough; what a sender would have done had it known
/// the MTU.
fn shrink_segments(frame: &mut Frame<'_>, ip: &Ip, mtu: u16) {
    if let L4::Tcp(header) = ip.l4 {
        let headers = ip.header_len + u16::from(header.header_len);
        frame.offload.gso_size = mtu.saturating_sub(headers).max(8);
    }
}
