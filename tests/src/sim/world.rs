//! The hosts, their links, and the order in which things happen.

use core::net::Ipv4Addr;
use core::time::Duration;
use std::collections::BTreeMap;

use pontoon_engine::config::{AddressOwner, PortId};
use pontoon_packet::{Offload, Timestamp};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::wire::{IpAddress, IpEndpoint, IpListenEndpoint};

use super::host::Host;
use super::router::too_big;
use super::{Link, Program, Random, Talk};
use crate::lab::{C1, C2, C3, Lab, UP};

/// Bytes of each socket's buffers: more than an unscaled window.
const BUFFER: usize = 96 * 1024;
/// Between keep-alives: well under the 60 s for which smoltcp knows a neighbour.
const KEEP_ALIVE: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(25);
/// The least time that a host sleeps when it wants to work at once but has nothing to send.
const TICK: Duration = Duration::from_micros(100);

/// Which way a frame travels on its link.
#[derive(Clone, Copy, Debug)]
enum Towards {
    Datapath,
    Host,
}

struct Flight {
    towards: Towards,
    port: PortId,
    bytes: Vec<u8>,
    offload: Offload,
}

/// Three containers of one network and the outside, around a datapath.
pub struct World {
    /// The datapath and the clock.
    pub lab: Lab,
    /// The ends of all connections, in the order in which they were made.
    pub talks: Vec<Talk>,
    hosts: Vec<Host>,
    link: Link,
    random: Random,
    flights: BTreeMap<(Timestamp, u64), Flight>,
    launched: u64,
    /// MTU of a hop behind the router outside.
    narrow: Option<u16>,
}

impl World {
    /// The world with every link like `link`. The engine answers for the uplink's address.
    pub fn new(link: Link, seed: u64) -> Self {
        let mut lab = Lab::new();
        lab.datapath
            .update_uplink(Lab::uplink_config(1500, AddressOwner::Engine))
            .expect("the lab has this uplink");
        let mut hosts: Vec<_> = [C1, C2, C3].map(Host::container).into();
        hosts.push(Host::outside());
        Self {
            lab,
            talks: Vec::new(),
            hosts,
            link,
            random: Random::new(seed),
            flights: BTreeMap::new(),
            launched: 0,
            narrow: None,
        }
    }

    /// Makes the hop behind the outside router narrower; the router says so to who sends more.
    pub const fn narrow(&mut self, mtu: u16) {
        self.narrow = Some(mtu);
    }

    /// Repairs every link.
    pub const fn calm(&mut self) {
        self.link = Link::PERFECT;
    }

    /// The host on `port`.
    pub fn host(&mut self, port: PortId) -> &mut Host {
        self.hosts
            .iter_mut()
            .find(|host| host.port == port)
            .unwrap_or_else(|| panic!("no host on {port:?}"))
    }

    /// Listens on `host` for one connection. Gives back its number in `talks`.
    pub fn listen(&mut self, host: PortId, port: u16, does: Program) -> usize {
        let mut socket = socket(self.link);
        let at = IpListenEndpoint { addr: None, port };
        socket.listen(at).expect("a fresh socket");
        let socket = self.host(host).sockets.add(socket);
        self.talk(host, socket, does)
    }

    /// Connects from `host` to `remote`. Gives back the connection's number in `talks`.
    pub fn connect(
        &mut self,
        (host, addr, port): (PortId, Ipv4Addr, u16),
        remote: (Ipv4Addr, u16),
        does: Program,
    ) -> usize {
        let mut socket = socket(self.link);
        let local = IpListenEndpoint {
            addr: Some(IpAddress::Ipv4(addr)),
            port,
        };
        let remote = IpEndpoint::new(IpAddress::Ipv4(remote.0), remote.1);
        let host_ref = self.host(host);
        socket
            .connect(host_ref.interface.context(), remote, local)
            .expect("a fresh socket");
        let socket = host_ref.sockets.add(socket);
        self.talk(host, socket, does)
    }

    /// Gives a program more to send.
    pub fn say(&mut self, talk: usize, bytes: &[u8]) {
        self.talks[talk].say(bytes);
    }

    /// Closes a program's half, once everything it sent has been acknowledged.
    ///
    /// Not before: smoltcp 0.14 forgets a FIN that is lost when three duplicate acknowledgements of
    /// what came before it arrive, because its fast retransmission looks at data only.
    pub fn close(&mut self, talk: usize) {
        self.run(Duration::from_secs(3600), Self::is_idle);
        let socket = self.talks[talk].socket;
        let host = self.talks[talk].host;
        let socket = self.host(host).sockets.get_mut::<Socket<'_>>(socket);
        socket.close();
    }

    /// Nothing is under way, and everything sent has been acknowledged.
    fn is_idle(&self) -> bool {
        let acknowledged = |talk: &Talk| {
            let mut hosts = self.hosts.iter().filter(|host| host.port == talk.host);
            hosts.all(|host| host.sockets.get::<Socket<'_>>(talk.socket).send_queue() == 0)
        };
        self.flights.is_empty() && self.talks.iter().all(acknowledged)
    }

    /// Aborts a connection: its socket sends a reset.
    pub fn abort(&mut self, talk: usize) {
        let (host, socket) = (self.talks[talk].host, self.talks[talk].socket);
        self.host(host)
            .sockets
            .get_mut::<Socket<'_>>(socket)
            .abort();
    }

    /// Lets things happen until `done` says so; panics with all there is to see after `limit`.
    pub fn run(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) {
        let end = self.lab.now + limit;
        while !done(self) {
            assert!(self.lab.now < end, "not done after {limit:?}: {self:?}");
            self.step(end);
        }
    }

    /// Lets `time` pass.
    pub fn pass(&mut self, time: Duration) {
        let end = self.lab.now + time;
        while self.lab.now < end {
            self.step(end);
        }
    }

    fn talk(&mut self, host: PortId, socket: SocketHandle, does: Program) -> usize {
        self.talks.push(Talk::new(host, socket, does));
        self.talks.len() - 1
    }

    fn step(&mut self, end: Timestamp) {
        self.let_hosts_work();
        let next = self.next_event().unwrap_or(end).min(end);
        let sent = self.lab.pass(next.since(self.lab.now));
        for frame in sent {
            self.launch(Towards::Host, frame.port, frame.bytes, frame.offload);
        }
        while let Some(entry) = self.flights.first_entry()
            && entry.key().0 <= self.lab.now
        {
            let flight = entry.remove();
            self.arrive(flight);
        }
        self.let_hosts_work();
    }

    /// Lets hosts take what has arrived, programs read and write, and hosts send.
    fn let_hosts_work(&mut self) {
        self.poll_hosts();
        for talk in &mut self.talks {
            let mut hosts = self.hosts.iter_mut();
            if let Some(host) = hosts.find(|host| host.port == talk.host) {
                talk.advance(host.sockets.get_mut::<Socket<'_>>(talk.socket));
            }
        }
        self.poll_hosts();
    }

    fn poll_hosts(&mut self) {
        for index in 0..self.hosts.len() {
            let port = self.hosts[index].port;
            for (bytes, offload) in self.hosts[index].poll(self.lab.now) {
                self.launch(Towards::Datapath, port, bytes, offload);
            }
        }
    }

    fn next_event(&mut self) -> Option<Timestamp> {
        let now = self.lab.now;
        let hosts = self.hosts.iter_mut().filter_map(|host| host.poll_at(now));
        let soonest = hosts.min().map(|at| at.max(now + TICK));
        let arrival = self.flights.first_key_value().map(|((at, _), _)| *at);
        let timer = self.lab.datapath.poll_timeout().map(|at| at.max(now));
        [soonest, arrival, timer].into_iter().flatten().min()
    }

    fn launch(&mut self, towards: Towards, port: PortId, bytes: Vec<u8>, offload: Offload) {
        for delay in self.link.arrivals(&mut self.random) {
            self.launched += 1;
            let bytes = bytes.clone();
            let flight = Flight {
                towards,
                port,
                bytes,
                offload,
            };
            self.flights
                .insert((self.lab.now + delay, self.launched), flight);
        }
    }

    fn refusal(&self, port: PortId, bytes: &[u8], offload: Offload) -> Option<Vec<u8>> {
        let mtu = self.narrow.filter(|_| port == UP)?;
        too_big(mtu, bytes, offload)
    }

    fn arrive(&mut self, flight: Flight) {
        let Flight {
            towards,
            port,
            bytes,
            offload,
        } = flight;
        match towards {
            Towards::Datapath => {
                for sent in self.lab.send_with(port, &bytes, offload) {
                    self.launch(Towards::Host, sent.port, sent.bytes, sent.offload);
                }
            }
            Towards::Host => match self.refusal(port, &bytes, offload) {
                Some(error) => self.launch(Towards::Datapath, port, error, Offload::NONE),
                None => self.host(port).deliver(bytes, offload),
            },
        }
    }
}

impl core::fmt::Debug for World {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for talk in &self.talks {
            let host = self.hosts.iter().find(|host| host.port == talk.host);
            let state = host.map(|host| host.sockets.get::<Socket<'_>>(talk.socket).state());
            let received = talk.received.len();
            let (port, end) = (talk.host.0, talk.end);
            writeln!(f, "port {port}: {received} bytes, {state:?}, {end:?}")?;
        }
        writeln!(f, "flows: {:#?}", self.lab.datapath.flows(self.lab.now))?;
        write!(f, "drops: {:?}", self.lab.all_drops())
    }
}

/// A socket of a host on `link`. Where frames are lost it sends keep-alives: smoltcp 0.14 forgets an
/// acknowledgement that has to wait for ARP, and its neighbours live no longer than its longest
/// retransmission timeout, so that without them one such loss could repeat for ever.
fn socket(link: Link) -> Socket<'static> {
    let buffer = || SocketBuffer::new(vec![0; BUFFER]);
    let mut socket = Socket::new(buffer(), buffer());
    socket.set_keep_alive((link.lost > 0).then_some(KEEP_ALIVE));
    socket
}
