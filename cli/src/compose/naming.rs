//! Names of a file's things in a project, and what `run` and `network create` are told of each.

use std::path::Path;

use serde::Serialize;

use super::file::{Condition, DEFAULT, File, Join, Joins, Network, Service};
use super::project::{CONFIG, DEPENDS_ON, PROJECT, SERVICE, WantedContainer, WantedNetwork};
use super::yaml::Fault;
use crate::args::{CreateNetwork, Join as Place, Run};

/// The network that is always there, and the driver of all.
const BRIDGE: &str = "bridge";

/// A file under a project's name.
pub(super) struct Naming<'a> {
    pub(super) file: &'a File,
    pub(super) project: &'a str,
    /// Where relative paths begin.
    pub(super) directory: &'a Path,
}

impl Naming<'_> {
    pub(super) fn container_name(&self, service: &Service) -> String {
        let named = service.container_name.clone();
        named.unwrap_or_else(|| format!("{}-{}-1", self.project, service.name))
    }

    pub(super) fn network_name(&self, network: &Network) -> String {
        match (&network.name, network.external) {
            (Some(name), _) => name.clone(),
            (None, true) => network.key.clone(),
            (None, false) => format!("{}_{}", self.project, network.key),
        }
    }

    /// The file's networks, and the default one where a service is on it.
    pub(super) fn networks(&self) -> Vec<WantedNetwork> {
        let is_default = |service: &Service| {
            let mut joins = service.networks.declared().iter();
            joins.any(|join| join.network == DEFAULT)
        };
        let declared = self.file.networks.iter().any(|n| n.key == DEFAULT);
        let default =
            (!declared && self.file.services.iter().any(is_default)).then(default_network);
        let all = self.file.networks.iter().chain(&default);
        all.map(|network| self.network(network)).collect()
    }

    fn network(&self, network: &Network) -> WantedNetwork {
        let name = self.network_name(network);
        let config = digest(&(&name, network));
        let mut label = network.labels.clone();
        label.extend([
            format!("{PROJECT}={}", self.project),
            format!("{CONFIG}={config}"),
        ]);
        let create = CreateNetwork {
            name: name.clone(),
            driver: BRIDGE.to_owned(),
            subnet: network.ipam.subnet.clone(),
            ip_range: network.ipam.ip_range.clone(),
            gateway: network.ipam.gateway,
            aux_address: network.ipam.aux_addresses.clone(),
            uplink: network.uplink.clone().unwrap_or_else(|| "user".to_owned()),
            internal: network.internal,
            host_loopback: network.host_loopback,
            mtu: network.mtu,
            host_port: network.host_port.clone(),
            offload: network.offload.unwrap_or_default(),
            label,
            opt: network.driver_opts.clone(),
        };
        WantedNetwork {
            name,
            config,
            create: (!network.external).then_some(create),
        }
    }

    pub(super) fn container(&self, service: &Service) -> Result<WantedContainer, Fault> {
        let name = self.container_name(service);
        let within = self.within(service);
        let (networks, joined) = self.places(service, within.as_deref())?;
        let after = self.after(service);
        let config = digest(&(&name, &networks, self.directory, service));
        let run = self.run(service, &name, joined, &config, &after);
        Ok(WantedContainer {
            name,
            networks,
            within,
            config,
            after,
            run,
        })
    }

    /// The name of a service's container.
    fn container_of(&self, service: &str) -> Option<String> {
        let found = self.file.services.iter().find(|s| s.name == service)?;
        Some(self.container_name(found))
    }

    /// The container whose network namespace a service's shares.
    fn within(&self, service: &Service) -> Option<String> {
        match &service.networks {
            Joins::Container(name) => Some(name.clone()),
            joins => self.container_of(joins.service()?),
        }
    }

    /// What must be far enough before a service's container starts.
    fn after(&self, service: &Service) -> Vec<(String, Condition)> {
        let needs = service.depends_on.iter();
        let needs = needs.map(|(name, condition)| (name.as_str(), *condition));
        let shared = service.networks.service();
        let shared = shared.filter(|name| needs.clone().all(|(need, _)| need != *name));
        let all = needs.chain(shared.map(|name| (name, Condition::Started)));
        all.filter_map(|(need, condition)| Some((self.container_of(need)?, condition)))
            .collect()
    }

    /// The names of the service's networks, and what `--network` is told.
    fn places(
        &self,
        service: &Service,
        within: Option<&str>,
    ) -> Result<(Vec<String>, Vec<String>), Fault> {
        let place = |join: &Join| {
            let name = self.joined(service, join)?;
            let place = place(&name, &service.name, join);
            Ok((name, place))
        };
        match (&service.networks, within) {
            (Joins::Networks(joins), _) => joins.iter().map(place).collect(),
            (Joins::Bridge, _) => Ok((vec![BRIDGE.to_owned()], vec![BRIDGE.to_owned()])),
            (Joins::Host, _) => Ok((Vec::new(), vec!["host".to_owned()])),
            (_, Some(other)) => Ok((Vec::new(), vec![format!("container:{other}")])),
            (_, None) => Ok((Vec::new(), vec!["none".to_owned()])),
        }
    }

    /// The name of a network that a service joins.
    fn joined(&self, service: &Service, join: &Join) -> Result<String, Fault> {
        let declared = self.file.networks.iter().find(|n| n.key == join.network);
        match declared {
            Some(network) => Ok(self.network_name(network)),
            None if join.network == DEFAULT => Ok(self.network_name(&default_network())),
            None => {
                let field = format!("services.{}.networks", service.name);
                let shown = join.network.escape_default();
                let what = format!("{shown}: no such network; write it under networks:");
                Err(Fault::new(service.line, &field, what))
            }
        }
    }

    fn run(
        &self,
        service: &Service,
        name: &str,
        joined: Vec<String>,
        config: &str,
        after: &[(String, Condition)],
    ) -> Run {
        let needs: Vec<_> = after.iter().map(|(name, _)| name.as_str()).collect();
        let mut label = service.labels.clone();
        label.extend([
            format!("{PROJECT}={}", self.project),
            format!("{SERVICE}={}", service.name),
            format!("{CONFIG}={config}"),
            format!("{DEPENDS_ON}={}", needs.join(",")),
        ]);
        let directory = service.working_dir.as_deref().unwrap_or(".");
        let pair = |(name, value): &(String, String)| format!("{name}={value}");
        Run {
            name: Some(name.to_owned()),
            join: Place {
                network: joined,
                ip: None,
                mac_address: service.mac_address.clone(),
                publish: service.ports.clone(),
                network_alias: Vec::new(),
                dns: service.dns.clone(),
                label,
                no_guard: false,
            },
            detach: true,
            rm: false,
            add_host: service.extra_hosts.clone(),
            hostname: service.hostname.clone(),
            dns_search: service.dns_search.clone(),
            dns_option: service.dns_opt.clone(),
            env: service.environment.iter().map(pair).collect(),
            workdir: Some(self.directory.join(directory)),
            command: service.command.clone(),
        }
    }
}

/// A place as `--network` takes it: others of the network find the service by its name.
fn place(network: &str, service: &str, join: &Join) -> String {
    let aliases = join.aliases.iter().map(String::as_str);
    let aliases = [service].into_iter().chain(aliases);
    let aliases = aliases.map(|alias| format!(",alias={alias}"));
    let ip = join.ipv4_address.map(|ip| format!(",ip={ip}"));
    let mac = join.mac_address.as_ref();
    let mac = mac.map(|mac| format!(",mac-address={mac}"));
    let parts = aliases.chain(ip).chain(mac);
    parts.fold(format!("name={network}"), |place, part| place + &part)
}

fn default_network() -> Network {
    Network {
        key: DEFAULT.to_owned(),
        ..Network::default()
    }
}

/// A digest that is the same in every run and version: FNV-1a over JSON. It tells what was changed by
/// hand from what was not, nothing more.
fn digest(value: &impl Serialize) -> String {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let text = serde_json::to_vec(value).expect("texts, numbers and lists become JSON");
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
    format!("{:016x}", text.iter().fold(OFFSET, mix))
}
