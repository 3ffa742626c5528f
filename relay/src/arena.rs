//! Frames for containers that host sockets cause, until they have gone their way.

use std::ops::Range;

use pontoon_packet::checksum::{fold, pseudo_header};
use pontoon_packet::parse::protocol;
use pontoon_packet::{Frame, Offload, Segments};

use crate::Emit;

/// Bytes of all frames that wait. Our choice: sixteen super-frames, which stay in the processor's
/// caches from the socket to the wire.
const SIZE: usize = 1 << 20;
/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;
/// The largest frame: a datagram of 65 535 bytes behind an Ethernet header.
const LARGEST: usize = ETHERNET + 65_535;

#[derive(Clone, Debug)]
struct Composed {
    place: Range<usize>,
    offload: Offload,
}

/// Frames in one piece of memory that does not move. The default has no room.
#[derive(Debug, Default)]
pub struct Arena {
    bytes: Box<[u8]>,
    used: usize,
    frames: Vec<Composed>,
}

impl Arena {
    /// Room for sixteen of the largest frames.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; SIZE].into_boxed_slice(),
            used: 0,
            frames: Vec::new(),
        }
    }

    /// Nothing waits.
    pub const fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Room for one frame.
    pub fn small() -> Self {
        Self {
            bytes: vec![0; LARGEST].into_boxed_slice(),
            ..Self::default()
        }
    }

    /// The memory that frames lie in.
    pub fn range(&self) -> Range<*const u8> {
        self.bytes.as_ptr_range()
    }

    /// Every frame in the order in which they were made. They may be edited in place.
    pub fn frames(&mut self) -> impl Iterator<Item = Frame<'_>> {
        let mut rest = &mut self.bytes[..];
        let mut start = 0;
        self.frames.iter().map(move |composed| {
            let all = std::mem::take(&mut rest);
            let (_, from) = all.split_at_mut(composed.place.start - start);
            let (bytes, behind) = from.split_at_mut(composed.place.len());
            start = composed.place.end;
            rest = behind;
            Frame {
                bytes,
                offload: composed.offload,
            }
        })
    }

    /// Forgets all frames. They must have been sent.
    pub fn clear(&mut self) {
        self.used = 0;
        self.frames.clear();
    }

    /// Room for a whole frame; the Ethernet header's type is left to [`commit`](Self::commit).
    pub fn open(&mut self) -> Option<&mut [u8]> {
        self.bytes.get_mut(self.used..self.used + LARGEST)
    }

    /// Takes the first `len` bytes of what `open` gave as a frame.
    pub fn commit(&mut self, len: usize, offload: Offload) {
        let place = self.used..self.used + len;
        let version = self.bytes[place.start + ETHERNET] >> 4;
        let ethertype: [u8; 2] = if version == 6 {
            [0x86, 0xdd]
        } else {
            [0x08, 0x00]
        };
        self.bytes[place.start..place.start + 12].fill(0);
        self.bytes[place.start + 12..place.start + ETHERNET].copy_from_slice(&ethertype);
        // The next frame begins at a multiple of 16, as memory from an allocator would.
        self.used = place.end.next_multiple_of(16).min(self.bytes.len());
        self.frames.push(Composed { place, offload });
    }

    /// Takes a frame that lies elsewhere, if there is room.
    pub fn copy(&mut self, frame: &[u8]) {
        if let Some(room) = self.open()
            && frame.len() <= room.len()
        {
            room[..frame.len()].copy_from_slice(frame);
            self.commit(frame.len(), Offload::NONE);
        }
    }
}

impl Emit for Arena {
    fn has_room(&self) -> bool {
        self.used + LARGEST <= self.bytes.len()
    }

    fn emit<R>(&mut self, len: usize, gso: Option<u16>, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let Some(room) = self.open() else {
            // Asked for without room, by an answer that could not wait: as good as lost on the wire.
            return fill(&mut vec![0; len]);
        };
        let datagram = &mut room[ETHERNET..ETHERNET + len];
        let result = fill(datagram);
        let offload = half_done(datagram, gso);
        self.commit(ETHERNET + len, offload);
        result
    }
}

/// Writes the pseudo-header's sum into the checksum field of a TCP datagram without options, and
/// says what the kernel has to do with it.
fn half_done(datagram: &mut [u8], gso: Option<u16>) -> Offload {
    let header = if datagram[0] >> 4 == 6 { 40 } else { 20 };
    let (src, dst) = ends(datagram);
    let segment = datagram.len() - header;
    let sum = fold(pseudo_header(src, dst, protocol::TCP, segment));
    datagram[header + 16..header + 18].copy_from_slice(&sum.to_be_bytes());
    let start = (ETHERNET + header) as u16;
    let offload = Offload::partial(start, 16);
    let Some(size) = gso else { return offload };
    let headers = start + u16::from(datagram[header + 12] >> 4) * 4;
    let kind = if header == 20 {
        Segments::Tcp4
    } else {
        Segments::Tcp6
    };
    offload.with_segments(kind, headers, size)
}

fn ends(datagram: &[u8]) -> (std::net::IpAddr, std::net::IpAddr) {
    let four = |at: usize| <[u8; 4]>::try_from(&datagram[at..at + 4]).unwrap_or_default();
    let sixteen = |at: usize| <[u8; 16]>::try_from(&datagram[at..at + 16]).unwrap_or_default();
    if datagram[0] >> 4 == 6 {
        (sixteen(8).into(), sixteen(24).into())
    } else {
        (four(12).into(), four(16).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pontoon_packet::{checksum, parse};

    /// An IPv4 header in front of a TCP header and `payload` bytes.
    fn fill(len: usize) -> impl FnOnce(&mut [u8]) {
        move |datagram| {
            datagram.fill(0);
            datagram[0] = 0x45;
            datagram[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            datagram[8] = 64;
            datagram[9] = protocol::TCP;
            datagram[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
            datagram[32] = 0x50;
            datagram[33] = 0x10;
            let sum = checksum::checksum(&datagram[..20]);
            datagram[10..12].copy_from_slice(&sum.to_be_bytes());
        }
    }

    #[test]
    fn an_emitted_datagram_is_a_frame_with_a_half_done_sum() {
        let mut arena = Arena::new();
        arena.emit(40, None, fill(40));
        arena.emit(5040, Some(1460), fill(5040));

        let frames: Vec<_> = arena.frames().map(|f| (f.bytes.len(), f.offload)).collect();
        let half_done = Offload::partial(34, 16);
        let segments = half_done.with_segments(Segments::Tcp4, 54, 1460);
        assert_eq!(frames, [(54, half_done), (5054, segments)]);
        for frame in arena.frames() {
            let facts = parse(frame.bytes).unwrap();
            assert!(checksum::is_half_done(frame.offload, facts.ip().unwrap()));
        }
    }

    #[test]
    fn a_full_arena_says_so_and_loses_what_comes_all_the_same() {
        let mut arena = Arena::new();
        while arena.has_room() {
            arena.emit(60_000, Some(1460), fill(60_000));
        }
        let before = arena.frames().count();
        arena.emit(40, None, fill(40));
        assert!(arena.frames().count() <= before + 1);
        assert!(arena.frames().count() * 60_000 <= SIZE);
        arena.clear();
        assert!(arena.is_empty() && arena.has_room());
    }
}
