//! Caps, rates and fairness on the pure core.

use pontoon_engine::view::FlowEntry;
use pontoon_nat::Limits;
use pontoon_packet::L4;
use pontoon_packet::build::Packet;
use pontoon_packet::parse::tcp_flags::{ACK, RST, SYN};
use pontoon_tests::lab::{C1, C2, Lab, SERVER, Sent, UP, addr, gateway_mac, mac};
use pontoon_tests::outside::{back, connect, out};

fn small() -> Limits {
    Limits {
        flows: 100,
        flows_per_owner: 80,
        half_open_per_owner: 10,
        ..Limits::default()
    }
}

fn code_of(sent: &[Sent]) -> Option<(u8, u8)> {
    let facts = sent.first()?.facts();
    match facts.ip()?.l4 {
        L4::Icmp(header) => Some((header.kind, header.code)),
        _ => None,
    }
}

#[test]
fn who_floods_evicts_himself_and_established_flows_of_others_live() {
    let mut lab = Lab::with_limits(small());
    for number in 0..20 {
        connect(&mut lab, C1, 40_000 + number);
    }
    for number in 0..5000 {
        lab.send(C2, &out(C2).udp(1024 + number, 53).build());
        lab.send(C2, &out(C2).tcp(1024 + number, 80, SYN, 1, 0).build());
    }
    let flows = lab.datapath.flows(lab.now);
    assert!(flows.len() <= 100);
    let alive = flows
        .iter()
        .filter(|f| f.owner == C1.0 && f.state == "ESTABLISHED")
        .count();
    assert_eq!(alive, 20);
    for number in 0..10 {
        connect(&mut lab, C1, 50_000 + number);
    }
    let flows = lab.datapath.flows(lab.now);
    assert_eq!(
        flows
            .iter()
            .filter(|f| f.owner == C1.0 && f.assured)
            .count(),
        30
    );
}

#[test]
fn handshakes_of_one_container_are_bounded() {
    let mut lab = Lab::with_limits(small());
    for number in 0..50 {
        lab.send(C2, &out(C2).tcp(1024 + number, 80, SYN, 1, 0).build());
    }
    let flows = lab.datapath.flows(lab.now);
    assert_eq!(flows.iter().filter(|f| f.state == "SYN_SENT").count(), 10);
}

#[test]
fn handshakes_that_begin_anew_count_with_the_others() {
    let mut lab = Lab::with_limits(small());
    let syn = |number| out(C2).tcp(1024 + number, 80, SYN, 1, 0).build();
    for number in 0..50 {
        lab.send(C2, &syn(number));
        let refusal = back().tcp(80, 1024 + number, RST | ACK, 0, 2);
        lab.send(UP, &refusal.build());
    }
    let state = |lab: &Lab, state: &str| {
        let flows = lab.datapath.flows(lab.now);
        flows.iter().filter(|flow| flow.state == state).count()
    };
    assert_eq!(state(&lab, "CLOSE"), 50);

    for number in 0..50 {
        lab.send(C2, &syn(number));
    }

    assert_eq!(state(&lab, "SYN_SENT"), 10);
}

#[test]
fn a_share_full_of_established_flows_is_refused_with_an_error() {
    let mut lab = Lab::with_limits(small());
    for number in 0..80 {
        connect(&mut lab, C1, 40_000 + number);
    }
    let sent = lab.send(C1, &out(C1).udp(1, 53).build());
    assert_eq!((sent[0].port, code_of(&sent)), (C1, Some((3, 13))));
    assert_eq!(lab.drops("nat.ShareFull"), 1);
    assert_eq!(lab.send(C2, &out(C2).udp(1, 53).build())[0].port, UP);
}

#[test]
fn errors_to_one_container_are_rate_limited() {
    let mut lab = Lab::new();
    let dying = out(C1).ttl(1).udp(1, 2).build();
    let answered = (0..2000)
        .filter(|_| !lab.send(C1, &dying).is_empty())
        .count();
    assert!((1..=7).contains(&answered), "{answered}");
    assert!(lab.drops("route.TtlExceeded") == 2000);
}

#[test]
fn fragments_that_are_never_completed_cost_only_their_sender() {
    let mut lab = Lab::new();
    let first = |port, id: u16| {
        let packet = Packet::ethernet(mac(port), gateway_mac()).ipv4(addr(port), SERVER);
        packet
            .id(id)
            .fragment(0, true)
            .protocol(17)
            .payload(&[1; 1400])
            .build()
    };
    lab.send(C1, &first(C1, 7));
    for id in 0..20_000 {
        lab.send(C2, &first(C2, id));
    }
    let last = Packet::ethernet(mac(C1), gateway_mac())
        .ipv4(addr(C1), SERVER)
        .id(7);
    let whole = lab.send(
        C1,
        &last
            .fragment(1400, false)
            .protocol(17)
            .payload(&[1; 8])
            .build(),
    );
    assert_eq!(
        lab.drops("nat.FragmentsFull"),
        0,
        "the sender's own oldest make room"
    );
    assert!(
        whole.is_empty() && lab.drops("malformed.Udp") == 1,
        "put together, and looked at"
    );
}

/// A listing in parts, between which frames pass, has what one in one go has.
#[test]
fn flows_are_listed_in_parts() {
    let mut lab = Lab::new();
    for number in 0..1000 {
        connect(&mut lab, C1, 20_000 + number);
        lab.send(C1, &out(C1).udp(1024 + number, 53).build());
    }
    lab.pass(std::time::Duration::from_secs(40));
    let part = |first: usize| lab.datapath.flows_at(lab.now, first..first + 300);
    let parts: Vec<_> = (0..).step_by(300).map_while(part).collect();
    assert_eq!(
        parts.len(),
        7,
        "the datagrams' places are looked at as well"
    );
    let listed: Vec<_> = parts.into_iter().flatten().map(FlowEntry::from).collect();
    assert_eq!(listed.len(), 1000);
    assert_eq!(listed, lab.datapath.flows(lab.now));
}

#[test]
fn ten_thousand_flows_end_and_leave_nothing() {
    let mut lab = Lab::new();
    for number in 0..10_000 {
        lab.send(C1, &out(C1).udp(1024 + number, 53).build());
    }
    assert_eq!(lab.datapath.flows(lab.now).len(), 10_000);
    lab.pass(std::time::Duration::from_secs(40));
    assert!(lab.datapath.flows(lab.now).is_empty());
    assert_eq!(lab.datapath.poll_timeout(), None, "nothing to wake up for");
}
