//! A model of the user uplink's shell: flows in the slots of their connections, and far ends that
//! follow a script where there would be host sockets.

use core::net::{IpAddr, Ipv4Addr};
use std::collections::BTreeMap;

use pontoon_engine::config::PortId;
use pontoon_nat::ConnId;
use pontoon_packet::build::{Packet, tcp_reset};
use pontoon_packet::parse::tcp_flags::{ACK, RST, SYN};
use pontoon_packet::{Endpoint, Facts, Frame, Ip, L4, MacAddr, Timestamp, icmp};
use pontoon_relay::{Arena, Buffers, Connection, Setup};

use super::far::{Answer, Far};
use super::guest::{self, Said};
use super::held::Held;
use crate::lab::U2;

/// Bytes that each direction of a connection may hold.
pub(super) const ROOM: usize = 8 << 10;

/// Both ends of a flow: the container's and the far one.
pub(super) type Ends = (Endpoint, Endpoint);

/// A relayed connection.
pub(super) struct Relayed {
    connection: Option<Held>,
    /// The datagram that opened it, until the far end has accepted.
    syn: Vec<u8>,
    pub(super) far: Far,
}

enum Carrier {
    Tcp(Box<Relayed>),
    Datagram,
}

/// A flow in its slot.
pub(super) struct Flow {
    id: ConnId,
    pub(super) from: PortId,
    pub(super) ends: Ends,
    carrier: Carrier,
}

impl Flow {
    /// Its far end, if it is a connection.
    pub(super) fn far(&mut self) -> Option<&mut Far> {
        match &mut self.carrier {
            Carrier::Tcp(relayed) => Some(&mut relayed.far),
            Carrier::Datagram => None,
        }
    }
}

/// An error that a container is to be told.
pub(super) struct Notice {
    pub(super) port: PortId,
    pub(super) quoted: Vec<u8>,
    pub(super) error: icmp::Error,
}

enum Step {
    Goes,
    Over,
    Refused,
    Unreachable,
}

/// All flows.
#[derive(Default)]
pub(super) struct Shell {
    pub(super) flows: BTreeMap<u32, Flow>,
    /// What the far ends of connections have said so far, those that have ended included.
    pub(super) said: BTreeMap<Ends, Said>,
    pub(super) notices: Vec<Notice>,
    pub(super) arena: Arena,
    drawn: u64,
}

impl Shell {
    pub(super) fn new() -> Self {
        Self {
            arena: Arena::new(),
            ..Self::default()
        }
    }

    /// Takes a datagram of the connection `id`.
    pub(super) fn receive(
        &mut self,
        now: Timestamp,
        id: ConnId,
        from: PortId,
        frame: &Frame<'_>,
        facts: &Facts,
    ) {
        let ip = facts.ip().expect("only datagrams are delivered");
        let datagram = &frame.bytes[usize::from(ip.start)..ip.end()];
        if self.flows.get(&id.slot).is_none_or(|flow| flow.id != id) {
            self.open(id, from, datagram, ip);
        }
        let Some(flow) = self.flows.get_mut(&id.slot).filter(|flow| flow.id == id) else {
            return;
        };
        match &mut flow.carrier {
            Carrier::Tcp(relayed) => match &mut relayed.connection {
                Some(connection) => connection.receive(now, datagram, &mut self.arena),
                None if resets(ip) => self.end(id),
                None => {}
            },
            Carrier::Datagram => self.answer(from, datagram, ip),
        }
    }

    fn open(&mut self, id: ConnId, from: PortId, datagram: &[u8], ip: &Ip) {
        let (own, far) = match ip.l4 {
            L4::Tcp(tcp) => (tcp.src_port, tcp.dst_port),
            L4::Udp(udp) => (udp.src_port, udp.dst_port),
            L4::Icmp(header) if header.kind == icmp::kind::ECHO => (header.id, 0),
            L4::Icmp(_) | L4::Fragment | L4::Other => return,
        };
        let carrier = match ip.l4 {
            L4::Tcp(tcp) if tcp.flags & (SYN | ACK) == SYN => Carrier::Tcp(Box::new(Relayed {
                connection: None,
                syn: datagram.to_vec(),
                far: Far {
                    expects: (from == U2).then_some(own),
                    ..Far::at(far)
                },
            })),
            L4::Tcp(_) => {
                if let Some(reset) = tcp_reset(datagram) {
                    self.arena.copy(&reset);
                }
                return;
            }
            _ => Carrier::Datagram,
        };
        let ends = (Endpoint::new(ip.src, own), Endpoint::new(ip.dst, far));
        self.place(id, from, ends, carrier);
    }

    fn place(&mut self, id: ConnId, from: PortId, ends: Ends, carrier: Carrier) {
        let flow = Flow {
            id,
            from,
            ends,
            carrier,
        };
        self.flows.insert(id.slot, flow);
    }

    /// The far end's answer to a datagram: its own bytes to UDP, an error to every fourth port, the
    /// same again to a ping.
    fn answer(&mut self, port: PortId, datagram: &[u8], ip: &Ip) {
        let (IpAddr::V4(src), IpAddr::V4(dst)) = (ip.dst, ip.src) else {
            return;
        };
        let back = Packet::ethernet(MacAddr::ZERO, MacAddr::ZERO).ipv4(src, dst);
        let packet = match ip.l4 {
            L4::Udp(udp) if udp.dst_port % 4 == 1 => {
                return self.notices.push(Notice {
                    port,
                    quoted: datagram[..datagram.len().min(68)].to_vec(),
                    error: icmp::Error::PortUnreachable,
                });
            }
            L4::Udp(udp) => {
                let salt = udp.dst_port;
                let said: Vec<u8> = (0..u32::from(udp.src_port) % 4000)
                    .map(|at| guest::byte(salt, at))
                    .collect();
                back.udp(udp.dst_port, udp.src_port).payload(&said)
            }
            L4::Icmp(header) => {
                let payload = &datagram[ip.l4_start() - usize::from(ip.start) + 8..];
                back.echo_reply(header.id, header.seq).payload(payload)
            }
            L4::Tcp(_) | L4::Fragment | L4::Other => return,
        };
        self.arena.copy(&packet.build());
    }

    /// A client's connection to a container, and the SYN that is to be let in.
    pub(super) fn client(&mut self, now: Timestamp, ends: Ends) -> (Client, Vec<u8>) {
        let isn = self.next_isn();
        let mut connection = Held::new(ROOM, |buffers| {
            Connection::connect(now, setup(ends, isn, buffers))
        });
        let mut scratch = Arena::small();
        connection.transmit(now, &mut scratch);
        let syn = scratch.frames().next().expect("a SYN").bytes.to_vec();
        (Client { ends, connection }, syn)
    }

    /// The client was let in as the connection `id`.
    pub(super) fn settle(&mut self, id: ConnId, from: PortId, client: Client) {
        if self.flows.get(&id.slot).is_some_and(|flow| flow.id == id) {
            return;
        }
        let relayed = Relayed {
            connection: Some(client.connection),
            syn: Vec::new(),
            far: Far::at(client.ends.1.port),
        };
        let carrier = Carrier::Tcp(Box::new(relayed));
        self.place(id, from, client.ends, carrier);
    }

    /// Gives every flow its turn.
    pub(super) fn serve(&mut self, now: Timestamp) {
        let slots: Vec<u32> = self.flows.keys().copied().collect();
        for slot in slots {
            let isn = self.next_isn();
            let Some(flow) = self.flows.get_mut(&slot) else {
                continue;
            };
            let Carrier::Tcp(relayed) = &mut flow.carrier else {
                continue;
            };
            let (id, from, ends) = (flow.id, flow.from, flow.ends);
            let step = relayed.advance(now, ends, isn, &mut self.arena);
            self.said.insert(ends, relayed.far.said);
            let held = core::mem::take(&mut relayed.syn);
            match step {
                Step::Goes => relayed.syn = held,
                Step::Over => self.end(id),
                Step::Refused => {
                    self.end(id);
                    let reset = tcp_reset(&held).expect("a SYN is answered");
                    self.arena.copy(&reset);
                }
                Step::Unreachable => {
                    self.end(id);
                    self.notices.push(Notice {
                        port: from,
                        quoted: held,
                        error: icmp::Error::HostUnreachable,
                    });
                }
            }
        }
    }

    fn next_isn(&mut self) -> u32 {
        self.drawn += 1;
        (self.drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
    }

    /// When a flow next has something to do on its own account.
    pub(super) fn poll_timeout(&mut self, now: Timestamp) -> Option<Timestamp> {
        let connections = self.flows.values_mut().filter_map(|flow| {
            let Carrier::Tcp(relayed) = &mut flow.carrier else {
                return None;
            };
            relayed.connection.as_mut()?.poll_timeout(now)
        });
        connections.min()
    }

    /// The connection has ended.
    pub(super) fn end(&mut self, id: ConnId) {
        if self.flows.get(&id.slot).is_some_and(|flow| flow.id == id) {
            self.flows.remove(&id.slot);
        }
    }

    /// Bytes that flows hold.
    pub(super) fn held(&self) -> usize {
        let held = self.flows.values().map(|flow| match &flow.carrier {
            Carrier::Tcp(relayed) if relayed.connection.is_some() => 2 * ROOM,
            Carrier::Tcp(relayed) => relayed.syn.len(),
            Carrier::Datagram => 0,
        });
        held.sum()
    }
}

/// A client that waits to be let in.
pub(super) struct Client {
    ends: Ends,
    connection: Held,
}

impl Relayed {
    fn advance(&mut self, now: Timestamp, ends: Ends, isn: u32, arena: &mut Arena) -> Step {
        if self.connection.is_none() {
            match self.far.answer {
                Answer::Silent => return Step::Goes,
                Answer::Refuses => return Step::Refused,
                Answer::Unreachable => return Step::Unreachable,
                Answer::Accepts => self.begin(now, ends, isn, arena),
            }
        }
        let Some(connection) = &mut self.connection else {
            return Step::Over;
        };
        self.far.push(connection);
        self.far.pull(connection);
        if core::mem::take(&mut self.far.resets) {
            connection.abort();
        }
        connection.transmit(now, arena);
        if connection.is_over() {
            self.far.check_end();
            return Step::Over;
        }
        Step::Goes
    }

    fn begin(&mut self, now: Timestamp, ends: Ends, isn: u32, arena: &mut Arena) {
        let mut connection = Held::new(ROOM, |buffers| {
            Connection::accept(now, setup(ends, isn, buffers))
        });
        connection.receive(now, &self.syn, arena);
        self.syn = Vec::new();
        self.connection = Some(connection);
    }
}

const fn setup(ends: Ends, isn: u32, buffers: Buffers) -> Setup {
    Setup {
        container: ends.0,
        far: ends.1,
        mtu: u16::MAX,
        isn,
        buffers,
    }
}

fn resets(ip: &Ip) -> bool {
    matches!(ip.l4, L4::Tcp(tcp) if tcp.flags & RST != 0)
}

/// An IPv4 endpoint.
pub(super) fn end(addr: Ipv4Addr, port: u16) -> Endpoint {
    Endpoint::new(addr.into(), port)
}
