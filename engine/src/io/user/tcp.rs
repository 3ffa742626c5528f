//! A container's TCP connection and the host's, joined.
#![allow(
    unsafe_code,
    reason = "lends a connection memory that outlives it in the same value"
)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;
use nix::sys::socket::{setsockopt, sockopt};
use pontoon_packet::{Endpoint, Timestamp, icmp};
use pontoon_relay::{Arena, Connection, Incoming, Setup};

use super::memory::{Memory, Region};

/// How long a connection is idle before it gives back memory that it has used.
const IDLE: Duration = Duration::from_secs(5);
/// Bytes moved for one connection before others get their turn.
const TURN: usize = 512 << 10;
/// The container's link never cuts what the engine sends; the container's own MTU comes with its SYN.
const MTU: u16 = u16::MAX;

/// The two ends of a relayed connection, as the container sees them.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Ends {
    pub(super) container: Endpoint,
    pub(super) far: Endpoint,
}

impl Ends {
    /// What a connection between them is made of.
    ///
    /// # Safety
    /// The connection must be the only borrower of `region`, and be gone before it is.
    pub(super) unsafe fn setup(self, region: &Region, isn: u32) -> Setup {
        Setup {
            container: self.container,
            far: self.far,
            mtu: MTU,
            isn,
            // SAFETY: as the caller promises.
            buffers: unsafe { region.buffers() },
        }
    }
}

/// What the far end is told, and what is told of it.
#[derive(Debug)]
pub(super) enum Step {
    /// It goes on. The flag says that there is more to do at once.
    Goes {
        /// Another turn is due.
        again: bool,
        /// Bytes moved.
        bytes: usize,
    },
    /// The far end does not want it: the container is to get a reset.
    Refused,
    /// The far end cannot be reached.
    Unreachable(icmp::Error),
    /// Both sides are done.
    Over,
    /// Its TCP has broken a rule of its own. Nothing more can be said by it.
    Broken,
}

/// The host's socket, and what is known of it (edge-triggered).
#[derive(Debug)]
struct HostEnd {
    stream: TcpStream,
    readable: bool,
    writable: bool,
    /// The far end has finished sending; not all may have been read.
    finished: bool,
    /// Its end was read.
    read_closed: bool,
    write_closed: bool,
}

/// A relayed connection.
#[derive(Debug)]
pub(super) struct TcpFlow {
    // Dropped before `region`, which it borrows.
    connection: Option<Box<Connection>>,
    region: Option<Region>,
    host: HostEnd,
    ends: Ends,
    /// The datagram that opened it, held until the far end has accepted.
    syn: Vec<u8>,
    /// Its TCP has panicked.
    broken: bool,
    /// When bytes to the container were last moved, if the memory that they used was not given back.
    filled: Option<Timestamp>,
}

impl TcpFlow {
    /// Starts to connect to the far end, which the host knows as `to`; the container's SYN waits.
    pub(super) fn connect(ends: Ends, to: Endpoint, syn: &[u8]) -> io::Result<Self> {
        let stream = TcpStream::connect(SocketAddr::new(to.addr, to.port))?;
        stream.set_nodelay(true)?;
        reset_when_dropped(&stream);
        Ok(Self {
            connection: None,
            region: None,
            host: HostEnd::new(stream),
            ends,
            syn: syn.to_vec(),
            broken: false,
            filled: None,
        })
    }

    /// Joins a client that the host has accepted to a connection to the container, which is opened by
    /// the next `serve`.
    pub(super) fn accept(
        now: Timestamp,
        stream: TcpStream,
        ends: Ends,
        region: Region,
        isn: u32,
    ) -> Self {
        // A client that has gone already will show it when it is read.
        let _ = stream.set_nodelay(true);
        reset_when_dropped(&stream);
        // SAFETY: as in `begin`.
        let setup = unsafe { ends.setup(&region, isn) };
        Self {
            connection: Some(Box::new(Connection::connect(now, setup))),
            region: Some(region),
            host: HostEnd {
                readable: true,
                writable: true,
                ..HostEnd::new(stream)
            },
            ends,
            syn: Vec::new(),
            broken: false,
            filled: None,
        }
    }

    /// The far end has not accepted yet.
    pub(super) const fn is_connecting(&self) -> bool {
        self.connection.is_none()
    }

    /// The host's socket, to be waited for.
    pub(super) fn source(&mut self) -> &mut TcpStream {
        &mut self.host.stream
    }

    /// Takes what the poll has told of the host's socket.
    pub(super) fn note(&mut self, event: &Event) {
        self.host.readable |= event.is_readable();
        self.host.writable |= event.is_writable();
        self.host.finished |= event.is_read_closed() || event.is_error();
        self.host.readable |= self.host.finished;
    }

    /// Takes a datagram of the container's.
    pub(super) fn receive(&mut self, now: Timestamp, datagram: &[u8], arena: &mut Arena) {
        if let Some(connection) = self.connection.as_mut().filter(|_| !self.broken) {
            let receive = AssertUnwindSafe(|| connection.receive(now, datagram, arena));
            self.broken = catch_unwind(receive).is_err();
        }
    }

    /// Sends the SYN of a connection to the container.
    pub(super) fn open(&mut self, now: Timestamp, arena: &mut Arena) {
        if let Some(connection) = &mut self.connection {
            connection.transmit(now, arena);
        }
    }

    /// Ends the connection: the next `serve` tells both sides.
    pub(super) fn abort(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.abort();
        }
    }

    /// Moves bytes both ways as far as they go, and sends what is due. Each connection is a failure
    /// domain of its own: what a container makes its TCP trip over ends that connection and no other.
    pub(super) fn serve(
        &mut self,
        now: Timestamp,
        arena: &mut Arena,
        open: impl FnOnce(Ends) -> io::Result<(Region, u32)>,
    ) -> Step {
        if self.broken {
            return Step::Broken;
        }
        let step = catch_unwind(AssertUnwindSafe(|| self.advance(now, arena, open)));
        step.unwrap_or(Step::Broken)
    }

    fn advance(
        &mut self,
        now: Timestamp,
        arena: &mut Arena,
        open: impl FnOnce(Ends) -> io::Result<(Region, u32)>,
    ) -> Step {
        if self.connection.is_none() {
            match self.accepted() {
                Ok(true) => {}
                Ok(false) => {
                    return Step::Goes {
                        again: false,
                        bytes: 0,
                    };
                }
                Err(error) => return refusal(&error),
            }
            let Ok((region, isn)) = open(self.ends) else {
                return Step::Refused;
            };
            self.begin(now, region, isn, arena);
        }
        let Some(connection) = &mut self.connection else {
            return Step::Over;
        };
        let (out, back) = self.host.relay(connection);
        let again = out >= TURN || back >= TURN;
        if back > 0 {
            self.filled = Some(now);
        }
        connection.transmit(now, arena);
        if connection.is_over() {
            self.host.end(connection);
            return Step::Over;
        }
        self.rest(now);
        Step::Goes {
            again,
            bytes: out + back,
        }
    }

    /// Whether the far end has accepted the connection.
    fn accepted(&mut self) -> io::Result<bool> {
        if let Some(error) = self.host.stream.take_error()? {
            return Err(error);
        }
        if !self.host.writable {
            return Ok(false);
        }
        match self.host.stream.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn begin(&mut self, now: Timestamp, region: Region, isn: u32, arena: &mut Arena) {
        // SAFETY: `connection` is the only borrower; `close` and the order of fields see to it that it is
        // gone before the region is.
        let setup = unsafe { self.ends.setup(&region, isn) };
        let mut connection = Box::new(Connection::accept(now, setup));
        connection.receive(now, &self.syn, arena);
        self.syn = Vec::new();
        self.connection = Some(connection);
        self.region = Some(region);
    }

    /// Gives memory back that a connection used which is idle now.
    fn rest(&mut self, now: Timestamp) {
        let idle = self.connection.as_ref().is_some_and(|c| c.is_idle());
        let due = self.filled.is_some_and(|at| at + IDLE <= now);
        if let (true, true, Some(region)) = (idle, due, &self.region) {
            // SAFETY: an idle connection has nothing unsent.
            unsafe { region.shrink_unsent() };
            self.filled = None;
        }
    }

    /// When it next has something to do on its own account.
    pub(super) fn poll_timeout(&mut self, now: Timestamp) -> Option<Timestamp> {
        let connection = self.connection.as_mut()?;
        let rest = self.filled.map(|at| (at + IDLE).max(now + IDLE / 5));
        let timers = [connection.poll_timeout(now), rest];
        timers.into_iter().flatten().min()
    }

    /// Lets go of everything. A far end that was not told of an orderly end gets a reset.
    pub(super) fn close(self, memory: &mut Memory) {
        if self.host.is_done() {
            self.host.close_in_order();
        }
        drop(self.connection);
        if let Some(region) = self.region {
            memory.give_back(region);
        }
    }

    /// The datagram that opened it, while it is held.
    pub(super) fn held(&self) -> &[u8] {
        &self.syn
    }
}

impl HostEnd {
    /// A socket of which nothing is known.
    const fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            readable: false,
            writable: false,
            finished: false,
            read_closed: false,
            write_closed: false,
        }
    }

    /// Moves bytes both ways. Says how many, out and back.
    fn relay(&mut self, connection: &mut Connection) -> (usize, usize) {
        (self.push(connection), self.pull(connection))
    }

    /// From the container to the host's socket.
    fn push(&mut self, connection: &mut Connection) -> usize {
        let mut moved = 0;
        while self.writable && moved < TURN {
            let stream = &mut self.stream;
            let written = connection.take(|bytes| match stream.write(bytes) {
                Ok(count) => (count, Ok(count)),
                Err(error) => (0, Err(error.kind())),
            });
            match written {
                None => break,
                Some(Ok(count)) => moved += count,
                Some(Err(ErrorKind::WouldBlock)) => self.writable = false,
                Some(Err(ErrorKind::Interrupted)) => {}
                Some(Err(_)) => {
                    connection.abort();
                    break;
                }
            }
        }
        match connection.incoming() {
            Incoming::Finished if !self.write_closed => {
                self.write_closed = true;
                // A socket that is gone already will say so when it is read.
                let _ = self.stream.shutdown(Shutdown::Write);
            }
            Incoming::Finished | Incoming::Open | Incoming::Broken => {}
        }
        moved
    }

    /// From the host's socket to the container.
    fn pull(&mut self, connection: &mut Connection) -> usize {
        let mut moved = 0;
        while self.readable && !self.read_closed && moved < TURN {
            let stream = &mut self.stream;
            let read = connection.put(|room| match stream.read(room) {
                Ok(count) => (count, Ok((count, room.len()))),
                Err(error) => (0, Err(error.kind())),
            });
            match read {
                None => break,
                Some(Ok((0, _))) => {
                    self.read_closed = true;
                    connection.finish();
                }
                Some(Ok((count, room))) => {
                    moved += count;
                    // Less than there was room for: the socket is empty, unless its end waits too.
                    self.readable = count == room || self.finished;
                }
                Some(Err(ErrorKind::WouldBlock)) => self.readable = false,
                Some(Err(ErrorKind::Interrupted)) => {}
                Some(Err(_)) => {
                    self.read_closed = true;
                    connection.abort();
                }
            }
        }
        moved
    }

    /// Both directions were ended in order.
    fn is_done(&self) -> bool {
        self.read_closed && self.write_closed
    }

    /// The container's side is over: a reset passes on, an orderly end needs nothing more.
    fn end(&mut self, connection: &mut Connection) {
        if connection.incoming() == Incoming::Finished {
            self.write_closed = true;
        }
    }

    /// What was written is still to arrive when the socket is closed.
    fn close_in_order(&self) {
        let in_order = libc::linger {
            l_onoff: 0,
            l_linger: 0,
        };
        // The far end is gone when its socket cannot be told.
        let _ = setsockopt(&self.stream.as_fd(), sockopt::Linger, &in_order);
    }
}

/// Lets a connection end with a reset, whatever closes its socket: the end of the engine is not to be
/// taken for that of what was sent.
pub(super) fn reset_when_dropped(socket: &impl AsFd) {
    let at_once = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // A socket that cannot be told closes in order; the far end sees the end a little later.
    let _ = setsockopt(socket, sockopt::Linger, &at_once);
}

/// What the container is told when the host's connect fails, or when there is no socket for it: a reset,
/// which no limit holds back as it does ICMP errors, unless the way is at fault.
pub(super) fn refusal(error: &io::Error) -> Step {
    match error.raw_os_error() {
        Some(libc::ENETUNREACH | libc::ENETDOWN) => {
            Step::Unreachable(icmp::Error::NetworkUnreachable)
        }
        Some(libc::EHOSTUNREACH | libc::EHOSTDOWN) => {
            Step::Unreachable(icmp::Error::HostUnreachable)
        }
        Some(libc::EACCES | libc::EPERM) => {
            Step::Unreachable(icmp::Error::AdministrativelyProhibited)
        }
        Some(libc::ETIMEDOUT) => Step::Over,
        _ => Step::Refused,
    }
}
