//! Networks.

use ipnet::IpNet;
use pontoon_switch::Switch;

use crate::config::{ConfigError, NetworkConfig, NetworkId, Outside};
use crate::datapath::{Datapath, Network, Role};
use crate::neighbour::Neighbours;
use crate::route::{InterfaceId, Route};

impl Datapath {
    /// Makes a network.
    ///
    /// # Errors
    /// The number is taken, the uplink is unknown, or the subnet overlaps another network's or the
    /// uplink's own.
    pub fn add_network(&mut self, config: NetworkConfig) -> Result<(), ConfigError> {
        if self.networks.contains_key(&config.id) {
            return Err(ConfigError::NetworkExists(config.id));
        }
        if let Outside::Uplink(uplink) = config.outside {
            let uplink = self
                .uplinks
                .get(&uplink)
                .ok_or(ConfigError::NoSuchUplink(uplink))?;
            let clash = uplink
                .config
                .addresses
                .iter()
                .find(|net| overlaps(net, &config.subnet));
            if clash.is_some() {
                return Err(ConfigError::SubnetOverlaps(config.subnet));
            }
        }
        if self
            .networks
            .values()
            .any(|other| overlaps(&other.config.subnet, &config.subnet))
        {
            return Err(ConfigError::SubnetOverlaps(config.subnet));
        }
        let interface = InterfaceId::Network(config.id);
        self.connected.insert(
            config.subnet,
            Route {
                interface,
                gateway: None,
            },
        );
        let network = Network {
            switch: Switch::new(config.gateway_mac, self.seeds.0).with_isolation(config.isolation),
            neighbours: Neighbours::new(self.seeds.hasher()),
            host_port: None,
            config,
        };
        self.networks.insert(network.config.id, network);
        self.begin_epoch();
        Ok(())
    }

    /// Takes an empty network away.
    ///
    /// # Errors
    /// It is not there, or ports are still plugged into it.
    pub fn remove_network(&mut self, id: NetworkId) -> Result<(), ConfigError> {
        if !self.networks.contains_key(&id) {
            return Err(ConfigError::NoSuchNetwork(id));
        }
        if self
            .ports
            .iter()
            .flatten()
            .any(|port| port.role == Role::Member(id))
        {
            return Err(ConfigError::NetworkInUse(id));
        }
        self.networks.remove(&id);
        self.connected.remove_interface(InterfaceId::Network(id));
        self.begin_epoch();
        Ok(())
    }
}

pub(super) fn overlaps(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}
