//! Ways out.

use core::net::IpAddr;

use ipnet::IpNet;
use pontoon_nat::Owner;

use super::networks::overlaps;
use crate::carried::Reach;
use crate::config::{ConfigError, Outside, PortId, UplinkConfig, UplinkId};
use crate::datapath::{Datapath, Port, Role, Uplink};
use crate::neighbour::Neighbours;
use crate::route::{InterfaceId, Route, Routes};
use crate::view::PortCounters;

impl Datapath {
    /// Opens a way out.
    ///
    /// # Errors
    /// The number or the port's is taken, or an on-link prefix overlaps a network.
    pub fn add_uplink(&mut self, config: UplinkConfig) -> Result<(), ConfigError> {
        if self.uplinks.contains_key(&config.id) {
            return Err(ConfigError::UplinkExists(config.id));
        }
        if self.port_mut(config.port).is_some() {
            return Err(ConfigError::PortExists(config.port));
        }
        let networks: Vec<_> = self.networks.values().map(|n| n.config.subnet).collect();
        if let Some(net) = config
            .addresses
            .iter()
            .find(|net| networks.iter().any(|other| overlaps(net, other)))
        {
            return Err(ConfigError::SubnetOverlaps(*net));
        }
        let port = Port {
            role: Role::Uplink(config.id),
            config: None,
            guard: None,
            mtu: config.mtu,
            counters: PortCounters::default(),
            reach: Reach::Engine,
        };
        self.put_port(config.port, port);
        let uplink = Uplink {
            routes: uplink_routes(&config, Routes::new(self.seeds.hasher())),
            neighbours: Neighbours::new(self.seeds.hasher()),
            config,
        };
        self.uplinks.insert(uplink.config.id, uplink);
        self.begin_epoch();
        Ok(())
    }

    /// Takes over what changed on an uplink's interface. Flows that were masqueraded to an address
    /// that is gone end (Linux `nf_nat_masquerade.c`).
    ///
    /// # Errors
    /// The uplink is not there.
    pub fn update_uplink(&mut self, config: UplinkConfig) -> Result<(), ConfigError> {
        let seeds = self.seeds;
        let uplink = self
            .uplinks
            .get_mut(&config.id)
            .ok_or(ConfigError::NoSuchUplink(config.id))?;
        let gone: Vec<IpAddr> = uplink
            .config
            .addresses
            .iter()
            .map(IpNet::addr)
            .filter(|old| config.addresses.iter().all(|net| net.addr() != *old))
            .collect();
        uplink.routes = uplink_routes(&config, Routes::new(seeds.hasher()));
        uplink.neighbours.flush();
        let (port, mtu) = (config.port, config.mtu);
        uplink.config = config;
        for addr in gone {
            self.nat.flush_address(addr);
        }
        if let Some(port) = self.port_mut(port) {
            port.mtu = mtu;
        }
        self.begin_epoch();
        Ok(())
    }

    /// Closes a way out. Its flows end.
    ///
    /// # Errors
    /// It is not there, or networks still leave by it.
    pub fn remove_uplink(&mut self, id: UplinkId) -> Result<(), ConfigError> {
        if self
            .networks
            .values()
            .any(|network| network.config.outside == Outside::Uplink(id))
        {
            return Err(ConfigError::UplinkInUse(id));
        }
        let uplink = self
            .uplinks
            .remove(&id)
            .ok_or(ConfigError::NoSuchUplink(id))?;
        for net in &uplink.config.addresses {
            self.nat.flush_address(net.addr());
        }
        self.ports[uplink.config.port.0 as usize] = None;
        self.reassembler.remove_owner(Owner(uplink.config.port.0));
        self.begin_epoch();
        Ok(())
    }

    /// Opens the way to the host's own sockets. What they send comes in by `port`.
    ///
    /// # Errors
    /// The port's number is taken, or the way is open already.
    pub fn open_user_uplink(&mut self, port: PortId) -> Result<(), ConfigError> {
        if self.port_mut(port).is_some() || self.user_port.is_some() {
            return Err(ConfigError::PortExists(port));
        }
        let place = Port {
            role: Role::User,
            config: None,
            guard: None,
            mtu: u16::MAX,
            counters: PortCounters::default(),
            reach: Reach::Engine,
        };
        self.put_port(port, place);
        self.user_port = Some(port);
        Ok(())
    }

    /// The port by which the host's own sockets are reached, once their way is open.
    pub const fn user_port(&self) -> Option<PortId> {
        self.user_port
    }
}

fn uplink_routes(config: &UplinkConfig, mut routes: Routes) -> Routes {
    let interface = InterfaceId::Uplink(config.id);
    for net in &config.addresses {
        routes.insert(
            *net,
            Route {
                interface,
                gateway: None,
            },
        );
    }
    if let Some(gateway) = config.gateway {
        let everywhere = if gateway.is_ipv4() {
            IpNet::V4(ipnet::Ipv4Net::default())
        } else {
            IpNet::V6(ipnet::Ipv6Net::default())
        };
        routes.insert(
            everywhere,
            Route {
                interface,
                gateway: Some(gateway),
            },
        );
    }
    routes
}
