//! Whole messages, byte for byte.
#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use pontoon_names::*;
use world::*;

fn exchange(zone: ZoneId, bytes: &[u8]) -> Vec<u8> {
    answered(ask(&mut names(), client(zone), bytes))
}

/// `bulk` has that many addresses.
fn names_with_bulk(count: u16) -> Names {
    let addrs: Vec<_> = (0..count)
        .map(|number| std::net::IpAddr::from([10, 1, (number >> 8) as u8, number as u8]))
        .collect();
    let mut names = names();
    let zone = names.zone_mut(OPEN).unwrap();
    zone.attach(Member(9), &["bulk"], &addrs).unwrap();
    names
}

#[test]
fn an_address() {
    let query = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x03web\0\0\x01\0\x01";

    assert_eq!(
        exchange(OPEN, query),
        b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0\x03web\0\0\x01\0\x01\
          \xc0\x0c\0\x01\0\x01\0\0\x02\x58\0\x04\xac\x12\0\x02"
    );
}

#[test]
fn an_address_as_dig_asks() {
    // AD and RD, an OPT record with 1232 bytes and a cookie.
    let query = b"\xab\xcd\x01\x20\0\x01\0\0\0\0\0\x01\x02db\x07backend\0\0\x01\0\x01\
                  \0\0\x29\x04\xd0\0\0\0\0\0\x0c\0\x0a\0\x08\x01\x02\x03\x04\x05\x06\x07\x08";

    assert_eq!(
        exchange(INTERNAL, query),
        b"\xab\xcd\x81\x80\0\x01\0\x02\0\0\0\x01\x02db\x07backend\0\0\x01\0\x01\
          \xc0\x0c\0\x01\0\x01\0\0\x02\x58\0\x04\xac\x12\0\x03\
          \xc0\x0c\0\x01\0\x01\0\0\x02\x58\0\x04\xac\x12\0\x04\
          \0\0\x29\x04\xd0\0\0\0\0\0\0"
    );
}

#[test]
fn the_do_bit_comes_back() {
    let mut query = query_edns(1, "web", A, 1232);
    let flags = query.len() - 4;
    query[flags] = 0x80;

    assert!(exchange(OPEN, &query).ends_with(b"\0\0\x29\x04\xd0\0\0\x80\0\0\0"));
}

#[test]
fn a_name_of_an_address() {
    assert_eq!(
        exchange(OPEN, &query(1, "3.0.18.172.in-addr.arpa", PTR)),
        b"\0\x01\x81\x80\0\x01\0\x01\0\0\0\0\
          \x013\x010\x0218\x03172\x07in-addr\x04arpa\0\0\x0c\0\x01\
          \xc0\x0c\0\x0c\0\x01\0\0\x02\x58\0\x0d\x03db1\x07backend\0"
    );
}

#[test]
fn no_such_name() {
    let query = query(1, "nix", A);

    assert_eq!(
        exchange(INTERNAL, &query),
        [b"\0\x01\x81\x83\0\x01\0\0\0\0\0\0", &query[12..]].concat()
    );
}

#[test]
fn a_bad_version_of_edns() {
    let mut query = query_edns(1, "web", A, 1232);
    let version = query.len() - 5;
    query[version] = 1;

    // BADVERS is 16: its upper bits stand in the OPT record.
    assert!(exchange(OPEN, &query).starts_with(b"\0\x01\x81\x80\0\x01\0\0\0\0\0\x01"));
    assert!(exchange(OPEN, &query).ends_with(b"\0\0\x29\x04\xd0\x01\0\0\0\0\0"));
}

#[test]
fn what_is_not_served_is_answered_with_an_error() {
    let good = query(0x0102, "web", A);
    let changed = |place: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[place] = value;
        bytes
    };
    let cases = [
        ("opcode STATUS", changed(2, 0x11), NOTIMP),
        ("opcode UPDATE", changed(2, 0x29), NOTIMP),
        ("opcode 15", changed(2, 0x79), NOTIMP),
        ("no question", changed(5, 0), FORMERR),
        ("two questions", changed(5, 2), FORMERR),
        ("an answer that is not there", changed(7, 1), FORMERR),
        ("a label of 64", changed(12, 64), FORMERR),
        ("a name that never ends", changed(12, 63), FORMERR),
        (
            "a name that points to itself",
            [&good[..12], b"\xc0\x0c\0\x01\0\x01"].concat(),
            FORMERR,
        ),
        ("nothing behind the header", good[..12].to_vec(), FORMERR),
        ("half a question", good[..19].to_vec(), FORMERR),
        ("two OPT records", two_opts(), FORMERR),
        ("class CHAOS", changed(20, 3), REFUSED),
        ("class ANY", changed(20, 255), REFUSED),
        ("AXFR", changed(18, 252), NOTIMP),
    ];
    for (what, bytes, expected) in cases {
        let answer = exchange(OPEN, &bytes);
        assert_eq!(code(&answer), expected, "{what}");
        assert_eq!(id(&answer), 0x0102, "{what}");
        assert_eq!(
            answer[2],
            bytes[2] | 0x80,
            "{what}: opcode and RD come back"
        );
        assert_eq!(answers(&answer), 0, "{what}");
    }
}

fn two_opts() -> Vec<u8> {
    let mut bytes = query_edns(0x0102, "web", A, 1232);
    let opt = bytes[bytes.len() - 11..].to_vec();
    bytes.extend(opt);
    bytes[11] = 2;
    bytes
}

#[test]
fn what_cannot_be_answered_is_dropped() {
    let mut names = names();
    let good = query(1, "web", A);
    let response = answer(&good, NOERROR, 0);
    for (client, bytes, reason) in [
        (client(OPEN), &good[..11], DropReason::NoHeader),
        (client(OPEN), b"", DropReason::NoHeader),
        (client(OPEN), &response[..], DropReason::NotAQuery),
        (client(ZoneId(77)), &good[..], DropReason::NoZone),
    ] {
        assert_eq!(ask(&mut names, client, bytes), Action::Drop(reason));
    }
}

#[test]
fn what_does_not_fit_into_a_datagram_is_truncated() {
    let mut names = names_with_bulk(200);
    for (announced, longest, count) in [
        (None, 512, 30),
        (Some(0), 512, 29),
        (Some(600), 600, 35),
        (Some(1232), 1232, 74),
        (Some(65_535), 1232, 74),
    ] {
        let query = match announced {
            None => query(1, "bulk", A),
            Some(payload) => query_edns(1, "bulk", A, payload),
        };
        let answer = answered(ask(&mut names, client(OPEN), &query));
        assert!(is_truncated(&answer), "{announced:?}");
        assert_eq!(answers(&answer), count, "{announced:?}");
        assert!(answer.len() <= longest && answer.len() + 16 > longest);
        assert_eq!(answer[11], u8::from(announced.is_some()), "OPT stays");
    }
}

#[test]
fn what_just_fits_is_not_truncated() {
    let mut names = names_with_bulk(30);

    let answer = answered(ask(&mut names, client(OPEN), &query(1, "bulk", A)));

    assert!(!is_truncated(&answer));
    assert_eq!(answers(&answer), 30);
}

#[test]
fn over_tcp_there_is_the_full_answer() {
    for (count, expected, truncated) in [(2000, 2000, false), (5000, 3295, true)] {
        let action = names_with_bulk(count).query(
            secs(1),
            0,
            client(OPEN),
            Transport::Tcp,
            &query_edns(1, "bulk", A, 512),
        );
        let answer = answered(action);
        assert_eq!(answers(&answer), expected);
        assert_eq!(is_truncated(&answer), truncated);
        assert!(frame(&answer).is_ok());
        assert_eq!(answer[11], 1, "OPT stays");
    }
}
