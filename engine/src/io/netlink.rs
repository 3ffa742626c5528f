//! rtnetlink: links, addresses and routes, without running `ip`.
//!
//! A [`Netlink`] belongs to the network namespace in which it was opened, wherever its owner goes
//! afterwards.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use ipnet::IpNet;
use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use pontoon_packet::MacAddr;

/// An operation on links, addresses or routes that the kernel refused.
#[derive(Debug)]
pub struct NetlinkError {
    /// What was to be done, and to what.
    pub operation: String,
    /// What the kernel said.
    pub source: io::Error,
}

impl fmt::Display for NetlinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.source)
    }
}

impl std::error::Error for NetlinkError {}

type Result<T> = std::result::Result<T, NetlinkError>;

/// What is known of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// Hardware address; zero where there is none.
    pub mac: MacAddr,
    /// Largest datagram, in bytes.
    pub mtu: u32,
    /// Up, and with carrier.
    pub running: bool,
}

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

/// One end of a veth pair to be made.
#[derive(Clone, Copy, Debug)]
pub struct VethEnd<'a> {
    /// Interface name.
    pub name: &'a str,
    /// Hardware address; `None` lets the kernel choose.
    pub mac: Option<MacAddr>,
}

/// A change that the kernel reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A link is there, or has changed.
    Link(Link),
    /// A link is gone.
    LinkGone(u32),
    /// An address or a route has changed.
    AddressOrRoute,
}

/// Groups to listen to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Nothing: for requests only.
    Nothing,
    /// Links.
    Links,
    /// Links, IPv4 addresses and routes.
    Everything,
}

/// `RTNLGRP_LINK`, `RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV4_ROUTE` (`include/uapi/linux/rtnetlink.h`).
const GROUP_LINK: u32 = 1;
const GROUP_IPV4_ADDRESS: u32 = 5;
const GROUP_IPV4_ROUTE: u32 = 7;
/// Receive buffer of a watch: events of a thousand links at once.
const WATCH_BUFFER: usize = 4 << 20;

/// A netlink socket of one network namespace.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket in the namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel refuses the socket.
    pub fn open(watch: Watch) -> Result<Self> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            if watch == Watch::Nothing {
                socket.connect(&SocketAddr::new(0, 0))?;
            } else {
                socket.set_rx_buf_sz(WATCH_BUFFER as i32)?;
                socket.set_non_blocking(true)?;
                socket.add_membership(GROUP_LINK)?;
            }
            if watch == Watch::Everything {
                socket.add_membership(GROUP_IPV4_ADDRESS)?;
                socket.add_membership(GROUP_IPV4_ROUTE)?;
            }
            Ok(socket)
        };
        let socket = open().map_err(|source| failed("open a netlink socket", source))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Makes a pair of virtual Ethernet interfaces, one here, the other in `peer_namespace`.
    ///
    /// # Errors
    /// A name is taken, or there is no right to one of the namespaces.
    pub fn add_veth(
        &mut self,
        here: VethEnd<'_>,
        there: VethEnd<'_>,
        peer_namespace: BorrowedFd<'_>,
        mtu: u16,
    ) -> Result<()> {
        let mut peer = end(there, mtu);
        peer.attributes
            .push(LinkAttribute::NetNsFd(peer_namespace.as_raw_fd()));
        let mut message = end(here, mtu);
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        let operation = format!("make the veth pair {} and {}", here.name, there.name);
        self.change(
            operation,
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    /// Brings a link up.
    ///
    /// # Errors
    /// It is gone, or there is no right to it.
    pub fn set_up(&mut self, index: u32) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        let operation = format!("bring link {index} up");
        self.change(operation, RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Gives a link a hardware address and an MTU.
    ///
    /// # Errors
    /// It is gone, does not take them, or there is no right to it.
    pub fn shape(&mut self, index: u32, mac: MacAddr, mtu: u16) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message
            .attributes
            .push(LinkAttribute::Address(mac.0.to_vec()));
        message.attributes.push(LinkAttribute::Mtu(u32::from(mtu)));
        let operation = format!("set address and MTU of link {index}");
        self.change(operation, RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Keeps a link from making itself an IPv6 link-local address when it comes up. A link without
    /// IPv6 (none in the kernel, or an MTU below 1280) makes none anyway.
    ///
    /// # Errors
    /// It is gone, or there is no right to it.
    pub fn suppress_link_local(&mut self, index: u32) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(no_link_local());
        let operation = format!("keep link {index} from an IPv6 link-local address");
        match self.change(operation, RouteNetlinkMessage::SetLink(message), 0) {
            Err(error) if error.source.raw_os_error() == Some(libc::EAFNOSUPPORT) => Ok(()),
            other => other,
        }
    }

    /// Takes a link away; its peer goes with it. A link that is gone already is no error.
    ///
    /// # Errors
    /// There is no right to it.
    pub fn delete(&mut self, index: u32) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let operation = format!("delete link {index}");
        match self.change(operation, RouteNetlinkMessage::DelLink(message), 0) {
            Err(error) if error.source.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            other => other,
        }
    }

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
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.change(operation, RouteNetlinkMessage::NewRoute(message), flags)
    }

    /// All links of the namespace.
    ///
    /// # Errors
    /// The kernel refuses to tell.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let replies = self.request("list links".to_owned(), request, NLM_F_DUMP)?;
        Ok(replies
            .into_iter()
            .filter_map(|reply| match reply {
                RouteNetlinkMessage::NewLink(message) => Some(link(&message)),
                _ => None,
            })
            .collect())
    }

    /// The link of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn link(&mut self, name: &str) -> Result<Link> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        let operation = format!("look up interface {name}");
        let replies = self.request(
            operation.clone(),
            RouteNetlinkMessage::GetLink(message),
            NLM_F_ACK,
        )?;
        let found = replies.into_iter().find_map(|reply| match reply {
            RouteNetlinkMessage::NewLink(message) => Some(link(&message)),
            _ => None,
        });
        found.ok_or_else(|| failed(&operation, io::Error::from_raw_os_error(libc::ENODEV)))
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

    /// What has changed since the last call; for sockets that watch. `None` in place of a change
    /// means that some were lost and everything has to be looked at again.
    pub fn changes(&mut self) -> Vec<Option<Change>> {
        let mut changes = Vec::new();
        loop {
            match self.socket.recv_from_full() {
                Ok((bytes, _)) => {
                    changes.extend(messages(&bytes).filter_map(change).map(Some));
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changes.push(None),
                Err(_) => return changes,
            }
        }
    }

    /// The socket itself, to be passed to another process.
    pub fn into_fd(self) -> OwnedFd {
        owned(self.socket.into_raw_fd())
    }

    /// Takes over a socket that another process has opened.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self {
            socket: adopt(fd),
            sequence: 0,
        }
    }

    fn change(
        &mut self,
        operation: String,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<()> {
        self.request(operation, message, flags | NLM_F_ACK)
            .map(drop)
    }

    fn request(
        &mut self,
        operation: String,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>> {
        let answer = self.exchange(message, flags | NLM_F_REQUEST);
        answer.map_err(|source| NetlinkError { operation, source })
    }

    fn exchange(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        packet.finalize();
        let mut buffer = vec![0; packet.header.length as usize];
        packet.serialize(&mut buffer);
        self.socket.send(&buffer, 0)?;
        let mut replies = Vec::new();
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            for reply in messages(&bytes) {
                if reply.header.sequence_number != self.sequence {
                    continue;
                }
                match reply.payload {
                    NetlinkPayload::InnerMessage(inner) => replies.push(inner),
                    NetlinkPayload::Done(_) => return Ok(replies),
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            None => Ok(replies),
                            Some(_) => Err(error.to_io()),
                        };
                    }
                    _ => {}
                }
            }
        }
    }
}

impl std::os::fd::AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        borrow(&self.socket)
    }
}

fn failed(operation: &str, source: io::Error) -> NetlinkError {
    NetlinkError {
        operation: operation.to_owned(),
        source,
    }
}

fn end(end: VethEnd<'_>, mtu: u16) -> LinkMessage {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::IfName(end.name.to_owned()));
    message.attributes.push(LinkAttribute::Mtu(u32::from(mtu)));
    if let Some(mac) = end.mac {
        message
            .attributes
            .push(LinkAttribute::Address(mac.0.to_vec()));
    }
    message
}

/// `IFLA_AF_SPEC { AF_INET6 { IFLA_INET6_ADDR_GEN_MODE = IN6_ADDR_GEN_MODE_NONE } }`.
fn no_link_local() -> LinkAttribute {
    const IFLA_AF_SPEC: u16 = 26;
    const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
    const NONE: u8 = 1;
    let mode = attribute(IFLA_INET6_ADDR_GEN_MODE, &[NONE]);
    let inet6 = attribute(libc::AF_INET6 as u16, &mode);
    LinkAttribute::Other(DefaultNla::new(IFLA_AF_SPEC, inet6))
}

/// A netlink attribute: length, kind, value, padded to four bytes.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn family(addr: IpAddr) -> AddressFamily {
    if addr.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

/// The messages of a datagram. One that the crate cannot read is left out; those after it are not.
fn messages(bytes: &[u8]) -> impl Iterator<Item = NetlinkMessage<RouteNetlinkMessage>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        loop {
            let length = u32::from_ne_bytes(*rest.first_chunk()?) as usize;
            if length == 0 {
                return None;
            }
            let message = rest.get(..length)?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            if let Ok(message) = NetlinkMessage::deserialize(message) {
                return Some(message);
            }
        }
    })
}

fn change(message: NetlinkMessage<RouteNetlinkMessage>) -> Option<Change> {
    let NetlinkPayload::InnerMessage(inner) = message.payload else {
        return None;
    };
    match inner {
        RouteNetlinkMessage::NewLink(message) => Some(Change::Link(link(&message))),
        RouteNetlinkMessage::DelLink(message) => Some(Change::LinkGone(message.header.index)),
        RouteNetlinkMessage::NewAddress(_)
        | RouteNetlinkMessage::DelAddress(_)
        | RouteNetlinkMessage::NewRoute(_)
        | RouteNetlinkMessage::DelRoute(_) => Some(Change::AddressOrRoute),
        _ => None,
    }
}

fn link(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: MacAddr::ZERO,
        mtu: 0,
        running: flags.contains(LinkFlags::Up | LinkFlags::Running),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(bytes) => {
                link.mac = bytes.first_chunk().copied().map_or(MacAddr::ZERO, MacAddr);
            }
            _ => {}
        }
    }
    link
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

#[allow(unsafe_code, reason = "descriptors change hands between crates")]
fn owned(fd: i32) -> OwnedFd {
    // SAFETY: the caller has just given this descriptor away.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[allow(unsafe_code, reason = "descriptors change hands between crates")]
fn adopt(fd: OwnedFd) -> Socket {
    // SAFETY: the descriptor is a netlink socket that nobody else owns.
    unsafe { Socket::from_raw_fd(fd.into_raw_fd()) }
}

#[allow(
    unsafe_code,
    reason = "the crate's socket offers only a raw descriptor"
)]
fn borrow(socket: &Socket) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open as long as the socket it is borrowed from.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_cannot_be_read_hides_no_other() {
        const NLMSG_DONE: u16 = 3;
        const RTM_NEWLINK: u16 = 16;
        let message = |kind: u16, body: &[u8]| {
            let mut bytes = ((16 + body.len()) as u32).to_ne_bytes().to_vec();
            bytes.extend_from_slice(&kind.to_ne_bytes());
            bytes.extend_from_slice(&[0; 10]);
            bytes.extend_from_slice(body);
            bytes
        };
        let unreadable = message(RTM_NEWLINK, &[0; 4]);
        let done = message(NLMSG_DONE, &[0; 4]);
        let read: Vec<_> = messages(&[unreadable, done].concat()).collect();
        assert_eq!(read.len(), 1);
        assert!(matches!(read[0].payload, NetlinkPayload::Done(_)));
    }
}
