//! Whole TCP connections through the datapath, on links that lose, repeat and reorder frames.

use std::net::Ipv4Addr;
use std::time::Duration;

use pontoon_engine::config::PortId;
use pontoon_packet::parse::parse_quoted_ipv4;
use pontoon_packet::{L4, parse};
use pontoon_tests::lab::{C1, C2, C3, EXTERNAL, ROUTER, SERVER, UP, addr};
use pontoon_tests::sim::{End, Link, Program, Random, World};

/// Longest virtual time that a transfer may take: a tenth of the frames lost on each link, and
/// timeouts that double.
const PATIENCE: Duration = Duration::from_secs(4 * 3600);

/// Who talks to whom, and whose names are changed on the way.
#[derive(Clone, Copy, Debug)]
enum Path {
    /// Container 1 to container 2.
    Bridged,
    /// Container 1 to the server outside.
    Masqueraded,
    /// The server outside to container 2, by a published port.
    Published,
    /// Container 1 to container 2, by the published port.
    Hairpin,
}

const PATHS: [Path; 4] = [
    Path::Bridged,
    Path::Masqueraded,
    Path::Published,
    Path::Hairpin,
];

impl Path {
    fn client(self) -> (PortId, Ipv4Addr) {
        match self {
            Self::Bridged | Self::Masqueraded | Self::Hairpin => (C1, addr(C1)),
            Self::Published => (UP, SERVER),
        }
    }

    fn server(self) -> PortId {
        match self {
            Self::Bridged | Self::Published | Self::Hairpin => C2,
            Self::Masqueraded => UP,
        }
    }

    /// Where the client believes the server to be.
    fn target(self) -> (Ipv4Addr, u16) {
        match self {
            Self::Bridged => (addr(C2), 80),
            Self::Masqueraded => (SERVER, 80),
            Self::Published | Self::Hairpin => (EXTERNAL, 8080),
        }
    }

    /// Flows that one connection of this kind is tracked as.
    fn flows(self) -> usize {
        match self {
            Self::Bridged => 0,
            Self::Masqueraded | Self::Published | Self::Hairpin => 1,
        }
    }

    /// Opens a connection; gives back the numbers of client and server.
    fn open(self, world: &mut World) -> (usize, usize) {
        if self.target().1 == 8080 {
            world.lab.publish_tcp(8080, C2, 80);
        }
        let (host, local) = self.client();
        let server = world.listen(self.server(), 80, SILENT);
        let client = world.connect((host, local, 40_000), self.target(), SILENT);
        (client, server)
    }
}

const SILENT: Program = Program::Says(Vec::new());

fn link(lost: u64, repeated: u64, late: u64) -> Link {
    Link {
        lost,
        repeated,
        late,
        ..Link::PERFECT
    }
}

/// `from` sends `bytes`, which arrive at `to` as they were sent.
fn carry(world: &mut World, from: usize, to: usize, bytes: &[u8]) {
    world.say(from, bytes);
    world.run(PATIENCE, |world| {
        world.talks[to].received.len() >= bytes.len()
    });
    assert!(world.talks[to].received == bytes, "other bytes: {world:?}");
}

/// `from` closes its half, and `to` learns that this was all.
fn finish(world: &mut World, from: usize, to: usize) {
    world.close(from);
    world.run(PATIENCE, |world| world.talks[to].end.is_some());
    assert_eq!(world.talks[to].end, Some(End::Finished), "{world:?}");
}

/// Each half arrives whole, the second after the first was closed, and nothing is left behind.
fn transfer(path: Path, link: Link, seed: u64) {
    let mut random = Random::new(seed ^ 0xda7a);
    let mut world = World::new(link, seed);
    let (client, server) = path.open(&mut world);
    carry(&mut world, client, server, &random.bytes(150_000));
    finish(&mut world, client, server);
    carry(&mut world, server, client, &random.bytes(150_000));
    finish(&mut world, server, client);
    assert_eq!(world.lab.datapath.flows(world.lab.now).len(), path.flows());
    world.pass(Duration::from_secs(250));
    assert_eq!(world.lab.datapath.flows(world.lab.now), [], "{path:?}");
}

fn transfers(link: Link) {
    for path in PATHS {
        for seed in 1..=5 {
            transfer(path, link, seed);
        }
    }
}

#[test]
fn transfers_are_exact_without_loss() {
    transfers(Link::PERFECT);
}

#[test]
fn transfers_are_exact_with_one_percent_lost() {
    transfers(link(1, 0, 0));
}

#[test]
fn transfers_are_exact_with_ten_percent_lost() {
    for path in PATHS {
        for seed in 1..=5 {
            let mut random = Random::new(seed ^ 0xda7a);
            let mut world = World::new(link(10, 0, 5), seed);
            let (client, server) = path.open(&mut world);
            carry(&mut world, client, server, &random.bytes(150_000));
            carry(&mut world, server, client, &random.bytes(150_000));
            // A closing connection is forgotten after 60 s, as by Linux, and smoltcp's timeouts
            // have doubled to that by now.
            world.calm();
            finish(&mut world, client, server);
            finish(&mut world, server, client);
        }
    }
}

#[test]
fn transfers_are_exact_when_frames_overtake_each_other_and_come_twice() {
    transfers(link(0, 5, 20));
    transfers(link(1, 1, 5));
}

/// Either side aborts when the connection has rested for that long after both have sent.
fn abort_after(rest: Duration) {
    for path in PATHS {
        for by_server in [0, 1] {
            let mut world = World::new(Link::PERFECT, 7);
            let (client, server) = path.open(&mut world);
            carry(&mut world, client, server, b"hello");
            carry(&mut world, server, client, b"there");
            world.pass(rest);
            let (aborts, hears) = [(client, server), (server, client)][by_server];
            world.abort(aborts);
            world.run(Duration::from_secs(1), |w| w.talks[hears].end.is_some());
            assert_eq!(world.talks[hears].end, Some(End::Aborted), "{path:?}");
            world.pass(Duration::from_secs(12));
            let flows = world.lab.datapath.flows(world.lab.now);
            assert_eq!(flows, [], "{path:?}: CLOSE lasts ten seconds");
        }
    }
}

#[test]
fn an_abort_arrives_as_an_abort() {
    abort_after(Duration::from_secs(1));
}

/// The data in front of the reset has not been acknowledged yet.
#[test]
fn an_abort_right_after_data_ends_the_connection() {
    abort_after(Duration::ZERO);
}

#[test]
fn a_half_closed_connection_that_rests_carries_the_other_half() {
    for path in PATHS {
        let mut world = World::new(Link::PERFECT, 7);
        let (client, server) = path.open(&mut world);
        carry(&mut world, client, server, b"question");
        finish(&mut world, client, server);
        world.pass(Duration::from_secs(55));
        assert_eq!(world.talks[client].end, None, "{path:?}: one half is open");
        carry(&mut world, server, client, b"answer");
        finish(&mut world, server, client);
    }
}

#[test]
fn connections_from_one_source_port_get_only_their_own_data() {
    for link in [Link::PERFECT, link(5, 2, 5)] {
        let mut random = Random::new(99);
        let mut world = World::new(link, 3);
        let mut clients = Vec::new();
        for container in [C1, C2, C3] {
            world.listen(UP, 80, Program::Echoes);
            let from = (container, addr(container), 40_000);
            let data = random.bytes(60_000);
            let says = Program::Says(data.clone());
            clients.push((world.connect(from, (SERVER, 80), says), data));
        }
        world.run(PATIENCE, |world| {
            let arrived = |(client, data): &(usize, Vec<u8>)| {
                world.talks[*client].received.len() >= data.len()
            };
            clients.iter().all(arrived)
        });
        for (client, data) in &clients {
            let talk = &world.talks[*client];
            assert!(talk.received == *data, "{:?} got other data", talk.host);
        }
        for talk in 0..world.talks.len() {
            world.close(talk);
        }
        world.run(PATIENCE, |world| {
            world.talks.iter().all(|t| t.end.is_some())
        });
        world.pass(Duration::from_secs(250));
        assert_eq!(world.lab.datapath.flows(world.lab.now), []);
    }
}

/// A container that sends more than a hop outside can take is told so, about its own datagram.
fn narrow(path: Path, speaker: PortId, port: u16) {
    let mut world = World::new(Link::PERFECT, 5);
    world.narrow(1280);
    let (client, server) = path.open(&mut world);
    let (from, to) = if world.talks[client].host == speaker {
        (client, server)
    } else {
        (server, client)
    };
    carry(&mut world, from, to, &Random::new(5).bytes(100_000));
    let errors = &world.host(speaker).errors;
    assert!(!errors.is_empty(), "{path:?}: nothing was too big");
    for error in errors {
        let facts = parse(error).expect("an error that parses");
        let ip = facts.ip().expect("IP");
        assert_eq!((ip.src, ip.dst), (ROUTER.into(), addr(speaker).into()));
        let quoted = parse_quoted_ipv4(&error[ip.l4_start() + 8..]).expect("a quotation");
        let L4::Tcp(tcp) = quoted.l4 else {
            panic!("{quoted:?} is not TCP")
        };
        assert_eq!((quoted.src, tcp.src_port), (addr(speaker).into(), port));
        assert_eq!(quoted.dst, SERVER);
    }
}

#[test]
fn a_narrow_hop_outside_is_heard_by_the_container_that_connects() {
    narrow(Path::Masqueraded, C1, 40_000);
}

#[test]
fn a_narrow_hop_outside_is_heard_by_the_container_that_is_published() {
    narrow(Path::Published, C2, 80);
}
