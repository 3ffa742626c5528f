//! Containers.

use serde::{Deserialize, Serialize};

use super::{Endpoint, HostPorts, State};
use crate::control::Invalid;
use crate::control::api::{AttachSpec, ContainerView, NetworkMode};
use crate::control::labels;
use crate::control::name::{check_name, generated, id, short_id};
use crate::control::naming::check_naming;
use crate::control::publish::PublishSpec;

/// Shown in place of a network's name where there is none.
const NO_NETWORK: &str = "none";
/// The same where the namespace is the user's.
const HOST_NETWORK: &str = "host";

/// Whether a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Its namespace is plugged in.
    Running,
    /// Its first process has ended with this status.
    Exited(i32),
}

/// A number that no other container has, or will have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerNumber(pub u32);

/// A container: a namespace, its places on networks, and perhaps a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// 64 digits.
    pub id: String,
    /// Its number.
    pub number: ContainerNumber,
    /// Its name.
    pub name: String,
    /// Its places on networks, in the order of its interfaces; at most one on each.
    pub endpoints: Vec<Endpoint>,
    /// Published ports that lead nowhere, since no network of its own has them led from outside.
    pub waiting: Vec<PublishSpec>,
    /// What was asked for.
    pub spec: AttachSpec,
    /// Unix time, in seconds.
    pub created: u64,
    /// Whether it runs.
    pub phase: Phase,
}

impl Container {
    /// What it calls itself: as Docker, the digits of its id that are shown unless it was told.
    pub fn hostname(&self) -> &str {
        let told = self.spec.naming.hostname.as_deref();
        told.unwrap_or_else(|| short_id(&self.id))
    }

    /// Whether it has not ended.
    pub fn runs(&self) -> bool {
        self.phase == Phase::Running
    }

    /// Its place on a network.
    pub fn endpoint(&self, network: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|e| e.network == network)
    }

    /// Its published ports.
    pub fn publish(&self) -> impl Iterator<Item = &PublishSpec> {
        self.endpoints.iter().flat_map(|e| &e.publish)
    }
}

impl State {
    /// Reserves a name, addresses, hardware addresses, ports and numbers for a container. Ports are
    /// claimed of `host`.
    ///
    /// # Errors
    /// A field of `spec` is wrong, or collides with what is there; nothing is reserved then.
    pub fn create_container(
        &mut self,
        spec: AttachSpec,
        created: u64,
        random: [u64; 4],
        host: &mut impl HostPorts,
    ) -> Result<&Container, Invalid> {
        let name = self.choose_name(spec.name.as_deref(), random[0])?;
        let spec = self.check_mode(spec)?;
        check_naming(&spec.naming)?;
        labels::check(&spec.labels)?;
        self.last_container += 1;
        let mut container = Container {
            id: id(random),
            number: ContainerNumber(self.last_container),
            name: name.clone(),
            endpoints: Vec::new(),
            spec,
            created,
            waiting: Vec::new(),
            phase: Phase::Running,
        };
        if let Err(error) = self.fill(&mut container, host) {
            self.release(&container.endpoints);
            return Err(error);
        }
        Ok(self.containers.add(name, container))
    }

    /// Reserves a new container's places, and claims its ports.
    fn fill(
        &mut self,
        container: &mut Container,
        host: &mut impl HostPorts,
    ) -> Result<(), Invalid> {
        for wanted in container.spec.networks.clone() {
            let endpoint = self.reserve(container, &wanted)?;
            container.endpoints.push(endpoint);
        }
        let publish = self.choose_ports(container, &container.spec.publish, host)?;
        let leading = self.leading(container).map(|endpoint| endpoint.port);
        let leads = |endpoint: &&mut Endpoint| Some(endpoint.port) == leading;
        if let Some(endpoint) = container.endpoints.iter_mut().find(leads) {
            endpoint.publish = publish;
        }
        Ok(())
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

    /// Notes that a container's process has ended, and gives its addresses and ports back. When that is
    /// known already, only the status counts: whoever told first may not have known it.
    pub fn end(&mut self, name: &str, status: i32) {
        let Some(container) = self.containers.get_mut(name) else {
            return;
        };
        let before = std::mem::replace(&mut container.phase, Phase::Exited(status));
        if before == Phase::Running {
            let endpoints = container.endpoints.iter_mut();
            endpoints.for_each(|endpoint| endpoint.publish.clear());
            let endpoints = container.endpoints.clone();
            self.release(&endpoints);
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
        let views: Result<Vec<_>, _> = container
            .endpoints
            .iter()
            .map(|endpoint| self.endpoint_view(container, endpoint))
            .collect();
        let networks = views?;
        let first = networks.first();
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
            network: match &container.spec.mode {
                NetworkMode::Own => first.map_or(NO_NETWORK, |e| &e.network).to_owned(),
                NetworkMode::Host => HOST_NETWORK.to_owned(),
                NetworkMode::Container { name } => format!("container:{name}"),
            },
            ifname: first.map(|e| e.ifname.clone()),
            address: first.map(|e| e.address),
            gateway: first.map(|e| e.gateway),
            host_loopback: first.and_then(|e| e.host_loopback),
            mac: first.map(|e| e.mac.clone()),
            mtu: first.map(|e| e.mtu),
            publish: container.publish().cloned().collect(),
            port: first.map(|e| e.port),
            networks,
            monitor: container.spec.monitor,
            labels: container.spec.labels.clone(),
        })
    }

    fn choose_name(&self, wanted: Option<&str>, random: u64) -> Result<String, Invalid> {
        let Some(name) = wanted else {
            return Ok(generated(random));
        };
        check_name("name", name)?;
        match self.containers.get(name) {
            None => Ok(name.to_owned()),
            Some(other) => {
                let what = format!(
                    "The container name \"{name}\" is already in use by container \"{}\". You have to \
                     remove that container to be able to reuse that name.",
                    other.id
                );
                Err(Invalid::conflict("name", what))
            }
        }
    }
}
