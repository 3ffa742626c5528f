//! Containers.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use pontoon_packet::MacAddr;

use super::networks::no_such_network;
use super::{HostPorts, Network, State};
use crate::config::PortId;
use crate::control::Invalid;
use crate::control::address::Allocator;
use crate::control::api::{AttachSpec, ContainerView};
use crate::control::labels;
use crate::control::name::{check_name, generated, id, interface_name, short_id};
use crate::control::naming::check_naming;
use crate::control::publish::PublishSpec;

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

    /// What it calls itself: as Docker, the digits of its id that are shown unless it was told.
    pub fn hostname(&self) -> &str {
        let told = self.spec.naming.hostname.as_deref();
        told.unwrap_or_else(|| short_id(&self.id))
    }
}

impl State {
    /// Reserves a name, an address, a hardware address, ports and a number for a container. Ports are
    /// claimed of `host` first.
    ///
    /// # Errors
    /// A field of `spec` is wrong, or collides with what is there; nothing is reserved then.
    pub fn create_container(
        &mut self,
        mut spec: AttachSpec,
        created: u64,
        random: [u64; 4],
        host: &mut impl HostPorts,
    ) -> Result<&Container, Invalid> {
        let name = self.choose_name(spec.name.as_deref(), random[0])?;
        let network = self.network(&spec.network)?;
        spec.network.clone_from(&network.name);
        if spec.ifname.is_empty() {
            spec.ifname = network.interface(0);
        }
        check_name("--ifname", &spec.ifname)?;
        if spec.ifname.len() > 15 {
            return Err(Invalid::new(
                "--ifname",
                "interface names have at most 15 characters",
            ));
        }
        check_naming(&spec.naming, &spec.network)?;
        labels::check(&spec.labels)?;
        let publish = self.choose_ports(&spec.network, &spec.publish, host)?;
        let wanted_mac = spec
            .mac
            .as_deref()
            .map(|text| self.check_mac(&spec.network, text));
        let wanted_mac = wanted_mac.transpose()?;
        let address = self.choose_address(&spec, wanted_mac)?;
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
            Invalid::missing("", format!("No such container: {shown}"))
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
            hostname: container.hostname().to_owned(),
            command: container.spec.command.clone(),
            pid: container.spec.pid.filter(|_| exit_status.is_none()),
            state: state.to_owned(),
            exit_status,
            created: container.created,
            network: container.network.clone(),
            ifname: container.spec.ifname.clone(),
            address: address.map_err(|_| Invalid::new("", "impossible prefix"))?,
            gateway: network.gateway.into(),
            host_loopback: network.host_loopback.map(IpAddr::V4),
            mac: container.mac.to_string(),
            mtu: network.mtu,
            publish: container.publish.clone(),
            port: container.port.0,
            monitor: container.spec.monitor,
            labels: container.spec.labels.clone(),
        })
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
                Err(Invalid::conflict("--name", what))
            }
        }
    }

    /// Reserves the address that was asked for, or the next one whose hardware address nobody has.
    fn choose_address(
        &mut self,
        spec: &AttachSpec,
        wanted_mac: Option<MacAddr>,
    ) -> Result<Ipv4Addr, Invalid> {
        let held = self.macs(&spec.network);
        let network = self
            .networks
            .get_mut(&spec.network)
            .ok_or_else(|| no_such_network(&spec.network))?;
        let is_free = |address| wanted_mac.is_some() || !held.contains(&MacAddr::for_ipv4(address));
        let address = match spec.ip {
            Some(address) => network.addresses.take(address)?,
            None => return allocate(&mut network.addresses, is_free),
        };
        if is_free(address) {
            return Ok(address);
        }
        network.addresses.release(address);
        let what = format!(
            "{address}: its hardware address {} is in use already; give another with --mac-address",
            MacAddr::for_ipv4(address)
        );
        Err(Invalid::conflict("--ip", what))
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
