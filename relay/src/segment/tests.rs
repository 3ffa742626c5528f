use core::net::{Ipv4Addr, Ipv6Addr};

use pontoon_packet::MacAddr;
use pontoon_packet::build::Packet;

use super::*;

const ETHERNET: usize = 14;

/// Headers as a datagram has them: IPv4 with and without options, and IPv6.
fn headers() -> [Packet; 3] {
    let frame = Packet::ethernet(MacAddr::ZERO, MacAddr::ZERO);
    let v4 = frame.clone().ipv4(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST);
    let v6 = frame.ipv6(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
    [v4.clone().options(&[1; 8]), v4, v6]
}

/// A datagram with a segment of ten bytes and an end, and options.
fn whole(headers: &Packet, flags: u8) -> Vec<u8> {
    let segment = headers.clone().tcp(1, 2, flags, u32::MAX, 9);
    let segment = segment.tcp_options(&[1; 12]).payload(b"0123456789");
    segment.build().split_off(ETHERNET)
}

fn read(datagram: &[u8]) -> Segment {
    Segment::read(datagram).unwrap()
}

/// Sequence number, flags and payload.
fn said(datagram: &[u8]) -> (u32, u8, Vec<u8>) {
    let segment = read(datagram);
    let payload = datagram[segment.headers..][..segment.payload].to_vec();
    assert_eq!(segment.headers + segment.payload, datagram.len());
    (segment.seq, segment.flags, payload)
}

#[test]
fn a_part_has_its_own_place_and_only_the_last_has_the_end() {
    for headers in headers() {
        let whole = whole(&headers, ACK | PSH | FIN);
        let part = |place: Range<usize>| {
            let seq = u32::MAX.wrapping_add(place.start as u32);
            said(&read(&whole).with_part(&whole, &Part { place, seq }))
        };
        assert_eq!(part(0..4), (u32::MAX, ACK, b"0123".to_vec()));
        assert_eq!(part(4..11), (3, ACK | PSH | FIN, b"456789".to_vec()));
        assert_eq!(part(10..11), (9, ACK | PSH | FIN, Vec::new()));
        assert_eq!(part(0..0), (u32::MAX, ACK, Vec::new()));
    }
}

#[test]
fn bytes_and_their_end_come_apart() {
    for headers in headers() {
        let whole = whole(&headers, ACK | PSH | FIN);
        let [before, end] = read(&whole).split_end(&whole).unwrap();
        assert_eq!(said(&before), (u32::MAX, ACK, b"0123456789".to_vec()));
        assert_eq!(said(&end), (9, ACK | PSH | FIN, Vec::new()));
        let bare = read(&whole).without_bytes(&whole).unwrap();
        assert_eq!(said(&bare), (u32::MAX, ACK | PSH | FIN, Vec::new()));
    }
}

#[test]
fn a_closed_window_is_opened_by_one_byte() {
    let [_, headers, _] = headers();
    let closed = headers.tcp(1, 2, ACK, 5, 9).window(0);
    let datagram = &closed.build()[ETHERNET..];
    let open = read(datagram).with_room(datagram).unwrap();
    let expected = closed.window(1).build();
    // All but TCP's sum.
    assert_eq!(open[..36], expected[ETHERNET..][..36]);
}

#[test]
fn everything_else_stays_as_it_is() {
    for headers in headers() {
        let more = whole(&headers, ACK);
        let reset = whole(&headers, RST | FIN);
        let end = headers
            .clone()
            .tcp(1, 2, ACK | FIN, 5, 9)
            .build()
            .split_off(ETHERNET);
        for datagram in [&more, &reset, &end] {
            assert_eq!(read(datagram).split_end(datagram), None);
            assert_eq!(read(datagram).with_room(datagram), None);
        }
        assert_eq!(read(&end).without_bytes(&end), None);
    }
}

#[test]
fn what_is_no_whole_segment_is_not_read() {
    for headers in headers() {
        let whole = whole(&headers, ACK | FIN);
        for length in 0..whole.len() {
            assert!(Segment::read(&whole[..length]).is_none(), "{length}");
        }
        let udp = headers
            .udp(1, 2)
            .payload(&[0x5f; 60])
            .build()
            .split_off(ETHERNET);
        assert!(Segment::read(&udp).is_none());
    }
    let [_, headers, _] = headers();
    let mut fragment = whole(&headers, ACK | FIN);
    fragment[6] = 0x20;
    assert!(Segment::read(&fragment).is_none());
}
