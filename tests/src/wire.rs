//! Frames as somebody else reads them: etherparse, and sums computed from scratch.

use core::net::Ipv4Addr;

use etherparse::{Icmpv4Type, Ipv4Header, NetHeaders, PacketHeaders, TransportHeader, UdpHeader};
use pontoon_packet::Offload;

/// What is in a frame that carries a whole IPv4 datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Source address and port; the identifier of an ICMP query.
    pub src: (Ipv4Addr, u16),
    /// Destination address and port; the identifier of an ICMP query.
    pub dst: (Ipv4Addr, u16),
    /// IP protocol number.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// What the transport header carries.
    pub payload: Vec<u8>,
}

/// Reads a frame of IPv4 with TCP, UDP or an ICMP echo, and checks every sum in it.
///
/// # Errors
/// What is wrong with it.
pub fn datagram(bytes: &[u8], offload: Offload) -> Result<Datagram, String> {
    let bytes = completed(bytes, offload);
    let headers = PacketHeaders::from_ethernet_slice(&bytes).map_err(|e| e.to_string())?;
    let Some(NetHeaders::Ipv4(ip, _)) = &headers.net else {
        return Err(format!("no IPv4: {headers:?}"));
    };
    same("IPv4", ip.calc_header_checksum(), ip.header_checksum)?;
    let payload = headers.payload.slice();
    let transport = headers.transport.as_ref();
    let ports = transport_ports(transport.ok_or("no transport")?, ip, payload)?;
    Ok(Datagram {
        src: (ip.source.into(), ports.0),
        dst: (ip.destination.into(), ports.1),
        protocol: ip.protocol.0,
        ttl: ip.time_to_live,
        payload: payload.to_vec(),
    })
}

/// Checks every sum that can be checked in a frame, whatever it carries.
///
/// # Errors
/// Which sum does not hold.
pub fn check_sums(bytes: &[u8], offload: Offload) -> Result<(), String> {
    let bytes = completed(bytes, offload);
    let headers = PacketHeaders::from_ethernet_slice(&bytes).map_err(|e| e.to_string())?;
    let Some(NetHeaders::Ipv4(ip, _)) = &headers.net else {
        return Ok(());
    };
    same("IPv4", ip.calc_header_checksum(), ip.header_checksum)?;
    match &headers.transport {
        Some(header) => transport_ports(header, ip, headers.payload.slice()).map(|_| ()),
        None => Ok(()),
    }
}

fn transport_ports(
    header: &TransportHeader,
    ip: &Ipv4Header,
    payload: &[u8],
) -> Result<(u16, u16), String> {
    let too_big = |e: etherparse::err::ValueTooBigError<usize>| e.to_string();
    match header {
        TransportHeader::Udp(udp) => {
            check_udp(udp, ip, payload)?;
            Ok((udp.source_port, udp.destination_port))
        }
        TransportHeader::Tcp(tcp) => {
            let sum = tcp.calc_checksum_ipv4(ip, payload).map_err(too_big)?;
            same("TCP", sum, tcp.checksum)?;
            Ok((tcp.source_port, tcp.destination_port))
        }
        TransportHeader::Icmpv4(icmp) => {
            let sum = icmp.icmp_type.calc_checksum(payload);
            same("ICMP", sum, icmp.checksum)?;
            Ok(match icmp.icmp_type {
                Icmpv4Type::EchoRequest(echo) | Icmpv4Type::EchoReply(echo) => (echo.id, echo.id),
                _ => (0, 0),
            })
        }
        other => Err(format!("unexpected in IPv4: {other:?}")),
    }
}

fn check_udp(udp: &UdpHeader, ip: &Ipv4Header, payload: &[u8]) -> Result<(), String> {
    if udp.checksum == 0 {
        return Ok(());
    }
    let sum = udp.calc_checksum_ipv4(ip, payload);
    same("UDP", sum.map_err(|e| e.to_string())?, udp.checksum)
}

/// Compares as one's-complement numbers, which have two zeros.
fn same(layer: &str, right: u16, found: u16) -> Result<(), String> {
    if right % 0xffff == found % 0xffff {
        Ok(())
    } else {
        Err(format!("{layer} checksum {found:#06x}, not {right:#06x}"))
    }
}

/// The frame once the receiver's kernel has finished a half-done checksum.
pub fn completed(bytes: &[u8], offload: Offload) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if offload.is_partial() {
        let start = usize::from(offload.csum_start);
        let field = start + usize::from(offload.csum_offset);
        let sum = textbook_sum(&bytes[start..]);
        bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

/// RFC 1071 §4.1, word by word.
fn textbook_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
