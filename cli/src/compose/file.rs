//! A topology file as it is meant: services and networks, each field checked.

use std::net::IpAddr;

use pontoon_engine::config::OffloadMode;
use pontoon_engine::control::name::check_name;
use serde::Serialize;

use super::fields::{Place, Surroundings};
use super::network::network;
use super::service::service;
use super::yaml::{self, Fault};

/// What a file says.
#[derive(Debug)]
pub(super) struct File {
    /// The project's name.
    pub(super) name: Option<String>,
    /// Services, in the order of the file.
    pub(super) services: Vec<Service>,
    /// Networks, in the order of the file.
    pub(super) networks: Vec<Network>,
}

/// A container to be.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Service {
    #[serde(skip)]
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) container_name: Option<String>,
    pub(super) command: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) working_dir: Option<String>,
    pub(super) hostname: Option<String>,
    pub(super) mac_address: Option<String>,
    pub(super) networks: Joins,
    pub(super) ports: Vec<String>,
    #[serde(skip)]
    pub(super) depends_on: Vec<(String, Condition)>,
    pub(super) dns: Vec<IpAddr>,
    pub(super) dns_search: Vec<String>,
    pub(super) dns_opt: Vec<String>,
    pub(super) extra_hosts: Vec<String>,
    pub(super) labels: Vec<String>,
}

/// Where a service's container is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Joins {
    /// On the default bridge.
    Bridge,
    /// On no network.
    None,
    /// Where the user is.
    Host,
    /// In the network namespace of another service's container.
    Service(String),
    /// In that of another container.
    Container(String),
    /// On networks of the file; the first leads out.
    Networks(Vec<Join>),
}

impl Joins {
    /// The networks of the file.
    pub(super) fn declared(&self) -> &[Join] {
        match self {
            Self::Networks(joins) => joins,
            _ => &[],
        }
    }

    /// The service whose container's namespace it is.
    pub(super) fn service(&self) -> Option<&str> {
        match self {
            Self::Service(name) => Some(name),
            _ => None,
        }
    }
}

/// A place on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Join {
    /// The network's name in the file.
    pub(super) network: String,
    /// The address asked for.
    pub(super) ipv4_address: Option<IpAddr>,
    /// The hardware address asked for.
    pub(super) mac_address: Option<String>,
    /// Names besides the service's.
    pub(super) aliases: Vec<String>,
}

/// When a container that another one depends on is far enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// It runs.
    Started,
    /// It has ended with status 0.
    Completed,
}

/// A network to be.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Network {
    #[serde(skip)]
    pub(super) line: usize,
    pub(super) key: String,
    pub(super) name: Option<String>,
    /// Made by others, and left to them.
    #[serde(skip)]
    pub(super) external: bool,
    pub(super) ipam: Ipam,
    pub(super) driver_opts: Vec<(String, String)>,
    pub(super) uplink: Option<String>,
    /// Without a way out.
    pub(super) internal: bool,
    pub(super) host_loopback: bool,
    pub(super) mtu: Option<u32>,
    pub(super) host_port: Option<String>,
    /// Left out of what is compared when the file says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offload: Option<OffloadMode>,
    pub(super) labels: Vec<String>,
}

/// The addresses of a network.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Ipam {
    pub(super) subnet: Option<String>,
    pub(super) gateway: Option<IpAddr>,
    pub(super) ip_range: Option<String>,
    pub(super) aux_addresses: Vec<(String, IpAddr)>,
}

/// The network of services that name none.
pub(super) const DEFAULT: &str = "default";

/// Reads a file.
///
/// # Errors
/// The first field that is wrong, with its line.
pub(super) fn read(text: &str, surroundings: &dyn Surroundings) -> Result<File, Fault> {
    let tree = yaml::parse(text)?;
    let mut table = Place::root(&tree, surroundings).table()?;
    // Compose ignores it as well.
    let _ = table.take("version");
    let name = table.read("name", project_name)?;
    let networks = table.read("networks", |place| each(place, network))?;
    let services = table.read("services", |place| each(place, service))?;
    table.finish(|_| None)?;
    match services {
        Some(services) if !services.is_empty() => Ok(File {
            name,
            services,
            networks: networks.unwrap_or_default(),
        }),
        _ => Err(Fault::new(1, "services", "expected at least one service")),
    }
}

/// Reads nothing but the name of a file's project, whatever else the file says.
///
/// # Errors
/// It is not YAML, or the name cannot be one.
pub(super) fn read_name(
    text: &str,
    surroundings: &dyn Surroundings,
) -> Result<Option<String>, Fault> {
    let tree = yaml::parse(text)?;
    let mut table = Place::root(&tree, surroundings).table()?;
    table.read("name", project_name)
}

fn each<'a, T>(
    place: &Place<'a>,
    read: fn(&str, &Place<'a>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let entries = place.entries()?;
    entries
        .iter()
        .map(|(name, place)| {
            check_name("", name).map_err(|error| place.fault(error.reason))?;
            read(name, place)
        })
        .collect()
}

fn project_name(place: &Place<'_>) -> Result<String, Fault> {
    let name = place.text()?;
    check_project(&name).map_err(|what| place.fault(what))?;
    Ok(name)
}

/// Checks a project's name: compose's `[a-z0-9][a-z0-9_-]*`.
pub(super) fn check_project(name: &str) -> Result<(), String> {
    let is_first = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_rest = |c: char| is_first(c) || c == '_' || c == '-';
    if name.starts_with(is_first) && name.chars().all(is_rest) && name.len() <= 40 {
        return Ok(());
    }
    let shown: String = name
        .chars()
        .take(40)
        .flat_map(char::escape_default)
        .collect();
    Err(format!(
        "invalid project name \"{shown}\": up to 40 of [a-z0-9][a-z0-9_-]"
    ))
}
