//! What the owner of a port may claim to be.

use core::net::IpAddr;

use pontoon_packet::{Arp, Facts, Ip, L3, L4, MacAddr};

use crate::Refusal;

/// Checks the sources of every frame that comes in by a port: Ethernet, IP (also inside VLAN tags),
/// ARP; and that nobody plays router or DHCP server.
///
/// The bindings are made when the port is plugged in and do not change.
#[derive(Clone, Debug)]
pub struct Guard {
    mac: MacAddr,
    addresses: Vec<IpAddr>,
}

impl Guard {
    /// A guard that lets only `mac` and `addresses` through as sources.
    pub fn new(mac: MacAddr, addresses: &[IpAddr]) -> Self {
        Self {
            mac,
            addresses: addresses.to_vec(),
        }
    }

    /// Whether the port's owner may send this.
    ///
    /// # Errors
    /// The first claim that is not the owner's to make.
    pub fn check(&self, facts: &Facts) -> Result<(), Refusal> {
        if facts.src_mac != self.mac {
            return Err(Refusal::SpoofedMac);
        }
        match &facts.l3 {
            L3::Arp(arp) => self.check_arp(arp),
            L3::Ip(ip) => self.check_ip(ip),
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

    fn check_ip(&self, ip: &Ip) -> Result<(), Refusal> {
        if plays_router(ip) {
            return Err(Refusal::RouterAdvertisement);
        }
        if plays_dhcp_server(ip) {
            return Err(Refusal::DhcpServer);
        }
        if self.owns(ip.src) || is_not_yet_configured(ip) {
            Ok(())
        } else {
            Err(Refusal::SpoofedIp)
        }
    }

    fn owns(&self, addr: IpAddr) -> bool {
        self.addresses.contains(&addr)
    }
}

/// ICMPv6 router advertisement and redirect; a fragment of ICMPv6, or one that goes on with an
/// extension header (0, 43, 44, 60), could hide one (RFC 6980, RFC 7113), and
/// neighbour discovery is never fragmented.
fn plays_router(ip: &Ip) -> bool {
    const ICMPV6: u8 = 58;
    match ip.l4 {
        L4::Icmp(icmp) => ip.src.is_ipv6() && matches!(icmp.kind, 134 | 137),
        L4::Fragment => ip.src.is_ipv6() && matches!(ip.protocol, ICMPV6 | 0 | 43 | 44 | 60),
        L4::Tcp(_) | L4::Udp(_) | L4::Other => false,
    }
}

fn plays_dhcp_server(ip: &Ip) -> bool {
    let server = if ip.src.is_ipv4() { 67 } else { 547 };
    matches!(ip.l4, L4::Udp(udp) if udp.src_port == server)
}

/// Sources of hosts that have no address yet: a DHCP client's 0.0.0.0, and IPv6's unspecified and
/// link-local addresses in neighbour discovery, which stays on the link.
fn is_not_yet_configured(ip: &Ip) -> bool {
    match ip.src {
        IpAddr::V4(src) => {
            src.is_unspecified() && matches!(ip.l4, L4::Udp(udp) if udp.src_port == 68)
        }
        IpAddr::V6(src) => src.is_unspecified() || src.is_unicast_link_local(),
    }
}
