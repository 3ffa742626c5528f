//! TCP connections through the pure core: states, resets, and what is no segment of theirs.

use std::time::Duration;

use pontoon_packet::parse::tcp_flags::{ACK, FIN, RST, SYN};
use pontoon_tests::lab::{C1, Lab, Sent, UP};
use pontoon_tests::outside::{arrived, back, connect, left, out};

fn established() -> Lab {
    let mut lab = Lab::new();
    connect(&mut lab, C1, 40_000);
    lab
}

fn state(lab: &Lab) -> String {
    lab.datapath.flows(lab.now)[0].state.clone()
}

#[test]
fn a_tcp_connection_lives_and_dies() {
    let mut lab = Lab::new();
    let to_server = |flags, seq, ack| {
        let at_both_sides = [out(C1), left()].map(|p| p.tcp(40_000, 80, flags, seq, ack).build());
        (C1, at_both_sides)
    };
    let to_client = |flags, seq, ack| {
        let at_both_sides =
            [back(), arrived(C1)].map(|p| p.tcp(80, 40_000, flags, seq, ack).build());
        (UP, at_both_sides)
    };
    let steps = [
        (to_server(SYN, 100, 0), "SYN_SENT"),
        (to_client(SYN | ACK, 500, 101), "SYN_RECV"),
        (to_server(ACK, 101, 501), "ESTABLISHED"),
        (to_server(FIN | ACK, 101, 501), "FIN_WAIT"),
        (to_client(ACK, 501, 102), "CLOSE_WAIT"),
        (to_client(FIN | ACK, 501, 102), "LAST_ACK"),
        (to_server(ACK, 102, 502), "TIME_WAIT"),
    ];
    for ((from, [frame, expected]), name) in steps {
        let to = if from == C1 { UP } else { C1 };
        let sent = lab.send(from, &frame);
        assert_eq!(sent, [Sent::plain(to, expected)], "{name}");
        assert_eq!(state(&lab), name);
    }
    lab.pass(Duration::from_secs(122));
    assert!(lab.datapath.flows(lab.now).is_empty());
}

/// RFC 9293 §3.10.7.3: a server that remembers an earlier connection between the same ends answers the SYN
/// by an acknowledgement of that one's bytes, which the client resets.
#[test]
fn a_client_resets_what_a_server_remembers_and_opens_its_connection() {
    let mut lab = Lab::new();
    let [syn, sent] = [out(C1), left()].map(|p| p.tcp(40_000, 80, SYN, 100, 0).build());
    assert_eq!(lab.send(C1, &syn), [Sent::plain(UP, sent.clone())]);
    for old in [7_000, 3_000_000_000] {
        let [challenge, taken] =
            [back(), arrived(C1)].map(|p| p.tcp(80, 40_000, ACK, 1, old).build());
        assert_eq!(lab.send(UP, &challenge), [Sent::plain(C1, taken)]);
        let [reset, passed] = [out(C1), left()].map(|p| p.tcp(40_000, 80, RST, old, 0).build());
        assert_eq!(lab.send(C1, &reset), [Sent::plain(UP, passed)], "{old}");
        assert_eq!(state(&lab), "SYN_SENT");
    }
    assert_eq!(lab.send(C1, &syn), [Sent::plain(UP, sent)]);
    assert_eq!(
        lab.send(UP, &back().tcp(80, 40_000, SYN | ACK, 500, 101).build())
            .len(),
        1
    );
    assert_eq!(state(&lab), "SYN_RECV");
}

#[test]
fn a_client_that_gives_up_resets_its_own_syn() {
    let mut lab = Lab::new();
    lab.send(C1, &out(C1).tcp(40_000, 80, SYN, 100, 0).build());
    assert_eq!(
        lab.send(C1, &out(C1).tcp(40_000, 80, RST, 101, 0).build())
            .len(),
        1
    );
    assert_eq!(state(&lab), "CLOSE");
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
    let to_server = |flags, seq, ack| (C1, out(C1).tcp(40_000, 80, flags, seq, ack));
    let to_client = |flags, seq, ack| (UP, back().tcp(80, 40_000, flags, seq, ack));
    for (step, (from, packet)) in [
        ("SYN", to_server(SYN, 9000, 0)),
        ("challenge", to_client(ACK, 501, 101)),
        ("reset", to_server(RST, 101, 0)),
        ("SYN again", to_server(SYN, 9000, 0)),
        ("SYN-ACK", to_client(SYN | ACK, 7000, 9001)),
        ("ACK", to_server(ACK, 9001, 7001)),
    ] {
        assert_eq!(lab.send(from, &packet.build()).len(), 1, "{step}");
    }
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
