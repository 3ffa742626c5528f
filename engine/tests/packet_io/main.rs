//! Packet sockets against a real kernel: every test builds namespaces and veth pairs of its own.
//! Needs unshare(1) and ip(8), and the right to make user namespaces.
#![cfg(feature = "io")]
#![allow(
    unsafe_code,
    reason = "plain packet sockets to check ours against, a counting allocator"
)]

#[path = "../../../tests/src/counting.rs"]
mod counting;
mod sharing;
mod veth;

use std::net::{Ipv4Addr, Ipv6Addr};

use pontoon_engine::io::packet_socket::{Binding, Protocol, RingSize};
use pontoon_engine::{PortId, Transmit};
use pontoon_packet::build::Packet;
use pontoon_packet::{Frame, MacAddr, Offload, Segments};
use veth::{Bench, Namespace, Peer, await_carrier, index, ip, isolated, packet_socket};

const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);
const NOWHERE: u32 = 9999;

fn datagram(payload: usize) -> Packet {
    let bytes: Vec<u8> = (0..payload).map(|n| n as u8).collect();
    let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    Packet::ethernet(A, B)
        .ipv4(a, b)
        .udp(1000, 2000)
        .payload(&bytes)
}

/// A TCP super-frame as a container's kernel would send it, in segments of 1400 bytes.
fn super_frame(payload: usize) -> (Vec<u8>, Offload) {
    let bytes: Vec<u8> = (0..payload).map(|n| (n / 7) as u8).collect();
    let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    let packet = Packet::ethernet(A, B)
        .ipv4(a, b)
        .tcp(1000, 2000, 0x10, 1, 1)
        .payload(&bytes);
    let (bytes, offload) = packet.half_done();
    (bytes, offload.with_segments(Segments::Tcp4, 54, 1400))
}

#[track_caller]
fn crosses_unchanged(bench: &mut Bench, bytes: &[u8], offload: Offload) {
    bench.peers[0].send(bytes, offload);
    bench.cross(1);
    let (heard, mut remarks) = bench.peers[1]
        .receive()
        .expect("the frame leaves by port 1");
    assert_eq!(heard, bytes);
    // The header length is a hint: how much of the frame lies in one piece in the kernel.
    remarks.hdr_len = offload.hdr_len;
    assert_eq!(remarks, offload);
}

#[test]
fn frames_of_every_size_cross_bit_exact() {
    isolated("frames_of_every_size_cross_bit_exact", || {
        let mut bench = Bench::new(2);
        for payload in [0, 1, 17, 18, 100, 1471, 1472, 8000, 65_000] {
            crosses_unchanged(&mut bench, &datagram(payload).build(), Offload::NONE);
        }
        let unknown = Packet::ethernet(A, B)
            .ethertype(0x88b5)
            .payload(&[7; 50])
            .build();
        crosses_unchanged(&mut bench, &unknown, Offload::NONE);
        assert_eq!(bench.counters().refused, []);
    });
}

#[test]
fn vlan_tag_and_qinq_tag_are_put_back() {
    isolated("vlan_tag_and_qinq_tag_are_put_back", || {
        let mut bench = Bench::new(2);
        let (vlan, outer) = (
            datagram(64).vlan(42).build(),
            datagram(64).tag(0x88a8, 0x6007),
        );
        for bytes in [
            vlan,
            outer.clone().vlan(9).build(),
            outer.tag(0x8100, 0).build(),
        ] {
            bench.peers[0].send(&bytes, Offload::NONE);
            bench.pump(1, |_, frame, _| assert_eq!(frame.bytes, bytes));
            crosses_unchanged(&mut bench, &bytes, Offload::NONE);
        }
    });
}

#[test]
fn half_done_checksum_is_found_behind_a_tag() {
    isolated("half_done_checksum_is_found_behind_a_tag", || {
        let mut bench = Bench::new(2);
        let (bytes, offload) = datagram(100).vlan(42).half_done();
        assert_eq!(offload.csum_start, 38);
        crosses_unchanged(&mut bench, &bytes, offload);
    });
}

#[test]
fn super_frame_crosses_whole() {
    isolated("super_frame_crosses_whole", || {
        let mut bench = Bench::new(2);
        for payload in [2801, 30_000, 65_480] {
            let (bytes, offload) = super_frame(payload);
            crosses_unchanged(&mut bench, &bytes, offload);
        }
    });
}

#[test]
fn own_frames_are_not_heard() {
    isolated("own_frames_are_not_heard", || {
        let mut bench = Bench::new(1);
        bench
            .wire
            .send(|out| out.emit(PortId(0), &datagram(10).build(), Offload::NONE));
        assert!(bench.peers[0].receive().is_some());
        assert!(!bench.wire.is_ready());
        assert_eq!(bench.wire.pump(bench.socket, &mut forget), 0);
    });
}

#[test]
fn one_slot_is_sent_to_many_ports() {
    isolated("one_slot_is_sent_to_many_ports", || {
        let mut bench = Bench::new(5);
        let (bytes, offload) = super_frame(20_000);
        bench.peers[2].send(&bytes, offload);
        bench.pump(1, |port, frame, out| {
            assert_eq!(port, PortId(2));
            (0..5)
                .filter(|n| *n != 2)
                .for_each(|n| out.forward(PortId(n), frame));
        });
        for n in [0, 1, 3, 4] {
            let (heard, remarks) = bench.peers[n].receive().expect("a copy for every port");
            assert_eq!((&heard, remarks.gso_size), (&bytes, 1400), "port {n}");
        }
        bench.peers[2].hears_nothing();
    });
}

#[test]
fn edits_made_before_forwarding_are_what_leaves() {
    isolated("edits_made_before_forwarding_are_what_leaves", || {
        let mut bench = Bench::new(2);
        let bytes = datagram(30).build();
        bench.peers[0].send(&bytes, Offload::NONE);
        bench.pump(1, |_, frame, out| {
            frame.bytes[..6].copy_from_slice(&A.0);
            out.forward(PortId(1), frame);
        });
        let (heard, _) = bench.peers[1].receive().expect("the frame");
        assert_eq!((&heard[..6], &heard[6..]), (&A.0[..], &bytes[6..]));
    });
}

#[test]
fn frame_from_outside_the_ring_is_copied() {
    isolated("frame_from_outside_the_ring_is_copied", || {
        let mut bench = Bench::new(2);
        let (first, second) = (datagram(1000).build(), datagram(2000).build());
        bench.wire.send(|out| {
            for bytes in [&first, &second] {
                let mut copy = bytes.clone();
                out.forward(PortId(1), &Frame::plain(&mut copy));
                copy.fill(0xee);
            }
        });
        assert_eq!(bench.peers[1].receive(), Some((first, Offload::NONE)));
        assert_eq!(bench.peers[1].receive(), Some((second, Offload::NONE)));
    });
}

#[test]
fn refused_messages_are_counted_and_stop_nobody() {
    isolated("refused_messages_are_counted_and_stop_nobody", || {
        let mut bench = Bench::new(2);
        ip("link set p1 mtu 1500");
        bench.wire.add_port(PortId(7), bench.socket, NOWHERE);
        let bytes = datagram(64).build();
        let hostile = Offload::partial(60_000, 6);
        bench.peers[0].send(&bytes, Offload::NONE);
        bench.pump(1, |_, frame, out| {
            out.forward(PortId(7), frame);
            out.forward(PortId(1), frame);
            out.emit(PortId(1), &bytes, hostile);
            out.emit(PortId(1), &datagram(3000).build(), Offload::NONE);
            out.forward(PortId(1), frame);
        });
        assert_eq!(
            bench.peers[1].receive(),
            Some((bytes.clone(), Offload::NONE))
        );
        assert_eq!(
            bench.peers[1].receive(),
            Some((bytes.clone(), Offload::NONE))
        );
        bench.peers[1].hears_nothing();
        let expected = [(libc::ENXIO, 1), (libc::EINVAL, 1), (libc::EMSGSIZE, 1)];
        assert_eq!(bench.counters().refused, expected);
    });
}

#[test]
fn port_that_is_down_stops_nobody() {
    isolated("port_that_is_down_stops_nobody", || {
        let mut bench = Bench::new(3);
        let bytes = datagram(64).build();
        ip("link set p1 down");
        bench.peers[0].send(&bytes, Offload::NONE);
        bench.pump(1, |_, frame, out| {
            out.forward(PortId(1), frame);
            out.forward(PortId(2), frame);
        });
        assert_eq!(bench.peers[2].receive(), Some((bytes, Offload::NONE)));
        assert_eq!(bench.counters().refused, [(libc::ENETDOWN, 1)]);
    });
}

#[test]
fn truncated_frame_is_counted_and_not_forwarded() {
    isolated("truncated_frame_is_counted_and_not_forwarded", || {
        let mut bench = Bench::new(2);
        bench
            .outside
            .enter(|| ip("link set c0 gso_max_size 131072"));
        let (a, b) = (Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
        let packet = Packet::ethernet(A, B).ipv6(a, b).tcp(1, 2, 0x10, 1, 1);
        let (bytes, offload) = packet.payload(&[7; 80_000]).half_done();
        bench.peers[0].send(&bytes, offload.with_segments(Segments::Tcp6, 74, 1400));
        bench.cross(1);
        assert_eq!(bench.counters().truncated, 1);
        bench.peers[1].hears_nothing();
    });
}

#[test]
fn frames_that_find_the_ring_full_are_counted() {
    isolated("frames_that_find_the_ring_full_are_counted", || {
        let mut bench = Bench::with_one_ring(2, RingSize::LARGE);
        let (slots, bytes) = (RingSize::LARGE.slots(), datagram(10).build());
        for _ in 0..slots + 60 {
            bench.peers[0].send(&bytes, Offload::NONE);
        }
        bench.cross(slots);
        assert_eq!(bench.counters().lost, 60);
        crosses_many(&mut bench, slots);
        assert_eq!(bench.counters().lost, 60);
    });
}

/// Frames with a number in them cross in order while the ring goes round and round.
fn crosses_many(bench: &mut Bench, already: usize) {
    (0..already).for_each(|_| assert!(bench.peers[1].receive().is_some()));
    for n in 0..2000_u16 {
        let bytes = datagram(10).id(n).build();
        bench.peers[0].send(&bytes, Offload::NONE);
        if n % 50 == 49 {
            bench.cross(50);
            for n in n - 49..=n {
                let expected = datagram(10).id(n).build();
                assert_eq!(bench.peers[1].receive(), Some((expected, Offload::NONE)));
            }
        }
    }
}

#[test]
fn slots_are_given_back() {
    isolated("slots_are_given_back", || {
        let mut bench = Bench::new(2);
        crosses_many(&mut bench, 0);
        assert_eq!(bench.counters().lost, 0);
    });
}

#[test]
fn frame_of_one_socket_leaves_by_another() {
    isolated("frame_of_one_socket_leaves_by_another", || {
        let mut bench = Bench::new(1);
        let elsewhere = Namespace::new();
        let (fd, peer, at) = elsewhere.enter(|| {
            ip("link add u type veth peer name v");
            let peer = Peer::new("v");
            ip("link set u up");
            ["u", "v"].into_iter().for_each(await_carrier);
            (packet_socket(), peer, index("u"))
        });
        let uplink = bench.wire.add_socket(
            fd,
            Binding::Interface(at, Protocol::Everything),
            RingSize::SINGLE,
        );
        let uplink = uplink.expect("a ring");
        bench.wire.add_port(PortId(9), uplink, at);
        let bytes = datagram(700).build();
        bench.peers[0].send(&bytes, Offload::NONE);
        bench.pump(1, |_, frame, out| out.forward(PortId(9), frame));
        assert_eq!(peer.receive(), Some((bytes.clone(), Offload::NONE)));
        peer.send(&bytes, Offload::NONE);
        bench.socket = uplink;
        bench.pump(1, |_, frame, out| out.forward(PortId(0), frame));
        assert_eq!(bench.peers[0].receive(), Some((bytes, Offload::NONE)));
    });
}

#[test]
fn interface_that_is_no_port_is_not_heard() {
    isolated("interface_that_is_no_port_is_not_heard", || {
        let mut bench = Bench::new(2);
        bench.wire.remove_port(PortId(0));
        bench.peers[0].send(&datagram(10).build(), Offload::NONE);
        bench.pump(1, |_, _, _| panic!("a frame of no port"));
        assert_eq!(bench.counters().unheard, 1);
    });
}

#[test]
fn nothing_is_allocated_per_frame() {
    isolated("nothing_is_allocated_per_frame", || {
        let mut bench = Bench::new(3);
        let round = |bench: &mut Bench| {
            (0..40).for_each(|_| bench.peers[0].send(&datagram(500).build(), Offload::NONE));
            let before = counting::allocations();
            bench.pump(40, |_, frame, out| {
                out.forward(PortId(1), frame);
                out.emit(PortId(2), frame.bytes, frame.offload);
            });
            counting::allocations() - before
        };
        round(&mut bench);
        assert_eq!((0..20).map(|_| round(&mut bench)).sum::<u64>(), 0);
        let counted = counting::allocations();
        drop(std::hint::black_box(vec![0_u8; 10]));
        assert_eq!(counting::allocations(), counted + 1, "the allocator counts");
    });
}

fn forget(_: PortId, _: &mut Frame<'_>, _: &mut pontoon_engine::io::wire::Outbox) {}
