//! The user uplink: containers speak to the world through the host's own sockets.
//!
//! ```text
//! ring → Datapath::process → deliver ─┐                        ┌─ epoll: host sockets
//!                                     ▼                        ▼
//!                                   flow: TCP relay, UDP, ping (one host socket each)
//!                                     │ frames into the arena
//! wire ← Datapath::process ◄──────────┘ (by the uplink's own port)
//! ```
//!
//! A flow stands in the slot that its connection has in the connection table, which admits it before
//! a socket is made, bounds, ages and evicts it; what the table has let go of is dropped here
//! (`UserUplink::end`), and with it everything that it held. Frames for containers are made in an
//! `Arena` and go through the same function as every other frame.

mod begin;
mod datagram;
mod inward;
mod listener;
mod listeners;
mod memory;
mod names;
mod returning;
mod seeds;
mod serve;
mod tcp;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use mio::unix::SourceFd;
use mio::{Registry, event::Event};
use pontoon_nat::ConnId;
use pontoon_packet::{Facts, Frame, Timestamp, icmp};
use pontoon_relay::{Arena, Emit};

use self::begin::{begins, resets};
use self::datagram::DatagramFlow;
pub use self::listener::{HostSocket, Publication};
use self::listeners::{FIRST_LISTENER, Listeners};
use self::memory::Memory;
use self::names::{FIRST_UPSTREAM, Questions, Stream};
pub use self::names::{NameServer, Participant};
use self::returning::Returning;
use self::seeds::Seeds;
use self::tcp::TcpFlow;
use super::worker::WAKE;
use crate::PortId;

/// Tokens of host sockets are this plus the flow's slot.
const FIRST_TOKEN: usize = 1 << 32;
const UDP_HEADER: usize = 8;
/// Flows that leave a heap worth trimming when most of them have ended.
const MANY: usize = 512;

#[derive(Debug)]
enum Carrier {
    Tcp(Box<TcpFlow>),
    Datagram(Box<DatagramFlow>),
    Published(PublishedFlow),
    /// Datagrams to the name server.
    Query(Questions),
    /// A connection to the name server.
    Stream(Box<Stream>),
}

/// A client of a published UDP port.
#[derive(Clone, Copy, Debug)]
struct PublishedFlow {
    client: SocketAddrV4,
    /// The host's address that the client used.
    local: Ipv4Addr,
}

#[derive(Debug)]
struct Flow {
    id: ConnId,
    from: PortId,
    carrier: Carrier,
    /// Place of the listener that it came by, if a client has begun it.
    listener: Option<usize>,
    /// Stands in the list of those to be served.
    touched: bool,
    /// The timer that is set; there is none that is later.
    alarm: Option<Timestamp>,
}

/// An error that a container is to be told.
#[derive(Debug)]
pub(super) struct Notice {
    /// The container.
    pub(super) port: PortId,
    /// What it is about: IP header and at least eight bytes.
    pub(super) quoted: Vec<u8>,
    /// What became of it.
    pub(super) error: icmp::Error,
}

/// All flows through host sockets.
#[derive(Debug)]
pub(super) struct UserUplink {
    registry: Registry,
    flows: Vec<Option<Flow>>,
    listeners: Listeners,
    returning: Returning,
    /// Addresses that stand for the host's loopback.
    loopbacks: HashSet<IpAddr>,
    /// TCP flows by container.
    relayed: HashMap<PortId, usize>,
    touched: VecDeque<u32>,
    alarms: BinaryHeap<Reverse<(Timestamp, u32)>>,
    memory: Memory,
    /// Initial sequence numbers and ids that nobody can guess.
    seeds: Seeds,
    names: NameServer,
    relayed_bytes: usize,
    /// Connections whose TCP has panicked.
    broken: u64,
    /// Flows for which no socket could be had.
    refused: u64,
    /// Flows that there are.
    open: usize,
    /// The most that there were since the heap was trimmed.
    most: usize,
    /// Frames for containers.
    pub(super) arena: Arena,
    /// Room for what opens one flow, beside the frames that wait.
    scratch: Arena,
    notices: Vec<Notice>,
    /// TCP flows that are over.
    over: Vec<ConnId>,
    /// It was said once that pings cannot be carried.
    pings_refused: bool,
}

impl UserUplink {
    /// No flows. Host sockets are waited for by the poll that `registry` belongs to.
    ///
    /// # Errors
    /// No descriptor can be had.
    pub(super) fn new(registry: Registry) -> io::Result<Self> {
        let mut seeds = Seeds::default();
        Ok(Self {
            names: NameServer::new(registry.try_clone()?, &mut seeds),
            registry,
            flows: Vec::new(),
            listeners: Listeners::new(),
            returning: Returning::default(),
            loopbacks: HashSet::new(),
            relayed: HashMap::new(),
            touched: VecDeque::new(),
            alarms: BinaryHeap::new(),
            memory: Memory::default(),
            seeds,
            relayed_bytes: 0,
            broken: 0,
            refused: 0,
            open: 0,
            most: 0,
            arena: Arena::new(),
            scratch: Arena::small(),
            notices: Vec::new(),
            over: Vec::new(),
            pings_refused: false,
        })
    }

    /// Takes a datagram of the connection `id`, from the container behind `from`.
    pub(super) fn receive(
        &mut self,
        now: Timestamp,
        id: ConnId,
        from: PortId,
        frame: &Frame<'_>,
        facts: &Facts,
    ) {
        let Some(ip) = facts.ip() else { return };
        let datagram = &frame.bytes[usize::from(ip.start)..ip.end()];
        if !matches!(self.flow(id.slot), Some(flow) if flow.id == id) {
            self.open(now, id, from, datagram, ip);
        }
        let arena = &mut self.arena;
        let flow = self.flows.get_mut(id.slot as usize);
        let Some(flow) = flow.and_then(Option::as_mut).filter(|flow| flow.id == id) else {
            return;
        };
        match &mut flow.carrier {
            Carrier::Tcp(flow) if flow.is_connecting() && resets(ip) => return self.end(id),
            Carrier::Tcp(flow) => flow.receive(now, datagram, arena),
            Carrier::Datagram(flow) => flow.receive(datagram, ip, frame.offload),
            Carrier::Published(client) => {
                let start = ip.l4_start() - usize::from(ip.start) + UDP_HEADER;
                if let Some(listener) = flow.listener.and_then(|at| self.listeners.get(at)) {
                    listener.answer(client.client, client.local, &datagram[start..]);
                }
                return;
            }
            Carrier::Query(_) => {
                let start = ip.l4_start() - usize::from(ip.start) + UDP_HEADER;
                return self.take_query(now, id, &datagram[start..]);
            }
            Carrier::Stream(stream) => stream.receive(now, datagram, arena),
        }
        self.touch(id.slot);
    }

    /// Takes what the poll has told of a host socket. Says whether it was one.
    pub(super) fn note(&mut self, event: &Event) -> bool {
        let token = event.token();
        if token == WAKE {
            return false;
        }
        if let Some(at) = token.0.checked_sub(FIRST_UPSTREAM) {
            self.names.note(at);
            return true;
        }
        if let Some(at) = token.0.checked_sub(FIRST_LISTENER) {
            self.listeners.note(at);
            return true;
        }
        let Some(slot) = token.0.checked_sub(FIRST_TOKEN) else {
            return false;
        };
        let Some(Some(flow)) = self.flows.get_mut(slot) else {
            return false;
        };
        match &mut flow.carrier {
            Carrier::Tcp(tcp) => tcp.note(event),
            Carrier::Datagram(datagram) => datagram.note(event),
            Carrier::Published(_) | Carrier::Query(_) | Carrier::Stream(_) => {}
        }
        self.touch(slot as u32);
        true
    }

    /// Serves flows that something has happened to, each once, until the arena is full.
    pub(super) fn serve(&mut self, now: Timestamp) {
        self.ring_alarms(now);
        self.names.serve(now);
        self.hand_out_answers(now);
        for _ in 0..self.touched.len() {
            if !self.arena.has_room() {
                break;
            }
            if let Some(slot) = self.touched.pop_front() {
                self.serve_flow(now, slot);
            }
        }
    }

    /// Flows wait to be served.
    pub(super) fn is_ready(&self) -> bool {
        !self.touched.is_empty() || self.listeners.has_clients() || self.names.is_ready()
    }

    /// There are host sockets.
    pub(super) fn is_used(&self) -> bool {
        self.open > 0 || self.names.is_used() || self.listeners.len() > 0
    }

    /// When `serve` next has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        let alarm = self.alarms.peek().map(|Reverse((at, _))| *at);
        let others = [
            self.listeners.poll_timeout(),
            self.returning.poll_timeout(),
            self.names.poll_timeout(),
        ];
        alarm.into_iter().chain(others.into_iter().flatten()).min()
    }

    /// What there is and what happened, by name.
    pub(super) fn counters(&self) -> Vec<(String, u64)> {
        [
            ("user.flows", self.open as u64),
            ("user.listeners", self.listeners.len() as u64),
            ("user.refused", self.refused),
            ("user.broken", self.broken),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// Bytes relayed since the last call.
    pub(super) const fn take_relayed_bytes(&mut self) -> usize {
        std::mem::replace(&mut self.relayed_bytes, 0)
    }

    /// Errors for containers, since the last call.
    pub(super) fn notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Flows that have done what they were for, since the last call. Their place in the connection table
    /// is free for others: a relayed connection has waited as long as TCP asks for, or was given up, and
    /// a resolver asks each question from another port.
    pub(super) fn finished(&mut self) -> Vec<ConnId> {
        let mut finished = std::mem::take(&mut self.over);
        finished.append(&mut self.names.answered);
        finished
    }

    /// The connection has ended: everything that it held is let go.
    pub(super) fn end(&mut self, id: ConnId) {
        if let Some(place) = self.flows.get_mut(id.slot as usize)
            && place.as_ref().is_some_and(|flow| flow.id == id)
            && let Some(flow) = place.take()
        {
            self.close(flow);
        }
    }

    fn flow(&self, slot: u32) -> Option<&Flow> {
        self.flows.get(slot as usize)?.as_ref()
    }

    fn touch(&mut self, slot: u32) {
        if let Some(Some(flow)) = self.flows.get_mut(slot as usize)
            && !std::mem::replace(&mut flow.touched, true)
        {
            self.touched.push_back(slot);
        }
    }

    /// From now on this address stands for the host's loopback.
    pub(super) fn open_loopback(&mut self, address: IpAddr) {
        self.loopbacks.insert(address);
    }

    /// It no longer does. Flows that are under way go on.
    pub(super) fn close_loopback(&mut self, address: IpAddr) {
        self.loopbacks.remove(&address);
    }

    fn close(&mut self, flow: Flow) {
        self.open -= 1;
        if self.most > MANY && self.open < self.most / 4 {
            self.most = self.open;
            memory::trim_heap();
        }
        match flow.carrier {
            Carrier::Published(_) | Carrier::Query(_) => {}
            Carrier::Stream(stream) => self.close_stream(flow.from, *stream),
            Carrier::Tcp(mut tcp) => {
                // A socket that is closed is not waited for any more, whatever this says.
                let _ = self.registry.deregister(tcp.source());
                tcp.close(&mut self.memory);
                if let Some(count) = self.relayed.get_mut(&flow.from) {
                    *count -= 1;
                    if *count == 0 {
                        self.relayed.remove(&flow.from);
                    }
                }
            }
            Carrier::Datagram(datagram) => {
                let _ = self.registry.deregister(&mut SourceFd(&datagram.raw_fd()));
            }
        }
    }
}
