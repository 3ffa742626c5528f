//! What the owner of a port may claim to be.

use core::net::{IpAddr, Ipv6Addr};

use pontoon_packet::parse::protocol;
use pontoon_packet::{Arp, Facts, Ip, L3, L4, MacAddr};

use crate::Refusal;

/// Checks the sources of every frame that comes in by a port: Ethernet, IP (also inside VLAN tags),
/// ARP, neighbour discovery; and that nobody plays router or DHCP server.
///
/// The bindings are made when the port is plugged in and do not change. Besides the addresses it was
/// given, a port owns the link-local IPv6 address that Linux makes of its hardware address (RFC 4291
/// appendix A).
#[derive(Clone, Debug)]
pub struct Guard {
    mac: MacAddr,
    addresses: Vec<IpAddr>,
}

impl Guard {
    /// A guard that lets only `mac` and `addresses` through as sources.
    pub fn new(mac: MacAddr, addresses: &[IpAddr]) -> Self {
        let mut addresses = addresses.to_vec();
        addresses.push(link_local(mac).into());
        Self { mac, addresses }
    }

    /// Whether the port's owner may send this frame, of which `facts` are known.
    ///
    /// # Errors
    /// The first claim that is not the owner's to make.
    pub fn check(&self, frame: &[u8], facts: &Facts) -> Result<(), Refusal> {
        if facts.src_mac != self.mac {
            return Err(Refusal::SpoofedMac);
        }
        match &facts.l3 {
            L3::Arp(arp) => self.check_arp(arp),
            L3::Ip(ip) => self.check_ip(frame, ip),
            L3::Other => Ok(()),
        }
    }

    fn check_arp(&self, arp: &Arp) -> Result<(), Refusal> {
        let probe = arp.sender_ip.is_unspecified();
        if arp.sender_mac == self.mac && (probe || self.owns(arp.sender_ip.into())) {
            Ok(())
        } else {
            Err(Refusal::SpoofedArp)
        }
    }

    fn check_ip(&self, frame: &[u8], ip: &Ip) -> Result<(), Refusal> {
        if plays_router(ip) {
            return Err(Refusal::RouterAdvertisement);
        }
        if plays_dhcp_server(frame, ip) {
            return Err(Refusal::DhcpServer);
        }
        if !self.owns(ip.src) && !is_not_yet_configured(ip) {
            return Err(Refusal::SpoofedIp);
        }
        match advertised(frame, ip) {
            Some(target) if !self.owns(target.into()) => Err(Refusal::SpoofedNeighbour),
            _ => Ok(()),
        }
    }

    fn owns(&self, addr: IpAddr) -> bool {
        self.addresses.contains(&addr)
    }
}

/// The link-local address with the interface identifier made of `mac` (modified EUI-64).
fn link_local(mac: MacAddr) -> Ipv6Addr {
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

/// ICMPv6 types (RFC 4861, RFC 3810).
mod icmpv6 {
    pub(super) const ROUTER_SOLICITATION: u8 = 133;
    pub(super) const ROUTER_ADVERTISEMENT: u8 = 134;
    pub(super) const NEIGHBOUR_SOLICITATION: u8 = 135;
    pub(super) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    pub(super) const REDIRECT: u8 = 137;
    pub(super) const MULTICAST_LISTENER_REPORT: u8 = 143;
}

/// ICMPv6 router advertisement and redirect; a fragment of ICMPv6, or one that goes on with an
/// extension header (0, 43, 44, 60), could hide one (RFC 6980, RFC 7113), and
/// neighbour discovery is never fragmented.
fn plays_router(ip: &Ip) -> bool {
    let router = [icmpv6::ROUTER_ADVERTISEMENT, icmpv6::REDIRECT];
    match ip.l4 {
        L4::Icmp(icmp) => ip.src.is_ipv6() && router.contains(&icmp.kind),
        L4::Fragment => {
            ip.src.is_ipv6() && matches!(ip.protocol, protocol::ICMPV6 | 0 | 43 | 44 | 60)
        }
        L4::Tcp(_) | L4::Udp(_) | L4::Other => false,
    }
}

/// Sends from a DHCP server's port, in one piece or in several: the first fragment holds the ports.
fn plays_dhcp_server(frame: &[u8], ip: &Ip) -> bool {
    let server: u16 = if ip.src.is_ipv4() { 67 } else { 547 };
    match ip.l4 {
        L4::Udp(udp) => udp.src_port == server,
        L4::Fragment if ip.protocol == protocol::UDP => {
            let first = ip.fragment.is_some_and(|part| part.offset == 0);
            let port = frame.get(ip.l4_start()..ip.l4_start() + 2);
            first && port == Some(&server.to_be_bytes())
        }
        L4::Tcp(_) | L4::Icmp(_) | L4::Fragment | L4::Other => false,
    }
}

/// The address that a neighbour advertisement is about (RFC 4861 §4.4); unspecified when it is cut
/// off, which nobody owns.
fn advertised(frame: &[u8], ip: &Ip) -> Option<Ipv6Addr> {
    match ip.l4 {
        L4::Icmp(icmp) if ip.src.is_ipv6() && icmp.kind == icmpv6::NEIGHBOUR_ADVERTISEMENT => {
            let target = frame[ip.l4_start() + 8..ip.end()].first_chunk::<16>();
            Some(target.map_or(Ipv6Addr::UNSPECIFIED, |bytes| (*bytes).into()))
        }
        _ => None,
    }
}

/// The source of hosts that have no address yet: a DHCP client's 0.0.0.0, and `::` in what a host
/// says before it has made sure that its address is its own (RFC 4862 §5.4).
fn is_not_yet_configured(ip: &Ip) -> bool {
    let before_an_address = [
        icmpv6::ROUTER_SOLICITATION,
        icmpv6::NEIGHBOUR_SOLICITATION,
        icmpv6::MULTICAST_LISTENER_REPORT,
    ];
    ip.src.is_unspecified()
        && match ip.l4 {
            L4::Udp(udp) => ip.src.is_ipv4() && udp.src_port == 68,
            L4::Icmp(icmp) => ip.src.is_ipv6() && before_an_address.contains(&icmp.kind),
            L4::Tcp(_) | L4::Fragment | L4::Other => false,
        }
}
