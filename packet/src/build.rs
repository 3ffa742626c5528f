//! Frames for the slow path and for tests.
//!
//! [`Packet`] writes a frame from the outside in; lengths and checksums are right unless a test asks
//! for something else. [`icmp_error`] makes the message by which a router reports a datagram's fate.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum::{checksum, fold, pseudo_header, sum};
use crate::parse::{ethertype, protocol};
use crate::{Arp, Facts, Frame, MacAddr, Offload, icmp};

/// Bytes of an IPv4 header without options.
const IPV4_HEADER: usize = 20;
/// Largest ICMP error, IP header included (RFC 1812 §4.3.2.3).
const MAX_ICMP_ERROR: usize = 576;
/// Time to live of what the engine sends itself; Linux `ip_default_ttl`.
const DEFAULT_TTL: u8 = 64;
/// Precedence of ICMP errors: internetwork control (RFC 1812 §4.3.2.5).
const ICMP_ERROR_TOS: u8 = 0xc0;

/// A frame under construction.
#[derive(Clone, Debug)]
pub struct Packet {
    dst: MacAddr,
    src: MacAddr,
    tags: Vec<(u16, u16)>,
    ethertype: u16,
    network: Option<Network>,
    transport: Transport,
    payload: Vec<u8>,
    minimum: usize,
}

#[derive(Clone, Debug)]
struct Network {
    src: IpAddr,
    dst: IpAddr,
    ttl: u8,
    tos: u8,
    id: u16,
    /// Flags and fragment offset as they stand in the header.
    fragment: u16,
    options: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Transport {
    None(u8),
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

impl Packet {
    /// A frame from `src` to `dst`, without anything in it yet.
    pub const fn ethernet(src: MacAddr, dst: MacAddr) -> Self {
        Self {
            dst,
            src,
            tags: Vec::new(),
            ethertype: 0x88b5,
            network: None,
            transport: Transport::None(253),
            payload: Vec::new(),
            minimum: 0,
        }
    }

    /// Adds an 802.1Q tag inside those that are there.
    #[must_use]
    pub fn vlan(self, id: u16) -> Self {
        self.tag(ethertype::VLAN, id)
    }

    /// Adds a tag of any kind (`0x8100`, `0x88a8`) with its control information.
    #[must_use]
    pub fn tag(mut self, tpid: u16, tci: u16) -> Self {
        self.tags.push((tpid, tci));
        self
    }

    /// Sets the EtherType of a frame that carries neither IP nor ARP.
    #[must_use]
    pub const fn ethertype(mut self, ethertype: u16) -> Self {
        self.ethertype = ethertype;
        self
    }

    /// Carries IPv4.
    #[must_use]
    pub fn ipv4(mut self, src: Ipv4Addr, dst: Ipv4Addr) -> Self {
        self.ethertype = ethertype::IPV4;
        self.network = Some(Network::new(src.into(), dst.into()));
        self
    }

    /// Carries IPv6.
    #[must_use]
    pub fn ipv6(mut self, src: Ipv6Addr, dst: Ipv6Addr) -> Self {
        self.ethertype = ethertype::IPV6;
        self.network = Some(Network::new(src.into(), dst.into()));
        self
    }

    /// Sets the time to live (64 otherwise).
    #[must_use]
    pub fn ttl(self, ttl: u8) -> Self {
        self.network(|n| n.ttl = ttl)
    }

    /// Sets the type of service (0 otherwise).
    #[must_use]
    pub fn tos(self, tos: u8) -> Self {
        self.network(|n| n.tos = tos)
    }

    /// Sets the IPv4 identification (0 otherwise).
    #[must_use]
    pub fn id(self, id: u16) -> Self {
        self.network(|n| n.id = id)
    }

    /// Sets the don't-fragment bit.
    #[must_use]
    pub fn dont_fragment(self) -> Self {
        self.network(|n| n.fragment |= 0x4000)
    }

    /// Makes it a fragment: `offset` in bytes, a multiple of eight. The payload is what the fragment
    /// carries; no transport header is written.
    #[must_use]
    pub fn fragment(self, offset: u16, more: bool) -> Self {
        self.network(|n| n.fragment |= (offset / 8) | if more { 0x2000 } else { 0 })
    }

    /// Adds IPv4 options, padded with zeros to a multiple of four.
    #[must_use]
    pub fn options(self, options: &[u8]) -> Self {
        self.network(|n| n.options = padded(options))
    }

    /// Carries UDP.
    #[must_use]
    pub fn udp(mut self, src: u16, dst: u16) -> Self {
        self.transport = Transport::Udp(src, dst);
        self
    }

    /// Carries TCP with flags as in [`parse::tcp_flags`](crate::parse::tcp_flags).
    #[must_use]
    pub fn tcp(mut self, src: u16, dst: u16, flags: u8, seq: u32, ack: u32) -> Self {
        self.transport = Transport::Tcp {
            ports: (src, dst),
            seq,
            ack,
            flags,
            window: 64_240,
            options: Vec::new(),
        };
        self
    }

    /// Sets the TCP window (64 240 otherwise). No effect on anything but TCP.
    #[must_use]
    pub fn window(mut self, value: u16) -> Self {
        if let Transport::Tcp { window, .. } = &mut self.transport {
            *window = value;
        }
        self
    }

    /// Adds TCP options, padded with zeros to a multiple of four. No effect on anything but TCP.
    #[must_use]
    pub fn tcp_options(mut self, bytes: &[u8]) -> Self {
        if let Transport::Tcp { options, .. } = &mut self.transport {
            *options = padded(bytes);
        }
        self
    }

    /// Carries an ICMP message.
    #[must_use]
    pub fn icmp(mut self, kind: u8, code: u8, rest: [u8; 4]) -> Self {
        self.transport = Transport::Icmp { kind, code, rest };
        self
    }

    /// Carries an ICMP echo request.
    #[must_use]
    pub fn echo(self, id: u16, seq: u16) -> Self {
        let ([a, b], [c, d]) = (id.to_be_bytes(), seq.to_be_bytes());
        self.icmp(icmp::kind::ECHO, 0, [a, b, c, d])
    }

    /// Carries an ICMP echo reply.
    #[must_use]
    pub fn echo_reply(self, id: u16, seq: u16) -> Self {
        let ([a, b], [c, d]) = (id.to_be_bytes(), seq.to_be_bytes());
        self.icmp(icmp::kind::ECHO_REPLY, 0, [a, b, c, d])
    }

    /// Carries another IP protocol; the payload follows the IP header directly.
    #[must_use]
    pub fn protocol(mut self, number: u8) -> Self {
        self.transport = Transport::None(number);
        self
    }

    /// Sets the payload.
    #[must_use]
    pub fn payload(mut self, bytes: &[u8]) -> Self {
        self.payload = bytes.to_vec();
        self
    }

    /// Pads the frame with zeros to `length` bytes, as an Ethernet trailer.
    #[must_use]
    pub const fn pad_to(mut self, length: usize) -> Self {
        self.minimum = length;
        self
    }

    /// The frame, with every checksum in place.
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = self.link_header();
        let start = bytes.len();
        match &self.network {
            None => bytes.extend_from_slice(&self.payload),
            Some(network) => self.write_network(network, &mut bytes, start),
        }
        if bytes.len() < self.minimum {
            bytes.resize(self.minimum, 0);
        }
        bytes
    }

    /// The frame with its TCP or UDP checksum half done, as a container's kernel sends it.
    pub fn half_done(&self) -> (Vec<u8>, Offload) {
        let mut bytes = self.build();
        let Some(network) = &self.network else {
            return (bytes, Offload::NONE);
        };
        let start = self.link_header().len() + network.header_len();
        let (number, offset) = match self.transport {
            Transport::Tcp { .. } => (protocol::TCP, 16),
            Transport::Udp(..) => (protocol::UDP, 6),
            Transport::Icmp { .. } | Transport::None(_) => return (bytes, Offload::NONE),
        };
        let length = self.segment(network).len();
        let partial = fold(pseudo_header(network.src, network.dst, number, length));
        bytes[start + offset..start + offset + 2].copy_from_slice(&partial.to_be_bytes());
        (bytes, Offload::partial(start as u16, offset as u16))
    }

    fn network(mut self, edit: impl FnOnce(&mut Network)) -> Self {
        if let Some(network) = &mut self.network {
            edit(network);
        }
        self
    }

    fn link_header(&self) -> Vec<u8> {
        let mut bytes = [self.dst.0, self.src.0].concat();
        for (tpid, tci) in &self.tags {
            bytes.extend_from_slice(&tpid.to_be_bytes());
            bytes.extend_from_slice(&tci.to_be_bytes());
        }
        bytes.extend_from_slice(&self.ethertype.to_be_bytes());
        bytes
    }

    fn write_network(&self, network: &Network, bytes: &mut Vec<u8>, start: usize) {
        let segment = self.segment(network);
        let number = self.protocol_number(network);
        network.write(bytes, start, number, segment.len());
        bytes.extend_from_slice(&segment);
    }

    fn protocol_number(&self, network: &Network) -> u8 {
        match self.transport {
            Transport::None(number) => number,
            Transport::Udp(..) => protocol::UDP,
            Transport::Tcp { .. } => protocol::TCP,
            Transport::Icmp { .. } if network.src.is_ipv4() => protocol::ICMP,
            Transport::Icmp { .. } => protocol::ICMPV6,
        }
    }

    /// Transport header and payload, checksum in place.
    fn segment(&self, network: &Network) -> Vec<u8> {
        let mut bytes = if network.fragment & 0x3fff == 0 {
            self.transport_header()
        } else {
            Vec::new()
        };
        let header = bytes.len();
        bytes.extend_from_slice(&self.payload);
        let at = match self.transport {
            _ if header == 0 => return bytes,
            Transport::Tcp { .. } => 16,
            Transport::Udp(..) => 6,
            Transport::Icmp { .. } => 2,
            Transport::None(_) => return bytes,
        };
        let plain = matches!(self.transport, Transport::Icmp { .. }) && network.src.is_ipv4();
        let number = self.protocol_number(network);
        let initial = if plain {
            0
        } else {
            pseudo_header(network.src, network.dst, number, bytes.len())
        };
        let value = match !fold(sum(&bytes, initial)) {
            0 if matches!(self.transport, Transport::Udp(..)) => 0xffff,
            value => value,
        };
        bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
        bytes
    }

    fn transport_header(&self) -> Vec<u8> {
        match &self.transport {
            Transport::None(_) => Vec::new(),
            Transport::Udp(src, dst) => {
                let length = (8 + self.payload.len()) as u16;
                [
                    src.to_be_bytes(),
                    dst.to_be_bytes(),
                    length.to_be_bytes(),
                    [0; 2],
                ]
                .concat()
            }
            Transport::Icmp { kind, code, rest } => [&[*kind, *code, 0, 0][..], &rest[..]].concat(),
            Transport::Tcp {
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

impl Network {
    const fn new(src: IpAddr, dst: IpAddr) -> Self {
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

    fn header_len(&self) -> usize {
        if self.src.is_ipv4() {
            IPV4_HEADER + self.options.len()
        } else {
            40
        }
    }

    fn write(&self, bytes: &mut Vec<u8>, start: usize, protocol: u8, payload: usize) {
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

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The frame that carries `arp` to its target, or to everybody when that is not known.
pub fn arp(arp: &Arp) -> Vec<u8> {
    let dst = if arp.target_mac.is_zero() {
        MacAddr::BROADCAST
    } else {
        arp.target_mac
    };
    crate::arp::frame(dst, arp).to_vec()
}

/// The ICMP error about `frame` that a router with the address `own` sends back: from and to the
/// hardware addresses `macs`, quoting the IP header and as much as fits in 576 bytes (RFC 1812
/// §4.3.2.3). `None` for anything but IPv4.
pub fn icmp_error(
    frame: &Frame<'_>,
    facts: &Facts,
    error: icmp::Error,
    own: IpAddr,
    macs: (MacAddr, MacAddr),
) -> Option<Vec<u8>> {
    let ip = facts.ip()?;
    let (IpAddr::V4(own), IpAddr::V4(target)) = (own, ip.src) else {
        return None;
    };
    let room = MAX_ICMP_ERROR - IPV4_HEADER - 8;
    let quoted = &frame.bytes[usize::from(ip.start)..ip.end()];
    let (kind, code) = error.type_and_code();
    let packet = Packet::ethernet(macs.0, macs.1)
        .ipv4(own, target)
        .tos(ICMP_ERROR_TOS)
        .icmp(kind, code, error.rest_of_header())
        .payload(&quoted[..quoted.len().min(room)]);
    Some(packet.build())
}
