//! DHCP servers (RFC 2131, RFC 8415), by the ports they use.

use pontoon_packet::parse::protocol;
use pontoon_packet::{Ip, L4};

/// A DHCPv4 client's port.
pub(super) const CLIENT: u16 = 68;

/// Sends from a DHCP server's port, or to a DHCP client's, whose filters look at nothing else
/// (RFC 7610 §5); in one piece or in several, of which the first holds the ports.
pub(super) fn plays_server(frame: &[u8], ip: &Ip) -> bool {
    let (server, client) = if ip.src.is_ipv4() {
        (67, CLIENT)
    } else {
        (547, 546)
    };
    let ports = match ip.l4 {
        L4::Udp(udp) => Some((udp.src_port, udp.dst_port)),
        L4::Fragment if ip.protocol == protocol::UDP => first_ports(frame, ip),
        L4::Tcp(_) | L4::Icmp(_) | L4::Fragment | L4::Other => None,
    };
    ports.is_some_and(|(from, to)| from == server || to == client)
}

/// Source and destination port in the first fragment of a datagram.
fn first_ports(frame: &[u8], ip: &Ip) -> Option<(u16, u16)> {
    let is_first = ip.fragment.is_some_and(|part| part.offset == 0);
    let [a, b, c, d] = *frame[ip.l4_start()..ip.end()].first_chunk()?;
    is_first.then_some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}
