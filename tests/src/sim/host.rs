//! A host: smoltcp behind a network card, as a container or as the outside.

use core::net::Ipv4Addr;
use std::collections::VecDeque;

use pontoon_engine::config::PortId;
use pontoon_packet::checksum::{complete, field_offset, fold, pseudo_header};
use pontoon_packet::parse::parse_quoted_ipv4;
use pontoon_packet::{Frame, L4, MacAddr, Offload, Timestamp, parse};
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

use crate::lab::{C1, C2, C3, EXTERNAL, GATEWAY, ROUTER, ROUTER_MAC, SERVER, UP, addr, mac};

/// Bytes of Ethernet header, which smoltcp counts to a device's MTU.
const ETHERNET_HEADER: usize = 14;

/// What a host's network card leaves of a TCP or UDP checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sums {
    /// The sum as it belongs on a wire.
    Full,
    /// The pseudo-header's sum, as a veth gets it from its kernel.
    HalfDone,
}

/// A host on a port of the datapath.
pub struct Host {
    /// The port.
    pub port: PortId,
    /// Its sockets.
    pub sockets: SocketSet<'static>,
    /// Every ICMP error that it got about a datagram of its own, as a frame.
    pub errors: Vec<Vec<u8>>,
    pub(super) interface: Interface,
    wire: Wire,
    sums: Sums,
    mac: MacAddr,
    addresses: Vec<(Ipv4Addr, u8)>,
    gateway: Ipv4Addr,
}

impl Host {
    /// A container on `port`, with the address that the lab gives it.
    pub(super) fn container(port: PortId) -> Self {
        assert!([C1, C2, C3].contains(&port), "{port:?} is not of network A");
        let addresses = vec![(addr(port), 24)];
        Self::new(port, mac(port), addresses, GATEWAY, Sums::HalfDone)
    }

    /// The router outside and the server behind it, in one.
    pub(super) fn outside() -> Self {
        let addresses = vec![(ROUTER, 24), (SERVER, 32)];
        Self::new(UP, ROUTER_MAC, addresses, EXTERNAL, Sums::Full)
    }

    fn new(
        port: PortId,
        mac: MacAddr,
        addresses: Vec<(Ipv4Addr, u8)>,
        gateway: Ipv4Addr,
        sums: Sums,
    ) -> Self {
        let mut wire = Wire {
            mtu: 1500,
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
        };
        let interface = interface(&mut wire, mac, &addresses, gateway);
        Self {
            port,
            sockets: SocketSet::new(Vec::new()),
            errors: Vec::new(),
            interface,
            wire,
            sums,
            mac,
            addresses,
            gateway,
        }
    }

    /// Lets the host work at `now`; gives back what it sends.
    pub(super) fn poll(&mut self, now: Timestamp) -> Vec<(Vec<u8>, Offload)> {
        self.interface
            .poll(instant(now), &mut self.wire, &mut self.sockets);
        let sums = self.sums;
        let sent = self.wire.outbox.drain(..);
        sent.map(|bytes| match sums {
            Sums::Full => (bytes, Offload::NONE),
            Sums::HalfDone => half_done(bytes),
        })
        .collect()
    }

    /// When the host next wants to work without anything arriving.
    pub(super) fn poll_at(&mut self, now: Timestamp) -> Option<Timestamp> {
        let at = self.interface.poll_at(instant(now), &self.sockets)?;
        Some(Timestamp::from_nanos(
            at.total_micros().max(0) as u64 * 1000,
        ))
    }

    /// Takes a frame. A half-done checksum is completed first, as its kernel would.
    pub(super) fn deliver(&mut self, mut bytes: Vec<u8>, offload: Offload) {
        complete(&mut Frame {
            bytes: &mut bytes,
            offload,
        });
        self.hear_error(&bytes);
        self.wire.inbox.push_back(bytes);
    }

    /// Keeps an error about a datagram of its own, and believes the MTU that it names (RFC 1191 §6.3).
    fn hear_error(&mut self, bytes: &[u8]) {
        let Ok(facts) = parse(bytes) else { return };
        let Some((ip, L4::Icmp(header))) = facts.ip().map(|ip| (ip, ip.l4)) else {
            return;
        };
        let quoted = parse_quoted_ipv4(&bytes[ip.l4_start() + 8..ip.end()]);
        let own = quoted.is_some_and(|quoted| quoted.src == ip.dst);
        if header.kind != 3 || !own {
            return;
        }
        self.errors.push(bytes.to_vec());
        if header.code == 4 && header.seq < self.wire.mtu {
            self.wire.mtu = header.seq;
            self.interface = interface(&mut self.wire, self.mac, &self.addresses, self.gateway);
        }
    }
}

/// A network card: frames that came, frames that leave.
#[derive(Debug)]
struct Wire {
    mtu: u16,
    inbox: VecDeque<Vec<u8>>,
    outbox: VecDeque<Vec<u8>>,
}

struct Received(Vec<u8>);

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Sending<'a>(&'a mut VecDeque<Vec<u8>>);

impl phy::TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut bytes = vec![0; len];
        let result = f(&mut bytes);
        self.0.push_back(bytes);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Received, Sending<'_>)> {
        let bytes = self.inbox.pop_front()?;
        Some((Received(bytes), Sending(&mut self.outbox)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.outbox))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = usize::from(self.mtu) + ETHERNET_HEADER;
        capabilities
    }
}

fn interface(
    wire: &mut Wire,
    mac: MacAddr,
    addresses: &[(Ipv4Addr, u8)],
    gateway: Ipv4Addr,
) -> Interface {
    let mut config = Config::new(EthernetAddress(mac.0).into());
    config.random_seed = u64::from(mac.0[5]);
    let mut interface = Interface::new(config, wire, Instant::ZERO);
    interface.update_ip_addrs(|list| {
        for (addr, prefix) in addresses {
            list.push(IpCidr::new(IpAddress::Ipv4(*addr), *prefix))
                .expect("room for two addresses");
        }
    });
    interface
        .routes_mut()
        .add_default_ipv4_route(gateway)
        .expect("room for one route");
    interface
}

pub(super) fn instant(now: Timestamp) -> Instant {
    Instant::from_micros((now.as_nanos() / 1000) as i64)
}

/// The frame as a container's kernel hands it to a veth: the TCP or UDP sum is left half done.
fn half_done(mut bytes: Vec<u8>) -> (Vec<u8>, Offload) {
    let Ok(facts) = parse(&bytes) else {
        return (bytes, Offload::NONE);
    };
    let Some(ip) = facts.ip() else {
        return (bytes, Offload::NONE);
    };
    let (L4::Tcp(_) | L4::Udp(_), Some(offset)) = (ip.l4, field_offset(&ip.l4)) else {
        return (bytes, Offload::NONE);
    };
    let partial = fold(pseudo_header(ip.src, ip.dst, ip.protocol, ip.payload_len()));
    let at = ip.l4_start() + usize::from(offset);
    bytes[at..at + 2].copy_from_slice(&partial.to_be_bytes());
    (bytes, Offload::partial(ip.l4_start() as u16, offset))
}
