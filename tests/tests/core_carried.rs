//! Flows that the kernel carries: which do, which never do, and what ends it, with real frames.

#![allow(clippy::unwrap_used, reason = "tests")]

use core::net::Ipv4Addr;
use core::time::Duration;

use pontoon_engine::carried::{Change, EVERY, LOOKS, Reach, SILENCE};
use pontoon_engine::config::{Guarding, PortConfig, PortId};
use pontoon_nat::Limits;
use pontoon_packet::build::Packet;
use pontoon_packet::parse::protocol;
use pontoon_packet::parse::tcp_flags::{ACK, FIN, PSH, RST, SYN, URG};
use pontoon_packet::{Arp, MacAddr, Offload, arp};
use pontoon_switch::LinkState;
use pontoon_tests::carriage::Geared;
use pontoon_tests::lab::{
    A, C1, C2, C3, EXTERNAL, EXTERNAL_MAC, GATEWAY, Lab, ROUTER, ROUTER_MAC, SERVER, UP, USER,
    addr, gateway_mac, mac,
};

/// Frames after which a flow is carried, wherever the counting stands.
const ENOUGH: u32 = EVERY * (LOOKS as u32 + 1);

fn geared() -> Geared {
    Geared::new(Lab::new(), &[C1, C2, C3, UP])
}

fn between(from: PortId, to: PortId) -> Packet {
    Packet::ethernet(mac(from), mac(to)).ipv4(addr(from), addr(to))
}

fn outward() -> Packet {
    Packet::ethernet(mac(C1), gateway_mac())
        .ipv4(addr(C1), SERVER)
        .dont_fragment()
}

fn inward() -> Packet {
    Packet::ethernet(ROUTER_MAC, EXTERNAL_MAC)
        .ipv4(SERVER, EXTERNAL)
        .dont_fragment()
}

fn query() -> Packet {
    outward().udp(5000, 53)
}

fn answer() -> Packet {
    inward().udp(53, 5000)
}

/// Sends a frame as often as makes its flow be carried, if any may be.
fn load(geared: &mut Geared, port: PortId, packet: &Packet) {
    let frame = packet.build();
    for _ in 0..ENOUGH {
        geared.send(port, &frame);
    }
}

/// A masqueraded flow of datagrams, both directions of which are carried.
fn carried_query(geared: &mut Geared) {
    geared.send(C1, &query().build());
    geared.send(UP, &answer().build());
    load(geared, C1, &query());
    load(geared, UP, &answer());
    assert_eq!(geared.kernel.len(), 2);
}

fn handshake(geared: &mut Geared, flags: &[(PortId, Packet)]) {
    for (port, packet) in flags {
        assert_eq!(geared.send(*port, &packet.build()).len(), 1);
    }
}

/// A masqueraded connection, both directions of which are carried.
fn carried_connection(geared: &mut Geared) {
    handshake(
        geared,
        &[
            (C1, outward().tcp(5000, 80, SYN, 100, 0)),
            (UP, inward().tcp(80, 5000, SYN | ACK, 500, 101)),
            (C1, outward().tcp(5000, 80, ACK, 101, 501)),
        ],
    );
    load(geared, C1, &outward().tcp(5000, 80, ACK | PSH, 101, 501));
    load(geared, UP, &inward().tcp(80, 5000, ACK, 501, 101));
    assert_eq!(geared.kernel.len(), 2);
}

fn offloaded(geared: &Geared) -> Vec<bool> {
    let flows = geared.lab.datapath.flows(geared.lab.now);
    flows.iter().map(|flow| flow.offload).collect()
}

#[test]
fn a_stream_within_a_network_is_carried_as_it_is() {
    let mut geared = geared();
    let packet = between(C1, C2).tcp(5000, 80, ACK, 1, 1).payload(b"data");
    load(&mut geared, C1, &packet);
    assert_eq!(geared.kernel.len(), 1);

    let frame = packet.build();
    let before = geared.carried;
    let sent = geared.send(C1, &frame);
    assert_eq!(geared.carried, before + 1);
    assert_eq!((sent[0].port, &sent[0].bytes), (C2, &frame));
}

#[test]
fn a_translated_flow_is_carried_both_ways_as_the_engine_would() {
    for half_done in [false, true] {
        let (mut geared, mut alone) = (geared(), Lab::new());
        carried_query(&mut geared);
        alone.send(C1, &query().build());
        alone.send(UP, &answer().build());
        for (port, packet) in [(C1, query()), (UP, answer())] {
            let packet = packet.payload(b"more");
            let (bytes, offload) = match half_done {
                true => packet.half_done(),
                false => (packet.build(), Offload::NONE),
            };
            let before = geared.carried;
            let sent = geared.send_with(port, &bytes, offload);
            assert_eq!(geared.carried, before + 1);
            assert_eq!(sent, alone.send_with(port, &bytes, offload));
        }
    }
}

#[test]
fn what_was_carried_is_in_the_counters_of_flow_and_ports() {
    let mut geared = geared();
    let mut alone = Lab::new();
    carried_query(&mut geared);
    alone.send(C1, &query().build());
    alone.send(UP, &answer().build());
    for (port, packet) in [(C1, query()), (UP, answer())] {
        let frame = packet.build();
        (0..ENOUGH).for_each(|_| drop(alone.send(port, &frame)));
        for _ in 0..1000 {
            geared.send(port, &frame);
            alone.send(port, &frame);
        }
    }
    geared.report();
    let of = |lab: &Lab| {
        let flows = lab.datapath.flows(lab.now);
        let flow = &flows[0];
        let traffic = (flow.original_traffic, flow.reply_traffic);
        (traffic, lab.datapath.stats().ports)
    };
    assert_eq!(of(&geared.lab), of(&alone));
    assert_eq!(offloaded(&geared), [true]);
    assert!(geared.lab.counter("carried.frames") >= 2000);
}

#[test]
fn a_flow_is_met_whoever_it_takes_turns_with() {
    let flow = between(C1, C2).udp(5000, 53).build();
    let other = between(C1, C2).echo(1, 1).build();
    for turns in 2..=12 {
        for turn in 0..turns {
            let mut geared = geared();
            for nth in 0..turns * ENOUGH {
                let frame = if nth % turns == turn { &flow } else { &other };
                geared.send(C1, frame);
            }
            assert_eq!(geared.kernel.len(), 1, "{turn} of {turns}");
        }
    }
}

#[test]
fn what_is_not_plain_is_never_carried() {
    let tcp = |flags| between(C1, C2).tcp(5000, 80, flags, 1, 1);
    let udp = || between(C1, C2).udp(5000, 53);
    let cases = [
        ("SYN", tcp(SYN)),
        ("SYN-ACK", tcp(SYN | ACK)),
        ("FIN", tcp(FIN | ACK)),
        ("RST", tcp(RST | ACK)),
        ("URG", tcp(URG | ACK)),
        ("no ACK", tcp(PSH)),
        ("options", udp().options(&[1; 4])),
        ("fragment", udp().fragment(0, true).payload(&[0; 64])),
        ("tag", udp().vlan(7)),
        ("ICMP", between(C1, C2).echo(1, 1)),
        ("another protocol", between(C1, C2).protocol(47)),
        (
            "group",
            Packet::ethernet(mac(C1), MacAddr::BROADCAST)
                .ipv4(addr(C1), addr(C2))
                .udp(1, 2),
        ),
    ];
    for (name, packet) in cases {
        let mut geared = geared();
        load(&mut geared, C1, &packet);
        assert!(geared.kernel.is_empty(), "{name}");
    }
}

#[test]
fn what_is_routed_and_not_plain_is_never_carried() {
    let unsummed = |packet: Packet, at: usize| {
        let mut frame = packet.build();
        frame[at..at + 2].fill(0);
        frame
    };
    let cut = |src, dst, from, to| {
        let packet = match src == addr(C1) {
            true => Packet::ethernet(mac(C1), gateway_mac()),
            false => Packet::ethernet(ROUTER_MAC, EXTERNAL_MAC),
        };
        packet.ipv4(src, dst).udp(from, to).build()
    };
    let cases = [
        ("no sum", unsummed(query(), 40), unsummed(answer(), 40)),
        (
            "may be cut",
            cut(addr(C1), SERVER, 5000, 53),
            cut(SERVER, EXTERNAL, 53, 5000),
        ),
        (
            "options",
            query().options(&[1; 4]).build(),
            answer().options(&[1; 4]).build(),
        ),
        ("last hop", query().ttl(1).build(), answer().ttl(1).build()),
    ];
    for (name, there, back) in cases {
        let mut geared = geared();
        geared.send(C1, &query().build());
        geared.send(UP, &answer().build());
        for _ in 0..ENOUGH {
            geared.send(C1, &there);
            geared.send(UP, &back);
        }
        assert!(geared.kernel.is_empty(), "{name}");
    }
}

#[test]
fn a_connection_that_was_not_answered_is_not_carried_and_datagrams_are() {
    let mut geared = geared();
    let segment = outward().tcp(5000, 80, ACK, 101, 501);
    load(&mut geared, C1, &segment);
    load(&mut geared, C1, &segment);
    assert!(geared.kernel.is_empty());
    load(&mut geared, C1, &query());
    assert_eq!(geared.kernel.len(), 1);
}

#[test]
fn what_ends_at_a_socket_of_the_engines_is_not_carried() {
    use pontoon_tests::lab::U1;
    let lab = Lab::with_user_uplink(Limits::default());
    let mut geared = Geared::new(lab, &[U1, USER]);
    let gateway = MacAddr::for_ipv4(Ipv4Addr::new(172, 20, 0, 1));
    let there = Packet::ethernet(mac(U1), gateway).ipv4(addr(U1), SERVER);
    let back = Packet::ethernet(MacAddr::ZERO, MacAddr::ZERO).ipv4(SERVER, addr(U1));
    for _ in 0..ENOUGH {
        let there = there.clone().dont_fragment().udp(5000, 53);
        assert_eq!(geared.send(U1, &there.build()).len(), 1);
        let back = back.clone().dont_fragment().udp(53, 5000);
        assert_eq!(geared.send(USER, &back.build()).len(), 1);
    }
    assert!(geared.kernel.is_empty());
}

#[test]
fn ports_that_the_kernel_does_not_reach_are_the_engines() {
    let mut geared = Geared::new(Lab::new(), &[C1]);
    load(&mut geared, C1, &between(C1, C2).udp(5000, 53));
    load(&mut geared, C2, &between(C2, C1).udp(53, 5000));
    assert!(geared.kernel.is_empty());
}

#[test]
fn what_may_be_too_long_for_where_it_goes_is_the_engines() {
    let mut geared = geared();
    geared.lab.datapath.set_mtu(C2, 1400).unwrap();
    load(&mut geared, C1, &between(C1, C2).udp(5000, 53));
    assert!(geared.kernel.is_empty());
    load(&mut geared, C2, &between(C2, C1).udp(53, 5000));
    assert_eq!(geared.kernel.len(), 1);

    let mut geared = self::geared();
    let way = pontoon_engine::config::UplinkConfig {
        mtu: 1280,
        ..Lab::uplink_config(1280, Default::default())
    };
    geared.lab.datapath.update_uplink(way).unwrap();
    geared.lab.learn_router();
    geared.settle();
    geared.send(C1, &query().build());
    geared.send(UP, &answer().build());
    load(&mut geared, C1, &query());
    assert!(geared.kernel.is_empty());
    load(&mut geared, UP, &answer());
    assert_eq!(geared.kernel.len(), 1);
}

/// The guard asks who plays DHCP server, and who has no address; the kernel compares no ports within a network.
#[test]
fn what_a_guard_asks_more_of_is_not_carried() {
    let mut geared = geared();
    load(&mut geared, C1, &between(C1, C2).udp(5000, 53));
    assert_eq!(geared.kernel.len(), 1);
    for (from, to) in [(67, 68), (67, 1000), (1000, 68)] {
        let forged = between(C1, C2).udp(from, to).build();
        assert_eq!(geared.send(C1, &forged), []);
        let mut open = self::geared();
        replug(&mut open, C1, Guarding::Off);
        assert_eq!(open.send(C1, &forged).len(), 1, "{from} to {to}");
    }
    let mut geared = self::geared();
    let nobody = Packet::ethernet(mac(C1), mac(C2)).ipv4(Ipv4Addr::UNSPECIFIED, addr(C2));
    load(&mut geared, C1, &nobody.udp(68, 1000));
    assert!(geared.kernel.is_empty());
}

fn replug(geared: &mut Geared, port: PortId, guard: Guarding) {
    geared.lab.datapath.remove_port(port).unwrap();
    geared.lab.plug(port, A, guard);
    geared.lab.datapath.set_reach(port, Reach::Kernel);
    geared.settle();
}

#[test]
fn a_guard_holds_for_what_is_carried() {
    let forged_mac = Packet::ethernet(mac(C3), mac(C2)).ipv4(addr(C1), addr(C2));
    let forged_address = Packet::ethernet(mac(C1), mac(C2)).ipv4(addr(C3), addr(C2));
    let mut geared = geared();
    load(&mut geared, C1, &between(C1, C2).udp(5000, 53));
    load(&mut geared, C3, &between(C3, C2).udp(5000, 53));
    assert_eq!(geared.kernel.len(), 2);
    for forged in [forged_mac, forged_address, between(C3, C2)] {
        let forged = forged.udp(5000, 53).build();
        assert_eq!(geared.send(C1, &forged), []);
        let mut open = self::geared();
        replug(&mut open, C1, Guarding::Off);
        open.lab.datapath.remove_port(C3).unwrap();
        open.settle();
        assert_eq!(open.send(C1, &forged).len(), 1);
    }
}

#[test]
fn who_finishes_or_resets_a_connection_ends_its_being_carried() {
    for flags in [FIN | ACK, RST | ACK, RST] {
        for (port, packet) in [
            (C1, outward().tcp(5000, 80, flags, 101, 501)),
            (UP, inward().tcp(80, 5000, flags, 501, 101)),
        ] {
            let mut geared = geared();
            carried_connection(&mut geared);
            let carried = geared.carried;
            assert_eq!(geared.send(port, &packet.build()).len(), 1);
            assert!(geared.kernel.is_empty());
            assert_eq!(geared.carried, carried);
            assert_eq!(offloaded(&geared), [false]);
        }
    }
}

/// However a connection ends, the kernel carries nothing of it once that is said.
#[test]
fn what_the_table_forgets_the_kernel_leaves() {
    type End = fn(&mut Geared);
    let ends: [(&str, End); 6] = [
        ("end", |geared| {
            let facts = pontoon_packet::parse(&query().build()).unwrap();
            let datapath = &mut geared.lab.datapath;
            let id = datapath.connection(geared.lab.now, &facts).unwrap();
            datapath.end(id);
        }),
        ("time", |geared| {
            drop(geared.lab.pass(Duration::from_secs(200)))
        }),
        ("its port", |geared| {
            geared.lab.datapath.remove_port(C1).unwrap()
        }),
        ("orphans", |geared| {
            geared.lab.datapath.remove_port(C1).unwrap();
            geared.lab.datapath.end_orphans();
        }),
        ("address", |geared| {
            let config = pontoon_engine::config::UplinkConfig {
                addresses: vec!["192.0.2.7/24".parse().unwrap()],
                ..Lab::uplink_config(1500, Default::default())
            };
            geared.lab.datapath.update_uplink(config).unwrap();
        }),
        ("published over it", |geared| {
            geared.lab.publish(protocol::UDP, 5000, C2, 53);
        }),
    ];
    for (name, end) in ends {
        let mut geared = geared();
        carried_query(&mut geared);
        end(&mut geared);
        assert!(!geared.kernel.is_empty());
        geared.settle();
        assert!(geared.kernel.is_empty(), "{name}");
        assert!(!geared.lab.datapath.carries(), "{name}");
    }
}

#[test]
fn whoever_changes_a_rule_or_a_port_has_everything_left() {
    type Change = fn(&mut Lab);
    let changes: [(&str, Change); 5] = [
        ("publish", |lab| {
            lab.publish_tcp(9000, C2, 80);
        }),
        ("mtu of an uplink", |lab| {
            lab.datapath.set_mtu(UP, 1400).unwrap();
            lab.datapath.set_mtu(UP, 1500).unwrap();
        }),
        ("link of an uplink", |lab| {
            lab.datapath.set_link(UP, LinkState::Up).unwrap()
        }),
        ("port", |lab| lab.datapath.remove_port(C3).unwrap()),
        ("reach", |lab| lab.datapath.set_reach(C3, Reach::Engine)),
    ];
    for (name, change) in changes {
        let mut geared = geared();
        carried_query(&mut geared);
        let plan = geared.lab.datapath.carriage_plan();
        change(&mut geared.lab);
        assert_eq!(geared.lab.datapath.carriage_plan(), plan + 1, "{name}");
        geared.settle();
        assert!(geared.kernel.is_empty(), "{name}");
        assert_eq!(offloaded(&geared), [false]);
        carried_query(&mut geared);
    }
}

/// What a container's owner may do to its interface, as often as he likes.
#[test]
fn whose_link_comes_and_goes_has_only_what_is_his_left() {
    let flap = |geared: &mut Geared, port| {
        let datapath = &mut geared.lab.datapath;
        for state in [LinkState::Down, LinkState::Up] {
            datapath.set_link(port, state).unwrap();
            datapath.set_mtu(port, 1500).unwrap();
        }
        for mtu in [1400, 1500] {
            datapath.set_mtu(port, mtu).unwrap();
        }
        geared.settle();
    };
    let mut geared = geared();
    carried_query(&mut geared);
    for (from, to) in [(C1, C2), (C2, C1), (C1, C3), (C3, C2)] {
        load(&mut geared, from, &between(from, to).udp(5000, 53));
    }
    assert_eq!(geared.kernel.len(), 6);
    for _ in 0..50 {
        flap(&mut geared, C3);
        assert_eq!(geared.kernel.len(), 4, "others' stay");
    }
    assert_eq!(geared.lab.counter("carried.flushed"), 0);
    flap(&mut geared, C1);
    assert!(geared.kernel.is_empty());
    assert_eq!(offloaded(&geared), [false]);
    assert_eq!(geared.lab.counter("carried.flushed"), 0);
}

/// However much changes meanwhile, it waits for no more than one.
#[test]
fn what_changes_while_orders_are_obeyed_becomes_one() {
    let mut geared = geared();
    let load = |geared: &mut Geared, from, to| {
        let frame = between(from, to).udp(5000, 53).build();
        (0..ENOUGH).for_each(|_| drop(geared.lab.send(from, &frame)));
    };
    load(&mut geared, C1, C2);
    let first = geared.lab.datapath.carriage();
    let [Change::Carry(seen, _)] = first.changes[..] else {
        panic!("{first:?}");
    };
    load(&mut geared, C1, C3);
    load(&mut geared, C2, C3);
    geared.lab.datapath.set_link(C1, LinkState::Down).unwrap();
    assert_eq!(geared.lab.datapath.carriage().changes, []);

    geared.lab.datapath.carriage_settled(first.number);
    let second = geared.lab.datapath.carriage();
    let [Change::Leave(left), Change::Carry(begun, _)] = second.changes[..] else {
        panic!("{second:?}");
    };
    assert_eq!((left, begun.ingress), (seen, C2));
    assert_eq!(second.number, first.number + 1);
    assert_eq!(geared.lab.datapath.carriage().changes, []);
}

/// How a port stands is told again and again; only what is new of it ends anything.
#[test]
fn a_port_that_stands_as_it_stood_has_nothing_left() {
    let mut geared = geared();
    carried_query(&mut geared);
    for port in [C1, C2, C3] {
        let datapath = &mut geared.lab.datapath;
        datapath.set_link(port, LinkState::Up).unwrap();
        datapath.set_mtu(port, 1500).unwrap();
    }
    geared.lab.datapath.set_mtu(UP, 1500).unwrap();
    geared.settle();
    assert_eq!(geared.kernel.len(), 2);
    geared.lab.datapath.set_link(C1, LinkState::Down).unwrap();
    geared.settle();
    assert!(geared.kernel.is_empty());
}

/// What was learned behind a link that goes down is forgotten, and what was sent there is flooded.
#[test]
fn what_goes_to_an_address_that_its_link_took_along_is_left() {
    let mut geared = geared();
    replug(&mut geared, C1, Guarding::Off);
    let second = MacAddr([2, 0, 0, 0, 7, 7]);
    let packet = Packet::ethernet(second, mac(C2)).ipv4(addr(C1), addr(C2));
    load(&mut geared, C1, &packet.udp(5000, 53));
    let frame = to(second);
    (0..ENOUGH).for_each(|_| drop(geared.send(C2, &frame)));
    assert_eq!(geared.kernel.len(), 2);
    geared.lab.datapath.set_link(C1, LinkState::Down).unwrap();
    geared.settle();
    assert!(geared.kernel.is_empty());
    assert_eq!(geared.send(C2, &frame)[0].port, C3, "it is flooded");
}

#[test]
fn what_is_carried_lives_as_long_as_it_moves() {
    let mut geared = geared();
    carried_query(&mut geared);
    let frame = query().build();
    for _ in 0..400 {
        for _ in 0..20 {
            geared.send(C1, &frame);
        }
        for sent in geared.pass(Duration::from_secs(1)) {
            answer_of_router(&mut geared, &sent.bytes);
        }
    }
    assert_eq!(geared.kernel.len(), 1, "the silent direction is left");
    assert_eq!(geared.lab.datapath.flows(geared.lab.now).len(), 1);
    geared.pass(Duration::from_secs(30));
    assert!(geared.kernel.is_empty());
}

/// The router answers a request for its address.
fn answer_of_router(geared: &mut Geared, frame: &[u8]) {
    let facts = pontoon_packet::parse(frame).unwrap();
    let pontoon_packet::L3::Arp(request) = facts.l3 else {
        panic!("no request");
    };
    assert_eq!(request.target_ip, ROUTER);
    let reply = arp::frame(request.sender_mac, &request.answered_by(ROUTER_MAC));
    geared.send(UP, &reply);
}

/// A report comes in pieces.
#[test]
fn nothing_is_silent_before_all_of_a_report_was_read() {
    let mut geared = geared();
    for to in [C2, C3] {
        let packet = between(C1, to).udp(5000, 53);
        load(&mut geared, C1, &packet);
        geared.send(C1, &packet.build());
    }
    geared.lab.now = geared.lab.now + SILENCE + Duration::from_secs(1);
    let (now, obeyed) = (geared.lab.now, geared.kernel.obeyed);
    for piece in geared.kernel.counted().chunks(1) {
        geared.lab.datapath.carried(now, obeyed, piece);
        geared.settle();
        assert_eq!(geared.kernel.len(), 2);
    }
    geared.lab.datapath.leave_silent(now);
    geared.settle();
    assert_eq!(geared.kernel.len(), 2);
    geared.pass(SILENCE + Duration::from_secs(1));
    assert!(geared.kernel.is_empty());
}

/// As the engine alone would: it asks the router after a while, and again, and gives up.
#[test]
fn a_next_hop_that_does_not_answer_is_noticed_while_it_is_sent_to() {
    let mut geared = geared();
    carried_query(&mut geared);
    let frame = query().build();
    let mut asked = Vec::new();
    for second in 0..60 {
        for _ in 0..20 {
            geared.send(C1, &frame);
        }
        asked.extend(geared.pass(Duration::from_secs(1)).iter().map(|_| second));
        if geared.kernel.is_empty() {
            break;
        }
    }
    assert!(asked.len() >= 3, "{asked:?}");
    assert!(geared.kernel.is_empty());
    assert!(asked[0] >= 30 && asked[0] <= 40, "{asked:?}");
}

#[test]
fn a_learned_address_does_not_age_while_its_frames_are_carried() {
    let mut geared = geared();
    replug(&mut geared, C1, Guarding::Off);
    let second = MacAddr([2, 0, 0, 0, 7, 7]);
    let packet = Packet::ethernet(second, mac(C2)).ipv4(addr(C1), addr(C2));
    let frame = packet.udp(5000, 53).build();
    for _ in 0..700 {
        for _ in 0..ENOUGH {
            geared.send(C1, &frame);
        }
        geared.pass(Duration::from_secs(1));
    }
    let (installed, carried) = (geared.lab.counter("carried.installed"), geared.carried);
    assert_eq!(installed, 1);
    assert!(carried > 699 * u64::from(ENOUGH), "{carried}");
    geared.pass(Duration::from_secs(290));
    assert_eq!(geared.send(C2, &to(second)).len(), 1);
    geared.pass(Duration::from_secs(11));
    assert!(geared.send(C2, &to(second)).len() > 1, "it is forgotten");
}

fn to(mac_addr: MacAddr) -> Vec<u8> {
    let packet = Packet::ethernet(mac(C2), mac_addr).ipv4(addr(C2), addr(C1));
    packet.udp(53, 5000).build()
}

/// What one container's frames can change ends nothing of others.
#[test]
fn who_moves_addresses_and_neighbours_ends_only_what_depends_on_them() {
    let mut geared = geared();
    for port in [C3, PortId(7)] {
        if port == C3 {
            geared.lab.datapath.remove_port(C3).unwrap();
        }
        let config = PortConfig {
            id: port,
            network: A,
            mac: MacAddr([2, 0, 0, 0, 9, port.0 as u8]),
            addresses: vec![Ipv4Addr::new(172, 18, 0, 200 + port.0 as u8).into()],
            mtu: 1500,
            guard: Guarding::Off,
        };
        geared.lab.datapath.add_port(config).unwrap();
        geared.lab.datapath.set_reach(port, Reach::Kernel);
    }
    geared.settle();
    carried_query(&mut geared);
    load(&mut geared, C1, &between(C1, C2).udp(5000, 53));
    let flapping = MacAddr([2, 0, 0, 0, 8, 8]);
    let of_flapping = Packet::ethernet(flapping, mac(C2)).ipv4([172, 18, 0, 99].into(), addr(C2));
    let of_flapping = of_flapping.udp(1, 2);
    load(&mut geared, C3, &of_flapping);
    assert_eq!(geared.kernel.len(), 4);

    for round in 0..50u8 {
        let sender = MacAddr([2, 0, 0, 0, 8, round]);
        let claim = Arp {
            operation: arp::REQUEST,
            sender_mac: sender,
            sender_ip: Ipv4Addr::new(172, 18, 0, 99),
            target_mac: MacAddr::ZERO,
            target_ip: GATEWAY,
        };
        geared.send(C3, &arp::frame(MacAddr::BROADCAST, &claim));
        let port = if round % 2 == 0 { PortId(7) } else { C3 };
        geared.send(port, &of_flapping.build());
    }
    assert!(geared.lab.counter("fdb.moves") >= 49);
    assert_eq!(geared.lab.counter("carried.flushed"), 0);
    assert_eq!(geared.kernel.len(), 3);
    geared.pass(Duration::from_secs(5));
    assert_eq!(geared.kernel.len(), 3);

    let moved = Arp {
        operation: arp::REQUEST,
        sender_mac: flapping,
        sender_ip: ROUTER,
        target_mac: MacAddr::ZERO,
        target_ip: EXTERNAL,
    };
    geared.send(UP, &arp::frame(MacAddr::BROADCAST, &moved));
    assert_eq!(
        geared.kernel.len(),
        2,
        "what goes to the router; not what comes from it"
    );
}
