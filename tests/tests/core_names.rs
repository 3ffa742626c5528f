//! The name server's part of the datapath: whose queries are handed over, and what is not a query.

use core::net::Ipv4Addr;

use pontoon_engine::config::{Guarding, NetworkId, Outside, PortId};
use pontoon_nat::Limits;
use pontoon_packet::MacAddr;
use pontoon_packet::build::Packet;
use pontoon_packet::parse::tcp_flags::{ACK, SYN};
use pontoon_packet::parse::{parse, protocol};
use pontoon_tests::lab::{C1, C2, GATEWAY, Lab, Sent, U1, UP, USER, addr, gateway_mac, mac};

/// A packet from a container of network A to its gateway.
fn to_gateway(port: PortId) -> Packet {
    Packet::ethernet(mac(port), gateway_mac()).ipv4(addr(port), GATEWAY)
}

/// One from the name server to a container, as the shell makes it.
fn answer(port: PortId) -> Packet {
    Packet::ethernet(MacAddr::ZERO, MacAddr::ZERO).ipv4(GATEWAY, addr(port))
}

fn lab() -> Lab {
    Lab::with_user_uplink(Limits::default())
}

#[test]
fn a_query_is_handed_over_and_its_answer_comes_back() {
    let mut lab = lab();
    let query = to_gateway(C1).udp(40_000, 53).payload(b"who?").build();

    assert_eq!(lab.send(C1, &query), [Sent::plain(USER, query)]);

    let flows = lab.datapath.flows(lab.now);
    assert_eq!((flows.len(), flows[0].owner), (1, C1.0));
    let reply = answer(C1).udp(53, 40_000).payload(b"you").build();
    let expected = Packet::ethernet(gateway_mac(), mac(C1))
        .ipv4(GATEWAY, addr(C1))
        .ttl(63)
        .udp(53, 40_000)
        .payload(b"you")
        .build();
    assert_eq!(lab.send(USER, &reply), [Sent::plain(C1, expected)]);
}

#[test]
fn a_connection_to_the_name_server_is_handed_over() {
    let mut lab = lab();
    let syn = to_gateway(C1).tcp(40_000, 53, SYN, 1, 0).build();
    assert_eq!(lab.send(C1, &syn), [Sent::plain(USER, syn)]);
    let accepted = answer(C1).tcp(53, 40_000, SYN | ACK, 7, 2).build();
    assert_eq!(lab.send(USER, &accepted).len(), 1);

    let ack = to_gateway(C1).tcp(40_000, 53, ACK, 2, 8).build();

    assert_eq!(lab.send(C1, &ack), [Sent::plain(USER, ack)]);
}

#[test]
fn internal_networks_and_those_with_a_user_uplink_have_a_name_server() {
    let gateway = Ipv4Addr::new(172, 20, 0, 1);
    for outside in [Outside::Nowhere, Outside::User] {
        let mut lab = lab();
        lab.datapath.remove_port(U1).unwrap();
        lab.datapath.remove_network(NetworkId(3)).unwrap();
        lab.add_network(NetworkId(3), "172.20.0.0/24", gateway, outside);
        lab.plug(U1, NetworkId(3), Guarding::On);
        let query = Packet::ethernet(mac(U1), MacAddr::for_ipv4(gateway))
            .ipv4(addr(U1), gateway)
            .udp(40_000, 53)
            .build();

        assert_eq!(
            lab.send(U1, &query),
            [Sent::plain(USER, query)],
            "{outside:?}"
        );
    }
}

#[test]
fn the_host_on_the_network_does_not_take_queries() {
    let mut lab = lab();
    let host = PortId(12);
    lab.datapath
        .add_host_port(host, pontoon_tests::lab::A, 1500)
        .unwrap();
    let query = to_gateway(C1).udp(40_000, 53).build();
    let other = to_gateway(C1).udp(40_000, 54).build();

    assert_eq!(lab.send(C1, &query), [Sent::plain(USER, query)]);
    assert_eq!(lab.send(C1, &other), [Sent::plain(host, other)]);
}

#[test]
fn who_publishes_port_53_does_not_take_the_queries_of_others() {
    let mut lab = lab();
    lab.publish(protocol::UDP, 53, C2, 53);
    let query = to_gateway(C1).udp(40_000, 53).build();

    assert_eq!(lab.send(C1, &query), [Sent::plain(USER, query)]);
}

#[test]
fn other_ports_and_other_gateways_are_no_name_server() {
    let mut lab = lab();
    let other_port = to_gateway(C1).udp(40_000, 5353).build();
    let foreign = Packet::ethernet(mac(C1), gateway_mac())
        .ipv4(addr(C1), Ipv4Addr::new(172, 19, 0, 1))
        .udp(40_000, 53)
        .build();
    let outside = Packet::ethernet(
        pontoon_tests::lab::ROUTER_MAC,
        pontoon_tests::lab::EXTERNAL_MAC,
    )
    .ipv4(pontoon_tests::lab::SERVER, GATEWAY)
    .udp(40_000, 53)
    .build();
    for (port, frame) in [(C1, other_port), (C1, foreign), (UP, outside)] {
        let sent = lab.send(port, &frame);
        assert!(sent.iter().all(|sent| sent.port != USER), "{sent:?}");
    }
}

#[test]
fn a_query_that_was_cut_is_handed_over_whole() {
    let mut lab = lab();
    let query = to_gateway(C1).udp(40_000, 53).payload(&[7; 1400]).build();
    let facts = parse(&query).unwrap();
    let mut pieces = Vec::new();
    let mut copy = query.clone();
    let mut frame = pontoon_packet::Frame::plain(&mut copy);
    pontoon_packet::fragment::fragments(&mut frame, &facts, 600, |piece| {
        pieces.push(piece.to_vec())
    });
    assert!(pieces.len() > 1);

    let sent: Vec<Sent> = pieces.iter().flat_map(|p| lab.send(C1, p)).collect();

    let [whole] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(whole.port, USER);
    assert_eq!(whole.bytes[34..], query[34..]);
}

#[test]
fn a_query_that_was_answered_makes_room() {
    let mut lab = lab();
    let query = to_gateway(C1).udp(40_000, 53).build();
    lab.send(C1, &query);
    let id = lab.datapath.connection(lab.now, &parse(&query).unwrap());

    lab.datapath.end(id.unwrap());

    assert_eq!(lab.datapath.flows(lab.now), []);
    assert_eq!(lab.send(C1, &query), [Sent::plain(USER, query)]);
    // Its place may be another's by now.
    lab.datapath.end(id.unwrap());
    assert_eq!(lab.datapath.flows(lab.now).len(), 1);
}

#[test]
fn an_error_about_an_answer_goes_nowhere() {
    let mut lab = lab();
    lab.send(C1, &to_gateway(C1).udp(40_000, 53).build());
    let reply = answer(C1).udp(53, 40_000).build();
    lab.send(USER, &reply);

    let error = to_gateway(C1).icmp(3, 3, [0; 4]).payload(&reply[14..]);

    assert_eq!(lab.send(C1, &error.build()), []);
    assert_eq!(lab.drops("route.NoService"), 1);
}

#[test]
fn queries_are_bounded_like_every_flow() {
    let limits = Limits {
        flows_per_owner: 4,
        ..Limits::default()
    };
    let mut lab = Lab::with_user_uplink(limits);
    for port in 1..=6 {
        lab.send(C1, &to_gateway(C1).udp(port, 53).build());
    }

    assert_eq!(lab.datapath.ended().len(), 2);
}
