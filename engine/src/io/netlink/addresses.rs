//! Addresses of links, and routes.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Netlink, Result};

/// A route of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostRoute {
    /// Where to.
    pub prefix: IpNet,
    /// By whom; `None` when the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Through which link.
    pub link: Option<u32>,
}

impl Netlink {
    /// Gives a link an address.
    ///
    /// # Errors
    /// It has it already, or there is no right to it.
    pub fn add_address(&mut self, index: u32, address: IpNet) -> Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = family(address.addr());
        message.header.prefix_len = address.prefix_len();
        message.header.index = index;
        message
            .attributes
            .push(AddressAttribute::Local(address.addr()));
        message
            .attributes
            .push(AddressAttribute::Address(address.addr()));
        if let IpNet::V4(net) = address
            && net.prefix_len() < 31
        {
            message
                .attributes
                .push(AddressAttribute::Broadcast(net.broadcast()));
        }
        let operation = format!("add address {address} to link {index}");
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.change(operation, RouteNetlinkMessage::NewAddress(message), flags)
    }

    /// Adds a default route.
    ///
    /// # Errors
    /// There is one already, or the gateway is not on the link.
    pub fn add_default_route(&mut self, index: u32, gateway: IpAddr) -> Result<()> {
        self.default_route(index, gateway, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Sets the default route.
    ///
    /// # Errors
    /// The gateway is not on the link.
    pub fn replace_default_route(&mut self, index: u32, gateway: IpAddr) -> Result<()> {
        self.default_route(index, gateway, NLM_F_CREATE | NLM_F_REPLACE)
    }

    fn default_route(&mut self, index: u32, gateway: IpAddr, flags: u16) -> Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(gateway);
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Boot;
        message.header.scope = RouteScope::Universe;
        message.header.kind = RouteType::Unicast;
        message
            .attributes
            .push(RouteAttribute::Gateway(gateway.into()));
        message.attributes.push(RouteAttribute::Oif(index));
        let operation = format!("add the default route via {gateway}");
        self.change(operation, RouteNetlinkMessage::NewRoute(message), flags)
    }

    /// The addresses of a link, with their prefixes.
    ///
    /// # Errors
    /// The kernel refuses to tell.
    pub fn addresses(&mut self, index: u32) -> Result<Vec<IpNet>> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let replies = self.request("list addresses".to_owned(), request, NLM_F_DUMP)?;
        Ok(replies
            .into_iter()
            .filter_map(|reply| match reply {
                RouteNetlinkMessage::NewAddress(m) if m.header.index == index => address(&m),
                _ => None,
            })
            .collect())
    }

    /// All unicast routes of the main table.
    ///
    /// # Errors
    /// The kernel refuses to tell.
    pub fn routes(&mut self) -> Result<Vec<HostRoute>> {
        let mut all = Vec::new();
        for address_family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = address_family;
            let request = RouteNetlinkMessage::GetRoute(message);
            let replies = self.request("list routes".to_owned(), request, NLM_F_DUMP)?;
            all.extend(replies.into_iter().filter_map(|reply| match reply {
                RouteNetlinkMessage::NewRoute(message) => route(&message),
                _ => None,
            }));
        }
        Ok(all)
    }
}

fn family(addr: IpAddr) -> AddressFamily {
    if addr.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

fn address(message: &AddressMessage) -> Option<IpNet> {
    let of = |local: bool| {
        message
            .attributes
            .iter()
            .find_map(move |attribute| match attribute {
                AddressAttribute::Local(addr) if local => Some(*addr),
                AddressAttribute::Address(addr) if !local => Some(*addr),
                _ => None,
            })
    };
    IpNet::new(of(true).or_else(|| of(false))?, message.header.prefix_len).ok()
}

fn route(message: &RouteMessage) -> Option<HostRoute> {
    let main = message.header.table == RouteHeader::RT_TABLE_MAIN;
    if !main || message.header.kind != RouteType::Unicast {
        return None;
    }
    let unspecified: IpAddr = match message.header.address_family {
        AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
        _ => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let (mut destination, mut gateway, mut oif) = (unspecified, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(addr) => destination = ip(addr)?,
            RouteAttribute::Gateway(addr) => gateway = ip(addr),
            RouteAttribute::Oif(index) => oif = Some(*index),
            _ => {}
        }
    }
    let prefix = IpNet::new(destination, message.header.destination_prefix_length).ok()?;
    Some(HostRoute {
        prefix,
        gateway,
        link: oif,
    })
}

fn ip(addr: &RouteAddress) -> Option<IpAddr> {
    match addr {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}
