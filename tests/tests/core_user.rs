//! The user uplink's part of the datapath: what is handed to the host's own sockets, what comes from
//! them, and what ends with a connection.

use std::time::Duration;

use pontoon_engine::config::{
    Egress, Guarding, Isolation, NetworkConfig, NetworkId, OffloadMode, Outside, PortId,
};
use pontoon_nat::{Limits, Owner, Published};
use pontoon_packet::build::Packet;
use pontoon_packet::icmp;
use pontoon_packet::parse::tcp_flags::{ACK, FIN, RST, SYN};
use pontoon_packet::{Arp, Endpoint, Frame, MacAddr, arp, parse};
use pontoon_tests::lab::{C1, Lab, Outbox, SERVER, Sent, U, U1, U2, USER, addr, mac};

const GATEWAY: core::net::Ipv4Addr = core::net::Ipv4Addr::new(172, 20, 0, 1);

fn gateway_mac() -> MacAddr {
    MacAddr::for_ipv4(GATEWAY)
}

/// A packet from the container to the server outside.
fn out() -> Packet {
    Packet::ethernet(mac(U1), gateway_mac()).ipv4(addr(U1), SERVER)
}

/// One from a host socket that speaks for the server, as the shell makes it.
fn back() -> Packet {
    Packet::ethernet(MacAddr::ZERO, MacAddr::ZERO).ipv4(SERVER, addr(U1))
}

/// The same as the container gets it.
fn arrived() -> Packet {
    Packet::ethernet(gateway_mac(), mac(U1))
        .ipv4(SERVER, addr(U1))
        .ttl(63)
}

#[test]
fn a_datagram_for_elsewhere_is_handed_over_as_it_came() {
    let mut lab = Lab::with_user_uplink(Limits::default());
    let syn = out().tcp(40_000, 80, SYN, 1, 0).build();

    assert_eq!(lab.send(U1, &syn), [Sent::plain(USER, syn)]);
}

#[test]
fn what_a_host_socket_says_arrives_as_the_servers_word() {
    let mut lab = Lab::with_user_uplink(Limits::default());
    lab.send(U1, &out().udp(5000, 53).build());

    let reply = back().udp(53, 5000).payload(b"answer");

    let expected = arrived().udp(53, 5000).payload(b"answer").build();
    assert_eq!(lab.send(USER, &reply.build()), [Sent::plain(U1, expected)]);
}

#[test]
fn a_client_that_the_shell_lets_in_counts_to_its_container() {
    let mut lab = Lab::with_user_uplink(Limits::default());

    let syn = back().tcp(1234, 80, SYN, 1, 0);

    let expected = arrived().tcp(1234, 80, SYN, 1, 0).build();
    assert_eq!(lab.send(USER, &syn.build()), [Sent::plain(U1, expected)]);
    let flows = lab.datapath.flows(lab.now);
    assert_eq!(flows.len(), 1);
    assert_eq!(flows[0].owner, U1.0);
}

#[test]
fn a_client_that_bears_the_gateways_address_is_answered() {
    let mut lab = Lab::with_user_uplink(Limits::default());
    let syn = Packet::ethernet(MacAddr::ZERO, MacAddr::ZERO)
        .ipv4(GATEWAY, addr(U1))
        .tcp(1234, 80, SYN, 1, 0);
    assert_eq!(lab.send(USER, &syn.build()).len(), 1);

    let accepted = Packet::ethernet(mac(U1), gateway_mac())
        .ipv4(addr(U1), GATEWAY)
        .tcp(80, 1234, SYN | ACK, 7, 2)
        .build();

    assert_eq!(lab.send(U1, &accepted), [Sent::plain(USER, accepted)]);
}

#[test]
fn a_port_at_the_gateway_leads_back_into_the_network() {
    let mut lab = Lab::with_user_uplink(Limits::default());
    lab.datapath
        .publish(Published {
            protocol: 6,
            addr: GATEWAY.into(),
            port: 8080,
            target: Endpoint::new(addr(U1).into(), 80),
            owner: Owner(U1.0),
        })
        .unwrap();
    let syn = Packet::ethernet(mac(U1), gateway_mac())
        .ipv4(addr(U1), GATEWAY)
        .dont_fragment()
        .tcp(40_000, 8080, SYN, 1, 0);

    let expected = Packet::ethernet(gateway_mac(), mac(U1))
        .ipv4(GATEWAY, addr(U1))
        .dont_fragment()
        .ttl(63)
        .tcp(40_000, 80, SYN, 1, 0)
        .build();
    assert_eq!(lab.send(U1, &syn.build()), [Sent::plain(U1, expected)]);
}

#[test]
fn containers_of_other_networks_do_not_reach_the_host_sockets() {
    let mut lab = Lab::with_user_uplink(Limits::default());
    let elsewhere = Packet::ethernet(mac(C1), pontoon_tests::lab::gateway_mac())
        .ipv4(addr(C1), SERVER)
        .udp(1, 2);
    assert!(
        lab.send(C1, &elsewhere.build())
            .iter()
            .all(|s| s.port != USER)
    );
}

#[test]
fn loopback_and_link_local_are_never_handed_over() {
    for dst in [
        [127, 0, 0, 1],
        [127, 1, 2, 3],
        [0, 0, 0, 0],
        [169, 254, 169, 254],
    ] {
        let mut lab = Lab::with_user_uplink(Limits::default());
        let frame = Packet::ethernet(mac(U1), gateway_mac())
            .ipv4(addr(U1), dst.into())
            .tcp(1, 80, SYN, 1, 0);
        assert_eq!(lab.send(U1, &frame.build()), [], "{dst:?}");
        assert_eq!(lab.drops("route.Martian"), 1, "{dst:?}");
    }
}

#[test]
fn what_ends_is_reported_once() {
    let mut lab = Lab::with_user_uplink(Limits::default());
    lab.send(U1, &out().udp(5000, 53).build());
    let facts = parse(&out().udp(5000, 53).build()).unwrap();
    let id = lab.datapath.connection(lab.now, &facts).unwrap();
    assert_eq!(lab.datapath.ended(), []);

    lab.pass(Duration::from_secs(31));

    assert_eq!(lab.datapath.ended(), [id]);
    assert_eq!(lab.datapath.ended(), []);
}

#[test]
fn a_half_closed_connection_may_be_silent_for_two_hours() {
    let mut lab = Lab::with_user_uplink(Limits::default());
    lab.send(U1, &out().tcp(40_000, 80, SYN, 1, 0).build());
    lab.send(USER, &back().tcp(80, 40_000, SYN | ACK, 9, 2).build());
    lab.send(U1, &out().tcp(40_000, 80, ACK, 2, 10).build());
    lab.send(U1, &out().tcp(40_000, 80, FIN | ACK, 2, 10).build());
    lab.send(USER, &back().tcp(80, 40_000, ACK, 10, 3).build());

    lab.pass(Duration::from_secs(7_439));
    assert_eq!(lab.datapath.ended(), []);
    lab.pass(Duration::from_secs(2));
    assert_eq!(lab.datapath.ended().len(), 1);
}

#[test]
fn a_container_that_is_pulled_out_ends_its_connections() {
    let mut lab = Lab::with_user_uplink(Limits::default());
    lab.send(U1, &out().udp(5000, 53).build());

    lab.datapath.remove_port(U1).unwrap();

    assert_eq!(lab.datapath.ended().len(), 1);
}

#[test]
fn who_opens_too_many_connections_ends_his_own() {
    let limits = Limits {
        flows_per_owner: 4,
        ..Limits::default()
    };
    let mut lab = Lab::with_user_uplink(limits);
    for port in 1..=6 {
        lab.send(U1, &out().udp(port, 53).build());
    }

    assert_eq!(lab.datapath.ended().len(), 2);
}

/// A container's segment to port 80 of the server.
fn segment(port: PortId, number: u16, flags: u8, seq: u32, ack: u32) -> Vec<u8> {
    let packet = Packet::ethernet(mac(port), gateway_mac()).ipv4(addr(port), SERVER);
    packet.tcp(number, 80, flags, seq, ack).build()
}

/// A container connects to port 80 of the server, as far as it is let.
fn connect(lab: &mut Lab, port: PortId, number: u16) {
    let accepted = Packet::ethernet(MacAddr::ZERO, MacAddr::ZERO)
        .ipv4(SERVER, addr(port))
        .tcp(80, number, SYN | ACK, 9, 2);
    lab.send(port, &segment(port, number, SYN, 1, 0));
    lab.send(USER, &accepted.build());
    lab.send(port, &segment(port, number, ACK, 2, 10));
}

/// One container has a connection when another begins to flood, with SYNs and with connections that it
/// completes. Says whether the old one lives, and how many of ten new ones get through.
fn beside_a_flood(limits: Limits) -> (bool, usize) {
    let mut lab = Lab::with_user_uplink(limits);
    lab.plug(U2, U, Guarding::On);
    connect(&mut lab, U2, 40_000);
    for number in 0..500 {
        lab.send(U1, &segment(U1, 1024 + number, SYN, 1, 0));
        connect(&mut lab, U1, 10_000 + number);
    }
    let flows = lab.datapath.flows(lab.now);
    assert!(flows.len() <= limits.flows, "{} flows", flows.len());
    let mut passes = |number, flags, seq, ack| {
        let sent = lab.send(U2, &segment(U2, number, flags, seq, ack));
        sent.iter().any(|sent| sent.port == USER)
    };
    let lives = passes(40_000, ACK, 2, 10);
    let new = (50_000..50_010).filter(|number| passes(*number, SYN, 1, 0));
    (lives, new.count())
}

#[test]
fn a_flood_of_one_container_keeps_nothing_from_another() {
    let limits = Limits {
        flows: 100,
        flows_per_owner: 60,
        half_open_per_owner: 10,
        ..Limits::default()
    };
    assert_eq!(beside_a_flood(limits), (true, 10));

    let without_shares = Limits {
        flows_per_owner: limits.flows,
        half_open_per_owner: limits.flows,
        ..limits
    };
    assert_eq!(beside_a_flood(without_shares), (true, 0));
}

#[test]
fn a_refusal_ends_the_handshake() {
    let mut lab = Lab::with_user_uplink(Limits::default());
    lab.send(U1, &out().tcp(40_000, 80, SYN, 7, 0).build());

    let reset = back().tcp(80, 40_000, RST | ACK, 0, 8);

    let expected = arrived().tcp(80, 40_000, RST | ACK, 0, 8).build();
    assert_eq!(lab.send(USER, &reset.build()), [Sent::plain(U1, expected)]);
    lab.pass(Duration::from_secs(11));
    assert_eq!(lab.datapath.ended().len(), 1);
}

#[test]
fn an_error_of_a_host_socket_reaches_the_container_with_its_own_packet_inside() {
    let mut lab = Lab::with_user_uplink(Limits::default());
    let query = out().udp(5000, 53).payload(b"question").build();
    lab.send(U1, &query);
    let mut sent = Outbox::default();

    let error = icmp::Error::PortUnreachable;
    lab.datapath
        .refuse(lab.now, U1, &query[14..], error, &mut sent);

    let expected = Packet::ethernet(gateway_mac(), mac(U1))
        .ipv4(GATEWAY, addr(U1))
        .tos(0xc0)
        .icmp(3, 3, [0; 4])
        .payload(&query[14..])
        .build();
    assert_eq!(sent.0, [Sent::plain(U1, expected)]);
}

#[test]
fn a_large_datagram_from_a_host_socket_is_cut_for_the_container() {
    let mut lab = Lab::with_user_uplink(Limits::default());
    lab.send(U1, &out().udp(5000, 53).build());
    let mut reply = back().udp(53, 5000).payload(&[7; 4000]).build();
    let mut sent = Outbox::default();

    let mut frame = Frame::plain(&mut reply);
    lab.datapath.process(lab.now, USER, &mut frame, &mut sent);

    assert_eq!(sent.0.len(), 3);
    assert!(sent.0.iter().all(|piece| piece.bytes.len() <= 1514));
}

#[test]
fn an_internal_network_has_no_way_to_the_host_sockets() {
    let mut lab = Lab::with_user_uplink(Limits::default());
    lab.datapath.remove_port(U1).unwrap();
    lab.datapath.remove_network(NetworkId(3)).unwrap();
    lab.add_network(NetworkId(3), "172.20.0.0/24", GATEWAY, Outside::Nowhere);
    lab.plug(U1, NetworkId(3), Guarding::On);

    let sent = lab.send(U1, &out().udp(1, 2).build());

    assert!(sent.iter().all(|s| s.port == U1), "{sent:?}");
    assert_eq!(lab.drops("route.NoRoute"), 1);
}

/// The address that stands for the host's loopback on the laboratory's network.
const LOOPBACK: core::net::Ipv4Addr = core::net::Ipv4Addr::new(172, 20, 0, 254);

/// The laboratory with the host's loopback open.
fn with_loopback() -> Lab {
    let mut lab = Lab::with_user_uplink(Limits::default());
    lab.datapath.remove_port(U1).expect("it is there");
    lab.datapath
        .remove_network(NetworkId(3))
        .expect("it is empty");
    let config = NetworkConfig {
        id: NetworkId(3),
        subnet: "172.20.0.0/24".parse().expect("a prefix"),
        gateway: GATEWAY.into(),
        gateway_mac: gateway_mac(),
        mtu: 1500,
        outside: Outside::User,
        egress: Egress::default(),
        isolation: Isolation::default(),
        offload: OffloadMode::Auto,
        host_loopback: Some(LOOPBACK.into()),
    };
    lab.datapath.add_network(config).expect("a fresh network");
    lab.plug(U1, NetworkId(3), Guarding::On);
    lab
}

fn syn_to(dst: core::net::Ipv4Addr) -> Vec<u8> {
    let packet = Packet::ethernet(mac(U1), gateway_mac()).ipv4(addr(U1), dst);
    packet.tcp(40_000, 80, SYN, 1, 0).build()
}

fn who_has(target: core::net::Ipv4Addr) -> Vec<u8> {
    let request = Arp {
        operation: arp::REQUEST,
        sender_mac: mac(U1),
        sender_ip: addr(U1),
        target_mac: MacAddr::ZERO,
        target_ip: target,
    };
    arp::frame(MacAddr::BROADCAST, &request).to_vec()
}

#[test]
fn the_hosts_loopback_has_an_address_of_the_network_when_it_is_open() {
    let mut lab = with_loopback();

    let sent = lab.send(U1, &who_has(LOOPBACK));
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert_eq!(parse(&sent[0].bytes).unwrap().src_mac, gateway_mac());

    let syn = syn_to(LOOPBACK);
    assert_eq!(lab.send(U1, &syn), [Sent::plain(USER, syn)]);
    // By its own name it stays closed.
    assert_eq!(lab.send(U1, &syn_to([127, 0, 0, 1].into())), []);
    assert_eq!(lab.drops("route.Martian"), 1);
}

#[test]
fn that_address_is_nobodys_when_the_hosts_loopback_is_closed() {
    let mut lab = Lab::with_user_uplink(Limits::default());
    assert_eq!(lab.send(U1, &who_has(LOOPBACK)), []);
    let sent = lab.send(U1, &syn_to(LOOPBACK));
    assert!(sent.iter().all(|sent| sent.port != USER), "{sent:?}");
}

#[test]
fn the_loopback_of_one_network_is_no_other_networks() {
    let mut lab = with_loopback();
    let elsewhere = Packet::ethernet(mac(C1), pontoon_tests::lab::gateway_mac())
        .ipv4(addr(C1), LOOPBACK)
        .tcp(1, 80, SYN, 1, 0);
    let sent = lab.send(C1, &elsewhere.build());
    assert!(sent.iter().all(|sent| sent.port == C1), "{sent:?}");
    assert_eq!(lab.drops("route.Isolated"), 1);
}

#[test]
fn a_connection_that_the_shell_ends_is_gone() {
    let mut lab = Lab::with_user_uplink(Limits::default());
    lab.send(U1, &out().udp(5000, 53).build());
    let facts = parse(&out().udp(5000, 53).build()).unwrap();
    let id = lab.datapath.connection(lab.now, &facts).unwrap();

    lab.datapath.end(id);
    lab.datapath.end(id);

    assert_eq!(lab.datapath.flows(lab.now).len(), 0);
    assert_eq!(lab.datapath.ended(), [id]);
}
