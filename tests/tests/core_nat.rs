//! Translation on the pure core: whole frames in, whole frames out.

use std::time::Duration;

use pontoon_packet::build::Packet;
use pontoon_packet::parse::tcp_flags::{ACK, FIN, RST, SYN};
use pontoon_packet::{Facts, L4, MacAddr};
use pontoon_switch::PortId;
use pontoon_tests::lab::{
    C1, C2, EXTERNAL, EXTERNAL_MAC, GATEWAY, Lab, ROUTER_MAC, SERVER, Sent, UP, addr, gateway_mac,
    mac,
};

/// A packet from a container to the server outside, as the container sends it.
fn out(port: PortId) -> Packet {
    Packet::ethernet(mac(port), gateway_mac())
        .ipv4(addr(port), SERVER)
        .dont_fragment()
}

/// The same as it leaves, one hop older, under the uplink's address.
fn left() -> Packet {
    Packet::ethernet(EXTERNAL_MAC, ROUTER_MAC)
        .ipv4(EXTERNAL, SERVER)
        .dont_fragment()
        .ttl(63)
}

/// A packet from the server outside to the uplink.
fn back() -> Packet {
    Packet::ethernet(ROUTER_MAC, EXTERNAL_MAC)
        .ipv4(SERVER, EXTERNAL)
        .dont_fragment()
}

/// The same as a container gets it.
fn arrived(port: PortId) -> Packet {
    Packet::ethernet(gateway_mac(), mac(port))
        .ipv4(SERVER, addr(port))
        .dont_fragment()
        .ttl(63)
}

fn facts(sent: &[Sent]) -> Facts {
    assert_eq!(sent.len(), 1, "{sent:?}");
    sent[0].facts()
}

fn source_port(sent: &[Sent]) -> u16 {
    match facts(sent).ip().expect("IP").l4 {
        L4::Tcp(tcp) => tcp.src_port,
        L4::Udp(udp) => udp.src_port,
        L4::Icmp(icmp) => icmp.id,
        _ => panic!("{sent:?}"),
    }
}

#[test]
fn udp_is_masqueraded_exactly_both_ways() {
    let mut lab = Lab::new();
    let request = out(C1).udp(5000, 53).payload(b"question");
    let expected = left().udp(5000, 53).payload(b"question");
    assert_eq!(
        lab.send(C1, &request.build()),
        [Sent::plain(UP, expected.build())]
    );
    let reply = back().udp(53, 5000).payload(b"answer");
    let expected = arrived(C1).udp(53, 5000).payload(b"answer");
    assert_eq!(
        lab.send(UP, &reply.build()),
        [Sent::plain(C1, expected.build())]
    );
}

#[test]
fn half_done_sums_stay_half_done_and_right() {
    let mut lab = Lab::new();
    let (bytes, offload) = out(C1).tcp(40_000, 80, SYN, 1, 0).half_done();
    let (expected, expected_offload) = left().tcp(40_000, 80, SYN, 1, 0).half_done();
    let sent = lab.send_with(C1, &bytes, offload);
    assert_eq!(
        sent,
        [Sent {
            port: UP,
            bytes: expected,
            offload: expected_offload
        }]
    );
}

#[test]
fn a_tcp_connection_lives_and_dies() {
    let mut lab = Lab::new();
    let steps = [
        (
            C1,
            out(C1).tcp(40_000, 80, SYN, 100, 0),
            left().tcp(40_000, 80, SYN, 100, 0),
            "SYN_SENT",
        ),
        (
            UP,
            back().tcp(80, 40_000, SYN | ACK, 500, 101),
            arrived(C1).tcp(80, 40_000, SYN | ACK, 500, 101),
            "SYN_RECV",
        ),
        (
            C1,
            out(C1).tcp(40_000, 80, ACK, 101, 501),
            left().tcp(40_000, 80, ACK, 101, 501),
            "ESTABLISHED",
        ),
        (
            C1,
            out(C1).tcp(40_000, 80, FIN | ACK, 101, 501),
            left().tcp(40_000, 80, FIN | ACK, 101, 501),
            "FIN_WAIT",
        ),
        (
            UP,
            back().tcp(80, 40_000, ACK, 501, 102),
            arrived(C1).tcp(80, 40_000, ACK, 501, 102),
            "CLOSE_WAIT",
        ),
        (
            UP,
            back().tcp(80, 40_000, FIN | ACK, 501, 102),
            arrived(C1).tcp(80, 40_000, FIN | ACK, 501, 102),
            "LAST_ACK",
        ),
        (
            C1,
            out(C1).tcp(40_000, 80, ACK, 102, 502),
            left().tcp(40_000, 80, ACK, 102, 502),
            "TIME_WAIT",
        ),
    ];
    for (from, frame, expected, state) in steps {
        let to = if from == C1 { UP } else { C1 };
        assert_eq!(
            lab.send(from, &frame.build()),
            [Sent::plain(to, expected.build())],
            "{state}"
        );
        assert_eq!(lab.datapath.flows(lab.now)[0].state, state);
    }
    lab.pass(Duration::from_secs(122));
    assert!(lab.datapath.flows(lab.now).is_empty());
}

#[test]
fn a_clash_of_ports_is_resolved_within_the_class_and_replies_do_not_cross() {
    for (wanted, class) in [(123, 1..=511), (700, 600..=1023), (5000, 1024..=65_535)] {
        let mut lab = Lab::new();
        assert_eq!(
            source_port(&lab.send(C1, &out(C1).udp(wanted, 53).build())),
            wanted
        );
        let other = source_port(&lab.send(C2, &out(C2).udp(wanted, 53).build()));
        assert!(
            other != wanted && class.contains(&other),
            "{wanted} → {other}"
        );
        let sent = lab.send(UP, &back().udp(53, other).payload(b"two").build());
        assert_eq!(
            sent,
            [Sent::plain(
                C2,
                arrived(C2).udp(53, wanted).payload(b"two").build()
            )]
        );
    }
}

#[test]
fn two_containers_with_one_icmp_id_get_their_own_replies() {
    let mut lab = Lab::new();
    assert_eq!(source_port(&lab.send(C1, &out(C1).echo(77, 1).build())), 77);
    let other = source_port(&lab.send(C2, &out(C2).echo(77, 1).build()));
    assert_ne!(other, 77);
    let sent = lab.send(UP, &back().echo_reply(other, 1).build());
    assert_eq!(
        sent,
        [Sent::plain(C2, arrived(C2).echo_reply(77, 1).build())]
    );
    let sent = lab.send(UP, &back().echo_reply(77, 1).build());
    assert_eq!(
        sent,
        [Sent::plain(C1, arrived(C1).echo_reply(77, 1).build())]
    );
}

#[test]
fn mapping_is_endpoint_independent_and_filtering_is_not() {
    let mut lab = Lab::new();
    lab.send(C1, &out(C1).udp(5000, 53).build());
    let first = source_port(&lab.send(C2, &out(C2).udp(5000, 53).build()));
    let second = source_port(&lab.send(C2, &out(C2).udp(5000, 54).build()));
    assert_eq!(first, second, "one inside endpoint, one outside endpoint");
    assert_eq!(lab.send(UP, &back().udp(99, first).build()), []);
    assert_eq!(lab.drops("route.LeftToKernel"), 1);
}

#[test]
fn what_nobody_asked_for_is_met_with_silence() {
    let mut lab = Lab::new();
    for packet in [
        back().tcp(9, 45_555, SYN, 1, 0),
        back().udp(9, 9),
        back().echo_reply(9, 9),
    ] {
        assert_eq!(lab.send(UP, &packet.build()), []);
    }
    assert!(lab.datapath.flows(lab.now).is_empty());
}

#[test]
fn an_unanswered_udp_flow_lives_thirty_seconds_and_an_answered_one_two_minutes() {
    for (answered, life) in [(false, 30), (true, 120)] {
        for (wait, delivered) in [(life - 1, true), (life + 2, false)] {
            let mut lab = Lab::new();
            lab.send(C1, &out(C1).udp(5000, 53).build());
            if answered {
                lab.send(UP, &back().udp(53, 5000).build());
            }
            lab.pass(Duration::from_secs(wait));
            let sent = lab.send(UP, &back().udp(53, 5000).build());
            assert_eq!(
                !sent.is_empty(),
                delivered,
                "answered {answered}, after {wait} s"
            );
        }
    }
}

#[test]
fn an_icmp_query_may_be_answered_for_a_minute() {
    for (wait, delivered) in [(59, true), (62, false)] {
        let mut lab = Lab::new();
        lab.send(C1, &out(C1).echo(7, 1).build());
        lab.pass(Duration::from_secs(wait));
        assert_eq!(
            !lab.send(UP, &back().echo_reply(7, 1).build()).is_empty(),
            delivered
        );
    }
}

fn established() -> Lab {
    let mut lab = Lab::new();
    lab.send(C1, &out(C1).tcp(40_000, 80, SYN, 100, 0).build());
    lab.send(UP, &back().tcp(80, 40_000, SYN | ACK, 500, 101).build());
    lab.send(C1, &out(C1).tcp(40_000, 80, ACK, 101, 501).build());
    lab
}

fn state(lab: &Lab) -> String {
    lab.datapath.flows(lab.now)[0].state.clone()
}

#[test]
fn a_reset_out_of_the_window_is_dropped_and_changes_nothing() {
    let mut lab = established();
    for seq in [400, 500 + 70_000_000] {
        assert_eq!(
            lab.send(UP, &back().tcp(80, 40_000, RST, seq, 0).build()),
            [],
            "{seq}"
        );
    }
    assert_eq!(
        (state(&lab).as_str(), lab.drops("nat.InvalidTcp")),
        ("ESTABLISHED", 2)
    );
}

#[test]
fn a_reset_in_the_window_but_not_exact_passes_and_ends_nothing() {
    let mut lab = established();
    assert_eq!(
        lab.send(UP, &back().tcp(80, 40_000, RST, 600, 0).build())
            .len(),
        1
    );
    assert_eq!(state(&lab), "ESTABLISHED");
}

#[test]
fn an_exact_reset_ends_the_connection_after_ten_seconds() {
    let mut lab = established();
    assert_eq!(
        lab.send(UP, &back().tcp(80, 40_000, RST, 501, 0).build())
            .len(),
        1
    );
    assert_eq!(state(&lab), "CLOSE");
    lab.pass(Duration::from_secs(12));
    assert!(lab.datapath.flows(lab.now).is_empty());
}

#[test]
fn a_refused_connection_is_refused() {
    let mut lab = Lab::new();
    lab.send(C1, &out(C1).tcp(40_000, 80, SYN, 100, 0).build());
    let sent = lab.send(UP, &back().tcp(80, 40_000, RST | ACK, 0, 101).build());
    assert_eq!(
        sent,
        [Sent::plain(
            C1,
            arrived(C1).tcp(80, 40_000, RST | ACK, 0, 101).build()
        )]
    );
}

#[test]
fn a_client_that_died_and_came_back_gets_a_new_connection() {
    let mut lab = established();
    assert_eq!(
        lab.send(C1, &out(C1).tcp(40_000, 80, SYN, 9000, 0).build())
            .len(),
        1
    );
    assert_eq!(
        lab.send(UP, &back().tcp(80, 40_000, ACK, 501, 101).build())
            .len(),
        1,
        "challenge"
    );
    assert_eq!(
        lab.send(C1, &out(C1).tcp(40_000, 80, RST, 101, 0).build())
            .len(),
        1
    );
    assert_eq!(
        lab.send(C1, &out(C1).tcp(40_000, 80, SYN, 9000, 0).build())
            .len(),
        1
    );
    assert_eq!(
        lab.send(UP, &back().tcp(80, 40_000, SYN | ACK, 7000, 9001).build())
            .len(),
        1
    );
    assert_eq!(
        lab.send(C1, &out(C1).tcp(40_000, 80, ACK, 9001, 7001).build())
            .len(),
        1
    );
    assert_eq!(state(&lab), "ESTABLISHED");
}

#[test]
fn flags_that_nobody_sends_begin_nothing() {
    let mut lab = Lab::new();
    for flags in [0, FIN | SYN, SYN | RST, 0x29, FIN, RST] {
        assert_eq!(
            lab.send(C1, &out(C1).tcp(40_000, 80, flags, 1, 0).build()),
            [],
            "{flags:#x}"
        );
    }
    assert_eq!(lab.drops("nat.InvalidTcp"), 6);
    assert!(lab.datapath.flows(lab.now).is_empty());
}

#[test]
fn a_half_closed_connection_lives_as_long_as_something_moves() {
    let mut lab = established();
    lab.send(C1, &out(C1).tcp(40_000, 80, FIN | ACK, 101, 501).build());
    lab.send(UP, &back().tcp(80, 40_000, ACK, 501, 102).build());
    for n in 0..6 {
        lab.pass(Duration::from_secs(45));
        let byte = back().tcp(80, 40_000, ACK, 501 + n, 102).payload(b"x");
        assert_eq!(lab.send(UP, &byte.build()).len(), 1, "byte {n}");
    }
}

#[test]
fn udp_without_a_checksum_stays_without_and_a_wrong_one_is_dropped() {
    let mut lab = Lab::new();
    let mut bytes = out(C1).udp(5000, 53).payload(b"x").build();
    bytes[40..42].fill(0);
    let sent = lab.send(C1, &bytes);
    assert_eq!(sent[0].bytes[40..42], [0, 0]);
    bytes[40..42].copy_from_slice(&[0x12, 0x34]);
    assert_eq!(lab.send(C1, &bytes), []);
    assert_eq!(lab.drops("route.BadChecksum"), 1);
}

#[test]
fn a_published_port_leads_to_the_container_with_the_clients_address() {
    let mut lab = Lab::new();
    lab.publish_tcp(8080, C2, 80);
    let sent = lab.send(UP, &back().tcp(1234, 8080, SYN, 1, 0).build());
    assert_eq!(
        sent,
        [Sent::plain(
            C2,
            arrived(C2).tcp(1234, 80, SYN, 1, 0).build()
        )]
    );
    let sent = lab.send(C2, &out(C2).tcp(80, 1234, SYN | ACK, 9, 2).build());
    assert_eq!(
        sent,
        [Sent::plain(
            UP,
            left().tcp(8080, 1234, SYN | ACK, 9, 2).build()
        )]
    );
}

#[test]
fn hairpin_gives_the_gateways_address_to_the_client_even_to_oneself() {
    let mut lab = Lab::new();
    lab.publish_tcp(8080, C2, 80);
    for client in [C1, C2] {
        let syn = Packet::ethernet(mac(client), gateway_mac())
            .ipv4(addr(client), EXTERNAL)
            .tcp(1234, 8080, SYN, 1, 0);
        let sent = lab.send(client, &syn.build());
        let facts = facts(&sent);
        let ip = facts.ip().unwrap();
        assert_eq!(
            (sent[0].port, ip.src, ip.dst),
            (C2, GATEWAY.into(), addr(C2).into())
        );
    }
}

#[test]
fn another_network_reaches_a_published_port_by_its_published_address_only() {
    use pontoon_tests::lab::B1;
    let mut lab = Lab::new();
    lab.publish_tcp(8080, C1, 80);
    let gateway = MacAddr::for_ipv4([172, 19, 0, 1].into());
    let to = |dst, port| {
        Packet::ethernet(mac(B1), gateway)
            .ipv4(addr(B1), dst)
            .tcp(1234, port, SYN, 1, 0)
            .build()
    };
    let sent = lab.send(B1, &to(EXTERNAL, 8080));
    assert_eq!((sent.len(), sent[0].port), (1, C1));
    assert_eq!(lab.send(B1, &to(addr(C1), 80)), []);
    assert_eq!(lab.drops("route.Isolated"), 1);
}

#[test]
fn a_source_port_does_not_capture_a_published_service() {
    let mut lab = Lab::new();
    lab.publish(17, 5000, C2, 53);
    let chosen = source_port(&lab.send(C1, &out(C1).udp(5000, 53).build()));
    assert_ne!(chosen, 5000);
    let sent = lab.send(UP, &back().udp(53, 5000).build());
    assert_eq!((sent.len(), sent[0].port), (1, C2));
}

#[test]
fn a_published_port_that_changes_its_target_is_followed_at_the_next_datagram() {
    let mut lab = Lab::new();
    let first = lab.publish(17, 53, C1, 53);
    assert_eq!(lab.send(UP, &back().udp(9, 53).build())[0].port, C1);
    lab.datapath.unpublish(&first);
    lab.publish(17, 53, C2, 53);
    assert_eq!(lab.send(UP, &back().udp(9, 53).build())[0].port, C2);
}

#[test]
fn flows_end_with_their_container_and_with_their_address() {
    let mut lab = Lab::new();
    lab.send(C1, &out(C1).udp(5000, 53).build());
    lab.send(C2, &out(C2).udp(6000, 53).build());
    lab.datapath.remove_port(C1).unwrap();
    assert_eq!(lab.datapath.flows(lab.now).len(), 1);
    let mut config = Lab::uplink_config(1500, Default::default());
    config.addresses = vec!["192.0.2.9/24".parse().unwrap()];
    lab.datapath.update_uplink(config).unwrap();
    assert!(lab.datapath.flows(lab.now).is_empty());
}
