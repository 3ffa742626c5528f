//! In-place edits of a frame, with the checksums that cover them.
//!
//! A translated address changes up to three sums: the IPv4 header's, the transport's (through the
//! pseudo-header), and neither for ICMPv4. A port or ICMP id changes the transport's alone. When the
//! transport sum is half done ([`Offload`](crate::Offload)), its field holds the uncomplemented
//! pseudo-header sum: addresses update it in the other sign, ports not at all, because the kernel
//! sums the header itself later. That one branch is in `update_transport`.

use core::net::IpAddr;

use crate::checksum::{Delta, field_offset, is_half_done};
use crate::{Endpoint, Facts, Frame, Icmp, Ip, L4, MacAddr, icmp};

/// New ends for a datagram; `None` leaves that end as it is.
///
/// For ICMP queries the port of `src` is the new identifier of a request, the port of `dst` the new
/// identifier of a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// New source.
    pub src: Option<Endpoint>,
    /// New destination.
    pub dst: Option<Endpoint>,
}

/// Sets both hardware addresses.
pub fn set_macs(frame: &mut Frame<'_>, dst: MacAddr, src: MacAddr) {
    frame.bytes[..6].copy_from_slice(&dst.0);
    frame.bytes[6..12].copy_from_slice(&src.0);
}

/// Takes one from the time to live (or hop limit). The caller has checked that it is above one.
pub fn decrement_ttl(frame: &mut Frame<'_>, ip: &Ip) {
    let start = usize::from(ip.start);
    match ip.src {
        IpAddr::V6(_) => frame.bytes[start + 7] = ip.ttl.saturating_sub(1),
        IpAddr::V4(_) => {
            let old = word(frame.bytes, start + 8);
            let new = old.wrapping_sub(0x0100);
            put(frame.bytes, start + 8, new);
            update_ipv4_header(frame.bytes, start, Delta::default().word(old, new));
        }
    }
}

/// Sets the IPv4 identification. No effect on IPv6.
pub fn set_ipv4_id(frame: &mut Frame<'_>, ip: &Ip, id: u16) {
    if ip.src.is_ipv4() {
        let start = usize::from(ip.start);
        let old = word(frame.bytes, start + 4);
        put(frame.bytes, start + 4, id);
        update_ipv4_header(frame.bytes, start, Delta::default().word(old, id));
    }
}

/// Gives the datagram new ends, and updates every checksum that covers them.
///
/// `facts` are those of the frame as it stands. Addresses of another family than the datagram's are
/// a caller's mistake and leave that end as it is.
pub fn translate(frame: &mut Frame<'_>, facts: &Facts, to: Translation) {
    let Some(ip) = facts.ip() else { return };
    let src = to.src.filter(|e| e.addr.is_ipv4() == ip.src.is_ipv4());
    let dst = to.dst.filter(|e| e.addr.is_ipv4() == ip.dst.is_ipv4());
    let mut addresses = Delta::default();
    if let Some(end) = src {
        put_address(frame.bytes, source_offset(ip), end.addr);
        addresses = addresses.address(ip.src, end.addr);
    }
    if let Some(end) = dst {
        put_address(frame.bytes, destination_offset(ip), end.addr);
        addresses = addresses.address(ip.dst, end.addr);
    }
    if ip.src.is_ipv4() {
        update_ipv4_header(frame.bytes, usize::from(ip.start), addresses);
    }
    let ports = put_ports(frame.bytes, ip, src, dst);
    update_transport(frame, ip, addresses, ports);
}

fn put_ports(bytes: &mut [u8], ip: &Ip, src: Option<Endpoint>, dst: Option<Endpoint>) -> Delta {
    let l4 = ip.l4_start();
    let mut ports = Delta::default();
    match ip.l4 {
        L4::Tcp(_) | L4::Udp(_) => {
            for (end, at) in [(src, l4), (dst, l4 + 2)] {
                if let Some(end) = end {
                    ports = ports.word(word(bytes, at), end.port);
                    put(bytes, at, end.port);
                }
            }
        }
        L4::Icmp(header) => {
            if let Some(id) = new_icmp_id(header, src, dst) {
                ports = ports.word(header.id, id);
                put(bytes, l4 + 4, id);
            }
        }
        L4::Fragment | L4::Other => {}
    }
    ports
}

fn new_icmp_id(header: Icmp, src: Option<Endpoint>, dst: Option<Endpoint>) -> Option<u16> {
    match icmp::query(header.kind)? {
        icmp::Query::Request => src.map(|e| e.port),
        icmp::Query::Reply => dst.map(|e| e.port),
    }
}

/// Updates the transport checksum for changed addresses and ports: the one place where full and
/// half-done sums part.
fn update_transport(frame: &mut Frame<'_>, ip: &Ip, addresses: Delta, ports: Delta) {
    let Some(offset) = field_offset(&ip.l4) else {
        return;
    };
    let at = ip.l4_start() + usize::from(offset);
    let field = word(frame.bytes, at);
    let covers_addresses = !matches!(ip.l4, L4::Icmp(_)) || ip.src.is_ipv6();
    let new = if is_half_done(frame.offload, ip) {
        if covers_addresses {
            addresses.apply_partial(field)
        } else {
            field
        }
    } else {
        let udp = matches!(ip.l4, L4::Udp(_));
        if udp && field == 0 {
            return;
        }
        let pseudo = if covers_addresses {
            addresses
        } else {
            Delta::default()
        };
        match ports.apply(pseudo.apply(field)) {
            0 if udp => 0xffff,
            new => new,
        }
    };
    put(frame.bytes, at, new);
}

fn update_ipv4_header(bytes: &mut [u8], start: usize, delta: Delta) {
    let field = word(bytes, start + 10);
    put(bytes, start + 10, delta.apply(field));
}

const fn source_offset(ip: &Ip) -> usize {
    ip.start as usize + if ip.src.is_ipv4() { 12 } else { 8 }
}

const fn destination_offset(ip: &Ip) -> usize {
    ip.start as usize + if ip.dst.is_ipv4() { 16 } else { 24 }
}

fn put_address(bytes: &mut [u8], at: usize, addr: IpAddr) {
    match addr {
        IpAddr::V4(v4) => bytes[at..at + 4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => bytes[at..at + 16].copy_from_slice(&v6.octets()),
    }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
