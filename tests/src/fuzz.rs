//! The bodies of the fuzz targets, called by the fuzzer and by the replay of its corpus.

mod choices;
mod far;
mod guest;
mod held;
mod honest;
mod input;
mod relay;
mod shell;
mod uplink;

pub use relay::relay_any;
pub use uplink::uplink_any;

use core::time::Duration;

use pontoon_engine::config::PortId;
use pontoon_nat::Limits;
use pontoon_packet::build::Packet;
use pontoon_packet::checksum::transport_is_valid;
use pontoon_packet::rewrite::{self, Translation};
use pontoon_packet::{Endpoint, Frame, L3, L4, MacAddr, Offload, parse, pretty};

use crate::lab::{C1, C2, Lab, UP, addr};

/// Any bytes: parsing and printing never panic, and every range that is reported lies in the frame.
pub fn parse_any(data: &[u8]) {
    let _line = pretty::line(data, Offload::NONE).to_string();
    let Ok(facts) = parse(data) else { return };
    assert!(facts.l3_start <= data.len());
    if let L3::Ip(ip) = facts.l3 {
        assert!(
            ip.l4_start() <= ip.end() && ip.end() <= data.len(),
            "{ip:?}"
        );
        if let L4::Tcp(tcp) = ip.l4 {
            assert!(ip.l4_start() + usize::from(tcp.header_len) <= ip.end());
        }
    }
}

/// A frame whose checksums hold still has checksums that hold after any edits. The first 16 bytes
/// choose the edits and what kind of frame the rest becomes: one as it is, or the payload of one that
/// is right.
pub fn rewrite_any(data: &[u8]) {
    let Some((choice, body)) = data.split_first_chunk::<16>() else {
        return;
    };
    let mac = MacAddr([2, 0, 0, 0, 0, 1]);
    let around = Packet::ethernet(mac, mac)
        .ipv4(addr(C1), addr(C2))
        .payload(body);
    let mut bytes = match choice[15] & 3 {
        0 => body.to_vec(),
        1 => around.udp(u16::from(choice[14]), 53).build(),
        2 => around
            .tcp(u16::from(choice[14]), 80, choice[13], 1, 2)
            .build(),
        _ => around.echo(u16::from(choice[14]), 1).build(),
    };
    let Ok(facts) = parse(&bytes) else { return };
    let Some(ip) = facts.ip().copied() else {
        return;
    };
    let mut frame = Frame::plain(&mut bytes);
    let was_valid = transport_is_valid(&frame, &ip);
    let end = |at: usize| {
        let four = [choice[at], choice[at + 1], choice[at + 2], choice[at + 3]];
        Endpoint::new(
            four.into(),
            u16::from_be_bytes([choice[at + 4], choice[at + 5]]),
        )
    };
    let translation = Translation {
        src: (choice[0] & 1 != 0).then(|| end(1)),
        dst: (choice[0] & 2 != 0).then(|| end(7)),
    };
    rewrite::translate(&mut frame, &facts, translation);
    if choice[0] & 4 != 0 && ip.ttl > 0 {
        rewrite::decrement_ttl(&mut frame, &ip);
    }
    if choice[0] & 8 != 0 {
        rewrite::set_ipv4_id(
            &mut frame,
            &ip,
            u16::from_be_bytes([choice[13], choice[14]]),
        );
    }
    let after = parse(frame.bytes).expect("an edited frame is as well-formed as it was");
    let ip = after.ip().expect("it is still IP");
    assert_eq!(
        was_valid,
        transport_is_valid(&frame, ip),
        "{}",
        pretty::line(frame.bytes, frame.offload)
    );
}

/// Arbitrary frames at three ports, with time passing: nothing panics, nothing goes back to where it
/// was flooded from, everything that leaves can be parsed if it could be before, tables stay in their
/// bounds.
///
/// The data is a sequence of records: port and offload (1 byte), time (1 byte), length (2 bytes),
/// frame. Bit 7 of the first byte puts a plausible header in front of the frame.
pub fn datapath_any(data: &[u8]) {
    let limits = Limits {
        flows: 64,
        flows_per_owner: 48,
        half_open_per_owner: 16,
        ..Limits::default()
    };
    let mut lab = Lab::with_limits(limits);
    lab.publish_tcp(8080, C1, 80);
    let mut rest = data;
    while let Some((&[kind, time, high, low], tail)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([high, low]) % 2048).min(tail.len());
        let (body, tail) = tail.split_at(length);
        rest = tail;
        lab.pass(Duration::from_millis(u64::from(time) * u64::from(time) * 8));
        let port = [C1, C2, UP][usize::from(kind % 3)];
        let bytes = if kind & 0x80 != 0 {
            plausible(port, kind, body)
        } else {
            body.to_vec()
        };
        let offload = if kind & 0x40 != 0 {
            Offload::partial(u16::from(high), u16::from(low))
        } else {
            Offload::NONE
        };
        let known = parse(&bytes).is_ok();
        for sent in lab.send_with(port, &bytes, offload) {
            assert!(
                !known || parse(&sent.bytes).is_ok(),
                "{sent:?} cannot be parsed"
            );
            let reflected = sent.port == port && sent.bytes == bytes;
            assert!(!reflected, "{sent:?} went back to where it came from");
        }
    }
    assert!(lab.datapath.flows(lab.now).len() <= 64);
}

/// The body behind an Ethernet and IPv4 header that the port may send, with the checksum in place.
fn plausible(port: PortId, kind: u8, body: &[u8]) -> Vec<u8> {
    use crate::lab::{EXTERNAL, EXTERNAL_MAC, ROUTER_MAC, SERVER, gateway_mac, mac};
    let packet = match port {
        UP => Packet::ethernet(ROUTER_MAC, EXTERNAL_MAC).ipv4(SERVER, EXTERNAL),
        C1 | C2 if kind & 0x20 != 0 => {
            let other = if port == C1 { C2 } else { C1 };
            Packet::ethernet(mac(port), mac(other)).ipv4(addr(port), addr(other))
        }
        _ => Packet::ethernet(mac(port), gateway_mac()).ipv4(addr(port), SERVER),
    };
    let number = [1, 6, 17, 47][usize::from(kind >> 2 & 3)];
    let offset = u16::from(body.first().copied().unwrap_or(0) & 3) * 8;
    let packet = if kind & 0x10 != 0 {
        packet.fragment(offset, body.len().is_multiple_of(2))
    } else {
        packet
    };
    packet.protocol(number).payload(body).build()
}
