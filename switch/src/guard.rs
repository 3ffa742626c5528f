//! What the owner of a port may claim to be.

mod dhcp;
mod discovery;

use core::net::IpAddr;

use pontoon_packet::parse::ethertype;
use pontoon_packet::{Arp, Facts, Ip, L3, L4, MacAddr};

use crate::Refusal;
use discovery::{Message, icmpv6};

/// Checks the sources of every frame that comes in by a port: Ethernet, IP (also inside VLAN tags),
/// ARP, neighbour discovery; and that nobody plays router or DHCP server, or hides what it says.
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
        addresses.push(discovery::link_local(mac).into());
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
            L3::Other if hides_in_snap(&frame[facts.l3_start..], facts.ethertype) => {
                Err(Refusal::SnapEncapsulated)
            }
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
        if discovery::plays_router(ip) {
            return Err(Refusal::RouterAdvertisement);
        }
        if dhcp::plays_server(frame, ip) {
            return Err(Refusal::DhcpServer);
        }
        if !self.owns(ip.src) && !is_not_yet_configured(ip) {
            return Err(Refusal::SpoofedIp);
        }
        match Message::read(frame, ip) {
            Some(message) => self.check_discovery(ip.src, &message),
            None => Ok(()),
        }
    }

    /// Who advertises an address owns it, and so does who asks for it from `::`, which says that it is
    /// about to be taken (RFC 4862 §5.4.3). The hardware address that goes along is the port's, as in ARP.
    fn check_discovery(&self, src: IpAddr, message: &Message<'_>) -> Result<(), Refusal> {
        let owned = match message.kind {
            icmpv6::NEIGHBOUR_SOLICITATION if !src.is_unspecified() => true,
            icmpv6::NEIGHBOUR_SOLICITATION | icmpv6::NEIGHBOUR_ADVERTISEMENT => message
                .target()
                .is_some_and(|target| self.owns(target.into())),
            _ => true,
        };
        if owned && message.hardware_addresses().all(|mac| mac == self.mac) {
            Ok(())
        } else {
            Err(Refusal::SpoofedNeighbour)
        }
    }

    fn owns(&self, addr: IpAddr) -> bool {
        self.addresses.contains(&addr)
    }
}

/// IP or ARP behind an 802.2 SNAP header (RFC 1042), which some receivers take for the same as behind
/// an EtherType, also with tags in between (CVE-2021-27854, CVE-2021-27862).
fn hides_in_snap(payload: &[u8], length: u16) -> bool {
    const LARGEST_LENGTH: u16 = 1535;
    let [0xaa, 0xaa, 3, 0, 0, 0 | 0xf8, high, low, ..] = *payload else {
        return false;
    };
    let hidden = matches!(
        u16::from_be_bytes([high, low]),
        ethertype::IPV4 | ethertype::ARP | ethertype::IPV6 | ethertype::VLAN | ethertype::QINQ
    );
    length <= LARGEST_LENGTH && hidden
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
            L4::Udp(udp) => ip.src.is_ipv4() && udp.src_port == dhcp::CLIENT,
            L4::Icmp(icmp) => ip.src.is_ipv6() && before_an_address.contains(&icmp.kind),
            L4::Tcp(_) | L4::Fragment | L4::Other => false,
        }
}
