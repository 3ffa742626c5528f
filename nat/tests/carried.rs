//! Connections that are carried elsewhere, through the public interface, with real frames.
#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use std::time::Duration;

use pontoon_nat::{ConnId, Direction, Limits, Owner, Refusal};
use pontoon_packet::parse;
use pontoon_packet::parse::protocol;
use pontoon_packet::parse::tcp_flags::{ACK, FIN, RST, SYN};
use world::*;

const ESTABLISHED: Duration = Duration::from_secs(432_000);
const UNANSWERED: Duration = Duration::from_secs(300);

/// A connection of the container's, handed over after its handshake.
fn carried(now: u64, port: u16) -> (World, ConnId) {
    let mut world = World::new(Limits::default());
    let id = hand_over(&mut world, now, port);
    (world, id)
}

fn hand_over(world: &mut World, now: u64, port: u16) -> ConnId {
    world.open(now, port);
    let id = id_of(world, now, port);
    assert!(world.nat.may_be_carried(id));
    world.nat.hand_over(id);
    id
}

fn id_of(world: &World, now: u64, port: u16) -> ConnId {
    let bytes = out(port, ACK, 0, 0).build();
    let facts = parse(&bytes).unwrap();
    world.nat.find(at(now), facts.ip().unwrap()).unwrap().0
}

/// A query of the container's and its answer.
fn exchange(world: &mut World, now: u64) -> ConnId {
    world
        .pass(now, &packet(INSIDE, SERVER).udp(5000, 53))
        .unwrap();
    let answer = packet(SERVER, EXTERNAL).udp(53, 5000);
    let (id, _) = world.send(now, &answer, MASQUERADE, OWNER).unwrap();
    id
}

#[test]
fn what_is_seen_of_it_is_not_held_against_numbers_until_it_comes_back() {
    let (mut world, id) = carried(1, 2000);
    assert!(world.only_flow(1).carried);
    for far in [7_000_000, 3_000_000_000, 5] {
        world.pass(2, &out(2000, ACK, far, 501)).unwrap();
    }

    world.nat.take_back(id);
    assert!(!world.only_flow(2).carried);
    world
        .pass(2, &out(2000, ACK, 9_000_000, 8_000_000))
        .unwrap();
    world
        .pass(2, &back(2000, ACK, 8_000_000, 9_000_000))
        .unwrap();
    let forged = out(2000, RST, 3_000_000_000, 8_000_000);
    assert_eq!(world.pass(2, &forged), Err(Refusal::InvalidTcp));
    assert_eq!(world.only_flow(2).state, "ESTABLISHED");
    assert_eq!(world.nat.released(), []);
}

/// What comes first afterwards may be old, and the acknowledgement of what follows it may have been carried: nobody
/// says anything else then, until what is sent again gets through.
#[test]
fn what_is_sent_again_after_it_came_back_gets_through_whatever_was_heard_before() {
    let (mut world, id) = carried(1, 2000);
    world.nat.take_back(id);
    let sent = |seq| {
        let segment = back(2000, ACK, seq, 101).window(63);
        segment.payload(&[1; 1000])
    };
    // All that one side offers is sent while nothing is heard of the other.
    for nth in 0..1100 {
        world.pass(2, &sent(501 + 1000 * nth)).unwrap();
    }
    // And once both were heard, but the acknowledgement of what was carried meanwhile was not.
    world.pass(3, &out(2000, ACK, 101, 501).window(8)).unwrap();
    world.pass(4, &sent(3_000_000_000)).unwrap();
    world.pass(4, &out(2000, ACK, 101, 1_100_501)).unwrap();
    assert_eq!(world.only_flow(4).state, "ESTABLISHED");
    assert_eq!(world.only_flow(4).expires_in, ESTABLISHED);
}

/// Of what was not seen from its beginning, nobody can say which reset is forged.
#[test]
fn a_reset_that_is_the_first_to_be_heard_afterwards_puts_it_in_doubt() {
    let (mut world, id) = carried(1, 2000);
    world.nat.take_back(id);
    world.pass(2, &back(2000, RST, 77, 0)).unwrap();
    let flow = world.only_flow(2);
    assert_eq!((flow.state, flow.assured), ("ESTABLISHED", false));
    assert_eq!(flow.expires_in, UNANSWERED);

    world.pass(3, &back(2000, ACK, 501, 101)).unwrap();
    world.pass(3, &out(2000, ACK, 101, 501)).unwrap();
    assert!(world.nat.may_be_carried(id), "it was forged");
    world.pass(4, &back(2000, RST, 501, 0)).unwrap();
    assert_eq!(world.only_flow(4).state, "CLOSE");
}

/// One that begins anew between the same ends is seen from its beginning.
#[test]
fn the_next_connection_between_the_same_ends_is_held_against_its_numbers() {
    let (mut world, id) = carried(1, 2000);
    world.nat.take_back(id);
    world.close(2, 2000);
    world.open(3, 2000);
    let beyond = out(2000, ACK, 3_000_000_000, 501);
    assert_eq!(world.pass(3, &beyond), Err(Refusal::InvalidTcp));
}

#[test]
fn what_is_reported_is_counted_and_keeps_it_alive() {
    let (mut world, id) = carried(1, 2000);
    let before = world.only_flow(1).traffic;
    world.nat.credit(at(400_000), id, Direction::Reply, 7, 9000);

    let flow = world.only_flow(400_000);
    assert_eq!(flow.traffic[0], before[0]);
    assert_eq!(flow.traffic[1].packets, before[1].packets + 7);
    assert_eq!(flow.traffic[1].bytes, before[1].bytes + 9000);
    assert_eq!(flow.expires_in, ESTABLISHED);
    // The wheel comes to it at its first deadline, and again at the later one.
    for second in (432_000..832_000).step_by(500) {
        world.nat.handle_timeout(at(second));
    }
    assert_eq!(world.nat.len(), 1);
    world.nat.handle_timeout(at(832_001));
    assert_eq!(world.nat.len(), 0);
}

#[test]
fn one_direction_is_enough_to_keep_datagrams_going() {
    let mut world = World::new(Limits::default());
    let id = exchange(&mut world, 1);
    world.nat.hand_over(id);
    for second in (100..2000).step_by(100) {
        world.nat.handle_timeout(at(second));
        world
            .nat
            .credit(at(second), id, Direction::Original, 1, 100);
    }
    assert_eq!(world.only_flow(1900).expires_in, Duration::from_secs(120));
    world.nat.handle_timeout(at(2021));
    assert_eq!((world.nat.len(), world.nat.released()), (0, vec![id]));
}

#[test]
fn a_report_of_a_connection_that_has_ended_is_not_credited_to_the_next_in_its_place() {
    let (mut world, id) = carried(1, 2000);
    world.nat.end(id);
    world.open(2, 2000);
    let next = id_of(&world, 2, 2000);
    assert_eq!(
        (next.slot, next.generation != id.generation),
        (id.slot, true)
    );
    let before = world.only_flow(2);

    world.nat.credit(at(3), id, Direction::Original, 7, 9000);
    world.nat.take_back(id);
    world.nat.hand_over(id);

    assert_eq!(world.only_flow(2), before);
}

/// Whatever ends a connection that is carried, it is reported, once, and others are not.
#[test]
fn however_it_ends_it_is_released() {
    type End = fn(&mut World, ConnId);
    let ends: [(&str, End); 7] = [
        ("end", |world, id| world.nat.end(id)),
        ("owner", |world, _| world.nat.remove_owner(OWNER)),
        ("address", |world, _| {
            world.nat.flush_address(EXTERNAL.into())
        }),
        ("orphan", |world, _| {
            world.nat.end_orphans(|owner| owner != OWNER)
        }),
        ("time", |world, _| world.nat.handle_timeout(at(432_002))),
        ("published over it", |world, _| {
            world.publish(protocol::TCP, 2000)
        }),
        ("buried", |world, _| {
            world.pass(500_000, &out(2000, SYN, 1, 0)).unwrap();
        }),
    ];
    for (name, end) in ends {
        let (mut world, id) = carried(1, 2000);
        let other = packet(INSIDE, SERVER).udp(5000, 53);
        world.send(1, &other, MASQUERADE, Owner(2)).unwrap();
        end(&mut world, id);
        assert_eq!(world.nat.released(), [id], "{name}");
        assert_eq!(world.nat.released(), [], "{name}");
    }
}

#[test]
fn who_came_by_a_port_that_is_taken_back_is_released() {
    let mut world = World::new(Limits::default());
    world.publish(protocol::UDP, 8053);
    let query = packet(SERVER, EXTERNAL).udp(4000, 8053);
    let keep = pontoon_nat::SourceNat::Keep;
    let (id, _) = world.send(1, &query, keep, OWNER).unwrap();
    world
        .pass(1, &packet(INSIDE, SERVER).udp(80, 4000))
        .unwrap();
    world.nat.hand_over(id);

    world
        .nat
        .unpublish(&published(EXTERNAL, protocol::UDP, 8053));

    assert_eq!(world.nat.released(), [id]);
}

#[test]
fn a_reset_puts_it_in_doubt_until_both_sides_are_heard_again() {
    let (mut world, id) = carried(1, 2000);
    world.pass(2, &back(2000, RST, 77, 0)).unwrap();

    assert_eq!(world.nat.released(), [id]);
    assert!(!world.nat.may_be_carried(id));
    let flow = world.only_flow(2);
    assert_eq!((flow.state, flow.assured), ("ESTABLISHED", false));
    assert_eq!(flow.expires_in, UNANSWERED);

    world.pass(3, &out(2000, ACK, 101, 501)).unwrap();
    assert!(
        !world.nat.may_be_carried(id),
        "its sender knows nothing of it"
    );
    world.pass(3, &back(2000, ACK, 501, 101)).unwrap();
    assert!(
        !world.nat.may_be_carried(id),
        "who got it may have ended it"
    );
    assert_eq!(world.only_flow(3).expires_in, UNANSWERED);
    world.pass(3, &out(2000, ACK, 101, 501)).unwrap();
    assert!(world.nat.may_be_carried(id), "the reset was forged");
    assert_eq!(world.only_flow(3).expires_in, ESTABLISHED);
}

/// Whichever side it is that is said to have reset the connection.
#[test]
fn one_side_alone_does_not_end_the_doubt() {
    let segments = [
        (out(2000, RST, 77, 0), out(2000, ACK, 101, 501)),
        (back(2000, RST, 77, 0), back(2000, ACK, 501, 101)),
    ];
    for (way, (reset, sender)) in segments.iter().enumerate() {
        let (mut world, id) = carried(1, 2000);
        world.pass(2, reset).unwrap();
        for _ in 0..10 {
            world.pass(2, sender).unwrap();
            assert!(!world.nat.may_be_carried(id));
            assert_eq!(world.only_flow(2).expires_in, UNANSWERED);
        }
        world.pass(3, &segments[1 - way].1).unwrap();
        assert!(world.nat.may_be_carried(id));
        assert_eq!(world.only_flow(3).expires_in, ESTABLISHED);
    }
}

#[test]
fn after_a_reset_a_connection_between_the_same_ends_can_begin() {
    let late_of_client = out(2000, ACK, 101, 501);
    let late_of_server = back(2000, ACK, 501, 101);
    let resets = [
        (out(2000, RST, 101, 0), late_of_server),
        (back(2000, RST, 501, 0), late_of_client),
    ];
    for (reset, late) in resets {
        let (mut world, id) = carried(1, 2000);
        world.pass(2, &reset).unwrap();
        world.pass(2, &late).unwrap();
        assert!(
            !world.nat.may_be_carried(id),
            "it was under way when the reset came"
        );
        assert_eq!(world.only_flow(2).expires_in, UNANSWERED);

        let (client, server) = (2_000_000_000, 3_000_000_000);
        world.pass(3, &out(2000, SYN, client, 0)).unwrap();
        world
            .pass(3, &back(2000, SYN | ACK, server, client + 1))
            .unwrap();
        world
            .pass(3, &out(2000, ACK, client + 1, server + 1))
            .unwrap();
        world
            .pass(3, &back(2000, ACK, server + 1, client + 1))
            .unwrap();
        world
            .pass(3, &out(2000, ACK, client + 1, server + 1))
            .unwrap();
        assert!(world.nat.may_be_carried(id));
    }
}

#[test]
fn a_connection_in_doubt_that_nobody_uses_ends() {
    let (mut world, _) = carried(1, 2000);
    world.pass(2, &back(2000, RST, 501, 0)).unwrap();
    world.nat.handle_timeout(at(303));
    assert_eq!(world.nat.len(), 0);
}

#[test]
fn who_finishes_first_gets_what_the_other_has_still_to_say() {
    let (mut world, id) = carried(1, 2000);
    world
        .pass(2, &out(2000, FIN | ACK, 5_000_101, 6_000_501))
        .unwrap();

    assert_eq!(world.nat.released(), [id]);
    assert!(!world.nat.may_be_carried(id), "it is not carried again");
    world
        .pass(2, &back(2000, ACK, 6_000_501, 5_000_102))
        .unwrap();
    assert_eq!(world.only_flow(2).state, "CLOSE_WAIT");
    for data in 0..3 {
        world
            .pass(3, &back(2000, ACK, 6_000_501 + data, 5_000_102))
            .unwrap();
        world
            .pass(3, &out(2000, ACK, 5_000_102, 6_000_501 + data))
            .unwrap();
    }
    world
        .pass(4, &back(2000, FIN | ACK, 6_000_503, 5_000_102))
        .unwrap();
    world
        .pass(4, &out(2000, ACK, 5_000_102, 6_000_504))
        .unwrap();
    assert_eq!(world.only_flow(4).state, "TIME_WAIT");
    assert_eq!(world.nat.released(), []);
}

#[test]
fn a_segment_that_begins_a_connection_ends_none_that_is_carried() {
    let (mut world, _) = carried(1, 2000);
    world.pass(2, &out(2000, SYN, 9, 0)).unwrap();
    assert_eq!(
        world.pass(2, &back(2000, SYN, 9, 0)),
        Err(Refusal::InvalidTcp)
    );
    assert!(world.only_flow(2).carried);
    assert_eq!(world.nat.released(), []);
}

#[test]
fn what_is_carried_is_written_down_as_any_other() {
    let (mut world, id) = carried(1, 2000);
    let first: Vec<_> = world.nat.changes().collect();
    assert!(first[0].1.is_some());
    world.nat.credit(at(2), id, Direction::Original, 7, 9000);
    assert_eq!(world.nat.changes().count(), 0, "only moved on");
    world.pass(3, &out(2000, RST, 101, 0)).unwrap();
    assert_eq!(world.nat.changes().collect::<Vec<_>>(), [(id.slot, None)]);
}
