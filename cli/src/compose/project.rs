//! A project: a file's networks and containers under their own names, in the order in which they are made.

use std::path::Path;

use super::file::{Condition, File, Service};
use super::naming::Naming;
use super::order::order;
use super::yaml::Fault;
use crate::args::{CreateNetwork, Run};

/// Label with the project's name.
pub(super) const PROJECT: &str = "pontoon.project";
/// Label with the name in the file.
pub(super) const SERVICE: &str = "pontoon.service";
/// Label with a digest of what was asked for.
pub(super) const CONFIG: &str = "pontoon.config";
/// Label with the names of the containers that one depends on.
pub(super) const DEPENDS_ON: &str = "pontoon.depends-on";

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
    /// Name of the container whose network namespace it shares.
    pub(super) within: Option<String>,
    /// Digest of what is asked for.
    pub(super) config: String,
    /// What must be far enough before it starts.
    pub(super) after: Vec<(String, Condition)>,
    /// How it is run.
    pub(super) run: Run,
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

/// The services that one depends on, that with whose container it shares a namespace among them.
fn needs(service: &Service) -> Vec<&str> {
    let needs = service.depends_on.iter().map(|(name, _)| name.as_str());
    needs.chain(service.networks.service()).collect()
}

fn check_needs(file: &File) -> Result<(), Fault> {
    for service in &file.services {
        let is_there = |need: &str| file.services.iter().any(|other| other.name == need);
        let Some(need) = needs(service).into_iter().find(|need| !is_there(need)) else {
            continue;
        };
        let key = match service.networks.service() {
            Some(other) if other == need => "network_mode",
            _ => "depends_on",
        };
        let field = format!("services.{}.{key}", service.name);
        let what = format!("{}: no such service", need.escape_default());
        return Err(Fault::new(service.line, &field, what));
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
