//! Networks.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use pontoon_packet::MacAddr;
use serde::{Deserialize, Serialize};

use super::addressing::Addressing;
use super::{DEFAULT_NETWORK, State};
use crate::config::{Egress, NetworkId, OffloadMode};
use crate::control::Invalid;
use crate::control::address::Allocator;
use crate::control::api::{HostLoopback, Labels, NetworkSpec, NetworkView, PruneFilter};
use crate::control::driver_options::{DriverOptions, Masquerading};
use crate::control::labels;
use crate::control::name::{check_name, id};

/// Smallest MTU that IPv4 allows every host to send (RFC 791 §3.2).
const MIN_MTU: u32 = 576;
/// Ethernet's, and Docker's.
const DEFAULT_MTU: u32 = 1500;
/// Name of the host's interface on a network, before the network's number.
const HOST_INTERFACE: &str = "pontoon";
/// Ways to have no network of one's own, or somebody else's; Docker has networks of these names.
const RESERVED_NAMES: [&str; 2] = ["host", "none"];
/// The least of an id that stands for it.
const MIN_ID: usize = 4;

/// Where a network's datagrams for elsewhere go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostPort {
    /// By a pair of virtual Ethernet interfaces.
    Veth,
    /// By a TAP interface.
    Tap,
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// 64 digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its number.
    pub number: NetworkId,
    /// Unix time, in nanoseconds.
    pub created_nanos: u64,
    /// Its subnet.
    pub subnet: Ipv4Net,
    /// Where addresses are taken from that nobody asks for by number, if not the whole subnet.
    pub range: Option<Ipv4Net>,
    /// The gateway's address.
    pub gateway: Ipv4Addr,
    /// Addresses that no container gets.
    pub auxiliary: BTreeMap<String, Ipv4Addr>,
    /// Where its datagrams for elsewhere go.
    pub uplink: UplinkSpec,
    /// What its containers may begin there.
    pub egress: Egress,
    /// The address that stands for the host's loopback, where that is open.
    pub host_loopback: Option<Ipv4Addr>,
    /// Largest datagram, in bytes.
    pub mtu: u16,
    /// The host's port, where there is one.
    pub host_port: Option<HostPort>,
    /// Whether the kernel may carry its flows.
    #[serde(default, skip_serializing_if = "is_default")]
    pub offload: OffloadMode,
    /// What its maker notes about it.
    pub labels: Labels,
    /// Options of its driver, as they were given.
    pub options: BTreeMap<String, String>,
    /// What these options say.
    pub driver: DriverOptions,
    pub(super) addresses: Allocator,
}

/// What older engines neither write nor read.
fn is_default(mode: &OffloadMode) -> bool {
    *mode == OffloadMode::default()
}

impl Network {
    /// The gateway's hardware address.
    pub const fn gateway_mac(&self) -> MacAddr {
        MacAddr::for_ipv4(self.gateway)
    }

    /// Whether anything leads from its containers to elsewhere.
    pub fn has_way_out(&self) -> bool {
        self.uplink.reaches_outside() && self.egress != Egress::Closed
    }

    /// Where its containers send what is for elsewhere; an internal network leads nowhere.
    pub fn default_route(&self) -> Option<IpAddr> {
        (self.egress != Egress::Closed).then_some(self.gateway.into())
    }

    /// Name of a container's interface.
    pub fn interface(&self, number: usize) -> String {
        format!("{}{number}", self.driver.interface_prefix)
    }

    /// Name of the host's interface.
    pub fn host_interface(&self) -> String {
        format!("{HOST_INTERFACE}{}", self.number.0)
    }
}

impl State {
    /// Makes a network, at `created_nanos` of Unix time. `taken` are the prefixes that its subnet must not
    /// share addresses with.
    ///
    /// # Errors
    /// A field of `spec` is wrong, or collides with what is there.
    pub fn create_network(
        &mut self,
        spec: &NetworkSpec,
        taken: &[IpNet],
        created_nanos: u64,
        random: [u64; 4],
    ) -> Result<&Network, Invalid> {
        self.check_network_name(&spec.name)?;
        labels::check(&spec.labels)?;
        let subnets = self.networks().map(|network| IpNet::V4(network.subnet));
        let taken: Vec<_> = taken.iter().copied().chain(subnets).collect();
        let mut plan = Addressing::plan(spec, &taken)?;
        let uplink = parse_uplink(spec.uplink.as_deref())?;
        let host_port = parse_host_port(spec)?;
        let driver = DriverOptions::parse(&spec.options)?;
        let mtu = choose_mtu(spec.mtu, driver.mtu)?;
        let egress = choose_egress(spec, &uplink, &driver)?;
        let host_loopback = match spec.host_loopback {
            HostLoopback::Closed => None,
            HostLoopback::Open => Some(reserve_loopback(&uplink, plan.subnet, &mut plan.free)?),
        };
        self.last_network += 1;
        let network = Network {
            id: id(random),
            name: spec.name.clone(),
            number: NetworkId(self.last_network),
            created_nanos,
            subnet: plan.subnet,
            range: plan.range,
            gateway: plan.gateway,
            auxiliary: plan.auxiliary,
            uplink,
            egress,
            host_loopback,
            mtu,
            host_port,
            offload: spec.offload,
            labels: spec.labels.clone(),
            options: spec.options.clone(),
            driver,
            addresses: plan.free,
        };
        Ok(self.networks.entry(spec.name.clone()).or_insert(network))
    }

    /// Takes a network away.
    ///
    /// # Errors
    /// It is not there, or containers are on it.
    pub fn remove_network(&mut self, name: &str) -> Result<Network, Invalid> {
        let network = self.network(name)?;
        let name = network.name.clone();
        if self.endpoints_on(&name).next().is_some() {
            let what = format!(
                "error while removing network: network {name} id {} has active endpoints",
                network.id
            );
            return Err(Invalid::conflict("", what));
        }
        for container in self.containers.values_mut() {
            container.endpoints.retain(|e| e.network != name);
        }
        self.networks
            .remove(&name)
            .ok_or_else(|| no_such_network(&name))
    }

    /// Names of the networks that `filter` speaks of and that nobody uses, but for the default one.
    pub fn unused_networks(&self, filter: &PruneFilter) -> Vec<String> {
        let is_used = |network: &Network| {
            let mut places = self.endpoints_on(&network.name);
            network.name == DEFAULT_NETWORK || places.next().is_some()
        };
        let is_meant = |network: &Network| {
            let before = filter.created_before_nanos;
            let labels = &network.labels;
            before.is_none_or(|before| network.created_nanos < before)
                && filter.labels.iter().all(|filter| filter.matches(labels))
        };
        let unused = self.networks().filter(|n| is_meant(n) && !is_used(n));
        unused.map(|network| network.name.clone()).collect()
    }

    /// The network of that name, or the only one whose id begins so.
    ///
    /// # Errors
    /// There is none, or several ids begin so.
    pub fn network(&self, name: &str) -> Result<&Network, Invalid> {
        let by_id = || {
            let begins = |n: &&Network| name.len() >= MIN_ID && n.id.starts_with(name);
            let mut found = self.networks.values().filter(begins);
            found.next().filter(|_| found.next().is_none())
        };
        let found = self.networks.get(name).or_else(by_id);
        found.ok_or_else(|| no_such_network(name))
    }

    /// All networks, by name.
    pub fn networks(&self) -> impl Iterator<Item = &Network> {
        self.networks.values()
    }

    /// A network as it is shown.
    pub fn network_view(&self, network: &Network) -> NetworkView {
        let auxiliary = network.auxiliary.iter();
        let auxiliary = auxiliary.map(|(name, address)| (name.clone(), IpAddr::V4(*address)));
        NetworkView {
            id: network.id.clone(),
            name: network.name.clone(),
            number: network.number.0,
            created_nanos: network.created_nanos,
            subnet: network.subnet.into(),
            ip_range: network.range.map(IpNet::V4),
            gateway: network.gateway.into(),
            aux_addresses: auxiliary.collect(),
            uplink: match &network.uplink {
                UplinkSpec::None => "none".to_owned(),
                UplinkSpec::Device(interface) => format!("dev:{interface}"),
                UplinkSpec::User => "user".to_owned(),
            },
            internal: !network.has_way_out(),
            host_loopback: network.host_loopback.map(IpAddr::V4),
            mtu: network.mtu,
            host_interface: network.host_port.map(|_| network.host_interface()),
            offload: network.offload,
            containers: self
                .endpoints_on(&network.name)
                .map(|(c, _)| c.name.clone())
                .collect(),
            labels: network.labels.clone(),
            options: network.options.clone(),
        }
    }

    fn check_network_name(&self, name: &str) -> Result<(), Invalid> {
        check_name("name", name)?;
        if self.networks.contains_key(name) || RESERVED_NAMES.contains(&name) {
            let reason = format!("network with name {name} already exists");
            return Err(Invalid::conflict("", reason));
        }
        Ok(())
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

/// Reserves the last free address of the subnet, so that containers are numbered as without it.
fn reserve_loopback(
    uplink: &UplinkSpec,
    subnet: Ipv4Net,
    addresses: &mut Allocator,
) -> Result<Ipv4Addr, Invalid> {
    let invalid = |why: String| Invalid::new("host_loopback", why);
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

/// What containers may begin, from `--internal` and the driver's options.
fn choose_egress(
    spec: &NetworkSpec,
    uplink: &UplinkSpec,
    driver: &DriverOptions,
) -> Result<Egress, Invalid> {
    if spec.internal && spec.host_loopback == HostLoopback::Open {
        let what = "an internal network does not lead to the host's loopback";
        return Err(Invalid::new("host_loopback", what));
    }
    match (driver.masquerading, uplink) {
        (Masquerading::Off, UplinkSpec::User) => {
            let what = "enable_ip_masquerade=false takes the uplink dev:INTERFACE: the host's own sockets \
                        bear its own addresses";
            Err(Invalid::new("options", what))
        }
        _ if spec.internal => Ok(Egress::Closed),
        (Masquerading::Off, _) => Ok(Egress::Untranslated),
        (Masquerading::On, _) => Ok(Egress::Masqueraded),
    }
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
                    "uplink",
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
                "host_port",
                format!("{shown}: expected veth or tap"),
            ))
        }
    }
}

/// The MTU that was given in one way or the other.
fn choose_mtu(flag: Option<u32>, option: Option<u32>) -> Result<u16, Invalid> {
    if flag.is_some() && option.is_some() {
        let what = "it is given as a driver option (-o) as well; give one of them";
        return Err(Invalid::new("mtu", what));
    }
    let mtu = flag.or(option).unwrap_or(DEFAULT_MTU);
    match u16::try_from(mtu) {
        Ok(value) if mtu >= MIN_MTU => Ok(value),
        _ => Err(Invalid::new(
            "mtu",
            format!("{mtu}: must be from {MIN_MTU} to 65535"),
        )),
    }
}
