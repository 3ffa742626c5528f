//! A naive model of translated UDP flows: a list that is searched from end to end.

use core::net::Ipv4Addr;
use std::collections::BTreeMap;

use pontoon_nat::Published;
use pontoon_switch::PortId;

/// A server's address and port.
pub type Remote = (Ipv4Addr, u16);
/// A container and its port.
pub type Inside = (PortId, u16);

/// Whether a flow began inside or at a published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Inside.
    Masqueraded,
    /// At a published port.
    Published,
}

/// A flow between a container and a server.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Where it began.
    pub origin: Origin,
    /// The container's end.
    pub inside: Inside,
    /// The port of the uplink that it bears.
    pub outside: u16,
    /// The server's end.
    pub remote: Remote,
    /// The server as the container sees it: its port is another where two would be the same.
    pub shown: Remote,
    /// Second at which it ends.
    ends: u64,
    /// Seconds that it lives without another datagram.
    life: u64,
}

impl Flow {
    fn touch(&mut self, now: u64, from: Origin) {
        if from != self.origin {
            self.life = 120;
        }
        self.ends = now + self.life;
    }
}

/// What a frame is expected to become.
#[derive(Debug, PartialEq, Eq)]
pub enum Expected {
    /// It leaves from this port of the uplink, for this server.
    From(u16, Remote),
    /// It leaves from a port that nobody uses.
    FromUnused,
    /// It arrives at the container, from this server.
    At(Inside, Remote),
    /// It arrives at the container, from a port of the server that the container does not know.
    AtUnknown(Inside),
    /// It is dropped.
    Nothing,
}

/// The flows and the published ports.
#[derive(Debug, Default)]
pub struct Model {
    /// Flows that have not ended.
    pub flows: Vec<Flow>,
    /// What is published, by port of the uplink.
    pub published: BTreeMap<u16, (Inside, Published)>,
    /// Seconds since the beginning.
    now: u64,
}

impl Model {
    /// A container sends. What it becomes in the end is for the caller to say ([`Self::left`]).
    pub fn out(&mut self, inside: Inside, remote: Remote) -> Expected {
        let now = self.now;
        let same = |flow: &&mut Flow| flow.inside == inside && flow.shown == remote;
        if let Some(flow) = self.flows.iter_mut().find(same) {
            flow.touch(now, Origin::Masqueraded);
            return Expected::From(flow.outside, flow.remote);
        }
        let mut masqueraded = self
            .flows
            .iter()
            .filter(|f| f.origin == Origin::Masqueraded);
        if let Some(mapped) = masqueraded.find(|flow| flow.inside == inside) {
            return Expected::From(mapped.outside, remote);
        }
        if self.is_used(inside.1) {
            Expected::FromUnused
        } else {
            Expected::From(inside.1, remote)
        }
    }

    /// Somebody has the port of the uplink.
    pub fn is_used(&self, outside: u16) -> bool {
        self.published.contains_key(&outside)
            || self.flows.iter().any(|flow| flow.outside == outside)
    }

    /// Notes what a frame from inside has become.
    pub fn left(&mut self, inside: Inside, remote: Remote, outside: u16) {
        if !self.knows(inside, remote) {
            self.begin(Origin::Masqueraded, inside, outside, remote, remote);
        }
    }

    /// The container has a flow with the server as it sees it.
    pub fn knows(&self, inside: Inside, shown: Remote) -> bool {
        let same = |flow: &Flow| flow.inside == inside && flow.shown == shown;
        self.flows.iter().any(same)
    }

    /// A server sends to a port of the uplink. What it becomes is for the caller to say
    /// ([`Self::arrived`]).
    pub fn come(&mut self, remote: Remote, outside: u16) -> Expected {
        let now = self.now;
        let same = |flow: &&mut Flow| flow.outside == outside && flow.remote == remote;
        if let Some(flow) = self.flows.iter_mut().find(same) {
            flow.touch(now, Origin::Published);
            return Expected::At(flow.inside, flow.shown);
        }
        let Some((inside, _)) = self.published.get(&outside) else {
            return Expected::Nothing;
        };
        if self.knows(*inside, remote) {
            Expected::AtUnknown(*inside)
        } else {
            Expected::At(*inside, remote)
        }
    }

    /// Notes what a frame from outside has become.
    pub fn arrived(&mut self, inside: Inside, outside: u16, remote: Remote, shown: Remote) {
        let same = |flow: &Flow| flow.outside == outside && flow.remote == remote;
        if !self.flows.iter().any(same) {
            self.begin(Origin::Published, inside, outside, remote, shown);
        }
    }

    fn begin(
        &mut self,
        origin: Origin,
        inside: Inside,
        outside: u16,
        remote: Remote,
        shown: Remote,
    ) {
        self.flows.push(Flow {
            origin,
            inside,
            outside,
            remote,
            shown,
            ends: self.now + 30,
            life: 30,
        });
    }

    /// Lets time pass.
    pub fn pass(&mut self, seconds: u64) {
        self.now += seconds;
        let now = self.now;
        self.flows.retain(|flow| flow.ends > now);
    }

    /// Publishes a port that is free.
    pub fn publish(&mut self, port: u16, inside: Inside, published: Published) {
        self.published.insert(port, (inside, published));
        self.flows
            .retain(|flow| flow.origin == Origin::Published || flow.outside != port);
    }

    /// Takes back the published port of that number, counted round.
    pub fn unpublish(&mut self, at: usize) -> Option<Published> {
        let port = *self
            .published
            .keys()
            .nth(at % self.published.len().max(1))?;
        self.flows
            .retain(|flow| flow.origin == Origin::Masqueraded || flow.outside != port);
        self.published.remove(&port).map(|(_, published)| published)
    }

    /// The container is gone.
    pub fn unplug(&mut self, container: PortId) {
        self.flows.retain(|flow| flow.inside.0 != container);
        self.published
            .retain(|_, (inside, _)| inside.0 != container);
    }
}
