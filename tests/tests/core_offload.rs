//! Which networks have flows carried by the kernel: those that were not told otherwise, on the pure core.

use core::net::Ipv4Addr;

use pontoon_engine::PortId;
use pontoon_engine::carried::{Change, EVERY, LOOKS, Reach};
use pontoon_engine::config::{
    Egress, Guarding, Isolation, NetworkConfig, NetworkId, OffloadMode, Outside, UplinkId,
};
use pontoon_packet::MacAddr;
use pontoon_packet::build::Packet;
use pontoon_tests::lab::{
    A, B, B1, C1, C2, C3, EXTERNAL, GATEWAY, Lab, SERVER, UP, addr, gateway_mac, mac,
};
use pontoon_tests::outside::{back, out};

use OffloadMode::{Auto, Off};

const OTHER_GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 19, 0, 1);

/// The laboratory whose networks A and B are told this, with everything within the kernel's reach.
fn lab(modes: [OffloadMode; 2]) -> Lab {
    let mut lab = Lab::new();
    lab.datapath.carry_flows();
    let networks = [(A, GATEWAY, &[C1, C2, C3][..]), (B, OTHER_GATEWAY, &[B1])];
    for ((network, gateway, containers), offload) in networks.into_iter().zip(modes) {
        for port in containers {
            lab.datapath.remove_port(*port).expect("it is there");
        }
        lab.datapath.remove_network(network).expect("it is empty");
        let config = told(network, gateway, offload);
        lab.datapath.add_network(config).expect("a fresh network");
        for port in containers {
            lab.plug(*port, network, Guarding::On);
        }
    }
    for port in [C1, C2, C3, B1, UP] {
        lab.datapath.set_reach(port, Reach::Kernel);
    }
    lab
}

fn told(id: NetworkId, gateway: Ipv4Addr, offload: OffloadMode) -> NetworkConfig {
    let [a, b, ..] = gateway.octets();
    NetworkConfig {
        id,
        subnet: format!("{a}.{b}.0.0/24").parse().expect("a prefix"),
        gateway: gateway.into(),
        gateway_mac: MacAddr::for_ipv4(gateway),
        mtu: 1500,
        outside: Outside::Uplink(UplinkId(1)),
        egress: Egress::default(),
        isolation: Isolation::default(),
        offload,
        host_loopback: None,
    }
}

/// The port by which a flow is carried that has lasted long enough, if it is.
fn carried(lab: &mut Lab, port: PortId, frame: &[u8]) -> Option<PortId> {
    for _ in 0..=EVERY * u32::from(LOOKS) {
        assert_eq!(lab.send(port, frame).len(), 1, "it goes on either way");
    }
    let orders = lab.datapath.carriage();
    lab.datapath.carriage_settled(orders.number);
    orders.changes.iter().find_map(|change| match change {
        Change::Carry(_, then) => Some(then.egress),
        Change::Leave(_) | Change::LeaveAll => None,
    })
}

#[test]
fn a_network_that_is_off_has_nothing_carried_and_others_go_on() {
    let bridged = Packet::ethernet(mac(C1), mac(C2))
        .ipv4(addr(C1), addr(C2))
        .udp(5000, 53)
        .build();
    for (mode, expected) in [(Auto, Some(C2)), (Off, None)] {
        let mut lab = lab([mode, Auto]);
        assert_eq!(carried(&mut lab, C1, &bridged), expected, "{mode}");
        lab.send(B1, &out_of_b());
        lab.send(UP, &back().udp(53, 6000).build());
        assert_eq!(carried(&mut lab, B1, &out_of_b()), Some(UP), "{mode}");
    }
}

fn out_of_b() -> Vec<u8> {
    let head = Packet::ethernet(mac(B1), MacAddr::for_ipv4(OTHER_GATEWAY));
    let head = head.ipv4(addr(B1), SERVER).dont_fragment();
    head.udp(6000, 53).build()
}

#[test]
fn a_flow_between_two_networks_takes_the_consent_of_both() {
    for (modes, expected) in [
        ([Auto, Auto], Some(C1)),
        ([Auto, Off], None),
        ([Off, Auto], None),
        ([Off, Off], None),
    ] {
        let mut lab = lab(modes);
        lab.publish(17, 8053, C1, 53);
        let head = Packet::ethernet(mac(B1), MacAddr::for_ipv4(OTHER_GATEWAY));
        let head = head.ipv4(addr(B1), EXTERNAL).dont_fragment();
        let query = head.udp(5000, 8053).build();
        lab.send(B1, &query);
        let answer = Packet::ethernet(mac(C1), gateway_mac()).ipv4(addr(C1), GATEWAY);
        assert_eq!(lab.send(C1, &answer.udp(53, 5000).build()).len(), 1);
        assert_eq!(carried(&mut lab, B1, &query), expected, "{modes:?}");
    }
}

#[test]
fn a_way_out_has_no_say() {
    for (mode, expected) in [(Auto, Some(UP)), (Off, None)] {
        let mut lab = lab([mode, Auto]);
        let query = out(C1).udp(5000, 53).build();
        lab.send(C1, &query);
        lab.send(UP, &back().udp(53, 5000).build());
        assert_eq!(carried(&mut lab, C1, &query), expected, "{mode}");
    }
}

#[test]
fn what_is_out_of_the_kernels_reach_has_nothing_carried() {
    let mut lab = Lab::new();
    lab.datapath.carry_flows();
    for port in [C1, C3] {
        lab.datapath.set_reach(port, Reach::Kernel);
    }
    for (from, to, expected) in [(C1, C3, Some(C3)), (C1, C2, None), (C2, C1, None)] {
        let frame = Packet::ethernet(mac(from), mac(to))
            .ipv4(addr(from), addr(to))
            .udp(5000, 53);
        let carried = carried(&mut lab, from, &frame.build());
        assert_eq!(carried, expected, "{from:?} to {to:?}");
    }
}
