//! Flows as the bytes that the rules compare and write.

use pontoon_packet::checksum::checksum;

use super::{Carriage, Numbers, Seen};

pub(super) const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];

impl Seen {
    /// As the rules put it together in registers of four bytes.
    pub(super) fn key(&self) -> Vec<u8> {
        let mut key = self.ingress.to_ne_bytes().to_vec();
        key.extend(self.dst_mac);
        key.extend(self.src_mac);
        key.extend(ETHERTYPE_IPV4);
        key.extend([0; 2]);
        match self.routed {
            None => key.extend([self.protocol, 0, 0, 0]),
            Some(numbers) => key.extend([numbers.ttl, self.protocol, 0, 0]),
        }
        key.extend(self.src.octets());
        key.extend(self.dst.octets());
        key.extend(
            self.routed
                .map_or(Vec::new(), |numbers| numbers.ports().to_vec()),
        );
        key
    }

    /// The flow of a key.
    pub(super) fn of(key: &[u8]) -> Option<Self> {
        let at = |offset: usize| key.get(offset).copied();
        let four = |offset: usize| <[u8; 4]>::try_from(key.get(offset..offset + 4)?).ok();
        let mac = |offset: usize| <[u8; 6]>::try_from(key.get(offset..offset + 6)?).ok();
        let routed = four(32).map(|[a, b, c, d]| Numbers {
            ttl: key[20],
            src_port: u16::from_be_bytes([a, b]),
            dst_port: u16::from_be_bytes([c, d]),
        });
        Some(Self {
            ingress: u32::from_ne_bytes(four(0)?),
            dst_mac: mac(4)?,
            src_mac: mac(10)?,
            protocol: at(if routed.is_some() { 21 } else { 20 })?,
            src: four(24)?.into(),
            dst: four(28)?.into(),
            routed,
        })
    }
}

impl Numbers {
    fn ports(self) -> [u8; 4] {
        let ([a, b], [c, d]) = (self.src_port.to_be_bytes(), self.dst_port.to_be_bytes());
        [a, b, c, d]
    }
}

impl Carriage {
    /// As the rules write it into frames of that protocol.
    pub(super) fn data(&self, protocol: u8) -> Vec<u8> {
        let Some(new) = self.rewritten else {
            return self.egress.to_ne_bytes().to_vec();
        };
        let mut data = new.dst_mac.to_vec();
        data.extend(new.src_mac);
        let head = [new.numbers.ttl, protocol];
        let ends = [new.src.octets(), new.dst.octets()].concat();
        data.extend(head);
        data.extend(checksum(&[&head[..], &ends].concat()).to_be_bytes());
        data.extend(ends);
        data.extend(new.numbers.ports());
        data.extend(self.egress.to_ne_bytes());
        data
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use pontoon_packet::parse::protocol::TCP;

    use super::super::Rewritten;
    use super::*;

    fn seen(routed: Option<Numbers>) -> Seen {
        Seen {
            ingress: 7,
            dst_mac: [2, 0, 0, 0, 0, 1],
            src_mac: [2, 0, 0, 0, 0, 2],
            protocol: TCP,
            src: Ipv4Addr::new(172, 17, 0, 2),
            dst: Ipv4Addr::new(192, 0, 2, 1),
            routed,
        }
    }

    #[test]
    fn a_flow_is_known_by_its_key() {
        let numbers = Numbers {
            ttl: 64,
            src_port: 40_000,
            dst_port: 80,
        };
        for (seen, length) in [(seen(None), 32), (seen(Some(numbers)), 36)] {
            assert_eq!(seen.key().len(), length);
            assert_eq!(Seen::of(&seen.key()), Some(seen));
        }
        assert_eq!(Seen::of(&[0; 31]), None);
    }

    #[test]
    fn data_are_as_long_as_the_map_says() {
        let numbers = Numbers {
            ttl: 63,
            src_port: 1,
            dst_port: 2,
        };
        let rewritten = Rewritten {
            dst_mac: [1; 6],
            src_mac: [2; 6],
            src: Ipv4Addr::LOCALHOST,
            dst: Ipv4Addr::BROADCAST,
            numbers,
        };
        let bridged = Carriage {
            egress: 9,
            rewritten: None,
        };
        let routed = Carriage {
            egress: 9,
            rewritten: Some(rewritten),
        };
        assert_eq!((bridged.data(TCP).len(), routed.data(TCP).len()), (4, 32));
    }

    /// The sum of what is written, to which that of the rest of the header comes.
    #[test]
    fn the_header_s_sum_is_that_of_what_is_written() {
        let rewritten = Rewritten {
            dst_mac: [1; 6],
            src_mac: [2; 6],
            src: Ipv4Addr::new(192, 0, 2, 1),
            dst: Ipv4Addr::new(198, 51, 100, 10),
            numbers: Numbers {
                ttl: 63,
                src_port: 1,
                dst_port: 2,
            },
        };
        let routed = Carriage {
            egress: 9,
            rewritten: Some(rewritten),
        };
        let data = routed.data(TCP);
        assert_eq!(data[12..14], [63, TCP]);
        assert_eq!(checksum(&data[12..24]), 0);
    }
}
