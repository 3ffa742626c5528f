//! Which way: routes by longest prefix.

use core::net::IpAddr;

use ahash::RandomState;
use hashbrown::HashMap;
use ipnet::IpNet;

use crate::config::{NetworkId, UplinkId};

/// A place where the engine has an address of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InterfaceId {
    /// The gateway of a network.
    Network(NetworkId),
    /// An interface that leads outside.
    Uplink(UplinkId),
    /// The host's own sockets.
    User,
}

/// Where datagrams for a prefix leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The interface.
    pub interface: InterfaceId,
    /// The next hop; `None` when the destination itself is on the link.
    pub gateway: Option<IpAddr>,
}

/// A route table of either family.
///
/// One hash table for each prefix length in use, asked from the longest on: the cost of a look-up
/// depends on how many different lengths there are (at most 33 and 129), not on how many routes.
/// Filled by the control side only, so it needs no cap.
#[derive(Debug)]
pub struct Routes {
    hasher: RandomState,
    by_length: Vec<(u8, HashMap<IpNet, Route, RandomState>)>,
}

impl Routes {
    /// An empty table.
    pub const fn new(hasher: RandomState) -> Self {
        Self {
            hasher,
            by_length: Vec::new(),
        }
    }

    /// Adds or replaces the route for `prefix`.
    pub fn insert(&mut self, prefix: IpNet, route: Route) {
        let prefix = prefix.trunc();
        let length = prefix.prefix_len();
        let at = match self.by_length.binary_search_by(|(l, _)| length.cmp(l)) {
            Ok(at) => at,
            Err(at) => {
                self.by_length
                    .insert(at, (length, HashMap::with_hasher(self.hasher.clone())));
                at
            }
        };
        self.by_length[at].1.insert(prefix, route);
    }

    /// Takes out every route that leaves by `interface`.
    pub fn remove_interface(&mut self, interface: InterfaceId) {
        for (_, routes) in &mut self.by_length {
            routes.retain(|_, route| route.interface != interface);
        }
        self.by_length.retain(|(_, routes)| !routes.is_empty());
    }

    /// The route of the longest prefix that contains `addr`, with that prefix.
    pub fn lookup(&self, addr: IpAddr) -> Option<(IpNet, Route)> {
        self.by_length.iter().find_map(|(length, routes)| {
            let prefix = IpNet::new(addr, *length).ok()?.trunc();
            routes.get(&prefix).map(|route| (prefix, *route))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(routes: &[(&str, u32)]) -> Routes {
        let mut table = Routes::new(RandomState::with_seeds(1, 2, 3, 4));
        for (prefix, id) in routes {
            let interface = InterfaceId::Network(NetworkId(*id));
            table.insert(
                prefix.parse().unwrap(),
                Route {
                    interface,
                    gateway: None,
                },
            );
        }
        table
    }

    fn lookup(table: &Routes, addr: &str) -> Option<u32> {
        let (_, route) = table.lookup(addr.parse().unwrap())?;
        match route.interface {
            InterfaceId::Network(NetworkId(id)) => Some(id),
            InterfaceId::Uplink(_) | InterfaceId::User => None,
        }
    }

    #[test]
    fn longest_prefix_wins_whatever_the_order_of_insertion() {
        let t = table(&[
            ("0.0.0.0/0", 1),
            ("10.1.2.3/32", 4),
            ("10.0.0.0/8", 2),
            ("10.1.0.0/16", 3),
        ]);
        assert_eq!(lookup(&t, "10.1.2.3"), Some(4));
        assert_eq!(lookup(&t, "10.1.2.4"), Some(3));
        assert_eq!(lookup(&t, "10.2.0.1"), Some(2));
        assert_eq!(lookup(&t, "192.0.2.1"), Some(1));
    }

    #[test]
    fn families_do_not_meet() {
        let t = table(&[("0.0.0.0/0", 1), ("2001:db8::/32", 2)]);
        assert_eq!(lookup(&t, "2001:db8::1"), Some(2));
        assert_eq!(lookup(&t, "2001:db9::1"), None);
    }

    #[test]
    fn routes_go_with_their_interface() {
        let mut t = table(&[("10.0.0.0/8", 1), ("10.1.0.0/16", 2)]);
        t.remove_interface(InterfaceId::Network(NetworkId(2)));
        assert_eq!(lookup(&t, "10.1.0.1"), Some(1));
    }

    #[test]
    fn nothing_known_is_no_route() {
        assert_eq!(lookup(&table(&[("10.0.0.0/8", 1)]), "192.0.2.1"), None);
    }
}
