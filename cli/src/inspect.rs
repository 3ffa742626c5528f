//! `inspect`: containers in Docker's form, as far as Pontoon has what it tells.

use std::collections::BTreeMap;
use std::net::IpAddr;

use pontoon_engine::control::api::{ContainerView, EndpointView, Labels, Reply, Request};
use pontoon_engine::control::publish::protocol_name;
use serde::Serialize;

use crate::client::{Client, Failure};
use crate::network::{Format, inspect, rfc3339};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    id: String,
    created: String,
    state: State,
    name: String,
    host_config: HostConfig,
    config: Config,
    network_settings: NetworkSettings,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: String,
    running: bool,
    pid: i32,
    exit_code: i32,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    network_mode: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    hostname: String,
    cmd: String,
    labels: Labels,
}

/// Published ports by the container's, and places by network; the address and what belongs to it are the
/// first place's.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    ports: BTreeMap<String, Vec<Binding>>,
    gateway: String,
    #[serde(rename = "IPAddress")]
    ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    ip_prefix_len: u8,
    mac_address: String,
    networks: BTreeMap<String, Place>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Binding {
    host_ip: IpAddr,
    host_port: String,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Place {
    #[serde(rename = "IPAMConfig")]
    ipam_config: Option<()>,
    links: Option<()>,
    aliases: Vec<String>,
    #[serde(rename = "NetworkID")]
    network_id: String,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    gateway: String,
    #[serde(rename = "IPAddress")]
    ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    ip_prefix_len: u8,
    #[serde(rename = "IPv6Gateway")]
    ipv6_gateway: &'static str,
    #[serde(rename = "GlobalIPv6Address")]
    global_ipv6_address: &'static str,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    global_ipv6_prefix_len: u8,
    mac_address: String,
    driver_opts: Option<()>,
}

/// `inspect`.
pub(crate) fn containers(
    client: &Client,
    names: Vec<String>,
    format: Option<&str>,
) -> Result<u8, Failure> {
    let format = format.map(Format::parse).transpose()?;
    let asked = names.into_iter().map(|name| Request::Container { name });
    inspect(client, asked, format.as_ref(), |reply| match reply {
        Reply::Container(container) => Some(shown(container)),
        _ => None,
    })
}

fn shown(container: ContainerView) -> Container {
    /// Docker counts in nanoseconds.
    const NANOS: u64 = 1_000_000_000;
    let runs = container.exit_status.is_none();
    Container {
        created: rfc3339(container.created.saturating_mul(NANOS)),
        state: State {
            status: if runs { "running" } else { "exited" }.to_owned(),
            running: runs,
            pid: container.pid.unwrap_or(0),
            exit_code: container.exit_status.unwrap_or(0),
        },
        // As Docker, which had links once.
        name: format!("/{}", container.name),
        host_config: HostConfig {
            network_mode: container.network.clone(),
        },
        network_settings: network_settings(&container, runs),
        id: container.id,
        config: Config {
            hostname: container.hostname,
            cmd: container.command,
            labels: container.labels,
        },
    }
}

/// One that has ended keeps its networks, and no address on them.
fn network_settings(container: &ContainerView, runs: bool) -> NetworkSettings {
    let mut ports: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for port in &container.publish {
        let name = format!("{}/{}", port.container, protocol_name(port.protocol));
        ports.entry(name).or_default().push(Binding {
            host_ip: port.address,
            host_port: port.host.map_or_else(String::new, |host| host.to_string()),
        });
    }
    let places = container.networks.iter();
    let places: Vec<_> = places
        .map(|e| (e.network.clone(), place(e, runs)))
        .collect();
    let first = places.first().map(|(_, place)| place.clone());
    NetworkSettings {
        ports,
        gateway: first
            .as_ref()
            .map_or_else(String::new, |p| p.gateway.clone()),
        ip_address: first
            .as_ref()
            .map_or_else(String::new, |p| p.ip_address.clone()),
        ip_prefix_len: first.as_ref().map_or(0, |p| p.ip_prefix_len),
        mac_address: first.map_or_else(String::new, |p| p.mac_address),
        networks: places.into_iter().collect(),
    }
}

fn place(endpoint: &EndpointView, runs: bool) -> Place {
    let running = |text: String| if runs { text } else { String::new() };
    Place {
        ipam_config: None,
        links: None,
        aliases: endpoint.aliases.clone(),
        network_id: endpoint.network_id.clone(),
        endpoint_id: running(endpoint.id.clone()),
        gateway: running(endpoint.gateway.to_string()),
        ip_address: running(endpoint.address.addr().to_string()),
        ip_prefix_len: if runs {
            endpoint.address.prefix_len()
        } else {
            0
        },
        ipv6_gateway: "",
        global_ipv6_address: "",
        global_ipv6_prefix_len: 0,
        mac_address: running(endpoint.mac.clone()),
        driver_opts: None,
    }
}
