//! In-process benchmarks: nanoseconds and allocations per frame, stage by stage and whole.
//!
//! ```sh
//! cargo bench -p pontoon-benches --bench core            # the table
//! cargo bench -p pontoon-benches --bench core -- --json  # for machines
//! cargo bench -p pontoon-benches --bench core -- NAT     # the group whose name holds this word
//! ```
//!
//! Frames are built by `etherparse`, so that what is measured does not depend on our own builders.
//! Each figure is the median of [`ROUNDS`] rounds over frames that visit all flows in turn; the
//! frame is restored before each pass by copying its first 64 bytes, which is part of the figure.
//! Routed frames come in batches, as a ring gives them.

#[path = "../../tests/src/counting.rs"]
mod counting;

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Instant;

use etherparse::PacketBuilder;
use pontoon_engine::config::{
    AddressOwner, Egress, Guarding, Isolation, NetworkConfig, NetworkId, OffloadMode, Outside,
    PortConfig, PortId, UplinkConfig, UplinkId,
};
use pontoon_engine::{Datapath, Seeds, Transmit};
use pontoon_nat::{AHEAD, ConnId, Limits, Profile};
use pontoon_packet::{Facts, Frame, MacAddr, Offload, Segments, Timestamp, arp, parse};

const ROUNDS: usize = 7;

/// Counts what leaves and keeps nothing.
#[derive(Default)]
struct Sink {
    frames: u64,
}

impl Transmit for Sink {
    fn forward(&mut self, _port: PortId, frame: &Frame<'_>) {
        self.frames += 1;
        black_box(frame.bytes.first());
    }

    fn deliver(&mut self, _id: ConnId, _from: PortId, frame: &Frame<'_>, _facts: &Facts) {
        self.frames += 1;
        black_box(frame.bytes.first());
    }

    fn emit(&mut self, _port: PortId, bytes: &[u8], _offload: Offload) {
        self.frames += 1;
        black_box(bytes.first());
    }
}

const UPLINK: PortId = PortId(0);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
const EXTERNAL_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const ROUTER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);

fn container(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 1)) + n)
}

fn mac(n: u32) -> MacAddr {
    MacAddr::for_ipv4(container(n))
}

/// A network with `ports` containers and an uplink whose next hop is known.
fn datapath(ports: u32, flows: usize) -> Datapath {
    let limits = Limits {
        flows: flows.max(1024),
        flows_per_owner: flows.max(1024),
        ..Limits::default()
    };
    let mut datapath = Datapath::new(Seeds([1, 2, 3, 4]), Profile::docker0(), limits);
    let uplink = UplinkConfig {
        id: UplinkId(1),
        port: UPLINK,
        mac: EXTERNAL_MAC,
        addresses: vec!["192.0.2.1/24".parse().expect("prefix")],
        gateway: Some(ROUTER.into()),
        mtu: 1500,
        address_owner: AddressOwner::Kernel,
    };
    datapath.add_uplink(uplink).expect("uplink");
    let network = NetworkConfig {
        id: NetworkId(1),
        subnet: "10.0.0.0/8".parse().expect("prefix"),
        gateway: GATEWAY.into(),
        gateway_mac: MacAddr::for_ipv4(GATEWAY),
        mtu: 1500,
        outside: Outside::Uplink(UplinkId(1)),
        egress: Egress::default(),
        isolation: Isolation::default(),
        offload: OffloadMode::Auto,
        host_loopback: None,
    };
    datapath.add_network(network).expect("network");
    for n in 1..=ports {
        let port = PortConfig {
            id: PortId(n),
            network: NetworkId(1),
            mac: mac(n),
            addresses: vec![container(n).into()],
            mtu: 1500,
            guard: Guarding::On,
        };
        datapath.add_port(port).expect("port");
    }
    learn_router(&mut datapath);
    datapath
}

fn learn_router(datapath: &mut Datapath) {
    let request = pontoon_packet::Arp {
        operation: arp::REQUEST,
        sender_mac: ROUTER_MAC,
        sender_ip: ROUTER,
        target_mac: MacAddr::ZERO,
        target_ip: EXTERNAL,
    };
    let mut bytes = arp::frame(MacAddr::BROADCAST, &request);
    let mut sink = Sink::default();
    datapath.process(
        Timestamp::ZERO,
        UPLINK,
        &mut Frame::plain(&mut bytes),
        &mut sink,
    );
}

fn udp(from: u32, to: (MacAddr, Ipv4Addr), ports: (u16, u16), payload: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(mac(from).0, to.0.0)
        .ipv4(container(from).octets(), to.1.octets(), 64)
        .udp(ports.0, ports.1)
        .write(&mut bytes, &vec![0x5a; payload])
        .expect("fits");
    bytes
}

fn tcp(from: u32, to: (MacAddr, Ipv4Addr), payload: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(mac(from).0, to.0.0)
        .ipv4(container(from).octets(), to.1.octets(), 64)
        .tcp(40_000, 80, 1, 65_000)
        .ack(1)
        .write(&mut bytes, &vec![0x5a; payload])
        .expect("fits");
    bytes
}

struct Measured {
    name: String,
    nanos: f64,
    spread: (f64, f64),
    allocations: f64,
}

/// Measures `pass`, which handles `frames` frames, [`ROUNDS`] times.
fn measure(name: &str, frames: usize, mut pass: impl FnMut()) -> Measured {
    pass();
    let mut nanos = Vec::new();
    let before = counting::allocations();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        pass();
        nanos.push(start.elapsed().as_nanos() as f64 / frames as f64);
    }
    let allocated = counting::allocations() - before - 1;
    nanos.sort_by(f64::total_cmp);
    Measured {
        name: name.to_owned(),
        nanos: nanos[ROUNDS / 2],
        spread: (nanos[0], nanos[ROUNDS - 1]),
        allocations: allocated.saturating_sub(4) as f64 / (frames * ROUNDS) as f64,
    }
}

const FRAMES: usize = 200_000;

fn parsing() -> Vec<Measured> {
    let small = udp(1, (mac(2), container(2)), (1000, 2000), 22);
    let segment = tcp(1, (mac(2), container(2)), 1448);
    [
        ("parse, UDP 64 bytes", small),
        ("parse, TCP 1514 bytes", segment),
    ]
    .into_iter()
    .map(|(name, frame)| {
        measure(name, FRAMES, || {
            for _ in 0..FRAMES {
                black_box(parse(black_box(&frame)).ok());
            }
        })
    })
    .collect()
}

fn bridged(ports: u32) -> Measured {
    let mut datapath = datapath(ports, 0);
    let count = ports as usize;
    let mut frames: Vec<_> = (0..count as u32)
        .map(|i| {
            let to = (i + 1) % ports + 1;
            udp(i + 1, (mac(to), container(to)), (1000, 2000), 22)
        })
        .collect();
    let mut sink = Sink::default();
    let measured = measure(&format!("bridged, {ports} ports"), FRAMES, || {
        for i in 0..FRAMES {
            let at = i % count;
            let mut frame = Frame::plain(&mut frames[at]);
            datapath.process(
                Timestamp::from_secs(1),
                PortId(at as u32 + 1),
                &mut frame,
                &mut sink,
            );
        }
    });
    assert_eq!(
        sink.frames,
        (FRAMES * (ROUNDS + 1)) as u64,
        "every frame is forwarded once"
    );
    measured
}

fn super_frame() -> Measured {
    let mut datapath = datapath(2, 0);
    let mut bytes = tcp(1, (mac(2), container(2)), 65_000);
    let offload = Offload::partial(34, 16).with_segments(Segments::Tcp4, 54, 1448);
    let mut sink = Sink::default();
    measure("bridged, super-frame of 64 KiB", FRAMES, || {
        for _ in 0..FRAMES {
            let mut frame = Frame {
                bytes: &mut bytes,
                offload,
            };
            datapath.process(Timestamp::from_secs(1), PortId(1), &mut frame, &mut sink);
        }
    })
}

fn flooded(ports: u32) -> Measured {
    let mut datapath = datapath(ports, 0);
    let mut bytes = udp(1, (MacAddr([2, 9, 9, 9, 9, 9]), container(9)), (1, 2), 22);
    let mut sink = Sink::default();
    let frames = FRAMES / ports as usize;
    measure(
        &format!("flooded to {ports} ports, per copy"),
        frames * ports as usize,
        || {
            for _ in 0..frames {
                let mut frame = Frame::plain(&mut bytes);
                datapath.process(Timestamp::from_secs(1), PortId(1), &mut frame, &mut sink);
            }
        },
    )
}

/// Endpoints from which flows come: each needs a port of its own on the one external address, so
/// that a million flows are 32 servers for each of them.
const INSIDE_ENDS: usize = 32_000;

/// Masqueraded UDP through `flows` established flows in turn, in random order of flows.
fn translated(flows: usize) -> Measured {
    let owners = 64;
    let mut datapath = datapath(owners, flows * 2);
    let mut sink = Sink::default();
    let mut frames: Vec<[u8; 64]> = Vec::with_capacity(flows);
    let now = Timestamp::from_secs(1);
    for i in 0..flows {
        let from = (i as u32 % owners) + 1;
        let source = 1024 + (i % INSIDE_ENDS / owners as usize) as u16;
        let server = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + (i / INSIDE_ENDS) as u32;
        let server = Ipv4Addr::from(server);
        let bytes = udp(from, (MacAddr::for_ipv4(GATEWAY), server), (source, 53), 22);
        frames.push(*bytes.first_chunk().expect("64 bytes"));
    }
    let order = shuffled(flows);
    let mut run = |order: &[u32], count: usize| {
        for start in (0..count).step_by(AHEAD) {
            let at: [usize; AHEAD] =
                core::array::from_fn(|i| order[(start + i) % order.len()] as usize);
            let mut batch = at.map(|at| frames[at]);
            datapath.anticipate(batch.iter().map(|frame| &frame[..]));
            for (at, bytes) in at.into_iter().zip(&mut batch) {
                let port = PortId(at as u32 % owners + 1);
                datapath.process(now, port, &mut Frame::plain(bytes), &mut sink);
            }
        }
    };
    let frames = FRAMES.max(flows).next_multiple_of(AHEAD);
    let measured = measure(&format!("routed + NAT, {flows} flows"), frames, || {
        run(&order, frames);
    });
    assert_eq!(
        sink.frames,
        (frames * (ROUNDS + 1)) as u64,
        "every frame is forwarded once"
    );
    measured
}

fn shuffled(count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count as u32).collect();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for i in (1..count).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        order.swap(i, (random % (i as u64 + 1)) as usize);
    }
    order
}

fn main() {
    let word = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    let wanted = |group: &str| {
        word.as_ref()
            .is_none_or(|word| group.contains(word.as_str()))
    };
    let mut all = Vec::new();
    if wanted("parse") {
        all.extend(parsing());
    }
    if wanted("bridged") {
        all.extend([2, 64, 1000].map(bridged));
        all.push(super_frame());
    }
    if wanted("flooded") {
        all.extend([64, 1000].map(flooded));
    }
    if wanted("routed + NAT") {
        all.extend([1, 1000, 100_000, 300_000, 1_000_000].map(translated));
    }
    if std::env::args().any(|arg| arg == "--json") {
        print_json(&all);
    } else {
        print_table(&all);
    }
}

fn print_table(all: &[Measured]) {
    println!(
        "{:<36} {:>9} {:>19} {:>13}",
        "case", "ns/frame", "min – max", "allocs/frame"
    );
    for m in all {
        let spread = format!("{:.1} – {:.1}", m.spread.0, m.spread.1);
        println!(
            "{:<36} {:>9.1} {:>19} {:>13.3}",
            m.name, m.nanos, spread, m.allocations
        );
    }
}

fn print_json(all: &[Measured]) {
    let lines: Vec<_> = all
        .iter()
        .map(|m| {
            format!(
                r#"{{"case":"{}","ns":{:.2},"min":{:.2},"max":{:.2},"allocations":{:.4}}}"#,
                m.name, m.nanos, m.spread.0, m.spread.1, m.allocations
            )
        })
        .collect();
    println!("[{}]", lines.join(",\n "));
}
