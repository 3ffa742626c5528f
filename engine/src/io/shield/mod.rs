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

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;

use super::nftables::expression::{
    Bytes, Comparison, FIRST, Header, Meta, Verdict, compare, load, mask, meta, socket_exists,
    verdict,
};
use super::nftables::{Batch, ChainHook, Family, Tables};

/// In front of every filter (`NF_IP_PRI_RAW`), where packets for the kernel itself come by
/// (`NF_INET_LOCAL_IN`): it would look for a socket next.
const INPUT: ChainHook<'_> = ChainHook {
    number: 1,
    priority: -300,
    interface: None,
};
/// The same where packets come in (`NF_INET_PRE_ROUTING`). The engine has heard them before.
const PREROUTING: ChainHook<'_> = ChainHook { number: 0, ..INPUT };

/// Holds the table.
pub(crate) struct Shield {
    /// The table lives as long as this socket.
    _owner: Tables,
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
        let mut tables = Tables::open()?;
        let table = format!("pontoon-{name}");
        let mut batch = Batch::begin(Family::Inet);
        batch.owned_table(&table);
        batch.chain(&table, "input", Some(INPUT));
        for rule in addresses
            .iter()
            .flat_map(|net| for_address(ifindex, net.addr()))
        {
            batch.rule(&table, "input", &rule);
        }
        batch.chain(&table, "prerouting", Some(PREROUTING));
        for rule in subnets.iter().filter_map(|net| for_subnet(ifindex, net)) {
            batch.rule(&table, "prerouting", &rule);
        }
        tables.commit(batch)?;
        Ok(Self { _owner: tables })
    }
}

/// Expressions, one after the other.
type Rule = Vec<Vec<u8>>;

/// Where the destination stands in an IPv4 header, and how long it is.
const DESTINATION: Bytes = Bytes(Header::Network, 16, 4);

fn for_address(ifindex: u32, address: IpAddr) -> Vec<Rule> {
    let IpAddr::V4(address) = address else {
        return Vec::new();
    };
    let protocols = [libc::IPPROTO_TCP as u8, libc::IPPROTO_UDP as u8];
    let rules = protocols.map(|protocol| {
        let mut matches = from_interface(ifindex);
        matches.extend([load(DESTINATION, FIRST), equals(&address.octets())]);
        matches.extend([meta(Meta::Protocol, FIRST), equals(&[protocol])]);
        let claimed = [&matches[..], &[socket_exists(), verdict(Verdict::Accept)]].concat();
        [claimed, [&matches[..], &[verdict(Verdict::Drop)]].concat()]
    });
    rules.into_iter().flatten().collect()
}

fn for_subnet(ifindex: u32, subnet: &IpNet) -> Option<Rule> {
    let IpNet::V4(subnet) = subnet else {
        return None;
    };
    let mut rule = from_interface(ifindex);
    rule.extend([
        load(DESTINATION, FIRST),
        mask(FIRST, &subnet.netmask().octets()),
        equals(&subnet.network().octets()),
        verdict(Verdict::Drop),
    ]);
    Some(rule)
}

/// `iif … meta nfproto ipv4`
fn from_interface(ifindex: u32) -> Rule {
    vec![
        meta(Meta::Interface, FIRST),
        equals(&ifindex.to_ne_bytes()),
        meta(Meta::NetworkProtocol, FIRST),
        equals(&[libc::NFPROTO_IPV4 as u8]),
    ]
}

fn equals(value: &[u8]) -> Vec<u8> {
    compare(FIRST, Comparison::Equal, value)
}
