//! Links: what there is, and what is made of them.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoMacVlan, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
    MacVlanMode,
};
use pontoon_packet::MacAddr;

use super::message::attribute;
use super::{Netlink, Result, failed};

/// Group of links (ip-link(8)) that the ends of pairs belong to which lie where they were made.
const OWN: u32 = 1;

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
    /// Index of the link that this one sends by, where that lies.
    pub lower: Option<u32>,
}

/// One end of a veth pair to be made.
#[derive(Clone, Copy, Debug)]
pub struct VethEnd<'a> {
    /// Interface name.
    pub name: &'a str,
    /// Hardware address; `None` lets the kernel choose.
    pub mac: Option<MacAddr>,
}

impl Netlink {
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
        message.attributes.push(LinkAttribute::Group(OWN));
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

    /// Makes an interface in another namespace that sends by the link `lower` of this one, and hears what is
    /// for its own address there. It is no broadcast's listener.
    ///
    /// # Errors
    /// `lower` is no Ethernet, or is used up otherwise, the name is taken, or there is no right to one of the
    /// namespaces.
    pub fn add_macvlan(&mut self, name: &str, lower: u32, namespace: BorrowedFd<'_>) -> Result<()> {
        /// An address that nobody has in place of the broadcast address.
        const NOBODY: [u8; 6] = [2, 0, 0, 0, 0, 0];
        let mut message = LinkMessage::default();
        message.attributes.extend([
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Link(lower),
            LinkAttribute::NetNsFd(namespace.as_raw_fd()),
            LinkAttribute::Broadcast(NOBODY.to_vec()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::MacVlan),
                LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(
                    MacVlanMode::Private,
                )])),
            ]),
        ]);
        let operation = format!("make the macvlan {name} of link {lower}");
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

    /// Takes all veth pairs away that were made here, at once: one by one the kernel waits for each of them.
    ///
    /// # Errors
    /// There is no right to one.
    pub fn delete_own(&mut self) -> Result<()> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Group(OWN));
        let operation = "delete all pairs".to_owned();
        match self.change(operation, RouteNetlinkMessage::DelLink(message), 0) {
            Err(error) if error.source.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            other => other,
        }
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

pub(super) fn link(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: MacAddr::ZERO,
        mtu: 0,
        running: flags.contains(LinkFlags::Up | LinkFlags::Running),
        lower: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Link(lower) => link.lower = Some(*lower),
            LinkAttribute::Address(bytes) => {
                link.mac = bytes.first_chunk().copied().map_or(MacAddr::ZERO, MacAddr);
            }
            _ => {}
        }
    }
    link
}
