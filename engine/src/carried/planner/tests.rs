//! What is carried when, and what is left.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;

use pontoon_packet::MacAddr;
use pontoon_packet::parse::protocol::TCP;

use super::super::{Carriage, EVERY};
use super::*;
use crate::config::PortId;

const SENDER: MacAddr = MacAddr([4; 6]);
const RECEIVER: MacAddr = MacAddr([2; 6]);

fn planner() -> Planner {
    Planner::new(RandomState::with_seeds(1, 2, 3, 4))
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_nanos(millis * 1_000_000)
}

fn flow(nth: u32) -> Flow {
    Flow {
        seen: Seen {
            ingress: PortId(nth),
            dst_mac: RECEIVER,
            src_mac: SENDER,
            protocol: TCP,
            src: Ipv4Addr::new(10, 0, 0, 1),
            dst: Ipv4Addr::new(10, 0, 0, 2),
            routed: None,
        },
        then: Carriage {
            egress: PortId(1000),
            rewritten: None,
        },
        connection: None,
        next_hop: None,
    }
}

fn id(slot: u32) -> ConnId {
    let generation = 0;
    ConnId { slot, generation }
}

fn of_connection(nth: u32, slot: u32, direction: Direction) -> Flow {
    Flow {
        connection: Some((id(slot), direction)),
        ..flow(nth)
    }
}

fn looked_at(planner: &mut Planner, times: u8, flow: Flow) {
    for _ in 0..times {
        planner.meet(at(0), flow);
    }
}

fn changes(planner: &mut Planner) -> Vec<Change> {
    planner.changes().1
}

fn carried(planner: &mut Planner, flow: Flow) {
    looked_at(planner, LOOKS, flow);
    let changes = changes(planner);
    assert_eq!(changes.last(), Some(&Change::Carry(flow.seen, flow.then)));
}

/// Reports so much, counted when all orders so far were obeyed. Gives back what is credited.
fn report(planner: &mut Planner, millis: u64, flow: Flow, packets: u64) -> Vec<(u64, u64)> {
    let (orders, none) = planner.changes();
    assert_eq!(none, []);
    reported(planner, millis, orders, flow, packets)
}

fn reported(
    planner: &mut Planner,
    millis: u64,
    orders: u64,
    flow: Flow,
    packets: u64,
) -> Vec<(u64, u64)> {
    let counted = Counted {
        seen: flow.seen,
        packets,
        bytes: packets * 100,
    };
    let credits = planner.counted(at(millis), orders, &[counted]);
    let credits = credits.iter().map(|c| (c.packets, c.bytes));
    credits.collect()
}

#[test]
fn a_flow_that_is_met_often_enough_is_carried_once() {
    let mut planner = planner();
    for look in 1..LOOKS {
        planner.meet(at(u64::from(look)), flow(1));
        assert_eq!(changes(&mut planner), []);
    }
    for _ in 0..10 {
        planner.meet(at(10), flow(1));
    }
    let carry = Change::Carry(flow(1).seen, flow(1).then);
    assert_eq!(changes(&mut planner), [carry]);
    assert_eq!(planner.len(), 1);
}

#[test]
fn a_flow_that_is_met_now_and_then_is_not() {
    let mut planner = planner();
    let pause = WINDOW.as_millis() as u64 / u64::from(LOOKS - 1) + 1;
    for look in 0..100 {
        planner.meet(at(look * pause), flow(1));
    }
    assert!(planner.is_empty() && changes(&mut planner).is_empty());
    assert!(
        EVERY * u32::from(LOOKS) >= 100,
        "short flows are not carried"
    );
}

#[test]
fn however_many_flows_there_are_no_more_are_watched() {
    let mut planner = planner();
    for nth in 0..100_000 {
        planner.meet(at(0), flow(nth));
    }
    assert_eq!(planner.candidates.len(), CANDIDATES);
    assert!(planner.is_empty());
}

/// Flows that come by a port, one for each number.
fn of_port(port: u32, nth: u32) -> Flow {
    let mut flow = flow(port);
    flow.seen.dst = Ipv4Addr::from(nth);
    flow
}

#[test]
fn a_port_has_a_share_of_what_is_carried() {
    let mut planner = planner();
    for nth in 0..OF_A_PORT + 10 {
        looked_at(&mut planner, LOOKS, of_port(1, nth));
    }
    assert_eq!(planner.len(), OF_A_PORT as usize);
    changes(&mut planner);
    carried(&mut planner, flow(2));
    assert!(planner.counters().contains(&("carried.refused", 10)));
}

#[test]
fn who_has_most_gives_way_when_there_is_no_room() {
    let mut planner = planner();
    let ports = CARRIED as u32 / OF_A_PORT;
    for port in 0..ports {
        for nth in 0..OF_A_PORT {
            looked_at(&mut planner, LOOKS, of_port(port, nth));
        }
    }
    changes(&mut planner);
    assert_eq!(planner.len(), CARRIED);
    looked_at(&mut planner, LOOKS, of_port(ports, 0));
    let [Change::Leave(left), Change::Carry(begun, _)] = changes(&mut planner)[..] else {
        panic!("one for another");
    };
    assert!(left.ingress != begun.ingress);
    assert_eq!((begun, planner.len()), (of_port(ports, 0).seen, CARRIED));
    looked_at(&mut planner, LOOKS, of_port(left.ingress.0, OF_A_PORT));
    assert_eq!(changes(&mut planner), [], "nobody has more");
}

#[test]
fn a_new_epoch_leaves_everything_and_what_was_to_be_carried() {
    let mut planner = planner();
    assert_eq!(planner.leave_all(), None);
    assert_eq!(changes(&mut planner), [], "nothing was carried");
    carried(&mut planner, flow(1));
    looked_at(&mut planner, LOOKS, flow(2));
    looked_at(&mut planner, LOOKS - 1, flow(3));
    planner.leave_all();
    planner.meet(at(0), flow(3));
    assert_eq!(settle(&mut planner), [Change::LeaveAll]);
    assert!(planner.is_empty());
    carried(&mut planner, flow(1));
}

#[test]
fn a_new_epoch_is_told_as_long_as_the_kernel_may_carry_what_was_just_left() {
    let mut planner = planner();
    carried(&mut planner, of_connection(1, 7, Direction::Original));
    planner.leave(id(7));
    assert_eq!(changes(&mut planner).len(), 1);
    assert!(planner.is_empty());

    assert_eq!(planner.leave_all(), Some(Vec::new()));
    assert_eq!(planner.leave_all(), None);
}

#[test]
fn both_directions_of_a_connection_are_left_together() {
    let mut planner = planner();
    let there = of_connection(1, 7, Direction::Original);
    let back = of_connection(2, 7, Direction::Reply);
    carried(&mut planner, there);
    carried(&mut planner, back);
    carried(&mut planner, of_connection(3, 8, Direction::Original));
    planner.leave(id(7));
    let left = [there, back].map(|flow| Change::Leave(flow.seen));
    assert_eq!(changes(&mut planner), left);
    planner.leave(id(7));
    assert_eq!((changes(&mut planner), planner.len()), (Vec::new(), 1));
}

#[test]
fn the_next_connection_in_a_place_is_another_one() {
    let mut planner = planner();
    let generation = 1;
    let next = Flow {
        connection: Some((
            ConnId {
                slot: 7,
                generation,
            },
            Direction::Original,
        )),
        ..flow(2)
    };
    carried(&mut planner, of_connection(1, 7, Direction::Original));
    carried(&mut planner, next);
    planner.leave(id(7));
    assert_eq!(changes(&mut planner), [Change::Leave(flow(1).seen)]);
    assert_eq!(planner.len(), 1);
}

#[test]
fn a_direction_that_comes_another_way_is_carried_only_that_way() {
    let mut planner = planner();
    let before = of_connection(1, 7, Direction::Original);
    let after = of_connection(2, 7, Direction::Original);
    carried(&mut planner, before);
    let look_again = |planner: &mut Planner, millis| {
        for _ in 0..LOOKS {
            planner.meet(at(millis), after);
        }
    };
    look_again(&mut planner, STEADY.as_millis() as u64 - 1);
    assert_eq!(changes(&mut planner), []);
    look_again(&mut planner, STEADY.as_millis() as u64);
    let expected = [
        Change::Leave(before.seen),
        Change::Carry(after.seen, after.then),
    ];
    assert_eq!(changes(&mut planner), expected);
    assert_eq!(planner.len(), 1);
}

/// Who sends with two times to live by turns would have the kernel's tables changed for every few frames.
#[test]
fn who_takes_turns_with_himself_changes_little() {
    let mut planner = planner();
    let by_turns = [1, 2].map(|nth| of_connection(nth, 7, Direction::Original));
    let mut all = 0;
    for turn in 0..1000u64 {
        for _ in 0..LOOKS {
            planner.meet(at(turn), by_turns[turn as usize % 2]);
        }
        all += settle(&mut planner).len();
    }
    assert!((1..10).contains(&all), "{all}");
}

#[test]
fn what_is_left_before_anybody_was_told_to_carry_it_is_not_ordered() {
    let mut planner = planner();
    let flow = of_connection(1, 7, Direction::Original);
    looked_at(&mut planner, LOOKS, flow);
    planner.leave(id(7));
    assert_eq!(changes(&mut planner), []);

    carried(&mut planner, flow);
    planner.leave(id(7));
    looked_at(&mut planner, LOOKS, flow);
    planner.leave(id(7));
    assert_eq!(changes(&mut planner), [Change::Leave(flow.seen)]);
    assert!(planner.is_empty());
}

#[test]
fn what_depends_on_a_place_or_a_next_hop_is_left_and_nothing_else() {
    let hop = |last| IpAddr::from([192, 0, 2, last]);
    let by = |nth, last, slot| Flow {
        next_hop: Some(hop(last)),
        ..of_connection(nth, slot, Direction::Original)
    };
    let mut elsewhere = flow(1);
    elsewhere.seen.src_mac = MacAddr([6; 6]);
    elsewhere.seen.dst_mac = MacAddr([8; 6]);
    for what in [
        Dependence::Place(SENDER),
        Dependence::Place(RECEIVER),
        Dependence::Hop(hop(1)),
    ] {
        let mut planner = planner();
        carried(&mut planner, elsewhere);
        carried(&mut planner, by(2, 1, 7));
        assert_eq!(planner.leave_dependent(Dependence::Hop(hop(3))), []);
        assert_eq!(planner.leave_dependent(what), [id(7)]);
        assert_eq!(changes(&mut planner), [Change::Leave(by(2, 1, 7).seen)]);
        assert_eq!(planner.leave_dependent(what), []);
        assert_eq!(planner.len(), 1);
    }
}

#[test]
fn what_was_counted_is_credited_once_and_silent_flows_are_left() {
    let mut planner = planner();
    carried(&mut planner, flow(1));
    let silence = SILENCE.as_millis() as u64;
    assert_eq!(report(&mut planner, 1000, flow(1), 10), [(10, 1000)]);
    assert_eq!(report(&mut planner, 2000, flow(1), 10), []);
    assert_eq!(report(&mut planner, 3000, flow(1), 35), [(25, 2500)]);
    assert_eq!(planner.leave_silent(at(2999 + silence)), []);
    assert_eq!(changes(&mut planner), []);
    assert_eq!(planner.leave_silent(at(3000 + silence)), []);
    assert_eq!(changes(&mut planner), [Change::Leave(flow(1).seen)]);
    assert_eq!(report(&mut planner, 4000 + silence, flow(1), 40), []);
    assert!(
        Duration::from_secs(120) > SILENCE,
        "no connection ends before it is left"
    );
}

#[test]
fn one_direction_of_a_connection_may_fall_silent() {
    let mut planner = planner();
    let there = of_connection(1, 7, Direction::Original);
    let back = of_connection(2, 7, Direction::Reply);
    carried(&mut planner, there);
    carried(&mut planner, back);
    let silence = SILENCE.as_millis() as u64;
    report(&mut planner, silence - 1, there, 1);
    assert_eq!(planner.leave_silent(at(silence)), []);
    assert_eq!(changes(&mut planner), [Change::Leave(back.seen)]);
    assert_eq!(planner.leave_silent(at(2 * silence)), [id(7)]);
}

#[test]
fn what_was_counted_before_a_flow_was_carried_again_is_not_credited_to_it() {
    let mut planner = planner();
    let flow = of_connection(1, 7, Direction::Original);
    carried(&mut planner, flow);
    let (early, _) = planner.changes();
    planner.leave(id(7));
    settle(&mut planner);
    carried(&mut planner, flow);
    let (late, _) = planner.changes();

    assert_eq!(reported(&mut planner, 1, early, flow, 1000), []);
    assert_eq!(reported(&mut planner, 2, late, flow, 3), [(3, 300)]);
}

#[test]
fn what_the_kernel_refuses_is_met_as_if_for_the_first_time() {
    let mut planner = planner();
    let there = of_connection(1, 7, Direction::Original);
    let back = of_connection(2, 7, Direction::Reply);
    carried(&mut planner, there);
    carried(&mut planner, back);
    let (orders, _) = planner.changes();
    assert_eq!(
        planner.refused(orders - 1, &[back.seen]),
        [],
        "of earlier orders"
    );
    assert_eq!(planner.refused(orders, &[there.seen]), []);
    assert_eq!(planner.refused(orders, &[back.seen, back.seen]), [id(7)]);
    assert_eq!(changes(&mut planner), []);
    carried(&mut planner, there);
}

/// The kernel obeys.
fn settle(planner: &mut Planner) -> Vec<Change> {
    let (orders, changes) = planner.changes();
    planner.settled(orders);
    changes
}

/// Its counts would be taken for those of the flow that is carried anew, or the other way round.
#[test]
fn what_is_left_is_not_carried_again_before_its_end_was_told() {
    let mut planner = planner();
    let flow = of_connection(1, 7, Direction::Original);
    carried(&mut planner, flow);
    assert_eq!(report(&mut planner, 1000, flow, 10), [(10, 1000)]);
    for (all, credited) in [(17, vec![(7, 700)]), (3, vec![(3, 300)])] {
        planner.leave(id(7));
        assert_eq!(changes(&mut planner), [Change::Leave(flow.seen)]);
        looked_at(&mut planner, 2 * LOOKS, flow);
        assert_eq!(changes(&mut planner), []);
        assert_eq!(last_report(&mut planner, flow, all), credited);
        carried(&mut planner, flow);
    }
    planner.leave_all();
    changes(&mut planner);
    looked_at(&mut planner, 2 * LOOKS, flow);
    assert!(planner.is_empty());
    let (orders, _) = planner.changes();
    planner.settled(orders);
    carried(&mut planner, flow);
}

/// What the kernel had counted in all when it left the flow. Gives back what is credited.
fn last_report(planner: &mut Planner, flow: Flow, packets: u64) -> Vec<(u64, u64)> {
    let counted = Counted {
        seen: flow.seen,
        packets,
        bytes: packets * 100,
    };
    let credits = planner.counted_last(&[counted]);
    credits.iter().map(|c| (c.packets, c.bytes)).collect()
}

#[test]
fn what_was_carried_between_the_last_report_and_the_end_is_credited_once() {
    let mut planner = planner();
    let flows = [1, 2].map(|nth| of_connection(nth, nth, Direction::Original));
    for flow in flows {
        carried(&mut planner, flow);
        assert_eq!(report(&mut planner, 1000, flow, 10), [(10, 1000)]);
    }
    planner.leave(id(1));
    planner.leave_all();
    let (orders, _) = planner.changes();
    for flow in flows {
        assert_eq!(last_report(&mut planner, flow, 17), [(7, 700)]);
        assert_eq!(last_report(&mut planner, flow, 17), []);
    }
    carried(&mut planner, flows[0]);
    planner.leave(id(1));
    planner.settled(orders);
    let (orders, _) = planner.changes();
    assert_eq!(last_report(&mut planner, flows[0], 3), [(3, 300)]);
    carried(&mut planner, flows[0]);
    planner.leave(id(1));
    planner.settled(orders + 2);
    assert_eq!(
        last_report(&mut planner, flows[0], 3),
        [],
        "nothing is kept for what is never told"
    );
}
