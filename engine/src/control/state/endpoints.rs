//! Containers' places on networks.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use pontoon_packet::MacAddr;
use serde::{Deserialize, Serialize};

use super::networks::no_such_network;
use super::snapshot::{hardware, port_id};
use super::{Container, Network, Phase, State};
use crate::config::PortId;
use crate::control::Invalid;
use crate::control::address::Allocator;
use crate::control::api::{EndpointSpec, EndpointView};
use crate::control::name::{check_name, derived_id, interface_name};
use crate::control::naming::check_aliases;
use crate::control::publish::PublishSpec;

/// Longest name of an interface (`IFNAMSIZ` of Linux `if.h`, without the end), in bytes.
const MAX_IFNAME: usize = 15;

/// A container's place on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// 64 digits.
    pub id: String,
    /// Name of the network.
    pub network: String,
    /// Its port.
    #[serde(with = "port_id")]
    pub port: PortId,
    /// Name of the interface inside.
    pub ifname: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its hardware address.
    #[serde(with = "hardware")]
    pub mac: MacAddr,
    /// Names by which others of the network find the container, besides its own.
    pub aliases: Vec<String>,
    /// Published ports that lead here, host ports chosen.
    pub publish: Vec<PublishSpec>,
}

impl Endpoint {
    /// Name of the engine's end of its interface.
    pub fn host_ifname(&self) -> String {
        interface_name(&self.id)
    }
}

impl State {
    /// The place that a container's default route and published ports lead by: the first one whose
    /// network has a way out, or the first one of all.
    pub fn leading<'a>(&self, container: &'a Container) -> Option<&'a Endpoint> {
        let networks = container.endpoints.iter().map(|e| e.network.as_str());
        container.endpoint(self.lead(networks)?)
    }

    /// The network of the place that will lead.
    ///
    /// # Errors
    /// It is not there.
    pub fn leading_network(&self, wanted: &[EndpointSpec]) -> Result<Option<&Network>, Invalid> {
        let networks = wanted.iter().map(|spec| spec.network.as_str());
        let leading = self.lead(networks);
        leading.map(|name| self.network(name)).transpose()
    }

    fn lead<'a>(&self, mut networks: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
        let has_way_out = |name: &&str| {
            let network = self.network(name);
            network.is_ok_and(Network::has_way_out)
        };
        let first = networks.clone().next();
        networks.find(has_way_out).or(first)
    }

    /// The places that running containers have on a network, by the containers' names.
    pub fn endpoints_on<'a>(
        &'a self,
        network: &'a str,
    ) -> impl Iterator<Item = (&'a Container, &'a Endpoint)> {
        let running = self
            .containers
            .values()
            .filter(|c| c.phase == Phase::Running);
        running.filter_map(move |c| Some((c, c.endpoint(network)?)))
    }

    /// The running container whose port that is, and its place there.
    pub fn endpoint_at(&self, port: PortId) -> Option<(&Container, &Endpoint)> {
        let running = |c: &&Container| c.phase == Phase::Running;
        let at = |c: &'_ Container| c.endpoints.iter().position(|e| e.port == port);
        let mut all = self.containers.values().filter(running);
        all.find_map(|c| Some((c, &c.endpoints[at(c)?])))
    }

    /// Reserves a place for a container that has others already.
    pub(super) fn reserve(
        &mut self,
        container: &Container,
        spec: &EndpointSpec,
    ) -> Result<Endpoint, Invalid> {
        let network = self.network(&spec.network)?;
        let ifname = choose_ifname(container, network, spec.ifname.as_deref())?;
        let network = network.name.clone();
        if container.endpoint(&network).is_some() {
            let what = format!(
                "endpoint with name {} already exists in network {network}",
                container.name
            );
            return Err(Invalid::conflict("", what));
        }
        check_aliases(&spec.aliases, &network)?;
        let wanted_mac = spec.mac.as_deref();
        let wanted_mac = wanted_mac
            .map(|text| self.check_mac(&network, text))
            .transpose()?;
        let address = self.choose_address(&network, spec.ip, wanted_mac)?;
        let port = self.next_port();
        Ok(Endpoint {
            id: derived_id(&container.id, port.0),
            network,
            port,
            ifname,
            address,
            mac: wanted_mac.unwrap_or(MacAddr::for_ipv4(address)),
            aliases: spec.aliases.clone(),
            publish: Vec::new(),
        })
    }

    /// Reserves one more place for a container that runs.
    ///
    /// # Errors
    /// There is no such container or network, it is on that network already, or what it asks for cannot
    /// be had.
    pub fn connect(&mut self, name: &str, spec: &EndpointSpec) -> Result<Endpoint, Invalid> {
        let container = self.running_container(name)?.clone();
        container.check_own_namespace()?;
        let endpoint = self.reserve(&container, spec)?;
        if let Some(container) = self.containers.get_mut(&container.name) {
            container.endpoints.push(endpoint.clone());
        }
        Ok(endpoint)
    }

    /// Takes a container's place on a network away, with the ports that lead there. Returns what it was.
    ///
    /// # Errors
    /// There is no such container or network, or it is not there.
    pub fn disconnect(&mut self, name: &str, network: &str) -> Result<Endpoint, Invalid> {
        let network = self.network(network)?.name.clone();
        let container = self.container(name)?;
        let (name, id) = (container.name.clone(), container.id.clone());
        let on = |e: &mut Endpoint| e.network == network;
        let places = self.containers.get_mut(&name).map(|c| &mut c.endpoints);
        let gone = places.and_then(|places| places.extract_if(.., on).next());
        let endpoint = gone.ok_or_else(|| {
            let what = format!("container {id} is not connected to network {network}");
            Invalid::missing("", what)
        })?;
        if self.container(&name)?.runs() {
            self.release(std::slice::from_ref(&endpoint));
        }
        Ok(endpoint)
    }

    /// Gives back what places had reserved.
    pub(super) fn release(&mut self, endpoints: &[Endpoint]) {
        for endpoint in endpoints {
            if let Some(network) = self.networks.get_mut(&endpoint.network) {
                network.addresses.release(endpoint.address);
            }
        }
    }

    pub(super) fn endpoint_view(
        &self,
        container: &Container,
        endpoint: &Endpoint,
    ) -> Result<EndpointView, Invalid> {
        let network = self.network(&endpoint.network)?;
        let address = IpNet::new(endpoint.address.into(), network.subnet.prefix_len());
        let leading = self.leading(container);
        Ok(EndpointView {
            id: endpoint.id.clone(),
            network: endpoint.network.clone(),
            network_id: network.id.clone(),
            ifname: endpoint.ifname.clone(),
            address: address.map_err(|_| Invalid::new("", "impossible prefix"))?,
            gateway: network.gateway.into(),
            leads: leading.is_some_and(|leading| leading.port == endpoint.port),
            host_loopback: network.host_loopback.map(IpAddr::V4),
            mac: endpoint.mac.to_string(),
            mtu: network.mtu,
            aliases: endpoint.aliases.clone(),
            publish: endpoint.publish.clone(),
            port: endpoint.port.0,
        })
    }

    /// Reserves the address that was asked for, or the next one whose hardware address nobody has.
    fn choose_address(
        &mut self,
        network: &str,
        wanted: Option<IpAddr>,
        wanted_mac: Option<MacAddr>,
    ) -> Result<Ipv4Addr, Invalid> {
        let held = self.macs(network);
        let network = self
            .networks
            .get_mut(network)
            .ok_or_else(|| no_such_network(network))?;
        let is_free = |address| wanted_mac.is_some() || !held.contains(&MacAddr::for_ipv4(address));
        let address = match wanted {
            Some(address) => network.addresses.take(address)?,
            None => return allocate(&mut network.addresses, is_free),
        };
        if is_free(address) {
            return Ok(address);
        }
        network.addresses.release(address);
        let what = format!(
            "{address}: its hardware address {} is in use already; give another one",
            MacAddr::for_ipv4(address)
        );
        Err(Invalid::conflict("ip", what))
    }

    fn check_mac(&self, network: &str, text: &str) -> Result<MacAddr, Invalid> {
        let invalid = |why: &str| Invalid::new("mac", format!("{}: {why}", text.escape_default()));
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
    fn macs(&self, network: &str) -> Vec<MacAddr> {
        let gateway = self.networks.get(network).map(Network::gateway_mac);
        let containers = self.endpoints_on(network).map(|(_, e)| e.mac);
        gateway.into_iter().chain(containers).collect()
    }
}

/// The name that was asked for, or the first that the container has no interface of.
fn choose_ifname(
    container: &Container,
    network: &Network,
    wanted: Option<&str>,
) -> Result<String, Invalid> {
    let is_free = |name: &str| container.endpoints.iter().all(|e| e.ifname != name);
    let Some(name) = wanted else {
        let mut names = (0..).map(|number| network.interface(number));
        return names
            .find(|name| is_free(name))
            .ok_or_else(|| Invalid::new("ifname", "no name is left"));
    };
    check_name("ifname", name)?;
    let what = match name.len() {
        ..=MAX_IFNAME if is_free(name) => return Ok(name.to_owned()),
        ..=MAX_IFNAME => format!("{name}: the container has an interface of that name"),
        _ => format!("interface names have at most {MAX_IFNAME} characters"),
    };
    Err(Invalid::new("ifname", what))
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
