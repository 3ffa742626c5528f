use super::*;
use core::net::Ipv4Addr;

use pontoon_packet::Offload;

const ADDR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);

fn table() -> Neighbours {
    Neighbours::new(RandomState::with_seeds(1, 2, 3, 4))
}

fn waiting(tag: u8) -> Waiting {
    Waiting {
        bytes: vec![tag; 60],
        offload: Offload::NONE,
        fragment_to: 1500,
    }
}

fn addr(n: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n))
}

#[test]
fn first_datagram_waits_and_is_released_by_the_answer() {
    let mut n = table();
    let now = Timestamp::from_secs(1);
    assert_eq!(n.resolve(now, ADDR), Resolution::Wait);
    let (queued, ask) = n.enqueue(now, ADDR, waiting(1));
    assert!(queued.is_some());
    assert_eq!(
        ask,
        Some(Ask {
            addr: ADDR,
            to: MacAddr::BROADCAST
        })
    );
    assert_eq!(n.enqueue(now, ADDR, waiting(2)).1, None);
    assert_eq!(
        n.confirm(now, ADDR, MAC, Learn::Known),
        [waiting(1), waiting(2)]
    );
    assert_eq!(
        n.resolve(now, ADDR),
        Resolution::Known(MAC, now + REACHABLE)
    );
}

#[test]
fn three_requests_a_second_apart_then_failure_with_what_waited() {
    let mut n = table();
    n.enqueue(Timestamp::ZERO, ADDR, waiting(1));
    let mut events = Vec::new();
    n.handle_timeout(Timestamp::from_millis(999), &mut events);
    assert_eq!(events, []);
    for second in 1..=2 {
        n.handle_timeout(Timestamp::from_secs(second), &mut events);
    }
    let ask = Event::Ask(Ask {
        addr: ADDR,
        to: MacAddr::BROADCAST,
    });
    assert_eq!(events, [ask.clone(), ask]);
    events.clear();
    n.handle_timeout(Timestamp::from_secs(3), &mut events);
    assert_eq!(events, [Event::Failed(ADDR, vec![waiting(1)])]);
    assert_eq!(n.poll_timeout(), None);
}

#[test]
fn stale_entry_is_used_then_checked_by_unicast_then_asked_anew() {
    let mut n = table();
    let mut events = Vec::new();
    n.enqueue(Timestamp::ZERO, ADDR, waiting(1));
    n.confirm(Timestamp::ZERO, ADDR, MAC, Learn::Known);
    n.handle_timeout(Timestamp::from_secs(10), &mut events);
    assert_eq!(events, []);
    let used = Timestamp::from_secs(31);
    assert_eq!(n.resolve(used, ADDR), Resolution::Known(MAC, used + DELAY));
    n.handle_timeout(used + DELAY, &mut events);
    assert_eq!(
        events,
        [Event::Ask(Ask {
            addr: ADDR,
            to: MAC
        })]
    );
    for second in 37..=39 {
        n.handle_timeout(Timestamp::from_secs(second), &mut events);
    }
    assert_eq!(
        events.last(),
        Some(&Event::Ask(Ask {
            addr: ADDR,
            to: MacAddr::BROADCAST
        }))
    );
}

#[test]
fn binding_never_changes_whatever_anybody_claims() {
    let mut n = table();
    n.bind(ADDR, MAC);
    n.confirm(
        Timestamp::ZERO,
        ADDR,
        MacAddr([2, 0, 0, 0, 0, 9]),
        Learn::Asker,
    );
    let Resolution::Known(mac, _) = n.resolve(Timestamp::ZERO, ADDR) else {
        panic!()
    };
    assert_eq!(mac, MAC);
}

#[test]
fn unsolicited_answer_from_an_unknown_address_makes_no_entry() {
    let mut n = table();
    n.confirm(Timestamp::ZERO, ADDR, MAC, Learn::Known);
    assert_eq!(n.entries(Timestamp::ZERO).count(), 0);
}

#[test]
fn queue_of_one_address_is_bounded() {
    let mut n = table();
    for tag in 0..20 {
        n.enqueue(Timestamp::ZERO, ADDR, waiting(tag));
    }
    assert_eq!(
        n.confirm(Timestamp::ZERO, ADDR, MAC, Learn::Known).len(),
        MAX_QUEUED
    );
}

#[test]
fn bytes_that_wait_are_bounded_and_returned() {
    let mut n = table();
    let big = || Waiting {
        bytes: vec![0; 65_000],
        offload: Offload::NONE,
        fragment_to: 1500,
    };
    let accepted = (0..50).filter(|i| n.enqueue(Timestamp::ZERO, addr(*i), big()).0.is_some());
    assert_eq!(accepted.count(), MAX_QUEUED_BYTES / 65_000);
    n.flush();
    assert!(
        n.enqueue(Timestamp::from_secs(9), addr(99), big())
            .0
            .is_some()
    );
}

#[test]
fn a_scan_of_unused_addresses_asks_at_most_the_declared_rate() {
    let mut n = table();
    let asked = (0..60_000).filter(|i| {
        let now = Timestamp::from_nanos(u64::from(*i) * 16_667);
        n.enqueue(now, addr(*i), waiting(0)).1.is_some()
    });
    let asked = asked.count();
    assert!(
        asked <= 2 * ASKS_PER_SECOND as usize,
        "{asked} requests in one second"
    );
    assert!(n.entries(Timestamp::ZERO).count() <= MAX_ENTRIES);
}

#[test]
fn full_table_gives_up_what_is_not_in_use() {
    let mut n = table();
    for i in 0..MAX_ENTRIES as u32 {
        n.confirm(Timestamp::ZERO, addr(i), MAC, Learn::Asker);
    }
    assert_eq!(n.resolve(Timestamp::ZERO, ADDR), Resolution::Full);
    let later = Timestamp::from_secs(60);
    for i in 0..10 {
        n.resolve(later, addr(i));
    }
    let mut events = Vec::new();
    for second in 60..80 {
        n.handle_timeout(Timestamp::from_secs(second), &mut events);
    }
    assert_eq!(n.resolve(Timestamp::from_secs(80), ADDR), Resolution::Wait);
}
