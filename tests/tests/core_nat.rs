//! Masquerade on the pure core: whole frames in, whole frames out.

use std::time::Duration;

use pontoon_packet::parse::tcp_flags::SYN;
use pontoon_tests::lab::{C1, C2, Lab, Sent, UP};
use pontoon_tests::outside::{arrived, back, left, out, source_port};

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
