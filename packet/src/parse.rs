//! One pass over a frame, every length checked.
//!
//! [`parse`] either says where everything is ([`Facts`]) or why the frame cannot be what it claims
//! ([`Malformed`]). Offsets in `Facts` are offsets into the frame and lie inside it. An Ethernet
//! trailer after the IP datagram is outside every range that is reported.

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::MacAddr;
use crate::checksum::{checksum, fold};
pub use crate::facts::{
    Arp, Facts, Fragment, Icmp, Ip, L3, L4, Malformed, Tcp, Udp, ethertype, protocol, tcp_flags,
};
use crate::transport::{icmp_header, parse_l4, quoted_tcp, udp_header};

/// How many VLAN tags are walked: Linux' `VLAN_MAX_DEPTH` (`include/linux/if_vlan.h`).
const MAX_VLAN_TAGS: usize = 8;

/// How many extension headers are walked. RFC 8200 §4.1 names six kinds, one of which may occur
/// twice; a longer chain serves no receiver.
const MAX_EXTENSION_HEADERS: usize = 8;

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
