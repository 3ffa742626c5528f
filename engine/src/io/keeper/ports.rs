//! Published ports: the host's sockets that the keeper binds, where it stands and with its rights.
//!
//! The engine has no capability, so a port that takes one is had by the keeper alone. The keeper keeps a
//! duplicate of each socket that it passes on until it is told to free the port: when the engine dies,
//! clients wait in the socket for the next one, and none is refused. Nobody can be a client of a port
//! before the engine listens, which it does once all ports of a request are had and their container is
//! there.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt,
};
use pontoon_packet::parse::protocol;

use super::protocol::HostEndpoint;
use super::vault::Kept;
use crate::control::state::{Stopped, Unclaimed};

/// Where the kernel keeps the first port that everybody may have (`ip-sysctl`).
const FIRST_UNPRIVILEGED: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// The sockets that are bound.
#[derive(Debug, Default)]
pub(super) struct Ports(BTreeMap<HostEndpoint, Kept<OwnedFd>>);

impl Ports {
    /// Binds sockets, one after the other up to the first port that cannot be had. What an engine before
    /// has had, this one gets again.
    pub(super) fn bind(&mut self, ports: &[HostEndpoint]) -> (Vec<OwnedFd>, Option<Stopped>) {
        let mut bound = Vec::with_capacity(ports.len());
        for port in ports {
            match self.have(port) {
                Ok(socket) => bound.push(socket),
                Err(error) => {
                    let (at, why) = (bound.len(), unclaimed(&error));
                    return (bound, Some(Stopped { at, why }));
                }
            }
        }
        (bound, None)
    }

    fn have(&mut self, port: &HostEndpoint) -> io::Result<OwnedFd> {
        if let Some(kept) = self.0.get_mut(port) {
            if kept.claimed {
                return Err(ErrorKind::AddrInUse.into());
            }
            let socket = kept.thing.try_clone()?;
            kept.claimed = true;
            return Ok(socket);
        }
        let socket = bind_one(port)?;
        self.0.insert(*port, Kept::claimed(socket.try_clone()?));
        Ok(socket)
    }

    /// Leaves ports to others, as far as the engine has closed their sockets.
    pub(super) fn unbind(&mut self, ports: &[HostEndpoint]) {
        for port in ports {
            self.0.remove(port);
        }
    }

    /// The engine that had all of them is gone.
    pub(super) fn disown(&mut self) {
        for kept in self.0.values_mut() {
            kept.claimed = false;
        }
    }

    /// Frees what the engine that runs does not have.
    pub(super) fn tidy(&mut self) {
        self.0.retain(|_, kept| kept.claimed);
    }
}

fn bind_one(port: &HostEndpoint) -> io::Result<OwnedFd> {
    let kind = match port.protocol {
        protocol::TCP => SockType::Stream,
        protocol::UDP => SockType::Datagram,
        other => {
            let what = format!("no ports of protocol {other} are published");
            return Err(io::Error::new(ErrorKind::Unsupported, what));
        }
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, kind, flags, None)?;
    if kind == SockType::Stream {
        // Clients of before may still be closing (TIME_WAIT).
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    } else {
        // Answers leave from the address that the client has used.
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrIn::from(port.address))?;
    Ok(socket)
}

fn unclaimed(error: &io::Error) -> Unclaimed {
    let why = match (error.kind(), error.raw_os_error()) {
        (ErrorKind::AddrInUse, _) => return Unclaimed::Taken,
        (ErrorKind::AddrNotAvailable, _) => "the host has no such address".to_owned(),
        (ErrorKind::PermissionDenied, _) => format!(
            "{error}: ports below net.ipv4.ip_unprivileged_port_start{} take CAP_NET_BIND_SERVICE, \
             which root has",
            first_unprivileged()
        ),
        (_, Some(libc::EMFILE)) => {
            format!("{error}: the keeper needs one for each port; raise the limit (ulimit -n)")
        }
        _ => error.to_string(),
    };
    Unclaimed::Refused(why)
}

/// The setting's value in brackets, where the kernel shows it.
fn first_unprivileged() -> String {
    let shown = std::fs::read_to_string(FIRST_UNPRIVILEGED).ok();
    shown.map_or_else(String::new, |value| format!(" ({})", value.trim()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};

    use nix::sys::socket::{Backlog, listen};

    use super::*;

    /// A port that is this test's alone: other tests, of other processes too, have other addresses of
    /// the loopback.
    fn port(test: u8, number: u16, protocol: u8) -> HostEndpoint {
        let [.., high, low] = std::process::id().to_be_bytes();
        HostEndpoint {
            address: SocketAddrV4::new(Ipv4Addr::new(127, high, low, test), number),
            protocol,
        }
    }

    #[test]
    fn sockets_are_bound_up_to_the_first_port_that_is_taken() {
        let tcp = TcpListener::bind(port(1, 20_001, protocol::TCP).address).unwrap();
        let udp = UdpSocket::bind(port(1, 20_001, protocol::UDP).address).unwrap();
        for number in [protocol::TCP, protocol::UDP] {
            let wanted = [20_000, 20_001, 20_002].map(|n| port(1, n, number));
            let (bound, stopped) = Ports::default().bind(&wanted);
            let expected = Stopped {
                at: 1,
                why: Unclaimed::Taken,
            };
            assert_eq!((bound.len(), stopped), (1, Some(expected)));
        }
        drop((tcp, udp));
    }

    #[test]
    fn a_port_is_free_once_its_socket_is_closed() {
        let port = [port(2, 20_000, protocol::UDP)];
        let mut ports = Ports::default();
        let (bound, stopped) = ports.bind(&port);
        assert_eq!(stopped, None);
        drop(bound);
        let taken = |bound: (Vec<OwnedFd>, Option<Stopped>)| bound.1.map(|stopped| stopped.why);
        assert_eq!(taken(ports.bind(&port)), Some(Unclaimed::Taken));
        assert_eq!(taken(Ports::default().bind(&port)), Some(Unclaimed::Taken));
        ports.unbind(&port);
        assert_eq!(taken(Ports::default().bind(&port)), None);
    }

    #[test]
    fn clients_wait_at_a_port_for_the_next_engine() {
        let wanted = [20_000, 20_001].map(|number| port(5, number, protocol::TCP));
        let mut ports = Ports::default();
        let (bound, _) = ports.bind(&wanted);
        bound
            .iter()
            .for_each(|socket| listen(socket, Backlog::MAXCONN).unwrap());
        drop(bound);
        ports.disown();

        let mut client = TcpStream::connect(wanted[0].address).unwrap();
        let (again, stopped) = ports.bind(&wanted[..1]);
        assert_eq!(stopped, None);
        let listener = TcpListener::from(again.into_iter().next().unwrap());
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"served").unwrap();
        drop(server);
        let mut said = String::new();
        client.read_to_string(&mut said).unwrap();
        assert_eq!(said, "served");

        ports.tidy();
        TcpListener::bind(wanted[1].address).expect("nobody has asked for it again");
    }

    #[test]
    fn nobody_is_a_client_of_a_port_at_which_nobody_listens() {
        let port = port(3, 20_000, protocol::TCP);
        let (bound, stopped) = Ports::default().bind(&[port]);
        assert_eq!(stopped, None);
        let refused = TcpStream::connect(port.address).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        listen(&bound[0], Backlog::MAXCONN).unwrap();
        TcpStream::connect(port.address).unwrap();
    }

    #[test]
    fn what_cannot_be_had_says_why() {
        let foreign = HostEndpoint {
            address: SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 77), 20_000),
            protocol: protocol::TCP,
        };
        for (port, reason) in [
            (foreign, "no such address"),
            (port(4, 20_000, 132), "protocol 132"),
        ] {
            let Some(Stopped { at: 0, why }) = Ports::default().bind(&[port]).1 else {
                panic!("it is had");
            };
            assert!(format!("{why:?}").contains(reason), "{why:?}");
        }
    }

    #[test]
    fn rights_and_descriptors_that_are_missing_are_named() {
        let said = |number| format!("{:?}", unclaimed(&io::Error::from_raw_os_error(number)));
        let refused = said(libc::EACCES);
        for part in [
            "net.ipv4.ip_unprivileged_port_start (",
            "CAP_NET_BIND_SERVICE",
        ] {
            assert!(refused.contains(part), "{refused}");
        }
        assert!(said(libc::EMFILE).contains("ulimit -n"));
    }
}
