//! Who may begin a flow with whom, on the pure core: each way of keeping apart beside the same without it.

use pontoon_engine::config::{
    Egress, Guarding, Isolation, NetworkConfig, OffloadMode, Outside, PortId, UplinkId,
};
use pontoon_packet::build::Packet;
use pontoon_packet::parse::tcp_flags::{ACK, SYN};
use pontoon_tests::lab::{
    A, B1, C1, C2, C3, EXTERNAL, GATEWAY, Lab, SERVER, Sent, UP, addr, gateway_mac, mac,
};
use pontoon_tests::outside::back;

/// The laboratory with another first network.
fn lab(egress: Egress, isolation: Isolation) -> Lab {
    let mut lab = Lab::new();
    let containers = [C1, C2, C3];
    for port in containers {
        lab.datapath.remove_port(port).expect("it is there");
    }
    lab.datapath.remove_network(A).expect("it is empty");
    let config = NetworkConfig {
        id: A,
        subnet: "172.18.0.0/24".parse().expect("a prefix"),
        gateway: GATEWAY.into(),
        gateway_mac: gateway_mac(),
        mtu: 1500,
        outside: Outside::Uplink(UplinkId(1)),
        egress,
        isolation,
        offload: OffloadMode::Auto,
        host_loopback: None,
    };
    lab.datapath.add_network(config).expect("a fresh network");
    for port in containers {
        lab.plug(port, A, Guarding::On);
    }
    lab
}

/// Where a datagram of C1 comes out, and as whom, when it is sent to the gateway.
fn by_the_gateway(lab: &mut Lab, dst: core::net::Ipv4Addr) -> Vec<(PortId, core::net::IpAddr)> {
    let head = Packet::ethernet(mac(C1), gateway_mac()).ipv4(addr(C1), dst);
    let sent = lab.send(C1, &head.udp(1234, 8080).payload(b"data").build());
    let ends = |sent: &Sent| Some((sent.port, sent.facts().ip()?.src));
    sent.iter().filter_map(ends).collect()
}

#[test]
fn without_icc_the_gateway_carries_nothing_between_containers() {
    let mut open = lab(Egress::Masqueraded, Isolation::Off);
    let arrived = by_the_gateway(&mut open, addr(C2));
    assert_eq!(arrived, [(C2, addr(C1).into())]);
    let mut closed = lab(Egress::Masqueraded, Isolation::On);
    assert_eq!(by_the_gateway(&mut closed, addr(C2)), []);
    assert_eq!(closed.drops("route.Isolated"), 1);
    assert_eq!(
        by_the_gateway(&mut closed, SERVER),
        [(UP, EXTERNAL.into())],
        "the way out is open"
    );
}

#[test]
fn without_masquerade_addresses_leave_as_they_are() {
    let mut lab = lab(Egress::Untranslated, Isolation::Off);
    let left = by_the_gateway(&mut lab, SERVER);
    assert_eq!(left, [(UP, addr(C1).into())]);
}

#[test]
fn nothing_begins_in_an_internal_network_and_leaves_it() {
    for (egress, left) in [(Egress::Masqueraded, 2), (Egress::Closed, 0)] {
        let mut lab = lab(egress, Isolation::Off);
        lab.publish(17, 8080, B1, 80);
        let outside = by_the_gateway(&mut lab, SERVER);
        let published = by_the_gateway(&mut lab, EXTERNAL);
        assert_eq!(outside.len() + published.len(), left, "{egress:?}");
        assert_eq!(lab.drops("route.Isolated"), 2 - left as u64);
        assert_eq!(by_the_gateway(&mut lab, addr(C2)).len(), 1, "inside");
    }
}

#[test]
fn clients_of_an_internal_networks_ports_bear_the_gateways_address() {
    for (egress, client) in [(Egress::Masqueraded, SERVER), (Egress::Closed, GATEWAY)] {
        let mut lab = lab(egress, Isolation::Off);
        lab.publish_tcp(8080, C2, 80);
        let arrived = lab.send(UP, &back().tcp(1234, 8080, SYN, 1, 0).build());
        assert_eq!(arrived.len(), 1, "{arrived:?}");
        let facts = arrived[0].facts();
        assert_eq!(facts.ip().expect("IP").src, core::net::IpAddr::from(client));
        let answer = Packet::ethernet(mac(C2), gateway_mac())
            .ipv4(addr(C2), client)
            .tcp(80, 1234, SYN | ACK, 9, 2);
        let left = lab.send(C2, &answer.build());
        let ends = left.first().and_then(|sent| Some(*sent.facts().ip()?));
        let ends = ends.map(|ip| (left[0].port, ip.src, ip.dst));
        assert_eq!(ends, Some((UP, EXTERNAL.into(), SERVER.into())));
    }
}
