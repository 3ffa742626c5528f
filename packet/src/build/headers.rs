//! Network and transport headers as bytes.

use core::net::IpAddr;

use crate::checksum::{checksum, fold, pseudo_header, sum};
use crate::parse::protocol;

/// Bytes of an IPv4 header without options.
pub(super) const IPV4_HEADER: usize = 20;
/// Time to live of what the engine sends itself; Linux `ip_default_ttl`.
const DEFAULT_TTL: u8 = 64;

/// An IP header to be written.
#[derive(Clone, Debug)]
pub(super) struct Network {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) ttl: u8,
    pub(super) tos: u8,
    pub(super) id: u16,
    /// Flags and fragment offset as they stand in the header.
    pub(super) fragment: u16,
    pub(super) options: Vec<u8>,
}

impl Network {
    pub(super) const fn new(src: IpAddr, dst: IpAddr) -> Self {
        let options = Vec::new();
        Self {
            src,
            dst,
            ttl: DEFAULT_TTL,
            tos: 0,
            id: 0,
            fragment: 0,
            options,
        }
    }

    pub(super) fn header_len(&self) -> usize {
        if self.src.is_ipv4() {
            IPV4_HEADER + self.options.len()
        } else {
            40
        }
    }

    pub(super) fn write(&self, bytes: &mut Vec<u8>, start: usize, protocol: u8, payload: usize) {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let total = (self.header_len() + payload) as u16;
                bytes.push(0x40 | (self.header_len() / 4) as u8);
                bytes.push(self.tos);
                bytes.extend_from_slice(&total.to_be_bytes());
                bytes.extend_from_slice(&self.id.to_be_bytes());
                bytes.extend_from_slice(&self.fragment.to_be_bytes());
                bytes.extend_from_slice(&[self.ttl, protocol, 0, 0]);
                bytes.extend_from_slice(&src.octets());
                bytes.extend_from_slice(&dst.octets());
                bytes.extend_from_slice(&self.options);
                let sum = checksum(&bytes[start..]);
                bytes[start + 10..start + 12].copy_from_slice(&sum.to_be_bytes());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                bytes.extend_from_slice(&[0x60 | self.tos >> 4, self.tos << 4, 0, 0]);
                bytes.extend_from_slice(&(payload as u16).to_be_bytes());
                bytes.extend_from_slice(&[protocol, self.ttl]);
                bytes.extend_from_slice(&src.octets());
                bytes.extend_from_slice(&dst.octets());
            }
            _ => {}
        }
    }
}

/// A transport header to be written.
#[derive(Clone, Debug)]
pub(super) enum Transport {
    /// The payload alone, under this protocol number.
    None(u8),
    /// Source and destination port.
    Udp(u16, u16),
    Tcp {
        ports: (u16, u16),
        seq: u32,
        ack: u32,
        flags: u8,
        window: u16,
        options: Vec<u8>,
    },
    Icmp {
        kind: u8,
        code: u8,
        rest: [u8; 4],
    },
}

impl Transport {
    /// Protocol number under which `network` carries it.
    pub(super) fn protocol(&self, network: &Network) -> u8 {
        match self {
            Self::None(number) => *number,
            Self::Udp(..) => protocol::UDP,
            Self::Tcp { .. } => protocol::TCP,
            Self::Icmp { .. } if network.src.is_ipv4() => protocol::ICMP,
            Self::Icmp { .. } => protocol::ICMPV6,
        }
    }

    /// Where the checksum stands in the header.
    pub(super) const fn checksum_offset(&self) -> Option<usize> {
        match self {
            Self::Tcp { .. } => Some(16),
            Self::Udp(..) => Some(6),
            Self::Icmp { .. } => Some(2),
            Self::None(_) => None,
        }
    }

    /// Transport header and payload, checksum in place. A fragment has the payload alone.
    pub(super) fn segment(&self, network: &Network, payload: &[u8]) -> Vec<u8> {
        if network.fragment & 0x3fff != 0 {
            return payload.to_vec();
        }
        let mut bytes = self.header(payload.len());
        bytes.extend_from_slice(payload);
        let Some(at) = self.checksum_offset() else {
            return bytes;
        };
        let plain = matches!(self, Self::Icmp { .. }) && network.src.is_ipv4();
        let initial = if plain {
            0
        } else {
            let number = self.protocol(network);
            pseudo_header(network.src, network.dst, number, bytes.len())
        };
        let value = match !fold(sum(&bytes, initial)) {
            0 if matches!(self, Self::Udp(..)) => 0xffff,
            value => value,
        };
        bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
        bytes
    }

    fn header(&self, payload: usize) -> Vec<u8> {
        match self {
            Self::None(_) => Vec::new(),
            Self::Udp(src, dst) => {
                let length = (8 + payload) as u16;
                [
                    src.to_be_bytes(),
                    dst.to_be_bytes(),
                    length.to_be_bytes(),
                    [0; 2],
                ]
                .concat()
            }
            Self::Icmp { kind, code, rest } => [&[*kind, *code, 0, 0][..], &rest[..]].concat(),
            Self::Tcp {
                ports,
                seq,
                ack,
                flags,
                window,
                options,
            } => {
                let mut header = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
                header.extend_from_slice(&seq.to_be_bytes());
                header.extend_from_slice(&ack.to_be_bytes());
                header.push((((20 + options.len()) / 4) << 4) as u8);
                header.push(*flags);
                header.extend_from_slice(&window.to_be_bytes());
                header.extend_from_slice(&[0; 4]);
                header.extend_from_slice(options);
                header
            }
        }
    }
}

/// `bytes` with zeros to a multiple of four.
pub(super) fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
