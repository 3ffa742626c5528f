//! A connection against single segments that no peer in its right mind sends.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::Ipv4Addr;
use std::time::Duration;

use pontoon_packet::build::Packet;
use pontoon_packet::parse::tcp_flags::{ACK, FIN, RST, SYN};
use pontoon_packet::{Endpoint, L4, MacAddr, Tcp, Timestamp, parse};
use pontoon_relay::{Buffers, Connection, Emit, Incoming, Setup};

const CONTAINER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const ETHERNET: usize = 14;
/// The container's first sequence number.
const FIRST: u32 = 1000;

/// Segments that were emitted.
#[derive(Default)]
struct Heard(Vec<Tcp>);

impl Emit for Heard {
    fn has_room(&self) -> bool {
        true
    }

    fn emit<R>(&mut self, len: usize, _: Option<u16>, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut frame = vec![0; ETHERNET + len];
        frame[12] = 8;
        let result = fill(&mut frame[ETHERNET..]);
        match parse(&frame).unwrap().ip().unwrap().l4 {
            L4::Tcp(tcp) => self.0.push(tcp),
            other => panic!("{other:?} is no segment"),
        }
        result
    }
}

/// A segment of the container's; `at` counts from its SYN.
fn tcp(flags: u8, at: u32, ack: u32) -> Packet {
    Packet::ethernet(MacAddr::ZERO, MacAddr::ZERO)
        .ipv4(CONTAINER, FAR)
        .tcp(40_000, 80, flags, FIRST + at, ack)
        .tcp_options(&[2, 4, 5, 180, 1, 3, 3, 7])
}

/// A connection that a container has opened with a SYN, and the container.
struct Container {
    now: Timestamp,
    relay: Connection,
    heard: Heard,
}

impl Container {
    fn opening(room: usize) -> Self {
        let now = Timestamp::from_secs(1);
        let setup = Setup {
            container: Endpoint::new(CONTAINER.into(), 40_000),
            far: Endpoint::new(FAR.into(), 80),
            mtu: u16::MAX,
            isn: 1,
            buffers: Buffers {
                received: vec![0; room].leak(),
                unsent: vec![0; room].leak(),
            },
        };
        let mut container = Self {
            now,
            relay: Connection::accept(now, setup),
            heard: Heard::default(),
        };
        container.say(SYN, 0, &[]);
        container
    }

    fn established(room: usize) -> Self {
        let mut container = Self::opening(room);
        container.say(ACK, 1, &[]);
        assert!(container.relay.is_established());
        container
    }

    /// Sends a segment that acknowledges everything; `at` counts from the SYN.
    fn say(&mut self, flags: u8, at: u32, payload: &[u8]) {
        let counts = |tcp: &Tcp| tcp.seq + u32::from(tcp.flags & (SYN | FIN) != 0);
        let heard = self.heard.0.iter().map(counts).max().unwrap_or(0);
        let packet = tcp(flags, at, heard).payload(payload);
        self.say_so(&packet);
    }

    fn say_so(&mut self, packet: &Packet) {
        let datagram = &packet.build()[ETHERNET..];
        self.relay.receive(self.now, datagram, &mut self.heard);
        self.pass();
    }

    /// Lets the delay of an answer pass.
    fn pass(&mut self) {
        self.now = self.now + Duration::from_millis(20);
        self.relay.transmit(self.now, &mut self.heard);
    }

    fn take_all(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(more) = self.relay.take(|bytes| (bytes.len(), bytes.to_vec())) {
            all.extend(more);
        }
        all
    }
}

#[test]
fn a_handshake_that_the_container_gives_up_is_over() {
    let mut container = Container::opening(1 << 14);
    container.say(RST, 1, &[]);
    assert_eq!(container.relay.incoming(), Incoming::Broken);
    assert!(container.relay.is_over());
}

#[test]
fn an_end_behind_bytes_that_had_no_room_is_not_heard_before_them() {
    let mut container = Container::established(1 << 14);
    let sent: Vec<u8> = (0..20_000).map(|at| (at % 251) as u8).collect();
    let ahead = 16_000;
    container.say(ACK, 1, &sent[..ahead]);
    container.say(ACK | FIN, 1 + ahead as u32, &sent[ahead..]);

    let mut got = container.take_all();
    assert_eq!(container.relay.incoming(), Incoming::Open);
    container.pass();
    container.say(ACK | FIN, 1 + ahead as u32, &sent[ahead..]);
    got.extend(container.take_all());
    assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
    assert_eq!(container.relay.incoming(), Incoming::Finished);
}

#[test]
fn an_end_with_the_last_bytes_is_heard_at_once() {
    let mut container = Container::established(1 << 14);
    container.say(ACK | FIN, 1, b"last words");
    assert_eq!(container.take_all(), b"last words");
    assert_eq!(container.relay.incoming(), Incoming::Finished);
    let last = container.heard.0.last().unwrap();
    assert_eq!(last.ack, FIRST + 1 + 10 + 1);
}

#[test]
fn bytes_that_no_window_has_room_for_are_not_taken() {
    let mut container = Container::established(80 << 10);
    let sent: Vec<u8> = (0..120_000).map(|at| (at % 251) as u8).collect();
    // More than there is room for, less than the first window would be if it were scaled.
    for start in [80_000, 40_000, 0] {
        container.say(ACK, 1 + start as u32, &sent[start..start + 40_000]);
    }
    let mut taken = container.take_all();
    assert_eq!(taken, sent[..80 << 10]);
    container.pass();
    container.say(ACK, 80_001, &sent[80_000..]);
    taken.extend(container.take_all());
    assert_eq!(taken, sent);
}

#[test]
fn bytes_after_the_end_are_not_taken() {
    let mut container = Container::established(1 << 14);
    container.say(ACK | FIN, 1, b"last words");
    container.say(ACK, 12, b"and another thing");
    assert_eq!(container.take_all(), b"last words");
    container.say(ACK, 12, b"and another thing");
    assert_eq!(container.take_all(), b"");
    assert_eq!(container.relay.incoming(), Incoming::Finished);
}

#[test]
fn an_end_whose_answer_was_lost_is_answered_again() {
    let mut container = Container::established(1 << 14);
    container.say(ACK | FIN, 1, b"last words");
    for _ in 0..3 {
        let heard = container.heard.0.len();
        container.now = container.now + Duration::from_millis(200);
        container.say(ACK | FIN, 1, b"last words");
        assert!(container.heard.0.len() > heard);
        assert_eq!(container.heard.0.last().unwrap().ack, FIRST + 1 + 10 + 1);
    }
}

#[test]
fn a_reset_after_the_end_leaves_no_timer_for_bytes_that_are_not_taken() {
    let mut container = Container::established(1 << 14);
    container.say(ACK, 1, b"last words");
    container.relay.finish();
    container.pass();
    container.say(ACK | FIN, 11, &[]);
    container.now = container.now + Duration::from_secs(2);
    container.pass();
    container.say(RST, 12, &[]);

    assert_eq!(container.relay.poll_timeout(container.now), None);
    assert!(!container.relay.is_over());
    assert_eq!(container.take_all(), b"last words");
    assert!(container.relay.is_over());
}

#[test]
fn a_last_word_that_was_given_up_leaves_no_timer_for_bytes_that_are_not_taken() {
    let mut container = Container::established(1 << 14);
    container.say(ACK | FIN, 1, b"last words");
    container.relay.finish();
    container.pass();
    container.now = container.now + Duration::from_secs(60);
    container.pass();

    let last = container.heard.0.last().unwrap();
    assert_eq!(last.flags & RST, RST);
    assert_eq!(container.relay.poll_timeout(container.now), None);
    assert_eq!(container.take_all(), b"last words");
    assert!(container.relay.is_over());
}

#[test]
fn a_window_that_stays_closed_at_the_end_is_not_asked_about_for_ever() {
    let mut container = Container::established(1 << 14);
    let first = container.heard.0[0].seq + 1;
    container.relay.put(|room| {
        room[..1000].fill(7);
        (1000, ())
    });
    container.relay.finish();
    container.pass();
    container.say_so(&tcp(ACK, 1, first + 500).window(0));
    container.say_so(&tcp(ACK, 1, first + 1001).window(0));

    let heard = container.heard.0.len();
    for _ in 0..10 {
        container.pass();
    }
    assert_eq!(container.heard.0.len(), heard);
    let next = container.relay.poll_timeout(container.now);
    assert!(next.is_some_and(|at| at > container.now + Duration::from_secs(1)));
}
