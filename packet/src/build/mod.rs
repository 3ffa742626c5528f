//! Frames for the slow path and for tests.
//!
//! [`Packet`] writes a frame from the outside in; lengths and checksums are right unless a test asks
//! for something else. [`icmp_error`] makes the message by which a router reports a datagram's fate.

mod headers;
mod messages;

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::checksum::{fold, pseudo_header};
use crate::parse::ethertype;
use crate::{MacAddr, Offload, icmp};
use headers::{Network, Transport, padded};
pub use messages::{arp, icmp_error, icmp_error_about, tcp_reset};

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
            Some(network) => {
                let segment = self.transport.segment(network, &self.payload);
                let protocol = self.transport.protocol(network);
                network.write(&mut bytes, start, protocol, segment.len());
                bytes.extend_from_slice(&segment);
            }
        }
        if bytes.len() < self.minimum {
            bytes.resize(self.minimum, 0);
        }
        bytes
    }

    /// The frame with its TCP or UDP checksum half done, as a container's kernel sends it.
    pub fn half_done(&self) -> (Vec<u8>, Offload) {
        let mut bytes = self.build();
        let (Some(network), Transport::Tcp { .. } | Transport::Udp(..), Some(offset)) = (
            &self.network,
            &self.transport,
            self.transport.checksum_offset(),
        ) else {
            return (bytes, Offload::NONE);
        };
        let start = self.link_header().len() + network.header_len();
        let length = self.transport.segment(network, &self.payload).len();
        let number = self.transport.protocol(network);
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
}
