//! One frame of every kind that the datapath tells apart.

use core::net::Ipv6Addr;

use pontoon_engine::config::PortId;
use pontoon_packet::build::Packet;
use pontoon_packet::parse::tcp_flags::{ACK, PSH, SYN};
use pontoon_packet::{Arp, MacAddr, Offload, Segments, arp, parse::protocol};

use crate::lab::{
    C1, C2, EXTERNAL, EXTERNAL_MAC, GATEWAY, Lab, ROUTER, ROUTER_MAC, SERVER, UP, addr,
    gateway_mac, mac,
};

/// Who handles a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The switch, which looks no further than it must.
    Switched,
    /// The gateway: it routes, translates, or answers.
    Gateway,
}

/// A frame that the [`lab`] makes something of.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What it is.
    pub name: &'static str,
    /// The port it comes from.
    pub port: PortId,
    /// Who handles it.
    pub way: Way,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What comes beside them.
    pub offload: Offload,
}

const QUESTION: &[u8] = b"a question of some length";

/// A lab with two published ports, and with the flows, the neighbours and the half datagrams that
/// samples belong to.
pub fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.publish_tcp(8080, C2, 80);
    lab.publish(protocol::UDP, 5353, C2, 53);
    let [question, _] = halves(out(), 6000, 53);
    let [answer, _] = halves(back(), 53, 5000);
    let before = [
        (C1, out().udp(5000, 53)),
        (C1, out().echo(77, 1)),
        (C1, out().tcp(40_000, 80, SYN, 100, 0)),
        (UP, back().tcp(80, 40_000, SYN | ACK, 500, 101)),
        (C1, out().tcp(40_000, 80, ACK, 101, 501)),
        (UP, back().udp(1234, 5353)),
        (C1, question),
        (UP, answer),
    ];
    for (port, packet) in before {
        lab.send(port, &packet.build());
    }
    lab
}

/// Every kind of frame; those with a TCP or UDP checksum once more with the sum half done.
pub fn all() -> Vec<Sample> {
    let mut samples = Vec::new();
    for (name, port, way, packet) in switched().into_iter().chain(inside()).chain(outside()) {
        let sample = |(bytes, offload)| Sample {
            name,
            port,
            way,
            bytes,
            offload,
        };
        samples.push(sample((packet.build(), Offload::NONE)));
        let (bytes, offload) = packet.half_done();
        if offload.is_partial() {
            samples.push(sample((bytes, offload)));
        }
    }
    samples.extend(super_frames());
    samples.extend(resolution());
    samples
}

type Kind = (&'static str, PortId, Way, Packet);

fn switched() -> Vec<Kind> {
    let link = || Packet::ethernet(mac(C1), mac(C2));
    let ip = || link().ipv4(addr(C1), addr(C2));
    let ipv6 = || link().ipv6(link_local(mac(C1)), link_local(mac(C2)));
    let tcp = |packet: Packet| packet.tcp(40_000, 80, ACK | PSH, 1, 2).payload(QUESTION);
    let udp = |packet: Packet| packet.udp(5000, 53).payload(QUESTION);
    let [first, last] = halves(ip(), 1, 2);
    let hop_by_hop = [17, 0, 1, 4, 0, 0, 0, 0, 0x13, 0x88, 0, 53, 0, 8, 0, 0];
    [
        ("UDP", udp(ip())),
        ("UDP, padded", udp(ip()).pad_to(90)),
        ("TCP", tcp(ip())),
        ("TCP with options", tcp(ip()).tcp_options(&[2, 4, 5, 180])),
        ("IPv4 with options", udp(ip().options(&[148, 4, 0, 0]))),
        ("echo", ip().echo(7, 1).payload(QUESTION)),
        ("GRE", ip().protocol(47).payload(QUESTION)),
        ("first fragment", first),
        ("last fragment", last),
        ("VLAN", udp(ip()).vlan(7)),
        ("QinQ", udp(ip()).tag(0x88a8, 3).vlan(7)),
        ("IPv6 UDP", udp(ipv6())),
        ("IPv6 TCP", tcp(ipv6())),
        ("IPv6 extension", ipv6().protocol(0).payload(&hop_by_hop)),
        ("unknown EtherType", link().payload(QUESTION)),
    ]
    .map(|(name, packet)| (name, C1, Way::Switched, packet))
    .into()
}

/// The address that a host makes of its hardware address (modified EUI-64, RFC 4291).
fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0.map(u16::from);
    let words = [(a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f];
    Ipv6Addr::new(0xfe80, 0, 0, 0, words[0], words[1], words[2], words[3])
}

fn inside() -> Vec<Kind> {
    let here = || Packet::ethernet(mac(C1), gateway_mac()).ipv4(addr(C1), GATEWAY);
    let [_, last] = halves(out(), 6000, 53);
    let server = Packet::ethernet(mac(C2), gateway_mac()).ipv4(addr(C2), SERVER);
    let published = Packet::ethernet(MacAddr::ZERO, MacAddr::ZERO)
        .ipv4(SERVER, addr(C2))
        .udp(1234, 53);
    let refusal = server.icmp(3, 3, [0; 4]).payload(&published.build()[14..]);
    let mut kinds = vec![("refusal of a container", C2, Way::Gateway, refusal)];
    let own = [
        ("new UDP flow", out().udp(5001, 53).payload(QUESTION)),
        ("known UDP flow", out().udp(5000, 53).payload(QUESTION)),
        ("new TCP flow", out().tcp(40_001, 80, SYN, 1, 0)),
        ("known TCP flow", data(out().tcp(40_000, 80, ACK, 101, 501))),
        ("echo to the outside", out().echo(78, 1).payload(QUESTION)),
        ("GRE to the outside", out().protocol(47).payload(QUESTION)),
        ("last fragment to the outside", last),
        ("echo to the gateway", here().echo(7, 1).payload(QUESTION)),
        ("closed port", here().udp(5000, 99).payload(QUESTION)),
        ("too old", out().ttl(1).udp(5000, 53).payload(QUESTION)),
        ("padded", out().udp(5001, 53).payload(b"x").pad_to(60)),
    ];
    kinds.extend(own.map(|(name, packet)| (name, C1, Way::Gateway, packet)));
    kinds
}

fn outside() -> Vec<Kind> {
    let left = Packet::ethernet(MacAddr::ZERO, MacAddr::ZERO)
        .ipv4(EXTERNAL, SERVER)
        .udp(5000, 53);
    let [_, last] = halves(back(), 53, 5000);
    let router = Packet::ethernet(ROUTER_MAC, EXTERNAL_MAC).ipv4(ROUTER, EXTERNAL);
    let error = router.icmp(3, 4, [0, 0, 5, 0]).payload(&left.build()[14..]);
    [
        ("UDP reply", back().udp(53, 5000).payload(QUESTION)),
        ("TCP reply", data(back().tcp(80, 40_000, ACK, 501, 101))),
        ("echo reply", back().echo_reply(77, 1).payload(QUESTION)),
        ("SYN to a published port", back().tcp(9, 8080, SYN, 1, 0)),
        ("to a published port", back().udp(9, 5353).payload(QUESTION)),
        ("last fragment of a reply", last),
        ("error of a router", error),
    ]
    .map(|(name, packet)| (name, UP, Way::Gateway, packet))
    .into()
}

/// Frames that stand for three TCP segments of 200 bytes each.
fn super_frames() -> [Sample; 2] {
    let bridged = Packet::ethernet(mac(C1), mac(C2)).ipv4(addr(C1), addr(C2));
    let sample = |name, way, packet: Packet| {
        let packet = packet.tcp(40_000, 80, ACK, 101, 501).payload(&[0xa5; 600]);
        let (bytes, offload) = packet.half_done();
        Sample {
            name,
            port: C1,
            way,
            bytes,
            offload: offload.with_segments(Segments::Tcp4, 54, 200),
        }
    };
    [
        sample("super-frame", Way::Switched, bridged),
        sample("super-frame to the outside", Way::Gateway, out()),
    ]
}

fn resolution() -> [Sample; 2] {
    let packet = |operation, target_mac, target_ip| Arp {
        operation,
        sender_mac: mac(C1),
        sender_ip: addr(C1),
        target_mac,
        target_ip,
    };
    let request = packet(arp::REQUEST, MacAddr::ZERO, GATEWAY);
    let reply = packet(arp::REPLY, mac(C2), addr(C2));
    let sample = |name, way, dst, packet| Sample {
        name,
        port: C1,
        way,
        bytes: arp::frame(dst, packet).to_vec(),
        offload: Offload::NONE,
    };
    [
        sample("ARP request", Way::Gateway, gateway_mac(), &request),
        sample("ARP reply", Way::Switched, mac(C2), &reply),
    ]
}

/// From container 1 to the server outside.
fn out() -> Packet {
    Packet::ethernet(mac(C1), gateway_mac()).ipv4(addr(C1), SERVER)
}

/// From the server outside to the uplink.
fn back() -> Packet {
    Packet::ethernet(ROUTER_MAC, EXTERNAL_MAC).ipv4(SERVER, EXTERNAL)
}

fn data(packet: Packet) -> Packet {
    packet.payload(QUESTION)
}

/// A UDP datagram in two fragments.
fn halves(packet: Packet, src: u16, dst: u16) -> [Packet; 2] {
    let whole = packet.clone().udp(src, dst).payload(&EARLIER).build();
    let (first, last) = whole[IP_PAYLOAD..].split_at(CUT);
    let piece = |offset, more, bytes: &[u8]| {
        let packet = packet.clone().id(9).fragment(offset, more);
        packet.protocol(protocol::UDP).payload(bytes)
    };
    [piece(0, true, first), piece(CUT as u16, false, last)]
}

/// What datagrams in two fragments carry, of which the [`lab`] has seen the first half.
pub const EARLIER: [u8; 128] = [0x5a; 128];

/// Where the payload of an IPv4 datagram without options begins in a frame.
const IP_PAYLOAD: usize = 34;
/// Where a datagram in two fragments is cut.
const CUT: usize = 72;
