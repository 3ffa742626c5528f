//! ICMP errors through translation (RFC 5508) on the pure core.

use pontoon_packet::MacAddr;
use pontoon_packet::build::Packet;
use pontoon_packet::checksum::checksum;
use pontoon_tests::lab::{
    C1, C2, EXTERNAL, EXTERNAL_MAC, GATEWAY, Lab, ROUTER, ROUTER_MAC, SERVER, Sent, UP, addr,
    gateway_mac, mac,
};
use pontoon_tests::outside::out;

/// An error from outside that quotes `about`, a frame as it left.
fn error_from(src: std::net::Ipv4Addr, kind: u8, code: u8, about: &[u8]) -> Packet {
    Packet::ethernet(ROUTER_MAC, EXTERNAL_MAC)
        .ipv4(src, EXTERNAL)
        .icmp(kind, code, [0; 4])
        .payload(&about[14..])
}

/// The same as the container gets it, quoting what it sent but for the hop that it was older.
fn for_container(src: std::net::Ipv4Addr, kind: u8, code: u8, about: &[u8]) -> Packet {
    Packet::ethernet(gateway_mac(), mac(C1))
        .ipv4(src, addr(C1))
        .ttl(63)
        .icmp(kind, code, [0; 4])
        .payload(&about[14..])
}

#[test]
fn errors_from_outside_reach_the_sender_with_its_own_ends() {
    for make in [
        |p: Packet| p.udp(5000, 53).payload(b"question"),
        |p: Packet| p.tcp(5000, 80, 2, 7, 0),
        |p: Packet| p.echo(5000, 1).payload(b"ping"),
    ] {
        let mut lab = Lab::new();
        let sent = lab.send(C1, &make(out(C1)).build());
        let original = make(out(C1).ttl(63)).build();
        for (src, kind, code) in [
            (SERVER, 3, 3),
            (ROUTER, 3, 1),
            (ROUTER, 11, 0),
            (ROUTER, 3, 13),
        ] {
            let error = error_from(src, kind, code, &sent[0].bytes).build();
            let expected = for_container(src, kind, code, &original).build();
            assert_eq!(
                lab.send(UP, &error),
                [Sent::plain(C1, expected)],
                "{kind}/{code}"
            );
        }
        assert_eq!(lab.datapath.flows(lab.now).len(), 1, "errors end nothing");
    }
}

#[test]
fn a_quotation_of_eight_transport_bytes_is_enough() {
    let mut lab = Lab::new();
    let sent = lab.send(C1, &out(C1).tcp(5000, 80, 2, 7, 0).build());
    let error = error_from(ROUTER, 3, 4, &sent[0].bytes[..42]).build();
    let original = out(C1).ttl(63).tcp(5000, 80, 2, 7, 0).build();
    let expected = for_container(ROUTER, 3, 4, &original[..42]).build();
    assert_eq!(lab.send(UP, &error), [Sent::plain(C1, expected)]);
    for length in 14..42 {
        let cut = error_from(ROUTER, 3, 4, &sent[0].bytes[..length]).build();
        assert_eq!(lab.send(UP, &cut), [], "{length}");
    }
}

#[test]
fn options_in_the_quotation_are_skipped() {
    let mut lab = Lab::new();
    let with = |p: Packet| p.options(&[148, 4, 0, 0]).udp(5000, 53).payload(b"x");
    let sent = lab.send(C1, &with(out(C1)).build());
    let expected = for_container(SERVER, 3, 3, &with(out(C1).ttl(63)).build()).build();
    let error = error_from(SERVER, 3, 3, &sent[0].bytes).build();
    assert_eq!(lab.send(UP, &error), [Sent::plain(C1, expected)]);
}

#[test]
fn wrong_checksums_are_dropped_but_the_quoted_transports_is_not_looked_at() {
    let mut lab = Lab::new();
    let sent = lab.send(C1, &out(C1).udp(5000, 53).payload(b"x").build());
    let mut outer = error_from(SERVER, 3, 3, &sent[0].bytes).build();
    outer[36] ^= 1;
    assert_eq!(lab.send(UP, &outer), []);
    let mut quoted = sent[0].bytes.clone();
    quoted[24] ^= 1;
    assert_eq!(lab.send(UP, &error_from(SERVER, 3, 3, &quoted).build()), []);
    let mut transport = sent[0].bytes.clone();
    transport[40] ^= 1;
    assert_eq!(
        lab.send(UP, &error_from(SERVER, 3, 3, &transport).build())
            .len(),
        1
    );
}

#[test]
fn errors_about_nothing_and_redirects_are_dropped() {
    let mut lab = Lab::new();
    let sent = lab.send(C1, &out(C1).udp(5000, 53).payload(b"x").build());
    let other = Packet::ethernet(EXTERNAL_MAC, ROUTER_MAC)
        .ipv4(EXTERNAL, SERVER)
        .udp(1, 2)
        .build();
    assert_eq!(lab.send(UP, &error_from(SERVER, 3, 3, &other).build()), []);
    assert_eq!(
        lab.send(UP, &error_from(ROUTER, 5, 1, &sent[0].bytes).build()),
        []
    );
    assert_eq!(lab.drops("nat.UnrelatedError"), 1);
}

#[test]
fn an_error_from_inside_shows_no_inside_address() {
    let mut lab = Lab::new();
    lab.publish(17, 5353, C2, 53);
    let client = Packet::ethernet(ROUTER_MAC, EXTERNAL_MAC).ipv4(SERVER, EXTERNAL);
    let sent = lab.send(UP, &client.clone().udp(9, 5353).payload(b"x").build());
    let refusal = Packet::ethernet(mac(C2), gateway_mac())
        .ipv4(addr(C2), SERVER)
        .icmp(3, 3, [0; 4])
        .payload(&sent[0].bytes[14..]);
    let quoted = client.ttl(63).udp(9, 5353).payload(b"x").build();
    let expected = Packet::ethernet(EXTERNAL_MAC, ROUTER_MAC)
        .ipv4(EXTERNAL, SERVER)
        .ttl(63)
        .icmp(3, 3, [0; 4])
        .payload(&quoted[14..]);
    assert_eq!(
        lab.send(C2, &refusal.build()),
        [Sent::plain(UP, expected.build())]
    );
}

#[test]
fn errors_about_hairpinned_flows_are_translated_twice() {
    let mut lab = Lab::new();
    lab.publish(17, 5353, C2, 53);
    let ask = Packet::ethernet(mac(C1), gateway_mac())
        .ipv4(addr(C1), EXTERNAL)
        .udp(9, 5353);
    let sent = lab.send(C1, &ask.payload(b"x").build());
    assert_eq!(sent[0].facts().ip().unwrap().src, GATEWAY);
    let refusal = Packet::ethernet(mac(C2), gateway_mac())
        .ipv4(addr(C2), GATEWAY)
        .icmp(3, 3, [0; 4])
        .payload(&sent[0].bytes[14..]);
    let told = lab.send(C2, &refusal.build());
    let facts = told[0].facts();
    let ip = facts.ip().unwrap();
    assert_eq!(
        (told[0].port, ip.src, ip.dst),
        (C1, EXTERNAL.into(), addr(C1).into())
    );
    let quoted = &told[0].bytes[42..];
    assert_eq!(
        (&quoted[12..16], &quoted[16..20]),
        (&addr(C1).octets()[..], &EXTERNAL.octets()[..])
    );
    assert_eq!(checksum(&told[0].bytes[34..]), 0);
}

#[test]
fn no_error_is_made_about_errors_groups_or_later_fragments() {
    let mut lab = Lab::new();
    let dying = Packet::ethernet(mac(C1), gateway_mac())
        .ipv4(addr(C1), SERVER)
        .ttl(1);
    let error = dying
        .icmp(3, 3, [0; 4])
        .payload(&out(C1).udp(1, 2).build()[14..]);
    assert_eq!(lab.send(C1, &error.build()), []);
    let broadcast = Packet::ethernet(mac(C1), MacAddr::BROADCAST)
        .ipv4(addr(C1), GATEWAY)
        .udp(1, 9);
    assert!(
        lab.send(C1, &broadcast.build())
            .iter()
            .all(|s| s.port != C1)
    );
}
