//! One connection.

use core::net::IpAddr;

use pontoon_packet::{Endpoint, Timestamp};
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{RecvError, Socket, SocketBuffer, State};
use smoltcp::time::Duration;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint, IpListenEndpoint};

use crate::clock::{Clock, HASTE};
use crate::isn;
use crate::recovery::Recovery;
use crate::segment::Segment;
use crate::wire::{Emit, Nowhere, Wire};

/// Memory for bytes under way. Its size bounds the window and thereby what a connection can hold.
#[derive(Debug)]
pub struct Buffers {
    /// What the container has sent and the host has not taken.
    pub received: &'static mut [u8],
    /// What the host has sent and the container has not acknowledged.
    pub unsent: &'static mut [u8],
}

/// What a connection is made of.
#[derive(Debug)]
pub struct Setup {
    /// The container's end.
    pub container: Endpoint,
    /// The end that the container speaks to, or is spoken to by.
    pub far: Endpoint,
    /// Largest IP datagram on the container's network, in bytes.
    pub mtu: u16,
    /// The initial sequence number; nobody may be able to guess it, and it has to lie ahead of those of an
    /// earlier connection between the same ends (RFC 6528 §3).
    pub isn: u32,
    /// Its memory.
    pub buffers: Buffers,
}

/// What may still come from the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Bytes.
    Open,
    /// Nothing: it has finished sending, and everything was taken.
    Finished,
    /// Nothing: it has reset the connection, or does not answer.
    Broken,
}

/// Datagrams sent in one go. Our choice: four times what fits into the largest window of a
/// super-frame, so that no connection keeps the others waiting.
const BURST: usize = 64;
/// Silence after which the container is asked whether it is still there; Linux
/// `TCP_KEEPALIVE_TIME`.
const KEEP_ALIVE: Duration = Duration::from_secs(7200);
/// How long bytes may stay unacknowledged: about what Linux' `tcp_retries2` amounts to.
const GIVE_UP: Duration = Duration::from_secs(924);
/// How long our end of the connection may stay unacknowledged when everything before it is. Our choice.
const LAST_WORD: core::time::Duration = core::time::Duration::from_secs(60);
/// How long the end of a connection is acknowledged whose last bytes the host does not take: less
/// than smoltcp's TIME-WAIT of 10 s on its clock, more than the acknowledgement is delayed.
const SETTLES: core::time::Duration = core::time::Duration::from_secs(1);

/// A container's connection, which ends here.
pub struct Connection {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    clock: Clock,
    recovery: Recovery,
    mtu: u16,
    /// Bytes that there is room for between the host and the container.
    room: usize,
    /// The sequence number of the first byte that the host has not taken.
    untaken: u32,
    /// The container has said that it will send nothing more.
    finished: bool,
    /// When the last word counts as lost.
    last_word: Option<Timestamp>,
    /// Until when a connection whose bytes are not all taken acknowledges the container's end.
    settles: Option<Timestamp>,
}

impl Connection {
    /// A connection that the container opens: its SYN is the first datagram to be received.
    pub fn accept(now: Timestamp, setup: Setup) -> Self {
        let far = endpoint(setup.far);
        let mut connection = Self::new(now, setup);
        let listening = connection.socket().listen(IpListenEndpoint::from(far));
        debug_assert!(listening.is_ok(), "a fresh socket and a port that is not 0");
        connection
    }

    /// A connection to the container: the first datagram to be transmitted is a SYN.
    pub fn connect(now: Timestamp, setup: Setup) -> Self {
        let (container, far) = (endpoint(setup.container), endpoint(setup.far));
        let mut connection = Self::new(now, setup);
        let Self {
            interface,
            sockets,
            handle,
            ..
        } = &mut connection;
        let socket = sockets.get_mut::<Socket<'_>>(*handle);
        let connecting = socket.connect(interface.context(), container, far);
        debug_assert!(
            connecting.is_ok(),
            "a fresh socket and ports that are not 0"
        );
        connection
    }

    fn new(now: Timestamp, setup: Setup) -> Self {
        let mut wire = Wire {
            now,
            incoming: None,
            out: &mut Nowhere,
            recovery: &mut Recovery::default(),
            mtu: setup.mtu,
        };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = isn::seed(setup.isn);
        let mut interface = Interface::new(config, &mut wire, Clock::default().instant(now));
        let address = IpCidr::new(address(setup.far.addr), host_prefix(setup.far.addr));
        interface.update_ip_addrs(|addresses| {
            // One address into an empty list.
            let _ = addresses.push(address);
        });
        let Buffers { received, unsent } = setup.buffers;
        let room = received.len();
        let mut socket = Socket::new(SocketBuffer::new(received), SocketBuffer::new(unsent));
        // Small writes were held back, or not, by whoever made them.
        socket.set_nagle_enabled(false);
        socket.set_keep_alive(Some(KEEP_ALIVE * HASTE));
        socket.set_timeout(Some((KEEP_ALIVE + GIVE_UP) * HASTE));
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Self {
            interface,
            sockets,
            handle,
            clock: Clock::default(),
            recovery: Recovery::default(),
            mtu: setup.mtu,
            room,
            untaken: 0,
            finished: false,
            last_word: None,
            settles: None,
        }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    fn state(&self) -> State {
        self.sockets.get::<Socket<'_>>(self.handle).state()
    }

    /// Takes an IP datagram of the container's. An answer that cannot wait is sent at once.
    pub fn receive(&mut self, now: Timestamp, datagram: &[u8], out: &mut impl Emit) {
        let opening = self.state() == State::SynReceived;
        let Some(segment) = Segment::read(datagram) else {
            return;
        };
        if segment.is_syn() && matches!(self.state(), State::Listen | State::SynSent) {
            self.untaken = segment.seq.wrapping_add(1);
        }
        let closing = self.state() == State::FinWait1;
        let with_room = closing.then(|| segment.with_room(datagram)).flatten();
        let datagram = with_room.as_deref().unwrap_or(datagram);
        if self.finished {
            let bare = segment.without_bytes(datagram);
            self.take_in(now, bare.as_deref().unwrap_or(datagram), out);
        } else if let Some(fitting) = segment.cut_to(datagram, self.room_for(&segment)) {
            self.take_in(now, &fitting, out);
        } else if let Some(parts) = segment.split_end(datagram) {
            for part in parts {
                self.take_in(now, &part, out);
            }
        } else {
            self.take_in(now, datagram, out);
        }
        // smoltcp would wait for another SYN.
        if opening && self.state() == State::Listen {
            self.abort();
        }
    }

    /// How many bytes of a segment any window could have asked for. smoltcp 0.14 takes the window of its
    /// SYN for scaled, which it is not, and writes what would lie behind its buffer to nowhere.
    const fn room_for(&self, segment: &Segment) -> usize {
        let ahead = segment.seq.wrapping_sub(self.untaken) as i32 as i64;
        let room = self.room as i64 - ahead;
        if room < 0 { 0 } else { room as usize }
    }

    fn take_in(&mut self, now: Timestamp, datagram: &[u8], out: &mut impl Emit) {
        let changed = Segment::read(datagram).and_then(|segment| {
            let window = self.recovery.heard(now, &segment)?;
            Some(segment.with_window(datagram, window))
        });
        let mut wire = Wire {
            now,
            incoming: Some(changed.as_deref().unwrap_or(datagram)),
            out,
            recovery: &mut self.recovery,
            mtu: self.mtu,
        };
        let at = self.clock.instant(now);
        self.interface
            .poll_ingress_single(at, &mut wire, &mut self.sockets);
        self.finished |= matches!(
            self.state(),
            State::CloseWait | State::LastAck | State::Closing | State::TimeWait
        );
    }

    /// Sends what is due: data, acknowledgements, resent data.
    pub fn transmit(&mut self, now: Timestamp, out: &mut impl Emit) {
        self.watch_last_word(now);
        if self.is_settled(now) {
            return;
        }
        if self.state() == State::Closed {
            self.recovery.end();
        } else if self.recovery.begin_round(now) {
            self.clock.leap();
        }
        let mut wire = Wire {
            now,
            incoming: None,
            out,
            recovery: &mut self.recovery,
            mtu: self.mtu,
        };
        let at = self.clock.instant(now);
        for _ in 0..BURST {
            let sent = self.interface.poll_egress(at, &mut wire, &mut self.sockets);
            if sent == PollResult::None {
                break;
            }
        }
    }

    /// Ends a connection in which only our FIN is missing, and stays so.
    fn watch_last_word(&mut self, now: Timestamp) {
        let closing = matches!(
            self.state(),
            State::FinWait1 | State::Closing | State::LastAck
        );
        if !closing || self.socket().send_queue() > 0 {
            self.last_word = None;
        } else if *self.last_word.get_or_insert(now + LAST_WORD) <= now {
            self.last_word = None;
            self.socket().abort();
        }
    }

    /// Both sides have finished, and only the host has yet to take bytes. smoltcp would forget them
    /// when TIME-WAIT ends.
    fn is_settled(&mut self, now: Timestamp) -> bool {
        if self.state() != State::TimeWait || self.socket().recv_queue() == 0 {
            self.settles = None;
            return false;
        }
        *self.settles.get_or_insert(now + SETTLES) <= now
    }

    /// When [`transmit`](Self::transmit) next has something to do, if nothing comes before.
    pub fn poll_timeout(&mut self, now: Timestamp) -> Option<Timestamp> {
        if self.is_settled(now) {
            return None;
        }
        let at = (self.interface).poll_at(self.clock.instant(now), &self.sockets);
        let at = at.map(|at| self.clock.timestamp(at));
        let next = [at, self.recovery.due(), self.last_word, self.settles]
            .into_iter()
            .flatten()
            .min()?;
        Some(next.max(now))
    }

    /// Gives `take` the longest run of bytes that the container has sent; it says how many it took.
    pub fn take<R>(&mut self, take: impl FnOnce(&[u8]) -> (usize, R)) -> Option<R> {
        let socket = self.socket();
        if !socket.can_recv() {
            return None;
        }
        let taken = |bytes: &mut [u8]| {
            let (count, result) = take(bytes);
            (count, (count, result))
        };
        let (count, result) = socket.recv(taken).ok()?;
        self.untaken = self.untaken.wrapping_add(count as u32);
        Some(result)
    }

    /// Gives `put` the longest run of room for bytes to the container; it says how many it wrote.
    pub fn put<R>(&mut self, put: impl FnOnce(&mut [u8]) -> (usize, R)) -> Option<R> {
        let socket = self.socket();
        if !socket.can_send() {
            return None;
        }
        socket.send(put).ok()
    }

    /// What may still come from the container.
    pub fn incoming(&mut self) -> Incoming {
        let waits = matches!(
            self.state(),
            State::Listen | State::SynSent | State::SynReceived
        );
        let socket = self.socket();
        if waits || socket.may_recv() {
            return Incoming::Open;
        }
        match socket.peek(1) {
            Err(RecvError::Finished) => Incoming::Finished,
            Ok(_) | Err(RecvError::InvalidState) => Incoming::Broken,
        }
    }

    /// Nothing more will be put: the container is told once it has everything.
    pub fn finish(&mut self) {
        self.socket().close();
    }

    /// Ends the connection; the next `transmit` sends a reset. What was not taken is not waited for.
    pub fn abort(&mut self) {
        self.finished = false;
        self.socket().abort();
    }

    /// The handshake is complete and neither side has ended the connection.
    pub fn is_established(&self) -> bool {
        !matches!(
            self.state(),
            State::Closed | State::Listen | State::SynSent | State::SynReceived
        )
    }

    /// Both sides have finished, everything is acknowledged and taken, or one has reset it: nothing is
    /// left to do but what [`transmit`](Self::transmit) still has to say.
    pub fn is_over(&self) -> bool {
        let socket = self.sockets.get::<Socket<'_>>(self.handle);
        let untaken = self.finished && socket.recv_queue() > 0;
        matches!(socket.state(), State::Closed | State::TimeWait) && !untaken
    }

    /// No bytes are under way in either direction.
    pub fn is_idle(&self) -> bool {
        let socket = self.sockets.get::<Socket<'_>>(self.handle);
        socket.recv_queue() == 0 && socket.send_queue() == 0
    }
}

impl core::fmt::Debug for Connection {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let socket = self.sockets.get::<Socket<'_>>(self.handle);
        f.debug_struct("Connection")
            .field("state", &socket.state())
            .field("received", &socket.recv_queue())
            .field("unsent", &socket.send_queue())
            .finish_non_exhaustive()
    }
}

const fn address(addr: IpAddr) -> IpAddress {
    match addr {
        IpAddr::V4(v4) => IpAddress::Ipv4(v4),
        IpAddr::V6(v6) => IpAddress::Ipv6(v6),
    }
}

const fn host_prefix(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

fn endpoint(end: Endpoint) -> IpEndpoint {
    IpEndpoint::new(address(end.addr), end.port)
}
