//! Where everything is in a frame, and the numbers that say what it is.

use core::net::{IpAddr, Ipv4Addr};

use crate::MacAddr;

/// EtherTypes that are looked into.
pub mod ethertype {
    /// Internet Protocol version 4.
    pub const IPV4: u16 = 0x0800;
    /// Address Resolution Protocol.
    pub const ARP: u16 = 0x0806;
    /// IEEE 802.1Q customer tag.
    pub const VLAN: u16 = 0x8100;
    /// Internet Protocol version 6.
    pub const IPV6: u16 = 0x86dd;
    /// IEEE 802.1ad service tag (QinQ).
    pub const QINQ: u16 = 0x88a8;
    /// IEEE 802.3x flow control; never forwarded by a bridge.
    pub const PAUSE: u16 = 0x8808;
}

/// Protocol numbers (IANA) that are looked into.
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// Transmission Control Protocol.
    pub const TCP: u8 = 6;
    /// User Datagram Protocol.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
}

/// Why a frame cannot be what it claims to be. The bytes may be cut, lie about a length, or break a
/// rule that every receiver relies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// Shorter than an Ethernet header, cut inside a VLAN tag, or more than eight tags deep.
    Ethernet,
    /// ARP that is cut, or not Ethernet/IPv4 (`hlen` ≠ 6, `plen` ≠ 4, `htype` ≠ 1).
    Arp,
    /// IP version, header length or total length disagree with the bytes.
    IpHeader,
    /// An IPv4 header whose checksum is wrong.
    IpChecksum,
    /// A fragment that would end beyond 65 535 bytes, or a non-final one of a length that is not a
    /// multiple of eight.
    Fragment,
    /// TCP header cut, or a data offset below 5 or beyond the segment.
    Tcp,
    /// UDP header cut, or a length below 8 or different from what IP carries.
    Udp,
    /// ICMP header cut.
    Icmp,
}

/// Where everything is in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Destination hardware address.
    pub dst_mac: MacAddr,
    /// Source hardware address.
    pub src_mac: MacAddr,
    /// The outermost VLAN tag's control information, when there is one.
    pub vlan: Option<u16>,
    /// EtherType behind all VLAN tags (or an 802.3 length below 1536).
    pub ethertype: u16,
    /// Offset of the network header.
    pub l3_start: usize,
    /// The network layer.
    pub l3: L3,
}

impl Facts {
    /// The IP layer, if the frame carries one.
    pub const fn ip(&self) -> Option<&Ip> {
        match &self.l3 {
            L3::Ip(ip) => Some(ip),
            L3::Arp(_) | L3::Other => None,
        }
    }
}

/// The network layer of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L3 {
    /// Address resolution for IPv4 over Ethernet.
    Arp(Arp),
    /// IPv4 or IPv6.
    Ip(Ip),
    /// Anything else; carried by the switch, never routed.
    Other,
}

/// An ARP packet (RFC 826) for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Operation: 1 request, 2 reply; others are carried but mean nothing here.
    pub operation: u16,
    /// Sender hardware address.
    pub sender_mac: MacAddr,
    /// Sender protocol address; unspecified in a probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// Target hardware address.
    pub target_mac: MacAddr,
    /// Target protocol address.
    pub target_ip: Ipv4Addr,
}

/// An IP header of either family and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Protocol of the payload (the last next-header value for IPv6).
    pub protocol: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Type of service or traffic class (DSCP and ECN).
    pub tos: u8,
    /// IPv4 identification; zero for IPv6 without a fragment header.
    pub id: u32,
    /// The don't-fragment bit; always set for IPv6.
    pub dont_fragment: bool,
    /// What part of a datagram this is, when it is not whole.
    pub fragment: Option<Fragment>,
    /// Offset of the IP header in the frame.
    pub start: u16,
    /// Bytes of IP header, options or extension headers included.
    pub header_len: u16,
    /// Bytes of IP header and payload. For a super-frame this is the length of the whole frame.
    pub total_len: u32,
    /// The transport layer.
    pub l4: L4,
}

impl Ip {
    /// Source and destination port, of TCP and UDP.
    pub const fn ports(&self) -> Option<(u16, u16)> {
        match &self.l4 {
            L4::Tcp(header) => Some((header.src_port, header.dst_port)),
            L4::Udp(header) => Some((header.src_port, header.dst_port)),
            L4::Icmp(_) | L4::Fragment | L4::Other => None,
        }
    }

    /// Offset of the transport header in the frame.
    pub const fn l4_start(&self) -> usize {
        self.start as usize + self.header_len as usize
    }

    /// Offset of the first byte behind the datagram.
    pub const fn end(&self) -> usize {
        self.start as usize + self.total_len as usize
    }

    /// Bytes of IP payload.
    pub const fn payload_len(&self) -> usize {
        self.total_len as usize - self.header_len as usize
    }

    /// The IPv4 header carries options, or IPv6 extension headers.
    pub const fn has_options(&self) -> bool {
        self.header_len
            > if matches!(self.src, IpAddr::V4(_)) {
                20
            } else {
                40
            }
    }
}

/// Which part of a datagram a fragment carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Offset of this part in the original payload, in bytes; a multiple of eight.
    pub offset: u16,
    /// More parts follow.
    pub more: bool,
}

/// The transport layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L4 {
    /// Transmission Control Protocol.
    Tcp(Tcp),
    /// User Datagram Protocol.
    Udp(Udp),
    /// ICMP or ICMPv6.
    Icmp(Icmp),
    /// A fragment: its transport header is elsewhere, or cannot be believed on its own.
    Fragment,
    /// Another protocol.
    Other,
}

/// A TCP header (RFC 9293 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number; only meaningful with ACK.
    pub ack: u32,
    /// Window, unscaled.
    pub window: u16,
    /// Flag bits: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128.
    pub flags: u8,
    /// Bytes of header, options included.
    pub header_len: u8,
}

/// TCP flag bits.
pub mod tcp_flags {
    /// No more data from the sender.
    pub const FIN: u8 = 1;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 2;
    /// Reset the connection.
    pub const RST: u8 = 4;
    /// Push.
    pub const PSH: u8 = 8;
    /// The acknowledgement field is significant.
    pub const ACK: u8 = 16;
    /// The urgent pointer is significant.
    pub const URG: u8 = 32;
}

/// A UDP header (RFC 768).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// The checksum field as it stands; zero means none over IPv4.
    pub checksum: u16,
}

/// The first eight bytes of an ICMP message (RFC 792, RFC 4443).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Message type.
    pub kind: u8,
    /// Message code.
    pub code: u8,
    /// Identifier of a query; the first half of the rest-of-header word of an error.
    pub id: u16,
    /// Sequence number of a query; the second half of that word (next-hop MTU in type 3 code 4).
    pub seq: u16,
}
