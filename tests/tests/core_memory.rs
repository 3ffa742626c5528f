//! What a flow costs in memory, in all the tables together.

#[path = "../src/counting.rs"]
mod counting;

use core::time::Duration;

use counting::{allocations, held};
use pontoon_engine::Transmit;
use pontoon_engine::carried::{EVERY, LOOKS, Reach};
use pontoon_engine::config::PortId;
use pontoon_nat::{ConnId, Limits};
use pontoon_packet::build::Packet;
use pontoon_packet::{Facts, Frame, MacAddr, Offload};
use pontoon_tests::lab::{
    B1, C1, C2, C3, EXTERNAL, EXTERNAL_MAC, Lab, ROUTER_MAC, SERVER, UP, addr, gateway_mac, mac,
};

const FLOWS: usize = 1 << 15;
const NETWORK_B_GATEWAY: MacAddr = MacAddr([0x02, 0x42, 172, 19, 0, 1]);

/// One flow of each of 8 192 ports of four containers, every one with a mapping of its own, and each
/// compiled in both directions.
fn fill(lab: &mut Lab) {
    for (container, nth) in [(C1, 0), (C2, 1), (C3, 2), (B1, 3)] {
        let gateway = if container == B1 {
            NETWORK_B_GATEWAY
        } else {
            gateway_mac()
        };
        for port in (2000 + nth * 8192..).take(FLOWS / 4) {
            let query = Packet::ethernet(mac(container), gateway)
                .ipv4(addr(container), SERVER)
                .udp(port, 53);
            assert_eq!(lab.send(container, &query.build()).len(), 1);
            let answer = Packet::ethernet(ROUTER_MAC, EXTERNAL_MAC)
                .ipv4(SERVER, EXTERNAL)
                .udp(53, port);
            assert_eq!(lab.send(UP, &answer.build())[0].port, container);
        }
    }
}

#[test]
fn a_tracked_flow_and_its_compiled_ways_take_at_most_256_bytes() {
    let mut lab = Lab::with_limits(Limits {
        flows: FLOWS,
        flows_per_owner: FLOWS,
        ..Limits::default()
    });
    let before = held();
    fill(&mut lab);
    let each = (held() - before) as f64 / FLOWS as f64;

    assert_eq!(lab.counter("flows"), FLOWS as u64);
    assert!(each <= 256.0, "{each:.1} bytes");
}

/// Frames go nowhere.
struct Nowhere;

impl Transmit for Nowhere {
    fn forward(&mut self, _: PortId, _: &Frame<'_>) {}
    fn emit(&mut self, _: PortId, _: &[u8], _: Offload) {}
    fn deliver(&mut self, _: ConnId, _: PortId, _: &Frame<'_>, _: &Facts) {}
}

/// The first flow is carried, as far as the datapath knows, and the others are looked at now and then.
#[test]
fn a_frame_costs_no_allocation_where_flows_are_carried() {
    let mut lab = Lab::new();
    lab.datapath.carry_flows();
    for port in [C1, C2, C3, UP] {
        lab.datapath.set_reach(port, Reach::Kernel);
    }
    let head = |to| Packet::ethernet(mac(C1), to).ipv4(addr(C1), SERVER);
    let routed = |port| head(gateway_mac()).dont_fragment().udp(port, 53);
    let bridged = Packet::ethernet(mac(C1), mac(C2)).ipv4(addr(C1), addr(C2));
    let answer = |port| {
        Packet::ethernet(ROUTER_MAC, EXTERNAL_MAC)
            .ipv4(SERVER, EXTERNAL)
            .udp(53, port)
    };
    for port in [5000, 5001] {
        lab.send(C1, &routed(port).build());
        lab.send(UP, &answer(port).build());
    }
    let frames = [routed(5000), bridged.udp(5000, 53), routed(5001)].map(|packet| packet.build());
    let count = EVERY * u32::from(LOOKS) + EVERY;
    for frame in &frames[..2] {
        (0..count).for_each(|_| drop(lab.send(C1, frame)));
    }
    let orders = lab.datapath.carriage();
    assert_eq!(orders.changes.len(), 2);
    lab.datapath.carriage_settled(orders.number);

    let mut copies = frames.clone();
    let before = allocations();
    for nth in 0..500 * EVERY {
        let at = nth as usize % frames.len();
        copies[at].copy_from_slice(&frames[at]);
        let now = lab.now + Duration::from_millis(u64::from(nth));
        let mut frame = Frame::plain(&mut copies[at]);
        lab.datapath.process(now, C1, &mut frame, &mut Nowhere);
        assert!(lab.datapath.carriage().changes.is_empty());
    }
    assert_eq!(allocations() - before, 0);
}
