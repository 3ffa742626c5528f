//! Cutting super-frames and completing checksums in software, for a path that carries neither.
//!
//! What Linux does in `net/ipv4/tcp_offload.c` (`tcp_gso_segment`), `net/ipv4/udp_offload.c`
//! (`__udp_gso_segment`) and `net/ipv4/af_inet.c` (`inet_gso_segment`): IPv4 identifications count
//! up, sequence numbers move on, FIN and PSH are kept for the last segment and CWR for the first.

use core::net::IpAddr;

use crate::checksum::{checksum, complete, fold, pseudo_header, sum};
use crate::parse::{protocol, tcp_flags};
use crate::{Frame, L4, Offload, Segments, parse};

const CWR: u8 = 0x80;
const UDP_HEADER: usize = 8;

/// A super-frame that is not what its offload header says, or of a kind that Linux has given up
/// (UDP fragmentation offload, removed in 4.14). It cannot be cut and is to be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsegmentable;

impl core::fmt::Display for Unsegmentable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the super-frame is not what its offload header says and cannot be cut")
    }
}

impl core::error::Error for Unsegmentable {}

/// Hands the frame `bytes` to `emit` as plain frames: cut into its segments, with every checksum complete. A
/// plain frame is handed on as it is. `room` is where frames are built; it keeps its memory.
///
/// # Errors
/// [`Unsegmentable`], with nothing emitted.
pub fn segments(
    bytes: &[u8],
    offload: Offload,
    room: &mut Vec<u8>,
    mut emit: impl FnMut(&[u8]),
) -> Result<(), Unsegmentable> {
    if !offload.is_super_frame() {
        emit(completed(bytes, offload, room));
        return Ok(());
    }
    let layout = Layout::of(bytes, offload)?;
    let (size, mut at) = (usize::from(offload.gso_size), layout.payload);
    for number in 0_usize.. {
        let len = size.min(layout.end - at);
        layout.write(bytes, number as u16, at..at + len, room);
        emit(room);
        at += len;
        if at == layout.end {
            break;
        }
    }
    Ok(())
}

fn completed<'a>(bytes: &'a [u8], offload: Offload, room: &'a mut Vec<u8>) -> &'a [u8] {
    if !offload.is_partial() {
        return bytes;
    }
    room.clear();
    room.extend_from_slice(bytes);
    complete(&mut Frame {
        bytes: room,
        offload,
    });
    room
}

/// Where the headers of a super-frame lie.
struct Layout {
    l3: usize,
    l4: usize,
    payload: usize,
    end: usize,
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
}

impl Layout {
    fn of(bytes: &[u8], offload: Offload) -> Result<Self, Unsegmentable> {
        let facts = parse(bytes).map_err(|_| Unsegmentable)?;
        let ip = facts.ip().ok_or(Unsegmentable)?;
        let (header, protocol) = match (offload.segments(), ip.l4) {
            (Some(Segments::Tcp4), L4::Tcp(tcp)) if ip.src.is_ipv4() => {
                (tcp.header_len, protocol::TCP)
            }
            (Some(Segments::Tcp6), L4::Tcp(tcp)) if ip.src.is_ipv6() => {
                (tcp.header_len, protocol::TCP)
            }
            (Some(Segments::UdpDatagrams), L4::Udp(_)) => (UDP_HEADER as u8, protocol::UDP),
            _ => return Err(Unsegmentable),
        };
        let (l4, end) = (ip.l4_start(), ip.end());
        let payload = l4 + usize::from(header);
        if offload.gso_size == 0 || payload > end {
            return Err(Unsegmentable);
        }
        let l3 = usize::from(ip.start);
        Ok(Self {
            l3,
            l4,
            payload,
            end,
            src: ip.src,
            dst: ip.dst,
            protocol,
        })
    }

    fn write(&self, frame: &[u8], number: u16, part: core::ops::Range<usize>, room: &mut Vec<u8>) {
        room.clear();
        room.extend_from_slice(&frame[..self.payload]);
        room.extend_from_slice(&frame[part.clone()]);
        self.write_network(number, room);
        if self.protocol == protocol::TCP {
            self.write_tcp(part, room);
        } else {
            let len = (room.len() - self.l4) as u16;
            room[self.l4 + 4..self.l4 + 6].copy_from_slice(&len.to_be_bytes());
        }
        self.write_checksum(room);
    }

    fn write_network(&self, number: u16, room: &mut [u8]) {
        let len = room.len() - self.l3;
        let header = &mut room[self.l3..self.l4];
        if self.src.is_ipv6() {
            header[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
            return;
        }
        let id = u16::from_be_bytes([header[4], header[5]]).wrapping_add(number);
        header[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        header[4..6].copy_from_slice(&id.to_be_bytes());
        header[10..12].fill(0);
        let sum = checksum(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }

    fn write_tcp(&self, part: core::ops::Range<usize>, room: &mut [u8]) {
        let header = &mut room[self.l4..];
        let seq = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let seq = seq.wrapping_add((part.start - self.payload) as u32);
        header[4..8].copy_from_slice(&seq.to_be_bytes());
        if part.start != self.payload {
            header[13] &= !CWR;
        }
        if part.end != self.end {
            header[13] &= !(tcp_flags::FIN | tcp_flags::PSH);
        }
    }

    fn write_checksum(&self, room: &mut [u8]) {
        let segment = &mut room[self.l4..];
        let at = if self.protocol == protocol::TCP {
            16
        } else {
            6
        };
        segment[at..at + 2].fill(0);
        let pseudo = pseudo_header(self.src, self.dst, self.protocol, segment.len());
        let value = match !fold(sum(segment, pseudo)) {
            0 if self.protocol == protocol::UDP => 0xffff,
            value => value,
        };
        segment[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MacAddr;
    use crate::build::Packet;
    use core::net::{Ipv4Addr, Ipv6Addr};
    use proptest::prelude::*;

    const ALL_FLAGS: u8 = CWR | tcp_flags::FIN | tcp_flags::PSH | tcp_flags::ACK;

    fn ethernet() -> Packet {
        Packet::ethernet(MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])).vlan(7)
    }

    fn tcp4(id: u16, seq: u32, flags: u8, payload: &[u8]) -> Packet {
        let packet = ethernet()
            .ipv4(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2))
            .id(id);
        packet
            .tcp(1, 2, flags, seq, 9)
            .tcp_options(&[1; 12])
            .payload(payload)
    }

    fn udp6(payload: &[u8]) -> Packet {
        ethernet()
            .ipv6(Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED)
            .udp(1, 2)
            .payload(payload)
    }

    fn cut(packet: &Packet, kind: Segments, size: u16) -> Result<Vec<Vec<u8>>, Unsegmentable> {
        let (bytes, offload) = packet.half_done();
        let offload = offload.with_segments(kind, 0, size);
        let (mut out, mut room) = (Vec::new(), Vec::new());
        segments(&bytes, offload, &mut room, |bytes| out.push(bytes.to_vec()))?;
        Ok(out)
    }

    fn payload(len: usize) -> Vec<u8> {
        (0..len).map(|n| (n % 251) as u8).collect()
    }

    #[test]
    fn tcp_segments_are_those_a_sender_without_offload_would_send() {
        let data = payload(2500);
        let whole = tcp4(0xffff, u32::MAX - 999, ALL_FLAGS, &data);
        let expected = [
            tcp4(0xffff, u32::MAX - 999, CWR | tcp_flags::ACK, &data[..1000]).build(),
            tcp4(0, 0, tcp_flags::ACK, &data[1000..2000]).build(),
            tcp4(1, 1000, ALL_FLAGS & !CWR, &data[2000..]).build(),
        ];
        assert_eq!(cut(&whole, Segments::Tcp4, 1000), Ok(expected.to_vec()));
    }

    #[test]
    fn udp_segments_are_datagrams_of_their_own() {
        let data = payload(250);
        let expected = data.chunks(100).map(|part| udp6(part).build()).collect();
        assert_eq!(cut(&udp6(&data), Segments::UdpDatagrams, 100), Ok(expected));
    }

    #[test]
    fn udp_sum_of_zero_is_sent_as_all_ones() {
        let sum_of = |bytes: &[u8]| u16::from_be_bytes([bytes[64], bytes[65]]);
        let empty = udp6(&[0, 0]).build();
        let zero_sum = udp6(&sum_of(&empty).to_be_bytes());
        let cut = cut(&zero_sum, Segments::UdpDatagrams, 100).expect("one datagram");
        assert_eq!(sum_of(&cut[0]), 0xffff);
    }

    #[test]
    fn last_full_segment_is_not_followed_by_an_empty_one() {
        let data = payload(2000);
        assert_eq!(
            cut(&tcp4(1, 1, 16, &data), Segments::Tcp4, 1000).map(|s| s.len()),
            Ok(2)
        );
        assert_eq!(
            cut(&tcp4(1, 1, 16, &[]), Segments::Tcp4, 1000).map(|s| s.len()),
            Ok(1)
        );
    }

    #[test]
    fn half_done_checksum_of_a_plain_frame_is_completed() {
        let packet = tcp4(1, 1, 16, &payload(77));
        let ((bytes, offload), mut room) = (packet.half_done(), Vec::new());
        let mut out = Vec::new();
        segments(&bytes, offload, &mut room, |bytes| out.push(bytes.to_vec()))
            .expect("a plain frame");
        assert_eq!(out, [packet.build()]);
    }

    #[test]
    fn plain_frame_is_handed_on_where_it_lies() {
        let bytes = tcp4(1, 1, 16, &[]).build();
        let (at, mut room) = (bytes.as_ptr(), Vec::new());
        assert_eq!(
            segments(&bytes, Offload::NONE, &mut room, |bytes| assert_eq!(
                bytes.as_ptr(),
                at
            )),
            Ok(())
        );
    }

    #[test]
    fn frame_that_is_not_what_its_header_says_is_refused() {
        let packet = tcp4(1, 1, 16, &payload(3000));
        for kind in [
            Segments::Tcp6,
            Segments::UdpDatagrams,
            Segments::UdpFragments,
        ] {
            assert_eq!(cut(&packet, kind, 1000), Err(Unsegmentable), "{kind:?}");
        }
        assert_eq!(cut(&packet, Segments::Tcp4, 0), Err(Unsegmentable));
        assert_eq!(
            cut(&ethernet().payload(&[0; 9]), Segments::Tcp4, 9),
            Err(Unsegmentable)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_with_any_offload_header_panic_nowhere(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0_usize..120,
            value in any::<u8>(), header in any::<[u8; Offload::LEN]>(), garbage in any::<bool>(),
        ) {
            if !garbage {
                bytes = tcp4(1, 1, 16, &bytes).build();
                let at = at % bytes.len();
                bytes[at] = value;
            }
            let _ = segments(&bytes, Offload::decode(header), &mut Vec::new(), |_| ());
        }

        #[test]
        fn payload_survives_the_cut(len in 0_usize..5000, size in 1_u16..2000) {
            let data = payload(len);
            let parts = cut(&tcp4(5, 5, 16, &data), Segments::Tcp4, size).expect("a super-frame");
            let header = 14 + 4 + 20 + 32;
            prop_assert!(parts.iter().all(|part| part.len() - header <= usize::from(size)));
            let joined: Vec<u8> = parts.iter().flat_map(|part| part[header..].to_vec()).collect();
            prop_assert_eq!(joined, data);
        }
    }
}
