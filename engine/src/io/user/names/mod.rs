//! The name server on every gateway's address: what joins [`Names`] with host sockets and containers.
//!
//! A container's query comes in as a flow of the user uplink, a datagram or a connection that ends
//! here (`stream`). What its network does not know is asked of upstreams through sockets of their own
//! (`asking`, `upstream`), one for each query and server, whose port the kernel chooses. Answers wait here until
//! `flows` hands them to the flow that asked, if it is still there.

mod asking;
mod flows;
mod stream;
mod upstream;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use mio::Registry;
use pontoon_names::{
    Action, Client, Key, Limits, Member, NameError, Names, Step, Transport, Zone, ZoneId,
};
use pontoon_nat::ConnId;
use pontoon_packet::Timestamp;

pub(super) use self::stream::Stream;
use self::upstream::Upstream;
use super::seeds::Seeds;
use super::tcp::Ends;
use crate::PortId;

/// Tokens of sockets to upstreams are this plus their place.
pub(super) const FIRST_UPSTREAM: usize = 1 << 48;
/// The port of the name server.
const PORT: u16 = 53;
/// The longest message, in bytes.
const LONGEST: usize = u16::MAX as usize;

/// Who asks: the flow of a container, and the zone of its network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    zone: ZoneId,
    ends: Ends,
}

impl Asker {
    fn client(&self) -> Client {
        let end = self.ends.container;
        Client {
            zone: self.zone,
            addr: SocketAddr::new(end.addr, end.port),
        }
    }
}

/// Datagrams from one port of a container.
#[derive(Clone, Copy, Debug)]
pub(super) struct Questions {
    pub(super) asker: Asker,
    /// Those that an answer will come for.
    pub(super) waiting: usize,
}

/// A container that takes part in its network's names.
#[derive(Clone, Debug)]
pub struct Participant {
    /// Its network's zone.
    pub zone: ZoneId,
    /// Its address.
    pub addr: IpAddr,
    /// Its own name, and others by which it is found.
    pub names: Vec<String>,
    /// Whom it wants to be asked instead of the host's resolvers.
    pub upstreams: Option<Vec<SocketAddr>>,
}

/// A message for the flow that asked.
#[derive(Debug)]
struct Answer {
    to: ConnId,
    bytes: Vec<u8>,
}

/// A query that is being asked elsewhere.
#[derive(Debug)]
struct Asked {
    by: ConnId,
    /// Places of its sockets.
    sockets: Vec<usize>,
}

/// The names of all networks, and the sockets of queries under way.
#[derive(Debug)]
pub struct NameServer {
    registry: Registry,
    names: Names,
    gateways: HashMap<IpAddr, ZoneId>,
    participants: HashMap<PortId, (ZoneId, IpAddr)>,
    asked: HashMap<Key, Asked>,
    sockets: Vec<Option<Upstream>>,
    free: Vec<usize>,
    ready: VecDeque<usize>,
    answers: VecDeque<Answer>,
    /// Flows that wait for nothing any more.
    pub(super) answered: Vec<ConnId>,
    /// Connections of containers that end here.
    streams: HashMap<PortId, usize>,
    room: Box<[u8]>,
}

impl NameServer {
    /// Knows nothing and nobody. Sockets are waited for by the poll that `registry` belongs to.
    pub(super) fn new(registry: Registry, seeds: &mut Seeds) -> Self {
        Self {
            registry,
            names: Names::new(Limits::default(), std::array::from_fn(|_| seeds.next())),
            gateways: HashMap::new(),
            participants: HashMap::new(),
            asked: HashMap::new(),
            sockets: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            answers: VecDeque::new(),
            answered: Vec::new(),
            streams: HashMap::new(),
            room: vec![0; LONGEST].into_boxed_slice(),
        }
    }

    /// Answers on a network's gateway.
    pub fn open(&mut self, gateway: IpAddr, id: ZoneId, zone: Zone) {
        self.gateways.insert(gateway, id);
        self.names.insert_zone(id, zone);
    }

    /// Answers there no more.
    pub fn close(&mut self, id: ZoneId) {
        self.gateways.retain(|_, other| *other != id);
        for key in self.names.remove_zone(id) {
            self.forget(key);
        }
    }

    /// Makes a container known, and remembers whom it wants to be asked.
    ///
    /// # Errors
    /// One of its names is none.
    pub fn join(&mut self, port: PortId, participant: &Participant) -> Result<(), NameError> {
        let Participant {
            zone: id,
            addr,
            names,
            upstreams,
        } = participant;
        let Some(zone) = self.names.zone_mut(*id) else {
            return Ok(());
        };
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        zone.attach(Member(port.0), &names, &[*addr])?;
        if let Some(upstreams) = upstreams {
            zone.set_client_upstreams(*addr, upstreams);
        }
        self.participants.insert(port, (*id, *addr));
        Ok(())
    }

    /// Lets a container find the names of other networks as well.
    pub fn look_into(&mut self, port: PortId, others: &[ZoneId]) {
        if let Some((id, addr)) = self.participants.get(&port)
            && let Some(zone) = self.names.zone_mut(*id)
        {
            zone.set_client_zones(*addr, others);
        }
    }

    /// Forgets a container, and what it has asked.
    pub fn leave(&mut self, port: PortId) {
        let Some((id, addr)) = self.participants.remove(&port) else {
            return;
        };
        if let Some(zone) = self.names.zone_mut(id) {
            zone.detach(Member(port.0));
        }
        for key in self.names.forget_client(id, addr) {
            self.forget(key);
        }
    }

    /// Whom to ask what no network knows, in that order.
    pub fn set_upstreams(&mut self, upstreams: &[SocketAddr]) {
        self.names.set_upstreams(upstreams);
    }

    /// Who asks, if that is what a flow between these ends is for.
    pub(super) fn asker(&self, ends: Ends) -> Option<Asker> {
        let zone = self.gateways.get(&ends.far.addr)?;
        (ends.far.port == PORT).then_some(Asker { zone: *zone, ends })
    }

    /// Takes a query of the flow `by`. Says whether an answer will come.
    pub(super) fn query(
        &mut self,
        now: Timestamp,
        seeds: &mut Seeds,
        by: ConnId,
        asker: Asker,
        transport: Transport,
        message: &[u8],
    ) -> bool {
        let client = asker.client();
        match self
            .names
            .query(now, seeds.next(), client, transport, message)
        {
            Action::Answer(bytes) => self.answers.push_back(Answer { to: by, bytes }),
            Action::Forward { forward, displaced } => {
                if let Some(delivery) = displaced {
                    self.deliver(delivery);
                }
                let sockets = Vec::new();
                self.asked.insert(forward.key, Asked { by, sockets });
                self.carry_out(now, Step::Forward(forward));
            }
            Action::Drop(_) => return false,
        }
        true
    }
}
