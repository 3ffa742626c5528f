//! Who shares a query with whom, and who makes room for whom.
#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use std::collections::HashSet;

use pontoon_names::*;
use world::*;

const QUESTION: &str = "Example.org";

/// The query of a client that is being asked upstream.
fn one() -> (Names, Forward) {
    let mut names = names();
    let forward = forwarded(ask(&mut names, client(OPEN), &query(5, QUESTION, A)));
    (names, forward)
}

fn many(names: &mut Names, client: Client, count: u16) -> Vec<Action> {
    (0..count)
        .map(|number| ask(names, client, &query(number, QUESTION, A)))
        .collect()
}

#[test]
fn a_retransmission_joins_the_query_under_way() {
    let (mut names, forward) = one();
    let same = query(5, QUESTION, A);

    let joined = ask(&mut names, client(OPEN), &same);

    assert_eq!(joined, Action::Drop(DropReason::Retransmission));
    for (client, bytes) in [
        (client(OPEN), query(6, QUESTION, A)),
        (client(OPEN), query(5, QUESTION, AAAA)),
        (client(OPEN), query(5, "example.org", A)),
        (from(OPEN, "172.18.0.9:40001"), same.clone()),
        (from(OPEN, "172.18.0.8:40000"), same.clone()),
        (from(DEFAULT, "172.18.0.9:40000"), same.clone()),
    ] {
        forwarded(ask(&mut names, client, &bytes));
    }
    let good = answer(&forward.bytes, NOERROR, 0);
    delivered(names.response(secs(1), forward.key, at(UPSTREAM), &good));
    forwarded(ask(&mut names, client(OPEN), &same));
}

#[test]
fn a_clients_eldest_query_makes_room_for_its_newest() {
    let mut names = names();
    let other = forwarded(ask(
        &mut names,
        from(OPEN, "172.18.0.8:1"),
        &query(1, QUESTION, A),
    ));

    let mut actions = many(&mut names, client(OPEN), 65);

    let Some(Action::Forward {
        displaced: Some(delivery),
        ..
    }) = actions.pop()
    else {
        panic!("the 65th displaces one");
    };
    assert_eq!((id(&delivery.bytes), code(&delivery.bytes)), (0, SERVFAIL));
    assert_ne!(delivery.key, other.key);
    actions.into_iter().for_each(|action| {
        forwarded(action);
    });
    assert_eq!(names.pending(), 65);
}

#[test]
fn when_all_is_full_the_greediest_makes_room() {
    let mut names = names();
    for number in 0..16 {
        many(&mut names, from(OPEN, &format!("172.18.1.{number}:1")), 64);
    }
    assert_eq!(names.pending(), 1024);

    let mut robbed = HashSet::new();
    for number in 0..16 {
        let modest = from(OPEN, &format!("172.18.2.{number}:1"));
        match ask(&mut names, modest, &query(1, QUESTION, A)) {
            Action::Forward {
                displaced: Some(delivery),
                ..
            } => robbed.insert(delivery.client),
            other => panic!("{other:?}"),
        };
    }

    assert_eq!(names.pending(), 1024);
    assert_eq!(robbed.len(), 16, "each of the greedy gave one");
    assert!(
        robbed
            .iter()
            .all(|client| client.addr.to_string().starts_with("172.18.1."))
    );
}

#[test]
fn among_equals_the_one_who_asks_makes_room() {
    let limits = Limits {
        pending: 8,
        pending_per_client: 64,
    };
    let mut names = names_with(limits);
    let clients: Vec<_> = (0..8)
        .map(|number| from(OPEN, &format!("172.18.1.{number}:1")))
        .collect();
    for client in &clients {
        forwarded(ask(&mut names, *client, &query(1, QUESTION, A)));
    }

    for client in clients {
        let action = ask(&mut names, client, &query(2, QUESTION, A));
        let Action::Forward {
            displaced: Some(delivery),
            ..
        } = action
        else {
            panic!("{action:?}");
        };
        assert_eq!(delivery.client, client);
    }
}

#[test]
fn a_removed_network_takes_its_queries_along() {
    let mut names = names();
    let gone = forwarded(ask(&mut names, client(OPEN), &query(1, QUESTION, A)));
    let stays = forwarded(ask(&mut names, client(DEFAULT), &query(1, QUESTION, A)));

    assert_eq!(names.remove_zone(OPEN), [gone.key]);

    let good = answer(&gone.bytes, NOERROR, 0);
    assert_eq!(names.response(secs(1), gone.key, at(UPSTREAM), &good), None);
    delivered(names.response(secs(1), stays.key, at(UPSTREAM), &good));
}
