//! Ports of networks.

use core::net::IpAddr;

use pontoon_nat::Owner;
use pontoon_packet::{Arp, MacAddr, Offload, arp};
use pontoon_switch::{Guard, LinkState};

use crate::carried::Reach;
use crate::config::{ConfigError, Guarding, NetworkId, PortConfig, PortId};
use crate::datapath::{Datapath, Port, Role, Transmit};
use crate::view::PortCounters;

impl Datapath {
    /// Plugs a port into a network and binds its addresses.
    ///
    /// # Errors
    /// The number, the hardware address or an address is taken, or the network is not there.
    pub fn add_port(&mut self, config: PortConfig) -> Result<(), ConfigError> {
        self.check_new_port(&config)?;
        self.plug(config, None);
        Ok(())
    }

    /// Plugs the host's own port into a network: the one that holds the gateway's addresses. What is
    /// sent to the gateway and meant for nobody else goes there.
    ///
    /// # Errors
    /// The number is taken, the network is not there, or it has a host port already.
    pub fn add_host_port(
        &mut self,
        id: PortId,
        network: NetworkId,
        mtu: u16,
    ) -> Result<(), ConfigError> {
        if self.port_mut(id).is_some() {
            return Err(ConfigError::PortExists(id));
        }
        let net = self
            .networks
            .get(&network)
            .ok_or(ConfigError::NoSuchNetwork(network))?;
        if net.host_port.is_some() {
            return Err(ConfigError::MacInUse(net.config.gateway_mac));
        }
        let config = PortConfig {
            id,
            network,
            mac: net.config.gateway_mac,
            addresses: vec![net.config.gateway],
            mtu,
            guard: Guarding::On,
        };
        self.plug(config, Some(id));
        Ok(())
    }

    /// Pulls a port out: its bindings, entries and flows go with it.
    ///
    /// # Errors
    /// It is not there, or it is an uplink's.
    pub fn remove_port(&mut self, id: PortId) -> Result<(), ConfigError> {
        let port = self.port_mut(id).ok_or(ConfigError::NoSuchPort(id))?;
        let Some(config) = port.config.clone() else {
            return Err(ConfigError::NoSuchPort(id));
        };
        if let Some(network) = self.networks.get_mut(&config.network) {
            network.switch.remove_port(id);
            for addr in &config.addresses {
                network.neighbours.unbind(*addr);
            }
            if network.host_port == Some(id) {
                network.host_port = None;
            }
        }
        self.ports[id.0 as usize] = None;
        self.nat.remove_owner(Owner(id.0));
        self.nat.end_flows_of(&config.addresses);
        self.reassembler.remove_owner(Owner(id.0));
        self.begin_epoch();
        Ok(())
    }

    /// Notes that a port's link went down or came up. What was learned behind it is forgotten when
    /// it goes down.
    ///
    /// # Errors
    /// The port is not there.
    pub fn set_link(&mut self, id: PortId, state: LinkState) -> Result<(), ConfigError> {
        let role = self.port_mut(id).ok_or(ConfigError::NoSuchPort(id))?.role;
        match role {
            Role::Member(network) => {
                if let Some(network) = self.networks.get_mut(&network)
                    && network.switch.set_link(id, state)
                {
                    self.lose_port(id);
                }
            }
            Role::Uplink(uplink) => {
                if let Some(uplink) = self.uplinks.get_mut(&uplink)
                    && state == LinkState::Down
                {
                    uplink.neighbours.flush();
                }
                self.begin_epoch();
            }
            Role::User => {}
        }
        Ok(())
    }

    /// Changes the largest datagram a port takes.
    ///
    /// # Errors
    /// The port is not there.
    pub fn set_mtu(&mut self, id: PortId, mtu: u16) -> Result<(), ConfigError> {
        let port = self.port_mut(id).ok_or(ConfigError::NoSuchPort(id))?;
        let before = core::mem::replace(&mut port.mtu, mtu);
        match port.role {
            _ if before == mtu => {}
            // A member's may be changed from within its container, when that has rights where the other end is.
            Role::Member(_) => self.lose_port(id),
            Role::Uplink(_) | Role::User => self.begin_epoch(),
        }
        Ok(())
    }

    /// Announces the gateway to a port that has just been plugged in (RFC 5227 §3), so that a
    /// namespace whose engine was restarted does not wait for its neighbour entry to age.
    pub fn announce(&mut self, port: PortId, out: &mut impl Transmit) {
        let Some(Role::Member(id)) = self.port_mut(port).map(|p| p.role) else {
            return;
        };
        let Some(network) = self.networks.get(&id) else {
            return;
        };
        let (mac, IpAddr::V4(addr)) = (network.config.gateway_mac, network.config.gateway) else {
            return;
        };
        let announcement = Arp {
            operation: arp::REQUEST,
            sender_mac: mac,
            sender_ip: addr,
            target_mac: MacAddr::ZERO,
            target_ip: addr,
        };
        let bytes = arp::frame(MacAddr::BROADCAST, &announcement);
        self.emit(port, &bytes, Offload::NONE, out);
    }

    pub(super) fn put_port(&mut self, id: PortId, port: Port) {
        let at = id.0 as usize;
        if self.ports.len() <= at {
            self.ports.resize_with(at + 1, || None);
        }
        self.ports[at] = Some(port);
    }

    fn check_new_port(&mut self, config: &PortConfig) -> Result<(), ConfigError> {
        if self.port_mut(config.id).is_some() {
            return Err(ConfigError::PortExists(config.id));
        }
        let network = self
            .networks
            .get(&config.network)
            .ok_or(ConfigError::NoSuchNetwork(config.network))?;
        if config.mac == network.config.gateway_mac || network.switch.is_bound(config.mac) {
            return Err(ConfigError::MacInUse(config.mac));
        }
        let taken = config
            .addresses
            .iter()
            .find(|addr| **addr == network.config.gateway || network.neighbours.is_bound(**addr));
        taken.map_or(Ok(()), |addr| Err(ConfigError::AddressInUse(*addr)))
    }

    fn plug(&mut self, config: PortConfig, host_port: Option<PortId>) {
        let guard = match config.guard {
            Guarding::On => Some(Guard::new(config.mac, &config.addresses)),
            Guarding::Off => None,
        };
        if let Some(network) = self.networks.get_mut(&config.network) {
            match host_port {
                Some(_) => network.switch.add_host_port(config.id),
                None => network.switch.add_port(config.id, config.mac),
            }
            for addr in &config.addresses {
                network.neighbours.bind(*addr, config.mac);
            }
            network.host_port = host_port.or(network.host_port);
        }
        let port = Port {
            role: Role::Member(config.network),
            mtu: config.mtu,
            guard,
            counters: PortCounters::default(),
            reach: Reach::Engine,
            config: Some(config.clone()),
        };
        self.put_port(config.id, port);
        self.begin_epoch();
    }
}
