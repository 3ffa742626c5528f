//! How networks and containers appear in DNS.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use pontoon_names::{Discovery, NameError, Reach, Zone, ZoneId};

use super::Invalid;
use super::api::Naming;
use super::name::{check_name, short_id};
use super::state::{Container, DEFAULT_NETWORK, Endpoint, Network};

/// Names of the host, where its loopback is open to a network: Pontoon's, and Docker's.
pub const HOST_NAMES: [&str; 2] = ["host.pontoon.internal", "host.docker.internal"];
/// The port of name servers (RFC 1035 §4.2).
const NAME_SERVER: u16 = 53;
/// How many servers of a container's own are asked; libnetwork's `maxExtDNS`.
const MAX_SERVERS: usize = 3;

/// The number of a network's zone.
pub const fn zone_id(network: &Network) -> ZoneId {
    ZoneId(network.number.0)
}

/// The zone of a network without containers. As in Docker, the containers of the default network do
/// not find each other by name, and an internal network asks nobody.
///
/// # Errors
/// The network's name cannot be one in DNS.
pub fn zone(network: &Network, seeds: [u64; 4]) -> Result<Zone, Invalid> {
    let discovery = if network.name == DEFAULT_NETWORK {
        Discovery::Nothing
    } else {
        Discovery::Containers
    };
    let reach = if network.has_way_out() {
        Reach::Outside
    } else {
        Reach::Internal
    };
    let subnets = [network.subnet.into()];
    let invalid = |error: NameError| Invalid::new("name", error.to_string());
    let mut zone = Zone::new(&network.name, &subnets, discovery, reach, seeds).map_err(invalid)?;
    if let Some(loopback) = network.host_loopback {
        for name in HOST_NAMES {
            zone.add_extra(name, loopback.into()).map_err(invalid)?;
        }
    }
    Ok(zone)
}

/// The names of a container: its own, the digits of its id that are shown, what it calls itself, and
/// its aliases on this network, as in Docker.
pub fn names<'a>(container: &'a Container, endpoint: &'a Endpoint) -> Vec<&'a str> {
    let own = [
        container.name.as_str(),
        short_id(&container.id),
        container.hostname(),
    ];
    let aliases = endpoint.aliases.iter().map(String::as_str);
    own.into_iter().chain(aliases).collect()
}

/// Whom the name server asks for a container of the network `subnet`, if not the host's resolvers.
pub fn upstreams(servers: &[IpAddr], subnet: &IpNet) -> Option<Vec<SocketAddr>> {
    if servers.is_empty() || are_inside(servers, subnet) {
        return None;
    }
    let asked = servers.iter().take(MAX_SERVERS);
    let asked = asked.map(|addr| SocketAddr::new(*addr, NAME_SERVER));
    Some(asked.collect())
}

/// Whether only the container itself can ask these servers: they are on its own network or on its
/// loopback, where the name server has no socket.
pub fn are_inside(servers: &[IpAddr], subnet: &IpNet) -> bool {
    let inside = |addr: &IpAddr| addr.is_loopback() || subnet.contains(addr);
    servers.iter().any(inside)
}

/// Checks what a container is to be called.
///
/// # Errors
/// The name is none.
pub(super) fn check_naming(naming: &Naming) -> Result<(), Invalid> {
    match &naming.hostname {
        Some(hostname) => check_name("hostname", hostname),
        None => Ok(()),
    }
}

/// Checks by which names a container is to be found on a network.
///
/// # Errors
/// A name is none, or nobody could use an alias.
pub(super) fn check_aliases(aliases: &[String], network: &str) -> Result<(), Invalid> {
    for alias in aliases {
        check_name("aliases", alias)?;
    }
    if network == DEFAULT_NETWORK && !aliases.is_empty() {
        let what =
            "containers of the default network do not find each other by name; make a network";
        return Err(Invalid::new("aliases", what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_only_the_container_reaches() {
        let subnet = "172.18.0.0/24".parse().unwrap();
        let inside = |addr: &str| are_inside(&[addr.parse().unwrap()], &subnet);
        assert!(inside("127.0.0.1") && inside("::1") && inside("172.18.0.9"));
        assert!(!inside("172.19.0.9") && !inside("2001:db8::1"));
    }

    #[test]
    fn three_servers_are_asked() {
        let subnet = "172.18.0.0/24".parse().unwrap();
        let servers: Vec<IpAddr> = (1..=5).map(|n| IpAddr::from([192, 0, 2, n])).collect();
        assert_eq!(upstreams(&servers, &subnet).unwrap().len(), 3);
        assert_eq!(upstreams(&[], &subnet), None);
    }

    #[test]
    fn the_hosts_loopback_is_nobodys_server() {
        let subnet = "172.18.0.0/24".parse().unwrap();
        assert_eq!(upstreams(&["127.0.0.1".parse().unwrap()], &subnet), None);
    }
}
