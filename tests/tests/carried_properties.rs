//! Whatever is said and whatever changes: what the kernel carries arrives as if the engine had done it.
//!
//! The same traffic is fed to two datapaths of the same seeds. Flows of one are carried by a model of the kernel's
//! table; a frame that it carries never reaches that datapath. What leaves must be the same frame by frame, and after a
//! report so must be the counters.

use core::net::Ipv4Addr;
use core::time::Duration;
use std::collections::BTreeMap;

use pontoon_engine::carried::Reach;
use pontoon_engine::config::{Guarding, PortConfig, PortId};
use pontoon_engine::view::FlowEntry;
use pontoon_nat::Published;
use pontoon_packet::parse::protocol::{TCP, UDP};
use pontoon_packet::parse::tcp_flags::{ACK, FIN, PSH, RST, SYN, URG};
use pontoon_packet::{Arp, L3, MacAddr, Offload, arp, parse};
use pontoon_switch::LinkState;
use pontoon_tests::carriage::{Geared, Mistake};
use pontoon_tests::lab::{
    A, B1, C1, C2, C3, EXTERNAL, EXTERNAL_MAC, GATEWAY, Lab, ROUTER, ROUTER_MAC, SERVER, Sent, UP,
    addr, gateway_mac, mac,
};
use pontoon_tests::talk::{Head, Shape, Sums, Talk, Way, connection, datagrams};
use pontoon_tests::wire::completed;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// Containers without a guard.
const OPEN: [PortId; 2] = [PortId(7), PortId(8)];
/// A hardware address that both of them use.
const COMMON: MacAddr = MacAddr([2, 0, 0, 0, 7, 7]);
const GATEWAY_OF_B: Ipv4Addr = Ipv4Addr::new(172, 19, 0, 1);
const PUBLISHED: [(u8, u16, PortId, u16); 2] = [(TCP, 8080, C3, 80), (UDP, 8053, C1, 53)];

#[derive(Clone, Debug)]
enum Operation {
    /// So many frames of a conversation, after its handshake.
    Burst(usize, Way, Shape, u8),
    Odd(usize, Way, Oddity),
    Finish(usize, Way),
    Reset(usize, Way),
    Pass(u64),
    /// Publishes what is not, or takes it back.
    Publish(usize),
    Replug(PortId),
    Mtu(PortId, u16),
    Link(PortId),
    /// The common address says something from that port.
    Move(usize),
    /// Somebody without a guard says that an address is his.
    Claim(u8),
    RouterMoves(u8),
}

#[derive(Clone, Copy, Debug)]
enum Oddity {
    Options,
    Fragment,
    Tag,
    Unsummed,
    Urgent,
    NoFlags,
    Syn,
    SpoofedMac,
    SpoofedAddress,
    Dhcp,
    Echo,
}

/// Why two datapaths differ.
type Difference = String;

struct Pair {
    with: Geared,
    without: Lab,
    talks: Vec<Talk>,
    published: [Option<Published>; 2],
    /// Connections that were reset: who is in the middle may think what he likes of them.
    resets: Vec<[(Ipv4Addr, u16); 2]>,
    router: MacAddr,
    frames: u64,
}

fn laboratory() -> Lab {
    let mut lab = Lab::new();
    for port in OPEN {
        let config = PortConfig {
            id: port,
            network: A,
            mac: MacAddr([2, 0, 0, 0, 9, port.0 as u8]),
            addresses: vec![Ipv4Addr::new(172, 18, 0, 200 + port.0 as u8).into()],
            mtu: 1500,
            guard: Guarding::Off,
        };
        lab.datapath.add_port(config).expect("a fresh port");
    }
    lab
}

fn talks() -> Vec<Talk> {
    let head = |port, to, src, dst| Head {
        port,
        macs: [to, mac(port)],
        src: (addr(port), src),
        dst,
    };
    let out = |port, src, dst| head(port, gateway_mac(), src, dst);
    let from_b = MacAddr::for_ipv4(GATEWAY_OF_B);
    let from_outside = |src, dst| Head {
        port: UP,
        macs: [EXTERNAL_MAC, ROUTER_MAC],
        src: (SERVER, src),
        dst: (EXTERNAL, dst),
    };
    let common = Head {
        macs: [mac(C2), COMMON],
        src: (Ipv4Addr::new(172, 18, 0, 99), 1000),
        ..head(OPEN[0], mac(C2), 0, (addr(C2), 2000))
    };
    vec![
        datagrams(head(C1, mac(C2), 1000, (addr(C2), 2000))),
        connection(head(C1, mac(C3), 1000, (addr(C3), 2000))),
        datagrams(out(C1, 5000, (SERVER, 53))),
        connection(out(C2, 5000, (SERVER, 80))),
        connection(from_outside(4000, 8080)),
        datagrams(from_outside(4000, 8053)),
        connection(out(C2, 6000, (EXTERNAL, 8080))),
        datagrams(out(C1, 6000, (EXTERNAL, 8053))),
        connection(head(B1, from_b, 9000, (EXTERNAL, 8080))),
        datagrams(common),
    ]
}

impl Pair {
    fn new(mistake: Option<Mistake>) -> Self {
        let reached = [C1, C2, C3, B1, UP, OPEN[0], OPEN[1]];
        let mut pair = Self {
            with: Geared::new(laboratory(), &reached),
            without: laboratory(),
            talks: talks(),
            published: [None, None],
            resets: Vec::new(),
            router: ROUTER_MAC,
            frames: 0,
        };
        pair.with.kernel.mistake = mistake;
        pair.publish(0);
        pair.publish(1);
        pair
    }

    fn apply(&mut self, operation: &Operation) -> Result<(), Difference> {
        match *operation {
            Operation::Burst(talk, way, shape, count) => self.burst(talk, way, shape, count)?,
            Operation::Odd(talk, way, oddity) => self.odd(talk, way, oddity)?,
            Operation::Finish(talk, way) => self.end(talk, way, FIN | ACK)?,
            Operation::Reset(talk, way) => self.end(talk, way, RST | ACK)?,
            Operation::Pass(seconds) => self.pass(seconds)?,
            Operation::Publish(which) => self.publish(which),
            Operation::Replug(port) => {
                self.both(|lab| lab.datapath.remove_port(port).expect("it is there"));
                self.both(|lab| lab.plug(port, A, Guarding::On));
                self.with.lab.datapath.set_reach(port, Reach::Kernel);
            }
            Operation::Mtu(port, mtu) => {
                self.both(|lab| lab.datapath.set_mtu(port, mtu).expect("it is there"));
            }
            Operation::Link(port) => {
                for state in [LinkState::Down, LinkState::Up] {
                    let set = |lab: &mut Lab| lab.datapath.set_link(port, state);
                    self.both(|lab| set(lab).expect("it is there"));
                }
            }
            Operation::Move(which) => {
                let mut talk = self.talks[9].clone();
                talk.there.port = OPEN[which];
                self.talks[9] = talk;
                self.burst(9, Way::There, Shape::USUAL, 1)?;
            }
            Operation::Claim(which) => {
                let claim = request(MacAddr([2, 0, 0, 0, 8, which]), [172, 18, 0, 99], GATEWAY);
                self.send(OPEN[0], &claim, Offload::NONE)?;
            }
            Operation::RouterMoves(to) => {
                self.router = MacAddr([2, 0, 0, 0, 0, 0xf0 + to]);
                self.announce_router()?;
            }
        }
        self.with.settle();
        self.with.report();
        self.compare()
    }

    fn both(&mut self, mut change: impl FnMut(&mut Lab)) {
        change(&mut self.with.lab);
        change(&mut self.without);
        self.with.settle();
    }

    /// Puts a frame into both, and compares what leaves.
    fn send(
        &mut self,
        port: PortId,
        bytes: &[u8],
        offload: Offload,
    ) -> Result<Vec<Sent>, Difference> {
        self.frames += 1;
        let expected = self.without.send_with(port, bytes, offload);
        let found = self.with.send_with(port, bytes, offload);
        let [left, right] =
            [&expected, &found].map(|sent| sent.iter().map(normal).collect::<Vec<_>>());
        if left == right {
            Ok(expected)
        } else {
            Err(format!("{expected:?} without, {found:?} with"))
        }
    }

    /// Says something; the other end sees it if it arrives.
    fn say(&mut self, at: usize, way: Way, shape: Shape, flags: u8) -> Result<bool, Difference> {
        let talk = &self.talks[at];
        let Some(head) = talk.head(way) else {
            return Ok(false);
        };
        let packet = talk.packet(head, way, shape, flags);
        let (bytes, offload) = talk.frame(&packet, shape);
        let sent = self.send(head.port, &bytes, offload)?;
        let arrived = sent.len() == 1 && sent[0].port != head.port;
        if arrived && way == Way::There {
            self.talks[at].arrived(sent[0].port, &sent[0].bytes);
        }
        Ok(arrived)
    }

    fn open(&mut self, at: usize) -> Result<bool, Difference> {
        let talk = &mut self.talks[at];
        if talk.protocol == UDP || talk.open {
            return Ok(true);
        }
        talk.begin();
        let usual = Shape {
            length: 0,
            ..Shape::USUAL
        };
        for (way, flags) in [(Way::There, SYN), (Way::Back, SYN | ACK), (Way::There, ACK)] {
            if !self.say(at, way, usual, flags)? {
                return Ok(false);
            }
            self.talks[at].said(way, u32::from(flags & SYN != 0));
        }
        self.talks[at].open = true;
        Ok(true)
    }

    fn burst(&mut self, at: usize, way: Way, shape: Shape, count: u8) -> Result<(), Difference> {
        if !self.open(at)? {
            return Ok(());
        }
        let mut arrived = false;
        for _ in 0..count {
            arrived = self.say(at, way, shape, ACK | PSH)?;
        }
        let other = match way {
            Way::There => Way::Back,
            Way::Back => Way::There,
        };
        if arrived {
            let bytes = self.talks[at].payload(way, shape) as u32;
            self.talks[at].said(way, bytes);
            let usual = Shape {
                length: 0,
                ..Shape::USUAL
            };
            self.say(at, other, usual, ACK)?;
        }
        Ok(())
    }

    fn end(&mut self, at: usize, way: Way, flags: u8) -> Result<(), Difference> {
        let talk = &self.talks[at];
        let over = talk.protocol == UDP || !talk.open || talk.has_finished(way);
        let usual = Shape {
            length: 0,
            ..Shape::USUAL
        };
        if over || !self.say(at, way, usual, flags)? {
            return Ok(());
        }
        if flags & RST != 0 {
            self.resets.push(self.talks[at].reset());
            return Ok(());
        }
        self.talks[at].finish(way);
        let other = match way {
            Way::There => Way::Back,
            Way::Back => Way::There,
        };
        self.say(at, other, usual, ACK).map(|_| ())
    }

    fn odd(&mut self, at: usize, way: Way, oddity: Oddity) -> Result<(), Difference> {
        let talk = &self.talks[at];
        let Some(mut head) = talk.head(way) else {
            return Ok(());
        };
        if talk.protocol == TCP && !talk.open {
            return Ok(());
        }
        match oddity {
            Oddity::SpoofedMac => head.macs[1] = MacAddr([2, 0, 0, 0, 5, 5]),
            Oddity::SpoofedAddress => head.src.0 = Ipv4Addr::new(172, 18, 0, 77),
            Oddity::Dhcp => head.src.1 = 67,
            _ => {}
        }
        let flags = match oddity {
            Oddity::Urgent => ACK | URG,
            Oddity::NoFlags => 0,
            Oddity::Syn => SYN,
            _ => ACK,
        };
        let packet = talk.packet(head, way, Shape::USUAL, flags);
        let packet = match oddity {
            Oddity::Options => packet.options(&[1; 4]),
            Oddity::Tag => packet.vlan(7),
            Oddity::Fragment => packet.fragment(0, true),
            Oddity::Echo => packet.echo(7, 7),
            _ => packet,
        };
        let mut bytes = packet.build();
        if talk.protocol == UDP && matches!(oddity, Oddity::Unsummed) {
            bytes[40..42].fill(0);
        }
        self.send(head.port, &bytes, Offload::NONE).map(|_| ())
    }

    fn publish(&mut self, which: usize) {
        let (protocol, port, container, target) = PUBLISHED[which];
        match self.published[which].take() {
            Some(published) => self.both(|lab| lab.datapath.unpublish(&published)),
            None => {
                let mut published = None;
                self.both(|lab| published = Some(lab.publish(protocol, port, container, target)));
                self.published[which] = published;
            }
        }
    }

    fn announce_router(&mut self) -> Result<(), Difference> {
        let own = request(self.router, ROUTER.octets(), EXTERNAL);
        self.send(UP, &own, Offload::NONE).map(|_| ())
    }

    /// Time passes; the router answers whom it is asked by.
    fn pass(&mut self, seconds: u64) -> Result<(), Difference> {
        self.with.report();
        for _ in 0..seconds {
            let asked = self.without.pass(Duration::from_secs(1));
            answer(&mut self.without, &asked, self.router);
            let asked = self.with.pass(Duration::from_secs(1));
            answer(&mut self.with.lab, &asked, self.router);
        }
        self.announce_router()
    }

    /// Flows and ports are the same in both, but for what a reset leaves open.
    fn compare(&self) -> Result<(), Difference> {
        let [expected, found] = [&self.without, &self.with.lab].map(|lab| self.flows(lab));
        if expected != found {
            return Err(format!("{expected:#?} without, {found:#?} with"));
        }
        let [expected, found] = [&self.without, &self.with.lab].map(ports);
        if expected != found {
            return Err(format!("{expected:?} without, {found:?} with"));
        }
        Ok(())
    }

    fn flows(&self, lab: &Lab) -> BTreeMap<[String; 2], FlowEntry> {
        let flows = lab.datapath.flows(lab.now).into_iter();
        let resets = self.resets.iter();
        let resets: Vec<_> = resets
            .map(|ends| ends.map(|(addr, port)| format!("{addr}:{port}")))
            .collect();
        let flows = flows.filter(|flow| !resets.contains(&flow.original));
        let comparable = flows.map(|flow| FlowEntry {
            offload: false,
            ..flow
        });
        comparable
            .map(|flow| (flow.original.clone(), flow))
            .collect()
    }
}

/// What the ports have carried; who asks the router when is not compared.
fn ports(lab: &Lab) -> Vec<(u32, [u64; 5])> {
    let ports = lab.datapath.stats().ports.into_iter();
    let counts = ports.map(|(id, p)| {
        let sent = if id == UP.0 {
            [0; 2]
        } else {
            [p.tx_frames, p.tx_bytes]
        };
        let received = if id == UP.0 {
            [0; 2]
        } else {
            [p.rx_frames, p.rx_bytes]
        };
        (id, [sent[0], sent[1], received[0], received[1], p.dropped])
    });
    counts.collect()
}

fn request(sender: MacAddr, address: [u8; 4], target_ip: Ipv4Addr) -> Vec<u8> {
    let request = Arp {
        operation: arp::REQUEST,
        sender_mac: sender,
        sender_ip: address.into(),
        target_mac: MacAddr::ZERO,
        target_ip,
    };
    arp::frame(MacAddr::BROADCAST, &request).to_vec()
}

fn answer(lab: &mut Lab, asked: &[Sent], router: MacAddr) {
    for sent in asked.iter().filter(|sent| sent.port == UP) {
        if let Ok(L3::Arp(request)) = parse(&sent.bytes).map(|facts| facts.l3) {
            lab.send(
                UP,
                &arp::frame(request.sender_mac, &request.answered_by(router)),
            );
        }
    }
}

/// A frame as its receiver finds it: sums done, and the two zeros of a sum alike.
fn normal(sent: &Sent) -> (PortId, Vec<u8>, u16) {
    let mut bytes = completed(&sent.bytes, sent.offload);
    if bytes[12..15] == [0x08, 0x00, 0x45] {
        let fields = [Some(24), (bytes[23] == TCP).then_some(50)];
        for at in fields.into_iter().flatten() {
            if bytes.get(at..at + 2) == Some(&[0xff; 2]) {
                bytes[at..at + 2].fill(0);
            }
        }
    }
    (sent.port, bytes, sent.offload.gso_size)
}

fn operation() -> impl Strategy<Value = Operation> {
    let way = || prop_oneof![3 => Just(Way::There), 2 => Just(Way::Back)];
    let talk = || 0..10usize;
    let sums = select(vec![Sums::Full, Sums::Full, Sums::HalfDone, Sums::Several]);
    let ttl = prop_oneof![8 => Just(64u8), 1 => Just(63), 1 => 1..4u8];
    let shape = (
        sums,
        ttl,
        prop_oneof![6 => Just(true), 1 => Just(false)],
        8u8..60,
    );
    let shape = shape.prop_map(|(sums, ttl, uncut, length)| Shape {
        sums,
        ttl,
        uncut,
        length,
    });
    let oddity = select(vec![
        Oddity::Options,
        Oddity::Fragment,
        Oddity::Tag,
        Oddity::Unsummed,
        Oddity::Urgent,
        Oddity::NoFlags,
        Oddity::Syn,
        Oddity::SpoofedMac,
        Oddity::SpoofedAddress,
        Oddity::Dhcp,
        Oddity::Echo,
    ]);
    let container = || select(vec![C1, C2, C3]);
    prop_oneof![
        30 => (talk(), way(), shape, 100u8..).prop_map(|(t, w, s, n)| Operation::Burst(t, w, s, n)),
        12 => (talk(), way(), oddity).prop_map(|(t, w, o)| Operation::Odd(t, w, o)),
        3 => (talk(), way()).prop_map(|(t, w)| Operation::Finish(t, w)),
        2 => (talk(), way()).prop_map(|(t, w)| Operation::Reset(t, w)),
        3 => select(vec![1, 5, 12, 41, 97, 310]).prop_map(Operation::Pass),
        1 => (0..2usize).prop_map(Operation::Publish),
        1 => container().prop_map(Operation::Replug),
        1 => (container(), select(vec![1500, 1400])).prop_map(|(c, mtu)| Operation::Mtu(c, mtu)),
        1 => container().prop_map(Operation::Link),
        2 => (0..2usize).prop_map(Operation::Move),
        1 => any::<u8>().prop_map(Operation::Claim),
        1 => (0..4u8).prop_map(Operation::RouterMoves),
    ]
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    vec(operation(), 1..60)
}

/// How many frames there were, and how many of them were carried.
fn play(operations: &[Operation], mistake: Option<Mistake>) -> Result<(u64, u64), Difference> {
    let mut pair = Pair::new(mistake);
    for (nth, operation) in operations.iter().enumerate() {
        let differs = |why| format!("after {nth} operations, {operation:?}: {why}");
        pair.apply(operation).map_err(differs)?;
    }
    Ok((pair.frames, pair.with.carried))
}

/// The same cases each time.
fn cases(count: usize) -> Vec<Vec<Operation>> {
    let mut runner = TestRunner::deterministic();
    let mut case = || {
        operations()
            .new_tree(&mut runner)
            .map(|tree| tree.current())
    };
    (0..count)
        .map(|_| case().expect("nothing is filtered"))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_is_carried_arrives_as_if_it_were_not(operations in operations()) {
        play(&operations, None).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn a_good_share_of_what_is_compared_is_carried() {
    let counts = cases(32)
        .into_iter()
        .map(|case| play(&case, None).expect("they agree"));
    let (frames, carried) = counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    assert!(carried * 4 > frames, "{carried} of {frames}");
}

#[test]
fn a_mistake_of_whoever_carries_is_noticed() {
    let cases = cases(64);
    for mistake in [
        Mistake::KeepAll,
        Mistake::Keep,
        Mistake::AnyFlags,
        Mistake::AnyTimeToLive,
        Mistake::AnySource,
        Mistake::CountNothing,
    ] {
        let noticed = cases.iter().any(|case| play(case, Some(mistake)).is_err());
        assert!(noticed, "{mistake:?}");
    }
}
