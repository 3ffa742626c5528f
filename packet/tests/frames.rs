//! Whole frames through `parse`, `rewrite` and `pretty`.
use core::net::{IpAddr, Ipv4Addr};

use pontoon_packet::build::Packet;
use pontoon_packet::rewrite::{Translation, decrement_ttl, translate};
use pontoon_packet::{Endpoint, Frame, MacAddr, Malformed, Offload, checksum, icmp, parse, pretty};
use proptest::prelude::*;

const A: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);
const B: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 3);

fn ipv4() -> Packet {
    Packet::ethernet(MacAddr::for_ipv4(A), MacAddr::for_ipv4(B)).ipv4(A, B)
}

#[test]
fn frame_cut_at_any_byte_never_parses_as_whole() {
    let packets = [
        ipv4().udp(1, 2).payload(b"hello"),
        ipv4().tcp(1, 2, 2, 3, 4).tcp_options(&[2, 4, 5, 180]),
        ipv4().vlan(5).echo(1, 2).payload(b"x"),
    ];
    for whole in packets.iter().map(Packet::build) {
        assert!(parse(&whole).is_ok());
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).is_err(), "cut at {length}");
            assert!(
                !pretty::line(&whole[..length], Offload::NONE)
                    .to_string()
                    .is_empty()
            );
        }
    }
}

#[test]
fn stack_of_tags_too_deep_to_address_is_malformed() {
    let mut packet = ipv4().udp(1, 2);
    for _ in 0..16_400 {
        packet = packet.vlan(1);
    }
    assert_eq!(parse(&packet.build()), Err(Malformed::Ethernet));
}

#[test]
fn fragment_that_may_hide_an_icmp_error_is_not_answered() {
    let first = ipv4()
        .protocol(1)
        .fragment(0, true)
        .payload(&[3; 16])
        .build();
    let udp = ipv4()
        .protocol(17)
        .fragment(0, true)
        .payload(&[3; 16])
        .build();
    assert!(!icmp::may_be_answered(&parse(&first).unwrap()));
    assert!(icmp::may_be_answered(&parse(&udp).unwrap()));
}

proptest! {
    #[test]
    fn sums_stay_right_after_any_translation(
        src in any::<(u32, u16)>(), dst in any::<(u32, u16)>(),
        payload in proptest::collection::vec(any::<u8>(), 0..64),
        kind in 0..3u8, half in any::<bool>(),
    ) {
        let packet = match kind {
            0 => ipv4().udp(7, 8),
            1 => ipv4().tcp(7, 8, 16, 9, 10),
            _ => ipv4().echo(7, 8),
        }.payload(&payload);
        let (mut bytes, offload) = if half { packet.half_done() } else { (packet.build(), Offload::NONE) };
        let end = |(addr, port): (u32, u16)| Some(Endpoint::new(IpAddr::V4(addr.into()), port));
        let mut frame = Frame { bytes: &mut bytes, offload };
        let facts = parse(frame.bytes).unwrap();
        decrement_ttl(&mut frame, facts.ip().unwrap());
        translate(&mut frame, &facts, Translation { src: end(src), dst: end(dst) });
        checksum::complete(&mut frame);
        let facts = parse(frame.bytes).unwrap();
        prop_assert_eq!(facts.ip().unwrap().src, IpAddr::V4(src.0.into()));
        prop_assert!(checksum::transport_is_valid(&frame, facts.ip().unwrap()));
    }
}
