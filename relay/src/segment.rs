//! Segments as they lie in datagrams: looked at, cut into parts, and made fit for smoltcp.

use core::ops::Range;

use pontoon_packet::parse::tcp_flags::{ACK, FIN, PSH, RST, SYN};
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket};

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
        let (protocol, ip, bytes) = match datagram.first()? >> 4 {
            4 => {
                let packet = Ipv4Packet::new_checked(datagram).ok()?;
                let whole = !packet.more_frags() && packet.frag_offset() == 0;
                let ip = usize::from(packet.header_len());
                (whole.then(|| packet.next_header()), ip, packet.payload())
            }
            _ => {
                let packet = Ipv6Packet::new_checked(datagram).ok()?;
                (
                    Some(packet.next_header()),
                    packet.header_len(),
                    packet.payload(),
                )
            }
        };
        if protocol != Some(IpProtocol::Tcp) {
            return None;
        }
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

    /// The datagram with the bytes, and one with the end of the stream behind them; none unless the
    /// segment carries both.
    ///
    /// smoltcp 0.14 takes the end of a segment for heard when it has cut the bytes before it off at the
    /// edge of its window, and would never ask for them again.
    pub(crate) fn split_end(&self, datagram: &[u8]) -> Option<[Vec<u8>; 2]> {
        if self.payload == 0 || self.flags & (FIN | SYN | RST) != FIN {
            return None;
        }
        let behind = self.seq.wrapping_add(self.payload as u32);
        let parts = [
            (0..self.payload, self.seq),
            (self.payload..self.len(), behind),
        ];
        Some(parts.map(|(place, seq)| self.with_part(datagram, &Part { place, seq })))
    }

    /// The datagram with that many bytes, if it has more.
    pub(crate) fn cut_to(&self, datagram: &[u8], bytes: usize) -> Option<Vec<u8>> {
        let part = Part {
            place: 0..bytes,
            seq: self.seq,
        };
        (self.payload > bytes).then(|| self.with_part(datagram, &part))
    }

    /// The datagram without its bytes, if it has any. smoltcp 0.14 would take bytes behind the end of the
    /// stream for more of it.
    pub(crate) fn without_bytes(&self, datagram: &[u8]) -> Option<Vec<u8>> {
        let bare = Part {
            place: self.payload..self.len(),
            seq: self.seq,
        };
        (self.payload > 0).then(|| self.with_part(datagram, &bare))
    }

    /// The datagram with room for a byte, if it leaves none.
    ///
    /// smoltcp 0.14 goes on asking for room, at once and for ever, when the last byte and the end of its
    /// stream are acknowledged by a segment that leaves none.
    pub(crate) fn with_room(&self, datagram: &[u8]) -> Option<Vec<u8>> {
        (self.window == 0).then(|| self.with_window(datagram, 1))
    }

    /// The datagram with a part of the segment only.
    fn with_part(&self, datagram: &[u8], part: &Part) -> Vec<u8> {
        let (headers, payload) = self.size_of(part);
        let mut into = vec![0; headers + payload];
        self.cut(datagram, part, &mut into);
        into
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
mod tests;
