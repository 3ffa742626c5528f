//! Two networks, a few containers, and messages in bytes.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "shared by test programs that use parts of it"
)]

pub mod any;

use std::net::{IpAddr, SocketAddr};

use pontoon_names::*;
use pontoon_packet::Timestamp;

pub const SEEDS: [u64; 4] = [1, 2, 3, 4];
/// A network that reaches the outside, an internal one, and the default one.
pub const OPEN: ZoneId = ZoneId(1);
pub const INTERNAL: ZoneId = ZoneId(2);
pub const DEFAULT: ZoneId = ZoneId(3);
pub const UPSTREAM: &str = "127.0.0.53:53";
pub const SECOND: &str = "9.9.9.9:53";

pub const A: u16 = 1;
pub const SOA: u16 = 6;
pub const PTR: u16 = 12;
pub const MX: u16 = 15;
pub const AAAA: u16 = 28;
pub const ANY: u16 = 255;

pub const NOERROR: u8 = 0;
pub const FORMERR: u8 = 1;
pub const SERVFAIL: u8 = 2;
pub const NXDOMAIN: u8 = 3;
pub const NOTIMP: u8 = 4;
pub const REFUSED: u8 = 5;

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn secs(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

pub fn client(zone: ZoneId) -> Client {
    from(zone, "172.18.0.9:40000")
}

pub fn from(zone: ZoneId, addr: &str) -> Client {
    Client {
        zone,
        addr: at(addr),
    }
}

/// `web` (v4 and v6, hostname `www`), and `db1`, `db2` that share the alias `db`.
pub fn zone(network: &str, discovery: Discovery, reach: Reach) -> Zone {
    let subnets = ["172.18.0.0/16", "fd00::/64"].map(|net| net.parse().unwrap());
    let mut zone = Zone::new(network, &subnets, discovery, reach, SEEDS).unwrap();
    let both = [ip("172.18.0.2"), ip("fd00::2")];
    zone.attach(Member(2), &["web", "www"], &both).unwrap();
    zone.attach(Member(3), &["db1", "db"], &[ip("172.18.0.3")])
        .unwrap();
    zone.attach(Member(4), &["db2", "db"], &[ip("172.18.0.4")])
        .unwrap();
    zone
}

pub fn names() -> Names {
    names_with(Limits::default())
}

pub fn names_with(limits: Limits) -> Names {
    let mut names = Names::new(limits, SEEDS);
    for (id, discovery, reach) in [
        (OPEN, Discovery::Containers, Reach::Outside),
        (INTERNAL, Discovery::Containers, Reach::Internal),
        (DEFAULT, Discovery::Nothing, Reach::Outside),
    ] {
        names.insert_zone(id, zone("backend", discovery, reach));
    }
    names.set_upstreams(&[at(UPSTREAM), at(SECOND)]);
    names
}

/// A name as it stands in a message.
pub fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut bytes: Vec<u8> = labels
        .flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat())
        .collect();
    bytes.push(0);
    bytes
}

/// A query with recursion desired.
pub fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend(b"\x01\x00\0\x01\0\0\0\0\0\0");
    bytes.extend(wire(name));
    bytes.extend(kind.to_be_bytes());
    bytes.extend(b"\0\x01");
    bytes
}

/// The same with an OPT record that announces `payload`.
pub fn query_edns(id: u16, name: &str, kind: u16, payload: u16) -> Vec<u8> {
    let mut bytes = query(id, name, kind);
    bytes[11] = 1;
    bytes.extend(b"\0\0\x29");
    bytes.extend(payload.to_be_bytes());
    bytes.extend(b"\0\0\0\0\0\0");
    bytes
}

/// An upstream's answer to `query` with that code and `size` bytes of something behind the question.
pub fn answer(query: &[u8], code: u8, size: usize) -> Vec<u8> {
    let mut bytes = query.to_vec();
    bytes[2] |= 0x80;
    bytes[3] = 0x80 | code;
    bytes.resize(bytes.len() + size, 0xab);
    bytes
}

pub fn id(message: &[u8]) -> u16 {
    u16::from_be_bytes([message[0], message[1]])
}

pub fn code(message: &[u8]) -> u8 {
    message[3] & 15
}

pub fn is_truncated(message: &[u8]) -> bool {
    message[2] & 2 != 0
}

/// Records in the answer section.
pub fn answers(message: &[u8]) -> u16 {
    u16::from_be_bytes([message[6], message[7]])
}

pub fn ask(names: &mut Names, client: Client, bytes: &[u8]) -> Action {
    names.query(secs(1), 0x7777, client, Transport::Udp, bytes)
}

/// The answer to a query that is not forwarded.
pub fn answered(action: Action) -> Vec<u8> {
    match action {
        Action::Answer(bytes) => bytes,
        other => panic!("not answered: {other:?}"),
    }
}

/// What is sent for a query that displaces none.
pub fn forwarded(action: Action) -> Forward {
    match action {
        Action::Forward {
            forward,
            displaced: None,
        } => forward,
        other => panic!("not forwarded: {other:?}"),
    }
}

pub fn delivered(step: Option<Step>) -> Delivery {
    match step {
        Some(Step::Deliver(delivery)) => delivery,
        other => panic!("not delivered: {other:?}"),
    }
}

pub fn retried(step: Option<Step>) -> Forward {
    match step {
        Some(Step::Forward(forward)) => forward,
        other => panic!("not retried: {other:?}"),
    }
}
