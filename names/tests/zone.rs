//! What a network's clients learn about names and addresses.
#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use pontoon_names::*;
use world::*;

/// The answer's addresses or names as they stand behind the fixed part of each record.
fn data(message: &[u8], question: usize) -> Vec<&[u8]> {
    let mut rest = &message[12 + question..];
    (0..answers(message))
        .map(|_| {
            let len = usize::from(rest[10]) << 8 | usize::from(rest[11]);
            let data = &rest[12..12 + len];
            rest = &rest[12 + len..];
            data
        })
        .collect()
}

fn resolve(zone: ZoneId, name: &str, kind: u16) -> Vec<u8> {
    answered(ask(&mut names(), client(zone), &query(5, name, kind)))
}

fn addrs(zone: ZoneId, name: &str, kind: u16) -> Vec<Vec<u8>> {
    let message = resolve(zone, name, kind);
    assert_eq!(code(&message), NOERROR, "{name}");
    let all = data(&message, wire(name).len() + 4);
    all.into_iter().map(<[u8]>::to_vec).collect()
}

fn is_forwarded(zone: ZoneId, name: &str, kind: u16) -> bool {
    let action = ask(&mut names(), client(zone), &query(5, name, kind));
    matches!(action, Action::Forward { .. })
}

#[test]
fn a_container_has_its_name_its_hostname_and_both_with_the_network() {
    for name in ["web", "www", "web.backend", "WWW.Backend", "wEb."] {
        assert_eq!(addrs(OPEN, name, A), [[172, 18, 0, 2]], "{name}");
        assert_eq!(addrs(INTERNAL, name, A), [[172, 18, 0, 2]], "{name}");
    }
    assert_eq!(addrs(OPEN, "web", AAAA)[0][..2], [0xfd, 0]);
    assert_eq!(addrs(OPEN, "web", ANY).len(), 2);
}

#[test]
fn the_case_of_the_question_comes_back() {
    let message = resolve(OPEN, "wEb", A);

    assert_eq!(&message[12..17], b"\x03wEb\0");
}

#[test]
fn a_name_without_an_address_of_that_kind_is_no_error() {
    for kind in [AAAA, MX, SOA, 65] {
        assert!(addrs(OPEN, "db1", kind).is_empty(), "type {kind}");
    }
}

#[test]
fn an_alias_of_several_has_all_addresses_in_turn() {
    let mut names = names();
    let mut first = |random: u64| {
        let action = names.query(
            secs(1),
            random << 16,
            client(OPEN),
            Transport::Udp,
            &query(1, "db", A),
        );
        let message = answered(action);
        let all = data(&message, 8);
        assert_eq!(all.len(), 2);
        all[0][3]
    };

    assert_eq!([first(0), first(1), first(2)], [3, 4, 3]);
}

#[test]
fn what_is_detached_is_forgotten() {
    let mut names = names();
    names.zone_mut(INTERNAL).unwrap().detach(Member(3));
    let mut resolve =
        |name, kind| answered(ask(&mut names, client(INTERNAL), &query(5, name, kind)));

    assert_eq!(code(&resolve("db1", A)), NXDOMAIN);
    assert_eq!(answers(&resolve("db", A)), 1);
    assert_eq!(code(&resolve("3.0.18.172.in-addr.arpa", PTR)), NXDOMAIN);
    assert_eq!(code(&resolve("4.0.18.172.in-addr.arpa", PTR)), NOERROR);
}

#[test]
fn what_is_attached_again_has_only_its_new_names() {
    let mut names = names();
    let zone = names.zone_mut(INTERNAL).unwrap();
    zone.attach(Member(3), &["new"], &[ip("172.18.0.33")])
        .unwrap();
    let mut resolve =
        |name, kind| answered(ask(&mut names, client(INTERNAL), &query(5, name, kind)));

    assert_eq!(code(&resolve("db1", A)), NXDOMAIN);
    assert_eq!(code(&resolve("3.0.18.172.in-addr.arpa", PTR)), NXDOMAIN);
    assert_eq!(answers(&resolve("new", A)), 1);
}

#[test]
fn addresses_have_names() {
    let v6 = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
    for name in ["2.0.18.172.in-addr.arpa", "2.0.18.172.IN-ADDR.arpa", v6] {
        assert_eq!(addrs(OPEN, name, PTR), [wire("web.backend")], "{name}");
    }
    assert!(addrs(OPEN, "2.0.18.172.in-addr.arpa", A).is_empty());
}

#[test]
fn an_address_of_the_network_that_nobody_has_is_not_asked_about_outside() {
    for zone in [OPEN, INTERNAL, DEFAULT] {
        let message = resolve(zone, "77.0.18.172.in-addr.arpa", PTR);
        assert_eq!(code(&message), NXDOMAIN);
    }
}

#[test]
fn other_addresses_are_asked_about_outside_but_not_by_internal_networks() {
    for name in ["1.0.168.192.in-addr.arpa", "18.172.in-addr.arpa"] {
        assert!(is_forwarded(OPEN, name, PTR));
        assert_eq!(code(&resolve(INTERNAL, name, PTR)), REFUSED);
    }
}

#[test]
fn an_unknown_name_is_asked_about_outside_but_not_by_internal_networks() {
    for name in ["unknown", "example.org", "web.other", "x.web", ""] {
        assert!(is_forwarded(OPEN, name, A), "{name}");
        assert_eq!(code(&resolve(INTERNAL, name, A)), NXDOMAIN, "{name}");
    }
}

#[test]
fn an_internal_network_stays_silent_whatever_its_client_is_given() {
    let mut names = names();
    let zone = names.zone_mut(INTERNAL).unwrap();
    zone.set_client_upstreams(client(INTERNAL).addr.ip(), &[at("1.1.1.1:53")]);

    let message = answered(ask(
        &mut names,
        client(INTERNAL),
        &query(1, "example.org", A),
    ));

    assert_eq!(code(&message), NXDOMAIN);
}

#[test]
fn containers_of_the_default_network_have_no_names() {
    assert!(is_forwarded(DEFAULT, "web", A));
    let message = resolve(DEFAULT, "2.0.18.172.in-addr.arpa", PTR);
    assert_eq!(code(&message), NXDOMAIN);
}

#[test]
fn extra_names_are_known_in_every_network() {
    let mut names = names();
    let zone = names.zone_mut(DEFAULT).unwrap();
    zone.add_extra("host.pontoon.internal", ip("172.18.0.1"))
        .unwrap();
    let ask_host = query(1, "Host.Pontoon.internal", A);

    let message = answered(ask(&mut names, client(DEFAULT), &ask_host));

    assert_eq!(
        data(&message, wire("host.pontoon.internal").len() + 4),
        [[172, 18, 0, 1]]
    );
    let zone = names.zone_mut(DEFAULT).unwrap();
    zone.remove_extra("host.pontoon.internal.").unwrap();
    forwarded(ask(&mut names, client(DEFAULT), &ask_host));
}

#[test]
fn a_clients_own_names_go_first_and_are_its_own() {
    let mut names = names();
    let own = client(OPEN);
    let zone = names.zone_mut(OPEN).unwrap();
    zone.add_extra("web", ip("10.0.0.1")).unwrap();
    zone.add_client_extra(own.addr.ip(), "web", ip("10.0.0.2"))
        .unwrap();
    let mut resolve =
        |client| data(&answered(ask(&mut names, client, &query(1, "web", A))), 9)[0][3];

    assert_eq!(resolve(own), 2);
    assert_eq!(resolve(from(OPEN, "172.18.0.8:1")), 1);
    names.forget_client(OPEN, own.addr.ip());
    assert_eq!(
        data(&answered(ask(&mut names, own, &query(1, "web", A))), 9)[0][3],
        1
    );
}

#[test]
fn what_cannot_be_a_name_is_refused_and_changes_nothing() {
    let mut zone = zone("backend", Discovery::Containers, Reach::Outside);
    let long = "a".repeat(64);
    let longer = "abcdefg.".repeat(31);
    for name in ["", ".", "a..b", "ä", "a b", &long, &longer] {
        let error = zone.attach(Member(2), &["ok", name], &[]).unwrap_err();
        assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
    }
    let mut names = names();
    names.insert_zone(OPEN, zone);

    let message = answered(ask(&mut names, client(OPEN), &query(1, "web", A)));

    assert_eq!(answers(&message), 1);
}

#[test]
fn a_client_of_several_networks_finds_the_names_of_all_of_them() {
    let mut names = names();
    let two = client(OPEN);
    let alone = from(OPEN, "172.18.0.10:40000");
    let suffix = query(5, "web.vault", A);
    let found = |names: &mut Names, by| ask(names, by, &suffix);
    let third = ZoneId(9);
    let mut zone = Zone::new("vault", &[], Discovery::Containers, Reach::Internal, SEEDS).unwrap();
    zone.attach(Member(90), &["web"], &[ip("172.29.0.2")])
        .unwrap();
    names.insert_zone(third, zone);
    assert!(matches!(found(&mut names, two), Action::Forward { .. }));
    let own = names.zone_mut(OPEN).unwrap();
    own.set_client_zones(two.addr.ip(), &[third]);
    let message = answered(found(&mut names, two));
    assert_eq!(
        data(&message, wire("web.vault").len() + 4),
        [[172, 29, 0, 2]]
    );
    assert!(matches!(found(&mut names, alone), Action::Forward { .. }));
    let first = answered(ask(&mut names, two, &query(5, "web", A)));
    assert_eq!(
        data(&first, wire("web").len() + 4),
        [[172, 18, 0, 2]],
        "its own goes first"
    );
}
