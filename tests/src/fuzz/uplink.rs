//! The user uplink between a container that keeps no rule and one that keeps them all.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;
use std::collections::BTreeMap;

use pontoon_engine::config::{Guarding, PortId};
use pontoon_engine::{Datapath, Transmit};
use pontoon_nat::{ConnId, Limits};
use pontoon_packet::build::Packet;
use pontoon_packet::{
    Endpoint, Facts, Frame, Ip, L3, L4, MacAddr, Offload, Segments, Tcp, Timestamp, icmp, parse,
};

use super::far::Answer;
use super::guest::{self, Guest};
use super::honest::{Honest, PACE, STREAM};
use super::input::Input;
use super::shell::{ROOM, Shell, end};
use crate::lab::{Lab, SERVER, Sent, U, U1, U2, USER, addr, mac};
use crate::wire::check_sums;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 1);
/// Where clients of published ports come from.
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 77);
const LIMITS: Limits = Limits {
    flows: 48,
    flows_per_owner: 24,
    half_open_per_owner: 6,
    fragment_bytes: 64 << 10,
    fragment_bytes_per_owner: 32 << 10,
    fragment_queues_per_owner: 4,
    fragment_timeout: Duration::from_secs(30),
};
/// The longest datagram that waits for its far end.
const LONGEST: usize = 65_535;
/// Milliseconds that may pass at once.
const TIMES: [u64; 8] = [1, 10, 50, 250, 1000, 5000, 65_000, 1_000_000];
/// How long the honest connection may take when nothing else happens.
const SOON: Duration = Duration::from_secs(10);
/// After so long nothing is left of what a silent container has begun: the relay gives up, and then
/// the connection ends (`Profile::tcp_established`).
const FOR_EVER: Duration = Duration::from_secs(8200 + 432_000 + 100);
/// The stream that pings carry.
const PING: u16 = 7;

struct World {
    lab: Lab,
    shell: Shell,
    honest: Honest,
    guests: BTreeMap<(u16, Endpoint), Guest>,
    /// Noise was sent as it came: what it made others say cannot be judged.
    noise: bool,
}

/// Where frames of the datapath go.
struct Out<'a> {
    now: Timestamp,
    shell: &'a mut Shell,
    sent: Vec<Sent>,
}

impl Transmit for Out<'_> {
    fn forward(&mut self, port: PortId, frame: &Frame<'_>) {
        self.emit(port, frame.bytes, frame.offload);
    }

    fn emit(&mut self, port: PortId, bytes: &[u8], offload: Offload) {
        let bytes = bytes.to_vec();
        self.sent.push(Sent {
            port,
            bytes,
            offload,
        });
    }

    fn deliver(&mut self, id: ConnId, from: PortId, frame: &Frame<'_>, facts: &Facts) {
        self.shell.receive(self.now, id, from, frame, facts);
    }
}

/// Anything that one container may send to the world by way of the host's sockets, far ends that
/// accept, refuse, keep silent, stop reading, finish and reset, and time, beside one honest connection
/// of another container.
///
/// Nothing panics; what leaves is for a container that there is and carries what a far end has said;
/// the caps hold; the honest connection gets every byte, and its end, in good time; and nothing is
/// left once every timer has run out, or the container has gone.
///
/// The data is a sequence of actions.
pub fn uplink_any(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new();
    let vanishes = input.byte() & 3 != 0;
    while !input.is_empty() {
        world.act(&mut input);
        world.settle();
        world.check();
    }
    world.end(vanishes);
}

impl World {
    fn new() -> Self {
        let mut lab = Lab::with_user_uplink(LIMITS);
        lab.plug(U2, U, Guarding::On);
        let honest = Honest::new(lab.now);
        let mut world = Self {
            lab,
            shell: Shell::new(),
            honest,
            guests: BTreeMap::new(),
            noise: false,
        };
        world.settle();
        world
    }

    fn act(&mut self, input: &mut Input<'_>) {
        self.pace(STREAM.min(self.honest.pace + PACE));
        match input.byte() {
            0..110 => self.segment(input),
            110..120 => self.broken_segment(input),
            120..140 => self.open(input),
            140..150 => self.flood(input),
            150..165 => self.datagram(input),
            165..175 => self.fragment(input),
            175..185 => self.noise(input),
            185..200 => self.client(input),
            200..225 => self.far_end(input),
            225..230 => self.vanish(),
            _ => self.pass(Duration::from_millis(input.one_of(&TIMES))),
        }
    }

    /// Both ends of the honest connection may have said so much.
    fn pace(&mut self, pace: u32) {
        self.honest.pace = pace;
        let mut flows = self.shell.flows.values_mut();
        let honest = flows.find(|flow| flow.from == U2);
        if let Some(far) = honest.and_then(|flow| flow.far()) {
            far.says = pace - far.said.bytes;
            far.finishes = pace == STREAM;
        }
    }

    fn guest(&mut self, input: &mut Input<'_>) -> &mut Guest {
        let own = 40_000 + u16::from(input.byte() % 8);
        let far = end(SERVER, 8000 + u16::from(input.byte() % 8));
        self.guest_at(own, far)
    }

    fn guest_at(&mut self, own: u16, far: Endpoint) -> &mut Guest {
        let IpAddr::V4(dst) = far.addr else {
            panic!("{far:?} is not IPv4")
        };
        let packet = Packet::ethernet(mac(U1), MacAddr::for_ipv4(GATEWAY)).ipv4(addr(U1), dst);
        let guest = || Guest::new(packet, (own, far.port));
        let guest = self.guests.entry((own, far)).or_insert_with(guest);
        guest.ambiguous |= self.noise;
        guest
    }

    fn segment(&mut self, input: &mut Input<'_>) {
        let (bytes, offload) = self.guest(input).segment(input);
        self.send(U1, &bytes, offload);
    }

    fn broken_segment(&mut self, input: &mut Input<'_>) {
        let bytes = self.guest(input).broken_segment(input);
        // The sum would keep it from getting far.
        let field = Offload::partial(34, 16);
        self.send(U1, &bytes, field);
    }

    /// A whole handshake, if the far end takes part.
    fn open(&mut self, input: &mut Input<'_>) {
        let syn = self.guest(input).syn(input);
        self.send(U1, &syn, Offload::NONE);
        self.settle();
    }

    fn flood(&mut self, input: &mut Input<'_>) {
        let (first, step) = (input.word(), input.byte());
        let far = end(SERVER, 8000 + u16::from(step % 8));
        for number in 0..u16::from(input.byte()) {
            let own = first.wrapping_add(number.wrapping_mul(u16::from(step)));
            let syn = self.guest_at(own, far).syn(&mut Input::new(&[]));
            self.send(U1, &syn, Offload::NONE);
            if step & 8 != 0 {
                self.settle();
            }
        }
    }

    fn to_server() -> Packet {
        Packet::ethernet(mac(U1), MacAddr::for_ipv4(GATEWAY)).ipv4(addr(U1), SERVER)
    }

    /// A UDP datagram or a ping, of any size.
    fn datagram(&mut self, input: &mut Input<'_>) {
        let (own, kind) = (input.word(), input.byte());
        let length = usize::from(input.word()) % [64, 1473, 65_508][usize::from(kind % 3)];
        let payload: Vec<u8> = (0..length as u32).map(|at| guest::byte(PING, at)).collect();
        let packet = Self::to_server().ttl(kind | 1);
        let packet = match kind & 8 {
            0 => packet.udp(own, 7000 + u16::from(kind >> 4)),
            _ => packet.echo(own, u16::from(kind)),
        };
        let packet = packet.payload(&payload);
        let (bytes, offload) = packet.half_done();
        let offload = if offload.is_partial() && length > 1000 {
            offload.with_segments(Segments::UdpDatagrams, 42, 1000)
        } else {
            offload
        };
        self.send(U1, &bytes, offload);
    }

    fn fragment(&mut self, input: &mut Input<'_>) {
        let (id, offset, kind) = (input.byte() % 8, input.word(), input.byte());
        let length = usize::from(input.byte()) * 8 + usize::from(kind >> 5);
        let payload: Vec<u8> = (0..length as u32).map(|at| guest::byte(PING, at)).collect();
        let packet = Self::to_server()
            .id(id.into())
            .fragment(offset & 0xfff8, kind & 1 != 0)
            .protocol([1, 6, 17, 47][usize::from(kind >> 1 & 3)])
            .payload(&payload);
        self.blur();
        self.send(U1, &packet.build(), Offload::NONE);
    }

    /// From now on nobody knows what exactly the hostile container has said.
    fn blur(&mut self) {
        self.noise = true;
        for guest in self.guests.values_mut() {
            guest.ambiguous = true;
        }
    }

    /// Bytes as they are, alone or behind headers.
    fn noise(&mut self, input: &mut Input<'_>) {
        let kind = input.byte();
        let length = usize::from(input.byte());
        let body = input.bytes(length);
        let number = [1, 6, 17, 47][usize::from(kind & 3)];
        let packet = Self::to_server().options(&body[..body.len().min(usize::from(kind >> 4))]);
        let bytes = match kind & 12 {
            0 => body.to_vec(),
            _ => packet.protocol(number).payload(body).build(),
        };
        self.blur();
        let offload = match kind & 4 {
            0 => Offload::NONE,
            _ => Offload::partial(34, 16),
        };
        self.send(U1, &bytes, offload);
    }

    /// A client of a published port of the hostile container.
    fn client(&mut self, input: &mut Input<'_>) {
        let number = u16::from(input.byte() % 16);
        let (own, far) = (80, end(CLIENT, 6000 + number));
        self.guest_at(own, far);
        let (client, mut syn) = self.shell.client(self.lab.now, (end(addr(U1), own), far));
        let facts = parse(&syn).expect("the relay's own SYN");
        self.process(
            USER,
            &mut Frame {
                bytes: &mut syn,
                offload: Offload::partial(34, 16),
            },
        );
        if let Some(id) = self.lab.datapath.connection(self.lab.now, &facts) {
            self.shell.settle(id, U1, client);
        }
    }

    /// A far end does something of its own accord.
    fn far_end(&mut self, input: &mut Input<'_>) {
        let (which, what) = (usize::from(input.byte()), input.byte());
        let amount = u32::from(input.word());
        let mut all = self.shell.flows.values_mut();
        let far = all.nth(which % LIMITS.flows);
        let hostile = far.filter(|flow| flow.from == U1);
        let Some(far) = hostile.and_then(|flow| flow.far()) else {
            return;
        };
        match what % 6 {
            0 => far.takes = far.takes.saturating_add(amount),
            1 => far.says = far.says.saturating_add(amount),
            2 => far.finishes = true,
            3 => far.resets = true,
            4 => far.answer = Answer::Accepts,
            _ => far.answer = Answer::Refuses,
        }
    }

    /// The hostile container goes, with everything that it had, and another comes in its place.
    fn vanish(&mut self) {
        self.remove();
        self.lab.plug(U1, U, Guarding::On);
    }

    fn remove(&mut self) {
        let removed = self.lab.datapath.remove_port(U1);
        assert!(removed.is_ok(), "{removed:?}");
        self.settle();
        let left = self.shell.flows.values().filter(|flow| flow.from == U1);
        assert_eq!(left.count(), 0, "a container that has gone holds flows");
    }

    fn send(&mut self, port: PortId, bytes: &[u8], offload: Offload) {
        let mut bytes = bytes.to_vec();
        let mut frame = Frame {
            bytes: &mut bytes,
            offload,
        };
        self.process(port, &mut frame);
    }

    fn process(&mut self, port: PortId, frame: &mut Frame<'_>) {
        self.run(port, |datapath, now, out| {
            datapath.process(now, port, frame, out)
        });
    }

    /// Lets the datapath do something, on behalf of `port`, and everybody hear what leaves.
    fn run(&mut self, port: PortId, act: impl FnOnce(&mut Datapath, Timestamp, &mut Out<'_>)) {
        let now = self.lab.now;
        let mut out = Out {
            now,
            shell: &mut self.shell,
            sent: Vec::new(),
        };
        act(&mut self.lab.datapath, now, &mut out);
        for sent in out.sent {
            // What containers say to each other is not the uplink's.
            if (port, sent.port) != (U1, U2) {
                self.hear(&sent);
            }
        }
    }

    /// Serves everybody until nothing moves any more.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let moved = self.serve_honest() | self.serve_shell();
            self.tell();
            for id in self.lab.datapath.ended() {
                self.shell.end(id);
            }
            if !moved {
                return;
            }
        }
        panic!("it does not settle");
    }

    fn serve_honest(&mut self) -> bool {
        self.honest.serve(self.lab.now);
        let mut arena = core::mem::take(&mut self.honest.arena);
        let moved = !arena.is_empty();
        for mut frame in arena.frames() {
            frame.bytes[..6].copy_from_slice(&MacAddr::for_ipv4(GATEWAY).0);
            frame.bytes[6..12].copy_from_slice(&mac(U2).0);
            self.process(U2, &mut frame);
        }
        arena.clear();
        self.honest.arena = arena;
        moved
    }

    fn serve_shell(&mut self) -> bool {
        self.shell.serve(self.lab.now);
        let mut arena = core::mem::take(&mut self.shell.arena);
        let moved = !arena.is_empty();
        for mut frame in arena.frames() {
            self.process(USER, &mut frame);
        }
        arena.clear();
        self.shell.arena = arena;
        moved
    }

    fn tell(&mut self) {
        for notice in core::mem::take(&mut self.shell.notices) {
            self.run(USER, |datapath, now, out| {
                datapath.refuse(now, notice.port, &notice.quoted, notice.error, out);
            });
        }
    }

    /// What has left is for a container that there is, and is heard by it.
    fn hear(&mut self, sent: &Sent) {
        assert!(matches!(sent.port, U1 | U2), "{sent:?} is nobody's");
        let facts = sent.facts();
        let group = facts.dst_mac.is_group();
        assert!(group || facts.dst_mac == mac(sent.port), "{sent:?}");
        let L3::Ip(ip) = facts.l3 else { return };
        assert_eq!(ip.dst, IpAddr::from(addr(sent.port)), "{sent:?}");
        if sent.bytes.len() < 2000 {
            let sums = check_sums(&sent.bytes, sent.offload);
            assert!(sums.is_ok(), "{sent:?}: {sums:?}");
        }
        match ip.l4 {
            L4::Tcp(tcp) if sent.port == U2 => self.honest.hear(self.lab.now, sent, &ip, &tcp),
            L4::Tcp(tcp) => self.guest_hears(sent, &ip, &tcp),
            L4::Udp(udp) => {
                let payload = &sent.bytes[ip.l4_start() + 8..ip.end()];
                let right = guest::is_part(udp.src_port, 0, payload);
                assert!(right, "{sent:?} says another thing");
            }
            L4::Icmp(header) => self.check_icmp(sent, &ip, header.kind),
            L4::Fragment | L4::Other => {}
        }
    }

    fn guest_hears(&mut self, sent: &Sent, ip: &Ip, tcp: &Tcp) {
        let far = Endpoint::new(ip.src, tcp.src_port);
        let own = Endpoint::new(ip.dst, tcp.dst_port);
        let said = self.shell.said.get(&(own, far)).copied();
        let start = ip.l4_start() + usize::from(tcp.header_len);
        let payload = &sent.bytes[start..ip.end()];
        match self.guests.get_mut(&(tcp.dst_port, far)) {
            Some(guest) => {
                let options = &sent.bytes[ip.l4_start() + 20..start];
                guest.hear(tcp, options, payload, said.unwrap_or_default());
            }
            None => assert!(self.noise, "{sent:?} is nobody's"),
        }
    }

    /// An error is about something that the container has sent; an answer is what was asked.
    fn check_icmp(&self, sent: &Sent, ip: &Ip, kind: u8) {
        let message = &sent.bytes[ip.l4_start() + 8..ip.end()];
        if icmp::is_error(kind) {
            let quoted = parse::parse_quoted_ipv4(message);
            let own = quoted.is_some_and(|quoted| quoted.src == ip.dst);
            assert!(own, "{sent:?} is about another's datagram");
        } else if !self.noise {
            assert!(guest::is_part(PING, 0, message), "{sent:?} was not asked");
        }
    }

    /// Lets time pass from one timer to the next.
    fn pass(&mut self, time: Duration) {
        let until = self.lab.now + time;
        for _ in 0..100_000 {
            let now = self.lab.now;
            let timers = [
                self.lab.datapath.poll_timeout(),
                self.shell.poll_timeout(now),
                self.honest.connection.poll_timeout(now),
            ];
            let next = timers.into_iter().flatten().min();
            let soonest = now + Duration::from_micros(1);
            let at = next.map_or(until, |at| at.max(soonest));
            self.lab.now = at.min(until).max(soonest);
            self.run(USER, |datapath, now, out| datapath.handle_timeout(now, out));
            self.settle();
            if self.lab.now >= until {
                return;
            }
        }
        panic!("a hundred thousand timers");
    }

    /// The caps hold, and the honest connection stands.
    fn check(&mut self) {
        let flows = self.lab.datapath.flows(self.lab.now);
        assert!(flows.len() <= LIMITS.flows && self.shell.flows.len() <= LIMITS.flows);
        let hostile = flows.iter().filter(|flow| flow.owner == U1.0);
        assert!(hostile.clone().count() <= LIMITS.flows_per_owner);
        let half_open = hostile.filter(|flow| matches!(&*flow.state, "SYN_SENT" | "SYN_RECV"));
        assert!(half_open.count() <= LIMITS.half_open_per_owner);
        assert!(self.shell.held() <= (LIMITS.flows_per_owner + 1) * (2 * ROOM + LONGEST));
        let there = self.shell.flows.values().any(|flow| flow.from == U2);
        assert!(there || self.honest.is_done(), "the honest flow was let go");
    }

    fn end(mut self, vanishes: bool) {
        self.pace(STREAM);
        self.pass(SOON);
        assert!(self.honest.is_done(), "{:?}", *self.honest.connection);
        if vanishes {
            self.remove();
        }
        self.pass(FOR_EVER);
        let flows = self.lab.datapath.flows(self.lab.now);
        assert!(flows.is_empty(), "{flows:?}");
        assert_eq!(self.lab.counter("flows"), 0);
        assert!(self.shell.flows.is_empty(), "flows without connections");
    }
}
