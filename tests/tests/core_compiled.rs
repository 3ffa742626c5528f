//! Flows whose way is compiled: what may take it, and what ends it.

use core::net::Ipv4Addr;
use core::time::Duration;

use pontoon_engine::config::AddressOwner;
use pontoon_packet::build::Packet;
use pontoon_packet::{Arp, MacAddr, arp};
use pontoon_tests::lab::{
    C1, C2, EXTERNAL, EXTERNAL_MAC, GATEWAY, Lab, ROUTER, ROUTER_MAC, SERVER, Sent, UP, addr,
    gateway_mac, mac,
};

fn query() -> Vec<u8> {
    Packet::ethernet(mac(C1), gateway_mac())
        .ipv4(addr(C1), SERVER)
        .udp(5000, 53)
        .build()
}

fn answer() -> Vec<u8> {
    Packet::ethernet(ROUTER_MAC, EXTERNAL_MAC)
        .ipv4(SERVER, EXTERNAL)
        .udp(53, 5000)
        .build()
}

/// One exchange, after which both directions are compiled.
fn compiled(lab: &mut Lab) {
    assert_eq!(lab.send(C1, &query()).len(), 1);
    assert_eq!(lab.send(UP, &answer()).len(), 1);
}

fn cached(lab: &Lab) -> u64 {
    lab.counter("flows.cached_frames")
}

fn announce(port: MacAddr, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let request = Arp {
        operation: arp::REQUEST,
        sender_mac: port,
        sender_ip: sender,
        target_mac: MacAddr::ZERO,
        target_ip: target,
    };
    arp::frame(MacAddr::BROADCAST, &request).to_vec()
}

#[test]
fn the_second_frame_of_each_direction_takes_the_compiled_way() {
    let mut lab = Lab::new();
    compiled(&mut lab);
    assert_eq!(cached(&lab), 0);

    let first = Lab::new().send(C1, &query());
    assert_eq!(lab.send(C1, &query())[0].port, first[0].port);
    assert_eq!(lab.send(UP, &answer())[0].port, C1);
    assert_eq!(cached(&lab), 2);
}

#[test]
fn a_flow_cannot_be_entered_from_another_port() {
    let mut lab = Lab::new();
    compiled(&mut lab);

    let forged = Packet::ethernet(ROUTER_MAC, EXTERNAL_MAC)
        .ipv4(addr(C1), SERVER)
        .udp(5000, 53)
        .build();

    assert_eq!(lab.send(UP, &forged), []);
    assert_eq!(lab.drops("route.ForeignSource"), 1);
    assert_eq!(cached(&lab), 0);
}

#[test]
fn a_datagram_on_the_compiled_way_still_needs_time_to_live_and_a_right_checksum() {
    let mut lab = Lab::new();
    compiled(&mut lab);
    let mut broken = query();
    let last = broken.len() - 1;
    broken[last - 1] ^= 0x55;
    broken[last] ^= 0x55;
    assert_eq!(lab.send(C1, &broken), []);
    assert_eq!(lab.drops("route.BadChecksum"), 1);

    let expiring = Packet::ethernet(mac(C1), gateway_mac())
        .ipv4(addr(C1), SERVER)
        .ttl(1)
        .udp(5000, 53)
        .build();
    let report = lab.send(C1, &expiring);
    assert_eq!(report.len(), 1);
    assert_eq!(report[0].port, C1);
    assert_eq!(lab.drops("route.TtlExceeded"), 1);
}

#[test]
fn a_container_that_repeats_its_address_ends_nobodys_compiled_way() {
    let mut lab = Lab::new();
    compiled(&mut lab);
    let repeated = announce(mac(C2), addr(C2), GATEWAY);
    for _ in 0..3 {
        lab.send(C2, &repeated);
    }

    lab.send(C1, &query());

    assert_eq!(cached(&lab), 1);
}

#[test]
fn a_next_hop_that_moves_is_followed_at_once() {
    let mut lab = Lab::new();
    compiled(&mut lab);
    let elsewhere = MacAddr([2, 0, 0, 0, 0, 0xee]);

    lab.send(UP, &announce(elsewhere, ROUTER, EXTERNAL));

    let sent = lab.send(C1, &query());
    assert_eq!(sent[0].facts().dst_mac, elsewhere);
}

#[test]
fn an_mtu_that_shrinks_is_heeded_at_once() {
    let mut lab = Lab::new();
    compiled(&mut lab);
    let large = Packet::ethernet(mac(C1), gateway_mac())
        .ipv4(addr(C1), SERVER)
        .udp(5000, 53)
        .payload(&[0; 1300])
        .build();
    assert_eq!(lab.send(C1, &large).len(), 1);

    let smaller = Lab::uplink_config(1280, AddressOwner::Kernel);
    lab.datapath.update_uplink(smaller).unwrap();
    lab.send(UP, &announce(ROUTER_MAC, ROUTER, EXTERNAL));

    let pieces: Vec<Sent> = lab.send(C1, &large);
    assert_eq!(pieces.len(), 2, "{pieces:?}");
}

#[test]
fn a_port_that_is_pulled_out_gets_nothing_more() {
    let mut lab = Lab::new();
    compiled(&mut lab);
    lab.datapath.remove_port(C1).unwrap();

    assert_eq!(lab.send(UP, &answer()), []);
}

#[test]
fn a_flow_does_not_inherit_the_ways_of_one_that_has_ended() {
    let mut lab = Lab::new();
    compiled(&mut lab);
    lab.pass(Duration::from_secs(200));
    assert_eq!(lab.counter("flows"), 0);
    let successor = Packet::ethernet(mac(C2), gateway_mac())
        .ipv4(addr(C2), SERVER)
        .udp(5000, 53)
        .build();
    lab.send(C2, &successor);

    assert_eq!(lab.send(UP, &answer())[0].port, C2);
}
