//! Packets between a container of network A and the server outside, on each side of the translation.

use pontoon_packet::L4;
use pontoon_packet::build::Packet;
use pontoon_packet::parse::tcp_flags::{ACK, SYN};
use pontoon_switch::PortId;

use crate::lab::{
    EXTERNAL, EXTERNAL_MAC, Lab, ROUTER_MAC, SERVER, Sent, UP, addr, gateway_mac, mac,
};

/// A packet from a container to the server outside, as the container sends it.
pub fn out(port: PortId) -> Packet {
    Packet::ethernet(mac(port), gateway_mac())
        .ipv4(addr(port), SERVER)
        .dont_fragment()
}

/// The same as it leaves, one hop older, under the uplink's address.
pub fn left() -> Packet {
    Packet::ethernet(EXTERNAL_MAC, ROUTER_MAC)
        .ipv4(EXTERNAL, SERVER)
        .dont_fragment()
        .ttl(63)
}

/// A packet from the server outside to the uplink.
pub fn back() -> Packet {
    Packet::ethernet(ROUTER_MAC, EXTERNAL_MAC)
        .ipv4(SERVER, EXTERNAL)
        .dont_fragment()
}

/// The same as a container gets it.
pub fn arrived(port: PortId) -> Packet {
    Packet::ethernet(gateway_mac(), mac(port))
        .ipv4(SERVER, addr(port))
        .dont_fragment()
        .ttl(63)
}

/// A container connects from `number` to the server's port 80. Its next sequence number is 101, the
/// server's is 501.
pub fn connect(lab: &mut Lab, port: PortId, number: u16) {
    lab.send(port, &out(port).tcp(number, 80, SYN, 100, 0).build());
    lab.send(UP, &back().tcp(80, number, SYN | ACK, 500, 101).build());
    lab.send(port, &out(port).tcp(number, 80, ACK, 101, 501).build());
}

/// Source port, or ICMP identifier, of the only frame that left.
pub fn source_port(sent: &[Sent]) -> u16 {
    let [only] = sent else {
        panic!("{sent:?} is not one frame")
    };
    match only.facts().ip().map(|ip| ip.l4) {
        Some(L4::Tcp(tcp)) => tcp.src_port,
        Some(L4::Udp(udp)) => udp.src_port,
        Some(L4::Icmp(icmp)) => icmp.id,
        _ => panic!("{only:?} has no source port"),
    }
}
