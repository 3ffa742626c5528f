//! The life of connections, through the public interface, with real frames.
#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use std::net::Ipv4Addr;
use std::time::Duration;

use pontoon_nat::{Direction, Limits, Lookup, Owner, Refusal, SourceNat};
use pontoon_packet::build::Packet;
use pontoon_packet::parse;
use pontoon_packet::parse::protocol;
use pontoon_packet::parse::tcp_flags::{ACK, RST, SYN};
use world::*;

#[test]
fn finished_connections_do_not_fill_a_share() {
    let mut world = World::new(flows_per_owner(4));
    for port in 2000..2004 {
        world.open(1, port);
        world.close(1, port);
    }
    assert!(world.nat.flows(at(1)).all(|flow| flow.state == "TIME_WAIT"));

    assert_eq!(world.pass(2, &out(3000, SYN, 1, 0)), Ok(()));
}

#[test]
fn open_connections_fill_a_share() {
    let mut world = World::new(flows_per_owner(4));
    for port in 2000..2004 {
        world.open(1, port);
    }

    assert_eq!(
        world.pass(2, &out(3000, SYN, 1, 0)),
        Err(Refusal::ShareFull)
    );
}

#[test]
fn reset_connections_are_gone_after_ten_seconds_however_old_they_are() {
    let mut world = World::new(flows_per_owner(4));
    for port in 2000..2004 {
        world.open(1, port);
    }
    // Long enough for the wheel to have moved them to a coarser level.
    world.nat.handle_timeout(at(130));
    for port in 2000..2004 {
        world.pass(131, &back(port, RST, 501, 0)).unwrap();
    }

    world.nat.handle_timeout(at(140));
    assert_eq!(world.nat.len(), 4);
    world.nat.handle_timeout(at(143));
    assert_eq!(world.nat.len(), 0);
}

#[test]
fn one_client_port_may_use_two_published_ports_of_one_target() {
    let mut world = World::new(Limits::default());
    world.publish(protocol::TCP, 8080);
    world.publish(protocol::TCP, 8081);
    let syn = |port| packet(SERVER, EXTERNAL).tcp(1234, port, SYN, 1, 0);

    let (first, _) = world.send(1, &syn(8080), SourceNat::Keep, OWNER).unwrap();
    let (second, _) = world.send(1, &syn(8081), SourceNat::Keep, OWNER).unwrap();

    let kept = world.nat.translation(first, Direction::Original);
    assert_eq!(kept.src, None);
    let moved = world.nat.translation(second, Direction::Original).src;
    let moved = moved.unwrap();
    assert_eq!(moved.addr, SERVER);
    assert_ne!(moved.port, 1234);
}

#[test]
fn a_reopened_connection_is_a_handshake_again() {
    let mut world = World::new(Limits::default());
    world.open(1, 2000);
    world.close(1, 2000);

    world.pass(2, &out(2000, SYN, 9000, 0)).unwrap();

    let flow = world.only_flow(2);
    assert_eq!((flow.state, flow.assured), ("SYN_SENT", false));
}

#[test]
fn a_syn_from_outside_reopens_nothing() {
    let mut world = World::new(Limits::default());
    world.open(1, 2000);
    world.close(1, 2000);

    assert_eq!(
        world.pass(2, &back(2000, SYN, 90_000, 0)),
        Err(Refusal::InvalidTcp)
    );
    assert_eq!(world.only_flow(2).state, "TIME_WAIT");
}

#[test]
fn a_segment_that_proves_nothing_does_not_refresh() {
    let mut world = World::new(Limits::default());
    world.open(1, 2000);

    // Any numbers: it passes, since its receiver will answer it with an acknowledgement.
    world.pass(400_000, &back(2000, SYN | ACK, 7, 9)).unwrap();
    let left = world.only_flow(400_000).expires_in;
    assert!(left < Duration::from_secs(40_000), "{left:?}");

    world.pass(400_000, &back(2000, ACK, 501, 101)).unwrap();
    assert_eq!(
        world.only_flow(400_000).expires_in,
        Duration::from_secs(432_000)
    );
}

#[test]
fn a_first_packet_that_is_refused_evicts_nobody() {
    let mut world = World::new(flows_per_owner(1));
    let gre = |src| packet(src, SERVER).protocol(47).payload(&[0; 8]);
    let other = Ipv4Addr::new(172, 18, 0, 3);
    world.send(1, &gre(INSIDE), MASQUERADE, OWNER).unwrap();
    let udp = packet(other, SERVER).udp(1, 2);
    world.send(1, &udp, MASQUERADE, Owner(2)).unwrap();

    let clash = world.send(1, &gre(other), MASQUERADE, Owner(2));

    assert_eq!(clash.map(|_| ()), Err(Refusal::Clash));
    assert_eq!(world.nat.len(), 2);
}

#[test]
fn an_error_made_inside_by_a_third_party_shows_no_inside_address() {
    let mut world = World::new(Limits::default());
    world
        .pass(1, &packet(INSIDE, SERVER).udp(2000, 53))
        .unwrap();
    let error = |from: Ipv4Addr, quoted: Packet| {
        let quoted = quoted.build()[14..].to_vec();
        packet(from, SERVER)
            .icmp(3, 1, [0; 4])
            .payload(&quoted)
            .build()
    };
    let router = Ipv4Addr::new(172, 18, 0, 1);
    let mut bytes = error(router, packet(SERVER, INSIDE).udp(53, 2000));

    world.translate_error(1, &mut bytes);

    assert_eq!(
        bytes,
        error(EXTERNAL, packet(SERVER, EXTERNAL).udp(53, 2000))
    );
}

#[test]
fn a_quoted_checksum_that_comes_out_as_zero_is_written_as_ones() {
    let mut world = World::new(Limits::default());
    let query = |src, filler: u16| {
        let packet = packet(src, SERVER).udp(2000, 53);
        packet.payload(&filler.to_be_bytes()).build()
    };
    let all_ones = |filler: &u16| query(INSIDE, *filler)[40..42] == [0xff, 0xff];
    let filler = (0..=u16::MAX).find(all_ones).unwrap();
    world
        .pass(1, &packet(INSIDE, SERVER).udp(2000, 53))
        .unwrap();
    let error = |to, quoted: &[u8]| {
        let error = packet(SERVER, to).icmp(3, 3, [0; 4]);
        error.payload(&quoted[14..]).build()
    };
    let mut bytes = error(EXTERNAL, &query(EXTERNAL, filler));

    world.translate_error(1, &mut bytes);

    assert_eq!(bytes, error(INSIDE, &query(INSIDE, filler)));
}

#[test]
fn unpublishing_an_address_leaves_the_flows_of_another() {
    let mut world = World::new(Limits::default());
    for addr in [EXTERNAL, SECOND] {
        let port = published(addr, protocol::TCP, 8080);
        world.nat.publish(port).unwrap();
        let syn = packet(SERVER, addr).tcp(1234, 8080, SYN, 1, 0);
        world.send(1, &syn, SourceNat::Keep, OWNER).unwrap();
    }

    world.nat.unpublish(&published(SECOND, protocol::TCP, 8080));

    assert_eq!(world.only_flow(1).original.dst.addr, EXTERNAL);
}

/// Any order of packets, timeouts and removals: what is in the table is found by both of its tuples;
/// an external endpoint belongs to one inside endpoint and the other way round; a published port is
/// nobody's external port.
#[test]
fn tuples_mappings_and_published_ports_stay_apart_in_any_order_of_events() {
    let mut world = World::new(Limits {
        flows: 200,
        flows_per_owner: 80,
        ..Limits::default()
    });
    world.publish(protocol::UDP, 2005);
    let mut random = xorshift(88_172_645_463_325_252);
    let mut now = 1;
    for step in 0..100_000_u32 {
        let src = Ipv4Addr::new(172, 18, 0, 2 + random(5) as u8);
        let dst = Ipv4Addr::new(198, 51, 100, random(4) as u8);
        let port = 2000 + random(12) as u16;
        let owner = Owner(u32::from(src.octets()[3]));
        // Refusals are part of the game: only what the table holds afterwards is judged.
        match random(40) {
            0 => {
                now += random(40);
                world.nat.handle_timeout(at(now));
            }
            1 => world.nat.remove_owner(Owner(3 + random(4) as u32)),
            2 => world.nat.flush_address(EXTERNAL.into()),
            3..12 => {
                let reply = packet(dst, EXTERNAL).udp(53, port);
                let _ = world.send(now, &reply, SourceNat::Keep, Owner(2));
            }
            12..20 => {
                let syn = packet(src, dst).tcp(port, 80, SYN, step, 0);
                let _ = world.send(now, &syn, MASQUERADE, owner);
            }
            _ => {
                let query = packet(src, dst).udp(port, 53);
                let _ = world.send(now, &query, MASQUERADE, owner);
            }
        }
        if step % 64 == 0 {
            check(&world, now);
        }
    }
}

fn xorshift(mut state: u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    }
}

fn check(world: &World, now: u64) {
    assert!(world.nat.len() <= 200);
    let mut inside_of = std::collections::HashMap::new();
    let mut external_of = std::collections::HashMap::new();
    for flow in world.nat.flows(at(now)) {
        assert_eq!(found(world, now, &flow.original), Direction::Original);
        assert_eq!(found(world, now, &flow.reply), Direction::Reply);
        if flow.original.dst.addr == EXTERNAL {
            continue;
        }
        let protocol = flow.original.protocol;
        let (inside, external) = (flow.original.src, flow.reply.dst);
        assert_eq!(
            *inside_of.entry((protocol, external)).or_insert(inside),
            inside
        );
        assert_eq!(
            *external_of.entry((protocol, inside)).or_insert(external),
            external
        );
        assert!(!(protocol == protocol::UDP && external.port == 2005));
    }
}

fn found(world: &World, now: u64, tuple: &pontoon_nat::Tuple) -> Direction {
    let (std::net::IpAddr::V4(src), std::net::IpAddr::V4(dst)) = (tuple.src.addr, tuple.dst.addr)
    else {
        panic!("not IPv4: {tuple:?}");
    };
    let packet = packet(src, dst);
    let packet = match tuple.protocol {
        protocol::UDP => packet.udp(tuple.src.port, tuple.dst.port),
        _ => packet.tcp(tuple.src.port, tuple.dst.port, ACK, 0, 0),
    };
    let facts = parse(&packet.build()).unwrap();
    match world.nat.lookup(at(now), facts.ip().unwrap(), || false) {
        Ok(Lookup::Known { direction, .. }) => direction,
        other => panic!("{tuple:?}: {other:?}"),
    }
}
