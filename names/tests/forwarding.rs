//! Queries that others answer.
#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use pontoon_names::*;
use world::*;

const QUESTION: &str = "Example.org";

/// The query of a client that is being asked upstream.
fn one() -> (Names, Forward) {
    let mut names = names();
    let forward = forwarded(ask(&mut names, client(OPEN), &query(5, QUESTION, A)));
    (names, forward)
}

#[test]
fn a_query_goes_out_as_it_came_under_another_id() {
    let mut names = names();
    let bytes = query_edns(5, QUESTION, 65, 4096);

    let forward = forwarded(ask(&mut names, client(OPEN), &bytes));

    assert_eq!(forward.upstream, at(UPSTREAM));
    assert_eq!(forward.transport, Transport::Udp);
    assert_eq!(id(&forward.bytes), 0x7777);
    assert_eq!(forward.bytes[2..], bytes[2..]);
}

#[test]
fn the_answer_comes_back_as_it_is_under_the_clients_id() {
    let (mut names, forward) = one();
    let upstreams = answer(&forward.bytes, NXDOMAIN, 100);

    let delivery = delivered(names.response(secs(2), forward.key, at(UPSTREAM), &upstreams));

    assert_eq!(delivery.client, client(OPEN));
    assert_eq!(delivery.transport, Transport::Udp);
    assert_eq!(id(&delivery.bytes), 5);
    assert_eq!(delivery.bytes[2..], upstreams[2..]);
    assert_eq!((names.pending(), names.poll_timeout()), (0, None));
    let again = names.response(secs(2), forward.key, at(UPSTREAM), &upstreams);
    assert_eq!(again, None, "once");
}

#[test]
fn a_forged_answer_is_waited_out() {
    let (mut names, forward) = one();
    let good = answer(&forward.bytes, NOERROR, 16);
    let changed = |place: usize, mask: u8| {
        let mut bytes = good.clone();
        bytes[place] ^= mask;
        bytes
    };
    let forgeries = [
        ("another source", at("127.0.0.53:54"), good.clone()),
        ("an upstream not asked yet", at(SECOND), good.clone()),
        ("another id", at(UPSTREAM), changed(1, 1)),
        ("another case", at(UPSTREAM), changed(13, 0x20)),
        ("another type", at(UPSTREAM), changed(26, 1)),
        ("no question", at(UPSTREAM), changed(5, 1)),
        ("a query", at(UPSTREAM), changed(2, 0x80)),
        ("another opcode", at(UPSTREAM), changed(2, 0x10)),
        ("half a header", at(UPSTREAM), good[..11].to_vec()),
    ];
    for (what, source, bytes) in forgeries {
        let step = names.response(secs(2), forward.key, source, &bytes);
        assert_eq!(step, None, "{what}");
    }

    delivered(names.response(secs(2), forward.key, at(UPSTREAM), &good));
}

#[test]
fn a_truncated_answer_sends_the_client_to_tcp() {
    let (mut names, forward) = one();
    let mut truncated = answer(&forward.bytes, NOERROR, 0);
    truncated[2] |= 2;

    let delivery = delivered(names.response(secs(2), forward.key, at(UPSTREAM), &truncated));
    assert!(is_truncated(&delivery.bytes));

    let action = names.query(
        secs(2),
        0,
        client(OPEN),
        Transport::Tcp,
        &query(6, QUESTION, A),
    );
    let forward = forwarded(action);
    assert_eq!(forward.transport, Transport::Tcp);
    let long = answer(&forward.bytes, NOERROR, 60_000);
    let delivery = delivered(names.response(secs(3), forward.key, at(UPSTREAM), &long));
    assert_eq!(delivery.transport, Transport::Tcp);
    assert_eq!(delivery.bytes[2..], long[2..]);
}

#[test]
fn an_answer_longer_than_the_client_takes_is_truncated() {
    for (payload, size, cut) in [(512, 512, false), (512, 513, true), (4096, 1300, true)] {
        let mut names = names();
        let bytes = query_edns(5, QUESTION, A, payload);
        let forward = forwarded(ask(&mut names, client(OPEN), &bytes));
        let long = answer(&forward.bytes, NXDOMAIN, size - bytes.len());

        let delivery = delivered(names.response(secs(2), forward.key, at(UPSTREAM), &long));

        assert_eq!(is_truncated(&delivery.bytes), cut, "{payload} {size}");
        assert_eq!(id(&delivery.bytes), 5);
        assert_eq!(code(&delivery.bytes), NXDOMAIN);
        assert!(delivery.bytes.len() <= usize::from(payload.min(MAX_UDP_ANSWER)));
    }
}

#[test]
fn a_silent_upstream_is_passed_over_and_after_two_rounds_it_is_servfail() {
    let (mut names, first) = one();
    assert_eq!(names.poll_timeout(), Some(secs(3)));
    assert!(names.handle_timeout(secs(2)).is_empty());
    let mut asked = Vec::new();
    for now in [3, 5, 7] {
        let [Step::Forward(forward)] = &names.handle_timeout(secs(now))[..] else {
            panic!("not asked again at {now}");
        };
        assert_eq!((forward.key, &forward.bytes), (first.key, &first.bytes));
        asked.push(forward.upstream);
    }
    assert_eq!(asked, [at(SECOND), at(UPSTREAM), at(SECOND)]);

    let steps = names.handle_timeout(secs(9));

    let delivery = delivered(steps.into_iter().next());
    let expected = [
        b"\0\x05\x81\x82\0\x01\0\0\0\0\0\0",
        &query(5, QUESTION, A)[12..],
    ];
    assert_eq!(delivery.bytes, expected.concat());
    assert_eq!((names.pending(), names.poll_timeout()), (0, None));
}

#[test]
fn the_first_upstream_may_still_answer_when_the_second_is_asked() {
    let (mut names, forward) = one();
    names.handle_timeout(secs(3));

    let good = answer(&forward.bytes, NOERROR, 0);
    delivered(names.response(secs(4), forward.key, at(UPSTREAM), &good));
}

#[test]
fn an_upstream_that_cannot_be_reached_is_passed_over_at_once() {
    let (mut names, forward) = one();

    let next = retried(names.failed(secs(1), forward.key, at(UPSTREAM)));
    assert_eq!(next.upstream, at(SECOND));
    let late = names.failed(secs(1), forward.key, at(UPSTREAM));
    assert_eq!(late, None, "nobody waits for that one");
    retried(names.failed(secs(1), forward.key, at(SECOND)));
    retried(names.failed(secs(1), forward.key, at(UPSTREAM)));
    let delivery = delivered(names.failed(secs(1), forward.key, at(SECOND)));
    assert_eq!(code(&delivery.bytes), SERVFAIL);
}

#[test]
fn a_helpless_upstream_is_passed_over_once() {
    for helpless in [SERVFAIL, REFUSED] {
        let (mut names, forward) = one();
        let bytes = answer(&forward.bytes, helpless, 0);

        let next = retried(names.response(secs(1), forward.key, at(UPSTREAM), &bytes));
        assert_eq!(next.upstream, at(SECOND));
        let late = names.response(secs(1), forward.key, at(UPSTREAM), &bytes);
        assert_eq!(late, None, "the second may do better");
        let delivery = delivered(names.response(secs(1), forward.key, at(SECOND), &bytes));
        assert_eq!(delivery.bytes[2..], bytes[2..]);
    }
}

#[test]
fn upstreams_can_be_replaced_while_queries_wait() {
    let (mut names, forward) = one();
    names.set_upstreams(&[at("192.0.2.1:53")]);

    let next = retried(names.failed(secs(1), forward.key, at(UPSTREAM)));
    assert_eq!(next.upstream, at("192.0.2.1:53"));
    names.set_upstreams(&[]);
    let delivery = delivered(names.handle_timeout(secs(3)).pop());

    assert_eq!(code(&delivery.bytes), SERVFAIL);
    let action = ask(&mut names, client(OPEN), &query(6, QUESTION, A));
    assert_eq!(code(&answered(action)), SERVFAIL);
}

#[test]
fn new_upstreams_have_their_two_rounds_and_old_ones_only_the_one_that_is_asked() {
    let (mut names, forward) = one();
    names.handle_timeout(secs(3));
    names.handle_timeout(secs(5));
    names.handle_timeout(secs(7));
    names.set_upstreams(&[at("192.0.2.1:53")]);
    let good = answer(&forward.bytes, NOERROR, 0);

    let gone = names.response(secs(8), forward.key, at(UPSTREAM), &good);
    assert_eq!(gone, None);
    retried(names.handle_timeout(secs(9)).pop());
    retried(names.handle_timeout(secs(11)).pop());

    delivered(names.response(secs(12), forward.key, at(SECOND), &good));
}

#[test]
fn a_client_may_have_upstreams_of_its_own() {
    let mut names = names();
    let (own, other) = (client(OPEN), from(OPEN, "172.18.0.8:1"));
    let zone = names.zone_mut(OPEN).unwrap();
    zone.set_client_upstreams(own.addr.ip(), &[at("1.1.1.1:53")]);

    let forward = forwarded(ask(&mut names, own, &query(1, QUESTION, A)));
    assert_eq!(forward.upstream, at("1.1.1.1:53"));
    names.set_upstreams(&[at(SECOND)]);
    let again = retried(names.failed(secs(1), forward.key, at("1.1.1.1:53")));
    assert_eq!(again.upstream, at("1.1.1.1:53"));
    let forward = forwarded(ask(&mut names, other, &query(1, QUESTION, A)));
    assert_eq!(forward.upstream, at(SECOND));
    assert_eq!(names.forget_client(OPEN, own.addr.ip()), [again.key]);
    assert_eq!(names.pending(), 1);
}
