//! What a connection is known by.

use core::hash::Hasher;
use core::net::IpAddr;

use pontoon_packet::{Endpoint, Ip, L4, icmp};

/// Which way a packet of a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// As the first packet did.
    Original = 0,
    /// Against it.
    Reply = 1,
}

impl Direction {
    /// The other one.
    pub const fn inverted(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }
}

/// Both ends of a flow and its protocol, as seen in one direction.
///
/// The port of both ends of an ICMP query is its identifier, so that a reply is the inverse of its
/// request. Protocols without ports have port 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Where packets of this direction come from.
    pub src: Endpoint,
    /// Where they go.
    pub dst: Endpoint,
    /// IP protocol number.
    pub protocol: u8,
}

impl Tuple {
    /// The tuple of a datagram; `None` for fragments and for ICMP messages that are no queries.
    pub fn of(ip: &Ip) -> Option<Self> {
        let (src, dst) = match ip.l4 {
            L4::Tcp(tcp) => (tcp.src_port, tcp.dst_port),
            L4::Udp(udp) => (udp.src_port, udp.dst_port),
            L4::Icmp(header) => icmp::query(header.kind).map(|_| (header.id, header.id))?,
            L4::Other => (0, 0),
            L4::Fragment => return None,
        };
        Some(Self {
            src: Endpoint::new(ip.src, src),
            dst: Endpoint::new(ip.dst, dst),
            protocol: ip.protocol,
        })
    }

    /// The same flow seen from the other side.
    #[must_use]
    pub const fn inverted(self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            protocol: self.protocol,
        }
    }

    /// Feeds a keyed hash, in as few words as the family allows.
    pub(crate) fn feed(&self, hasher: &mut impl Hasher) {
        let ports = u64::from(self.src.port) << 32 | u64::from(self.dst.port) << 16;
        hasher.write_u64(ports | u64::from(self.protocol));
        feed_address(self.src.addr, hasher);
        feed_address(self.dst.addr, hasher);
    }
}

/// Feeds one address.
pub(crate) fn feed_address(addr: IpAddr, hasher: &mut impl Hasher) {
    match addr {
        IpAddr::V4(v4) => hasher.write_u32(v4.to_bits()),
        IpAddr::V6(v6) => hasher.write_u128(v6.to_bits()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pontoon_packet::build::Packet;
    use pontoon_packet::{MacAddr, parse};

    fn tuple(packet: Packet) -> Option<Tuple> {
        Tuple::of(parse(&packet.build()).unwrap().ip().unwrap())
    }

    fn packet() -> Packet {
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        Packet::ethernet(mac, mac).ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
    }

    #[test]
    fn echo_reply_is_the_inverse_of_its_request() {
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let back = Packet::ethernet(mac, mac).ipv4([10, 0, 0, 2].into(), [10, 0, 0, 1].into());
        let request = tuple(packet().echo(7, 1)).unwrap();
        let reply = tuple(back.echo_reply(7, 1)).unwrap();
        assert_eq!(reply, request.inverted());
    }

    #[test]
    fn fragments_and_errors_have_no_tuple() {
        assert_eq!(
            tuple(packet().udp(1, 2).fragment(8, true).payload(&[0; 8])),
            None
        );
        assert_eq!(tuple(packet().icmp(3, 3, [0; 4]).payload(&[0; 28])), None);
    }

    #[test]
    fn other_protocols_are_known_by_their_addresses() {
        let gre = tuple(packet().protocol(47).payload(&[0; 8])).unwrap();
        assert_eq!((gre.src.port, gre.dst.port, gre.protocol), (0, 0, 47));
    }
}
