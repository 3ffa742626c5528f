//! Published ports: the host's sockets that wait for clients.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use ipnet::IpNet;
use mio::net::{TcpListener, TcpStream};
use nix::errno::Errno;
use nix::sys::socket::{
    Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, listen, recvmsg, sendmsg,
};
use pontoon_nat::Published;
use pontoon_packet::Endpoint;
use pontoon_packet::parse::protocol;

/// Clients taken from one listener before others get their turn.
pub(super) const TURN: usize = 64;

/// A port of the host's that leads to a container.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Address, port and target.
    pub published: Published,
    /// Clients whom the container could not answer under their own name: of its own link, or all of them.
    pub subnet: IpNet,
    /// Its gateway: who clients are that the container could not answer under their own name.
    pub gateway: IpAddr,
}

impl Publication {
    /// The same port at the gateway's address, where containers of the network find it as behind
    /// docker0; none for a port of one address of the host's.
    pub(in crate::io) fn at_gateway(&self) -> Option<Published> {
        let everywhere = self.published.addr.is_unspecified();
        everywhere.then(|| Published {
            addr: self.gateway,
            ..self.published.clone()
        })
    }

    /// Who the container takes a client for: itself, unless that is an address of this host's
    /// loopback or of the container's own link.
    pub(super) fn seen_as(&self, client: SocketAddr) -> Endpoint {
        let foreign = client.ip().is_loopback() || self.subnet.contains(&client.ip());
        let addr = if foreign { self.gateway } else { client.ip() };
        Endpoint::new(addr, client.port())
    }
}

/// A port of the host's that is held, and at which nobody can be a client yet.
#[derive(Debug)]
pub struct HostSocket(Socket);

impl HostSocket {
    /// Takes over a bound socket of this IP protocol.
    pub fn from_fd(number: u8, fd: OwnedFd) -> Self {
        if number == protocol::TCP {
            Self(Socket::Tcp(TcpListener::from_std(fd.into())))
        } else {
            Self(Socket::Udp(fd))
        }
    }
}

/// A published port's socket.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) port: Publication,
    pub(super) socket: Socket,
    /// Stands in the list of those at which somebody may wait.
    pub(super) ready: bool,
}

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Udp(OwnedFd),
}

/// What a look for the next client has brought.
#[derive(Debug)]
pub(super) enum Next<T> {
    /// This one.
    Client(T),
    /// One that is gone already; others may wait.
    Gone,
    /// Nobody waits.
    Nobody,
    /// Somebody waits who cannot be taken now.
    Short,
}

impl<T> Next<T> {
    /// What becomes of a client; one of whom nothing becomes is gone.
    pub(super) fn and_then<U>(self, then: impl FnOnce(T) -> Option<U>) -> Next<U> {
        match self {
            Self::Client(client) => then(client).map_or(Next::Gone, Next::Client),
            Self::Gone => Next::Gone,
            Self::Nobody => Next::Nobody,
            Self::Short => Next::Short,
        }
    }
}

/// A datagram that a client has sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived {
    pub(super) len: usize,
    pub(super) client: SocketAddrV4,
    /// The host's address that the client used.
    pub(super) local: Ipv4Addr,
}

impl Listener {
    /// Waits for clients at the port that `socket` holds.
    ///
    /// # Errors
    /// Somebody was faster.
    pub(super) fn open(port: Publication, socket: HostSocket) -> io::Result<Self> {
        if let Socket::Tcp(socket) = &socket.0 {
            listen(socket, Backlog::MAXCONN)?;
        }
        Ok(Self {
            port,
            socket: socket.0,
            ready: false,
        })
    }

    /// File descriptor, to be waited for.
    pub(super) fn raw_fd(&self) -> RawFd {
        match &self.socket {
            Socket::Tcp(listener) => listener.as_raw_fd(),
            Socket::Udp(socket) => socket.as_raw_fd(),
        }
    }

    /// The next client.
    pub(super) fn accept(&self) -> Next<(TcpStream, SocketAddr)> {
        let Socket::Tcp(listener) = &self.socket else {
            return Next::Nobody;
        };
        match listener.accept() {
            Ok(client) => Next::Client(client),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => Next::Nobody,
                ErrorKind::Interrupted | ErrorKind::ConnectionAborted => Next::Gone,
                _ => Next::Short,
            },
        }
    }

    /// The next datagram, read into `room`.
    pub(super) fn receive(&self, room: &mut [u8]) -> Next<Arrived> {
        let Socket::Udp(socket) = &self.socket else {
            return Next::Nobody;
        };
        match receive_from(socket.as_raw_fd(), room) {
            Ok(Some(arrived)) => Next::Client(arrived),
            Err(Errno::EAGAIN) => Next::Nobody,
            Err(Errno::ENOMEM | Errno::ENOBUFS) => Next::Short,
            // An error that an earlier answer caused says nothing about what waits.
            Ok(None) | Err(_) => Next::Gone,
        }
    }

    /// Answers a client from the address that it used.
    pub(super) fn answer(&self, client: SocketAddrV4, local: Ipv4Addr, message: &[u8]) {
        let Socket::Udp(socket) = &self.socket else {
            return;
        };
        let info = libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr {
                s_addr: u32::from(local).to_be(),
            },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        // A datagram that the host does not take is lost, as on any wire.
        let _ = sendmsg(
            socket.as_raw_fd(),
            &[IoSlice::new(message)],
            &[ControlMessage::Ipv4PacketInfo(&info)],
            MsgFlags::MSG_DONTWAIT,
            Some(&SockaddrIn::from(client)),
        );
    }
}

fn receive_from(fd: RawFd, room: &mut [u8]) -> Result<Option<Arrived>, Errno> {
    let mut control = nix::cmsg_space!(libc::in_pktinfo);
    let mut parts = [IoSliceMut::new(room)];
    let received =
        recvmsg::<SockaddrIn>(fd, &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
    let Some(client) = received.address else {
        return Ok(None);
    };
    let local = received.cmsgs()?.find_map(|note| match note {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)))
        }
        _ => None,
    });
    Ok(local.map(|local| Arrived {
        len: received.bytes,
        client: SocketAddrV4::new(client.ip(), client.port()),
        local,
    }))
}
