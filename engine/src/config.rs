//! What the control side tells the datapath: networks, ports, uplinks.
//!
//! These are plain, validated facts. Whoever builds them has already allocated addresses, made
//! interfaces and checked names; the datapath refuses only what would make its tables
//! contradict themselves ([`ConfigError`]).

use core::fmt;
use core::net::IpAddr;

use ipnet::IpNet;
use pontoon_packet::MacAddr;
pub use pontoon_switch::{Isolation, PortId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A network: one bridge, one subnet, one gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NetworkId(pub u32);

/// A way out: an interface on which Pontoon masquerades.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UplinkId(pub u32);

/// A bridge with its gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Its number.
    pub id: NetworkId,
    /// Its addresses.
    pub subnet: IpNet,
    /// The gateway's address, inside `subnet`.
    pub gateway: IpAddr,
    /// The gateway's hardware address.
    pub gateway_mac: MacAddr,
    /// Largest IP datagram of the network, in bytes.
    pub mtu: u16,
    /// Where datagrams for elsewhere leave.
    pub outside: Outside,
    /// What its containers may begin there, and as whom.
    pub egress: Egress,
    /// Whether its containers reach each other.
    pub isolation: Isolation,
    /// Whether the kernel may carry its flows. A flow from one network to another takes the consent of both.
    pub offload: OffloadMode,
    /// An address inside `subnet` that stands for the host's loopback; the user uplink leads there.
    pub host_loopback: Option<IpAddr>,
}

/// Whether the kernel carries established flows.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum OffloadMode {
    /// Those that are worth it, where it can.
    #[default]
    Auto,
    /// None.
    Off,
}

impl fmt::Display for OffloadMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Off => "off",
        })
    }
}

impl core::str::FromStr for OffloadMode {
    type Err = UnknownOffload;

    fn from_str(text: &str) -> Result<Self, UnknownOffload> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            _ => Err(UnknownOffload),
        }
    }
}

/// A text that is no [`OffloadMode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownOffload;

impl fmt::Display for UnknownOffload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected auto or off")
    }
}

impl core::error::Error for UnknownOffload {}

/// A network's way to the world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outside {
    /// None: the network is internal.
    #[default]
    Nowhere,
    /// An interface, on whose wire Pontoon masquerades.
    Uplink(UplinkId),
    /// The user uplink: the host's own sockets.
    User,
}

/// What the containers of a network may begin towards the outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Egress {
    /// Anything, under the address of the uplink.
    #[default]
    Masqueraded,
    /// Anything, under their own addresses: who is outside knows a way back.
    Untranslated,
    /// Nothing: the network is internal. Its published ports are reached all the same, and those who do
    /// bear the gateway's address.
    Closed,
}

/// A container's (or the host's) place on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// Its number; never reused while a frame of the old owner may be under way.
    pub id: PortId,
    /// The network it is plugged into.
    pub network: NetworkId,
    /// The hardware address bound to it.
    pub mac: MacAddr,
    /// The network addresses bound to it.
    pub addresses: Vec<IpAddr>,
    /// Largest IP datagram the interface takes, in bytes.
    pub mtu: u16,
    /// What its owner may claim to be.
    pub guard: Guarding,
}

/// What a port's guard enforces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guarding {
    /// Only the bound addresses may be used as source, in Ethernet, IP and ARP.
    #[default]
    On,
    /// Anything goes: for measuring, and to show what the guard prevents.
    Off,
}

/// An interface that leads outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UplinkConfig {
    /// Its number.
    pub id: UplinkId,
    /// The port its frames come from and go to.
    pub port: PortId,
    /// The interface's hardware address.
    pub mac: MacAddr,
    /// Its addresses with their on-link prefixes; the first IPv4 one is what flows are
    /// masqueraded to.
    pub addresses: Vec<IpNet>,
    /// Next hop for everything that is not on-link.
    pub gateway: Option<IpAddr>,
    /// Largest IP datagram the interface takes, in bytes.
    pub mtu: u16,
    /// Who answers for the addresses.
    pub address_owner: AddressOwner,
}

/// Who answers ARP and echo for an uplink's own addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressOwner {
    /// The kernel that holds the interface beside the engine; the engine stays silent.
    #[default]
    Kernel,
    /// The engine: nobody else holds the addresses.
    Engine,
}

/// Why the datapath refuses a piece of configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// The number is taken.
    NetworkExists(NetworkId),
    /// No such network.
    NoSuchNetwork(NetworkId),
    /// Ports are still plugged into the network.
    NetworkInUse(NetworkId),
    /// The subnet shares addresses with another network or with the uplink.
    SubnetOverlaps(IpNet),
    /// The number is taken.
    PortExists(PortId),
    /// No such port.
    NoSuchPort(PortId),
    /// The hardware address is bound to another port of the network, or is the gateway's.
    MacInUse(MacAddr),
    /// The address is bound to another port of the network, or is the gateway's.
    AddressInUse(IpAddr),
    /// The number is taken.
    UplinkExists(UplinkId),
    /// No such uplink.
    NoSuchUplink(UplinkId),
    /// Networks still leave by the uplink.
    UplinkInUse(UplinkId),
    /// The published port is taken.
    Publish(pontoon_nat::PublishError),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NetworkExists(id) => write!(f, "network {} exists already", id.0),
            Self::NoSuchNetwork(id) => write!(f, "no network {}", id.0),
            Self::NetworkInUse(id) => write!(f, "network {} still has ports", id.0),
            Self::SubnetOverlaps(net) => write!(f, "subnet {net} overlaps another network"),
            Self::PortExists(id) => write!(f, "port {} exists already", id.0),
            Self::NoSuchPort(id) => write!(f, "no port {}", id.0),
            Self::MacInUse(mac) => write!(f, "MAC address {mac} is already in use"),
            Self::AddressInUse(addr) => write!(f, "address {addr} is already in use"),
            Self::UplinkExists(id) => write!(f, "uplink {} exists already", id.0),
            Self::NoSuchUplink(id) => write!(f, "no uplink {}", id.0),
            Self::UplinkInUse(id) => write!(f, "uplink {} is still in use", id.0),
            Self::Publish(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ConfigError {}
