//! What the engine is on each of its interfaces.

use core::net::IpAddr;

use ipnet::IpNet;
use pontoon_packet::MacAddr;

use crate::config::{AddressOwner, Outside, PortId};
use crate::datapath::{Datapath, Uplink};
use crate::neighbour::Neighbours;
use crate::route::InterfaceId;

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
