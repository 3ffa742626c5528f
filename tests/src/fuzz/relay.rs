//! One relayed connection against a container that keeps no rule.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;

use pontoon_packet::build::Packet;
use pontoon_packet::{Endpoint, L4, MacAddr, Timestamp, parse};
use pontoon_relay::{Connection, Emit, Incoming, Setup};

use super::guest::{self, Guest, Said};
use super::held::Held;
use super::input::Input;

const CONTAINER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const PORTS: (u16, u16) = (40_000, 80);
const SALT: u16 = 80;
/// Bytes of an Ethernet header, which the relay knows nothing of.
const ETHERNET: usize = 14;
/// Milliseconds that may pass at once.
const TIMES: [u64; 8] = [1, 10, 50, 250, 1000, 5000, 65_000, 8_000_000];
/// After so long without a word from the container nothing may be left: a keep-alive's time, what
/// Linux gives up after, and the last word's.
const PATIENCE: Duration = Duration::from_secs(7200 + 924 + 60 + 10);

/// What was emitted, behind an empty Ethernet header.
#[derive(Default)]
struct Emitted {
    frames: Vec<(Vec<u8>, Option<u16>)>,
    /// Nothing can be taken.
    full: bool,
}

impl Emit for Emitted {
    fn has_room(&self) -> bool {
        !self.full
    }

    fn emit<R>(&mut self, len: usize, gso: Option<u16>, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut bytes = vec![0xaa; ETHERNET + len];
        bytes[..ETHERNET].fill(0);
        bytes[12] = 8;
        let result = fill(&mut bytes[ETHERNET..]);
        self.frames.push((bytes, gso));
        result
    }
}

struct World {
    now: Timestamp,
    connection: Held,
    guest: Guest,
    said: Said,
    /// Bytes that the far end has taken.
    taken: u32,
    out: Emitted,
    /// In the end the container is silent for as long as it takes.
    patient: bool,
}

/// Any segments at any time against one connection, with a far end that reads and writes as it
/// likes: nothing panics; what is emitted is well-formed, is what the far end has said, and keeps to
/// the window; what is taken is what the container has sent, in sequence and to its end; a reset in
/// its place ends the connection, and so does silence.
///
/// The first two bytes choose the buffers, who begins and how it ends; the rest is a sequence of actions.
pub fn relay_any(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new(&mut input);
    while !input.is_empty() && !world.connection.is_over() {
        world.act(&mut input);
        world.check_far_end();
    }
    world.end();
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let now = Timestamp::from_secs(1);
        let room = input.one_of(&[2048, 16 << 10, 80 << 10, 600, 256 << 10]);
        let choice = input.byte();
        let begins = choice & 3 != 0;
        let connection = Held::new(room, |buffers| {
            let setup = Setup {
                container: Endpoint::new(CONTAINER.into(), PORTS.0),
                far: Endpoint::new(FAR.into(), PORTS.1),
                mtu: u16::MAX,
                isn: 7,
                buffers,
            };
            if begins {
                Connection::accept(now, setup)
            } else {
                Connection::connect(now, setup)
            }
        });
        let packet = Packet::ethernet(MacAddr::ZERO, MacAddr::ZERO).ipv4(CONTAINER, FAR);
        let mut world = Self {
            now,
            connection,
            guest: Guest::new(packet, PORTS),
            said: Said {
                salt: SALT,
                ..Said::default()
            },
            taken: 0,
            out: Emitted::default(),
            patient: choice & 28 == 0,
        };
        if begins {
            let syn = world.guest.syn(input);
            world.receive(&syn);
        }
        world.transmit();
        world
    }

    fn act(&mut self, input: &mut Input<'_>) {
        match input.byte() {
            0..150 => {
                let (frame, _) = self.guest.segment(input);
                self.receive(&frame);
            }
            150..165 => self.take(usize::from(input.word())),
            165..185 => self.put(usize::from(input.word())),
            185..195 => self.finish(),
            195..198 => self.connection.abort(),
            198..203 => self.out.full ^= true,
            203..208 => self.reset(),
            208..213 => {
                let frame = self.guest.broken_segment(input);
                self.receive(&frame);
            }
            _ => self.pass(Duration::from_millis(input.one_of(&TIMES))),
        }
        self.transmit();
    }

    fn receive(&mut self, frame: &[u8]) {
        let before = self.out.frames.len();
        let datagram = &frame[ETHERNET..];
        self.connection.receive(self.now, datagram, &mut self.out);
        let answers = self.out.frames.len() - before;
        // Bytes, and the end behind them.
        assert!(answers <= 2, "{answers} answers to one segment");
        self.listen();
    }

    /// Sends what is due; what is left then has a time of its own.
    fn transmit(&mut self) {
        self.connection.transmit(self.now, &mut self.out);
        let many = self.out.frames.len() >= 64;
        self.listen();
        if self.out.full || many || self.connection.is_over() {
            return;
        }
        let due = self.connection.poll_timeout(self.now);
        assert!(
            due.is_none_or(|at| at > self.now),
            "{:?} is due at once, for ever",
            *self.connection
        );
    }

    /// The container hears everything that was emitted.
    fn listen(&mut self) {
        for (bytes, gso) in self.out.frames.drain(..) {
            let facts = parse(&bytes).expect("what is emitted can be parsed");
            let ip = facts.ip().expect("a datagram");
            let L4::Tcp(tcp) = ip.l4 else {
                panic!("{ip:?} is no segment")
            };
            assert_eq!((ip.src, ip.dst), (FAR.into(), IpAddr::from(CONTAINER)));
            assert_eq!((tcp.dst_port, tcp.src_port), PORTS);
            assert_eq!(ip.end(), bytes.len(), "{ip:?}");
            let options = &bytes[ip.l4_start() + 20..ip.l4_start() + usize::from(tcp.header_len)];
            let payload = &bytes[ip.l4_start() + usize::from(tcp.header_len)..];
            assert!(gso.is_none_or(|size| size > 0 && payload.len() > usize::from(size)));
            self.guest.hear(&tcp, options, payload, self.said);
        }
    }

    fn put(&mut self, count: usize) {
        let said = self.said;
        let put = self.connection.put(|room| {
            let count = room.len().min(count);
            for (at, place) in room[..count].iter_mut().zip(said.bytes..) {
                *at = guest::byte(said.salt, place);
            }
            (count, count)
        });
        self.said.bytes += put.unwrap_or(0) as u32;
    }

    fn take(&mut self, count: usize) {
        let Self {
            connection,
            guest,
            taken,
            ..
        } = self;
        connection.take(|bytes| {
            let bytes = &bytes[..bytes.len().min(count)];
            let sound = guest.ambiguous || guest::is_part(PORTS.0, *taken, bytes);
            assert!(sound, "not what was sent at {taken}");
            *taken += bytes.len() as u32;
            (bytes.len(), ())
        });
    }

    /// The far end's last word, which is read where bytes would be put.
    fn finish(&mut self) {
        if self.connection.put(|_| (0, ())).is_some() {
            self.said.finished = true;
            self.connection.finish();
        }
    }

    /// What the far end has got and hears is no more than the container has said.
    fn check_far_end(&mut self) {
        if self.guest.ambiguous {
            return;
        }
        assert!(self.taken <= self.guest.whole(), "more than was sent");
        if self.connection.incoming() == Incoming::Finished {
            assert!(self.guest.ended_at(self.taken), "ended at {}", self.taken);
        }
    }

    /// Once everything is acknowledged, a reset at that place is to be believed.
    fn reset(&mut self) {
        self.pass(Duration::from_millis(50));
        self.take(usize::MAX);
        self.transmit();
        let Some(reset) = self.guest.exact_reset().filter(|_| !self.guest.ambiguous) else {
            return;
        };
        self.receive(&reset);
        self.take(usize::MAX);
        assert!(self.connection.is_over(), "{:?}", *self.connection);
    }

    /// Lets time pass from one timer to the next. What was full is empty before any has passed.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.out.full = false;
        for _ in 0..10_000 {
            let due = self.connection.poll_timeout(self.now);
            let over = self.connection.is_over();
            let Some(at) = due.filter(|at| *at < end && !over) else {
                self.now = end;
                return;
            };
            self.now = at.max(self.now + Duration::from_micros(1));
            self.transmit();
        }
        panic!("{:?} has ten thousand timers", *self.connection);
    }

    fn end(mut self) {
        self.take(usize::MAX);
        self.take(usize::MAX);
        self.transmit();
        self.check_far_end();
        if !self.patient {
            return;
        }
        self.pass(PATIENCE);
        self.transmit();
        self.take(usize::MAX);
        let over = self.connection.is_over();
        assert!(over, "{:?} does not end", *self.connection);
    }
}
