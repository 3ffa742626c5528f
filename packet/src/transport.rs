//! Transport headers: TCP, UDP and ICMP.

use crate::facts::{Icmp, L4, Malformed, Tcp, Udp, protocol};

/// The transport header of a whole datagram whose IP payload is `bytes`.
#[inline]
pub(crate) fn parse_l4(bytes: &[u8], protocol: u8) -> Result<L4, Malformed> {
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
pub(crate) fn quoted_tcp(h: &[u8; 8]) -> Tcp {
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

pub(crate) fn udp_header(h: &[u8; 8]) -> Udp {
    Udp {
        src_port: u16::from_be_bytes([h[0], h[1]]),
        dst_port: u16::from_be_bytes([h[2], h[3]]),
        checksum: u16::from_be_bytes([h[6], h[7]]),
    }
}

pub(crate) fn icmp_header(h: &[u8; 8]) -> Icmp {
    Icmp {
        kind: h[0],
        code: h[1],
        id: u16::from_be_bytes([h[4], h[5]]),
        seq: u16::from_be_bytes([h[6], h[7]]),
    }
}
