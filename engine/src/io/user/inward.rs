//! From clients of published ports to containers.
//!
//! A client's first segment or datagram is made into a frame that the datapath lets in, or not, as it
//! does with every other; only then does the flow get its slot.

use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;
use pontoon_nat::{ConnId, Owner, Published};
use pontoon_packet::build::Packet;
use pontoon_packet::{Endpoint, MacAddr, Offload, Timestamp};

use super::listener::{self, Arrived, HostSocket, Listener, Next, Publication, Socket};
use super::tcp::{Ends, TcpFlow, reset_when_dropped};
use super::{Carrier, PublishedFlow, UserUplink};
use crate::PortId;

/// A flow that waits to be let in.
#[derive(Debug)]
pub(in crate::io) struct Arrival {
    pub(super) carrier: Carrier,
    pub(super) from: PortId,
    /// Place of the listener that it came by.
    pub(super) listener: usize,
    /// What opens it.
    pub(in crate::io) frame: Vec<u8>,
    pub(in crate::io) offload: Offload,
    /// Until when it waits for the end of another connection between the same ends.
    pub(super) until: Option<Timestamp>,
}

impl UserUplink {
    /// Waits for clients of containers at all of these ports, or at none.
    ///
    /// # Errors
    /// Somebody was faster at one of them, or the kernel refuses to wait for it.
    pub(in crate::io) fn publish(
        &mut self,
        ports: Vec<(Publication, HostSocket)>,
    ) -> io::Result<()> {
        self.listeners.open(&self.registry, ports)
    }

    /// Stops to wait for clients at these ports, and ends the flows that came by them. Returns the
    /// connections that have nothing more to say.
    pub(in crate::io) fn unpublish(&mut self, ports: &[Published]) -> Vec<ConnId> {
        let goes = |port: &Publication| ports.contains(&port.published);
        let places = self.close_listeners(goes);
        self.end_flows(&places)
    }

    /// Lets clients at ports find somebody else, and ends the flows that came by them. Returns the
    /// connections that have nothing more to say.
    pub(in crate::io) fn aim_elsewhere(
        &mut self,
        before: &[Publication],
        now: Vec<Publication>,
    ) -> Vec<ConnId> {
        let places = self.listeners.aim_elsewhere(before, now);
        self.abandon_returning(&places);
        self.end_flows(&places)
    }

    /// Ends the flows that came by the listeners in these places. Returns the connections that have nothing
    /// more to say.
    fn end_flows(&mut self, places: &[usize]) -> Vec<ConnId> {
        let mut silent = Vec::new();
        for slot in 0..self.flows.len() {
            let Some(flow) = &mut self.flows[slot] else {
                continue;
            };
            if flow.listener.is_none_or(|at| !places.contains(&at)) {
                continue;
            }
            match &mut flow.carrier {
                Carrier::Tcp(tcp) => {
                    tcp.abort();
                    self.touch(slot as u32);
                }
                Carrier::Published(_) | Carrier::Datagram(_) => silent.push(flow.id),
                // Nobody came by a listener to ask for a name.
                Carrier::Query(_) | Carrier::Stream(_) => {}
            }
        }
        silent
    }

    /// Stops to wait for clients of a container's ports. Its flows end with their connections.
    pub(in crate::io) fn unpublish_all(&mut self, owner: Owner) {
        let goes = |port: &Publication| port.published.owner == owner;
        self.close_listeners(goes);
    }

    fn close_listeners(&mut self, goes: impl Fn(&Publication) -> bool) -> Vec<usize> {
        let places = self.listeners.close_where(&self.registry, goes);
        self.abandon_returning(&places);
        places
    }

    fn abandon_returning(&mut self, places: &[usize]) {
        for arrival in self.returning.leave(places) {
            self.abandon(arrival);
        }
    }

    /// The flows that clients have begun since the last call, a bounded number of them.
    pub(in crate::io) fn arrivals(&mut self, now: Timestamp) -> Vec<Arrival> {
        let mut arrivals = self.returning.due(now);
        for at in self.listeners.ready(now) {
            let mut left = listener::TURN;
            while left > 0 {
                let tcp = matches!(
                    self.listeners.get(at),
                    Some(Listener {
                        socket: Socket::Tcp(_),
                        ..
                    })
                );
                let next = if tcp {
                    self.accept(now, at)
                } else {
                    self.take_datagram(now, at)
                };
                match next {
                    Next::Client(arrival) => arrivals.push(arrival),
                    Next::Gone => {}
                    Next::Nobody | Next::Short => break,
                }
                left -= 1;
            }
            if left == 0 {
                self.listeners.note(at);
            }
        }
        arrivals
    }

    fn accept(&mut self, now: Timestamp, at: usize) -> Next<Arrival> {
        let next = self.listeners.accept(now, at);
        next.and_then(|(stream, client)| self.relay(now, at, stream, client))
    }

    /// A flow for a client that the host has accepted, and its SYN to the container.
    fn relay(
        &mut self,
        now: Timestamp,
        at: usize,
        stream: TcpStream,
        client: SocketAddr,
    ) -> Option<Arrival> {
        let port = &self.listeners.get(at)?.port;
        let ends = Ends {
            container: port.published.target,
            far: port.seen_as(client),
        };
        let from = PortId(port.published.owner.0);
        let others = self.relayed.get(&from).copied().unwrap_or(0);
        let Ok(region) = self.memory.take(others) else {
            reset_when_dropped(&stream);
            return None;
        };
        let isn = self.seeds.isn(now, ends);
        let mut flow = TcpFlow::accept(now, stream, ends, region, isn);
        flow.open(now, &mut self.scratch);
        let opening = self.scratch.frames().next();
        let opening = opening.map(|frame| (frame.bytes.to_vec(), frame.offload));
        self.scratch.clear();
        let (frame, offload) = opening?;
        Some(Arrival {
            frame,
            offload,
            carrier: Carrier::Tcp(Box::new(flow)),
            listener: at,
            from,
            until: None,
        })
    }

    fn take_datagram(&mut self, now: Timestamp, at: usize) -> Next<Arrival> {
        let Some(room) = self.scratch.open() else {
            return Next::Nobody;
        };
        let next = self.listeners.receive(now, at, room);
        next.and_then(|Arrived { len, client, local }| {
            let port = &self.listeners.get(at)?.port;
            let far = port.seen_as(SocketAddr::V4(client));
            Some(Arrival {
                frame: datagram(far, port.published.target, &room[..len])?,
                offload: Offload::NONE,
                carrier: Carrier::Published(PublishedFlow { client, local }),
                listener: at,
                from: PortId(port.published.owner.0),
                until: None,
            })
        })
    }

    /// Whether the connection `id`, between the same ends, is another one that has not ended yet. A
    /// datagram belongs to it.
    pub(in crate::io) fn is_early(&self, id: ConnId, arrival: &Arrival) -> bool {
        let known = self.flow(id.slot).is_some_and(|flow| flow.id == id);
        known && matches!(arrival.carrier, Carrier::Tcp(_))
    }

    /// Lets a flow wait for the end of that connection.
    pub(in crate::io) fn postpone(&mut self, now: Timestamp, arrival: Arrival) {
        if let Some(arrival) = self.returning.wait(now, arrival) {
            self.abandon(arrival);
        }
    }

    /// The datapath has let a flow in as the connection `id`.
    pub(in crate::io) fn settle(&mut self, id: ConnId, arrival: Arrival) {
        let known = self.flow(id.slot).is_some_and(|flow| flow.id == id);
        match arrival.carrier {
            // The same client again: its flow is there.
            Carrier::Published(_) if known => {}
            carrier => self.place(id, arrival.from, carrier, Some(arrival.listener)),
        }
    }

    /// The datapath has not let a flow in: the client gets a reset.
    pub(in crate::io) fn abandon(&mut self, arrival: Arrival) {
        if let Carrier::Tcp(flow) = arrival.carrier {
            flow.close(&mut self.memory);
        }
    }
}

/// A UDP datagram in a frame.
pub(super) fn datagram(from: Endpoint, to: Endpoint, payload: &[u8]) -> Option<Vec<u8>> {
    let (IpAddr::V4(src), IpAddr::V4(dst)) = (from.addr, to.addr) else {
        return None;
    };
    let packet = Packet::ethernet(MacAddr::ZERO, MacAddr::ZERO)
        .ipv4(src, dst)
        .udp(from.port, to.port)
        .payload(payload);
    Some(packet.build())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use super::*;

    fn arrival() -> Arrival {
        let client = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
        Arrival {
            carrier: Carrier::Published(PublishedFlow {
                client,
                local: Ipv4Addr::LOCALHOST,
            }),
            from: PortId(1),
            listener: 0,
            frame: Vec::new(),
            offload: Offload::NONE,
            until: None,
        }
    }

    fn uplink() -> (mio::Poll, UserUplink) {
        let poll = mio::Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        (poll, UserUplink::new(registry).unwrap())
    }

    fn publication() -> Publication {
        let published = Published {
            protocol: pontoon_packet::parse::protocol::TCP,
            addr: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            target: Endpoint::new(Ipv4Addr::new(172, 17, 0, 2).into(), 80),
            owner: Owner(1),
        };
        Publication {
            published,
            subnet: "172.17.0.0/16".parse().unwrap(),
            gateway: Ipv4Addr::new(172, 17, 0, 1).into(),
        }
    }

    /// An uplink with a published port, and where clients find it.
    fn published() -> (mio::Poll, UserUplink, SocketAddr) {
        let (poll, mut user) = uplink();
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let at = socket.local_addr().unwrap();
        let socket = HostSocket::from_fd(pontoon_packet::parse::protocol::TCP, socket.into());
        user.publish(vec![(publication(), socket)]).unwrap();
        (poll, user, at)
    }

    #[test]
    fn a_client_whose_last_connection_has_not_ended_waits_for_that() {
        let (_poll, mut user, at) = published();
        let _clients = [0, 1].map(|_| std::net::TcpStream::connect(at).unwrap());
        user.listeners.note(0);
        let mut arrivals = user.arrivals(Timestamp::ZERO);
        let (again, last) = (arrivals.remove(1), arrivals.remove(0));
        let id = ConnId {
            slot: 3,
            generation: 1,
        };
        assert!(!user.is_early(id, &last));
        user.settle(id, last);

        assert!(user.is_early(id, &again));
        assert!(
            !user.is_early(id, &arrival()),
            "a datagram belongs to its flow"
        );
        user.postpone(Timestamp::ZERO, again);
        assert_eq!(user.arrivals(Timestamp::ZERO).len(), 0);
        let soon = user.poll_timeout().unwrap();
        user.end(id);

        let arrivals = user.arrivals(soon);
        assert_eq!(arrivals.len(), 1);
        assert!(!user.is_early(id, &arrivals[0]));
    }

    #[test]
    fn a_client_that_waits_is_refused_when_its_port_goes() {
        let (_poll, mut user, at) = published();
        let mut client = std::net::TcpStream::connect(at).unwrap();
        user.listeners.note(0);
        let arrival = user.arrivals(Timestamp::ZERO).remove(0);
        user.postpone(Timestamp::ZERO, arrival);

        user.unpublish(&[publication().published]);

        let end = io::Read::read(&mut client, &mut [0]).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(user.poll_timeout(), None);
    }

    #[test]
    fn what_waits_to_be_sent_is_not_taken_for_a_clients_first_segment() {
        let (_poll, mut user, at) = published();
        let port = publication();
        let client = std::net::TcpStream::connect(at).unwrap();
        let waits = datagram(port.published.target, port.published.target, b"waits").unwrap();
        user.arena.copy(&waits);
        user.listeners.note(0);

        let arrivals = user.arrivals(Timestamp::ZERO);

        assert_eq!(arrivals.len(), 1);
        let facts = pontoon_packet::parse(&arrivals[0].frame).unwrap();
        let pontoon_packet::L4::Tcp(syn) = facts.ip().unwrap().l4 else {
            panic!("a segment");
        };
        assert_eq!(syn.src_port, client.local_addr().unwrap().port());
        assert_eq!(syn.dst_port, 80);
        let left: Vec<_> = user
            .arena
            .frames()
            .map(|frame| frame.bytes.to_vec())
            .collect();
        assert_eq!(left, [waits]);
    }

    #[test]
    fn a_flow_whose_slot_goes_to_another_is_not_counted_any_more() {
        let (_poll, mut user) = uplink();
        let [first, second] = [1, 2].map(|generation| ConnId {
            slot: 7,
            generation,
        });
        user.settle(first, arrival());
        // The table gives the slot to another before it has told that the first one has ended.
        user.settle(second, arrival());
        user.end(first);
        assert!(user.is_used());
        user.end(second);
        assert!(!user.is_used());
    }
}
