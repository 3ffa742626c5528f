//! The shield of an uplink: keeps the kernel from answering for flows that are translated.
//!
//! The engine and the kernel hear the same frames of an uplink. For a segment of a masqueraded flow the
//! kernel has no socket, and would answer with a reset or *port unreachable*. The shield is a table of
//! nf_tables in the uplink's namespace with two rules for each address and protocol, at *input*:
//!
//! ```text
//! iif IFACE  ip daddr ADDRESS  meta l4proto P  socket exists → accept
//! iif IFACE  ip daddr ADDRESS  meta l4proto P                → drop
//! ```
//!
//! Where a network's addresses leave untranslated, what comes back is for addresses that are not the kernel's. One that
//! forwards would send it on by its own routes, or tell its sender that there is none. Two chains, then:
//!
//! ```text
//! prerouting  iif IFACE  ip daddr SUBNET → drop
//! ```
//!
//! Connections and listeners of the host on the same interface go on working. What the shield cannot
//! tell apart is a reply to a translated flow whose external port is one that the host listens on.
//!
//! The table has the *owner* flag: it belongs to the netlink socket that made it and vanishes with it,
//! however its process ends. Reference: `include/uapi/linux/netfilter/nf_tables.h`.

mod nftables;

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

use nftables::{
    Batch, NF_ACCEPT, NF_DROP, NF_INET_LOCAL_IN, NF_INET_PRE_ROUTING, acknowledged, bitwise_and,
    equals, meta, payload, socket_exists, verdict,
};

/// Holds the table.
pub(crate) struct Shield {
    /// The table lives as long as this socket.
    _owner: Socket,
}

impl Shield {
    /// Raises the shield for the IPv4 addresses of an interface, and for `subnets` whose addresses leave
    /// untranslated there. `name` tells it apart from the others of the network namespace: its table is
    /// `pontoon-NAME`.
    ///
    /// # Errors
    /// nf_tables is missing, or there is no right to it.
    pub(crate) fn raise(
        name: &str,
        ifindex: u32,
        addresses: &[IpNet],
        subnets: &[IpNet],
    ) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let mut batch = Batch::begin(&format!("pontoon-{name}"));
        // The kernel has routed a packet to itself by then and would look for a socket next.
        batch.chain("input", NF_INET_LOCAL_IN);
        for rule in addresses
            .iter()
            .flat_map(|net| for_address(ifindex, net.addr()))
        {
            batch.rule("input", &rule);
        }
        // The engine has heard it before.
        batch.chain("prerouting", NF_INET_PRE_ROUTING);
        for rule in subnets.iter().filter_map(|net| for_subnet(ifindex, net)) {
            batch.rule("prerouting", &rule);
        }
        let (bytes, expected) = batch.end();
        socket.send(&bytes, 0)?;
        acknowledged(&socket, expected)?;
        Ok(Self { _owner: socket })
    }
}

/// Expressions, one after the other.
type Rule = Vec<Vec<u8>>;

/// Where the destination stands in an IPv4 header, and how long it is.
const DESTINATION: (u32, u32) = (16, 4);

fn for_address(ifindex: u32, address: IpAddr) -> Vec<Rule> {
    const META_L4PROTO: u32 = 16;
    let IpAddr::V4(address) = address else {
        return Vec::new();
    };
    let protocols = [libc::IPPROTO_TCP as u8, libc::IPPROTO_UDP as u8];
    let rules = protocols.map(|protocol| {
        let mut matches = from_interface(ifindex);
        matches.extend([payload(DESTINATION), equals(&address.octets())]);
        matches.extend([meta(META_L4PROTO), equals(&[protocol])]);
        let claimed = [&matches[..], &[socket_exists(), verdict(NF_ACCEPT)]].concat();
        [claimed, [&matches[..], &[verdict(NF_DROP)]].concat()]
    });
    rules.into_iter().flatten().collect()
}

fn for_subnet(ifindex: u32, subnet: &IpNet) -> Option<Rule> {
    let IpNet::V4(subnet) = subnet else {
        return None;
    };
    let mut rule = from_interface(ifindex);
    rule.extend([
        payload(DESTINATION),
        bitwise_and(&subnet.netmask().octets()),
        equals(&subnet.network().octets()),
        verdict(NF_DROP),
    ]);
    Some(rule)
}

/// `iif … meta nfproto ipv4`
fn from_interface(ifindex: u32) -> Rule {
    const META_IIF: u32 = 4;
    const META_NFPROTO: u32 = 15;
    vec![
        meta(META_IIF),
        equals(&ifindex.to_ne_bytes()),
        meta(META_NFPROTO),
        equals(&[libc::NFPROTO_IPV4 as u8]),
    ]
}
