//! ICMP for IPv4 (RFC 792, RFC 1812 §4.3): kinds, and the bodies of errors.

use core::net::{IpAddr, Ipv4Addr};

use crate::checksum::{Delta, checksum};
use crate::parse::protocol;
use crate::{Facts, Frame, L4, rewrite};

/// Message types.
pub mod kind {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Redirect.
    pub const REDIRECT: u8 = 5;
    /// Echo request.
    pub const ECHO: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
}

/// Which half of a query a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// Asks: echo, timestamp, information, address mask.
    Request,
    /// Answers one of them.
    Reply,
}

/// What half of a query a message of type `kind` is; `None` for errors and everything else.
pub const fn query(kind: u8) -> Option<Query> {
    match kind {
        8 | 13 | 15 | 17 | 128 => Some(Query::Request),
        0 | 14 | 16 | 18 | 129 => Some(Query::Reply),
        _ => None,
    }
}

/// A message of type `kind` reports an error and quotes the datagram that caused it (RFC 1122
/// §3.2.2): such a message must never be answered with another error.
pub const fn is_error(kind: u8) -> bool {
    matches!(kind, 3 | 4 | 5 | 11 | 12)
}

/// An error that a router reports to the sender of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Error {
    /// 3/0: no route to the network.
    NetworkUnreachable,
    /// 3/1: a route, but the next hop does not answer.
    HostUnreachable,
    /// 3/2: the gateway does not speak this protocol.
    ProtocolUnreachable,
    /// 3/3: nothing listens on the gateway's port.
    PortUnreachable,
    /// 3/4: too big for the next hop, whose MTU is given in bytes (RFC 1191).
    FragmentationNeeded {
        /// MTU of the next hop.
        mtu: u16,
    },
    /// 3/13: refused by policy or for lack of room (RFC 1812 §5.2.7.1).
    AdministrativelyProhibited,
    /// 11/0: time to live exceeded in transit.
    TtlExceeded,
    /// 11/1: fragment reassembly time exceeded.
    ReassemblyTimeExceeded,
}

impl Error {
    /// Type and code of the message.
    pub const fn type_and_code(self) -> (u8, u8) {
        match self {
            Self::NetworkUnreachable => (kind::UNREACHABLE, 0),
            Self::HostUnreachable => (kind::UNREACHABLE, 1),
            Self::ProtocolUnreachable => (kind::UNREACHABLE, 2),
            Self::PortUnreachable => (kind::UNREACHABLE, 3),
            Self::FragmentationNeeded { .. } => (kind::UNREACHABLE, 4),
            Self::AdministrativelyProhibited => (kind::UNREACHABLE, 13),
            Self::TtlExceeded => (kind::TIME_EXCEEDED, 0),
            Self::ReassemblyTimeExceeded => (kind::TIME_EXCEEDED, 1),
        }
    }

    /// The second word of the message: zero but for the next-hop MTU (RFC 1191 §4).
    pub const fn rest_of_header(self) -> [u8; 4] {
        match self {
            Self::FragmentationNeeded { mtu } => {
                let [high, low] = mtu.to_be_bytes();
                [0, 0, high, low]
            }
            _ => [0; 4],
        }
    }
}

/// Whether the datagram may be answered with an ICMP error at all (RFC 1812 §4.3.2.7): not when it
/// is an ICMP error itself (or a fragment of ICMP, which may be one), was sent to a group, is not the first fragment, or comes from an address
/// that names no single host.
pub fn may_be_answered(facts: &Facts) -> bool {
    let Some(ip) = facts.ip() else { return false };
    let (IpAddr::V4(src), IpAddr::V4(dst)) = (ip.src, ip.dst) else {
        return false;
    };
    let single = |addr: Ipv4Addr| !addr.is_multicast() && !addr.is_broadcast();
    let first = ip.fragment.is_none_or(|part| part.offset == 0);
    let error = match ip.l4 {
        L4::Icmp(header) => query(header.kind).is_none(),
        L4::Fragment => ip.protocol == protocol::ICMP,
        L4::Tcp(_) | L4::Udp(_) | L4::Other => false,
    };
    let named = single(src) && !src.is_unspecified() && !src.is_loopback();
    named && single(dst) && !facts.dst_mac.is_group() && first && !error
}

/// Turns an echo request into its reply, in place: ends and hardware addresses swapped, a fresh time
/// to live, checksums right.
pub fn echo_reply(frame: &mut Frame<'_>, facts: &Facts) {
    let Some(ip) = facts.ip() else { return };
    let (IpAddr::V4(src), IpAddr::V4(dst)) = (ip.src, ip.dst) else {
        return;
    };
    rewrite::set_macs(frame, facts.src_mac, facts.dst_mac);
    let start = usize::from(ip.start);
    let l4 = ip.l4_start();
    let header = &mut frame.bytes[start..l4];
    header[8] = REPLY_TTL;
    header[12..16].copy_from_slice(&dst.octets());
    header[16..20].copy_from_slice(&src.octets());
    header[10..12].fill(0);
    let sum = checksum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let old = u16::from_be_bytes([frame.bytes[l4], frame.bytes[l4 + 1]]);
    let new = u16::from_be_bytes([kind::ECHO_REPLY, 0]);
    let field = u16::from_be_bytes([frame.bytes[l4 + 2], frame.bytes[l4 + 3]]);
    let field = Delta::default().word(old, new).apply(field);
    frame.bytes[l4..l4 + 2].copy_from_slice(&new.to_be_bytes());
    frame.bytes[l4 + 2..l4 + 4].copy_from_slice(&field.to_be_bytes());
}

/// Time to live of what the engine sends itself; Linux `ip_default_ttl`.
const REPLY_TTL: u8 = 64;
