//! One line per frame, as `tcpdump -n` would print it. Never fails, whatever the bytes.

use core::fmt;

use crate::parse::{Malformed, protocol, tcp_flags};
use crate::{Arp, Facts, Icmp, Ip, L3, L4, Offload, Tcp, arp, icmp, parse};

/// The line for a frame of these bytes.
pub const fn line(bytes: &[u8], offload: Offload) -> Line<'_> {
    Line { bytes, offload }
}

/// A frame that can be displayed.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    bytes: &'a [u8],
    offload: Offload,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match parse(self.bytes) {
            Ok(facts) => self.facts(f, &facts)?,
            Err(reason) => malformed(f, reason)?,
        }
        write!(f, ", length {}", self.bytes.len())?;
        if self.offload.is_super_frame() {
            write!(f, ", gso {}", self.offload.gso_size)?;
        }
        if self.offload.is_partial() {
            f.write_str(", csum partial")?;
        }
        Ok(())
    }
}

impl Line<'_> {
    fn facts(&self, f: &mut fmt::Formatter<'_>, facts: &Facts) -> fmt::Result {
        write!(f, "{} > {}", facts.src_mac, facts.dst_mac)?;
        if let Some(tci) = facts.vlan {
            write!(f, ", vlan {}", tci & 0xfff)?;
        }
        f.write_str(", ")?;
        match &facts.l3 {
            L3::Arp(packet) => print_arp(f, packet),
            L3::Ip(ip) => print_ip(f, ip),
            L3::Other => write!(f, "ethertype 0x{:04x}", facts.ethertype),
        }
    }
}

fn malformed(f: &mut fmt::Formatter<'_>, reason: Malformed) -> fmt::Result {
    let what = match reason {
        Malformed::Ethernet => "Ethernet header cut",
        Malformed::Arp => "ARP cut or not for IPv4 over Ethernet",
        Malformed::IpHeader => "IP header lies about a length",
        Malformed::IpChecksum => "IP header checksum wrong",
        Malformed::Fragment => "impossible fragment",
        Malformed::Tcp => "TCP header cut",
        Malformed::Udp => "UDP length wrong",
        Malformed::Icmp => "ICMP header cut",
    };
    write!(f, "malformed ({what})")
}

fn print_arp(f: &mut fmt::Formatter<'_>, packet: &Arp) -> fmt::Result {
    match packet.operation {
        arp::REQUEST => {
            write!(
                f,
                "ARP, Request who-has {} tell {}",
                packet.target_ip, packet.sender_ip
            )
        }
        arp::REPLY => write!(
            f,
            "ARP, Reply {} is-at {}",
            packet.sender_ip, packet.sender_mac
        ),
        other => write!(f, "ARP, operation {other}"),
    }
}

fn print_ip(f: &mut fmt::Formatter<'_>, ip: &Ip) -> fmt::Result {
    f.write_str(if ip.src.is_ipv4() { "IP " } else { "IP6 " })?;
    match &ip.l4 {
        L4::Tcp(tcp) => {
            write!(
                f,
                "{}.{} > {}.{}: ",
                ip.src, tcp.src_port, ip.dst, tcp.dst_port
            )?;
            print_tcp(f, ip, tcp)?;
        }
        L4::Udp(udp) => {
            let length = ip.payload_len().saturating_sub(8);
            write!(
                f,
                "{}.{} > {}.{}: ",
                ip.src, udp.src_port, ip.dst, udp.dst_port
            )?;
            write!(f, "UDP, payload {length}")?;
        }
        L4::Icmp(header) => {
            write!(f, "{} > {}: ", ip.src, ip.dst)?;
            print_icmp(f, ip, header)?;
        }
        L4::Fragment => {
            let (offset, more) = ip.fragment.map_or((0, false), |p| (p.offset, p.more));
            let flag = if more { "+" } else { "" };
            write!(
                f,
                "{} > {}: fragment {}",
                ip.src,
                ip.dst,
                protocol_name(ip.protocol)
            )?;
            write!(f, " (id {}, {}@{offset}{flag})", ip.id, ip.payload_len())?;
        }
        L4::Other => write!(f, "{} > {}: {}", ip.src, ip.dst, protocol_name(ip.protocol))?,
    }
    write!(f, ", ttl {}", ip.ttl)
}

fn print_tcp(f: &mut fmt::Formatter<'_>, ip: &Ip, tcp: &Tcp) -> fmt::Result {
    let flags = [
        (tcp_flags::SYN, 'S'),
        (tcp_flags::FIN, 'F'),
        (tcp_flags::RST, 'R'),
        (tcp_flags::PSH, 'P'),
        (tcp_flags::URG, 'U'),
        (tcp_flags::ACK, '.'),
    ];
    f.write_str("Flags [")?;
    for (bit, letter) in flags {
        if tcp.flags & bit != 0 {
            write!(f, "{letter}")?;
        }
    }
    write!(f, "], seq {}", tcp.seq)?;
    if tcp.flags & tcp_flags::ACK != 0 {
        write!(f, ", ack {}", tcp.ack)?;
    }
    let payload = ip.payload_len().saturating_sub(usize::from(tcp.header_len));
    write!(f, ", win {}, payload {payload}", tcp.window)
}

fn print_icmp(f: &mut fmt::Formatter<'_>, ip: &Ip, header: &Icmp) -> fmt::Result {
    if ip.src.is_ipv6() {
        return write!(f, "ICMP6, type {} code {}", header.kind, header.code);
    }
    match (header.kind, header.code) {
        (icmp::kind::ECHO, _) => {
            write!(f, "ICMP echo request, id {}, seq {}", header.id, header.seq)
        }
        (icmp::kind::ECHO_REPLY, _) => {
            write!(f, "ICMP echo reply, id {}, seq {}", header.id, header.seq)
        }
        (icmp::kind::UNREACHABLE, 0) => f.write_str("ICMP net unreachable"),
        (icmp::kind::UNREACHABLE, 1) => f.write_str("ICMP host unreachable"),
        (icmp::kind::UNREACHABLE, 2) => f.write_str("ICMP protocol unreachable"),
        (icmp::kind::UNREACHABLE, 3) => f.write_str("ICMP port unreachable"),
        (icmp::kind::UNREACHABLE, 4) => write!(f, "ICMP need to frag (mtu {})", header.seq),
        (icmp::kind::UNREACHABLE, 13) => f.write_str("ICMP admin prohibited"),
        (icmp::kind::TIME_EXCEEDED, 0) => f.write_str("ICMP time exceeded in-transit"),
        (icmp::kind::TIME_EXCEEDED, 1) => f.write_str("ICMP reassembly time exceeded"),
        (kind, code) => write!(f, "ICMP type {kind} code {code}"),
    }
}

fn protocol_name(number: u8) -> &'static str {
    match number {
        protocol::ICMP => "icmp",
        protocol::TCP => "tcp",
        protocol::UDP => "udp",
        protocol::ICMPV6 => "icmp6",
        47 => "gre",
        50 => "esp",
        132 => "sctp",
        _ => "ip-proto",
    }
}
