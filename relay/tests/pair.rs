//! Two connections that speak to each other over a wire made of two queues.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::VecDeque;
use std::time::Duration;

use pontoon_packet::{Endpoint, Timestamp};
use pontoon_relay::{Buffers, Connection, Emit, Incoming, Setup};

const MTU: u16 = 1500;

#[derive(Default)]
struct Queue(VecDeque<Vec<u8>>);

impl Emit for Queue {
    fn has_room(&self) -> bool {
        true
    }

    fn emit<R>(&mut self, len: usize, gso: Option<u16>, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        assert!(
            len <= usize::from(MTU) || gso.is_some(),
            "{len} in one piece"
        );
        let mut bytes = vec![0xaa; len];
        let result = fill(&mut bytes);
        self.0.push_back(bytes);
        result
    }
}

/// The relay's side, and a container that is another connection of the same kind.
struct Pair {
    now: Timestamp,
    relay: Connection,
    container: Connection,
    loss: Loss,
    sent: u64,
}

/// What the wire loses.
#[derive(Clone, Copy)]
enum Loss {
    Nothing,
    /// One datagram of so many, regularly.
    Every(u64),
    /// One of so many on average, drawn from this state.
    Random(u64, u64),
}

fn end(last: u8, port: u16) -> Endpoint {
    Endpoint::new([10, 0, 0, last].into(), port)
}

fn setup(container: Endpoint, far: Endpoint, room: usize) -> Setup {
    Setup {
        container,
        far,
        mtu: MTU,
        isn: u32::from(container.port),
        buffers: Buffers {
            received: vec![0; room].leak(),
            unsent: vec![0; room].leak(),
        },
    }
}

impl Pair {
    /// The container opens the connection.
    fn outward(room: usize) -> Self {
        let now = Timestamp::from_secs(1);
        let (container, far) = (end(2, 40_000), end(9, 80));
        Self {
            now,
            relay: Connection::accept(now, setup(container, far, room)),
            container: Connection::connect(now, setup(far, container, room)),
            loss: Loss::Nothing,
            sent: 0,
        }
    }

    fn is_lost(&mut self) -> bool {
        self.sent += 1;
        match &mut self.loss {
            Loss::Nothing => false,
            Loss::Every(every) => self.sent.is_multiple_of(*every),
            Loss::Random(one_of, state) => {
                *state ^= *state << 13;
                *state ^= *state >> 7;
                *state ^= *state << 17;
                state.is_multiple_of(*one_of)
            }
        }
    }

    /// Lets datagrams cross until nothing more moves, then lets time pass to the next timer.
    fn step(&mut self) {
        let (mut there, mut back) = (Queue::default(), Queue::default());
        self.container.transmit(self.now, &mut there);
        self.relay.transmit(self.now, &mut back);
        for _ in 0..1000 {
            if there.0.is_empty() && back.0.is_empty() {
                break;
            }
            for datagram in std::mem::take(&mut there.0) {
                if !self.is_lost() {
                    self.relay.receive(self.now, &datagram, &mut back);
                }
            }
            self.relay.transmit(self.now, &mut back);
            for datagram in std::mem::take(&mut back.0) {
                if !self.is_lost() {
                    self.container.receive(self.now, &datagram, &mut there);
                }
            }
            self.container.transmit(self.now, &mut there);
        }
        let timers = [
            self.relay.poll_timeout(self.now),
            self.container.poll_timeout(self.now),
        ];
        let next = timers.into_iter().flatten().min();
        let soonest = self.now + Duration::from_millis(1);
        self.now = next.map_or(soonest, |at| at.max(soonest));
    }

    fn established() -> Self {
        let mut pair = Self::outward(1 << 16);
        pair.step();
        assert!(pair.relay.is_established() && pair.container.is_established());
        pair
    }
}

fn put(connection: &mut Connection, bytes: &[u8]) -> usize {
    let written = connection.put(|room| {
        let count = room.len().min(bytes.len());
        room[..count].copy_from_slice(&bytes[..count]);
        (count, count)
    });
    written.unwrap_or(0)
}

fn take(connection: &mut Connection, into: &mut Vec<u8>) -> usize {
    let taken = connection.take(|bytes| {
        into.extend_from_slice(bytes);
        (bytes.len(), bytes.len())
    });
    taken.unwrap_or(0)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

/// Sends `bytes` both ways at once and returns what arrived at the relay and at the container.
fn exchange(pair: &mut Pair, bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut from_container, mut from_relay) = (0, 0);
    let (mut at_relay, mut at_container) = (Vec::new(), Vec::new());
    for _ in 0..100_000 {
        from_container += put(&mut pair.container, &bytes[from_container..]);
        from_relay += put(&mut pair.relay, &bytes[from_relay..]);
        pair.step();
        while take(&mut pair.relay, &mut at_relay) > 0 {}
        while take(&mut pair.container, &mut at_container) > 0 {}
        if at_relay.len() == bytes.len() && at_container.len() == bytes.len() {
            break;
        }
    }
    (at_relay, at_container)
}

#[test]
fn bytes_cross_unchanged_both_ways() {
    let bytes = pattern(1_000_000);
    let (at_relay, at_container) = exchange(&mut Pair::established(), &bytes);
    assert!(at_relay == bytes && at_container == bytes);
}

#[test]
fn bytes_cross_unchanged_when_datagrams_are_lost() {
    for every in [10, 13, 100] {
        let mut pair = Pair::established();
        pair.loss = Loss::Every(every);
        let bytes = pattern(300_000);
        let (at_relay, at_container) = exchange(&mut pair, &bytes);
        assert!(at_relay == bytes && at_container == bytes, "1 of {every}");
    }
}

#[test]
fn connections_end_in_order_however_datagrams_are_lost() {
    for seed in 1..200_u64 {
        let mut pair = Pair::established();
        pair.loss = Loss::Random(20, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let bytes = pattern(100_000);
        let (mut sent, mut received) = (0, Vec::new());
        let mut waited = Duration::ZERO;
        while pair.container.incoming() == Incoming::Open {
            sent += put(&mut pair.relay, &bytes[sent..]);
            if sent == bytes.len() {
                pair.relay.finish();
            }
            let before = pair.now;
            pair.step();
            while take(&mut pair.container, &mut received) > 0 {}
            let under_way = sent == bytes.len() || !pair.relay.is_idle();
            if under_way && pair.container.incoming() == Incoming::Open {
                waited += pair.now.since(before);
            }
            assert!(waited < Duration::from_secs(20), "seed {seed}: {waited:?}");
        }
        assert_eq!(pair.container.incoming(), Incoming::Finished, "seed {seed}");
        assert!(received == bytes, "seed {seed}");
    }
}

#[test]
fn a_reader_that_stops_stops_the_writer() {
    let mut pair = Pair::established();
    let bytes = pattern(1 << 20);
    let mut written = 0;
    for _ in 0..50 {
        written += put(&mut pair.container, &bytes[written..]);
        pair.step();
    }
    assert!(written <= 2 << 16, "{written} bytes under way");
    let mut read = Vec::new();
    for _ in 0..10_000 {
        take(&mut pair.relay, &mut read);
        written += put(&mut pair.container, &bytes[written..]);
        pair.step();
    }
    assert!(read == bytes);
}

#[test]
fn one_side_may_finish_and_still_be_answered() {
    let mut pair = Pair::established();
    put(&mut pair.container, b"question");
    pair.container.finish();
    pair.step();
    assert_eq!(pair.relay.incoming(), Incoming::Open, "bytes wait");
    let mut question = Vec::new();
    take(&mut pair.relay, &mut question);
    assert_eq!(question, b"question");
    assert_eq!(pair.relay.incoming(), Incoming::Finished);

    put(&mut pair.relay, b"answer");
    pair.relay.finish();
    pair.step();

    let mut answer = Vec::new();
    take(&mut pair.container, &mut answer);
    assert_eq!(answer, b"answer");
    assert_eq!(pair.container.incoming(), Incoming::Finished);
    // The last acknowledgement may be delayed.
    pair.step();
    assert!(pair.relay.is_over());
}

#[test]
fn a_connection_is_not_over_before_its_last_bytes_are_taken() {
    for relay_first in [true, false] {
        let mut pair = Pair::established();
        if relay_first {
            pair.relay.finish();
            pair.step();
        }
        put(&mut pair.container, b"last words");
        pair.container.finish();
        pair.step();
        pair.relay.finish();
        for _ in 0..3 {
            pair.step();
        }

        assert!(!pair.relay.is_over(), "{relay_first}");
        let mut words = Vec::new();
        take(&mut pair.relay, &mut words);
        assert_eq!(words, b"last words");
        assert_eq!(pair.relay.incoming(), Incoming::Finished);
        assert!(pair.relay.is_over(), "{relay_first}");
    }
}

#[test]
fn an_abort_arrives_as_an_abort() {
    let mut pair = Pair::established();
    pair.container.abort();
    pair.step();
    assert_eq!(pair.relay.incoming(), Incoming::Broken);
    assert!(pair.relay.is_over());
}

#[test]
fn an_abort_does_not_wait_for_bytes_that_nobody_takes() {
    let mut pair = Pair::established();
    put(&mut pair.container, b"last words");
    pair.container.finish();
    pair.step();
    pair.relay.abort();
    pair.step();
    assert!(pair.relay.is_over());
}

#[test]
fn a_last_word_that_is_never_acknowledged_ends_the_connection() {
    let mut pair = Pair::established();
    pair.relay.finish();
    pair.relay.transmit(pair.now, &mut Queue::default());
    let start = pair.now;
    while !pair.relay.is_over() {
        pair.now = pair.relay.poll_timeout(pair.now).unwrap();
        pair.now = pair.now + Duration::from_millis(1);
        pair.relay.transmit(pair.now, &mut Queue::default());
    }
    let waited = pair.now.since(start).as_secs();
    assert!((60..62).contains(&waited), "{waited} s");
    assert_eq!(pair.relay.incoming(), Incoming::Broken);
}

#[test]
fn a_connection_without_traffic_has_no_timer_but_the_keep_alive() {
    let mut pair = Pair::established();
    for _ in 0..3 {
        pair.step();
    }
    let start = pair.now;
    pair.step();
    let quiet = pair.now.since(start);
    assert!(quiet > Duration::from_secs(7000), "{quiet:?}");
}
