//! The rules of the table.

use pontoon_packet::parse::protocol::{TCP, UDP};

use super::keys::ETHERTYPE_IPV4;
use crate::io::nftables::expression::{
    Bytes, Checksum, Comparison, FIRST, Header, Meta, Register, Verdict, compare, forward, load,
    lookup, mask, meta, store, verdict,
};

/// The map of flows that stay within their network.
pub(super) const BRIDGED: &str = "bridged";
/// The map of those that are routed.
pub(super) const ROUTED: &str = "routed";
const ETHERTYPE: Bytes = Bytes(Header::Link, 12, 2);
const LINK_HEADER: Bytes = Bytes(Header::Link, 0, 14);
const MACS: Bytes = Bytes(Header::Link, 0, 12);
const VERSION_AND_LENGTH: Bytes = Bytes(Header::Network, 0, 1);
const FRAGMENT: Bytes = Bytes(Header::Network, 6, 2);
const TTL_AND_PROTOCOL: Bytes = Bytes(Header::Network, 8, 2);
const TTL: Bytes = Bytes(Header::Network, 8, 1);
const PROTOCOL: Bytes = Bytes(Header::Network, 9, 1);
const ADDRESSES: Bytes = Bytes(Header::Network, 12, 8);
const PORTS: Bytes = Bytes(Header::Transport, 0, 4);
const TCP_FLAGS: Bytes = Bytes(Header::Transport, 13, 1);
const UDP_CHECKSUM: Bytes = Bytes(Header::Transport, 6, 2);
const IP_CHECKSUM: u32 = 10;

/// What every frame of an interface is compared with, in this order.
pub(super) fn rules() -> Vec<Vec<Vec<u8>>> {
    use Comparison::{Different, Equal};
    let tagged = |tag: [u8; 2]| {
        let is = compare(FIRST, Equal, &tag);
        vec![load(ETHERTYPE, FIRST), is, verdict(Verdict::Drop)]
    };
    let unless = |bytes, value: &[u8]| {
        let differs = compare(FIRST, Different, value);
        vec![load(bytes, FIRST), differs, verdict(Verdict::Accept)]
    };
    vec![
        tagged([0x81, 0x00]),
        tagged([0x88, 0xa8]),
        unless(ETHERTYPE, &ETHERTYPE_IPV4),
        unless(VERSION_AND_LENGTH, &[0x45]),
        vec![
            load(FRAGMENT, FIRST),
            // All but *don't fragment*.
            mask(FIRST, &[0xbf, 0xff]),
            compare(FIRST, Different, &[0, 0]),
            verdict(Verdict::Accept),
        ],
        vec![
            meta(Meta::Protocol, FIRST),
            compare(FIRST, Equal, &[TCP]),
            load(TCP_FLAGS, FIRST),
            // URG, RST, SYN, FIN.
            mask(FIRST, &[0x27]),
            compare(FIRST, Different, &[0]),
            verdict(Verdict::Accept),
        ],
        bridged(),
        // The engine gives what may be cut another identification.
        unless(FRAGMENT, &[0x40, 0x00]),
        routed(TCP, 16, Vec::new()),
        routed(
            UDP,
            6,
            vec![
                load(UDP_CHECKSUM, FIRST),
                compare(FIRST, Different, &[0, 0]),
            ],
        ),
    ]
}

fn bridged() -> Vec<Vec<u8>> {
    let mut rule = key();
    rule.extend([
        load(PROTOCOL, Register(5)),
        load(ADDRESSES, Register(6)),
        lookup(BRIDGED, FIRST, FIRST),
        forward(FIRST),
    ]);
    rule
}

/// `sum` is the checksum's offset in the transport header.
fn routed(protocol: u8, sum: u32, unless: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut rule = vec![
        meta(Meta::Protocol, FIRST),
        compare(FIRST, Comparison::Equal, &[protocol]),
    ];
    rule.extend(unless);
    rule.extend(key());
    rule.extend([
        load(TTL_AND_PROTOCOL, Register(5)),
        load(ADDRESSES, Register(6)),
        load(PORTS, Register(8)),
        lookup(ROUTED, FIRST, FIRST),
        store(MACS, FIRST, Checksum::None),
        store(TTL, Register(3), Checksum::At(IP_CHECKSUM)),
        store(
            ADDRESSES,
            Register(4),
            Checksum::AtAndTransport(IP_CHECKSUM),
        ),
        store(PORTS, Register(6), Checksum::At(sum)),
        forward(Register(7)),
    ]);
    rule
}

/// What both keys begin with.
fn key() -> Vec<Vec<u8>> {
    vec![meta(Meta::Interface, FIRST), load(LINK_HEADER, Register(1))]
}
