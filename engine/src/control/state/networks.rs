//! Networks.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use pontoon_packet::MacAddr;

use super::{Container, Phase, State};
use crate::config::NetworkId;
use crate::control::Invalid;
use crate::control::address::{Allocator, free_pool, overlaps, parse_subnet};
use crate::control::api::{HostLoopback, Labels, NetworkSpec, NetworkView};
use crate::control::labels;
use crate::control::name::{check_name, id};

/// Smallest MTU that IPv4 allows every host to send (RFC 791 §3.2).
const MIN_MTU: u32 = 576;
/// Name of the host's interface on a network, before the network's number.
const HOST_INTERFACE: &str = "pontoon";

/// Where a network's datagrams for elsewhere go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UplinkSpec {
    /// Nowhere.
    None,
    /// Out of this interface.
    Device(String),
    /// Through the host's own sockets.
    User,
}

impl UplinkSpec {
    /// Whether somebody outside can reach a port that is published on a network with this uplink.
    pub(super) const fn reaches_outside(&self) -> bool {
        match self {
            Self::None => false,
            Self::Device(_) | Self::User => true,
        }
    }
}

/// How the host is plugged into a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPort {
    /// By a pair of virtual Ethernet interfaces.
    Veth,
    /// By a TAP interface.
    Tap,
}

/// A network.
#[derive(Clone, Debug)]
pub struct Network {
    /// 64 digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its number.
    pub number: NetworkId,
    /// Its subnet.
    pub subnet: Ipv4Net,
    /// The gateway's address.
    pub gateway: Ipv4Addr,
    /// Where its datagrams for elsewhere go.
    pub uplink: UplinkSpec,
    /// The address that stands for the host's loopback, where that is open.
    pub host_loopback: Option<Ipv4Addr>,
    /// Largest datagram, in bytes.
    pub mtu: u16,
    /// The host's port, where there is one.
    pub host_port: Option<HostPort>,
    /// What its maker notes about it.
    pub labels: Labels,
    pub(super) addresses: Allocator,
}

impl Network {
    /// The gateway's hardware address.
    pub const fn gateway_mac(&self) -> MacAddr {
        MacAddr::for_ipv4(self.gateway)
    }

    /// Name of the host's interface.
    pub fn host_interface(&self) -> String {
        format!("{HOST_INTERFACE}{}", self.number.0)
    }
}

impl State {
    /// Makes a network. `taken` are the prefixes that its subnet must not share addresses with.
    ///
    /// # Errors
    /// A field of `spec` is wrong, or collides with what is there.
    pub fn create_network(
        &mut self,
        spec: &NetworkSpec,
        taken: &[IpNet],
        random: [u64; 4],
    ) -> Result<&Network, Invalid> {
        check_name("NETWORK", &spec.name)?;
        labels::check(&spec.labels)?;
        if self.networks.contains_key(&spec.name) {
            let reason = format!("network with name {} already exists", spec.name);
            return Err(Invalid::conflict("", reason));
        }
        let subnet = self.choose_subnet(spec, taken)?;
        let gateway = choose_gateway(spec.gateway, subnet)?;
        let (uplink, host_port) = (
            parse_uplink(spec.uplink.as_deref())?,
            parse_host_port(spec)?,
        );
        let mtu = parse_mtu(spec.mtu)?;
        let mut addresses = Allocator::new(subnet, gateway);
        let host_loopback = match spec.host_loopback {
            HostLoopback::Closed => None,
            HostLoopback::Open => Some(reserve_loopback(&uplink, subnet, &mut addresses)?),
        };
        self.last_network += 1;
        let network = Network {
            id: id(random),
            name: spec.name.clone(),
            number: NetworkId(self.last_network),
            subnet,
            gateway,
            uplink,
            host_loopback,
            mtu,
            host_port,
            labels: spec.labels.clone(),
            addresses,
        };
        Ok(self.networks.entry(spec.name.clone()).or_insert(network))
    }

    /// Takes a network away.
    ///
    /// # Errors
    /// It is not there, or containers are on it.
    pub fn remove_network(&mut self, name: &str) -> Result<Network, Invalid> {
        let network = self.network(name)?;
        let in_use = self
            .containers
            .values()
            .any(|c| c.network == name && c.phase == Phase::Running);
        if in_use {
            let what = format!(
                "error while removing network: network {name} id {} has active endpoints",
                network.id
            );
            return Err(Invalid::conflict("", what));
        }
        self.containers
            .retain(|_, container| container.network != name);
        self.networks
            .remove(name)
            .ok_or_else(|| no_such_network(name))
    }

    /// The network of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn network(&self, name: &str) -> Result<&Network, Invalid> {
        self.networks.get(name).ok_or_else(|| no_such_network(name))
    }

    /// All networks, by name.
    pub fn networks(&self) -> impl Iterator<Item = &Network> {
        self.networks.values()
    }

    /// A network as it is shown.
    pub fn network_view(&self, network: &Network) -> NetworkView {
        let running = |c: &&Container| c.network == network.name && c.phase == Phase::Running;
        NetworkView {
            id: network.id.clone(),
            name: network.name.clone(),
            number: network.number.0,
            subnet: network.subnet.into(),
            gateway: network.gateway.into(),
            uplink: match &network.uplink {
                UplinkSpec::None => "none".to_owned(),
                UplinkSpec::Device(interface) => format!("dev:{interface}"),
                UplinkSpec::User => "user".to_owned(),
            },
            host_loopback: network.host_loopback.map(IpAddr::V4),
            mtu: network.mtu,
            host_interface: network.host_port.map(|_| network.host_interface()),
            containers: self
                .containers
                .values()
                .filter(running)
                .map(|c| c.name.clone())
                .collect(),
            labels: network.labels.clone(),
        }
    }

    fn choose_subnet(&self, spec: &NetworkSpec, taken: &[IpNet]) -> Result<Ipv4Net, Invalid> {
        let networks = self
            .networks
            .values()
            .map(|network| IpNet::V4(network.subnet));
        let taken: Vec<_> = taken.iter().copied().chain(networks).collect();
        let Some(text) = &spec.subnet else {
            return free_pool(&taken);
        };
        let subnet = parse_subnet(text)?;
        let clash = taken
            .iter()
            .find(|other| overlaps(&IpNet::V4(subnet), other));
        match clash {
            None => Ok(subnet),
            Some(other) => {
                let what = format!("{subnet} overlaps with {other}, which is in use");
                Err(Invalid::conflict("--subnet", what))
            }
        }
    }
}

pub(super) fn no_such_network(name: &str) -> Invalid {
    let shown: String = name
        .chars()
        .take(64)
        .flat_map(char::escape_default)
        .collect();
    Invalid::missing("", format!("No such network: {shown}"))
}

fn choose_gateway(wanted: Option<IpAddr>, subnet: Ipv4Net) -> Result<Ipv4Addr, Invalid> {
    let invalid = |address: IpAddr, why: &str| {
        Invalid::new("--gateway", format!("{address}: {why} {subnet}"))
    };
    match wanted {
        None => subnet
            .hosts()
            .next()
            .ok_or_else(|| Invalid::new("--subnet", "no room for hosts")),
        Some(IpAddr::V4(address)) if !subnet.contains(&address) => {
            Err(invalid(address.into(), "not in the subnet"))
        }
        Some(IpAddr::V4(address))
            if address == subnet.network() || address == subnet.broadcast() =>
        {
            Err(invalid(address.into(), "not a host's address in"))
        }
        Some(IpAddr::V4(address)) => Ok(address),
        Some(address) => Err(invalid(address, "not of the family of")),
    }
}

/// Reserves the last free address of the subnet, so that containers are numbered as without it.
fn reserve_loopback(
    uplink: &UplinkSpec,
    subnet: Ipv4Net,
    addresses: &mut Allocator,
) -> Result<Ipv4Addr, Invalid> {
    let invalid = |why: String| Invalid::new("--host-loopback", why);
    if *uplink != UplinkSpec::User {
        let what = "only the uplink user leads to the host's loopback";
        return Err(invalid(what.to_owned()));
    }
    // Gateway, container, and this one.
    if subnet.prefix_len() > 29 {
        return Err(invalid(format!("no room in {subnet}: it takes a /29")));
    }
    let (first, broadcast) = (u32::from(subnet.network()), u32::from(subnet.broadcast()));
    let mut last = (first + 1..broadcast).rev().map(Ipv4Addr::from);
    last.find_map(|address| addresses.take(address.into()).ok())
        .ok_or_else(|| invalid(format!("no free address in {subnet}")))
}

fn parse_uplink(text: Option<&str>) -> Result<UplinkSpec, Invalid> {
    match text {
        None | Some("user") => Ok(UplinkSpec::User),
        Some("none") => Ok(UplinkSpec::None),
        Some(text) => match text.strip_prefix("dev:") {
            Some(interface) if !interface.is_empty() && interface.len() <= 15 => {
                Ok(UplinkSpec::Device(interface.to_owned()))
            }
            _ => {
                let shown = text.escape_default();
                Err(Invalid::new(
                    "--uplink",
                    format!("{shown}: expected user, dev:INTERFACE or none"),
                ))
            }
        },
    }
}

fn parse_host_port(spec: &NetworkSpec) -> Result<Option<HostPort>, Invalid> {
    match spec.host_port.as_deref() {
        None => Ok(None),
        Some("veth") => Ok(Some(HostPort::Veth)),
        Some("tap") => Ok(Some(HostPort::Tap)),
        Some(other) => {
            let shown = other.escape_default();
            Err(Invalid::new(
                "--host-port",
                format!("{shown}: expected veth or tap"),
            ))
        }
    }
}

fn parse_mtu(mtu: Option<u32>) -> Result<u16, Invalid> {
    let mtu = mtu.unwrap_or(1500);
    match u16::try_from(mtu) {
        Ok(value) if mtu >= MIN_MTU => Ok(value),
        _ => Err(Invalid::new(
            "--mtu",
            format!("{mtu}: must be from {MIN_MTU} to 65535"),
        )),
    }
}
