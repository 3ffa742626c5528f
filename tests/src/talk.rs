//! Conversations whose frames are legal, whatever is between their ends.
//!
//! Who began one sends to where it wants; the other end answers what it has last seen. Segments repeat what was said, but
//! for the last one of a burst, which is acknowledged, so that no window is exceeded.

use core::net::Ipv4Addr;

use pontoon_packet::build::Packet;
use pontoon_packet::parse::protocol::{TCP, UDP};
use pontoon_packet::{MacAddr, Offload, Segments, parse};
use pontoon_switch::PortId;

/// Which end speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Who began.
    There = 0,
    /// The other one.
    Back = 1,
}

/// How much of its checksums the sender has done.
#[derive(Clone, Copy, Debug)]
pub enum Sums {
    /// All.
    Full,
    /// The transport's is left to others.
    HalfDone,
    /// The same, and it stands for several segments.
    Several,
}

/// What is not said by the conversation about a frame.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Who does the sums.
    pub sums: Sums,
    /// Time to live.
    pub ttl: u8,
    /// It may not be cut on its way.
    pub uncut: bool,
    /// Bytes it carries.
    pub length: u8,
}

impl Shape {
    /// As most are.
    pub const USUAL: Self = Self {
        sums: Sums::Full,
        ttl: 64,
        uncut: true,
        length: 40,
    };
}

/// One end's head of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// By which port it comes.
    pub port: PortId,
    /// Hardware addresses: to whom, from whom.
    pub macs: [MacAddr; 2],
    /// From where.
    pub src: (Ipv4Addr, u16),
    /// To where.
    pub dst: (Ipv4Addr, u16),
}

/// A conversation.
#[derive(Clone, Debug)]
pub struct Talk {
    /// TCP or UDP.
    pub protocol: u8,
    /// What who began says.
    pub there: Head,
    /// What the other end answers to, once it has seen anything.
    pub back: Option<Head>,
    /// TCP is established.
    pub open: bool,
    finished: [bool; 2],
    next: [u32; 2],
}

impl Talk {
    /// One that has not begun.
    pub fn new(protocol: u8, there: Head) -> Self {
        Self {
            protocol,
            there,
            back: None,
            open: false,
            finished: [false; 2],
            next: [1000, 5000],
        }
    }

    /// The head of what an end says, if it has anything to answer.
    pub fn head(&self, way: Way) -> Option<Head> {
        match way {
            Way::There => Some(self.there),
            Way::Back => self.back,
        }
    }

    /// The other end has seen a frame at a port.
    pub fn arrived(&mut self, port: PortId, bytes: &[u8]) {
        let Ok(facts) = parse(bytes) else { return };
        let ip = facts.ip().filter(|ip| ip.protocol == self.protocol);
        let seen = ip.and_then(|ip| Some((ip.src, ip.dst, ip.ports()?)));
        if let Some((core::net::IpAddr::V4(src), core::net::IpAddr::V4(dst), ports)) = seen {
            self.back = Some(Head {
                port,
                macs: [facts.src_mac, facts.dst_mac],
                src: (dst, ports.1),
                dst: (src, ports.0),
            });
        }
    }

    /// It was reset; the next one is from another port. Gives back the ends of the one that was.
    pub const fn reset(&mut self) -> [(Ipv4Addr, u16); 2] {
        let ends = [self.there.src, self.there.dst];
        self.there.src.1 += 100;
        self.open = false;
        ends
    }

    /// Begins anew, with other numbers.
    pub fn begin(&mut self) {
        self.next = self.next.map(|next| next.wrapping_add(1_000_000_007));
        self.finished = [false; 2];
    }

    /// An end will say nothing more.
    pub fn finish(&mut self, way: Way) {
        self.said(way, 1);
        self.finished[way as usize] = true;
        self.open = self.finished != [true; 2];
    }

    /// An end has finished.
    pub const fn has_finished(&self, way: Way) -> bool {
        self.finished[way as usize]
    }

    /// What an end says next comes after so many bytes.
    pub const fn said(&mut self, way: Way, bytes: u32) {
        let next = &mut self.next[way as usize];
        *next = next.wrapping_add(bytes);
    }

    /// How many bytes a frame of that shape carries.
    pub fn payload(&self, way: Way, shape: Shape) -> usize {
        let several = match shape.sums {
            Sums::Several => 20,
            Sums::Full | Sums::HalfDone => 1,
        };
        if self.protocol == TCP && self.has_finished(way) {
            0
        } else {
            usize::from(shape.length) * several
        }
    }

    /// A packet of an end.
    pub fn packet(&self, head: Head, way: Way, shape: Shape, flags: u8) -> Packet {
        let [dst, src] = head.macs;
        let packet = Packet::ethernet(src, dst)
            .ipv4(head.src.0, head.dst.0)
            .ttl(shape.ttl);
        let packet = if shape.uncut {
            packet.dont_fragment()
        } else {
            packet
        };
        let (own, other) = (self.next[way as usize], self.next[1 - way as usize]);
        let data = vec![0xa5; self.payload(way, shape)];
        match self.protocol {
            TCP => packet.tcp(head.src.1, head.dst.1, flags, own, other),
            _ => packet.udp(head.src.1, head.dst.1),
        }
        .payload(&data)
    }

    /// Its bytes, and what goes beside them.
    pub fn frame(&self, packet: &Packet, shape: Shape) -> (Vec<u8>, Offload) {
        match shape.sums {
            Sums::Full => (packet.build(), Offload::NONE),
            Sums::Several if self.protocol == TCP => {
                let (bytes, offload) = packet.half_done();
                let segment = u16::from(shape.length.max(8));
                (bytes, offload.with_segments(Segments::Tcp4, 54, segment))
            }
            Sums::HalfDone | Sums::Several => packet.half_done(),
        }
    }
}

/// A conversation of datagrams.
pub fn datagrams(there: Head) -> Talk {
    Talk::new(UDP, there)
}

/// A connection.
pub fn connection(there: Head) -> Talk {
    Talk::new(TCP, there)
}
