//! What flows and fragments cost in memory, against what is counted for them.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../tests/src/counting.rs"]
mod counting;
mod world;

use std::net::{IpAddr, Ipv4Addr};

use counting::held;
use pontoon_nat::{Limits, Reassembler, Refusal, SourceNat};
use pontoon_packet::parse;
use world::*;

fn fragment(id: u16, offset: u16, more: bool, len: usize) -> Vec<u8> {
    packet(INSIDE, SERVER)
        .protocol(17)
        .id(id)
        .fragment(offset, more)
        .payload(&vec![0; len])
        .build()
}

#[test]
fn the_smallest_fragments_hold_no_more_than_the_share_says() {
    let limits = Limits::default();
    let share = limits.fragment_bytes_per_owner;
    let mut reassembler = Reassembler::new(limits, [1, 2, 3, 4]);
    let before = held();
    for id in 0..64 {
        for part in 0..4000 {
            let bytes = fragment(id, 16 + part * 16, true, 8);
            let facts = parse(&bytes).unwrap();
            // Most are refused; what is held is what counts.
            let _ = reassembler.insert(at(1), OWNER, &bytes, &facts);
        }
    }

    let real = (held() - before) as usize;

    assert!(real > share / 4, "{real}: the attack must fill something");
    assert!(real <= share * 5 / 4, "{real} held, the share is {share}");
}

#[test]
fn a_datagram_longer_than_ip_allows_is_refused_and_leaves_nothing() {
    let mut reassembler = Reassembler::new(Limits::default(), [1, 2, 3, 4]);
    let mut last = Ok(None);
    for offset in (0..65_528).step_by(1400) {
        let more = offset + 1400 < 65_528;
        let len = if more { 1400 } else { 65_535 - offset };
        let bytes = fragment(1, offset as u16, more, len);
        let facts = parse(&bytes).unwrap();
        last = reassembler.insert(at(1), OWNER, &bytes, &facts);
    }

    assert_eq!(last.map(|_| ()), Err(Refusal::OversizedDatagram));
    assert_eq!(reassembler.bytes(), 0);
}

#[test]
fn a_tracked_flow_leaves_16_of_256_bytes_for_its_compiled_ways() {
    let many = Limits {
        flows: 1 << 16,
        flows_per_owner: 1 << 16,
        ..Limits::default()
    };
    let mut world = World::new(many);
    let before = held();
    for i in 0..1_u32 << 16 {
        let subnet = (i >> 14) as u8;
        let src = Ipv4Addr::new(10, subnet, 0, 2);
        let external = IpAddr::V4(Ipv4Addr::new(100, 64, subnet, 1));
        let query = packet(src, SERVER).udp(2000 + (i & 0x3fff) as u16, 53);
        world
            .send(1, &query, SourceNat::Masquerade(external), OWNER)
            .unwrap();
    }

    let each = (held() - before) as usize / world.nat.len();

    assert!(each <= 240, "{each} bytes");
}
