//! A project: a file's networks and containers under their own names, in the order in which they are made.

use std::path::Path;

use serde::Serialize;

use super::file::{Condition, DEFAULT, File, Join, Joins, Network, Service};
use super::order::order;
use super::yaml::Fault;
use crate::args::{CreateNetwork, Join as Place, Run};

/// Label with the project's name.
pub(super) const PROJECT: &str = "pontoon.project";
/// Label with the name in the file.
pub(super) const SERVICE: &str = "pontoon.service";
/// Label with a digest of what was asked for.
pub(super) const CONFIG: &str = "pontoon.config";
/// Label with the names of the containers that one depends on.
pub(super) const DEPENDS_ON: &str = "pontoon.depends-on";
/// The network that is always there, and the driver of all.
const BRIDGE: &str = "bridge";

/// What is to be.
#[derive(Debug)]
pub(super) struct Project {
    /// Its name.
    pub(super) name: String,
    /// Its networks.
    pub(super) networks: Vec<WantedNetwork>,
    /// Its containers, each after those it depends on.
    pub(super) containers: Vec<WantedContainer>,
}

/// A network that is to be.
#[derive(Debug)]
pub(super) struct WantedNetwork {
    pub(super) name: String,
    /// Digest of what is asked for.
    pub(super) config: String,
    /// How it is made, unless others make it.
    pub(super) create: Option<CreateNetwork>,
}

/// A container that is to be.
#[derive(Debug)]
pub(super) struct WantedContainer {
    pub(super) name: String,
    /// Names of its networks.
    pub(super) networks: Vec<String>,
    /// Digest of what is asked for.
    pub(super) config: String,
    /// What must be far enough before it starts.
    pub(super) after: Vec<(String, Condition)>,
    /// How it is run.
    pub(super) run: Run,
}

/// A file under a project's name.
struct Naming<'a> {
    file: &'a File,
    project: &'a str,
    directory: &'a Path,
}

/// Gives a file's things their names, and puts them in order. `directory` is where relative paths begin.
///
/// # Errors
/// A service names what is not there, services need each other, or two things have one name.
pub(super) fn project(file: &File, name: &str, directory: &Path) -> Result<Project, Fault> {
    check_needs(file)?;
    let naming = Naming {
        file,
        project: name,
        directory,
    };
    let services = file.services.iter();
    let things: Vec<_> = services
        .map(|service| (service.name.as_str(), needs(service)))
        .collect();
    let ordered = order(&things).map_err(|circle| {
        let first = file.services.iter().find(|s| s.name == circle[0]);
        let field = format!("services.{}.depends_on", circle[0]);
        let what = format!("services wait for each other: {}", circle.join(" → "));
        Fault::new(first.map_or(1, |service| service.line), &field, what)
    })?;
    let ordered = ordered.into_iter().map(|nth| &file.services[nth]);
    let project = Project {
        name: name.to_owned(),
        networks: naming.networks(),
        containers: ordered
            .map(|service| naming.container(service))
            .collect::<Result<_, _>>()?,
    };
    check_names(file, &naming)?;
    Ok(project)
}

fn needs(service: &Service) -> Vec<&str> {
    let needs = service.depends_on.iter();
    needs.map(|(name, _)| name.as_str()).collect()
}

fn check_needs(file: &File) -> Result<(), Fault> {
    for service in &file.services {
        for (need, _) in &service.depends_on {
            if !file.services.iter().any(|other| other.name == *need) {
                let field = format!("services.{}.depends_on", service.name);
                let what = format!("{}: no such service", need.escape_default());
                return Err(Fault::new(service.line, &field, what));
            }
        }
    }
    Ok(())
}

fn check_names(file: &File, naming: &Naming<'_>) -> Result<(), Fault> {
    for (nth, service) in file.services.iter().enumerate() {
        let name = naming.container_name(service);
        let earlier = &file.services[..nth];
        if let Some(other) = earlier.iter().find(|s| naming.container_name(s) == name) {
            let field = format!("services.{}", service.name);
            let what = format!("its container has the name of {}'s: {name}", other.name);
            return Err(Fault::new(service.line, &field, what));
        }
    }
    for (nth, network) in file.networks.iter().enumerate() {
        let name = naming.network_name(network);
        let earlier = &file.networks[..nth];
        if let Some(other) = earlier.iter().find(|n| naming.network_name(n) == name) {
            let field = format!("networks.{}", network.key);
            let what = format!("it has the name of {}: {name}", other.key);
            return Err(Fault::new(network.line, &field, what));
        }
    }
    Ok(())
}

impl Naming<'_> {
    fn container_name(&self, service: &Service) -> String {
        let named = service.container_name.clone();
        named.unwrap_or_else(|| format!("{}-{}-1", self.project, service.name))
    }

    fn network_name(&self, network: &Network) -> String {
        match (&network.name, network.external) {
            (Some(name), _) => name.clone(),
            (None, true) => network.key.clone(),
            (None, false) => format!("{}_{}", self.project, network.key),
        }
    }

    /// The file's networks, and the default one where a service is on it.
    fn networks(&self) -> Vec<WantedNetwork> {
        let is_default =
            |service: &Service| joins(service).iter().any(|join| join.network == DEFAULT);
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
            label,
            opt: network.driver_opts.clone(),
        };
        WantedNetwork {
            name,
            config,
            create: (!network.external).then_some(create),
        }
    }

    fn container(&self, service: &Service) -> Result<WantedContainer, Fault> {
        let name = self.container_name(service);
        let (networks, joined) = self.places(service)?;
        let after: Vec<_> = service
            .depends_on
            .iter()
            .filter_map(|(need, condition)| {
                let needed = self.file.services.iter().find(|s| s.name == *need)?;
                Some((self.container_name(needed), *condition))
            })
            .collect();
        let config = digest(&(&name, &networks, self.directory, service));
        let run = self.run(service, &name, joined, &config, &after);
        Ok(WantedContainer {
            name,
            networks,
            config,
            after,
            run,
        })
    }

    /// The names of the service's networks, and what `--network` is told of each.
    fn places(&self, service: &Service) -> Result<(Vec<String>, Vec<String>), Fault> {
        if service.networks == Joins::Bridge {
            return Ok((vec![BRIDGE.to_owned()], vec![BRIDGE.to_owned()]));
        }
        let place = |join: &Join| {
            let name = self.joined(service, join)?;
            let place = place(&name, &service.name, join);
            Ok((name, place))
        };
        joins(service).iter().map(place).collect()
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

/// The networks of the file that a service joins.
fn joins(service: &Service) -> &[Join] {
    match &service.networks {
        Joins::Bridge => &[],
        Joins::Networks(joins) => joins,
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
