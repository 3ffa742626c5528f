//! Translating ICMP errors (RFC 5508 §4, Linux `nf_conntrack_inet_error`).
//!
//! An error quotes the datagram that caused it, as it looked where the error was made. For the flow
//! `172.18.0.2:5000 → 198.51.100.10:53`, masqueraded as `192.0.2.1:5000`:
//!
//! ```text
//! outside, closed port:   198.51.100.10 → 192.0.2.1    quotes 192.0.2.1:5000  → 198.51.100.10:53
//! what the container gets: 198.51.100.10 → 172.18.0.2  quotes 172.18.0.2:5000 → 198.51.100.10:53
//! ```
//!
//! The inverse of what is quoted is a tuple that packets *towards* the maker of the error's side have:
//! it finds the flow and the direction in which the error travels. The error then gets the ends that
//! a packet of that direction gets, and its quotation the inverse of them. A router in between is not
//! an end of the flow: its address stays as it is.

use core::net::IpAddr;

use pontoon_packet::checksum::{Delta, checksum};
use pontoon_packet::parse::parse_quoted_ipv4;
use pontoon_packet::{Endpoint, Facts, Frame, Ip, L4, Timestamp, icmp};

use crate::{Nat, Refusal, Tuple};

/// ICMP header in front of the quotation.
const ICMP_HEADER: usize = 8;

impl Nat {
    /// Gives an ICMP error, and the datagram it quotes, the ends that the far side of the flow knows.
    /// The flow is neither refreshed nor ended (RFC 5508 REQ-6, RFC 5382 REQ-10).
    ///
    /// # Errors
    /// A wrong checksum, a quotation that is cut too short, or one about no flow. The frame may not be
    /// used any further then.
    pub fn translate_error(
        &self,
        now: Timestamp,
        frame: &mut Frame<'_>,
        facts: &Facts,
    ) -> Result<(), Refusal> {
        let outer = facts
            .ip()
            .filter(|ip| ip.src.is_ipv4())
            .ok_or(Refusal::InvalidIcmp)?;
        let L4::Icmp(header) = outer.l4 else {
            return Err(Refusal::InvalidIcmp);
        };
        if !matches!(header.kind, 3 | 11 | 12) {
            return Err(Refusal::InvalidIcmp);
        }
        let start = outer.l4_start() + ICMP_HEADER;
        let quoted = quotation(&frame.bytes[outer.l4_start()..outer.end()])?;
        let tuple = Tuple::of(&quoted).ok_or(Refusal::UnrelatedError)?;
        let (id, direction) = self
            .table
            .find(now, &tuple.inverted())
            .ok_or(Refusal::UnrelatedError)?;
        // The one who gets the error must be the one who sent what it quotes.
        if outer.dst != tuple.src.addr {
            return Err(Refusal::UnrelatedError);
        }
        let connection = self.table.get(id).ok_or(Refusal::UnrelatedError)?;
        let leaves = connection.tuples.of(direction.inverted()).inverted();
        rewrite_quotation(
            &mut frame.bytes[start..outer.end()],
            &quoted,
            &leaves.inverted(),
        );
        let from_end = outer.src == tuple.dst.addr;
        let src = if from_end || hides(&tuple, &leaves) {
            leaves.src.addr
        } else {
            outer.src
        };
        rewrite_outer(frame, outer, src, leaves.dst.addr);
        Ok(())
    }
}

/// An error made inside, by the gateway or the container's own router, about a flow whose inside end
/// has another name outside, must not show an inside address there.
fn hides(quoted: &Tuple, leaves: &Tuple) -> bool {
    quoted.dst.addr != leaves.src.addr
}

/// The quoted datagram, once the checksums of the error and of the quoted header hold
/// (RFC 5508 REQ-3; the quoted transport checksum is not looked at).
fn quotation(message: &[u8]) -> Result<Ip, Refusal> {
    if checksum(message) != 0 {
        return Err(Refusal::BadErrorChecksum);
    }
    let quoted = parse_quoted_ipv4(&message[ICMP_HEADER..]).ok_or(Refusal::UnrelatedError)?;
    let header = &message[ICMP_HEADER..ICMP_HEADER + usize::from(quoted.header_len)];
    if checksum(header) != 0 {
        return Err(Refusal::BadErrorChecksum);
    }
    Ok(quoted)
}

/// Gives the quoted datagram the ends of `tuple`, and keeps whichever of its checksums is there
/// consistent.
fn rewrite_quotation(bytes: &mut [u8], quoted: &Ip, tuple: &Tuple) {
    let l4 = usize::from(quoted.header_len);
    let mut addresses = Delta::default();
    for (old, new, at) in [
        (quoted.src, tuple.src.addr, 12),
        (quoted.dst, tuple.dst.addr, 16),
    ] {
        if let IpAddr::V4(v4) = new {
            bytes[at..at + 4].copy_from_slice(&v4.octets());
            addresses = addresses.address(old, new);
        }
    }
    update(bytes, 10, addresses);
    match quoted.l4 {
        L4::Tcp(tcp) => {
            let ports = put_ports(bytes, l4, (tcp.src_port, tcp.dst_port), tuple);
            update(bytes, l4 + 16, addresses.and(ports));
        }
        L4::Udp(udp) => {
            let ports = put_ports(bytes, l4, (udp.src_port, udp.dst_port), tuple);
            if udp.checksum != 0 {
                update(bytes, l4 + 6, addresses.and(ports));
                // Zero would say that there is no checksum (RFC 768).
                if let Some(sum) = bytes.get_mut(l4 + 6..l4 + 8).filter(|sum| *sum == [0, 0]) {
                    sum.fill(0xff);
                }
            }
        }
        L4::Icmp(header) => {
            let id = quoted_id(header.kind, tuple);
            bytes[l4 + 4..l4 + 6].copy_from_slice(&id.to_be_bytes());
            update(bytes, l4 + 2, Delta::default().word(header.id, id));
        }
        L4::Fragment | L4::Other => {}
    }
}

/// The identifier of a quoted query is the port of the end that asked.
fn quoted_id(kind: u8, tuple: &Tuple) -> u16 {
    let Endpoint { port, .. } = match icmp::query(kind) {
        Some(icmp::Query::Reply) => tuple.dst,
        _ => tuple.src,
    };
    port
}

fn put_ports(bytes: &mut [u8], l4: usize, old: (u16, u16), tuple: &Tuple) -> Delta {
    bytes[l4..l4 + 2].copy_from_slice(&tuple.src.port.to_be_bytes());
    bytes[l4 + 2..l4 + 4].copy_from_slice(&tuple.dst.port.to_be_bytes());
    Delta::default()
        .word(old.0, tuple.src.port)
        .word(old.1, tuple.dst.port)
}

/// Updates a checksum field, if the quotation reaches that far.
fn update(bytes: &mut [u8], at: usize, delta: Delta) {
    if let Some(field) = bytes.get_mut(at..at + 2) {
        let new = delta.apply(u16::from_be_bytes([field[0], field[1]]));
        field.copy_from_slice(&new.to_be_bytes());
    }
}

fn rewrite_outer(frame: &mut Frame<'_>, outer: &Ip, src: IpAddr, dst: IpAddr) {
    let (IpAddr::V4(src), IpAddr::V4(dst)) = (src, dst) else {
        return;
    };
    let start = usize::from(outer.start);
    let header = &mut frame.bytes[start..outer.l4_start()];
    header[12..16].copy_from_slice(&src.octets());
    header[16..20].copy_from_slice(&dst.octets());
    header[10..12].fill(0);
    let sum = checksum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let message = &mut frame.bytes[outer.l4_start()..outer.end()];
    message[2..4].fill(0);
    let sum = checksum(message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}
