//! Published ports on the pure core: from outside, from inside, and against masquerade.

use pontoon_packet::MacAddr;
use pontoon_packet::build::Packet;
use pontoon_packet::parse::tcp_flags::{ACK, SYN};
use pontoon_tests::lab::{B1, C1, C2, EXTERNAL, GATEWAY, Lab, Sent, UP, addr, gateway_mac, mac};
use pontoon_tests::outside::{arrived, back, left, out, source_port};

#[test]
fn a_published_port_leads_to_the_container_with_the_clients_address() {
    let mut lab = Lab::new();
    lab.publish_tcp(8080, C2, 80);
    let sent = lab.send(UP, &back().tcp(1234, 8080, SYN, 1, 0).build());
    assert_eq!(
        sent,
        [Sent::plain(
            C2,
            arrived(C2).tcp(1234, 80, SYN, 1, 0).build()
        )]
    );
    let sent = lab.send(C2, &out(C2).tcp(80, 1234, SYN | ACK, 9, 2).build());
    assert_eq!(
        sent,
        [Sent::plain(
            UP,
            left().tcp(8080, 1234, SYN | ACK, 9, 2).build()
        )]
    );
}

#[test]
fn hairpin_gives_the_gateways_address_to_the_client_even_to_oneself() {
    let mut lab = Lab::new();
    lab.publish_tcp(8080, C2, 80);
    for client in [C1, C2] {
        let syn = Packet::ethernet(mac(client), gateway_mac())
            .ipv4(addr(client), EXTERNAL)
            .tcp(1234, 8080, SYN, 1, 0);
        let sent = lab.send(client, &syn.build());
        assert_eq!(sent.len(), 1, "{sent:?}");
        let facts = sent[0].facts();
        let ip = facts.ip().unwrap();
        assert_eq!(
            (sent[0].port, ip.src, ip.dst),
            (C2, GATEWAY.into(), addr(C2).into())
        );
    }
}

/// A flow belongs to who publishes; it ends with either of both.
#[test]
fn who_has_an_address_next_hears_nothing_of_its_flows() {
    let mut lab = Lab::new();
    lab.publish_tcp(8080, C2, 80);
    let syn = Packet::ethernet(mac(C1), gateway_mac())
        .ipv4(addr(C1), EXTERNAL)
        .tcp(1234, 8080, SYN, 1, 0);
    assert_eq!(lab.send(C1, &syn.build()).len(), 1);
    let flows = |lab: &Lab| lab.datapath.flows(lab.now).len();
    assert_eq!(flows(&lab), 1);
    lab.datapath.remove_port(C1).unwrap();
    assert_eq!(flows(&lab), 0);
}

#[test]
fn another_network_reaches_a_published_port_by_its_published_address_only() {
    let mut lab = Lab::new();
    lab.publish_tcp(8080, C1, 80);
    let gateway = MacAddr::for_ipv4([172, 19, 0, 1].into());
    let to = |dst, port| {
        Packet::ethernet(mac(B1), gateway)
            .ipv4(addr(B1), dst)
            .tcp(1234, port, SYN, 1, 0)
            .build()
    };
    let sent = lab.send(B1, &to(EXTERNAL, 8080));
    assert_eq!((sent.len(), sent[0].port), (1, C1));
    assert_eq!(lab.send(B1, &to(addr(C1), 80)), []);
    assert_eq!(lab.drops("route.Isolated"), 1);
}

#[test]
fn a_source_port_does_not_capture_a_published_service() {
    let mut lab = Lab::new();
    lab.publish(17, 5000, C2, 53);
    let chosen = source_port(&lab.send(C1, &out(C1).udp(5000, 53).build()));
    assert_ne!(chosen, 5000);
    let sent = lab.send(UP, &back().udp(53, 5000).build());
    assert_eq!((sent.len(), sent[0].port), (1, C2));
}

#[test]
fn a_published_port_that_changes_its_target_is_followed_at_the_next_datagram() {
    let mut lab = Lab::new();
    let first = lab.publish(17, 53, C1, 53);
    assert_eq!(lab.send(UP, &back().udp(9, 53).build())[0].port, C1);
    lab.datapath.unpublish(&first);
    lab.publish(17, 53, C2, 53);
    assert_eq!(lab.send(UP, &back().udp(9, 53).build())[0].port, C2);
}
