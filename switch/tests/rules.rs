//! The bridge's and the guard's rules, on whole frames.
#![allow(clippy::unwrap_used, reason = "tests")]

use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use pontoon_packet::build::Packet;
use pontoon_packet::{Facts, MacAddr, Timestamp, parse};
use pontoon_switch::{FdbLimits, Forward, Guard, Isolation, LinkState, PortId, Refusal, Switch};

const GATEWAY: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);
const T0: Timestamp = Timestamp::from_secs(1);

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, n])
}

fn frame(src: MacAddr, dst: MacAddr) -> Facts {
    parse(&Packet::ethernet(src, dst).payload(&[0; 46]).build()).expect("a good frame")
}

fn switch(limits: FdbLimits) -> Switch {
    let mut switch = Switch::with_limits(GATEWAY, limits, [1, 2, 3, 4]);
    for n in 1..=3 {
        switch.add_port(PortId(n.into()), mac(n));
    }
    switch
}

#[test]
fn learned_address_is_unicast_until_it_ages() {
    let mut s = switch(FdbLimits::default());
    s.forward(T0, PortId(1), &frame(mac(9), MacAddr::BROADCAST));
    let to = frame(mac(2), mac(9));
    let age = |secs| T0 + Duration::from_secs(secs);
    assert_eq!(
        s.forward(age(299), PortId(2), &to),
        Forward::Unicast(PortId(1))
    );
    assert_eq!(s.forward(age(301), PortId(2), &to), Forward::Flood);
}

#[test]
fn bound_address_never_moves() {
    let mut s = switch(FdbLimits::default());
    let stolen = s.forward(T0, PortId(2), &frame(mac(1), mac(3)));
    assert_eq!(stolen, Forward::Drop(Refusal::BoundElsewhere));
    assert_eq!(s.lookup(mac(1)), Some(PortId(1)));
}

#[test]
fn full_table_learns_no_more_and_keeps_what_it_knows() {
    let mut s = switch(FdbLimits {
        entries: 1,
        ..FdbLimits::default()
    });
    s.forward(T0, PortId(1), &frame(mac(9), MacAddr::BROADCAST));
    s.forward(T0, PortId(2), &frame(mac(10), MacAddr::BROADCAST));
    assert_eq!(
        (s.lookup(mac(9)), s.lookup(mac(10)), s.full()),
        (Some(PortId(1)), None, 1)
    );
}

#[test]
fn link_that_goes_takes_learned_addresses_and_the_timer_with_it() {
    let mut s = switch(FdbLimits::default());
    s.forward(T0, PortId(1), &frame(mac(9), MacAddr::BROADCAST));
    s.set_link(PortId(1), LinkState::Down);
    assert_eq!(
        (s.lookup(mac(9)), s.lookup(mac(1))),
        (None, Some(PortId(1)))
    );
    assert_eq!(s.poll_timeout(), None);
}

#[test]
fn refused_sources_and_destinations() {
    let mut s = switch(FdbLimits::default());
    let bpdu = MacAddr([1, 0x80, 0xc2, 0, 0, 0]);
    for (src, dst, why) in [
        (MacAddr::ZERO, mac(2), Refusal::InvalidSource),
        (MacAddr::BROADCAST, mac(2), Refusal::InvalidSource),
        (GATEWAY, mac(2), Refusal::GatewaySource),
        (mac(1), bpdu, Refusal::ReservedGroup),
        (mac(9), mac(1), Refusal::SamePort),
    ] {
        assert_eq!(
            s.forward(T0, PortId(1), &frame(src, dst)),
            Forward::Drop(why)
        );
    }
    assert_eq!(
        s.flood_ports(PortId(2)).collect::<Vec<_>>(),
        [PortId(1), PortId(3)]
    );
}

#[test]
fn router_advertisement_cannot_hide_in_a_fragmented_extension_header() {
    let src = OWN_LINK_LOCAL;
    let guard = guard();
    for inner in [58, 60, 0, 43, 44] {
        let header = [inner, 0, 0, 1, 0, 0, 0, 1, 58, 0, 1, 4, 0, 0, 0, 0];
        let frame = Packet::ethernet(mac(1), mac(2))
            .ipv6(src, src)
            .protocol(44)
            .payload(&header);
        assert_eq!(
            verdict(&guard, &frame),
            Err(Refusal::RouterAdvertisement),
            "{inner}"
        );
    }
}

/// What the kernel makes of `mac(1)`.
const OWN_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0x0101);

fn verdict(guard: &Guard, packet: &Packet) -> Result<(), Refusal> {
    let bytes = packet.clone().build();
    guard.check(&bytes, &parse(&bytes).unwrap())
}

fn guard() -> Guard {
    Guard::new(mac(1), &[Ipv4Addr::new(172, 17, 0, 2).into()])
}

/// An ICMPv6 message about `target`.
fn discovery(src: Ipv6Addr, kind: u8, target: Ipv6Addr) -> Packet {
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    Packet::ethernet(mac(1), mac(2))
        .ipv6(src, "ff02::1".parse().unwrap())
        .protocol(58)
        .payload(&message)
}

#[test]
fn a_port_advertises_only_its_own_addresses() {
    let victim: Ipv6Addr = "fe80::ff:fe00:102".parse().unwrap();
    let own = OWN_LINK_LOCAL;
    let cases = [
        (own, 136, own, Ok(())),
        (own, 136, victim, Err(Refusal::SpoofedNeighbour)),
        (victim, 136, victim, Err(Refusal::SpoofedIp)),
        (own, 135, victim, Ok(())),
        (Ipv6Addr::UNSPECIFIED, 135, own, Ok(())),
        (Ipv6Addr::UNSPECIFIED, 136, own, Err(Refusal::SpoofedIp)),
    ];
    for (src, kind, target, expected) in cases {
        let found = verdict(&guard(), &discovery(src, kind, target));
        assert_eq!(found, expected, "{src} says {kind} about {target}");
    }
}

#[test]
fn an_advertisement_that_is_cut_off_is_refused() {
    let message = Packet::ethernet(mac(1), mac(2))
        .ipv6(OWN_LINK_LOCAL, OWN_LINK_LOCAL)
        .protocol(58)
        .payload(&[136, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0x80]);
    assert_eq!(verdict(&guard(), &message), Err(Refusal::SpoofedNeighbour));
}

#[test]
fn a_dhcp_server_cannot_hide_in_fragments() {
    let from = |port: u16, offset: u16| {
        let mut payload = port.to_be_bytes().to_vec();
        payload.extend([0, 69, 0, 32, 0, 0]);
        Packet::ethernet(mac(1), mac(2))
            .ipv4(Ipv4Addr::new(172, 17, 0, 2), Ipv4Addr::BROADCAST)
            .protocol(17)
            .fragment(offset, true)
            .payload(&payload)
    };
    assert_eq!(verdict(&guard(), &from(67, 0)), Err(Refusal::DhcpServer));
    assert_eq!(verdict(&guard(), &from(67, 8)), Ok(()));
    assert_eq!(verdict(&guard(), &from(53, 0)), Ok(()));
}

/// What becomes of a frame from port 1 to each kind of destination, and where it is flooded.
fn reach(isolation: Isolation) -> ([Forward; 4], Vec<PortId>) {
    let mut s = switch(FdbLimits::default()).with_isolation(isolation);
    s.add_host_port(PortId(9));
    s.forward(T0, PortId(2), &frame(mac(20), MacAddr::BROADCAST));
    let to = [mac(2), mac(20), mac(77), MacAddr::BROADCAST];
    let decided = to.map(|dst| s.forward(T0, PortId(1), &frame(mac(1), dst)));
    (decided, s.flood_ports(PortId(1)).collect())
}

#[test]
fn isolated_members_reach_the_gateway_and_the_host_alone() {
    let isolated = Forward::Drop(Refusal::Isolated);
    let (decided, flooded) = reach(Isolation::On);
    assert_eq!(
        decided,
        [isolated, isolated, isolated, Forward::LocalAndFlood]
    );
    assert_eq!(flooded, [PortId(9)]);
    let (decided, flooded) = reach(Isolation::Off);
    let second = Forward::Unicast(PortId(2));
    assert_eq!(
        decided,
        [second, second, Forward::Flood, Forward::LocalAndFlood]
    );
    assert_eq!(flooded, [PortId(2), PortId(3), PortId(9)]);
}

#[test]
fn isolated_members_are_reached_by_the_gateway_and_the_host() {
    let mut s = switch(FdbLimits::default()).with_isolation(Isolation::On);
    s.add_host_port(PortId(9));
    let from_host = s.forward(T0, PortId(9), &frame(GATEWAY, mac(1)));
    assert_eq!(from_host, Forward::Unicast(PortId(1)));
    assert_eq!(s.flood_ports(PortId(9)).count(), 3);
    assert_eq!(s.all_ports().count(), 4, "the gateway's own floods");
    let to_gateway = s.forward(T0, PortId(1), &frame(mac(1), GATEWAY));
    assert_eq!(to_gateway, Forward::Local);
}

#[test]
fn a_dhcp_server_is_known_by_its_clients_port_too() {
    let ends = |from, to| {
        Packet::ethernet(mac(1), mac(2))
            .ipv4(Ipv4Addr::new(172, 17, 0, 2), Ipv4Addr::BROADCAST)
            .udp(from, to)
    };
    let six = |from, to| {
        Packet::ethernet(mac(1), mac(2))
            .ipv6(OWN_LINK_LOCAL, "ff02::1".parse().unwrap())
            .udp(from, to)
    };
    for server in [ends(67, 68), ends(67, 1067), ends(1234, 68)] {
        assert_eq!(verdict(&guard(), &server), Err(Refusal::DhcpServer));
    }
    for server in [six(547, 546), six(547, 1067), six(1234, 546)] {
        assert_eq!(verdict(&guard(), &server), Err(Refusal::DhcpServer));
    }
    for other in [ends(68, 67), six(546, 547), ends(547, 546), six(67, 68)] {
        assert_eq!(verdict(&guard(), &other), Ok(()));
    }
    let fragment = ends(0, 0).protocol(17).fragment(0, true);
    let first = fragment.payload(&[4, 210, 0, 68, 0, 32, 0, 0]);
    assert_eq!(verdict(&guard(), &first), Err(Refusal::DhcpServer));
}

#[test]
fn who_asks_for_an_address_without_having_one_is_about_to_take_it() {
    let victim: Ipv6Addr = "fe80::ff:fe00:102".parse().unwrap();
    let probe = discovery(Ipv6Addr::UNSPECIFIED, 135, victim);
    assert_eq!(verdict(&guard(), &probe), Err(Refusal::SpoofedNeighbour));
}

#[test]
fn neighbour_discovery_names_no_hardware_address_but_the_ports() {
    let own = OWN_LINK_LOCAL;
    let message = |kind, target: Option<Ipv6Addr>, options: &[u8]| {
        let mut bytes = vec![kind, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend(target.map(|t| t.octets()).into_iter().flatten());
        bytes.extend(options);
        Packet::ethernet(mac(1), mac(2))
            .ipv6(own, "ff02::1".parse().unwrap())
            .protocol(58)
            .payload(&bytes)
    };
    let named = |kind, n| [&[kind, 1][..], &mac(n).0].concat();
    let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
    let behind = |n| [&nonce[..], &named(1, n)].concat();
    for (kind, target) in [(133, None), (135, Some(own)), (136, Some(own))] {
        for good in [named(1, 1), named(2, 1), behind(1), vec![1, 0, 9], vec![1]] {
            assert_eq!(verdict(&guard(), &message(kind, target, &good)), Ok(()));
        }
        for bad in [named(1, 2), named(2, 2), behind(2)] {
            let found = verdict(&guard(), &message(kind, target, &bad));
            assert_eq!(found, Err(Refusal::SpoofedNeighbour), "{kind} {bad:?}");
        }
    }
}

#[test]
fn nothing_that_is_guarded_hides_behind_a_snap_header() {
    let snap = |head: [u8; 8]| {
        let payload = [&head[..], &[0x45; 40]].concat();
        let length = payload.len() as u16;
        let plain = Packet::ethernet(mac(1), mac(2)).ethertype(length);
        [plain.clone(), plain.vlan(0)].map(|packet| packet.payload(&payload))
    };
    for inner in [0x0800, 0x0806, 0x86dd, 0x8100, 0x88a8_u16] {
        for organisation in [0, 0xf8] {
            let [high, low] = inner.to_be_bytes();
            for packet in snap([0xaa, 0xaa, 3, 0, 0, organisation, high, low]) {
                let found = verdict(&guard(), &packet);
                assert_eq!(found, Err(Refusal::SnapEncapsulated), "{inner:#x}");
            }
        }
    }
    let carried = [
        [0xaa, 0xaa, 3, 8, 0, 7, 0x80, 0x9b],
        [0x42, 0x42, 3, 0, 0, 0, 8, 0],
        [0xaa, 0xaa, 3, 0, 0, 0, 0x88, 0xb5],
    ];
    for packet in carried.into_iter().flat_map(snap) {
        assert_eq!(verdict(&guard(), &packet), Ok(()));
    }
}
