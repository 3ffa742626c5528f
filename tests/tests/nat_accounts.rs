//! Whatever TCP does, the table keeps its caps and counts right.

use std::time::Duration;

use pontoon_engine::config::Guarding;
use pontoon_nat::Limits;
use pontoon_packet::build::Packet;
use pontoon_packet::parse::tcp_flags::{ACK, FIN, PSH, RST, SYN};
use pontoon_switch::PortId;
use pontoon_tests::lab::{
    A, C1, C2, EXTERNAL, EXTERNAL_MAC, Lab, ROUTER_MAC, SERVER, UP, addr, gateway_mac, mac,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const HALF_OPEN: usize = 4;
const PER_OWNER: usize = 8;
const ALL: usize = 12;
/// Longer than any flow lives without a packet.
const FOR_EVER: Duration = Duration::from_secs(440_000);

/// One segment of a connection between a container and the server.
#[derive(Clone, Debug)]
struct Segment {
    container: PortId,
    way: Way,
    port: u16,
    flags: u8,
    seq: u32,
    ack: u32,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    /// From the container, masqueraded.
    Out,
    /// To the port that the container's flows bear outside when it is free.
    Back,
    /// To a published port of the container.
    In,
}

#[derive(Clone, Debug)]
enum Operation {
    Send(Segment),
    Pass(u64),
    Replug(PortId),
}

impl Segment {
    fn send(&self, lab: &mut Lab) {
        let Self {
            flags, seq, ack, ..
        } = *self;
        let published = 8000 + self.container.0 as u16;
        let outside = || Packet::ethernet(ROUTER_MAC, EXTERNAL_MAC).ipv4(SERVER, EXTERNAL);
        let (port, packet) = match self.way {
            Way::Out => {
                let own = Packet::ethernet(mac(self.container), gateway_mac());
                let own = own.ipv4(addr(self.container), SERVER);
                (self.container, own.tcp(self.port, 80, flags, seq, ack))
            }
            Way::Back => (UP, outside().tcp(80, self.port, flags, seq, ack)),
            Way::In => (UP, outside().tcp(self.port, published, flags, seq, ack)),
        };
        lab.send(port, &packet.build());
    }
}

fn segment() -> impl Strategy<Value = Segment> {
    let flags = vec![
        SYN,
        SYN | ACK,
        ACK,
        ACK | PSH,
        FIN | ACK,
        RST,
        RST | ACK,
        FIN,
        0,
    ];
    (
        select(vec![C1, C2]),
        select(vec![Way::Out, Way::Back, Way::In]),
        5000u16..5008,
        select(flags),
        99u32..103,
        99u32..103,
    )
        .prop_map(|(container, way, port, flags, seq, ack)| Segment {
            container,
            way,
            port,
            flags,
            seq,
            ack,
        })
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        40 => segment().prop_map(Operation::Send),
        4 => (1u64..200).prop_map(Operation::Pass),
        1 => select(vec![C1, C2]).prop_map(Operation::Replug),
    ]
}

fn publish(lab: &mut Lab, container: PortId) {
    lab.publish_tcp(8000 + container.0 as u16, container, 80);
}

fn apply(lab: &mut Lab, operation: &Operation) {
    match operation {
        Operation::Send(segment) => segment.send(lab),
        Operation::Pass(seconds) => {
            lab.pass(Duration::from_secs(*seconds));
            lab.learn_router();
        }
        Operation::Replug(container) => {
            let removed = lab.datapath.remove_port(*container);
            removed.expect("the container is plugged in");
            lab.plug(*container, A, Guarding::On);
            publish(lab, *container);
        }
    }
}

fn counter(lab: &Lab, name: &str) -> u64 {
    let counters = lab.datapath.stats().counters;
    let found = counters.iter().find(|(other, _)| other == name);
    found.unwrap_or_else(|| panic!("no counter {name}")).1
}

/// Opens handshakes until the container's share of them is full, and compares with the handshakes
/// that the table shows.
fn check_share(lab: &mut Lab, container: PortId) -> Result<(), TestCaseError> {
    let states = ["SYN_SENT", "SYN_SENT2", "SYN_RECV"];
    let flows = lab.datapath.flows(lab.now);
    let own = flows.iter().filter(|flow| flow.owner == container.0);
    let shown = own.filter(|flow| states.contains(&flow.state.as_str()));
    let room = HALF_OPEN.saturating_sub(shown.count());
    let before = counter(lab, "flows.half_open_full");
    for number in 0..=room {
        prop_assert_eq!(counter(lab, "flows.half_open_full"), before, "{:#?}", flows);
        let handshake = Segment {
            container,
            way: Way::Out,
            port: 6000 + number as u16,
            flags: SYN,
            seq: 1,
            ack: 0,
        };
        handshake.send(lab);
    }
    let after = counter(lab, "flows.half_open_full");
    prop_assert_eq!(after, before + 1, "{:#?}", flows);
    Ok(())
}

fn lab(flows: usize, flows_per_owner: usize) -> Lab {
    let mut lab = Lab::with_limits(Limits {
        flows,
        flows_per_owner,
        half_open_per_owner: HALF_OPEN,
        ..Limits::default()
    });
    publish(&mut lab, C1);
    publish(&mut lab, C2);
    lab
}

proptest! {
    #[test]
    fn no_cap_is_exceeded_and_everything_ends(operations in vec(operation(), 1..200)) {
        let mut lab = lab(ALL, PER_OWNER);
        for operation in &operations {
            apply(&mut lab, operation);
            let flows = lab.datapath.flows(lab.now);
            prop_assert!(flows.len() <= ALL);
            for owner in [C1.0, C2.0] {
                let own = flows.iter().filter(|flow| flow.owner == owner);
                prop_assert!(own.count() <= PER_OWNER, "{:#?}", flows);
            }
        }
        lab.pass(FOR_EVER);
        prop_assert_eq!(counter(&lab, "flows"), 0);
    }

    #[test]
    fn handshakes_are_counted_as_they_are(operations in vec(operation(), 1..200)) {
        let mut lab = lab(1000, 500);
        for operation in &operations {
            apply(&mut lab, operation);
        }
        for container in [C1, C2] {
            check_share(&mut lab, container)?;
        }
    }
}
