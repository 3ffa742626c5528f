//! The one place that chains the stages.
//!
//! A frame enters [`Datapath::process`] with the port it came from and leaves through a
//! [`Transmit`], as it is (bridged), edited in place (routed), or not at all. Frames from uplinks
//! enter the same function by their own port. Read this file to follow a frame; each stage it calls
//! returns a value and calls no other stage.

use ahash::RandomState;
use hashbrown::HashMap;
use pontoon_nat::{ConnId, Limits, Nat, Profile, Reassembler};
use pontoon_packet::{Facts, Frame, Ip, L3, MacAddr, Offload, Timestamp, arp, parse};
use pontoon_switch::{Forward, Guard, Switch};

use crate::carried::{Carrying, Reach};
use crate::config::{AddressOwner, NetworkConfig, NetworkId, PortConfig, PortId};
use crate::config::{UplinkConfig, UplinkId};
use crate::counters::Counters;
use crate::drop::DropReason;
use crate::flow_cache::FlowCache;
use crate::neighbour::{Learn, Neighbours};
use crate::rate::IcmpLimiter;
use crate::route::{InterfaceId, Routes};
use crate::view::PortCounters;

/// Where frames go. The shell implements it; tests collect.
pub trait Transmit {
    /// Sends the frame under way, as it stands, out of `port`. May be called for several ports; the
    /// frame is not edited after the first call.
    fn forward(&mut self, port: PortId, frame: &Frame<'_>);

    /// Sends a frame that the engine made, out of `port`. The bytes are copied before it returns.
    fn emit(&mut self, port: PortId, bytes: &[u8], offload: Offload);

    /// Hands the frame under way, as it came, to the host's own sockets: a datagram of the connection
    /// `id`, from the container behind `from`.
    fn deliver(&mut self, id: ConnId, from: PortId, frame: &Frame<'_>, facts: &Facts);
}

/// Secrets drawn by the shell when the engine starts: they key every hash table and blur every
/// choice that an outsider must not predict.
#[derive(Clone, Copy, Debug)]
pub struct Seeds(pub [u64; 4]);

impl Seeds {
    pub(crate) fn hasher(self) -> RandomState {
        let [a, b, c, d] = self.0;
        RandomState::with_seeds(a, b, c, d)
    }
}

pub(crate) struct Network {
    pub(crate) config: NetworkConfig,
    pub(crate) switch: Switch,
    pub(crate) neighbours: Neighbours,
    /// The host's own port, which holds the gateway's address.
    pub(crate) host_port: Option<PortId>,
}

pub(crate) struct Uplink {
    pub(crate) config: UplinkConfig,
    pub(crate) neighbours: Neighbours,
    pub(crate) routes: Routes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Member(NetworkId),
    Uplink(UplinkId),
    User,
}

pub(crate) struct Port {
    pub(crate) role: Role,
    /// Bindings of a member; `None` for an uplink.
    pub(crate) config: Option<PortConfig>,
    pub(crate) guard: Option<Guard>,
    pub(crate) mtu: u16,
    pub(crate) counters: PortCounters,
    pub(crate) reach: Reach,
}

/// Everything between the ports: bridges, gateways, routes, connections.
pub struct Datapath {
    pub(crate) seeds: Seeds,
    pub(crate) networks: HashMap<NetworkId, Network, RandomState>,
    pub(crate) uplinks: HashMap<UplinkId, Uplink, RandomState>,
    /// Indexed by port number.
    pub(crate) ports: Vec<Option<Port>>,
    pub(crate) connected: Routes,
    /// The port by which the host's own sockets are reached.
    pub(crate) user_port: Option<PortId>,
    pub(crate) nat: Nat,
    pub(crate) reassembler: Reassembler,
    pub(crate) icmp_limiter: IcmpLimiter,
    pub(crate) cache: FlowCache,
    pub(crate) carrying: Option<Carrying>,
    pub(crate) counters: Counters,
    pub(crate) next_ipv4_id: u16,
}

impl Datapath {
    /// A datapath without networks.
    pub fn new(seeds: Seeds, profile: Profile, limits: Limits) -> Self {
        Self {
            seeds,
            networks: HashMap::with_hasher(seeds.hasher()),
            uplinks: HashMap::with_hasher(seeds.hasher()),
            ports: Vec::new(),
            connected: Routes::new(seeds.hasher()),
            user_port: None,
            nat: Nat::new(profile, limits, seeds.0),
            reassembler: Reassembler::new(limits, seeds.0),
            icmp_limiter: IcmpLimiter::new(seeds.hasher(), seeds.0[0]),
            cache: FlowCache::new(seeds.hasher()),
            carrying: None,
            counters: Counters::new(seeds.hasher()),
            next_ipv4_id: seeds.0[1] as u16,
        }
    }

    /// Takes one frame from `ingress` through every stage.
    pub fn process(
        &mut self,
        now: Timestamp,
        ingress: PortId,
        frame: &mut Frame<'_>,
        out: &mut impl Transmit,
    ) {
        let verdict = match self.receive(ingress, frame) {
            Ok((role, facts)) => self.dispatch(now, role, ingress, frame, &facts, out),
            Err(reason) => Err(reason),
        };
        if let Err(reason) = verdict {
            self.count_drop(ingress, reason);
        }
    }

    fn receive(&mut self, ingress: PortId, frame: &Frame<'_>) -> Result<(Role, Facts), DropReason> {
        let port = self.port_mut(ingress).ok_or(DropReason::UnknownPort)?;
        port.counters.rx_frames += 1;
        port.counters.rx_bytes += frame.bytes.len() as u64;
        if stands_for_too_many(frame) {
            return Err(DropReason::TooManySegments);
        }
        let facts = parse(frame.bytes)?;
        if has_misplaced_checksum(frame, &facts) {
            return Err(DropReason::MisplacedChecksum);
        }
        if let Some(guard) = &port.guard {
            guard.check(frame.bytes, &facts)?;
        }
        Ok((port.role, facts))
    }

    fn dispatch(
        &mut self,
        now: Timestamp,
        role: Role,
        ingress: PortId,
        frame: &mut Frame<'_>,
        facts: &Facts,
        out: &mut impl Transmit,
    ) -> Result<(), DropReason> {
        match role {
            Role::Member(id) => self.bridge(now, id, ingress, frame, facts, out),
            Role::Uplink(id) => {
                let uplink = self.uplinks.get(&id).ok_or(DropReason::UnknownPort)?;
                let ours = facts.dst_mac == uplink.config.mac || facts.dst_mac.is_group();
                if !ours || facts.vlan.is_some() || !facts.src_mac.is_valid_source() {
                    return Err(DropReason::NotForUs);
                }
                self.local(now, InterfaceId::Uplink(id), ingress, frame, facts, out)
            }
            Role::User => self.local(now, InterfaceId::User, ingress, frame, facts, out),
        }
    }

    fn bridge(
        &mut self,
        now: Timestamp,
        id: NetworkId,
        ingress: PortId,
        frame: &mut Frame<'_>,
        facts: &Facts,
        out: &mut impl Transmit,
    ) -> Result<(), DropReason> {
        let network = self.networks.get_mut(&id).ok_or(DropReason::UnknownPort)?;
        let interface = InterfaceId::Network(id);
        let forward = network.switch.forward(now, ingress, facts);
        if let Some(places) = network.switch.changed() {
            self.lose_places(&places);
        }
        match forward {
            Forward::Unicast(port) => {
                self.send(port, frame, out)?;
                if self.is_looked_at() {
                    self.look_at_bridged(now, ingress, port, facts);
                }
                Ok(())
            }
            Forward::Flood => {
                self.flood(id, ingress, frame, out);
                Ok(())
            }
            Forward::Local => self.local(now, interface, ingress, frame, facts, out),
            Forward::LocalAndFlood => {
                // Only ARP is both: everything else that is sent to a group ends at the bridge.
                if let L3::Arp(request) = facts.l3 {
                    self.arp(now, interface, ingress, facts, &request, out);
                }
                self.flood(id, ingress, frame, out);
                Ok(())
            }
            Forward::Drop(reason) => Err(reason.into()),
        }
    }

    /// What is addressed to the engine itself, on a network's gateway or an uplink.
    fn local(
        &mut self,
        now: Timestamp,
        interface: InterfaceId,
        ingress: PortId,
        frame: &mut Frame<'_>,
        facts: &Facts,
        out: &mut impl Transmit,
    ) -> Result<(), DropReason> {
        match facts.l3 {
            L3::Arp(packet) => {
                self.arp(now, interface, ingress, facts, &packet, out);
                self.pass_to_host(interface, ingress, frame, out)
            }
            L3::Ip(ip) if ip.src.is_ipv4() => {
                self.datagram(now, interface, ingress, frame, facts, out)
            }
            L3::Ip(_) | L3::Other => Err(DropReason::NotRouted),
        }
    }

    /// Answers requests for the interface's own address and learns from everything else.
    fn arp(
        &mut self,
        now: Timestamp,
        interface: InterfaceId,
        ingress: PortId,
        facts: &Facts,
        packet: &pontoon_packet::Arp,
        out: &mut impl Transmit,
    ) {
        if !matches!(packet.operation, arp::REQUEST | arp::REPLY) {
            return;
        }
        let Some((mac, owner)) = self.answers_for(interface, packet.target_ip.into()) else {
            self.hear(now, interface, packet, Learn::Known, out);
            return;
        };
        let sane = packet.sender_mac.is_valid_source() && facts.src_mac == packet.sender_mac;
        if !sane {
            return;
        }
        let asks = packet.operation == arp::REQUEST;
        if asks && owner == AddressOwner::Engine {
            self.counters.arp_answered += 1;
            let reply = packet.answered_by(mac);
            self.emit(
                ingress,
                &arp::frame(packet.sender_mac, &reply),
                Offload::NONE,
                out,
            );
        }
        if !packet.sender_ip.is_unspecified() {
            // An answer that nobody asked for makes nobody known (RFC 826).
            let learn = if asks { Learn::Asker } else { Learn::Known };
            self.hear(now, interface, packet, learn, out);
        }
    }

    fn hear(
        &mut self,
        now: Timestamp,
        interface: InterfaceId,
        packet: &pontoon_packet::Arp,
        learn: Learn,
        out: &mut impl Transmit,
    ) {
        let addr = packet.sender_ip.into();
        if !packet.sender_mac.is_valid_source() || !self.is_on_link(interface, addr) {
            return;
        }
        let Some(neighbours) = self.neighbours_mut(interface) else {
            return;
        };
        let before = neighbours.mac_of(addr);
        let released = neighbours.confirm(now, addr, packet.sender_mac, learn);
        if before.is_some() && neighbours.mac_of(addr) != before {
            self.lose_hop(addr);
        }
        for waiting in released {
            self.release(now, interface, packet.sender_mac, waiting, out);
        }
    }

    /// What is for the gateway's address goes to the host when the host holds that address.
    pub(crate) fn pass_to_host(
        &mut self,
        interface: InterfaceId,
        ingress: PortId,
        frame: &Frame<'_>,
        out: &mut impl Transmit,
    ) -> Result<(), DropReason> {
        match self.host_port(interface) {
            Some(port) if port != ingress => self.send(port, frame, out),
            _ => Ok(()),
        }
    }

    fn flood(
        &mut self,
        id: NetworkId,
        ingress: PortId,
        frame: &Frame<'_>,
        out: &mut impl Transmit,
    ) {
        let Self {
            networks,
            ports,
            counters,
            ..
        } = self;
        let Some(network) = networks.get(&id) else {
            return;
        };
        for egress in network.switch.flood_ports(ingress) {
            if let Some(port) = ports.get_mut(egress.0 as usize).and_then(Option::as_mut) {
                match port.admit(frame) {
                    Ok(()) => out.forward(egress, frame),
                    Err(reason) => counters.drop(reason),
                }
            }
        }
    }

    /// Sends the frame under way out of one port.
    pub(crate) fn send(
        &mut self,
        egress: PortId,
        frame: &Frame<'_>,
        out: &mut impl Transmit,
    ) -> Result<(), DropReason> {
        self.port_mut(egress)
            .ok_or(DropReason::UnknownPort)?
            .admit(frame)?;
        out.forward(egress, frame);
        Ok(())
    }

    /// Sends a frame that the engine made out of one port.
    pub(crate) fn emit(
        &mut self,
        egress: PortId,
        bytes: &[u8],
        offload: Offload,
        out: &mut impl Transmit,
    ) {
        if let Some(port) = self.port_mut(egress) {
            port.counters.tx_frames += 1;
            port.counters.tx_bytes += bytes.len() as u64;
            out.emit(egress, bytes, offload);
        }
    }

    pub(crate) fn count_drop(&mut self, ingress: PortId, reason: DropReason) {
        self.counters.drop(reason);
        if let Some(port) = self.port_mut(ingress) {
            port.counters.dropped += 1;
        }
    }

    pub(crate) fn port_mut(&mut self, id: PortId) -> Option<&mut Port> {
        self.ports.get_mut(id.0 as usize)?.as_mut()
    }
}

/// Most segments that a super-frame may stand for: 64 KiB at the smallest segment that Linux sends
/// (`TCP_MIN_SND_MSS`, 48 bytes) are 1 366. More would make one frame cost its receiver thousands.
const MAX_SEGMENTS: usize = 2048;

fn stands_for_too_many(frame: &Frame<'_>) -> bool {
    let size = usize::from(frame.offload.gso_size);
    frame.offload.is_super_frame() && frame.bytes.len() > size * MAX_SEGMENTS
}

/// Linux completes a half-done checksum wherever its sender said that it lies.
fn has_misplaced_checksum(frame: &Frame<'_>, facts: &Facts) -> bool {
    let transport = facts.ip().map_or(facts.l3_start, Ip::l4_start);
    frame.offload.is_partial() && usize::from(frame.offload.csum_start) < transport
}

/// Bytes of Ethernet header in front of the IP datagram that an MTU counts.
const ETHERNET_HEADER: usize = 14;
/// Bytes of one VLAN tag, which an MTU does not count (Linux `is_skb_forwardable`).
const VLAN_HEADER: usize = 4;

impl Port {
    /// Counts the frame as sent, unless the port cannot take one of its length.
    fn admit(&mut self, frame: &Frame<'_>) -> Result<(), DropReason> {
        let tagged = matches!(frame.bytes.get(12..14), Some([0x81, 0x00] | [0x88, 0xa8]));
        let header = ETHERNET_HEADER + if tagged { VLAN_HEADER } else { 0 };
        let longest = usize::from(self.mtu) + header;
        if frame.bytes.len() > longest && !frame.offload.is_super_frame() {
            return Err(DropReason::TooLong);
        }
        self.counters.tx_frames += 1;
        self.counters.tx_bytes += frame.bytes.len() as u64;
        Ok(())
    }
}

impl Datapath {
    /// The hardware address to answer with when `addr` is the interface's own.
    fn answers_for(
        &self,
        interface: InterfaceId,
        addr: core::net::IpAddr,
    ) -> Option<(MacAddr, AddressOwner)> {
        match interface {
            InterfaceId::Network(id) => {
                let config = &self.networks.get(&id)?.config;
                let ours = config.gateway == addr || config.host_loopback == Some(addr);
                ours.then_some((config.gateway_mac, AddressOwner::Engine))
            }
            InterfaceId::Uplink(id) => {
                let config = &self.uplinks.get(&id)?.config;
                let ours = config.addresses.iter().any(|net| net.addr() == addr);
                ours.then_some((config.mac, config.address_owner))
            }
            InterfaceId::User => None,
        }
    }
}
