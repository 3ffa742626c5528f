//! Connections that outlive a table (FLT-01).
#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use pontoon_nat::{Limits, Owner, Refusal, Resumable, SourceNat, TcpState};
use pontoon_packet::parse::protocol;
use pontoon_packet::parse::tcp_flags::{ACK, FIN, PSH, RST, SYN};
use world::*;

/// Another container, and another host outside.
const SECOND_INSIDE: Ipv4Addr = Ipv4Addr::new(172, 18, 0, 3);
const SECOND_SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 11);

/// What is written down, as the shell keeps it.
#[derive(Default)]
struct Journal(BTreeMap<u32, [u8; Resumable::LEN]>);

impl Journal {
    fn keep_up(&mut self, world: &mut World) {
        for (slot, change) in world.nat.changes() {
            let record = change.and_then(|flow| flow.to_bytes());
            self.0.insert(slot, record.unwrap_or([0; Resumable::LEN]));
        }
    }

    fn flows(&self) -> Vec<Resumable> {
        self.0.values().filter_map(Resumable::from_bytes).collect()
    }

    /// Another table that has taken everything up.
    fn next(&self, now: u64) -> World {
        let mut world = World::new(Limits::default());
        for flow in self.flows() {
            world.nat.resume(at(now), &flow).unwrap();
        }
        world
    }
}

fn opened(port: u16) -> (World, Journal) {
    let (mut world, mut journal) = (World::new(Limits::default()), Journal::default());
    world.open(1, port);
    journal.keep_up(&mut world);
    (world, journal)
}

#[test]
fn a_connection_goes_on_whoever_speaks_first() {
    let (_, journal) = opened(2000);
    for (first, second) in [
        (out(2000, ACK | PSH, 101, 501), back(2000, ACK, 501, 101)),
        (back(2000, ACK | PSH, 501, 101), out(2000, ACK, 101, 501)),
    ] {
        let mut world = journal.next(10);
        assert_eq!(world.pass(10, &first), Ok(()));
        assert_eq!(world.pass(11, &second), Ok(()));
        let flow = world.nat.flows(at(11)).next().unwrap();
        assert_eq!((flow.state, flow.assured), ("ESTABLISHED", true));
        assert_eq!(flow.expires_in.as_secs(), 432_000);
        assert_eq!(world.nat.len(), 1);
    }
}

/// What was lost at the end of the engine before is sent again; what came after it is at its receiver already,
/// and is acknowledged with it.
#[test]
fn what_only_the_engine_before_has_seen_may_be_acknowledged() {
    let (_, journal) = opened(2000);
    let mut world = journal.next(10);
    // Their windows are scaled by what only the handshake told.
    let sent = |seq, length| {
        let segment = back(2000, ACK | PSH, seq, 101).window(63);
        segment.payload(&vec![1; length])
    };
    let acknowledged = |ack| out(2000, ACK, 101, ack).window(8_000);
    assert_eq!(world.pass(10, &sent(501, 1000)), Ok(()));
    assert_eq!(world.pass(10, &acknowledged(4_000_501)), Ok(()));
    assert_eq!(world.pass(10, &sent(4_000_501, 9)), Ok(()));
    assert_eq!(world.pass(10, &acknowledged(4_000_510)), Ok(()));

    // The same while the other side is silent, and sends something of before again.
    let mut world = journal.next(10);
    for ack in [501, 2_501, 4_501] {
        assert_eq!(world.pass(10, &out(2000, ACK, 101, ack)), Ok(()), "{ack}");
    }
    assert_eq!(
        world.pass(10, &back(2000, ACK | PSH, 501, 101).payload(&[1; 1000])),
        Ok(())
    );

    // But not what nobody can have sent, of a connection that was seen from its beginning.
    let (mut world, _) = opened(2001);
    let unseen = out(2001, ACK, 101, 300_501);
    assert_eq!(world.pass(10, &unseen), Err(Refusal::InvalidTcp));
}

#[test]
fn its_timeout_begins_anew_and_it_ends_in_time() {
    let (_, journal) = opened(2000);
    let mut world = journal.next(1000);
    world.nat.handle_timeout(at(432_999));
    assert_eq!(world.nat.len(), 1);
    world.nat.handle_timeout(at(433_002));
    assert_eq!(world.nat.len(), 0);
}

#[test]
fn what_is_no_connection_yet_or_any_more_is_not_written_down() {
    let (mut world, mut journal) = (World::new(Limits::default()), Journal::default());
    world.pass(1, &out(3000, SYN, 1, 0)).unwrap();
    journal.keep_up(&mut world);
    assert_eq!(journal.flows(), []);

    world.open(1, 2000);
    journal.keep_up(&mut world);
    assert_eq!(journal.flows().len(), 1);
    world.close(1, 2000);
    journal.keep_up(&mut world);
    assert_eq!(journal.flows(), []);

    world.open(1, 2001);
    world.pass(2, &back(2001, RST, 501, 0)).unwrap();
    journal.keep_up(&mut world);
    assert_eq!(journal.flows(), []);

    world.open(3, 2002);
    world.nat.remove_owner(OWNER);
    journal.keep_up(&mut world);
    assert_eq!(journal.flows(), []);
}

#[test]
fn a_place_is_written_down_once_however_often_it_changes() {
    let (mut world, mut journal) = (World::new(Limits::default()), Journal::default());
    for round in 0..50 {
        world.open(round, 2000);
        world.nat.remove_owner(OWNER);
    }
    world.open(50, 2000);
    assert_eq!(world.nat.changes().count(), 1);
    world.open(50, 2001);
    journal.keep_up(&mut world);
    assert_eq!(journal.flows().len(), 1);
    assert_eq!(journal.flows()[0].original.src.port, 2001);
}

#[test]
fn frames_that_only_move_a_connection_on_are_not_written_down() {
    let (mut world, _) = opened(2000);
    for second in 2..10 {
        world.pass(second, &out(2000, ACK, 101, 501)).unwrap();
        world.pass(second, &back(2000, ACK, 501, 101)).unwrap();
    }
    assert_eq!(world.nat.changes().count(), 0);
    world.pass(10, &out(2000, FIN | ACK, 101, 501)).unwrap();
    let (_, half_closed) = world.nat.changes().next().unwrap();
    assert_eq!(half_closed.unwrap().state, TcpState::FinWait);
}

#[test]
fn a_mapping_keeps_its_external_port() {
    let (mut world, mut journal) = (World::new(Limits::default()), Journal::default());
    // Somebody else has the port already, so that this one gets another.
    let other = packet(SECOND_INSIDE, SERVER).udp(2000, 53);
    world.send(1, &other, MASQUERADE, Owner(2)).unwrap();
    let query = packet(INSIDE, SERVER).udp(2000, 53);
    world.send(1, &query, MASQUERADE, OWNER).unwrap();
    let external = world
        .nat
        .flows(at(1))
        .find(|f| f.owner == OWNER)
        .unwrap()
        .reply
        .dst
        .port;
    assert_ne!(external, 2000);
    let answer = packet(SERVER, EXTERNAL).udp(53, external);
    world.pass(1, &answer).unwrap();
    journal.keep_up(&mut world);
    assert_eq!(journal.flows().len(), 1, "nobody has answered the other");

    let mut world = journal.next(2);
    assert_eq!(world.pass(2, &answer), Ok(()));
    // And so do new flows from there.
    let elsewhere = packet(INSIDE, SECOND_SERVER).udp(2000, 53);
    world.send(2, &elsewhere, MASQUERADE, OWNER).unwrap();
    assert!(
        world
            .nat
            .flows(at(2))
            .all(|flow| flow.reply.dst.port == external)
    );
}

#[test]
fn what_contradicts_what_there_is_is_refused() {
    let (mut world, journal) = opened(2000);
    let flow = journal.flows()[0];
    let refused = |world: &mut World, flow| world.nat.resume(at(2), &flow);
    assert_eq!(
        refused(&mut world, flow),
        Err(Refusal::Clash),
        "it is there"
    );
    let mut next = journal.next(2);
    let mut stolen = flow;
    stolen.original.src = pontoon_packet::Endpoint::new(SECOND_INSIDE.into(), 2000);
    stolen.reply.src.port = 81;
    stolen.original.dst.port = 81;
    assert_eq!(
        refused(&mut next, stolen),
        Err(Refusal::Clash),
        "a mapping of another's"
    );
    for wrong in [
        Resumable {
            relayed: true,
            ..flow
        },
        Resumable {
            state: TcpState::None,
            ..flow
        },
        Resumable {
            reply: flow.original,
            ..flow
        },
    ] {
        let mut empty = World::new(Limits::default());
        assert_eq!(refused(&mut empty, wrong), Err(Refusal::Clash), "{wrong:?}");
        assert!(empty.nat.is_empty());
    }
}

#[test]
fn connections_whose_container_or_published_port_is_gone_end() {
    let (mut world, mut journal) = (World::new(Limits::default()), Journal::default());
    world.publish(protocol::UDP, 8080);
    let asked = packet(SERVER, EXTERNAL).udp(5000, 8080);
    world.send(1, &asked, SourceNat::Keep, OWNER).unwrap();
    world
        .pass(1, &packet(INSIDE, SERVER).udp(80, 5000))
        .unwrap();
    world.open(1, 2000);
    journal.keep_up(&mut world);
    assert_eq!(journal.flows().len(), 2);

    let mut next = journal.next(2);
    next.publish(protocol::UDP, 8080);
    next.nat.end_orphans(|owner| owner == OWNER);
    assert_eq!(next.nat.len(), 2);
    next.nat
        .unpublish(&published(EXTERNAL, protocol::UDP, 8080));
    let mut next = journal.next(2);
    next.nat.end_orphans(|owner| owner == OWNER);
    assert_eq!(next.nat.len(), 1, "the port is not published any more");
    next.nat.end_orphans(|_| false);
    assert_eq!(next.nat.len(), 0);
}

#[test]
fn any_bytes_are_a_record_or_none() {
    let (_, journal) = opened(2000);
    let record = journal.flows()[0].to_bytes().unwrap();
    for at in 0..Resumable::LEN {
        for value in 0..=255 {
            let mut bytes = record;
            bytes[at] = value;
            let Some(flow) = Resumable::from_bytes(&bytes) else {
                continue;
            };
            // Reserved bits are not kept.
            let again = Resumable::from_bytes(&flow.to_bytes().unwrap());
            assert_eq!(again, Some(flow));
        }
    }
    assert_eq!(Resumable::from_bytes(&[0; Resumable::LEN]), None);
}
