//! Neighbour discovery (RFC 4861): routers, and who claims which address.

use core::net::Ipv6Addr;

use pontoon_packet::parse::protocol;
use pontoon_packet::{Ip, L4, MacAddr};

/// ICMPv6 types (RFC 4861, RFC 3810).
pub(super) mod icmpv6 {
    pub(in super::super) const ROUTER_SOLICITATION: u8 = 133;
    pub(super) const ROUTER_ADVERTISEMENT: u8 = 134;
    pub(in super::super) const NEIGHBOUR_SOLICITATION: u8 = 135;
    pub(in super::super) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    pub(super) const REDIRECT: u8 = 137;
    pub(in super::super) const MULTICAST_LISTENER_REPORT: u8 = 143;
}

/// ICMPv6 router advertisement and redirect; a fragment of ICMPv6, or one that goes on with an
/// extension header (0, 43, 44, 60), could hide one (RFC 6980, RFC 7113), and
/// neighbour discovery is never fragmented.
pub(super) fn plays_router(ip: &Ip) -> bool {
    let router = [icmpv6::ROUTER_ADVERTISEMENT, icmpv6::REDIRECT];
    match ip.l4 {
        L4::Icmp(icmp) => ip.src.is_ipv6() && router.contains(&icmp.kind),
        L4::Fragment => {
            ip.src.is_ipv6() && matches!(ip.protocol, protocol::ICMPV6 | 0 | 43 | 44 | 60)
        }
        L4::Tcp(_) | L4::Udp(_) | L4::Other => false,
    }
}

/// What a host asks or says of neighbours and routers.
pub(super) struct Message<'a> {
    /// Its ICMPv6 type: solicitation of a router, or of a neighbour, or a neighbour's advertisement.
    pub(super) kind: u8,
    /// From the type on.
    bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// The message in a frame that holds one.
    pub(super) fn read(frame: &'a [u8], ip: &Ip) -> Option<Self> {
        let L4::Icmp(icmp) = ip.l4 else { return None };
        let kinds = icmpv6::ROUTER_SOLICITATION..=icmpv6::NEIGHBOUR_ADVERTISEMENT;
        let is_discovery = ip.src.is_ipv6() && kinds.contains(&icmp.kind);
        is_discovery.then(|| Self {
            kind: icmp.kind,
            bytes: &frame[ip.l4_start()..ip.end()],
        })
    }

    /// The address that it is about (RFC 4861 §4.3, §4.4); none when that is cut off.
    pub(super) fn target(&self) -> Option<Ipv6Addr> {
        let bytes: &[u8; 16] = self.bytes.get(8..)?.first_chunk()?;
        Some((*bytes).into())
    }

    /// Every source and target link-layer address among its options (RFC 4861 §4.6.1). What follows an
    /// option of length zero is none: nobody reads such a message (§7.1).
    pub(super) fn hardware_addresses(&self) -> impl Iterator<Item = MacAddr> {
        const SOURCE: u8 = 1;
        const TARGET: u8 = 2;
        let header = match self.kind {
            icmpv6::ROUTER_SOLICITATION => 8,
            _ => 24,
        };
        let mut rest = self.bytes.get(header..).unwrap_or_default();
        let options = core::iter::from_fn(move || {
            let (option, others) = rest.split_at_checked(usize::from(*rest.get(1)?) * 8)?;
            rest = others;
            let (kind, body) = option.split_first()?;
            Some((*kind, body.get(1..7)?.try_into().ok()?))
        });
        options
            .filter(|(kind, _)| matches!(*kind, SOURCE | TARGET))
            .map(|(_, address)| MacAddr(address))
    }
}

/// The link-local address with the interface identifier made of `mac` (modified EUI-64).
pub(super) fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from([
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ])
}
