//! The bridge, its guard and the gateway on the pure core: whole frames in, whole frames out.

use core::net::Ipv6Addr;
use std::time::Duration;

use pontoon_engine::config::Guarding;
use pontoon_packet::build::{self, Packet};
use pontoon_packet::{Arp, MacAddr, Offload, Segments, arp};
use pontoon_switch::PortId;
use pontoon_tests::lab::{A, B1, C1, C2, C3, GATEWAY, Lab, Sent, addr, gateway_mac, mac};

/// A port whose owner may use any address.
const FREE: PortId = PortId(5);

fn with_free_port() -> Lab {
    let mut lab = Lab::new();
    lab.plug(FREE, A, Guarding::Off);
    lab
}

fn stranger(n: u8) -> MacAddr {
    MacAddr([2, 0xee, 0, 0, 0, n])
}

fn plain(src: MacAddr, dst: MacAddr) -> Vec<u8> {
    Packet::ethernet(src, dst)
        .payload(b"anything at all, of an unknown EtherType......")
        .build()
}

fn ports(sent: &[Sent]) -> Vec<PortId> {
    sent.iter().map(|s| s.port).collect()
}

#[test]
fn unicast_to_a_bound_address_reaches_only_its_port() {
    let mut lab = Lab::new();
    let frame = plain(mac(C1), mac(C2));
    assert_eq!(lab.send(C1, &frame), [Sent::plain(C2, frame)]);
}

#[test]
fn unknown_unicast_and_groups_reach_everybody_else_once() {
    let mut lab = Lab::new();
    let multicast = MacAddr([1, 0, 0x5e, 0, 0, 5]);
    for dst in [stranger(9), MacAddr::BROADCAST, multicast] {
        let frame = plain(mac(C1), dst);
        let expected = [C2, C3].map(|port| Sent::plain(port, frame.clone()));
        assert_eq!(lab.send(C1, &frame), expected, "{dst}");
    }
}

#[test]
fn an_address_is_learned_moves_and_is_forgotten() {
    let mut lab = with_free_port();
    lab.plug(PortId(6), A, Guarding::Off);
    lab.send(FREE, &plain(stranger(1), mac(C1)));
    let to_stranger = plain(mac(C1), stranger(1));
    assert_eq!(ports(&lab.send(C1, &to_stranger)), [FREE]);
    lab.send(PortId(6), &plain(stranger(1), mac(C1)));
    assert_eq!(
        ports(&lab.send(C1, &to_stranger)),
        [PortId(6)],
        "it has moved"
    );
    lab.pass(Duration::from_secs(299));
    assert_eq!(ports(&lab.send(C1, &to_stranger)), [PortId(6)]);
    lab.pass(Duration::from_secs(2));
    assert_eq!(lab.send(C1, &to_stranger).len(), 4, "forgotten, so flooded");
}

#[test]
fn a_frame_is_never_sent_back_to_where_it_came_from() {
    let mut lab = with_free_port();
    lab.send(FREE, &plain(stranger(1), mac(C1)));
    assert_eq!(lab.send(FREE, &plain(stranger(2), stranger(1))), []);
    assert_eq!(lab.drops("bridge.SamePort"), 1);
}

#[test]
fn sources_that_name_nobody_are_dropped_and_not_learned() {
    let mut lab = with_free_port();
    for src in [
        MacAddr::BROADCAST,
        MacAddr::ZERO,
        MacAddr([1, 0, 0x5e, 0, 0, 1]),
    ] {
        assert_eq!(lab.send(FREE, &plain(src, mac(C1))), []);
    }
    assert_eq!(lab.drops("bridge.InvalidSource"), 3);
}

#[test]
fn bound_addresses_and_the_gateways_are_not_taken_over() {
    let mut lab = with_free_port();
    assert_eq!(lab.send(FREE, &plain(mac(C1), mac(C2))), []);
    assert_eq!(lab.send(FREE, &plain(gateway_mac(), mac(C2))), []);
    assert_eq!(
        (
            lab.drops("bridge.BoundElsewhere"),
            lab.drops("bridge.GatewaySource")
        ),
        (1, 1)
    );
    assert_eq!(ports(&lab.send(C2, &plain(mac(C2), mac(C1)))), [C1]);
}

#[test]
fn reserved_groups_and_pause_stay_on_their_link() {
    let mut lab = Lab::new();
    for last in 0..16 {
        assert_eq!(
            lab.send(C1, &plain(mac(C1), MacAddr([1, 0x80, 0xc2, 0, 0, last]))),
            []
        );
    }
    let pause = Packet::ethernet(mac(C1), mac(C2))
        .ethertype(0x8808)
        .payload(&[0; 46])
        .build();
    assert_eq!(lab.send(C1, &pause), []);
    assert_eq!(lab.drops("bridge.ReservedGroup"), 17);
}

#[test]
fn the_table_is_bounded_and_a_flood_makes_nobody_elses_unicast_a_broadcast() {
    let mut lab = with_free_port();
    for n in 0..5000_u32 {
        let [_, b, c, d] = n.to_be_bytes();
        lab.send(FREE, &plain(MacAddr([2, 0xdd, 0, b, c, d]), mac(C1)));
    }
    assert!(lab.datapath.fdb(lab.now).len() <= 1024 + 16);
    assert_eq!(ports(&lab.send(C1, &plain(mac(C1), mac(C2)))), [C2]);
}

#[test]
fn tags_are_carried_and_never_reach_the_gateway() {
    let mut lab = Lab::new();
    let tagged = |dst| {
        let packet = Packet::ethernet(mac(C1), dst).tag(0x88a8, 9).vlan(5);
        packet
            .ipv4(addr(C1), addr(C2))
            .udp(1, 2)
            .payload(b"inside")
            .build()
    };
    assert_eq!(
        lab.send(C1, &tagged(mac(C2))),
        [Sent::plain(C2, tagged(mac(C2)))]
    );
    assert_eq!(lab.send(C1, &tagged(gateway_mac())), []);
    assert_eq!(lab.drops("bridge.TaggedForGateway"), 1);
}

#[test]
fn super_frames_cross_whole_and_too_long_ones_do_not() {
    let mut lab = Lab::new();
    let big = Packet::ethernet(mac(C1), mac(C2))
        .ipv4(addr(C1), addr(C2))
        .tcp(1, 2, 0x10, 1, 1)
        .payload(&[7; 30_000])
        .build();
    let offload = Offload::partial(34, 16).with_segments(Segments::Tcp4, 54, 1448);
    let sent = lab.send_with(C1, &big, offload);
    assert_eq!(
        sent,
        [Sent {
            port: C2,
            bytes: big.clone(),
            offload
        }]
    );
    assert_eq!(lab.send(C1, &big), []);
    let fits = Packet::ethernet(mac(C1), mac(C2))
        .payload(&[1; 1500])
        .build();
    assert_eq!(lab.send(C1, &fits).len(), 1);
    let over = Packet::ethernet(mac(C1), mac(C2))
        .payload(&[1; 1501])
        .build();
    assert_eq!(lab.send(C1, &over), []);
    assert_eq!(lab.drops("route.TooLong"), 2);
}

#[test]
fn a_super_frame_of_absurdly_many_segments_goes_nowhere() {
    let mut lab = Lab::new();
    let big = Packet::ethernet(mac(C1), mac(C2))
        .ipv4(addr(C1), addr(C2))
        .tcp(1, 2, 0x10, 1, 1);
    let big = big.payload(&[7; 30_000]).build();
    for (size, passes) in [(0, false), (1, false), (14, false), (15, true)] {
        let offload = Offload::partial(34, 16).with_segments(Segments::Tcp4, 54, size);
        assert_eq!(
            !lab.send_with(C1, &big, offload).is_empty(),
            passes,
            "segments of {size}"
        );
    }
    assert_eq!(lab.drops("route.TooManySegments"), 3);
}

/// What the owner of C1's port may not say, by the reason for which it is dropped.
fn lies() -> Vec<(&'static str, Vec<u8>)> {
    let own = mac(C1);
    let ip = |src, dst: [u8; 4]| Packet::ethernet(own, mac(C2)).ipv4(src, dst.into());
    let [first, second] = [(addr(C1), 0), (addr(C3), 8)].map(|(src, offset)| {
        let part = ip(src, addr(C2).octets()).protocol(17);
        part.fragment(offset, offset == 0)
            .payload(&[0, 67, 0, 68, 0, 24, 0, 0])
    });
    let claim = Arp {
        operation: arp::REPLY,
        sender_mac: own,
        sender_ip: GATEWAY,
        target_mac: mac(C2),
        target_ip: addr(C2),
    };
    let mut stolen = build::arp(&Arp {
        sender_mac: mac(C3),
        sender_ip: addr(C1),
        ..claim
    });
    stolen[6..12].copy_from_slice(&own.0);
    let spoofed = ip(addr(C3), addr(C2).octets()).udp(1, 2);
    let snap = [0xaa, 0xaa, 3, 0, 0, 0, 0x86, 0xdd];
    let mut lies = vec![
        ("SpoofedMac", plain(stranger(1), mac(C2))),
        ("SpoofedIp", spoofed.clone().build()),
        ("SpoofedIp", spoofed.vlan(7).build()),
        ("SpoofedIp", second.build()),
        ("SpoofedArp", build::arp(&claim)),
        ("SpoofedArp", stolen),
        (
            "DhcpServer",
            ip(addr(C1), addr(C2).octets()).udp(67, 1067).build(),
        ),
        ("DhcpServer", ip(addr(C1), [255; 4]).udp(1234, 68).build()),
        ("DhcpServer", first.build()),
        (
            "SnapEncapsulated",
            Packet::ethernet(own, mac(C2))
                .ethertype(8)
                .payload(&snap)
                .build(),
        ),
    ];
    lies.extend(lies_of_discovery());
    lies
}

/// The same of IPv6: what no container may advertise, however it is wrapped.
fn lies_of_discovery() -> Vec<(&'static str, Vec<u8>)> {
    let own: Ipv6Addr = "fe80::42:acff:fe12:2".parse().expect("an address");
    let victim: Ipv6Addr = "fe80::42:acff:fe12:3".parse().expect("an address");
    let message = |src, protocol: u8, head: &[u8], body: &[u8]| {
        Packet::ethernet(mac(C1), mac(C2))
            .ipv6(src, "ff02::1".parse().expect("an address"))
            .protocol(protocol)
            .payload(&[head, body].concat())
            .build()
    };
    let about =
        |kind, target: Ipv6Addr| [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat();
    let advertisement = [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    let options = [58, 0, 1, 4, 0, 0, 0, 0];
    let (part, options_in_parts) = ([58, 0, 0, 1, 0, 0, 0, 1], [60, 0, 0, 1, 0, 0, 0, 1]);
    let doubled = [&[60, 0, 1, 4, 0, 0, 0, 0][..], &options].concat();
    vec![
        ("RouterAdvertisement", message(own, 58, &[], &advertisement)),
        (
            "RouterAdvertisement",
            message(own, 0, &options, &advertisement),
        ),
        (
            "RouterAdvertisement",
            message(own, 60, &options, &advertisement),
        ),
        (
            "RouterAdvertisement",
            message(own, 0, &doubled, &advertisement),
        ),
        (
            "RouterAdvertisement",
            message(own, 44, &part, &advertisement),
        ),
        (
            "RouterAdvertisement",
            message(own, 44, &options_in_parts, &options),
        ),
        (
            "RouterAdvertisement",
            message(own, 58, &[], &about(137, victim)),
        ),
        (
            "SpoofedNeighbour",
            message(own, 58, &[], &about(136, victim)),
        ),
        (
            "SpoofedNeighbour",
            message(own, 0, &options, &about(136, victim)),
        ),
        (
            "SpoofedNeighbour",
            message(Ipv6Addr::UNSPECIFIED, 58, &[], &about(135, victim)),
        ),
        ("SpoofedIp", message(victim, 58, &[], &about(136, victim))),
    ]
}

fn dropped(lab: &Lab, port: PortId) -> u64 {
    let ports = lab.datapath.stats().ports;
    let own = ports.iter().find(|(number, _)| *number == port.0);
    own.expect("a port").1.dropped
}

#[test]
fn the_guard_stops_what_the_owner_may_not_claim_and_lets_it_pass_when_off() {
    let mut guarded = Lab::new();
    let mut open = with_free_port();
    for (sent, (reason, frame)) in (1..).zip(lies()) {
        let before = guarded.drops(&format!("bridge.{reason}"));
        assert_eq!(guarded.send(C1, &frame), [], "{reason}");
        let counted = guarded.drops(&format!("bridge.{reason}"));
        assert_eq!(counted, before + 1, "{reason}");
        assert_eq!((dropped(&guarded, C1), dropped(&guarded, C2)), (sent, 0));
        let mut frame = frame.clone();
        if frame[6..12] == mac(C1).0 {
            frame[6..12].copy_from_slice(&stranger(3).0);
        }
        assert!(!open.send(FREE, &frame).is_empty(), "the twin of {reason}");
    }
}

#[test]
fn networks_do_not_meet() {
    let mut lab = Lab::new();
    for dst in [MacAddr::BROADCAST, mac(C1), stranger(1)] {
        assert_eq!(lab.send(B1, &plain(mac(B1), dst)), []);
    }
}

fn request(from: PortId, target: std::net::Ipv4Addr) -> Vec<u8> {
    build::arp(&Arp {
        operation: arp::REQUEST,
        sender_mac: mac(from),
        sender_ip: addr(from),
        target_mac: MacAddr::ZERO,
        target_ip: target,
    })
}

#[test]
fn the_gateway_answers_for_itself_once_padded_with_zeros() {
    let mut lab = Lab::new();
    let sent = lab.send(C1, &request(C1, GATEWAY));
    let answers: Vec<_> = sent.iter().filter(|s| s.port == C1).collect();
    assert_eq!(answers.len(), 1);
    let reply = Arp {
        operation: arp::REPLY,
        sender_mac: gateway_mac(),
        sender_ip: GATEWAY,
        target_mac: mac(C1),
        target_ip: addr(C1),
    };
    assert_eq!(answers[0].bytes, arp::frame(mac(C1), &reply));
    assert!(answers[0].bytes[42..].iter().all(|byte| *byte == 0));
}

#[test]
fn the_gateway_answers_for_nobody_else() {
    let mut lab = Lab::new();
    let frame = request(C1, [172, 18, 0, 99].into());
    assert_eq!(ports(&lab.send(C1, &frame)), [C2, C3]);
}

#[test]
fn malformed_arp_is_dropped() {
    let mut lab = Lab::new();
    let good = request(C1, GATEWAY);
    for (at, value) in [(14, 9), (16, 9), (18, 5), (19, 16)] {
        let mut bad = good.clone();
        bad[at] = value;
        assert_eq!(lab.send(C1, &bad), []);
    }
    for length in 14..42 {
        assert_eq!(lab.send(C1, &good[..length]), []);
    }
    assert_eq!(lab.drops("malformed.Arp"), 4 + 28);
}

#[test]
fn only_requests_make_the_asker_known() {
    let stranger: core::net::Ipv4Addr = [172, 18, 0, 99].into();
    for (operation, known) in [
        (0, false),
        (1, true),
        (2, false),
        (3, false),
        (u16::MAX, false),
    ] {
        let mut lab = with_free_port();
        let claim = build::arp(&Arp {
            operation,
            sender_mac: mac(FREE),
            sender_ip: stranger,
            target_mac: gateway_mac(),
            target_ip: GATEWAY,
        });
        lab.send(FREE, &claim);
        let neighbours = lab.datapath.neighbours(lab.now);
        let found = neighbours.iter().any(|n| n.address == stranger);
        assert_eq!(found, known, "operation {operation}");
    }
}

#[test]
fn nobody_changes_what_the_gateway_knows_of_a_container() {
    let mut lab = with_free_port();
    let lie = build::arp(&Arp {
        operation: arp::REPLY,
        sender_mac: stranger(1),
        sender_ip: addr(C1),
        target_mac: gateway_mac(),
        target_ip: GATEWAY,
    });
    lab.send(FREE, &lie);
    let neighbours = lab.datapath.neighbours(lab.now);
    let c1 = neighbours.iter().find(|n| n.address == addr(C1)).unwrap();
    assert_eq!(
        (c1.mac.as_deref(), c1.state.as_str()),
        (Some("02:42:ac:12:00:02"), "PERMANENT")
    );
}

#[test]
fn the_gateway_answers_echo_exactly() {
    let mut lab = Lab::new();
    let ping = Packet::ethernet(mac(C1), gateway_mac())
        .ipv4(addr(C1), GATEWAY)
        .ttl(1)
        .echo(7, 3);
    let expected = Packet::ethernet(gateway_mac(), mac(C1))
        .ipv4(GATEWAY, addr(C1))
        .echo_reply(7, 3);
    let sent = lab.send(C1, &ping.payload(b"payload").build());
    assert_eq!(
        sent,
        [Sent::plain(C1, expected.payload(b"payload").build())]
    );
}
