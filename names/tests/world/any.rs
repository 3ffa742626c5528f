//! What must hold whatever comes in.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use pontoon_names::*;
use pontoon_packet::Timestamp;

const LIMITS: Limits = Limits {
    pending: 8,
    pending_per_client: 3,
};
const OPEN: ZoneId = ZoneId(1);
const INTERNAL: ZoneId = ZoneId(2);

struct World {
    names: Names,
    now: Timestamp,
    /// What was forwarded last for each query that has not ended.
    under_way: HashMap<Key, Forward>,
    random: u64,
}

/// Any queries, answers, refusals and times: nothing panics, no bound is passed, nothing of an
/// internal network is forwarded, and each forwarded query ends exactly once.
///
/// The data is a sequence of records: what happens (1 byte), a choice (1 byte), length (2 bytes),
/// message.
pub fn names_any(data: &[u8]) {
    let mut world = World::new();
    let mut rest = data;
    while let Some((&[kind, choice, high, low], tail)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([high, low]) % 2048).min(tail.len());
        let (body, tail) = tail.split_at(length);
        rest = tail;
        world.happen(kind, choice, body);
        world.check();
    }
    world.end();
}

impl World {
    fn new() -> Self {
        let mut names = Names::new(LIMITS, [1, 2, 3, 4]);
        for (id, reach) in [(OPEN, Reach::Outside), (INTERNAL, Reach::Internal)] {
            let subnets = ["10.0.0.0/24".parse().expect("a subnet")];
            let mut zone = Zone::new("net", &subnets, Discovery::Containers, reach, [1, 2, 3, 4])
                .expect("a name");
            let addrs: Vec<IpAddr> = (0..100).map(container).collect();
            zone.attach(Member(1), &["a", "many"], &addrs)
                .expect("a name");
            names.insert_zone(id, zone);
        }
        let mut world = Self {
            names,
            now: Timestamp::ZERO,
            under_way: HashMap::new(),
            random: 1,
        };
        world.names.set_upstreams(&[upstream(0), upstream(1)]);
        world
    }

    fn happen(&mut self, kind: u8, choice: u8, body: &[u8]) {
        match kind % 8 {
            0..3 => self.query(choice, body),
            3 => self.response(choice, |_| body.to_vec()),
            4 => self.response(choice, |asked| similar(asked, body)),
            5 => self.failed(choice),
            6 => self.pass(Duration::from_millis(u64::from(choice) * 40)),
            _ => {
                let count = choice % 4;
                let upstreams: Vec<_> = (0..count).map(upstream).collect();
                self.names.set_upstreams(&upstreams);
            }
        }
    }

    fn query(&mut self, choice: u8, body: &[u8]) {
        self.random = self
            .random
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(1);
        let transport = if choice & 0x40 == 0 {
            Transport::Udp
        } else {
            Transport::Tcp
        };
        let client = Client {
            zone: if choice & 0x80 == 0 { OPEN } else { INTERNAL },
            addr: SocketAddr::new(container(choice & 7), 4000 + u16::from(choice >> 3 & 7)),
        };
        let action = self
            .names
            .query(self.now, self.random, client, transport, body);
        match action {
            Action::Answer(bytes) => {
                assert!(bytes.len() <= 65_535);
                assert!(transport == Transport::Tcp || bytes.len() <= 1232);
                assert_eq!(bytes[..2], body[..2], "the client's id");
                assert_eq!(bytes[2] & 0x80, 0x80, "a response");
            }
            Action::Forward { forward, displaced } => {
                assert_eq!(client.zone, OPEN, "nothing leaks");
                assert_eq!(forward.bytes[2..], body[2..], "as it came");
                if let Some(delivery) = displaced {
                    self.deliver(&delivery);
                }
                assert!(self.under_way.insert(forward.key, forward).is_none());
            }
            Action::Drop(_) => {}
        }
    }

    fn response(&mut self, choice: u8, message: impl Fn(&[u8]) -> Vec<u8>) {
        let Some(forward) = self.choose(choice) else {
            return;
        };
        let bytes = message(&forward.bytes);
        let from = if choice & 0x80 == 0 {
            forward.upstream
        } else {
            upstream(choice & 3)
        };
        let step = self.names.response(self.now, forward.key, from, &bytes);
        step.into_iter().for_each(|step| self.step(step));
    }

    fn failed(&mut self, choice: u8) {
        let Some(forward) = self.choose(choice) else {
            return;
        };
        let step = self.names.failed(self.now, forward.key, forward.upstream);
        self.step(step.expect("the upstream that was asked last"));
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        for step in self.names.handle_timeout(self.now) {
            self.step(step);
        }
        let next = self.names.poll_timeout();
        assert!(next.is_none_or(|next| next > self.now), "all is handled");
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Forward(forward) => {
                let before = self.under_way.insert(forward.key, forward.clone());
                let before = before.expect("only what is under way is asked again");
                assert_eq!(before.bytes, forward.bytes);
            }
            Step::Deliver(delivery) => self.deliver(&delivery),
        }
    }

    fn deliver(&mut self, delivery: &Delivery) {
        let forward = self.under_way.remove(&delivery.key);
        let forward = forward.expect("a query ends once");
        assert_eq!(delivery.client.zone, OPEN);
        assert_eq!(delivery.transport, forward.transport);
        assert!(delivery.transport == Transport::Tcp || delivery.bytes.len() <= 1232);
        assert_eq!(delivery.bytes[2] & 0x80, 0x80, "a response");
    }

    fn choose(&self, choice: u8) -> Option<Forward> {
        let mut keys: Vec<&Key> = self.under_way.keys().collect();
        keys.sort();
        let key = keys.get(usize::from(choice & 0x7f) % keys.len().max(1))?;
        self.under_way.get(*key).cloned()
    }

    fn check(&self) {
        assert_eq!(self.names.pending(), self.under_way.len());
        assert!(self.names.pending() <= LIMITS.pending);
    }

    /// Nobody answers any more.
    fn end(mut self) {
        // Two rounds of three upstreams, behind whoever was asked before they were set.
        for _ in 0..7 {
            self.pass(Duration::from_secs(2));
        }
        assert!(self.under_way.is_empty(), "{:?}", self.under_way);
        assert_eq!(self.names.poll_timeout(), None);
    }
}

/// An answer to `asked`, with a few bytes of `body` over it and the rest behind it.
fn similar(asked: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = asked.to_vec();
    bytes[2] |= 0x80;
    if let Some((&[flags, place, value], rest)) = body.split_first_chunk::<3>() {
        bytes[3] = flags;
        let at = usize::from(place) % bytes.len();
        bytes[at] ^= value;
        bytes.extend_from_slice(rest);
    }
    bytes
}

fn container(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number).into()
}

fn upstream(number: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, number], 53))
}
