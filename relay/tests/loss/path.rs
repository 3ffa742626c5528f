//! A wire that loses and delays, in virtual time, between a connection and its [`Peer`].

use std::collections::BTreeMap;
use std::time::Duration;

use pontoon_packet::{Endpoint, Timestamp};
use pontoon_relay::{Buffers, Connection, Emit, Setup};
use smoltcp::wire::{Ipv4Packet, TcpPacket};

use crate::peer::{CONTAINER, FAR, FAR_PORT, PORT, Peer, Sack};

/// Room for bytes under way each way, as a container's first connections have it.
const ROOM: usize = 1 << 20;
const HEADERS: usize = 40;

/// What a path does to datagrams.
#[derive(Clone, Copy)]
pub(crate) struct Path {
    /// How long every datagram takes.
    pub(crate) delay: Duration,
    /// Of a hundred, so many take longer by `late_by`.
    pub(crate) late: u64,
    pub(crate) late_by: Duration,
    /// Of a hundred, so many are lost.
    pub(crate) lost: u64,
    pub(crate) unit: Unit,
}

/// What is lost or delayed in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Segment,
    SuperFrame,
}

#[derive(Default)]
struct Sent(Vec<(Vec<u8>, Option<u16>)>);

impl Emit for Sent {
    fn has_room(&self) -> bool {
        self.0.len() < 16
    }

    fn emit<R>(&mut self, len: usize, gso: Option<u16>, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut bytes = vec![0xaa; len];
        let result = fill(&mut bytes);
        assert!(gso.is_none_or(|size| usize::from(size) < len - HEADERS));
        assert!(gso.is_some() || len <= 1500, "{len} bytes in one piece");
        self.0.push((bytes, gso));
        result
    }
}

enum Crossing {
    ToContainer(Vec<u8>),
    ToRelay(Vec<u8>),
}

pub(crate) struct Lab {
    pub(crate) now: Timestamp,
    start: Timestamp,
    pub(crate) relay: Connection,
    pub(crate) peer: Peer,
    pub(crate) path: Path,
    wire: BTreeMap<(Timestamp, u64), Crossing>,
    random: u64,
    count: u64,
    /// Bytes of payload that went to the container.
    pub(crate) put_on_wire: usize,
}

impl Lab {
    /// An established connection over `path`.
    pub(crate) fn new(path: Path, sack: Sack, seed: u64) -> Self {
        let now = Timestamp::from_secs(1);
        let setup = Setup {
            container: Endpoint::new(CONTAINER.into(), PORT),
            far: Endpoint::new(FAR.into(), FAR_PORT),
            mtu: u16::MAX,
            isn: seed as u32,
            buffers: Buffers {
                received: vec![0; ROOM].leak(),
                unsent: vec![0; ROOM].leak(),
            },
        };
        let mut lab = Self {
            now,
            start: now,
            relay: Connection::accept(now, setup),
            peer: Peer::new(sack),
            path: Path { lost: 0, ..path },
            wire: BTreeMap::new(),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            count: 0,
            put_on_wire: 0,
        };
        let syn = lab.peer.syn();
        lab.cross(Crossing::ToRelay(syn));
        while !lab.relay.is_established() {
            lab.step();
        }
        lab.path = path;
        lab.start = lab.now;
        lab
    }

    /// Virtual time since the connection was established.
    pub(crate) fn took(&self) -> Duration {
        self.now.since(self.start)
    }

    fn chance(&mut self, of_hundred: u64) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 100 < of_hundred
    }

    fn cross(&mut self, crossing: Crossing) {
        if self.chance(self.path.lost) {
            return;
        }
        let late = self.chance(self.path.late);
        let extra = if late {
            self.path.late_by
        } else {
            Duration::ZERO
        };
        self.count += 1;
        let at = self.now + self.path.delay + extra;
        self.wire.insert((at, self.count), crossing);
    }

    fn send(&mut self, sent: Sent) {
        for (bytes, gso) in sent.0 {
            self.put_on_wire += bytes.len() - HEADERS;
            let size = gso.filter(|_| self.path.unit == Unit::Segment);
            for segment in segments(bytes, size) {
                self.cross(Crossing::ToContainer(segment));
            }
        }
    }

    /// Sends what is due, and lets time pass to the next thing that happens.
    pub(crate) fn step(&mut self) {
        let mut out = Sent::default();
        self.relay.transmit(self.now, &mut out);
        self.send(out);
        // The engine's timers are as coarse as epoll's.
        let timer = self.relay.poll_timeout(self.now);
        let timer = timer.map(|at| at + Duration::from_millis(1));
        let arrival = self.wire.keys().next().map(|(at, _)| *at);
        let next = [timer, arrival, self.peer.ack_at];
        self.now = next.into_iter().flatten().min().unwrap().max(self.now);
        if self.peer.ack_at.is_some_and(|at| at <= self.now) {
            let ack = self.peer.ack();
            self.cross(Crossing::ToRelay(ack));
        }
        while let Some(first) = self.wire.first_entry().filter(|e| e.key().0 <= self.now) {
            match first.remove() {
                Crossing::ToContainer(segment) => {
                    if let Some(answer) = self.peer.receive(self.now, &segment) {
                        self.cross(Crossing::ToRelay(answer));
                    }
                }
                Crossing::ToRelay(datagram) => {
                    let mut out = Sent::default();
                    self.relay.receive(self.now, &datagram, &mut out);
                    self.send(out);
                }
            }
        }
    }
}

/// A super-frame as the kernel cuts it, or the datagram itself.
fn segments(bytes: Vec<u8>, size: Option<u16>) -> Vec<Vec<u8>> {
    let Some(size) = size.map(usize::from) else {
        return vec![bytes];
    };
    let pieces = bytes[HEADERS..].chunks(size).enumerate();
    let last = (bytes.len() - HEADERS).div_ceil(size) - 1;
    let cut = pieces.map(|(n, piece)| {
        let mut segment = [&bytes[..HEADERS], piece].concat();
        let len = segment.len() as u16;
        let mut ip = Ipv4Packet::new_unchecked(&mut segment[..]);
        ip.set_total_len(len);
        let mut tcp = TcpPacket::new_unchecked(ip.payload_mut());
        tcp.set_seq_number(tcp.seq_number() + n * size);
        tcp.set_fin(tcp.fin() && n == last);
        segment
    });
    cut.collect()
}
