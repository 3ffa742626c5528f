//! From clients of published ports to containers.
//!
//! A client's first segment or datagram is made into a frame that the datapath lets in, or not, as it
//! does with every other; only then does the flow get its slot.

use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Token};
use pontoon_nat::{ConnId, Owner};
use pontoon_packet::build::Packet;
use pontoon_packet::{Endpoint, MacAddr, Offload, Timestamp};

use super::listener::{self, Arrived, Listener, Publication, Socket};
use super::tcp::{Ends, TcpFlow};
use super::{Carrier, PublishedFlow, UserUplink};
use crate::PortId;

/// Tokens of listeners are this plus their place.
pub(super) const FIRST_LISTENER: usize = 1 << 40;

/// A flow that waits to be let in.
#[derive(Debug)]
pub(in crate::io) struct Arrival {
    pub(super) carrier: Carrier,
    pub(super) from: PortId,
    /// What opens it.
    pub(in crate::io) frame: Vec<u8>,
    pub(in crate::io) offload: Offload,
}

impl UserUplink {
    /// Waits for clients of a container's port.
    ///
    /// # Errors
    /// The address is not the host's, the port is taken, or it needs a privilege.
    pub(in crate::io) fn publish(&mut self, port: Publication) -> io::Result<()> {
        let listener = Listener::open(port)?;
        let free = self.listeners.iter().position(Option::is_none);
        let at = free.unwrap_or(self.listeners.len());
        self.registry.register(
            &mut SourceFd(&listener.raw_fd()),
            Token(FIRST_LISTENER + at),
            Interest::READABLE,
        )?;
        if at == self.listeners.len() {
            self.listeners.push(None);
        }
        self.listeners[at] = Some(listener);
        Ok(())
    }

    /// Stops to wait for clients of a container's ports. Its flows end with their connections.
    pub(in crate::io) fn unpublish_all(&mut self, owner: Owner) {
        for place in &mut self.listeners {
            if let Some(listener) = place
                && listener.port.published.owner == owner
            {
                // A socket that is closed is not waited for any more, whatever this says.
                let _ = self.registry.deregister(&mut SourceFd(&listener.raw_fd()));
                *place = None;
            }
        }
    }

    pub(super) fn note_listener(&mut self, at: usize, event: &Event) {
        if let Some(Some(listener)) = self.listeners.get_mut(at) {
            listener.readable |= event.is_readable();
        }
    }

    /// Clients wait that have not been looked at.
    pub(super) fn has_clients(&self) -> bool {
        self.listeners.iter().flatten().any(|l| l.readable)
    }

    /// The flows that clients have begun since the last call, a bounded number of them. The arena is
    /// empty, before and after.
    pub(in crate::io) fn arrivals(&mut self, now: Timestamp) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        for at in 0..self.listeners.len() {
            for _ in 0..listener::TURN {
                let Some(listener) = self.listeners[at].as_mut().filter(|l| l.readable) else {
                    break;
                };
                let arrival = match listener.socket {
                    Socket::Tcp(_) => self.accept(now, at),
                    Socket::Udp(_) => self.take_datagram(at),
                };
                arrivals.extend(arrival);
            }
        }
        arrivals
    }

    fn accept(&mut self, now: Timestamp, at: usize) -> Option<Arrival> {
        let listener = self.listeners[at].as_mut()?;
        let (stream, client) = listener.accept()?;
        let published = &listener.port.published;
        let ends = Ends {
            container: published.target,
            far: listener.port.seen_as(client),
        };
        let from = PortId(published.owner.0);
        let others = self.relayed.get(&from).copied().unwrap_or(0);
        let region = self.memory.take(others).ok()?;
        let seed = self.next_seed();
        let mut flow = TcpFlow::accept(now, stream, ends, region, seed);
        flow.open(now, &mut self.arena);
        let (frame, offload) = {
            let frame = self.arena.frames().next()?;
            (frame.bytes.to_vec(), frame.offload)
        };
        self.arena.clear();
        Some(Arrival {
            frame,
            offload,
            carrier: Carrier::Tcp(Box::new(flow)),
            from,
        })
    }

    fn take_datagram(&mut self, at: usize) -> Option<Arrival> {
        let listener = self.listeners[at].as_mut()?;
        let room = self.arena.open()?;
        let Arrived { len, client, local } = listener.receive(room)?;
        let published = &listener.port.published;
        let far = listener.port.seen_as(SocketAddr::V4(client));
        let frame = datagram(far, published.target, &room[..len])?;
        Some(Arrival {
            frame,
            offload: Offload::NONE,
            carrier: Carrier::Published(PublishedFlow {
                listener: at,
                client,
                local,
            }),
            from: PortId(published.owner.0),
        })
    }

    /// The datapath has let a flow in as the connection `id`.
    pub(in crate::io) fn settle(&mut self, id: ConnId, arrival: Arrival) {
        let known = self.flow(id.slot).is_some_and(|flow| flow.id == id);
        match arrival.carrier {
            // The same client again: its flow is there.
            Carrier::Published(_) if known => {}
            // Another client under the same name: there is no telling them apart.
            _ if known => self.abandon(arrival),
            carrier => self.place(id, arrival.from, carrier),
        }
    }

    /// The datapath has not let a flow in: the client gets a reset.
    pub(in crate::io) fn abandon(&mut self, arrival: Arrival) {
        if let Carrier::Tcp(flow) = arrival.carrier {
            flow.close(&mut self.memory);
        }
    }
}

fn datagram(from: Endpoint, to: Endpoint, payload: &[u8]) -> Option<Vec<u8>> {
    let (IpAddr::V4(src), IpAddr::V4(dst)) = (from.addr, to.addr) else {
        return None;
    };
    let packet = Packet::ethernet(MacAddr::ZERO, MacAddr::ZERO)
        .ipv4(src, dst)
        .udp(from.port, to.port)
        .payload(payload);
    Some(packet.build())
}
