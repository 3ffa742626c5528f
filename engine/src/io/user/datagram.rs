//! A container's UDP flow or series of pings, and the host's socket that carries it.

use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn,
    connect, recv, recvmsg, send, setsockopt, socket, sockopt,
};
use pontoon_packet::checksum::{checksum, fold, pseudo_header, sum};
use pontoon_packet::parse::protocol;
use pontoon_packet::{Endpoint, Ip, L4, Offload, Segments, icmp};
use pontoon_relay::{Arena, ETHERNET};

use super::tcp::Ends;

/// Datagrams taken from one socket before others get their turn.
const TURN: usize = 64;
const IPV4_HEADER: usize = 20;
const TRANSPORT_HEADER: usize = 8;
/// What is kept of the last datagram, to be quoted in an error about it (RFC 792: header and eight
/// bytes; options may make the header longer).
const QUOTED: usize = 68;
/// Time to live of what the engine sends (Linux `IPDEFTTL`).
const TTL: u8 = 64;

/// What kind of datagrams a flow carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Udp,
    /// Echo requests, and replies with this identifier.
    Echo(u16),
}

/// A flow and its socket.
#[derive(Debug)]
pub(super) struct DatagramFlow {
    socket: OwnedFd,
    /// Whom the host's socket speaks to.
    to: SocketAddrV4,
    kind: Kind,
    ends: Ends,
    readable: bool,
    /// Errors wait.
    failed: bool,
    last: Vec<u8>,
}

impl DatagramFlow {
    /// A socket for the flow that the datagram `ip` begins, to what the host knows as `to`; `None` for
    /// what no socket can carry.
    ///
    /// # Errors
    /// No socket can be had.
    pub(super) fn open(ip: &Ip, ends: Ends, to: Endpoint) -> Option<Result<Self, Errno>> {
        let kind = match ip.l4 {
            L4::Udp(_) => Kind::Udp,
            L4::Icmp(header) if header.kind == icmp::kind::ECHO => Kind::Echo(header.id),
            _ => return None,
        };
        let IpAddr::V4(far) = to.addr else {
            return None;
        };
        let to = SocketAddrV4::new(far, to.port);
        Some(open_socket(kind, to).map(|socket| Self {
            socket,
            to,
            kind,
            ends,
            readable: true,
            failed: false,
            last: Vec::new(),
        }))
    }

    /// File descriptor of the host's socket, to be waited for.
    pub(super) fn raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Takes what the poll has told.
    pub(super) fn note(&mut self, event: &mio::event::Event) {
        self.readable |= event.is_readable();
        self.failed |= event.is_error();
    }

    /// Sends what the container sent. Errors come with the next `serve`.
    pub(super) fn receive(&mut self, datagram: &[u8], ip: &Ip, offload: Offload) {
        let start = ip.l4_start() - usize::from(ip.start);
        let transport = &datagram[start..];
        let message = match self.kind {
            Kind::Udp => &transport[TRANSPORT_HEADER..],
            Kind::Echo(_) => transport,
        };
        self.last.clear();
        self.last
            .extend_from_slice(&datagram[..datagram.len().min(QUOTED)]);
        if offload.segments() == Some(Segments::UdpDatagrams) && offload.gso_size > 0 {
            for piece in message.chunks(usize::from(offload.gso_size)) {
                self.send(piece);
            }
        } else {
            self.send(message);
        }
    }

    /// Sends one message. An error that an earlier one caused is noted, and this one sent after it; a
    /// socket whose address the host has lost gets another one.
    fn send(&mut self, message: &[u8]) {
        for _ in 0..2 {
            match send(self.socket.as_raw_fd(), message, MsgFlags::MSG_DONTWAIT) {
                Ok(_) | Err(Errno::EAGAIN) => break,
                Err(Errno::ENETUNREACH | Errno::EDESTADDRREQ) => {
                    self.failed |= reconnect(&self.socket, self.to).is_err();
                }
                Err(_) => self.failed = true,
            }
        }
    }

    /// Turns what has come into frames for the container, and gives errors about what it sent.
    /// The flag says that there is more.
    pub(super) fn serve(&mut self, arena: &mut Arena) -> (Vec<icmp::Error>, bool) {
        let mut errors = Vec::new();
        if std::mem::take(&mut self.failed) {
            self.drain_errors(&mut errors);
        }
        for _ in 0..TURN {
            if !self.readable {
                return (errors, false);
            }
            let Some(room) = arena.open() else {
                return (errors, true);
            };
            let payload = ETHERNET + IPV4_HEADER + self.header_len();
            let read = recv(
                self.socket.as_raw_fd(),
                &mut room[payload..],
                MsgFlags::MSG_DONTWAIT,
            );
            match read {
                Ok(len) => self.compose(arena, len),
                Err(Errno::EAGAIN) => self.readable = false,
                Err(Errno::EINTR) => {}
                Err(_) => self.drain_errors(&mut errors),
            }
        }
        (errors, true)
    }

    /// The beginning of the last datagram that the container sent.
    pub(super) fn quoted(&self) -> &[u8] {
        &self.last
    }

    /// What stands between the IP header and what a socket gives.
    const fn header_len(&self) -> usize {
        match self.kind {
            Kind::Udp => TRANSPORT_HEADER,
            Kind::Echo(_) => 0,
        }
    }

    /// Makes a frame around the `len` bytes that were read into the arena.
    fn compose(&self, arena: &mut Arena, len: usize) {
        let (IpAddr::V4(src), IpAddr::V4(dst)) = (self.ends.far.addr, self.ends.container.addr)
        else {
            return;
        };
        let Some(room) = arena.open() else { return };
        let total = IPV4_HEADER + self.header_len() + len;
        let datagram = &mut room[ETHERNET..ETHERNET + total];
        let (header, transport) = datagram.split_at_mut(IPV4_HEADER);
        let number = match self.kind {
            Kind::Udp => {
                self.write_udp_header(transport);
                protocol::UDP
            }
            Kind::Echo(id) => {
                if transport.len() < TRANSPORT_HEADER || transport[0] != icmp::kind::ECHO_REPLY {
                    return;
                }
                write_echo_id(transport, id);
                protocol::ICMP
            }
        };
        write_ipv4_header(header, total, number, src, dst);
        arena.commit(ETHERNET + total, Offload::NONE);
    }

    fn write_udp_header(&self, transport: &mut [u8]) {
        let len = transport.len();
        transport[0..2].copy_from_slice(&self.ends.far.port.to_be_bytes());
        transport[2..4].copy_from_slice(&self.ends.container.port.to_be_bytes());
        transport[4..6].copy_from_slice(&(len as u16).to_be_bytes());
        transport[6..8].fill(0);
        let (src, dst) = (self.ends.far.addr, self.ends.container.addr);
        let pseudo = pseudo_header(src, dst, protocol::UDP, len);
        let sum = match !fold(sum(transport, pseudo)) {
            0 => 0xffff,
            sum => sum,
        };
        transport[6..8].copy_from_slice(&sum.to_be_bytes());
    }

    /// Takes every error that waits at the socket (`IP_RECVERR`).
    fn drain_errors(&self, errors: &mut Vec<icmp::Error>) {
        let mut message = [0; QUOTED];
        let mut control = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in);
        for _ in 0..TURN {
            let mut parts = [IoSliceMut::new(&mut message)];
            let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
            let fd = self.socket.as_raw_fd();
            let Ok(received) = recvmsg::<SockaddrIn>(fd, &mut parts, Some(&mut control), flags)
            else {
                break;
            };
            let Ok(notes) = received.cmsgs() else { break };
            errors.extend(notes.filter_map(|note| match note {
                ControlMessageOwned::Ipv4RecvErr(error, _) => told(&error),
                _ => None,
            }));
        }
        // What the queue has told is not to be told again by the next call.
        let _ = nix::sys::socket::getsockopt(&self.socket.as_fd(), sockopt::SocketError);
    }
}

fn open_socket(kind: Kind, to: SocketAddrV4) -> Result<OwnedFd, Errno> {
    let protocol = match kind {
        Kind::Udp => SockProtocol::Udp,
        Kind::Echo(_) => SockProtocol::Icmp,
    };
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
        protocol,
    )?;
    setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
    connect(socket.as_raw_fd(), &SockaddrIn::from(to))?;
    Ok(socket)
}

/// Gives the socket an address that the host has, if it has lost its own: the one that a socket got when
/// it was connected stays otherwise, even when nothing can leave with it any more.
fn reconnect(socket: &OwnedFd, to: SocketAddrV4) -> Result<(), Errno> {
    let (fd, to) = (socket.as_raw_fd(), SockaddrIn::from(to));
    if connect(fd, &to).is_ok() {
        return Ok(());
    }
    disconnect(fd)?;
    connect(fd, &to)
}

#[allow(unsafe_code, reason = "nix has no address without a family")]
fn disconnect(fd: RawFd) -> Result<(), Errno> {
    let nobody = libc::sockaddr {
        sa_family: libc::AF_UNSPEC as libc::sa_family_t,
        sa_data: [0; 14],
    };
    let len = size_of_val(&nobody) as libc::socklen_t;
    // SAFETY: the address is as long as is said, and is only read.
    Errno::result(unsafe { libc::connect(fd, &raw const nobody, len) }).map(drop)
}

/// The error that the container is told: what a router or the far end has said to the host.
fn told(error: &libc::sock_extended_err) -> Option<icmp::Error> {
    const ICMP: u8 = 2;
    if error.ee_origin == ICMP {
        return match (error.ee_type, error.ee_code) {
            (3, 0) => Some(icmp::Error::NetworkUnreachable),
            (3, 2) => Some(icmp::Error::ProtocolUnreachable),
            (3, 3) => Some(icmp::Error::PortUnreachable),
            (3, 4) => Some(too_big(error.ee_info)),
            (3, 9 | 10 | 13) => Some(icmp::Error::AdministrativelyProhibited),
            (3, _) => Some(icmp::Error::HostUnreachable),
            (11, 0) => Some(icmp::Error::TtlExceeded),
            (11, 1) => Some(icmp::Error::ReassemblyTimeExceeded),
            _ => None,
        };
    }
    match Errno::from_raw(error.ee_errno as i32) {
        Errno::EMSGSIZE => Some(too_big(error.ee_info)),
        Errno::EHOSTUNREACH => Some(icmp::Error::HostUnreachable),
        Errno::ENETUNREACH => Some(icmp::Error::NetworkUnreachable),
        _ => None,
    }
}

fn too_big(mtu: u32) -> icmp::Error {
    icmp::Error::FragmentationNeeded {
        mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
    }
}

/// The identifier that the container chose, instead of the one that the host's socket has.
fn write_echo_id(message: &mut [u8], id: u16) {
    message[4..6].copy_from_slice(&id.to_be_bytes());
    message[2..4].fill(0);
    let sum = checksum(message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}

fn write_ipv4_header(header: &mut [u8], total: usize, protocol: u8, src: Ipv4Addr, dst: Ipv4Addr) {
    header.fill(0);
    header[0] = 0x45;
    header[2..4].copy_from_slice(&(total as u16).to_be_bytes());
    header[8] = TTL;
    header[9] = protocol;
    header[12..16].copy_from_slice(&src.octets());
    header[16..20].copy_from_slice(&dst.octets());
    let sum = checksum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}
