//! Address pools and allocation.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use super::Invalid;

/// Docker's default pools in their order: 172.17.0.0/16 … 172.31.0.0/16, then 192.168.0.0/16 in /20s.
pub fn default_pools() -> impl Iterator<Item = Ipv4Net> {
    let first = (17..=31).map(|n| (Ipv4Addr::new(172, n, 0, 0), 16));
    let second = (0..16).map(|n| (Ipv4Addr::new(192, 168, n * 16, 0), 20));
    first
        .chain(second)
        .filter_map(|(address, length)| Ipv4Net::new(address, length).ok())
}

/// Whether two prefixes share an address.
pub fn overlaps(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// The first pool that shares nothing with what is `taken`.
///
/// # Errors
/// All do.
pub fn free_pool(taken: &[IpNet]) -> Result<Ipv4Net, Invalid> {
    default_pools()
        .find(|pool| !taken.iter().any(|other| overlaps(&IpNet::V4(*pool), other)))
        .ok_or_else(|| {
            Invalid::new(
                "subnet",
                "could not find an available address pool; give one",
            )
        })
}

/// Checks a subnet that a user wrote: an IPv4 prefix without host bits and with room for a gateway and
/// a container, /8 to /30.
///
/// # Errors
/// It is something else.
pub fn parse_subnet(text: &str) -> Result<Ipv4Net, Invalid> {
    let invalid = |why: &str| {
        Invalid::new(
            "subnet",
            format!("invalid subnet {}: {why}", text.escape_default()),
        )
    };
    let net: IpNet = text
        .parse()
        .map_err(|_| invalid("expected ADDRESS/LENGTH"))?;
    let IpNet::V4(net) = net else {
        return Err(invalid("only IPv4 subnets are supported"));
    };
    if net.addr() != net.network() {
        return Err(invalid(&format!(
            "it has host bits set; did you mean {}?",
            net.trunc()
        )));
    }
    let first = net.addr().octets()[0];
    if net.prefix_len() > 30 || net.prefix_len() < 8 {
        return Err(invalid("the prefix length must be from 8 to 30"));
    }
    if first == 0 || first == 127 || first >= 224 {
        return Err(invalid("hosts cannot have addresses from it"));
    }
    Ok(net)
}

/// Who has which address of a subnet.
///
/// Allocation is serial: the next address after the last one given, so that an address that was just
/// released is not given to somebody else at once. The subnet's first and last addresses are nobody's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allocator {
    subnet: Ipv4Net,
    range: Ipv4Net,
    taken: BTreeSet<Ipv4Addr>,
    last: Option<Ipv4Addr>,
}

impl Allocator {
    /// All addresses are free. Those that nobody asks for by number come from `range`, which lies inside
    /// `subnet`; as in Docker its first address is as good as any other.
    pub const fn new(subnet: Ipv4Net, range: Ipv4Net) -> Self {
        Self {
            subnet,
            range,
            taken: BTreeSet::new(),
            last: None,
        }
    }

    /// The next free address.
    ///
    /// # Errors
    /// There is none.
    pub fn allocate(&mut self) -> Result<Ipv4Addr, Invalid> {
        let free = self.first_free(self.last).ok_or_else(|| self.exhausted())?;
        self.taken.insert(free);
        self.last = Some(free);
        Ok(free)
    }

    /// Takes the first free address of all, for the gateway. Containers are numbered from the first one on
    /// as well.
    ///
    /// # Errors
    /// There is none.
    pub fn allocate_gateway(&mut self) -> Result<Ipv4Addr, Invalid> {
        let free = self.first_free(None).ok_or_else(|| self.exhausted())?;
        self.taken.insert(free);
        Ok(free)
    }

    /// The first free address of the range behind `last`, or from its beginning on.
    fn first_free(&self, last: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let (low, high) = (
            u32::from(self.range.network()),
            u32::from(self.range.broadcast()),
        );
        let start = last.map_or(low, |last| u32::from(last).saturating_add(1));
        let mut candidates = (start..=high).chain(low..start).map(Ipv4Addr::from);
        candidates.find(|address| self.is_hosts(*address) && !self.taken.contains(address))
    }

    fn is_hosts(&self, address: Ipv4Addr) -> bool {
        address != self.subnet.network() && address != self.subnet.broadcast()
    }

    fn exhausted(&self) -> Invalid {
        let what = format!("no available IPv4 addresses in {}", self.range);
        Invalid::new("network", what)
    }

    /// Takes the address that a user asked for.
    ///
    /// # Errors
    /// It is not in the subnet, is no host's, or is taken.
    pub fn take(&mut self, address: IpAddr) -> Result<Ipv4Addr, Invalid> {
        let invalid = |why: &str| Invalid::new("ip", format!("{address}: {why}"));
        let IpAddr::V4(address) = address else {
            return Err(invalid("only IPv4 addresses are supported"));
        };
        if !self.subnet.contains(&address) {
            return Err(invalid(&format!(
                "not in the network's subnet {}",
                self.subnet
            )));
        }
        if !self.is_hosts(address) {
            return Err(invalid("not a host's address"));
        }
        if !self.taken.insert(address) {
            let what = format!("{address}: Address already in use");
            return Err(Invalid::conflict("ip", what));
        }
        Ok(address)
    }

    /// Whether somebody has the address.
    pub fn holds(&self, address: Ipv4Addr) -> bool {
        self.taken.contains(&address)
    }

    /// Gives an address back.
    pub fn release(&mut self, address: Ipv4Addr) {
        self.taken.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allocator(subnet: &str) -> Allocator {
        ranged(subnet, subnet)
    }

    /// One whose gateway has the first free address.
    fn ranged(subnet: &str, range: &str) -> Allocator {
        let mut allocator = Allocator::new(subnet.parse().unwrap(), range.parse().unwrap());
        allocator.allocate_gateway().unwrap();
        allocator
    }

    #[test]
    fn a_range_is_used_from_its_first_address_to_its_last_and_no_further() {
        let mut a = ranged("172.28.0.0/16", "172.28.5.0/30");
        let all: Vec<_> = (0..3).map(|_| a.allocate().unwrap()).collect();
        assert_eq!(all, [1, 2, 3].map(|n| Ipv4Addr::new(172, 28, 5, n)));
        assert!(a.allocate().unwrap_err().reason.contains("172.28.5.0/30"));
        assert!(
            a.take(Ipv4Addr::new(172, 28, 9, 9).into()).is_ok(),
            "asked for by number, every address of the subnet can be had"
        );

        let mut given = Allocator::new(
            "172.28.0.0/16".parse().unwrap(),
            "172.28.5.0/24".parse().unwrap(),
        );
        given.take(Ipv4Addr::new(172, 28, 5, 254).into()).unwrap();
        assert_eq!(given.allocate().unwrap(), Ipv4Addr::new(172, 28, 5, 0));
    }

    #[test]
    fn neither_end_of_the_subnet_is_given_where_the_range_meets_it() {
        let mut a = Allocator::new(
            "10.0.0.0/28".parse().unwrap(),
            "10.0.0.12/30".parse().unwrap(),
        );
        let all: Vec<_> = (0..3).map(|_| a.allocate().unwrap().octets()[3]).collect();
        assert_eq!(all, [12, 13, 14]);
        assert!(a.allocate().is_err());
        let mut a = Allocator::new(
            "10.0.0.0/28".parse().unwrap(),
            "10.0.0.0/30".parse().unwrap(),
        );
        assert_eq!(a.allocate().unwrap(), Ipv4Addr::new(10, 0, 0, 1));
    }

    #[test]
    fn what_was_asked_for_by_number_does_not_move_the_order() {
        let mut a = allocator("10.0.0.0/24");
        a.take(Ipv4Addr::new(10, 0, 0, 200).into()).unwrap();
        a.take(Ipv4Addr::new(10, 0, 0, 2).into()).unwrap();
        assert_eq!(a.allocate().unwrap(), Ipv4Addr::new(10, 0, 0, 3));
    }

    #[test]
    fn addresses_are_given_in_order_and_not_reused_at_once() {
        let mut a = allocator("172.17.0.0/16");
        let first = a.allocate().unwrap();
        assert_eq!(first, Ipv4Addr::new(172, 17, 0, 2));
        a.release(first);
        assert_eq!(a.allocate().unwrap(), Ipv4Addr::new(172, 17, 0, 3));
    }

    #[test]
    fn a_small_subnet_is_used_up_and_wraps_around() {
        let mut a = allocator("10.0.0.0/29");
        let all: Vec<_> = (0..5).map(|_| a.allocate().unwrap()).collect();
        assert_eq!(all.last(), Some(&Ipv4Addr::new(10, 0, 0, 6)));
        assert!(a.allocate().is_err());
        a.release(all[1]);
        assert_eq!(a.allocate().unwrap(), all[1]);
    }

    #[test]
    fn wrong_addresses_are_refused_with_the_reason() {
        let mut a = allocator("10.0.0.0/24");
        for (address, why) in [
            ("10.0.1.1", "not in the network's subnet"),
            ("10.0.0.0", "not a host's address"),
            ("10.0.0.255", "not a host's address"),
            ("10.0.0.1", "Address already in use"),
            ("::1", "only IPv4"),
        ] {
            let error = a.take(address.parse().unwrap()).unwrap_err();
            assert!(error.reason.contains(why), "{error}");
        }
        assert!(a.take("10.0.0.9".parse().unwrap()).is_ok());
    }

    #[test]
    fn pools_that_overlap_a_route_are_skipped() {
        let taken = ["172.17.5.0/24", "172.18.0.0/16"].map(|net| net.parse().unwrap());
        assert_eq!(free_pool(&taken).unwrap().to_string(), "172.19.0.0/16");
        assert!(free_pool(&["172.0.0.0/8", "192.168.0.0/16"].map(|n| n.parse().unwrap())).is_err());
    }

    #[test]
    fn subnets_that_make_no_network_are_refused() {
        for text in [
            "10.0.0.1/24",
            "10.0.0.0/31",
            "10.0.0.0/32",
            "fd00::/64",
            "127.0.0.0/8",
            "x",
            "10.0.0.0/2",
        ] {
            assert_eq!(parse_subnet(text).unwrap_err().field, "subnet", "{text}");
        }
    }
}
