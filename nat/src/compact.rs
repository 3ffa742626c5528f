//! Both tuples of a connection, in little space.

use core::net::IpAddr;

use pontoon_packet::Endpoint;

use crate::{Direction, Tuple};

/// Both tuples of a connection. All four ends have one family and one protocol, which makes 74 bytes
/// of the 84 that two [`Tuple`]s take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tuples {
    /// By direction: where packets come from and where they go.
    ends: [[End; 2]; 2],
    protocol: u8,
    is_v4: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    /// An IPv4 address is the first four.
    addr: [u8; 16],
    port: u16,
}

impl End {
    fn of(end: Endpoint) -> Self {
        let mut addr = [0; 16];
        match end.addr {
            IpAddr::V4(v4) => addr[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => addr = v6.octets(),
        }
        let port = end.port;
        Self { addr, port }
    }

    fn endpoint(self, is_v4: bool) -> Endpoint {
        let [a, b, c, d, ..] = self.addr;
        let addr = if is_v4 {
            IpAddr::from([a, b, c, d])
        } else {
            IpAddr::from(self.addr)
        };
        Endpoint::new(addr, self.port)
    }
}

impl Tuples {
    /// `None` when the two are not of one family and protocol.
    pub(crate) fn new(original: &Tuple, reply: &Tuple) -> Option<Self> {
        let is_v4 = original.src.addr.is_ipv4();
        let alike = [original.dst, reply.src, reply.dst]
            .iter()
            .all(|end| end.addr.is_ipv4() == is_v4);
        (alike && original.protocol == reply.protocol).then(|| Self {
            ends: [original, reply].map(|tuple| [End::of(tuple.src), End::of(tuple.dst)]),
            protocol: original.protocol,
            is_v4,
        })
    }

    /// What packets of that direction look like.
    #[inline]
    pub(crate) fn of(&self, direction: Direction) -> Tuple {
        let [src, dst] = self.ends[direction as usize];
        Tuple {
            src: src.endpoint(self.is_v4),
            dst: dst.endpoint(self.is_v4),
            protocol: self.protocol,
        }
    }

    /// IP protocol number.
    pub(crate) const fn protocol(&self) -> u8 {
        self.protocol
    }

    /// Reads it, for no other reason than to have it near.
    pub(crate) const fn touch(&self) -> u16 {
        self.ends[0][0].port ^ self.ends[1][1].port
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(src: &str, dst: &str) -> Tuple {
        let src = Endpoint::new(src.parse().unwrap(), 1000);
        let dst = Endpoint::new(dst.parse().unwrap(), 53);
        let protocol = 17;
        Tuple { src, dst, protocol }
    }

    #[test]
    fn what_goes_in_comes_out() {
        for (inside, outside) in [
            ("10.0.0.2", "192.0.2.1"),
            ("fd00::2", "2001:db8::1"),
            ("::ffff:10.0.0.2", "::"),
        ] {
            let (original, reply) = (tuple(inside, outside), tuple(outside, inside));
            let both = Tuples::new(&original, &reply).unwrap();
            assert_eq!(both.of(Direction::Original), original);
            assert_eq!(both.of(Direction::Reply), reply);
        }
    }

    #[test]
    fn ends_of_two_families_or_protocols_are_no_connection() {
        let v4 = tuple("10.0.0.2", "192.0.2.1");
        let icmp = Tuple { protocol: 1, ..v4 };
        let mapped = tuple("10.0.0.2", "::ffff:192.0.2.1");
        assert_eq!(Tuples::new(&v4, &icmp), None);
        assert_eq!(Tuples::new(&v4, &mapped), None);
    }
}
