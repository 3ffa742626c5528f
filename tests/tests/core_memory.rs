//! What a flow costs in memory, in all the tables together.

#[path = "../src/counting.rs"]
mod counting;

use counting::held;
use pontoon_nat::Limits;
use pontoon_packet::MacAddr;
use pontoon_packet::build::Packet;
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
