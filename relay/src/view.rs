//! What recovery from loss looks at of a datagram.

use core::ops::Range;

use pontoon_packet::parse::tcp_flags::{ACK, FIN, PSH, RST, SYN};
use smoltcp::wire::{Ipv4Packet, Ipv6Packet, TcpPacket};

/// What a segment says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) window: u16,
    flags: u8,
    /// Bytes of IP headers.
    ip: usize,
    /// Bytes of all headers.
    headers: usize,
    /// Bytes of payload.
    pub(crate) payload: usize,
    /// What its sender holds out of order: first byte and the one after the last (RFC 2018).
    pub(crate) held: [Option<(u32, u32)>; 3],
}

impl Segment {
    /// Reads a datagram; none unless it is whole and holds TCP.
    pub(crate) fn read(datagram: &[u8]) -> Option<Self> {
        let (ip, bytes) = match datagram.first()? >> 4 {
            4 => {
                let packet = Ipv4Packet::new_checked(datagram).ok()?;
                (usize::from(packet.header_len()), packet.payload())
            }
            _ => {
                let packet = Ipv6Packet::new_checked(datagram).ok()?;
                (packet.header_len(), packet.payload())
            }
        };
        let tcp = TcpPacket::new_checked(bytes).ok()?;
        Some(Self {
            seq: tcp.seq_number().0 as u32,
            ack: tcp.ack_number().0 as u32,
            window: tcp.window_len(),
            flags: bytes[13],
            ip,
            headers: ip + usize::from(tcp.header_len()),
            payload: tcp.payload().len(),
            held: tcp.selective_ack_ranges().unwrap_or_default(),
        })
    }

    /// It opens a connection.
    pub(crate) const fn is_syn(&self) -> bool {
        self.flags & SYN != 0
    }

    /// It acknowledges bytes of an open connection.
    pub(crate) const fn is_ack(&self) -> bool {
        self.flags & (SYN | RST | ACK) == ACK
    }

    /// How many sequence numbers it takes: its payload, and its end.
    pub(crate) const fn len(&self) -> usize {
        self.payload + (self.flags & FIN != 0) as usize
    }

    /// The datagram that this segment comes from, with another window.
    pub(crate) fn with_window(&self, datagram: &[u8], window: u16) -> Vec<u8> {
        let mut changed = datagram.to_vec();
        changed[self.ip + 14..self.ip + 16].copy_from_slice(&window.to_be_bytes());
        changed
    }

    /// All of it.
    pub(crate) const fn whole(&self) -> Part {
        Part {
            place: 0..self.len(),
            seq: self.seq,
        }
    }

    /// Where the payload of a part lies in the datagram.
    fn payload_of(&self, part: &Part) -> Range<usize> {
        let Range { start, end } = part.place;
        self.headers + start.min(self.payload)..self.headers + end.min(self.payload)
    }

    /// Bytes of headers and of payload of the datagram with `part`.
    pub(crate) fn size_of(&self, part: &Part) -> (usize, usize) {
        (self.headers, self.payload_of(part).len())
    }

    /// Writes the datagram with `part` of this segment, which comes from the datagram `whole`.
    pub(crate) fn cut(&self, whole: &[u8], part: &Part, into: &mut [u8]) {
        let len = into.len();
        into[..self.headers].copy_from_slice(&whole[..self.headers]);
        into[self.headers..].copy_from_slice(&whole[self.payload_of(part)]);
        into[self.ip + 4..self.ip + 8].copy_from_slice(&part.seq.to_be_bytes());
        if part.place.end < self.len() {
            into[self.ip + 13] &= !(FIN | PSH);
        }
        if into[0] >> 4 == 4 {
            let mut packet = Ipv4Packet::new_unchecked(into);
            packet.set_total_len(len as u16);
            packet.fill_checksum();
        } else {
            Ipv6Packet::new_unchecked(into).set_payload_len((len - self.ip) as u16);
        }
    }
}

/// Part of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Which of the segment's sequence numbers, counted from its first.
    pub(crate) place: Range<usize>,
    /// The sequence number that it begins with.
    pub(crate) seq: u32,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Ten bytes from sequence number 1000 on and an end, behind an IP header of `ip` bytes.
    fn datagram(ip: usize) -> Vec<u8> {
        let mut bytes = vec![0; ip + 20 + 10];
        let len = bytes.len() as u16;
        if ip == 20 {
            (bytes[0], bytes[9]) = (0x45, 6);
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
        } else {
            (bytes[0], bytes[6]) = (0x60, 6);
            bytes[4..6].copy_from_slice(&(len - 40).to_be_bytes());
        }
        bytes[ip + 4..ip + 8].copy_from_slice(&1000_u32.to_be_bytes());
        (bytes[ip + 12], bytes[ip + 13]) = (0x50, ACK | PSH | FIN);
        bytes[ip + 20..].copy_from_slice(b"0123456789");
        bytes
    }

    fn cut(whole: &[u8], place: Range<usize>) -> (Segment, Vec<u8>) {
        let segment = Segment::read(whole).unwrap();
        let seq = segment.seq + place.start as u32;
        let part = Part { place, seq };
        let (headers, payload) = segment.size_of(&part);
        let mut into = vec![0xaa; headers + payload];
        segment.cut(whole, &part, &mut into);
        (Segment::read(&into).unwrap(), into.split_off(headers))
    }

    #[test]
    fn a_part_has_its_own_place_and_only_the_last_has_the_end() {
        for ip in [20, 40] {
            let whole = datagram(ip);
            let (first, payload) = cut(&whole, 0..4);
            assert_eq!(
                (first.seq, first.len(), &payload[..]),
                (1000, 4, &b"0123"[..])
            );
            let (last, payload) = cut(&whole, 4..11);
            assert_eq!(
                (last.seq, last.len(), &payload[..]),
                (1004, 7, &b"456789"[..])
            );
            let (end, payload) = cut(&whole, 10..11);
            assert_eq!((end.seq, end.len(), payload.len()), (1010, 1, 0));
            let (bare, payload) = cut(&whole, 0..0);
            assert_eq!((bare.len(), payload.len()), (0, 0));
        }
    }
}
