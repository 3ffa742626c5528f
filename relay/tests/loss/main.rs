//! Twenty megabytes towards a container over a wire that loses and delays, in virtual time.
#![allow(clippy::unwrap_used, reason = "tests")]

mod path;
mod peer;

use std::time::Duration;

use path::{Lab, Path, Unit};
use peer::Sack;

const BYTES: usize = 20 << 20;
/// A container on this machine, one of twenty datagrams lost each way.
const NEAR: Path = Path {
    delay: Duration::from_micros(50),
    late: 0,
    late_by: Duration::from_millis(20),
    lost: 5,
    unit: Unit::Segment,
};

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

/// Puts as many bytes as there is room for, and finishes when all are put.
fn put(lab: &mut Lab, bytes: &[u8], written: &mut usize) {
    let mut count = Some(1);
    while count.is_some_and(|count| count > 0) && *written < bytes.len() {
        count = lab.relay.put(|room| {
            let count = room.len().min(bytes.len() - *written);
            room[..count].copy_from_slice(&bytes[*written..*written + count]);
            (count, count)
        });
        *written += count.unwrap_or(0);
    }
    if *written == bytes.len() {
        lab.relay.finish();
    }
}

/// Sends `len` bytes and the end, which must arrive within `patience`.
fn transfer(path: Path, sack: Sack, seed: u64, len: usize, patience: Duration) -> Lab {
    let bytes = pattern(len);
    let mut lab = Lab::new(path, sack, seed);
    let mut written = 0;
    while !lab.peer.finished {
        put(&mut lab, &bytes, &mut written);
        lab.step();
        let got = lab.peer.received.len();
        assert!(
            lab.took() < patience,
            "{got} of {len} bytes in {patience:?}"
        );
        assert!(!lab.peer.reset, "reset after {got} bytes");
    }
    assert!(lab.peer.received == bytes);
    lab
}

/// The same with several seeds; what goes on the wire may be `most` times what arrives.
fn transfers(path: Path, sack: Sack, patience: Duration, most: f64) {
    for seed in 1..=4 {
        let lab = transfer(path, sack, seed, BYTES, patience);
        let sent = lab.put_on_wire as f64 / BYTES as f64;
        assert!(sent < most, "{sent:.2} times as much as arrived");
    }
}

#[test]
fn without_loss_nothing_is_sent_twice() {
    for delay in [50, 10_000].map(Duration::from_micros) {
        let path = Path {
            lost: 0,
            delay,
            ..NEAR
        };
        transfers(path, Sack::Honest, Duration::from_secs(1), 1.000_001);
    }
}

#[test]
fn lost_segments_are_resent_within_round_trips() {
    transfers(NEAR, Sack::Honest, Duration::from_secs(1), 1.1);
    let far = Path {
        delay: Duration::from_millis(10),
        ..NEAR
    };
    transfers(far, Sack::Honest, Duration::from_secs(4), 1.1);
}

#[test]
fn lost_super_frames_are_resent_within_round_trips() {
    let path = Path {
        unit: Unit::SuperFrame,
        ..NEAR
    };
    transfers(path, Sack::Honest, Duration::from_secs(1), 1.3);
}

#[test]
fn reordering_costs_little() {
    let some = Path { late: 10, ..NEAR };
    transfers(some, Sack::Honest, Duration::from_secs(2), 1.5);
    let most = Path { late: 75, ..NEAR };
    transfers(most, Sack::Honest, Duration::from_secs(5), 1.5);
}

#[test]
fn a_container_that_tells_of_no_ranges_waits_longer() {
    transfers(NEAR, Sack::Silent, Duration::from_secs(30), 2.0);
}

/// It claims to hold what it was not sent yet or what was lost.
#[test]
fn a_container_that_lies_hurts_its_own_connection_only() {
    for by in [2, 3000, 1 << 19, 1 << 30] {
        let patience = Duration::from_secs(100);
        let lab = transfer(NEAR, Sack::Lying(by), 1, 1 << 20, patience);
        assert!(
            lab.put_on_wire < 40 << 20,
            "{} bytes for {by}",
            lab.put_on_wire
        );
    }
}

/// Nothing arrives any more: attempts become rare, and the connection goes on once something does.
#[test]
fn a_path_that_is_cut_is_tried_less_and_less() {
    let mut lab = Lab::new(Path { lost: 100, ..NEAR }, Sack::Honest, 1);
    let bytes = pattern(1 << 20);
    let mut written = 0;
    while lab.took() < Duration::from_secs(60) {
        put(&mut lab, &bytes, &mut written);
        lab.step();
    }
    assert!(lab.put_on_wire < 3 << 20, "{} bytes", lab.put_on_wire);
    lab.path.lost = 0;
    while !lab.peer.finished {
        put(&mut lab, &bytes, &mut written);
        lab.step();
        assert!(
            lab.took() < Duration::from_secs(75),
            "{} bytes",
            lab.peer.received.len()
        );
    }
    assert!(lab.peer.received == bytes);
}
