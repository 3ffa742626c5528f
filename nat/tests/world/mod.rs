//! A translator with one container, one outside host and one external address, driven by frames.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses a part of it"
)]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::{IpAddr, Ipv4Addr};

use pontoon_nat::{
    ConnId, Direction, FlowView, Limits, Lookup, Nat, Owner, Profile, Published, Refusal, SourceNat,
};
use pontoon_packet::build::Packet;
use pontoon_packet::parse::tcp_flags::{ACK, FIN, SYN};
use pontoon_packet::{Endpoint, Frame, MacAddr, Timestamp, parse};

/// The container.
pub const INSIDE: Ipv4Addr = Ipv4Addr::new(172, 18, 0, 2);
/// The address that flows bear outside.
pub const EXTERNAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Another address of the engine's.
pub const SECOND: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// A host outside.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// Whose share the container's flows count to.
pub const OWNER: Owner = Owner(1);
/// Masquerade as the external address.
pub const MASQUERADE: SourceNat = SourceNat::Masquerade(IpAddr::V4(EXTERNAL));

/// An IPv4 packet between two addresses.
pub fn packet(src: Ipv4Addr, dst: Ipv4Addr) -> Packet {
    let mac = MacAddr([2, 0, 0, 0, 0, 1]);
    Packet::ethernet(mac, mac).ipv4(src, dst)
}

fn ip_v4(addr: IpAddr) -> Ipv4Addr {
    match addr {
        IpAddr::V4(v4) => v4,
        IpAddr::V6(_) => panic!("IPv4 only"),
    }
}

/// A moment, in seconds.
pub fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

/// Limits with so many flows for each owner.
pub fn flows_per_owner(flows: usize) -> Limits {
    Limits {
        flows_per_owner: flows,
        ..Limits::default()
    }
}

/// A segment from the container to port 80 of the server.
pub fn out(port: u16, flags: u8, seq: u32, ack: u32) -> Packet {
    packet(INSIDE, SERVER).tcp(port, 80, flags, seq, ack)
}

/// A segment back.
pub fn back(port: u16, flags: u8, seq: u32, ack: u32) -> Packet {
    packet(SERVER, EXTERNAL).tcp(80, port, flags, seq, ack)
}

/// Port 80 of the container, as `port` of an address of the engine's.
pub fn published(addr: Ipv4Addr, protocol: u8, port: u16) -> Published {
    Published {
        protocol,
        addr: addr.into(),
        port,
        target: Endpoint::new(INSIDE.into(), 80),
        owner: OWNER,
    }
}

/// The translator.
pub struct World {
    /// What is tested.
    pub nat: Nat,
}

impl World {
    /// Without connections.
    pub fn new(limits: Limits) -> Self {
        Self {
            nat: Nat::new(Profile::docker0(), limits, [1, 2, 3, 4]),
        }
    }

    /// Passes a packet as the engine does.
    pub fn send(
        &mut self,
        now: u64,
        packet: &Packet,
        source: SourceNat,
        owner: Owner,
    ) -> Result<(ConnId, Direction), Refusal> {
        let mut bytes = packet.clone().build();
        let facts = parse(&bytes).unwrap();
        let ip = *facts.ip().unwrap();
        let frame = Frame::plain(&mut bytes);
        let to_engine = [EXTERNAL, SECOND].contains(&ip_v4(ip.dst));
        match self.nat.lookup(at(now), &ip, || to_engine)? {
            Lookup::Known { id, direction } => {
                self.nat.track(at(now), id, direction, &frame, &ip)?;
                Ok((id, direction))
            }
            Lookup::New(pending) if to_engine && !pending.is_published() => {
                Err(Refusal::UnrelatedError)
            }
            Lookup::New(pending) => {
                let id = self
                    .nat
                    .admit(at(now), pending, source, owner, &frame, &ip)?;
                Ok((id, Direction::Original))
            }
        }
    }

    /// Passes a packet of the container's, or a reply to it.
    pub fn pass(&mut self, now: u64, packet: &Packet) -> Result<(), Refusal> {
        self.send(now, packet, MASQUERADE, OWNER).map(|_| ())
    }

    /// Translates an ICMP error in place.
    pub fn translate_error(&mut self, now: u64, bytes: &mut [u8]) {
        let facts = parse(bytes).unwrap();
        let mut frame = Frame::plain(bytes);
        self.nat
            .translate_error(at(now), &mut frame, &facts)
            .unwrap();
    }

    /// Publishes a port of the external address on port 80 of the container.
    pub fn publish(&mut self, protocol: u8, port: u16) {
        self.nat
            .publish(published(EXTERNAL, protocol, port))
            .unwrap();
    }

    /// Handshake from the container's `port`.
    pub fn open(&mut self, now: u64, port: u16) {
        self.pass(now, &out(port, SYN, 100, 0)).unwrap();
        self.pass(now, &back(port, SYN | ACK, 500, 101)).unwrap();
        self.pass(now, &out(port, ACK, 101, 501)).unwrap();
    }

    /// Orderly end of what `open` began.
    pub fn close(&mut self, now: u64, port: u16) {
        self.pass(now, &out(port, FIN | ACK, 101, 501)).unwrap();
        self.pass(now, &back(port, ACK, 501, 102)).unwrap();
        self.pass(now, &back(port, FIN | ACK, 501, 102)).unwrap();
        self.pass(now, &out(port, ACK, 102, 502)).unwrap();
    }

    /// The only flow there is.
    pub fn only_flow(&self, now: u64) -> FlowView {
        let flows: Vec<_> = self.nat.flows(at(now)).collect();
        assert_eq!(flows.len(), 1, "{flows:?}");
        flows[0].clone()
    }
}
