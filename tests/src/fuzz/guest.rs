//! A container's end of a TCP connection that keeps no rule, and what it may hear all the same.

use core::ops::Range;

use pontoon_packet::build::Packet;
use pontoon_packet::parse::tcp_flags::{ACK, FIN, RST, SYN};
use pontoon_packet::{Offload, Segments, Tcp};

use super::choices::{flags, length, options, syn_options};
use super::input::Input;

/// The first sequence number of every guest: the numbers wrap early.
pub(super) const FIRST: u32 = 0xffff_f000;
/// Bytes of Ethernet, IPv4 and TCP header without options.
const HEADERS: usize = 54;
/// Where a frame's ports end.
const PORTS_END: usize = 38;
/// What a guest says falls in a part of the sequence space that cannot be mistaken for another.
const SPAN: u32 = 1 << 30;

/// The byte at that place of the stream `salt`.
pub(super) fn byte(salt: u16, at: u32) -> u8 {
    let mixed = at
        .wrapping_add(u32::from(salt) << 20)
        .wrapping_mul(0x9e37_79b1);
    (mixed >> 24) as u8
}

/// Whether `bytes` are what the stream `salt` has from the place `at` on.
pub(super) fn is_part(salt: u16, at: u32, bytes: &[u8]) -> bool {
    let mut places = at..;
    bytes
        .iter()
        .all(|found| places.next().is_some_and(|at| *found == byte(salt, at)))
}

/// What the far end has said so far, for which the guest's checks hold it to account.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Said {
    /// Which stream it is.
    pub(super) salt: u16,
    /// Bytes.
    pub(super) bytes: u32,
    /// It has finished.
    pub(super) finished: bool,
}

/// What a guest knows. Places in a stream count from the first byte after the SYN.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    packet: Packet,
    /// Its own port and the far end's.
    ports: (u16, u16),
    /// Where it would go on if it kept the rules.
    next: u32,
    /// What it has sent.
    sent: Vec<Range<u32>>,
    /// Places of its FINs.
    ends: Vec<u32>,
    /// It has sent SYNs with different numbers, or what nobody can know how to read: what it has said
    /// and allowed is no more certain.
    pub(super) ambiguous: bool,
    scale: u8,
    /// The far end's first sequence number.
    peer: Option<u32>,
    /// How much of its stream was heard.
    heard: u32,
    /// The farthest place up to which it was acknowledged.
    acknowledged: u32,
    /// Places up to which the guest has let it send.
    allowed: u32,
    /// The place that was acknowledged last, and the window that went with it, unscaled.
    taken: u32,
    window: u16,
}

impl Guest {
    /// One whose packets are `packet`, between these ports.
    pub(super) fn new(packet: Packet, ports: (u16, u16)) -> Self {
        Self {
            packet,
            ports,
            next: 0,
            sent: Vec::new(),
            ends: Vec::new(),
            ambiguous: false,
            scale: 0,
            peer: None,
            heard: 0,
            acknowledged: 0,
            allowed: 0,
            taken: 0,
            window: 0,
        }
    }

    /// Any segment, with any payload of its own stream.
    pub(super) fn segment(&mut self, input: &mut Input<'_>) -> (Vec<u8>, Offload) {
        let flags = flags(input);
        let place = self.place(flags, input);
        let ack = self.acknowledgement(input);
        let window = input.one_of(&[65_535, 0, 1, 100, 1460, 32_768, 65_534, 2]);
        let options = options(self.taken, input);
        let length = length(input);
        self.note(flags, place, ack, window, length);
        let payload: Vec<u8> = (0..length as u32)
            .map(|at| byte(self.ports.0, place.wrapping_add(at)))
            .collect();
        let after_syn = u32::from(flags & SYN == 0);
        let packet = self.tcp(flags, place.wrapping_add(after_syn), ack);
        let packet = packet
            .window(window)
            .tcp_options(&options)
            .payload(&payload);
        finish(&packet, options.len().next_multiple_of(4), length)
    }

    /// Any segment, some bytes of which behind the ports are others.
    pub(super) fn broken_segment(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let (mut frame, _) = self.segment(input);
        self.ambiguous = true;
        let room = frame.len() - PORTS_END;
        for _ in 0..=input.byte() % 4 {
            let at = PORTS_END + usize::from(input.word()) % room;
            frame[at] = input.byte();
        }
        frame
    }

    /// A reset that the other side has to believe.
    pub(super) fn exact_reset(&self) -> Option<Vec<u8>> {
        self.peer?;
        Some(self.tcp(RST | ACK, self.taken.wrapping_add(1), 0).build())
    }

    /// A SYN with the options that `input` chooses.
    pub(super) fn syn(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let window = input.one_of(&[65_535, 0, 1]);
        let options = syn_options(input);
        self.note(SYN, 0, 0, window, 0);
        let packet = self.tcp(SYN, 0, 0).window(window).tcp_options(&options);
        packet.build()
    }

    /// `number` counts from the SYN, `ack` from the other side's.
    fn tcp(&self, flags: u8, number: u32, ack: u32) -> Packet {
        let (own, far) = self.ports;
        let peer = self.peer.unwrap_or(0);
        let seq = FIRST.wrapping_add(number);
        let packet = self.packet.clone();
        packet.tcp(own, far, flags, seq, peer.wrapping_add(ack).wrapping_add(1))
    }

    /// Where a segment begins: where it should, or near the edges of the window, or anywhere.
    fn place(&mut self, flags: u8, input: &mut Input<'_>) -> u32 {
        let choice = input.byte();
        let little = u32::from(choice >> 4);
        let edge = self.taken.wrapping_add(u32::from(self.window));
        let place = match choice & 15 {
            0..6 => self.next,
            6 => self.taken,
            7 => self.taken.wrapping_sub(little),
            8 => edge.wrapping_sub(little),
            9 => edge.wrapping_add(little),
            10 => self.next.wrapping_add(little + 1),
            11 => self.next.wrapping_add(little * 1000),
            12 => self.next.wrapping_sub(little * 50),
            13 => self.taken.wrapping_add(little * 7),
            14 => u32::from(input.word()),
            _ => (little << 28).wrapping_add(u32::from(input.word())),
        };
        match (flags & SYN != 0, choice & 15) {
            (true, 0..15) => 0,
            (true, _) => {
                self.ambiguous |= place != 0;
                place
            }
            (false, _) => place,
        }
    }

    fn acknowledgement(&self, input: &mut Input<'_>) -> u32 {
        let choice = input.byte();
        let little = u32::from(choice >> 4);
        match choice & 15 {
            0..7 => self.heard,
            7 => self.acknowledged,
            8 => self.heard.wrapping_sub(little),
            9 => self.heard.wrapping_add(little + 1),
            10 => self.acknowledged.wrapping_add(little * 48),
            11 => self.acknowledged.wrapping_add(little * 1460),
            12 => self.heard / 2,
            13 => self.acknowledged.wrapping_sub(1),
            14 => little << 28,
            _ => u32::from(input.word()) << 16,
        }
    }

    fn note(&mut self, flags: u8, place: u32, ack: u32, window: u16, length: usize) {
        let end = place.wrapping_add(length as u32);
        if end.wrapping_sub(1) < SPAN && length > 0 {
            let start = if place < SPAN { place } else { 0 };
            self.sent.push(start..end);
            if place <= self.next && end > self.next {
                self.next = end;
            }
        }
        if flags & FIN != 0 {
            self.ends.push(end);
        }
        if flags & (ACK | SYN) != 0 && ack <= self.heard {
            self.acknowledged = self.acknowledged.max(ack);
            let window = u32::from(window) << self.scale;
            self.allowed = self.allowed.max(ack + window);
        }
    }

    /// The most that can be known of this stream to somebody who got everything that was sent.
    pub(super) fn whole(&self) -> u32 {
        let mut reached = 0;
        loop {
            let next = self.sent.iter().filter(|part| part.start <= reached);
            match next.map(|part| part.end).max() {
                Some(end) if end > reached => reached = end,
                _ => return reached,
            }
        }
    }

    /// It has ended its stream there.
    pub(super) fn ended_at(&self, place: u32) -> bool {
        self.ends.contains(&place)
    }

    /// Takes a segment; fails when it says what nobody has said, or more than it may.
    pub(super) fn hear(&mut self, tcp: &Tcp, options: &[u8], payload: &[u8], said: Said) {
        if tcp.flags & (SYN | RST) != 0 {
            assert!(payload.is_empty(), "{tcp:?} carries bytes");
        }
        if tcp.flags & SYN != 0 && self.peer != Some(tcp.seq) {
            self.meet(tcp.seq);
        }
        let Some(peer) = self.peer.filter(|_| tcp.flags & (SYN | RST) == 0) else {
            assert!(payload.is_empty(), "{tcp:?} before a SYN");
            return;
        };
        assert!(options.len() <= 40 && tcp.flags & ACK != 0, "{tcp:?}");
        let place = tcp.seq.wrapping_sub(peer).wrapping_sub(1);
        self.taken = tcp.ack.wrapping_sub(FIRST).wrapping_sub(1);
        self.window = tcp.window;
        if self.is_keep_alive(place, payload) {
            return;
        }
        let end = place.wrapping_add(payload.len() as u32);
        if !payload.is_empty() {
            assert!(
                end <= said.bytes,
                "{tcp:?} has more than was said: {said:?}"
            );
            assert!(
                is_part(said.salt, place, payload),
                "{tcp:?} says another thing"
            );
            let allowed = self.ambiguous || end <= self.allowed + 1;
            assert!(allowed, "{tcp:?} goes beyond {}", self.allowed);
            self.heard = self.heard.max(end);
        }
        if tcp.flags & FIN != 0 {
            assert!(said.finished && end == said.bytes, "{tcp:?} ends {said:?}");
            self.heard = self.heard.max(end + 1);
        }
    }

    /// Another connection between the same ends.
    fn meet(&mut self, first: u32) {
        self.peer = Some(first);
        self.heard = 0;
        self.acknowledged = 0;
        self.taken = 0;
        self.allowed = 65_535 << 14;
    }

    /// A byte that stands for none (RFC 9293 §3.8.4): it lies before what is acknowledged.
    fn is_keep_alive(&self, place: u32, payload: &[u8]) -> bool {
        payload == [0] && (self.ambiguous || place.wrapping_add(1) <= self.acknowledged)
    }
}

/// The frame, as one that stands for many when it is too long for one.
fn finish(packet: &Packet, options: usize, length: usize) -> (Vec<u8>, Offload) {
    if length <= 1400 {
        return (packet.build(), Offload::NONE);
    }
    let (bytes, offload) = packet.half_done();
    let headers = (HEADERS + options) as u16;
    (bytes, offload.with_segments(Segments::Tcp4, headers, 1400))
}
