//! One pass over a frame, every length checked.
//!
//! [`parse`] either says where everything is ([`Facts`]) or why the frame cannot be what it claims
//! ([`Malformed`]). Offsets in `Facts` are offsets into the frame and lie inside it. An Ethernet
//! trailer after the IP datagram is outside every range that is reported.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::MacAddr;
use crate::checksum::{checksum, fold};

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

/// Says where everything is in `bytes`, or why it cannot be.
///
/// # Errors
/// [`Malformed`] names the first layer whose lengths or fixed fields do not hold.
#[inline]
pub fn parse(bytes: &[u8]) -> Result<Facts, Malformed> {
    let header: &[u8; 14] = bytes.first_chunk().ok_or(Malformed::Ethernet)?;
    let mut ethertype = u16::from_be_bytes([header[12], header[13]]);
    let mut l3_start = 14;
    let mut vlan = None;
    while matches!(ethertype, ethertype::VLAN | ethertype::QINQ) {
        if l3_start == 14 + 4 * MAX_VLAN_TAGS {
            return Err(Malformed::Ethernet);
        }
        let tag: &[u8; 4] = chunk(bytes, l3_start).ok_or(Malformed::Ethernet)?;
        vlan = vlan.or(Some(u16::from_be_bytes([tag[0], tag[1]])));
        ethertype = u16::from_be_bytes([tag[2], tag[3]]);
        l3_start += 4;
    }
    let l3 = match ethertype {
        ethertype::ARP => L3::Arp(parse_arp(&bytes[l3_start..])?),
        ethertype::IPV4 => L3::Ip(parse_ipv4(bytes, l3_start)?),
        ethertype::IPV6 => L3::Ip(parse_ipv6(bytes, l3_start)?),
        _ => L3::Other,
    };
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, _, _] = *header;
    Ok(Facts {
        dst_mac: MacAddr([d0, d1, d2, d3, d4, d5]),
        src_mac: MacAddr([s0, s1, s2, s3, s4, s5]),
        vlan,
        ethertype,
        l3_start,
        l3,
    })
}

/// Parses an IPv4 datagram that begins `bytes` but may be cut, as an ICMP error quotes it
/// (RFC 792: the header and at least eight bytes of payload). Lengths are those of the quoted
/// datagram; only the header and the first eight transport bytes are known to be there.
///
/// Returns the header facts with ports, ICMP id, or `L4::Other`; `None` when even that is not there.
pub fn parse_quoted_ipv4(bytes: &[u8]) -> Option<Ip> {
    let mut ip = ipv4_header(bytes, 0).ok()?;
    let l4: Option<&[u8; 8]> = chunk(bytes, usize::from(ip.header_len));
    let first_part = ip.fragment.is_none_or(|f| f.offset == 0);
    ip.l4 = match (ip.protocol, l4) {
        (_, None) => return None,
        (protocol::TCP, Some(h)) if first_part => L4::Tcp(quoted_tcp(h)),
        (protocol::UDP, Some(h)) if first_part => L4::Udp(udp_header(h)),
        (protocol::ICMP, Some(h)) if first_part => L4::Icmp(icmp_header(h)),
        (protocol::TCP | protocol::UDP | protocol::ICMP, Some(_)) => L4::Fragment,
        _ => L4::Other,
    };
    Some(ip)
}

fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

fn parse_arp(bytes: &[u8]) -> Result<Arp, Malformed> {
    let a: &[u8; 28] = bytes.first_chunk().ok_or(Malformed::Arp)?;
    if a[..6] != [0, 1, 8, 0, 6, 4] {
        return Err(Malformed::Arp);
    }
    Ok(Arp {
        operation: u16::from_be_bytes([a[6], a[7]]),
        sender_mac: MacAddr([a[8], a[9], a[10], a[11], a[12], a[13]]),
        sender_ip: Ipv4Addr::new(a[14], a[15], a[16], a[17]),
        target_mac: MacAddr([a[18], a[19], a[20], a[21], a[22], a[23]]),
        target_ip: Ipv4Addr::new(a[24], a[25], a[26], a[27]),
    })
}

fn parse_ipv4(bytes: &[u8], start: usize) -> Result<Ip, Malformed> {
    let mut ip = ipv4_header(&bytes[start..], start)?;
    if ip.end() > bytes.len() {
        return Err(Malformed::IpHeader);
    }
    if !ipv4_checksum_holds(&bytes[start..ip.l4_start()]) {
        return Err(Malformed::IpChecksum);
    }
    ip.l4 = match ip.fragment {
        Some(fragment) => check_fragment(fragment, ip.payload_len())?,
        None => parse_l4(&bytes[ip.l4_start()..ip.end()], ip.protocol)?,
    };
    Ok(ip)
}

/// The header's own checksum; five words at once when there are no options.
fn ipv4_checksum_holds(header: &[u8]) -> bool {
    let Ok(plain) = <&[u8; 20]>::try_from(header) else {
        return checksum(header) == 0;
    };
    let (words, _) = plain.as_chunks::<4>();
    let sum: u64 = words
        .iter()
        .map(|w| u64::from(u32::from_be_bytes(*w)))
        .sum();
    fold(sum) == 0xffff
}

/// Header fields of an IPv4 datagram; `l4` is left as `Other`, and the total length is not compared
/// with the bytes.
fn ipv4_header(bytes: &[u8], start: usize) -> Result<Ip, Malformed> {
    let h: &[u8; 20] = bytes.first_chunk().ok_or(Malformed::IpHeader)?;
    let header_len = u16::from(h[0] & 0xf) * 4;
    let total_len = u32::from(u16::from_be_bytes([h[2], h[3]]));
    let cut = bytes.len() < usize::from(header_len);
    if h[0] >> 4 != 4 || header_len < 20 || total_len < u32::from(header_len) || cut {
        return Err(Malformed::IpHeader);
    }
    let flags = u16::from_be_bytes([h[6], h[7]]);
    let fragment = Fragment {
        offset: (flags & 0x1fff) * 8,
        more: flags & 0x2000 != 0,
    };
    Ok(Ip {
        src: Ipv4Addr::new(h[12], h[13], h[14], h[15]).into(),
        dst: Ipv4Addr::new(h[16], h[17], h[18], h[19]).into(),
        protocol: h[9],
        ttl: h[8],
        tos: h[1],
        id: u32::from(u16::from_be_bytes([h[4], h[5]])),
        dont_fragment: flags & 0x4000 != 0,
        fragment: (fragment.more || fragment.offset != 0).then_some(fragment),
        start: start as u16,
        header_len,
        total_len,
        l4: L4::Other,
    })
}

fn check_fragment(fragment: Fragment, payload_len: usize) -> Result<L4, Malformed> {
    let end = usize::from(fragment.offset) + payload_len;
    let ragged = fragment.more && !payload_len.is_multiple_of(8);
    if end > 65_535 || ragged || payload_len == 0 {
        Err(Malformed::Fragment)
    } else {
        Ok(L4::Fragment)
    }
}

/// How many VLAN tags are walked: Linux' `VLAN_MAX_DEPTH` (`include/linux/if_vlan.h`).
const MAX_VLAN_TAGS: usize = 8;

/// How many extension headers are walked. RFC 8200 §4.1 names six kinds, one of which may occur
/// twice; a longer chain serves no receiver.
const MAX_EXTENSION_HEADERS: usize = 8;

fn parse_ipv6(bytes: &[u8], start: usize) -> Result<Ip, Malformed> {
    let h: &[u8; 40] = chunk(bytes, start).ok_or(Malformed::IpHeader)?;
    let total_len = 40 + u32::from(u16::from_be_bytes([h[4], h[5]]));
    let end = start + total_len as usize;
    if h[0] >> 4 != 6 || end > bytes.len() {
        return Err(Malformed::IpHeader);
    }
    let (mut src, mut dst) = ([0; 16], [0; 16]);
    src.copy_from_slice(&h[8..24]);
    dst.copy_from_slice(&h[24..40]);
    let mut ip = Ip {
        src: Ipv6Addr::from(src).into(),
        dst: Ipv6Addr::from(dst).into(),
        protocol: h[6],
        ttl: h[7],
        tos: h[0] << 4 | h[1] >> 4,
        id: 0,
        dont_fragment: true,
        fragment: None,
        start: start as u16,
        header_len: 40,
        total_len,
        l4: L4::Other,
    };
    walk_extension_headers(&bytes[start..end], &mut ip)?;
    ip.l4 = match ip.fragment {
        Some(fragment) => check_fragment(fragment, ip.payload_len())?,
        None => parse_l4(&bytes[ip.l4_start()..end], ip.protocol)?,
    };
    Ok(ip)
}

/// Moves `ip.protocol` and `ip.header_len` behind hop-by-hop (0), routing (43), destination (60) and
/// fragment (44) headers.
fn walk_extension_headers(datagram: &[u8], ip: &mut Ip) -> Result<(), Malformed> {
    for _ in 0..MAX_EXTENSION_HEADERS {
        if !matches!(ip.protocol, 0 | 43 | 44 | 60) || ip.fragment.is_some() {
            return Ok(());
        }
        let at = usize::from(ip.header_len);
        let h: &[u8; 8] = chunk(datagram, at).ok_or(Malformed::IpHeader)?;
        let len = if ip.protocol == 44 {
            8
        } else {
            8 + usize::from(h[1]) * 8
        };
        if ip.protocol == 44 {
            let word = u16::from_be_bytes([h[2], h[3]]);
            let fragment = Fragment {
                offset: word & 0xfff8,
                more: word & 1 != 0,
            };
            ip.fragment = (fragment.more || fragment.offset != 0).then_some(fragment);
            ip.id = u32::from_be_bytes([h[4], h[5], h[6], h[7]]);
        }
        if at + len > datagram.len() {
            return Err(Malformed::IpHeader);
        }
        ip.protocol = h[0];
        ip.header_len += len as u16;
    }
    Err(Malformed::IpHeader)
}

fn parse_l4(bytes: &[u8], protocol: u8) -> Result<L4, Malformed> {
    match protocol {
        protocol::TCP => parse_tcp(bytes).map(L4::Tcp),
        protocol::UDP => parse_udp(bytes).map(L4::Udp),
        protocol::ICMP | protocol::ICMPV6 => bytes
            .first_chunk()
            .map(|h| L4::Icmp(icmp_header(h)))
            .ok_or(Malformed::Icmp),
        _ => Ok(L4::Other),
    }
}

fn parse_tcp(bytes: &[u8]) -> Result<Tcp, Malformed> {
    let h: &[u8; 20] = bytes.first_chunk().ok_or(Malformed::Tcp)?;
    let header_len = (h[12] >> 4) * 4;
    if header_len < 20 || usize::from(header_len) > bytes.len() {
        return Err(Malformed::Tcp);
    }
    Ok(Tcp {
        src_port: u16::from_be_bytes([h[0], h[1]]),
        dst_port: u16::from_be_bytes([h[2], h[3]]),
        seq: u32::from_be_bytes([h[4], h[5], h[6], h[7]]),
        ack: u32::from_be_bytes([h[8], h[9], h[10], h[11]]),
        window: u16::from_be_bytes([h[14], h[15]]),
        flags: h[13],
        header_len,
    })
}

/// The first eight bytes of a TCP header hold the ports and the sequence number, which is all that
/// RFC 792 promises inside an error.
fn quoted_tcp(h: &[u8; 8]) -> Tcp {
    Tcp {
        src_port: u16::from_be_bytes([h[0], h[1]]),
        dst_port: u16::from_be_bytes([h[2], h[3]]),
        seq: u32::from_be_bytes([h[4], h[5], h[6], h[7]]),
        ack: 0,
        window: 0,
        flags: 0,
        header_len: 20,
    }
}

fn parse_udp(bytes: &[u8]) -> Result<Udp, Malformed> {
    let h: &[u8; 8] = bytes.first_chunk().ok_or(Malformed::Udp)?;
    let length = usize::from(u16::from_be_bytes([h[4], h[5]]));
    // A length of 0 stands for a datagram too long for the field: a super-frame, or an IPv6
    // jumbogram, which is not supported and cannot be mistaken for one here.
    if length != bytes.len() && !(length == 0 && bytes.len() > 65_535) {
        return Err(Malformed::Udp);
    }
    Ok(udp_header(h))
}

fn udp_header(h: &[u8; 8]) -> Udp {
    Udp {
        src_port: u16::from_be_bytes([h[0], h[1]]),
        dst_port: u16::from_be_bytes([h[2], h[3]]),
        checksum: u16::from_be_bytes([h[6], h[7]]),
    }
}

fn icmp_header(h: &[u8; 8]) -> Icmp {
    Icmp {
        kind: h[0],
        code: h[1],
        id: u16::from_be_bytes([h[4], h[5]]),
        seq: u16::from_be_bytes([h[6], h[7]]),
    }
}
