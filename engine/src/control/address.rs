//! Address pools and allocation.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

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
                "--subnet",
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
            "--subnet",
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
/// released is not given to somebody else at once.
#[derive(Clone, Debug)]
pub struct Allocator {
    subnet: Ipv4Net,
    taken: BTreeSet<Ipv4Addr>,
    last: Ipv4Addr,
}

impl Allocator {
    /// All addresses are free but the gateway's.
    pub fn new(subnet: Ipv4Net, gateway: Ipv4Addr) -> Self {
        Self {
            subnet,
            taken: BTreeSet::from([gateway]),
            last: subnet.network(),
        }
    }

    /// The next free address.
    ///
    /// # Errors
    /// There is none.
    pub fn allocate(&mut self) -> Result<Ipv4Addr, Invalid> {
        let (low, high) = (
            u32::from(self.subnet.network()),
            u32::from(self.subnet.broadcast()),
        );
        let start = u32::from(self.last);
        let after = start + 1..high;
        let before = low + 1..=start.max(low + 1);
        let free = after
            .chain(before)
            .map(Ipv4Addr::from)
            .find(|address| !self.taken.contains(address))
            .filter(|address| *address != self.subnet.broadcast())
            .ok_or_else(|| {
                Invalid::new(
                    "--network",
                    format!("no available IPv4 addresses in {}", self.subnet),
                )
            })?;
        self.taken.insert(free);
        self.last = free;
        Ok(free)
    }

    /// Takes the address that a user asked for.
    ///
    /// # Errors
    /// It is not in the subnet, is no host's, or is taken.
    pub fn take(&mut self, address: IpAddr) -> Result<Ipv4Addr, Invalid> {
        let invalid = |why: &str| Invalid::new("--ip", format!("{address}: {why}"));
        let IpAddr::V4(address) = address else {
            return Err(invalid("only IPv4 addresses are supported"));
        };
        if !self.subnet.contains(&address) {
            return Err(invalid(&format!(
                "not in the network's subnet {}",
                self.subnet
            )));
        }
        if address == self.subnet.network() || address == self.subnet.broadcast() {
            return Err(invalid("not a host's address"));
        }
        if !self.taken.insert(address) {
            return Err(invalid("Address already in use"));
        }
        Ok(address)
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
        let subnet: Ipv4Net = subnet.parse().unwrap();
        Allocator::new(subnet, subnet.hosts().next().unwrap())
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
            assert_eq!(parse_subnet(text).unwrap_err().field, "--subnet", "{text}");
        }
    }
}
