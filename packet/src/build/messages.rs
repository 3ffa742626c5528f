//! What the engine says of its own accord: ARP, ICMP errors and resets.

use core::net::IpAddr;

use super::Packet;
use super::headers::IPV4_HEADER;
use crate::facts::ethertype;
use crate::facts::tcp_flags::{ACK, FIN, RST, SYN};
use crate::{Arp, Facts, Frame, L4, MacAddr, icmp, parse};

/// Largest ICMP error, IP header included (RFC 1812 §4.3.2.3).
const MAX_ICMP_ERROR: usize = 576;
/// Precedence of ICMP errors: internetwork control (RFC 1812 §4.3.2.5).
const ICMP_ERROR_TOS: u8 = 0xc0;

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
    let quoted = &frame.bytes[usize::from(ip.start)..ip.end()];
    icmp_error_about(quoted, ip.src, error, own, macs)
}

/// The same about the datagram that `quoted` begins, which came from `source`.
pub fn icmp_error_about(
    quoted: &[u8],
    source: IpAddr,
    error: icmp::Error,
    own: IpAddr,
    macs: (MacAddr, MacAddr),
) -> Option<Vec<u8>> {
    let (IpAddr::V4(own), IpAddr::V4(target)) = (own, source) else {
        return None;
    };
    let room = MAX_ICMP_ERROR - IPV4_HEADER - 8;
    let (kind, code) = error.type_and_code();
    let packet = Packet::ethernet(macs.0, macs.1)
        .ipv4(own, target)
        .tos(ICMP_ERROR_TOS)
        .icmp(kind, code, error.rest_of_header())
        .payload(&quoted[..quoted.len().min(room)]);
    Some(packet.build())
}

/// The reset that answers the segment in an IPv4 datagram when there is no connection for it (RFC 9293
/// §3.10.7.1), in a frame without hardware addresses. `None` for a reset and for anything but TCP.
pub fn tcp_reset(datagram: &[u8]) -> Option<Vec<u8>> {
    let mut frame = Packet::ethernet(MacAddr::ZERO, MacAddr::ZERO)
        .ethertype(ethertype::IPV4)
        .build();
    frame.extend_from_slice(datagram);
    let facts = parse(&frame).ok()?;
    let ip = facts.ip()?;
    let (L4::Tcp(tcp), IpAddr::V4(src), IpAddr::V4(dst)) = (ip.l4, ip.src, ip.dst) else {
        return None;
    };
    if tcp.flags & RST != 0 {
        return None;
    }
    let controls = u32::from(tcp.flags & SYN != 0) + u32::from(tcp.flags & FIN != 0);
    let taken = ip.payload_len() as u32 - u32::from(tcp.header_len) + controls;
    let (flags, seq, ack) = if tcp.flags & ACK == 0 {
        (RST | ACK, 0, tcp.seq.wrapping_add(taken))
    } else {
        (RST, tcp.ack, 0)
    };
    let packet = Packet::ethernet(MacAddr::ZERO, MacAddr::ZERO)
        .ipv4(dst, src)
        .tcp(tcp.dst_port, tcp.src_port, flags, seq, ack);
    Some(packet.build())
}
