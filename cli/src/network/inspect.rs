//! `network inspect`: Docker's JSON, its keys in Docker's order.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use pontoon_engine::config::OffloadMode;
use pontoon_engine::control::api::{ContainerView, Labels, NetworkView, Reply, Request};
use serde::Serialize;

use super::format::Format;
use super::time;
use crate::client::{Client, Failure};

/// The driver, in Docker's words.
pub(super) const DRIVER: &str = "bridge";
/// The scope, in Docker's words.
pub(super) const SCOPE: &str = "local";

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Network {
    name: String,
    id: String,
    created: String,
    scope: &'static str,
    driver: &'static str,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_from: ConfigFrom,
    config_only: bool,
    containers: BTreeMap<String, Member>,
    options: BTreeMap<String, String>,
    labels: Labels,
    /// What Docker's networks have not.
    pontoon: Own,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ipam {
    driver: &'static str,
    options: BTreeMap<String, String>,
    config: [Pool; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Pool {
    subnet: IpNet,
    #[serde(rename = "IPRange", skip_serializing_if = "Option::is_none")]
    ip_range: Option<IpNet>,
    gateway: IpAddr,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    auxiliary_addresses: BTreeMap<String, IpAddr>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigFrom {
    network: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Member {
    name: String,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    mac_address: String,
    #[serde(rename = "IPv4Address")]
    ipv4_address: IpNet,
    #[serde(rename = "IPv6Address")]
    ipv6_address: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Own {
    uplink: String,
    mtu: u16,
    host_interface: Option<String>,
    host_loopback: Option<IpAddr>,
    offload: OffloadMode,
}

/// `network inspect`.
pub(super) fn networks(
    client: &Client,
    names: Vec<String>,
    format: Option<&str>,
) -> Result<u8, Failure> {
    let format = format.map(Format::parse).transpose()?;
    let Reply::Containers(containers) = client.ask(&Request::Containers)? else {
        return Err(Failure::unexpected());
    };
    let asked = names.into_iter().map(|name| Request::Network { name });
    inspect(client, asked, format.as_ref(), |reply| match reply {
        Reply::Network(network) => Some(shown(network, &containers)),
        _ => None,
    })
}

/// Shows what is asked for, one after the other, goes on after one that is not there, and tells of it.
/// `shown` makes of a reply what is shown, if it is of the right kind.
pub(crate) fn inspect<T: Serialize>(
    client: &Client,
    asked: impl Iterator<Item = Request>,
    format: Option<&Format>,
    shown: impl Fn(Reply) -> Option<T>,
) -> Result<u8, Failure> {
    let (mut found, mut code) = (Vec::new(), 0);
    for request in asked {
        match client.ask(&request) {
            Ok(reply) => found.push(shown(reply).ok_or_else(Failure::unexpected)?),
            Err(error) => {
                eprintln!("pontoon: {error}");
                code = 1;
            }
        }
    }
    match format {
        None => println!("{}", pretty(&found)?),
        Some(format) => {
            for one in &found {
                println!("{}", format.fill(one)?);
            }
        }
    }
    Ok(code)
}

/// JSON, indented as Docker does.
fn pretty(value: &impl Serialize) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value
        .serialize(&mut serializer)
        .map_err(std::io::Error::from)?;
    String::from_utf8(bytes).map_err(|error| Failure::own("JSON", error))
}

fn shown(network: NetworkView, containers: &[ContainerView]) -> Network {
    Network {
        created: time::rfc3339(network.created_nanos),
        scope: SCOPE,
        driver: DRIVER,
        enable_ipv6: false,
        ipam: Ipam {
            driver: "default",
            options: BTreeMap::new(),
            config: [Pool {
                subnet: network.subnet,
                ip_range: network.ip_range,
                gateway: network.gateway,
                auxiliary_addresses: network.aux_addresses.clone(),
            }],
        },
        internal: network.internal,
        attachable: false,
        ingress: false,
        config_from: ConfigFrom::default(),
        config_only: false,
        containers: members(&network.name, containers).collect(),
        pontoon: Own {
            uplink: network.uplink,
            mtu: network.mtu,
            host_interface: network.host_interface,
            host_loopback: network.host_loopback,
            offload: network.offload,
        },
        name: network.name,
        id: network.id,
        options: network.options,
        labels: network.labels,
    }
}

/// The containers that run on a network, by their ids.
fn members<'a>(
    network: &'a str,
    containers: &'a [ContainerView],
) -> impl Iterator<Item = (String, Member)> + 'a {
    let running = containers.iter().filter(|c| c.exit_status.is_none());
    running.filter_map(move |container| {
        let mut places = container.networks.iter();
        let place = places.find(|place| place.network == network)?;
        let member = Member {
            name: container.name.clone(),
            endpoint_id: place.id.clone(),
            mac_address: place.mac.clone(),
            ipv4_address: place.address,
            ipv6_address: String::new(),
        };
        Some((container.id.clone(), member))
    })
}
