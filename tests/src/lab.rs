//! A datapath on the bench: two networks, an uplink, a virtual clock, and every frame that leaves.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;

use pontoon_engine::config::{
    AddressOwner, Egress, Guarding, Isolation, NetworkConfig, NetworkId, OffloadMode, Outside,
    PortConfig, PortId, UplinkConfig, UplinkId,
};
use pontoon_engine::{Datapath, Seeds, Transmit};
use pontoon_nat::{ConnId, Limits, Owner, Profile, Published};
use pontoon_packet::parse::protocol;
use pontoon_packet::{Endpoint, Facts, Frame, MacAddr, Offload, Timestamp, parse, pretty};

/// Container 1 of network A.
pub const C1: PortId = PortId(1);
/// Container 2 of network A.
pub const C2: PortId = PortId(2);
/// Container 3 of network A.
pub const C3: PortId = PortId(3);
/// Container 1 of network B.
pub const B1: PortId = PortId(4);
/// The network that leaves by the user uplink, 172.20.0.0/24.
pub const U: NetworkId = NetworkId(3);
/// A container of network U.
pub const U1: PortId = PortId(5);
/// Another one, where a test has plugged it in.
pub const U2: PortId = PortId(6);
/// The uplink's port.
pub const UP: PortId = PortId(10);

/// Network A, 172.18.0.0/24.
pub const A: NetworkId = NetworkId(1);
/// Network B, 172.19.0.0/24.
pub const B: NetworkId = NetworkId(2);

/// Gateway of network A.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 18, 0, 1);
/// The uplink's address.
pub const EXTERNAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The next hop outside.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
/// A server outside.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// The uplink's hardware address.
pub const EXTERNAL_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
/// The next hop's hardware address.
pub const ROUTER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);

/// Address of a container's port.
pub fn addr(port: PortId) -> Ipv4Addr {
    match port {
        B1 => Ipv4Addr::new(172, 19, 0, 2),
        U1 => Ipv4Addr::new(172, 20, 0, 2),
        U2 => Ipv4Addr::new(172, 20, 0, 3),
        PortId(n) => Ipv4Addr::new(172, 18, 0, n as u8 + 1),
    }
}

/// Hardware address of a container's port.
pub fn mac(port: PortId) -> MacAddr {
    MacAddr::for_ipv4(addr(port))
}

/// Hardware address of network A's gateway.
pub fn gateway_mac() -> MacAddr {
    MacAddr::for_ipv4(GATEWAY)
}

/// A frame that left.
#[derive(Clone, PartialEq, Eq)]
pub struct Sent {
    /// The port it left by.
    pub port: PortId,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What goes beside it.
    pub offload: Offload,
}

impl core::fmt::Debug for Sent {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "[port {}] {}",
            self.port.0,
            pretty::line(&self.bytes, self.offload)
        )
    }
}

impl Sent {
    /// What `bytes`, without offload remarks, look like on `port`.
    pub fn plain(port: PortId, bytes: Vec<u8>) -> Self {
        Self {
            port,
            bytes,
            offload: Offload::NONE,
        }
    }

    /// Where everything is in it.
    pub fn facts(&self) -> Facts {
        parse(&self.bytes).unwrap_or_else(|e| panic!("{self:?} does not parse: {e:?}"))
    }
}

/// Collects what leaves.
#[derive(Debug, Default)]
pub struct Outbox(pub Vec<Sent>);

/// What is handed to host sockets is collected with what leaves, under this port.
pub const USER: PortId = PortId(11);

impl Transmit for Outbox {
    fn forward(&mut self, port: PortId, frame: &Frame<'_>) {
        self.emit(port, frame.bytes, frame.offload);
    }

    fn emit(&mut self, port: PortId, bytes: &[u8], offload: Offload) {
        self.0.push(Sent {
            port,
            bytes: bytes.to_vec(),
            offload,
        });
    }

    fn deliver(&mut self, _: ConnId, _: PortId, frame: &Frame<'_>, _: &Facts) {
        self.emit(USER, frame.bytes, frame.offload);
    }
}

/// The datapath and its clock.
pub struct Lab {
    /// The datapath under test.
    pub datapath: Datapath,
    /// The virtual time.
    pub now: Timestamp,
}

impl Lab {
    /// Network A with three containers and an uplink whose next hop is known; network B with one
    /// container and the same uplink.
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    /// The same with other limits.
    pub fn with_limits(limits: Limits) -> Self {
        let seeds = Seeds([0x5eed, 0x0dd5, 0xca11, 0xf00d]);
        let datapath = Datapath::new(seeds, Profile::docker0(), limits);
        let mut lab = Self {
            datapath,
            now: Timestamp::from_secs(1000),
        };
        lab.add_uplink(1500, AddressOwner::Kernel);
        lab.add_network(A, "172.18.0.0/24", GATEWAY, Outside::Uplink(UplinkId(1)));
        lab.add_network(
            B,
            "172.19.0.0/24",
            Ipv4Addr::new(172, 19, 0, 1),
            Outside::Uplink(UplinkId(1)),
        );
        for (port, network) in [(C1, A), (C2, A), (C3, A), (B1, B)] {
            lab.plug(port, network, Guarding::On);
        }
        lab.learn_router();
        lab
    }

    /// The same and network U, 172.20.0.0/24, with one container, which leaves by the user uplink.
    pub fn with_user_uplink(limits: Limits) -> Self {
        let mut lab = Self::with_limits(limits);
        lab.datapath.open_user_uplink(USER).expect("fresh port");
        let gateway = Ipv4Addr::new(172, 20, 0, 1);
        lab.add_network(U, "172.20.0.0/24", gateway, Outside::User);
        lab.plug(U1, U, Guarding::On);
        lab
    }

    /// Opens the uplink.
    pub fn add_uplink(&mut self, mtu: u16, address_owner: AddressOwner) {
        let config = Self::uplink_config(mtu, address_owner);
        self.datapath.add_uplink(config).expect("fresh uplink");
    }

    /// The uplink as `add_uplink` makes it.
    pub fn uplink_config(mtu: u16, address_owner: AddressOwner) -> UplinkConfig {
        UplinkConfig {
            id: UplinkId(1),
            port: UP,
            mac: EXTERNAL_MAC,
            addresses: vec!["192.0.2.1/24".parse().expect("prefix")],
            gateway: Some(ROUTER.into()),
            mtu,
            address_owner,
        }
    }

    /// Makes a network.
    pub fn add_network(
        &mut self,
        id: NetworkId,
        subnet: &str,
        gateway: Ipv4Addr,
        outside: Outside,
    ) {
        let config = NetworkConfig {
            id,
            subnet: subnet.parse().expect("prefix"),
            gateway: gateway.into(),
            gateway_mac: MacAddr::for_ipv4(gateway),
            mtu: 1500,
            outside,
            egress: Egress::default(),
            isolation: Isolation::default(),
            offload: OffloadMode::Auto,
            host_loopback: None,
        };
        self.datapath.add_network(config).expect("fresh network");
    }

    /// Plugs a container in.
    pub fn plug(&mut self, port: PortId, network: NetworkId, guard: Guarding) {
        let config = PortConfig {
            id: port,
            network,
            mac: mac(port),
            addresses: vec![addr(port).into()],
            mtu: 1500,
            guard,
        };
        self.datapath.add_port(config).expect("fresh port");
    }

    /// Publishes `port` of the uplink's addresses to a container's.
    pub fn publish(
        &mut self,
        protocol: u8,
        port: u16,
        container: PortId,
        target: u16,
    ) -> Published {
        let published = Published {
            protocol,
            addr: Ipv4Addr::UNSPECIFIED.into(),
            port,
            target: Endpoint::new(addr(container).into(), target),
            owner: Owner(container.0),
        };
        self.datapath.publish(published.clone()).expect("free port");
        published
    }

    /// Publishes a TCP port.
    pub fn publish_tcp(&mut self, port: u16, container: PortId, target: u16) -> Published {
        self.publish(protocol::TCP, port, container, target)
    }

    /// The next hop answers the engine's question, as it would the first time.
    pub fn learn_router(&mut self) {
        let request = pontoon_packet::Arp {
            operation: pontoon_packet::arp::REQUEST,
            sender_mac: ROUTER_MAC,
            sender_ip: ROUTER,
            target_mac: MacAddr::ZERO,
            target_ip: EXTERNAL,
        };
        self.send(
            UP,
            &pontoon_packet::arp::frame(MacAddr::BROADCAST, &request),
        );
    }

    /// Puts a frame in at `port` and returns everything that leaves because of it.
    pub fn send(&mut self, port: PortId, bytes: &[u8]) -> Vec<Sent> {
        self.send_with(port, bytes, Offload::NONE)
    }

    /// The same for a frame with offload remarks.
    pub fn send_with(&mut self, port: PortId, bytes: &[u8], offload: Offload) -> Vec<Sent> {
        let mut bytes = bytes.to_vec();
        let mut out = Outbox::default();
        let mut frame = Frame {
            bytes: &mut bytes,
            offload,
        };
        self.datapath.process(self.now, port, &mut frame, &mut out);
        out.0
    }

    /// Lets time pass, and returns what leaves meanwhile.
    pub fn pass(&mut self, time: Duration) -> Vec<Sent> {
        let end = self.now + time;
        let mut out = Outbox::default();
        while let Some(at) = self.datapath.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.datapath.handle_timeout(self.now, &mut out);
        }
        self.now = end;
        out.0
    }

    /// How often frames were dropped for the reason of that name.
    pub fn drops(&self, name: &str) -> u64 {
        let drops = self.datapath.stats().drops;
        drops
            .iter()
            .find(|(reason, _)| reason == name)
            .map_or(0, |(_, n)| *n)
    }

    /// The counter of that name.
    pub fn counter(&self, name: &str) -> u64 {
        let counters = self.datapath.stats().counters;
        let found = counters.iter().find(|(counter, _)| counter == name);
        found.unwrap_or_else(|| panic!("no counter {name}")).1
    }

    /// All drops so far, by reason.
    pub fn all_drops(&self) -> Vec<(String, u64)> {
        self.datapath.stats().drops
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

/// An IPv4 address as the generic kind.
pub fn ip(addr: Ipv4Addr) -> IpAddr {
    addr.into()
}
