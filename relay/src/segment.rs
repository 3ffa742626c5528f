//! Segments at the end of a stream, taken apart.

use pontoon_packet::checksum::checksum;
use pontoon_packet::parse::protocol;
use pontoon_packet::parse::tcp_flags::{FIN, RST, SYN};

/// Bytes of an IPv6 header without extensions.
const IPV6_HEADER: usize = 40;

/// Where the parts of a datagram lie that carries a segment.
struct Segment {
    /// Bytes of the IP header.
    header: usize,
    /// Where the bytes begin.
    bytes: usize,
    /// Where they end.
    end: usize,
    flags: u8,
}

impl Segment {
    fn find(datagram: &[u8]) -> Option<Self> {
        let (header, end) = lengths(datagram)?;
        let tcp = datagram.get(header..end)?;
        let flags = *tcp.get(13)?;
        let bytes = header + usize::from(tcp[12] >> 4) * 4;
        (header + 20 <= bytes && bytes <= end).then_some(Self {
            header,
            bytes,
            end,
            flags,
        })
    }

    /// The same, if it carries bytes of a stream.
    fn with_bytes(datagram: &[u8]) -> Option<Self> {
        Self::find(datagram).filter(|segment| segment.bytes < segment.end)
    }

    /// The same datagram without bytes.
    fn bare(&self, datagram: &[u8]) -> Vec<u8> {
        let mut bare = datagram[..self.bytes].to_vec();
        shorten(&mut bare, self.header, self.end - self.bytes);
        bare
    }
}

/// What a datagram whose segment carries bytes and the end of the stream says, in two: the bytes, and
/// the end behind them. `None` for every other datagram. TCP's sum is left as it was.
///
/// smoltcp 0.14 takes the end of a segment for heard when it has cut the bytes before it off at the
/// edge of its window, and would never ask for them again.
pub(crate) fn split_end(datagram: &[u8]) -> Option<[Vec<u8>; 2]> {
    let segment = Segment::with_bytes(datagram)?;
    if segment.flags & (FIN | SYN | RST) != FIN {
        return None;
    }
    let mut before = datagram[..segment.end].to_vec();
    before[segment.header + 13] &= !FIN;
    let mut end = segment.bare(datagram);
    let number = segment.header + 4..segment.header + 8;
    let seq = <[u8; 4]>::try_from(&end[number.clone()]).ok()?;
    let seq = u32::from_be_bytes(seq).wrapping_add((segment.end - segment.bytes) as u32);
    end[number].copy_from_slice(&seq.to_be_bytes());
    Some([before, end])
}

/// A datagram whose segment carries bytes, without them; `None` for every other.
pub(crate) fn without_bytes(datagram: &[u8]) -> Option<Vec<u8>> {
    Segment::with_bytes(datagram).map(|segment| segment.bare(datagram))
}

/// A datagram whose segment leaves no room for bytes, with room for one; `None` for every other.
///
/// smoltcp 0.14 goes on asking for room, at once and for ever, when the last byte and the end of its
/// stream are acknowledged by a segment that leaves none.
pub(crate) fn with_room(datagram: &[u8]) -> Option<Vec<u8>> {
    let window = Segment::find(datagram)?.header + 14;
    if datagram[window..window + 2] != [0, 0] {
        return None;
    }
    let mut open = datagram.to_vec();
    open[window + 1] = 1;
    Some(open)
}

/// Bytes of the IP header and of the datagram of a whole segment.
fn lengths(datagram: &[u8]) -> Option<(usize, usize)> {
    let word = |at: usize| {
        let bytes = datagram.get(at..at + 2)?;
        Some(usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
    };
    match datagram.first()? >> 4 {
        4 => {
            let whole = word(6)? & 0x3fff == 0 && *datagram.get(9)? == protocol::TCP;
            whole.then_some((usize::from(datagram[0] & 15) * 4, word(2)?))
        }
        6 => {
            let plain = *datagram.get(6)? == protocol::TCP;
            plain.then_some((IPV6_HEADER, IPV6_HEADER + word(4)?))
        }
        _ => None,
    }
}

/// Takes `bytes` off the length that the IP header of `header` bytes tells.
fn shorten(datagram: &mut [u8], header: usize, bytes: usize) {
    let v4 = datagram[0] >> 4 == 4;
    let at = if v4 { 2 } else { 4 };
    let told = u16::from_be_bytes([datagram[at], datagram[at + 1]]);
    let told = told.saturating_sub(bytes as u16);
    datagram[at..at + 2].copy_from_slice(&told.to_be_bytes());
    if v4 {
        datagram[10..12].fill(0);
        let sum = checksum(&datagram[..header]);
        datagram[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use pontoon_packet::build::Packet;
    use pontoon_packet::parse::tcp_flags::{ACK, PSH};
    use pontoon_packet::{MacAddr, parse, pretty};

    use super::*;

    const ETHERNET: usize = 14;

    fn frame() -> Packet {
        Packet::ethernet(MacAddr::ZERO, MacAddr::ZERO)
    }

    fn v4() -> Packet {
        frame().ipv4(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST)
    }

    /// Sequence number, flags and payload.
    fn said(packet: &Packet, datagram: &[u8]) -> (u32, u8, Vec<u8>) {
        let mut frame = packet.build()[..ETHERNET].to_vec();
        frame.extend_from_slice(datagram);
        let facts = parse(&frame).unwrap_or_else(|error| panic!("{error:?}"));
        let ip = facts.ip().expect("a datagram");
        assert_eq!(ip.end(), frame.len());
        let pontoon_packet::L4::Tcp(tcp) = ip.l4 else {
            panic!("{}", pretty::line(&frame, pontoon_packet::Offload::NONE))
        };
        let payload = ip.l4_start() + usize::from(tcp.header_len);
        (tcp.seq, tcp.flags, frame[payload..].to_vec())
    }

    #[test]
    fn bytes_and_their_end_come_apart() {
        let v6 = frame().ipv6(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
        for packet in [v4().options(&[1; 8]), v4(), v6] {
            let whole = packet.clone().tcp(1, 2, ACK | PSH | FIN, u32::MAX, 9);
            let whole = whole.tcp_options(&[1; 12]).payload(b"end");
            let datagram = &whole.build()[ETHERNET..];
            let [before, end] = split_end(datagram).expect("bytes and an end");
            assert_eq!(
                said(&packet, &before),
                (u32::MAX, ACK | PSH, b"end".to_vec())
            );
            assert_eq!(said(&packet, &end), (2, ACK | PSH | FIN, Vec::new()));
            let bare = without_bytes(datagram).expect("bytes");
            assert_eq!(
                said(&packet, &bare),
                (u32::MAX, ACK | PSH | FIN, Vec::new())
            );
        }
    }

    #[test]
    fn a_closed_window_is_opened_by_one_byte() {
        let closed = v4().tcp(1, 2, ACK, 5, 9).window(0);
        let open = with_room(&closed.build()[ETHERNET..]).expect("a closed window");
        let expected = closed.window(1).build();
        // All but TCP's sum.
        assert_eq!(open[..36], expected[ETHERNET..][..36]);
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        let bytes = v4().tcp(1, 2, ACK, 5, 9).payload(b"more");
        let end = v4().tcp(1, 2, ACK | FIN, 5, 9);
        let reset = v4().tcp(1, 2, RST | FIN, 5, 9).payload(b"gone");
        let udp = v4().udp(1, 2).payload(&[0xff; 60]);
        for packet in [bytes, end, reset, udp] {
            assert_eq!(split_end(&packet.build()[ETHERNET..]), None);
            assert_eq!(with_room(&packet.build()[ETHERNET..]), None);
        }
    }

    #[test]
    fn a_datagram_cut_at_any_byte_is_left_alone() {
        let whole = v4()
            .tcp(1, 2, ACK | FIN, 5, 9)
            .window(0)
            .payload(b"end")
            .build();
        for length in ETHERNET..whole.len() {
            assert_eq!(split_end(&whole[ETHERNET..length]), None, "{length}");
            assert_eq!(without_bytes(&whole[ETHERNET..length]), None, "{length}");
            assert_eq!(with_room(&whole[ETHERNET..length]), None, "{length}");
        }
    }
}
