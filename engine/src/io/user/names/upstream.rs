//! A query's socket to one upstream.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::event::Source;
use mio::net::{TcpStream, UdpSocket};
use pontoon_names::{Forward, Key, StreamDecoder, Transport, frame};

/// A socket that one query was sent from.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) key: Key,
    pub(super) addr: SocketAddr,
    /// The poll has told something of it that was not looked at.
    pub(super) noted: bool,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    Tcp(Box<Link>),
}

/// A connection to an upstream.
#[derive(Debug)]
struct Link {
    stream: TcpStream,
    unsent: Vec<u8>,
    decoder: StreamDecoder,
}

impl Upstream {
    /// Sends a query from a port that the kernel chooses.
    ///
    /// # Errors
    /// No socket can be had, or the upstream cannot be reached.
    pub(super) fn open(forward: &Forward) -> io::Result<Self> {
        let addr = forward.upstream;
        let socket = match forward.transport {
            Transport::Udp => Socket::Udp(connected_udp(addr)?),
            Transport::Tcp => Socket::Tcp(Box::new(Link {
                stream: TcpStream::connect(addr)?,
                unsent: frame(&forward.bytes).map_err(io::Error::other)?,
                decoder: StreamDecoder::new(u16::MAX),
            })),
        };
        let mut upstream = Self {
            key: forward.key,
            addr,
            noted: false,
            socket,
        };
        upstream.ask_again(&forward.bytes)?;
        Ok(upstream)
    }

    /// Sends the query once more, where the network may have lost it.
    ///
    /// # Errors
    /// The upstream cannot be reached.
    pub(super) fn ask_again(&mut self, query: &[u8]) -> io::Result<()> {
        match &self.socket {
            Socket::Udp(socket) => match socket.send(query) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
                _ => Ok(()),
            },
            Socket::Tcp(_) => Ok(()),
        }
    }

    /// The socket, to be waited for.
    pub(super) fn source(&mut self) -> &mut dyn Source {
        match &mut self.socket {
            Socket::Udp(socket) => socket,
            Socket::Tcp(link) => &mut link.stream,
        }
    }

    /// The next message, if there is one; `room` is scratch memory for the longest.
    ///
    /// # Errors
    /// The upstream cannot be reached, or has closed the connection.
    pub(super) fn read(&mut self, room: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
        match &mut self.socket {
            Socket::Udp(socket) => {
                let read = socket.recv(room);
                Ok(unless_it_blocks(read)?.map(|len| room[..len].to_vec()))
            }
            Socket::Tcp(link) => link.read(room),
        }
    }
}

impl Link {
    fn read(&mut self, room: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
        self.flush()?;
        while let Some(len) = unless_it_blocks(self.stream.read(room))? {
            if len == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            // What comes after the only message that was asked for is nobody's.
            let message = self.decoder.next_message(&mut &room[..len]);
            if let Some(message) = message.map_err(io::Error::other)? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match unless_it_blocks(self.stream.write(&self.unsent))? {
                None => break,
                Some(len) => drop(self.unsent.drain(..len)),
            }
        }
        Ok(())
    }
}

fn connected_udp(addr: SocketAddr) -> io::Result<UdpSocket> {
    let any = match addr {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(addr)?;
    Ok(socket)
}

/// `None` for what has to be waited for: bytes, room, or the connection itself.
fn unless_it_blocks(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(len) => Ok(Some(len)),
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::NotConnected | ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        },
    }
}
