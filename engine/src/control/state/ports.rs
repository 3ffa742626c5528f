//! Published ports.

use std::net::{IpAddr, Ipv4Addr};

use super::choice::{Choice, Holders, HostPorts};
use super::{Container, Endpoint, Network, Phase, State};
use crate::config::PortId;
use crate::control::Invalid;
use crate::control::publish::{PublishRange, PublishSpec, protocol_name};

const FIELD: &str = "publish";

impl State {
    /// Publishes ports of a container that runs, all of them or none. Returns them with the host's
    /// ports chosen.
    ///
    /// # Errors
    /// There is no such container, it has ended, or one of the ports cannot be had.
    pub fn publish(
        &mut self,
        name: &str,
        wanted: &[PublishRange],
        host: &mut impl HostPorts,
    ) -> Result<Vec<PublishSpec>, Invalid> {
        let container = self.running_container(name)?;
        let chosen = self.choose_ports(container, wanted, host)?;
        let leading = self.leading(container).map(|endpoint| endpoint.port);
        let name = container.name.clone();
        let places = self.containers.get_mut(&name).map(|c| &mut c.endpoints);
        let mut places = places.into_iter().flatten();
        if let Some(endpoint) = places.find(|e| Some(e.port) == leading) {
            endpoint.publish.extend(chosen.iter().cloned());
        }
        Ok(chosen)
    }

    /// Takes published ports of a container back, all of them or none. Returns what they were.
    ///
    /// # Errors
    /// There is no such container, or it has not published one of them.
    pub fn unpublish(
        &mut self,
        name: &str,
        wanted: &[PublishRange],
    ) -> Result<Vec<PublishSpec>, Invalid> {
        let container = self.running_container(name)?;
        let name = container.name.clone();
        let every = wanted
            .iter()
            .flat_map(|range| range.ports(Ipv4Addr::UNSPECIFIED));
        let wanted: Vec<_> = every.collect();
        let missing = |port: &&PublishSpec| {
            let mut had = container.publish().chain(&container.waiting);
            !had.any(|p| covers(port, p))
        };
        if let Some(port) = wanted.iter().find(missing) {
            let host = port
                .host
                .map_or_else(String::new, |host| format!("{host}:"));
            let at = format!("{host}{}/{}", port.container, protocol_name(port.protocol));
            let what = format!("{at} on {} is not published by {name}", port.address);
            return Err(Invalid::missing("port", what));
        }
        Ok(self.retract(&name, |port| wanted.iter().any(|w| covers(w, port))))
    }

    /// Takes those of a container's ports back of which `goes` says so. Returns what they were.
    pub fn retract(&mut self, name: &str, goes: impl Fn(&PublishSpec) -> bool) -> Vec<PublishSpec> {
        let Some(container) = self.containers.get_mut(name) else {
            return Vec::new();
        };
        let lists = container.endpoints.iter_mut().map(|e| &mut e.publish);
        let lists = lists.chain([&mut container.waiting]);
        let gone = lists.flat_map(|list| list.extract_if(.., |port| goes(port)));
        gone.collect()
    }

    /// The place that a container's published ports lead to; `None` where nobody outside could reach them.
    pub fn reached<'a>(&self, container: &'a Container) -> Option<&'a Endpoint> {
        let leading = self.leading(container)?;
        let network = self.network(&leading.network).ok()?;
        network.uplink.reaches_outside().then_some(leading)
    }

    /// Lets ports lead to the place with this port, or wait.
    pub fn put_ports(&mut self, name: &str, place: Option<PortId>, ports: &[PublishSpec]) {
        let Some(container) = self.containers.get_mut(name) else {
            return;
        };
        let at = |endpoint: &&mut Endpoint| Some(endpoint.port) == place;
        match container.endpoints.iter_mut().find(at) {
            Some(endpoint) => endpoint.publish.extend_from_slice(ports),
            None => container.waiting.extend_from_slice(ports),
        }
    }

    /// Claims ports of the host's again that a container has had.
    ///
    /// # Errors
    /// Somebody else has one of them.
    pub fn claim_again(
        &self,
        ports: &[PublishSpec],
        host: &mut impl HostPorts,
    ) -> Result<(), Invalid> {
        Choice::new(self.holders()).take(ports, host)
    }

    /// The network that a container's ports lead to: one that is not internal.
    fn reachable(&self, container: &Container) -> Result<&Network, Invalid> {
        let Some(Endpoint { network, .. }) = self.leading(container) else {
            let what = format!(
                "{} has no network that a port could lead to",
                container.name
            );
            return Err(Invalid::new(FIELD, what));
        };
        let leading = self.network(network)?;
        if leading.uplink.reaches_outside() {
            return Ok(leading);
        }
        let others = self.networks().filter(|n| n.uplink.reaches_outside());
        let others: Vec<_> = others.map(|n| n.name.as_str()).collect();
        let use_instead = match &others[..] {
            [] => "publish on a network that is made with the uplink user".to_owned(),
            names => format!("publish on one with an uplink: {}", names.join(", ")),
        };
        let what = format!(
            "network {network} has no uplink, so nobody outside could reach the port; {use_instead}"
        );
        Err(Invalid::new(FIELD, what))
    }

    /// Claims the host's ports for a container, and chooses those that were left open.
    pub(super) fn choose_ports(
        &self,
        container: &Container,
        wanted: &[PublishRange],
        host: &mut impl HostPorts,
    ) -> Result<Vec<PublishSpec>, Invalid> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let binding = self.reachable(container)?.driver.host_binding;
        let addresses = wanted.iter().filter_map(|range| range.address);
        if let Some(address) = addresses.into_iter().find(IpAddr::is_ipv6) {
            let what = format!(
                "[{address}]: IPv6 is not forwarded to containers; publish on an IPv4 address"
            );
            return Err(Invalid::new(FIELD, what));
        }
        let mut choice = Choice::new(self.holders());
        for range in wanted {
            let ports: Vec<_> = range.ports(binding).collect();
            match range.host {
                Some(_) => choice.take(&ports, host)?,
                None => choice.take_any(&ports, host)?,
            }
        }
        Ok(choice.chosen())
    }

    fn holders(&self) -> Holders<'_> {
        let mut holders = Holders::default();
        for container in self.containers.values() {
            if container.phase == Phase::Running {
                let ports = container.publish();
                ports.for_each(|port| holders.add(port, &container.name));
            }
        }
        holders
    }

    pub(super) fn running_container(&self, name: &str) -> Result<&Container, Invalid> {
        let container = self.container(name)?;
        match container.phase {
            Phase::Running => Ok(container),
            Phase::Exited(_) => {
                let what = format!("{}: the container has ended already", container.name);
                Err(Invalid::conflict("", what))
            }
        }
    }
}

/// Whether `port` is what `wanted` asks for.
fn covers(wanted: &PublishSpec, port: &PublishSpec) -> bool {
    wanted.protocol == port.protocol
        && wanted.container == port.container
        && (wanted.host.is_none() || wanted.host == port.host)
        && (wanted.address.is_unspecified() || wanted.address == port.address)
}
