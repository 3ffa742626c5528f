//! What ports that are heard by the same sockets have of each other.

use crate::veth::{Bench, isolated};
use crate::{datagram, super_frame};
use pontoon_engine::PortId;
use pontoon_engine::io::packet_socket::RingSize;
use pontoon_engine::io::wire::BATCH;
use pontoon_packet::Offload;

/// More small frames than any ring has slots.
const FLOOD: usize = 1500;
const QUIET: u16 = 20;

/// Lets port 0 flood while nobody listens, then port 1 speak. Says how many frames of port 1 are heard.
fn heard_beside_a_flood(bench: &mut Bench) -> usize {
    let flood = datagram(10).build();
    for _ in 0..FLOOD {
        bench.peers[0].send(&flood, Offload::NONE);
    }
    for n in 0..QUIET {
        bench.peers[1].send(&datagram(10).id(n).build(), Offload::NONE);
    }
    let heard = bench.drain()[1];
    assert!(bench.counters().lost > 0, "the flood was too small");
    heard
}

#[test]
fn a_flood_takes_no_slots_from_another_port() {
    isolated("sharing::a_flood_takes_no_slots_from_another_port", || {
        let heard = heard_beside_a_flood(&mut Bench::new(2));
        assert_eq!(heard, usize::from(QUIET));
    });
}

#[test]
fn a_flood_takes_all_slots_of_a_single_ring() {
    isolated("sharing::a_flood_takes_all_slots_of_a_single_ring", || {
        let mut bench = Bench::with_one_ring(2, RingSize::LARGE);
        assert_eq!(heard_beside_a_flood(&mut bench), 0);
    });
}

#[test]
fn a_port_that_has_much_to_say_does_not_keep_others_waiting() {
    isolated(
        "sharing::a_port_that_has_much_to_say_does_not_keep_others_waiting",
        || {
            let mut bench = Bench::new(2);
            let bytes = datagram(10).build();
            for port in [0, 1] {
                for _ in 0..4 * BATCH {
                    bench.peers[port].send(&bytes, Offload::NONE);
                }
            }
            let mut heard = [0; 2];
            bench.pump(BATCH, |PortId(port), _, _| heard[port as usize] += 1);
            assert_eq!(heard, [BATCH / 2; 2]);
        },
    );
}

#[test]
fn small_frames_and_super_frames_of_a_port_keep_their_order() {
    isolated(
        "sharing::small_frames_and_super_frames_of_a_port_keep_their_order",
        || {
            let mut bench = Bench::new(2);
            let mut sent = Vec::new();
            for n in 0..100_usize {
                // Runs of different lengths, of both ports.
                let port = n / 3 % 2;
                let (bytes, offload) = match n % 7 {
                    0 | 1 | 4 => super_frame(3000 + n),
                    _ => (datagram(n).build(), Offload::NONE),
                };
                bench.peers[port].send(&bytes, offload);
                sent.push((PortId(port as u32), bytes));
            }
            let mut heard = Vec::new();
            bench.pump(sent.len(), |port, frame, _| {
                heard.push((port, frame.bytes.to_vec()));
            });
            for port in [PortId(0), PortId(1)] {
                let of = |frames: &[(PortId, Vec<u8>)]| -> Vec<_> {
                    frames
                        .iter()
                        .filter(|(at, _)| *at == port)
                        .cloned()
                        .collect()
                };
                assert_eq!(of(&heard), of(&sent));
            }
        },
    );
}

#[test]
fn frames_that_just_fit_a_small_slot_and_those_that_do_not_are_whole() {
    isolated(
        "sharing::frames_that_just_fit_a_small_slot_and_those_that_do_not_are_whole",
        || {
            let mut bench = Bench::new(2);
            for payload in 1700..1900 {
                let tagged = datagram(payload).vlan(42).build();
                for bytes in [datagram(payload).build(), tagged] {
                    bench.peers[0].send(&bytes, Offload::NONE);
                    bench.pump(1, |_, frame, _| assert_eq!(frame.bytes, bytes));
                }
            }
            assert_eq!(bench.counters().truncated, 0);
        },
    );
}
