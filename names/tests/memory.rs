//! What hostile queries cost in memory.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../tests/src/counting.rs"]
mod counting;
mod world;

use counting::{held, peak};
use pontoon_names::*;
use world::*;

/// As long as a query may be, with one option that fills it.
fn longest(id: u16) -> Vec<u8> {
    let mut bytes = query_edns(id, "a.very.long.name.example.org", A, 1232);
    let room = MAX_QUERY - bytes.len();
    let options = bytes.len() - 2;
    bytes[options..].copy_from_slice(&(room as u16).to_be_bytes());
    bytes.extend([0xfd, 0xe9]);
    bytes.extend((room as u16 - 4).to_be_bytes());
    bytes.resize(MAX_QUERY, 0);
    bytes
}

#[test]
fn a_query_that_announces_thousands_takes_no_memory() {
    let mut names = names();
    for place in [4, 6, 8, 10] {
        let mut bytes = query(1, "example.org", A);
        bytes[place] = 0xff;
        let cost = peak(|| {
            assert_eq!(
                code(&answered(ask(&mut names, client(OPEN), &bytes))),
                FORMERR
            )
        });
        assert!(cost < 8192, "{cost} bytes for the count at {place}");
    }
}

#[test]
fn a_flood_of_the_longest_queries_holds_what_the_limits_say() {
    let mut names = names();
    let before = held();
    for number in 0..5000_u16 {
        let client = from(OPEN, &format!("172.18.{}.1:53", number % 100));
        let action = ask(&mut names, client, &longest(number));
        assert!(matches!(action, Action::Forward { .. }), "{action:?}");
    }
    assert_eq!(names.pending(), 1024);

    let each = (held() - before) / 1024;

    assert!(each as usize >= MAX_QUERY, "the attack fills something");
    assert!(each < 2048, "{each} bytes for a query");
    while let Some(at) = names.poll_timeout() {
        names.handle_timeout(at);
    }
    let left = held() - before;
    assert!(left < 600_000, "{left} bytes of empty tables");
}
