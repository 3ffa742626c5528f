//! A container's TCP as a receiver: what Linux answers to segments that come late, twice or not at all.

use std::time::Duration;

use pontoon_packet::Timestamp;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IpProtocol, Ipv4Address, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

pub(crate) const CONTAINER: Ipv4Address = Ipv4Address::new(10, 0, 0, 2);
pub(crate) const FAR: Ipv4Address = Ipv4Address::new(10, 0, 0, 9);
pub(crate) const PORT: u16 = 40_000;
pub(crate) const FAR_PORT: u16 = 80;
pub(crate) const MSS: usize = 1460;
/// Linux' `TCP_DELACK_MIN`.
const DELAY: Duration = Duration::from_millis(40);
/// The window in units of 1 << 7 bytes: one megabyte.
const WINDOW: usize = 8192 << 7;

/// What it tells of bytes that came out of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sack {
    /// The ranges that grew last, as RFC 2018 §4 has it.
    Honest,
    /// Nothing: it did not offer to.
    Silent,
    /// That it holds everything up to this many bytes ahead, which it does not.
    Lying(usize),
}

/// A receiver that reads at once.
pub(crate) struct Peer {
    sack: Sack,
    first: TcpSeqNumber,
    pub(crate) received: Vec<u8>,
    /// Bytes out of order, by their place in the stream.
    early: Vec<(usize, Vec<u8>)>,
    /// Where the ranges to be told of lie, the latest first.
    recent: Vec<usize>,
    unacked: usize,
    pub(crate) ack_at: Option<Timestamp>,
    pub(crate) finished: bool,
    pub(crate) reset: bool,
}

impl Peer {
    pub(crate) fn new(sack: Sack) -> Self {
        Self {
            sack,
            first: TcpSeqNumber(0),
            received: Vec::new(),
            early: Vec::new(),
            recent: Vec::new(),
            unacked: 0,
            ack_at: None,
            finished: false,
            reset: false,
        }
    }

    pub(crate) fn syn(&self) -> Vec<u8> {
        datagram(&TcpRepr {
            control: TcpControl::Syn,
            seq_number: TcpSeqNumber(6999),
            ack_number: None,
            window_len: u16::MAX,
            window_scale: Some(7),
            max_seg_size: Some(MSS as u16),
            sack_permitted: self.sack != Sack::Silent,
            ..self.bare()
        })
    }

    fn bare(&self) -> TcpRepr<'static> {
        TcpRepr {
            src_port: PORT,
            dst_port: FAR_PORT,
            control: TcpControl::None,
            seq_number: TcpSeqNumber(7000),
            ack_number: Some(self.first + self.received.len() + usize::from(self.finished)),
            window_len: (WINDOW >> 7) as u16,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        }
    }

    /// Takes a segment and returns the answer, unless that can wait.
    pub(crate) fn receive(&mut self, now: Timestamp, segment: &[u8]) -> Option<Vec<u8>> {
        let ip = Ipv4Packet::new_checked(segment).unwrap();
        let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
        self.reset |= tcp.rst();
        if tcp.syn() {
            self.first = tcp.seq_number() + 1;
            return Some(self.ack());
        }
        let offset = tcp.seq_number().0.wrapping_sub(self.first.0);
        let payload = tcp.payload();
        if payload.is_empty() && !tcp.fin() {
            return None;
        }
        let start = usize::try_from(offset).unwrap_or(0);
        let in_order = start == self.received.len() && self.early.is_empty();
        self.keep(start, payload);
        self.finished |= tcp.fin() && self.received.len() == start + payload.len();
        self.unacked += payload.len();
        if in_order && self.unacked < 2 * MSS && !tcp.fin() {
            self.ack_at.get_or_insert(now + DELAY);
            return None;
        }
        Some(self.ack())
    }

    fn keep(&mut self, start: usize, payload: &[u8]) {
        let end = start + payload.len();
        if end <= self.received.len() {
            return;
        }
        self.early.push((start, payload.to_vec()));
        self.early.sort_by_key(|(at, _)| *at);
        while let Some(at) = (self.early.iter()).position(|(at, _)| *at <= self.received.len()) {
            let (at, bytes) = self.early.remove(at);
            let known = self.received.len() - at;
            self.received.extend(bytes.get(known..).unwrap_or(&[]));
        }
        if end > self.received.len() {
            self.recent.insert(0, start);
        }
        let taken = self.received.len();
        self.recent.retain(|at| *at >= taken);
    }

    /// Ranges out of order, each once, those that grew last first.
    fn ranges(&self) -> [Option<(u32, u32)>; 3] {
        let mut merged: Vec<(usize, usize)> = Vec::new();
        for (start, bytes) in &self.early {
            let end = start + bytes.len();
            match merged.last_mut().filter(|last| last.1 >= *start) {
                Some(last) => last.1 = last.1.max(end),
                None => merged.push((*start, end)),
            }
        }
        let mut told: Vec<(usize, usize)> = Vec::new();
        for at in &self.recent {
            let range = merged.iter().find(|range| (range.0..range.1).contains(at));
            told.extend(range.filter(|range| !told.contains(range)));
        }
        let wire = |n: usize| told.get(n).map(|(a, b)| (self.place(*a), self.place(*b)));
        [wire(0), wire(1), wire(2)]
    }

    fn place(&self, offset: usize) -> u32 {
        (self.first + offset).0 as u32
    }

    pub(crate) fn ack(&mut self) -> Vec<u8> {
        self.ack_at = None;
        self.unacked = 0;
        let ahead = self.received.len();
        let sack_ranges = match self.sack {
            Sack::Honest => self.ranges(),
            Sack::Silent => [None; 3],
            Sack::Lying(by) => [
                Some((self.place(ahead + 1), self.place(ahead + by))),
                None,
                None,
            ],
        };
        datagram(&TcpRepr {
            sack_ranges,
            ..self.bare()
        })
    }
}

fn datagram(tcp: &TcpRepr<'_>) -> Vec<u8> {
    let ip = Ipv4Repr {
        src_addr: CONTAINER,
        dst_addr: FAR,
        next_header: IpProtocol::Tcp,
        payload_len: tcp.buffer_len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; ip.buffer_len() + tcp.buffer_len()];
    let sums = ChecksumCapabilities::ignored();
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut bytes[..]), &sums);
    let segment = &mut bytes[ip.buffer_len()..];
    let (src, dst) = (CONTAINER.into(), FAR.into());
    tcp.emit(&mut TcpPacket::new_unchecked(segment), &src, &dst, &sums);
    bytes
}
