//! Networks and containers.
//!
//! Every operation checks first and changes afterwards; what it reserves it can give back
//! ([`State::forget`], [`State::remove_network`]), so that the shell can undo what it could not carry
//! out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use pontoon_packet::MacAddr;

use super::Invalid;
use super::address::{Allocator, free_pool, overlaps, parse_subnet};
use super::api::{AttachSpec, ContainerView, NetworkSpec, NetworkView};
use super::name::{check_name, generated, id, interface_name};
use super::publish::PublishSpec;
use crate::config::{NetworkId, PortId};

/// The network that containers join when they name none.
pub const DEFAULT_NETWORK: &str = "bridge";
/// Smallest MTU that IPv4 allows every host to send (RFC 791 §3.2).
const MIN_MTU: u32 = 576;
/// Ephemeral ports for `-p` without a host port start here; Linux `ip_local_port_range`.
const FIRST_EPHEMERAL: u16 = 32_768;
/// Name of the host's interface on a network, before the network's number.
const HOST_INTERFACE: &str = "pontoon";

/// Where a network's datagrams for elsewhere go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UplinkSpec {
    /// Nowhere.
    None,
    /// Out of this interface.
    Device(String),
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
    /// Largest datagram, in bytes.
    pub mtu: u16,
    /// The host's port, where there is one.
    pub host_port: Option<HostPort>,
    addresses: Allocator,
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

/// Whether a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its namespace is plugged in.
    Running,
    /// Its first process has ended with this status.
    Exited(i32),
}

/// A container: a namespace, its place on a network, and perhaps a process.
#[derive(Clone, Debug)]
pub struct Container {
    /// 64 digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its network.
    pub network: String,
    /// Its port.
    pub port: PortId,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its hardware address.
    pub mac: MacAddr,
    /// Its published ports, host ports chosen.
    pub publish: Vec<PublishSpec>,
    /// What was asked for.
    pub spec: AttachSpec,
    /// Unix time, in seconds.
    pub created: u64,
    /// Whether it runs.
    pub phase: Phase,
}

impl Container {
    /// Name of the engine's end of its interface.
    pub fn host_ifname(&self) -> String {
        interface_name(&self.id)
    }
}

/// All networks and containers.
#[derive(Clone, Debug, Default)]
pub struct State {
    networks: BTreeMap<String, Network>,
    containers: BTreeMap<String, Container>,
    last_network: u32,
    last_port: u32,
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
        if self.networks.contains_key(&spec.name) {
            let reason = format!("network with name {} already exists", spec.name);
            return Err(Invalid::new("", reason));
        }
        let subnet = self.choose_subnet(spec, taken)?;
        let gateway = choose_gateway(spec.gateway, subnet)?;
        let (uplink, host_port) = (
            parse_uplink(spec.uplink.as_deref())?,
            parse_host_port(spec)?,
        );
        let mtu = parse_mtu(spec.mtu)?;
        self.last_network += 1;
        let network = Network {
            id: id(random),
            name: spec.name.clone(),
            number: NetworkId(self.last_network),
            subnet,
            gateway,
            uplink,
            mtu,
            host_port,
            addresses: Allocator::new(subnet, gateway),
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
            return Err(Invalid::new("", what));
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

    /// Reserves a name, an address, a hardware address, ports and a number for a container.
    ///
    /// # Errors
    /// A field of `spec` is wrong, or collides with what is there; nothing is reserved then.
    pub fn create_container(
        &mut self,
        spec: AttachSpec,
        created: u64,
        random: [u64; 4],
    ) -> Result<&Container, Invalid> {
        let name = self.choose_name(spec.name.as_deref(), random[0])?;
        check_name("--ifname", &spec.ifname)?;
        if spec.ifname.len() > 15 {
            return Err(Invalid::new(
                "--ifname",
                "interface names have at most 15 characters",
            ));
        }
        let publish = self.choose_ports(&spec.publish)?;
        let wanted_mac = spec
            .mac
            .as_deref()
            .map(|text| self.check_mac(&spec.network, text));
        let wanted_mac = wanted_mac.transpose()?;
        let held = self.macs(&spec.network);
        let network = self
            .networks
            .get_mut(&spec.network)
            .ok_or_else(|| no_such_network(&spec.network))?;
        let is_free = |address| wanted_mac.is_some() || !held.contains(&MacAddr::for_ipv4(address));
        let address = match spec.ip {
            Some(address) => network.addresses.take(address)?,
            None => allocate(&mut network.addresses, is_free)?,
        };
        if !is_free(address) {
            network.addresses.release(address);
            let what = format!(
                "{address}: its hardware address {} is in use already; give another with --mac-address",
                MacAddr::for_ipv4(address)
            );
            return Err(Invalid::new("--ip", what));
        }
        self.last_port += 1;
        let container = Container {
            id: id(random),
            name: name.clone(),
            network: spec.network.clone(),
            port: PortId(self.last_port),
            address,
            mac: wanted_mac.unwrap_or(MacAddr::for_ipv4(address)),
            publish,
            spec,
            created,
            phase: Phase::Running,
        };
        Ok(self.containers.entry(name).or_insert(container))
    }

    /// A number for a port that no container has, or will have.
    pub fn next_port(&mut self) -> PortId {
        self.last_port += 1;
        PortId(self.last_port)
    }

    /// The container of that name, or the only one whose id begins so.
    ///
    /// # Errors
    /// There is none, or several ids begin so.
    pub fn container(&self, name: &str) -> Result<&Container, Invalid> {
        let by_id = || {
            let begins = |c: &&Container| name.len() >= 4 && c.id.starts_with(name);
            let mut found = self.containers.values().filter(begins);
            found.next().filter(|_| found.next().is_none())
        };
        self.containers.get(name).or_else(by_id).ok_or_else(|| {
            let shown: String = name
                .chars()
                .take(64)
                .flat_map(char::escape_default)
                .collect();
            Invalid::new("", format!("No such container: {shown}"))
        })
    }

    /// All containers, by name.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        self.containers.values()
    }

    /// How many containers run.
    pub fn running(&self) -> usize {
        self.containers
            .values()
            .filter(|c| c.phase == Phase::Running)
            .count()
    }

    /// Notes that a container's process has ended, and gives its address and ports back. When that is
    /// known already, only the status counts: whoever told first may not have known it.
    pub fn end(&mut self, name: &str, status: i32) {
        let Some(container) = self.containers.get_mut(name) else {
            return;
        };
        let before = std::mem::replace(&mut container.phase, Phase::Exited(status));
        if before == Phase::Running {
            container.publish.clear();
            if let Some(network) = self.networks.get_mut(&container.network) {
                network.addresses.release(container.address);
            }
        }
    }

    /// Forgets a container and gives back what it held.
    pub fn forget(&mut self, name: &str) {
        self.end(name, 0);
        self.containers.remove(name);
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
            },
            mtu: network.mtu,
            host_interface: network.host_port.map(|_| network.host_interface()),
            containers: self
                .containers
                .values()
                .filter(running)
                .map(|c| c.name.clone())
                .collect(),
        }
    }

    /// A container as it is shown.
    ///
    /// # Errors
    /// Its network is not there.
    pub fn container_view(&self, container: &Container) -> Result<ContainerView, Invalid> {
        let network = self.network(&container.network)?;
        let address = IpNet::new(container.address.into(), network.subnet.prefix_len());
        let (state, exit_status) = match container.phase {
            Phase::Running if container.spec.pid.is_some() => ("running", None),
            Phase::Running => ("attached", None),
            Phase::Exited(status) => ("exited", Some(status)),
        };
        Ok(ContainerView {
            id: container.id.clone(),
            name: container.name.clone(),
            command: container.spec.command.clone(),
            pid: container.spec.pid.filter(|_| exit_status.is_none()),
            state: state.to_owned(),
            exit_status,
            created: container.created,
            network: container.network.clone(),
            ifname: container.spec.ifname.clone(),
            address: address.map_err(|_| Invalid::new("", "impossible prefix"))?,
            gateway: network.gateway.into(),
            mac: container.mac.to_string(),
            mtu: network.mtu,
            publish: container.publish.clone(),
            port: container.port.0,
        })
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
                Err(Invalid::new("--subnet", what))
            }
        }
    }

    fn choose_name(&self, wanted: Option<&str>, random: u64) -> Result<String, Invalid> {
        let Some(name) = wanted else {
            return Ok(generated(random));
        };
        check_name("--name", name)?;
        match self.containers.get(name) {
            None => Ok(name.to_owned()),
            Some(other) => {
                let what = format!(
                    "The container name \"{name}\" is already in use by container \"{}\". You have to \
                     remove that container to be able to reuse that name.",
                    other.id
                );
                Err(Invalid::new("--name", what))
            }
        }
    }

    fn check_mac(&self, network: &str, text: &str) -> Result<MacAddr, Invalid> {
        let invalid =
            |why: &str| Invalid::new("--mac-address", format!("{}: {why}", text.escape_default()));
        let mac: MacAddr = text
            .parse()
            .map_err(|_| invalid("expected 02:42:ac:11:00:02"))?;
        if !mac.is_valid_source() {
            return Err(invalid("not a single host's address"));
        }
        if self.macs(network).contains(&mac) {
            Err(invalid("already in use"))
        } else {
            Ok(mac)
        }
    }

    /// The hardware addresses that a network's gateway and containers have.
    fn macs(&self, network: &str) -> BTreeSet<MacAddr> {
        let gateway = self.networks.get(network).map(Network::gateway_mac);
        let running = |c: &&Container| c.network == network && c.phase == Phase::Running;
        let containers = self.containers.values().filter(running).map(|c| c.mac);
        gateway.into_iter().chain(containers).collect()
    }

    /// Fills in the host ports that were left open, and checks that nobody has the others.
    fn choose_ports(&self, wanted: &[PublishSpec]) -> Result<Vec<PublishSpec>, Invalid> {
        let mut chosen: Vec<PublishSpec> = Vec::new();
        for spec in wanted {
            let mut spec = spec.clone();
            if spec.address.is_ipv6() {
                let what = format!("{}: only IPv4 addresses are supported", spec.address);
                return Err(Invalid::new("--publish", what));
            }
            let held = |port: u16, chosen: &[PublishSpec]| {
                let other = |p: &&PublishSpec| collides(p, &spec, port);
                let running = self
                    .containers
                    .values()
                    .filter(|c| c.phase == Phase::Running);
                let holder = running
                    .flat_map(|c| c.publish.iter().map(move |p| (p, c.name.as_str())))
                    .find(|(p, _)| other(p))
                    .map(|(_, name)| name.to_owned());
                holder.or_else(|| {
                    chosen
                        .iter()
                        .find(other)
                        .map(|_| "this container".to_owned())
                })
            };
            match spec.host {
                Some(port) => {
                    if let Some(holder) = held(port, &chosen) {
                        let what = format!(
                            "Bind for {}:{port} failed: port is already allocated to {holder}",
                            spec.address
                        );
                        return Err(Invalid::new("--publish", what));
                    }
                }
                None => {
                    let free = (FIRST_EPHEMERAL..=u16::MAX).find(|p| held(*p, &chosen).is_none());
                    let full = || Invalid::new("--publish", "no ephemeral port is free");
                    spec.host = Some(free.ok_or_else(full)?);
                }
            }
            chosen.push(spec);
        }
        Ok(chosen)
    }
}

/// The next free address that will do.
fn allocate(
    addresses: &mut Allocator,
    will_do: impl Fn(Ipv4Addr) -> bool,
) -> Result<Ipv4Addr, Invalid> {
    let mut skipped = Vec::new();
    let found = loop {
        match addresses.allocate() {
            Ok(address) if !will_do(address) => skipped.push(address),
            other => break other,
        }
    };
    for address in skipped {
        addresses.release(address);
    }
    found
}

fn collides(held: &PublishSpec, wanted: &PublishSpec, port: u16) -> bool {
    let same_address = held.address == wanted.address
        || held.address.is_unspecified()
        || wanted.address.is_unspecified();
    held.protocol == wanted.protocol && held.host == Some(port) && same_address
}

fn no_such_network(name: &str) -> Invalid {
    let shown: String = name
        .chars()
        .take(64)
        .flat_map(char::escape_default)
        .collect();
    Invalid::new("", format!("No such network: {shown}"))
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

fn parse_uplink(text: Option<&str>) -> Result<UplinkSpec, Invalid> {
    match text {
        None | Some("none") => Ok(UplinkSpec::None),
        Some(text) => match text.strip_prefix("dev:") {
            Some(interface) if !interface.is_empty() && interface.len() <= 15 => {
                Ok(UplinkSpec::Device(interface.to_owned()))
            }
            _ => {
                let shown = text.escape_default();
                Err(Invalid::new(
                    "--uplink",
                    format!("{shown}: expected dev:INTERFACE or none"),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str) -> AttachSpec {
        AttachSpec {
            name: Some(name.to_owned()),
            network: DEFAULT_NETWORK.to_owned(),
            ifname: "eth0".to_owned(),
            ip: None,
            mac: None,
            publish: Vec::new(),
            command: String::new(),
            pid: None,
            remove: false,
            unguarded: false,
        }
    }

    fn state() -> State {
        let mut state = State::default();
        let network = NetworkSpec {
            name: DEFAULT_NETWORK.to_owned(),
            subnet: Some("10.0.0.0/29".to_owned()),
            ..NetworkSpec::default()
        };
        state.create_network(&network, &[], [0; 4]).unwrap();
        state
    }

    #[test]
    fn nobody_gets_a_hardware_address_that_was_given_by_hand() {
        let mut state = state();
        let mut first = spec("first");
        first.mac = Some(MacAddr::for_ipv4(Ipv4Addr::new(10, 0, 0, 3)).to_string());
        state.create_container(first, 0, [1; 4]).unwrap();
        let second = state.create_container(spec("second"), 0, [2; 4]).unwrap();
        assert_eq!(second.address, Ipv4Addr::new(10, 0, 0, 4));
        let mut third = spec("third");
        third.ip = Some(Ipv4Addr::new(10, 0, 0, 3).into());
        let error = state.create_container(third, 0, [3; 4]).unwrap_err();
        assert!(error.reason.contains("--mac-address"), "{error}");
        let free =
            ["a", "b", "c"].map(|name| state.create_container(spec(name), 0, [4; 4]).is_ok());
        assert_eq!(free, [true, true, false], "10.0.0.5 and 10.0.0.6");
    }

    #[test]
    fn a_status_that_is_told_late_counts() {
        let mut state = state();
        state.create_container(spec("a"), 0, [1; 4]).unwrap();
        state.end("a", 137);
        state.end("a", 3);
        assert_eq!(state.container("a").unwrap().phase, Phase::Exited(3));
    }

    #[test]
    fn an_id_names_a_container_only_when_no_other_begins_so() {
        let mut state = state();
        state.create_container(spec("a"), 0, [1, 0, 0, 0]).unwrap();
        let id = state.container("a").unwrap().id.clone();
        assert_eq!(state.container(&id[..16]).unwrap().name, "a");
        state.create_container(spec("b"), 0, [1, 0, 0, 1]).unwrap();
        assert!(state.container(&id[..16]).is_err());
        assert_eq!(state.container(&id).unwrap().name, "a");
    }

    #[test]
    fn a_port_on_an_address_that_cannot_work_is_refused() {
        let mut wanted = spec("a");
        wanted.publish = super::super::publish::parse("[::1]:8080:80").unwrap();
        let error = state().create_container(wanted, 0, [1; 4]).unwrap_err();
        assert_eq!(error.field, "--publish");
    }
}
