//! rtnetlink: links, addresses and routes, without running `ip`.
//!
//! A [`Netlink`] belongs to the network namespace in which it was opened, wherever its owner goes
//! afterwards.

mod addresses;
mod links;
mod message;

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

pub use addresses::HostRoute;
pub use links::{Link, VethEnd};
pub(super) use message::attribute;
use message::messages;

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

fn change(message: NetlinkMessage<RouteNetlinkMessage>) -> Option<Change> {
    let NetlinkPayload::InnerMessage(inner) = message.payload else {
        return None;
    };
    match inner {
        RouteNetlinkMessage::NewLink(message) => Some(Change::Link(links::link(&message))),
        RouteNetlinkMessage::DelLink(message) => Some(Change::LinkGone(message.header.index)),
        RouteNetlinkMessage::NewAddress(_)
        | RouteNetlinkMessage::DelAddress(_)
        | RouteNetlinkMessage::NewRoute(_)
        | RouteNetlinkMessage::DelRoute(_) => Some(Change::AddressOrRoute),
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
