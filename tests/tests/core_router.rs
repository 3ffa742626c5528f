//! The network layer on the pure core: what is routed, refused, reported, cut and put together.

use std::net::Ipv4Addr;
use std::time::Duration;

use pontoon_engine::config::Guarding;
use pontoon_packet::build::Packet;
use pontoon_packet::{Frame, L4, Offload, Segments, checksum, parse};
use pontoon_switch::PortId;
use pontoon_tests::lab::{
    A, B1, C1, C2, EXTERNAL, EXTERNAL_MAC, GATEWAY, Lab, ROUTER_MAC, SERVER, Sent, UP, addr,
    gateway_mac, mac,
};

const FREE: PortId = PortId(5);

fn out(port: PortId, dst: Ipv4Addr) -> Packet {
    Packet::ethernet(mac(port), gateway_mac()).ipv4(addr(port), dst)
}

/// The error that the gateway sends about a frame from a container.
fn error(port: PortId, kind: u8, code: u8, rest: [u8; 4], about: &[u8]) -> Sent {
    let packet = Packet::ethernet(gateway_mac(), mac(port))
        .ipv4(GATEWAY, addr(port))
        .tos(0xc0)
        .icmp(kind, code, rest)
        .payload(&about[14..]);
    Sent::plain(port, packet.build())
}

#[test]
fn a_time_to_live_that_ran_out_is_reported_quoting_what_was_sent() {
    let mut lab = Lab::new();
    for frame in [
        out(C1, SERVER).ttl(1).udp(5000, 53).payload(b"x").build(),
        out(C1, SERVER).ttl(1).tcp(5000, 80, 2, 1, 0).build(),
        out(C1, SERVER).ttl(1).echo(1, 1).build(),
    ] {
        assert_eq!(lab.send(C1, &frame), [error(C1, 11, 0, [0; 4], &frame)]);
    }
    assert!(lab.datapath.flows(lab.now).is_empty());
}

#[test]
fn ports_and_protocols_that_the_gateway_does_not_serve_are_unreachable() {
    let mut lab = Lab::new();
    let udp = out(C1, GATEWAY).udp(5000, 9).build();
    assert_eq!(lab.send(C1, &udp), [error(C1, 3, 3, [0; 4], &udp)]);
    let gre = out(C1, GATEWAY).protocol(47).payload(&[0; 8]).build();
    assert_eq!(lab.send(C1, &gre), [error(C1, 3, 2, [0; 4], &gre)]);
}

/// As a client of before a restart sends it, whose connection ended at the gateway (FLT-01).
#[test]
fn a_segment_of_no_connection_is_answered_with_a_reset_by_the_gateway() {
    let mut lab = Lab::new();
    let segment = out(C1, GATEWAY)
        .tcp(80, 40_000, 0x18, 7, 77)
        .payload(b"data");
    let reset = Packet::ethernet(gateway_mac(), mac(C1))
        .ipv4(GATEWAY, addr(C1))
        .tcp(40_000, 80, 4, 77, 0);
    let sent = lab.send(C1, &segment.build());
    assert_eq!(sent, [Sent::plain(C1, reset.build())]);
    let again = out(C1, GATEWAY).tcp(80, 40_000, 4, 7, 0).build();
    assert_eq!(lab.send(C1, &again), [], "a reset is not answered");
}

#[test]
fn without_a_route_the_network_is_unreachable() {
    let mut lab = Lab::new();
    let mut config = Lab::uplink_config(1500, Default::default());
    config.gateway = None;
    lab.datapath.update_uplink(config).unwrap();
    let frame = out(C1, SERVER).udp(1, 2).build();
    assert_eq!(lab.send(C1, &frame), [error(C1, 3, 0, [0; 4], &frame)]);
}

#[test]
fn other_networks_are_closed() {
    let mut lab = Lab::new();
    for frame in [
        out(C1, addr(B1)).udp(1, 2),
        out(C1, [172, 19, 0, 1].into()).udp(1, 2),
    ] {
        assert_eq!(lab.send(C1, &frame.build()), []);
    }
    assert_eq!(lab.drops("route.Isolated"), 2);
    let direct = Packet::ethernet(ROUTER_MAC, EXTERNAL_MAC)
        .ipv4(SERVER, addr(C1))
        .udp(1, 2);
    assert_eq!(lab.send(UP, &direct.build()), []);
    assert_eq!(lab.drops("route.Isolated"), 3);
}

#[test]
fn impossible_addresses_go_nowhere() {
    let mut lab = Lab::new();
    lab.plug(FREE, A, Guarding::Off);
    let cases: [([u8; 4], [u8; 4], &str); 12] = [
        ([0, 1, 2, 3], [198, 51, 100, 10], "Martian"),
        ([127, 0, 0, 1], [198, 51, 100, 10], "Martian"),
        ([224, 0, 0, 1], [198, 51, 100, 10], "Martian"),
        ([255, 255, 255, 255], [198, 51, 100, 10], "Martian"),
        ([172, 18, 0, 1], [198, 51, 100, 10], "Martian"),
        ([192, 0, 2, 1], [198, 51, 100, 10], "Martian"),
        ([172, 18, 0, 6], [127, 0, 0, 1], "Martian"),
        ([172, 18, 0, 6], [169, 254, 169, 254], "Martian"),
        ([10, 9, 9, 9], [198, 51, 100, 10], "ForeignSource"),
        ([172, 18, 0, 6], [224, 0, 0, 251], "NotUnicast"),
        ([172, 18, 0, 6], [172, 18, 0, 255], "NotUnicast"),
        ([172, 18, 0, 6], [192, 0, 2, 255], "NotUnicast"),
    ];
    for (src, dst, reason) in cases {
        let name = format!("route.{reason}");
        let before = lab.drops(&name);
        let frame = Packet::ethernet(mac(FREE), gateway_mac())
            .ipv4(src.into(), dst.into())
            .udp(1, 2);
        assert_eq!(lab.send(FREE, &frame.build()), [], "{src:?} → {dst:?}");
        assert_eq!(lab.drops(&name), before + 1, "{src:?} → {dst:?}");
    }
}

/// Two bytes of the source address are where the sum would be completed: behind every check, on the
/// uplink's wire.
#[test]
fn a_sum_cannot_be_completed_outside_of_its_own_field() {
    let frame = Packet::ethernet(mac(C1), gateway_mac())
        .ipv4(addr(C1), SERVER)
        .udp(5000, 53)
        .payload(b"question")
        .build();
    let in_source = Offload::partial(14, 12);
    let mut completed = frame.clone();
    checksum::complete(&mut Frame {
        bytes: &mut completed,
        offload: in_source,
    });
    assert_ne!(completed[26..30], frame[26..30], "the attack works");

    let mut lab = Lab::new();
    assert_eq!(lab.send_with(C1, &frame, in_source), []);
    assert_eq!(lab.drops("route.MisplacedChecksum"), 1);
    let in_payload = Offload::partial(34, 8);
    assert_eq!(lab.send_with(C1, &frame, in_payload), []);
    assert_eq!(lab.drops("route.BadChecksum"), 1);
    assert_eq!(lab.send_with(C1, &frame, Offload::partial(34, 6)).len(), 1);
}

#[test]
fn source_routes_are_dropped_and_other_options_pass() {
    let mut lab = Lab::new();
    let with = |options: &[u8]| out(C1, SERVER).options(options).udp(1, 2).build();
    assert_eq!(lab.send(C1, &with(&[131, 7, 4, 1, 2, 3, 4])), []);
    assert_eq!(lab.drops("route.SourceRoute"), 1);
    assert_eq!(lab.send(C1, &with(&[1, 1, 148, 4, 0, 0])).len(), 1);
}

#[test]
fn what_is_too_big_is_reported_or_cut() {
    let mut lab = Lab::new();
    lab.datapath
        .update_uplink(Lab::uplink_config(1280, Default::default()))
        .unwrap();
    relearn(&mut lab);
    let kept = out(C1, SERVER)
        .dont_fragment()
        .udp(1, 2)
        .payload(&[7; 1372])
        .build();
    let sent = lab.send(C1, &kept);
    let icmp = parse(&sent[0].bytes).unwrap();
    let L4::Icmp(header) = icmp.ip().unwrap().l4 else {
        panic!("{sent:?}")
    };
    assert_eq!(
        (header.kind, header.code, header.seq, sent[0].port),
        (3, 4, 1280, C1)
    );
    let cut = out(C1, SERVER).udp(1, 2).payload(&[7; 1372]).build();
    let sent = lab.send(C1, &cut);
    let parts: Vec<_> = sent.iter().map(|s| *s.facts().ip().unwrap()).collect();
    let ends: Vec<_> = parts
        .iter()
        .map(|ip| ip.fragment.unwrap())
        .map(|f| (f.offset, f.more))
        .collect();
    assert_eq!(ends, [(0, true), (1256, false)]);
    assert!(
        parts
            .iter()
            .all(|ip| ip.total_len <= 1280 && ip.id == parts[0].id)
    );
    assert!(
        parts.iter().all(|ip| ip.src == EXTERNAL),
        "the external address on every part"
    );
}

fn relearn(lab: &mut Lab) {
    let request = pontoon_packet::Arp {
        operation: 1,
        sender_mac: ROUTER_MAC,
        sender_ip: pontoon_tests::lab::ROUTER,
        target_mac: pontoon_packet::MacAddr::ZERO,
        target_ip: EXTERNAL,
    };
    let frame = pontoon_packet::build::arp(&request);
    lab.send(UP, &frame);
}

#[test]
fn a_super_frame_whose_segments_are_too_big_is_reported() {
    let mut lab = Lab::new();
    lab.datapath
        .update_uplink(Lab::uplink_config(1280, Default::default()))
        .unwrap();
    relearn(&mut lab);
    let big = out(C1, SERVER)
        .dont_fragment()
        .tcp(1, 80, 2, 1, 0)
        .payload(&[7; 20_000])
        .build();
    let offload = Offload::partial(34, 16).with_segments(Segments::Tcp4, 54, 1448);
    let sent = lab.send_with(C1, &big, offload);
    assert_eq!(
        (
            sent.len(),
            sent[0].port,
            lab.drops("route.FragmentationNeeded")
        ),
        (1, C1, 1)
    );
}

fn parts(port: PortId, id: u16, byte: u8) -> [Vec<u8>; 2] {
    let whole = out(port, SERVER)
        .id(id)
        .udp(5000, 53)
        .payload(&[byte; 2000])
        .build();
    let payload = &whole[34..];
    let part = |offset: usize, end: usize, more| {
        out(port, SERVER)
            .id(id)
            .udp(0, 0)
            .fragment(offset as u16, more)
            .protocol(17)
            .payload(&payload[offset..end])
            .build()
    };
    [part(0, 1400, true), part(1400, payload.len(), false)]
}

fn payload_of(sent: &[Sent]) -> Vec<u8> {
    let mut parts: Vec<_> = sent
        .iter()
        .map(|s| (*s.facts().ip().expect("IP"), &s.bytes))
        .collect();
    parts.sort_by_key(|(ip, _)| ip.fragment.map_or(0, |f| f.offset));
    parts
        .iter()
        .flat_map(|(ip, bytes)| bytes[ip.l4_start()..ip.end()].to_vec())
        .collect()
}

#[test]
fn fragments_are_routed_in_any_order_and_leave_no_larger_than_they_came() {
    for order in [[0, 1], [1, 0]] {
        let mut lab = Lab::new();
        let parts = parts(C1, 77, 0xab);
        assert_eq!(lab.send(C1, &parts[order[0]]), []);
        let sent = lab.send(C1, &parts[order[1]]);
        assert_eq!(sent.len(), 2);
        assert!(
            sent.iter()
                .all(|s| s.facts().ip().unwrap().total_len <= 1420)
        );
        assert_eq!(payload_of(&sent)[8..], [0xab; 2000]);
    }
}

#[test]
fn equal_identifications_of_two_containers_do_not_mix() {
    let mut lab = Lab::new();
    let (one, two) = (parts(C1, 77, 1), parts(C2, 77, 2));
    lab.send(C1, &one[0]);
    lab.send(C2, &two[0]);
    let second = lab.send(C2, &two[1]);
    let first = lab.send(C1, &one[1]);
    assert!(payload_of(&first)[8..].iter().all(|b| *b == 1));
    assert!(payload_of(&second)[8..].iter().all(|b| *b == 2));
    let id = |sent: &[Sent]| sent[0].facts().ip().unwrap().id;
    assert_ne!(id(&first), id(&second), "they bear one address outside");
}

#[test]
fn overlapping_and_tiny_fragments_are_given_up() {
    let mut lab = Lab::new();
    let part = |offset, more, payload: &[u8]| {
        out(C1, SERVER)
            .id(5)
            .fragment(offset, more)
            .protocol(17)
            .payload(payload)
            .build()
    };
    lab.send(C1, &part(0, true, &[0; 64]));
    assert_eq!(lab.send(C1, &part(32, false, &[1; 64])), []);
    assert_eq!(lab.drops("nat.FragmentOverlap"), 1);
    let tcp = out(C1, SERVER)
        .id(6)
        .fragment(0, true)
        .protocol(6)
        .payload(&[0; 8])
        .build();
    assert_eq!(lab.send(C1, &tcp), []);
    assert_eq!(lab.drops("nat.TinyFragment"), 1);
}

#[test]
fn a_datagram_that_is_never_completed_is_reported_after_thirty_seconds() {
    let mut lab = Lab::new();
    lab.send(C1, &parts(C1, 77, 1)[0]);
    assert_eq!(lab.pass(Duration::from_secs(29)), []);
    let sent = lab.pass(Duration::from_secs(2));
    let facts = sent[0].facts();
    let L4::Icmp(header) = facts.ip().unwrap().l4 else {
        panic!("{sent:?}")
    };
    assert_eq!(
        (sent.len(), sent[0].port, header.kind, header.code),
        (1, C1, 11, 1)
    );
}

#[test]
fn a_silent_next_hop_is_asked_three_times_and_the_sender_told() {
    let mut lab = Lab::new();
    let frame = out(C1, [192, 0, 2, 77].into())
        .udp(5000, 53)
        .payload(b"x")
        .build();
    let asked = lab.send(C1, &frame);
    assert_eq!((asked.len(), asked[0].port), (1, UP));
    let sent = lab.pass(Duration::from_secs(4));
    let to_uplink = sent.iter().filter(|s| s.port == UP).count();
    assert_eq!(to_uplink, 2, "three questions in all");
    let told: Vec<_> = sent.iter().filter(|s| s.port == C1).collect();
    let facts = told[0].facts();
    let L4::Icmp(header) = facts.ip().unwrap().l4 else {
        panic!("{told:?}")
    };
    assert_eq!((told.len(), header.kind, header.code), (1, 3, 1));
    let quoted = &told[0].bytes[42..];
    assert_eq!(
        quoted[12..16],
        addr(C1).octets(),
        "its own address is quoted"
    );
}

#[test]
fn a_wrong_header_checksum_and_lying_lengths_are_dropped() {
    let mut lab = Lab::new();
    let good = out(C1, SERVER).udp(1, 2).payload(b"data").build();
    for (at, value) in [(24, 0xff), (14, 0x44), (14, 0x65), (17, 0xff), (39, 3)] {
        let mut bad = good.clone();
        bad[at] = value;
        assert_eq!(lab.send(C1, &bad), [], "byte {at}");
    }
    let trailer = out(C1, SERVER).udp(1, 2).payload(b"d").pad_to(60).build();
    assert_eq!(lab.send(C1, &trailer).len(), 1, "a trailer is no lie");
}
