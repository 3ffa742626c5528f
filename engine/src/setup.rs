//! Adding and taking away: networks, ports, uplinks, published ports.
//!
//! Each operation checks everything it depends on before it changes anything, and bumps the flow
//! cache's epoch when a compiled path could be affected.

use core::net::IpAddr;

use ipnet::IpNet;
use pontoon_nat::{ConnId, Owner, Published};
use pontoon_packet::{Facts, MacAddr, Timestamp};
use pontoon_switch::{Guard, LinkState, Switch};

use crate::config::{
    AddressOwner, ConfigError, Guarding, NetworkConfig, NetworkId, Outside, PortConfig, PortId,
    UplinkConfig, UplinkId,
};
use crate::datapath::{Datapath, Network, Port, Role, Transmit, Uplink};
use crate::neighbour::Neighbours;
use crate::route::{InterfaceId, Route, Routes};
use crate::view::PortCounters;

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
        self.cache.bump_epoch();
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
        self.cache.bump_epoch();
        Ok(())
    }

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
        self.reassembler.remove_owner(Owner(id.0));
        self.cache.bump_epoch();
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
                if let Some(network) = self.networks.get_mut(&network) {
                    network.switch.set_link(id, state);
                }
            }
            Role::Uplink(uplink) => {
                if let Some(uplink) = self.uplinks.get_mut(&uplink)
                    && state == LinkState::Down
                {
                    uplink.neighbours.flush();
                }
            }
            Role::User => {}
        }
        self.cache.bump_epoch();
        Ok(())
    }

    /// Changes the largest datagram a port takes.
    ///
    /// # Errors
    /// The port is not there.
    pub fn set_mtu(&mut self, id: PortId, mtu: u16) -> Result<(), ConfigError> {
        self.port_mut(id).ok_or(ConfigError::NoSuchPort(id))?.mtu = mtu;
        self.cache.bump_epoch();
        Ok(())
    }

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
        };
        self.put_port(config.port, port);
        let uplink = Uplink {
            routes: uplink_routes(&config, Routes::new(self.seeds.hasher())),
            neighbours: Neighbours::new(self.seeds.hasher()),
            config,
        };
        self.uplinks.insert(uplink.config.id, uplink);
        self.cache.bump_epoch();
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
        self.cache.bump_epoch();
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
        self.cache.bump_epoch();
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
        };
        self.put_port(port, place);
        self.user_port = Some(port);
        Ok(())
    }

    /// The port by which the host's own sockets are reached, once their way is open.
    pub const fn user_port(&self) -> Option<PortId> {
        self.user_port
    }

    /// The connection that a datagram with these facts belongs to.
    pub fn connection(&self, now: Timestamp, facts: &Facts) -> Option<ConnId> {
        let (id, _) = self.nat.find(now, facts.ip()?)?;
        Some(id)
    }

    /// Connections of the user uplink that have ended since the last call: in time, by eviction, or
    /// with their container.
    pub fn ended(&mut self) -> Vec<ConnId> {
        self.nat.ended()
    }

    /// Ends a connection that needs its place no longer.
    pub fn end(&mut self, id: ConnId) {
        self.nat.end(id);
    }

    /// Publishes a container's port.
    ///
    /// # Errors
    /// The address, port and protocol are published already; the error names the holder.
    pub fn publish(&mut self, published: Published) -> Result<(), ConfigError> {
        self.nat.publish(published).map_err(ConfigError::Publish)?;
        self.cache.bump_epoch();
        Ok(())
    }

    /// Takes a published port back, and ends the flows that came by it. Does nothing when it is not
    /// published.
    pub fn unpublish(&mut self, published: &Published) {
        self.nat.unpublish(published);
        self.cache.bump_epoch();
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
            config: Some(config.clone()),
        };
        self.put_port(config.id, port);
        self.cache.bump_epoch();
    }

    fn put_port(&mut self, id: PortId, port: Port) {
        let at = id.0 as usize;
        if self.ports.len() <= at {
            self.ports.resize_with(at + 1, || None);
        }
        self.ports[at] = Some(port);
    }
}

/// What the stages ask about interfaces.
impl Datapath {
    pub(crate) fn neighbours_mut(&mut self, interface: InterfaceId) -> Option<&mut Neighbours> {
        match interface {
            InterfaceId::Network(id) => Some(&mut self.networks.get_mut(&id)?.neighbours),
            InterfaceId::Uplink(id) => Some(&mut self.uplinks.get_mut(&id)?.neighbours),
            InterfaceId::User => None,
        }
    }

    /// The uplink that a network leaves by, or the uplink itself.
    pub(crate) fn uplink_of(&self, interface: InterfaceId) -> Option<&Uplink> {
        let id = match interface {
            InterfaceId::Network(id) => match self.networks.get(&id)?.config.outside {
                Outside::Uplink(id) => id,
                Outside::Nowhere | Outside::User => return None,
            },
            InterfaceId::Uplink(id) => id,
            InterfaceId::User => return None,
        };
        self.uplinks.get(&id)
    }

    /// The interface's own IPv4 address: what errors come from and flows are masqueraded to.
    pub(crate) fn address_of(&self, interface: InterfaceId) -> Option<IpAddr> {
        match interface {
            InterfaceId::Network(id) => Some(self.networks.get(&id)?.config.gateway),
            InterfaceId::Uplink(id) => {
                let addresses = &self.uplinks.get(&id)?.config.addresses;
                addresses.iter().map(IpNet::addr).find(IpAddr::is_ipv4)
            }
            InterfaceId::User => None,
        }
    }

    pub(crate) fn mac_of(&self, interface: InterfaceId) -> Option<MacAddr> {
        match interface {
            InterfaceId::Network(id) => Some(self.networks.get(&id)?.config.gateway_mac),
            InterfaceId::Uplink(id) => Some(self.uplinks.get(&id)?.config.mac),
            InterfaceId::User => None,
        }
    }

    pub(crate) fn mtu_of(&self, interface: InterfaceId) -> u16 {
        match interface {
            InterfaceId::Network(id) => self.networks.get(&id).map_or(0, |n| n.config.mtu),
            InterfaceId::Uplink(id) => self.uplinks.get(&id).map_or(0, |u| u.config.mtu),
            InterfaceId::User => u16::MAX,
        }
    }

    pub(crate) fn host_port(&self, interface: InterfaceId) -> Option<PortId> {
        match interface {
            InterfaceId::Network(id) => self.networks.get(&id)?.host_port,
            InterfaceId::Uplink(_) | InterfaceId::User => None,
        }
    }

    /// The gateway of that network has the address.
    pub(crate) fn is_gateway(&self, interface: InterfaceId, addr: IpAddr) -> bool {
        matches!(interface, InterfaceId::Network(_)) && self.address_of(interface) == Some(addr)
    }

    /// The address stands for the host's loopback on that network.
    pub(crate) fn is_host_loopback(&self, interface: InterfaceId, addr: IpAddr) -> bool {
        let InterfaceId::Network(id) = interface else {
            return false;
        };
        let network = self.networks.get(&id);
        network.is_some_and(|network| network.config.host_loopback == Some(addr))
    }

    /// The address is the engine's own, seen from that interface: the gateway's, or one of the
    /// uplink's behind it.
    pub(crate) fn is_local(&self, interface: InterfaceId, addr: IpAddr) -> bool {
        self.is_gateway(interface, addr)
            || self
                .uplink_of(interface)
                .is_some_and(|u| u.config.addresses.iter().any(|net| net.addr() == addr))
    }

    pub(crate) fn is_left_to_kernel(&self, interface: InterfaceId) -> bool {
        matches!(interface, InterfaceId::Uplink(_))
            && self
                .uplink_of(interface)
                .is_some_and(|u| u.config.address_owner == AddressOwner::Kernel)
    }

    /// The address is on the interface's own link.
    pub(crate) fn is_on_link(&self, interface: InterfaceId, addr: IpAddr) -> bool {
        match interface {
            InterfaceId::Network(id) => self
                .networks
                .get(&id)
                .is_some_and(|n| n.config.subnet.contains(&addr)),
            InterfaceId::Uplink(id) => self.uplinks.get(&id).is_some_and(|u| {
                u.config.gateway == Some(addr)
                    || u.config.addresses.iter().any(|net| net.contains(&addr))
            }),
            InterfaceId::User => false,
        }
    }

    /// The broadcast address of a network, or of the link behind the uplink of `interface`.
    pub(crate) fn is_subnet_broadcast(&self, interface: InterfaceId, addr: IpAddr) -> bool {
        let connected = self.connected.lookup(addr);
        let uplink = self.uplink_of(interface);
        connected.is_some_and(|(net, _)| net.broadcast() == addr)
            || uplink.is_some_and(|uplink| {
                let mut links = uplink.config.addresses.iter();
                // A link of two addresses has no broadcast (RFC 3021).
                links.any(|net| {
                    net.prefix_len() + 1 < net.max_prefix_len() && net.broadcast() == addr
                })
            })
    }
}

impl Datapath {
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
        let announcement = pontoon_packet::Arp {
            operation: pontoon_packet::arp::REQUEST,
            sender_mac: mac,
            sender_ip: addr,
            target_mac: MacAddr::ZERO,
            target_ip: addr,
        };
        let bytes = pontoon_packet::arp::frame(MacAddr::BROADCAST, &announcement);
        self.emit(port, &bytes, pontoon_packet::Offload::NONE, out);
    }
}

fn overlaps(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
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
