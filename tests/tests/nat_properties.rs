//! What masquerade promises for any traffic.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use pontoon_packet::Offload;
use pontoon_packet::build::Packet;
use pontoon_packet::parse::protocol;
use pontoon_packet::parse::tcp_flags::{ACK, SYN};
use pontoon_switch::PortId;
use pontoon_tests::lab::{
    C1, C2, C3, EXTERNAL, EXTERNAL_MAC, Lab, ROUTER_MAC, SERVER, Sent, UP, addr, gateway_mac, mac,
};
use pontoon_tests::wire::{Datagram, datagram};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// What kind of conversation it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Tcp,
    Udp,
    Echo,
}

/// How much of its checksums the sender has done.
#[derive(Clone, Copy, Debug)]
enum Sums {
    Full,
    HalfDone,
}

/// The first packet of a conversation, and the reply to it.
#[derive(Clone, Debug)]
struct Talk {
    kind: Kind,
    container: PortId,
    port: u16,
    server: Ipv4Addr,
    service: u16,
    ttl: u8,
    tos: u8,
    id: u16,
    sums: Sums,
    question: Vec<u8>,
    answer: Vec<u8>,
}

impl Talk {
    /// What tells it from other conversations inside.
    fn key(&self) -> (Kind, PortId, u16, Ipv4Addr, u16) {
        let service = match self.kind {
            Kind::Echo => 0,
            Kind::Tcp | Kind::Udp => self.service,
        };
        (self.kind, self.container, self.port, self.server, service)
    }

    fn protocol(&self) -> u8 {
        match self.kind {
            Kind::Tcp => protocol::TCP,
            Kind::Udp => protocol::UDP,
            Kind::Echo => protocol::ICMP,
        }
    }

    fn request(&self) -> (Vec<u8>, Offload) {
        let packet = Packet::ethernet(mac(self.container), gateway_mac())
            .ipv4(addr(self.container), self.server)
            .payload(&self.question);
        self.finish(match self.kind {
            Kind::Tcp => packet.tcp(self.port, self.service, SYN, 7, 0),
            Kind::Udp => packet.udp(self.port, self.service),
            Kind::Echo => packet.echo(self.port, 1),
        })
    }

    /// The server's reply to the request as it saw it.
    fn reply(&self, seen: &Datagram) -> (Vec<u8>, Offload) {
        let packet = Packet::ethernet(ROUTER_MAC, EXTERNAL_MAC)
            .ipv4(seen.dst.0, seen.src.0)
            .payload(&self.answer);
        let acknowledged = 8 + self.question.len() as u32;
        self.finish(match self.kind {
            Kind::Tcp => packet.tcp(seen.dst.1, seen.src.1, SYN | ACK, 9, acknowledged),
            Kind::Udp => packet.udp(seen.dst.1, seen.src.1),
            Kind::Echo => packet.echo_reply(seen.src.1, 1),
        })
    }

    fn finish(&self, packet: Packet) -> (Vec<u8>, Offload) {
        let packet = packet.ttl(self.ttl).tos(self.tos).id(self.id);
        match self.sums {
            Sums::Full => (packet.build(), Offload::NONE),
            Sums::HalfDone => packet.half_done(),
        }
    }

    /// The conversation's ends, with another source: what the server or the container sees.
    fn seen(&self, src: (Ipv4Addr, u16), payload: &[u8]) -> Datagram {
        let port = match self.kind {
            Kind::Echo => src.1,
            Kind::Tcp | Kind::Udp => self.service,
        };
        Datagram {
            src,
            dst: (self.server, port),
            protocol: self.protocol(),
            ttl: self.ttl - 1,
            payload: payload.to_vec(),
        }
    }
}

fn swapped(datagram: Datagram) -> Datagram {
    Datagram {
        src: datagram.dst,
        dst: datagram.src,
        ..datagram
    }
}

/// Any unicast address that is neither special nor on a link of the lab.
fn outside() -> impl Strategy<Value = Ipv4Addr> {
    let any_address = any::<u32>().prop_map(Ipv4Addr::from);
    let legal = any_address.prop_filter("a unicast address elsewhere", |addr| {
        let [a, b, c, _] = addr.octets();
        let here = (a, b) == (172, 18) || (a, b) == (172, 19) || (a, b, c) == (192, 0, 2);
        (1..224).contains(&a) && !addr.is_loopback() && !addr.is_link_local() && !here
    });
    prop_oneof![Just(SERVER), legal]
}

/// Ports that often clash, and any.
fn port() -> impl Strategy<Value = u16> {
    prop_oneof![
        select(vec![0, 1, 123, 511, 1023, 5000, 65_535]),
        any::<u16>()
    ]
}

fn talk() -> impl Strategy<Value = Talk> {
    let ends = (
        select(vec![Kind::Tcp, Kind::Udp, Kind::Echo]),
        select(vec![C1, C2, C3]),
        port(),
        outside(),
        port(),
    );
    let header = (2u8.., any::<u8>(), any::<u16>());
    let sums = select(vec![Sums::Full, Sums::HalfDone]);
    let data = (vec(any::<u8>(), 0..300), vec(any::<u8>(), 0..300));
    (ends, header, sums, data)
        .prop_map(|(ends, header, sums, (question, answer))| Talk {
            kind: ends.0,
            container: ends.1,
            port: ends.2,
            server: ends.3,
            service: ends.4,
            ttl: header.0,
            tos: header.1,
            id: header.2,
            sums,
            question,
            answer,
        })
        .prop_filter("no container plays DHCP server", |talk| {
            (talk.kind, talk.port) != (Kind::Udp, 67)
        })
}

/// Conversations of which no two are the same.
fn talks() -> impl Strategy<Value = Vec<Talk>> {
    vec(talk(), 1..12).prop_map(|mut talks| {
        let mut known = HashSet::new();
        talks.retain(|talk| known.insert(talk.key()));
        talks
    })
}

/// The one frame that left, by `port`, as somebody else reads it.
fn only(sent: &[Sent], port: PortId) -> Result<Datagram, TestCaseError> {
    prop_assert_eq!(sent.len(), 1, "{:?}", sent);
    prop_assert_eq!(sent[0].port, port);
    datagram(&sent[0].bytes, sent[0].offload).map_err(TestCaseError::fail)
}

fn class(port: u16) -> u8 {
    match port {
        0..512 => 0,
        512..1024 => 1,
        1024.. => 2,
    }
}

/// Sends every request, and gives back what the servers saw.
fn ask(lab: &mut Lab, talks: &[Talk]) -> Result<Vec<Datagram>, TestCaseError> {
    let mut seen = Vec::new();
    for talk in talks {
        let (bytes, offload) = talk.request();
        let left = lab.send_with(talk.container, &bytes, offload);
        let left = only(&left, UP)?;
        prop_assert_eq!(left.src.0, EXTERNAL);
        prop_assert_eq!(&left, &talk.seen(left.src, &talk.question));
        seen.push(left);
    }
    Ok(seen)
}

proptest! {
    #[test]
    fn every_reply_goes_back_to_the_very_endpoint_that_asked(talks in talks()) {
        let mut lab = Lab::new();
        let seen = ask(&mut lab, &talks)?;
        for (talk, seen) in talks.iter().zip(&seen) {
            let (bytes, offload) = talk.reply(seen);
            let arrived = lab.send_with(UP, &bytes, offload);
            let arrived = only(&arrived, talk.container)?;
            let own = (addr(talk.container), talk.port);
            prop_assert_eq!(arrived, swapped(talk.seen(own, &talk.answer)));
        }
    }

    #[test]
    fn no_two_conversations_share_an_outside_tuple(talks in talks()) {
        let mut lab = Lab::new();
        let seen = ask(&mut lab, &talks)?;
        let mut tuples = HashSet::new();
        for seen in &seen {
            prop_assert!(tuples.insert((seen.protocol, seen.src, seen.dst)), "{:?}", seen);
        }
    }

    #[test]
    fn an_outside_port_belongs_to_one_inside_endpoint_and_is_its_own_when_free(talks in talks()) {
        let mut lab = Lab::new();
        let seen = ask(&mut lab, &talks)?;
        let mut owners = HashMap::new();
        let mut names = HashMap::new();
        for (talk, seen) in talks.iter().zip(&seen) {
            let inside = (talk.kind, talk.container, talk.port);
            let outside = (talk.kind, seen.src.1);
            let wanted = (talk.kind, talk.port);
            let free = owners.get(&wanted).is_none_or(|owner| *owner == inside);
            let first = !names.contains_key(&inside);
            prop_assert!(!(first && free) || outside == wanted, "{:?} had no need of {:?}", inside, outside);
            prop_assert_eq!(*owners.entry(outside).or_insert(inside), inside);
            prop_assert_eq!(*names.entry(inside).or_insert(outside), outside);
            let same_class = class(talk.port) == class(seen.src.1);
            prop_assert!(talk.kind == Kind::Echo || talk.port == 0 || same_class);
        }
    }
}
