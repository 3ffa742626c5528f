//! Published ports.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Container, Phase, State};
use crate::control::Invalid;
use crate::control::publish::{PublishRange, PublishSpec, protocol_name};

/// Ephemeral ports for `-p` without a host port start here; Linux `ip_local_port_range`.
const FIRST_EPHEMERAL: u16 = 32_768;
const FIELD: &str = "--publish";

/// Why a port of the host's cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unclaimed {
    /// Somebody else has it.
    Taken,
    /// It cannot be had at all.
    Refused(String),
}

/// The host's ports, as far as something has to be done to have one.
pub trait HostPorts {
    /// Takes a port, whose number is chosen.
    ///
    /// # Errors
    /// It cannot be had.
    fn claim(&mut self, port: &PublishSpec) -> Result<(), Unclaimed>;

    /// Who has a port that is taken, for an error message.
    fn holder(&self, port: &PublishSpec) -> String;
}

/// Nothing has to be done.
#[derive(Clone, Copy, Debug)]
pub struct FreePorts;

impl HostPorts for FreePorts {
    fn claim(&mut self, _: &PublishSpec) -> Result<(), Unclaimed> {
        Ok(())
    }

    fn holder(&self, _: &PublishSpec) -> String {
        String::new()
    }
}

/// Who has which port, by protocol and number.
#[derive(Default)]
struct Holders<'a>(BTreeMap<(u8, u16), Vec<(IpAddr, &'a str)>>);

impl<'a> Holders<'a> {
    fn add(&mut self, port: &PublishSpec, name: &'a str) {
        if let Some(number) = port.host {
            let same = self.0.entry((port.protocol, number)).or_default();
            same.push((port.address, name));
        }
    }

    fn of(&self, port: &PublishSpec) -> Option<&'a str> {
        let same = self.0.get(&(port.protocol, port.host?))?;
        let collides = |held: IpAddr| {
            held == port.address || held.is_unspecified() || port.address.is_unspecified()
        };
        same.iter()
            .find(|(held, _)| collides(*held))
            .map(|(_, name)| *name)
    }
}

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
        let (name, network) = (container.name.clone(), container.network.clone());
        let chosen = self.choose_ports(&network, wanted, host)?;
        if let Some(container) = self.containers.get_mut(&name) {
            container.publish.extend(chosen.iter().cloned());
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
        let wanted: Vec<_> = wanted.iter().flat_map(PublishRange::ports).collect();
        let missing = |port: &&PublishSpec| !container.publish.iter().any(|p| covers(port, p));
        if let Some(port) = wanted.iter().find(missing) {
            let host = port
                .host
                .map_or_else(String::new, |host| format!("{host}:"));
            let at = format!("{host}{}/{}", port.container, protocol_name(port.protocol));
            let what = format!("{at} on {} is not published by {name}", port.address);
            return Err(Invalid::new("PORT", what));
        }
        Ok(self.retract(&name, |port| wanted.iter().any(|w| covers(w, port))))
    }

    /// Takes those of a container's ports back of which `goes` says so. Returns what they were.
    pub fn retract(&mut self, name: &str, goes: impl Fn(&PublishSpec) -> bool) -> Vec<PublishSpec> {
        let container = self.containers.get_mut(name);
        let gone = container.map(|c| c.publish.extract_if(.., |port| goes(port)).collect());
        gone.unwrap_or_default()
    }

    /// Checks that ports may be published on a network: that it is not an internal one.
    fn check_reachable(&self, network: &str) -> Result<(), Invalid> {
        if self.network(network)?.uplink.reaches_outside() {
            return Ok(());
        }
        let others = self.networks().filter(|n| n.uplink.reaches_outside());
        let others: Vec<_> = others.map(|n| n.name.as_str()).collect();
        let use_instead = match &others[..] {
            [] => "publish on a network that is made with --uplink user".to_owned(),
            names => format!("publish on one with an uplink: {}", names.join(", ")),
        };
        let what = format!(
            "network {network} has no uplink, so nobody outside could reach the port; {use_instead}"
        );
        Err(Invalid::new(FIELD, what))
    }

    /// Claims the host's ports, and chooses those that were left open.
    pub(super) fn choose_ports(
        &self,
        network: &str,
        wanted: &[PublishRange],
        host: &mut impl HostPorts,
    ) -> Result<Vec<PublishSpec>, Invalid> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        self.check_reachable(network)?;
        if let Some(range) = wanted.iter().find(|range| range.address.is_ipv6()) {
            let what = format!("{}: only IPv4 addresses are supported", range.address);
            return Err(Invalid::new(FIELD, what));
        }
        let mut holders = self.holders();
        let mut ephemeral = FIRST_EPHEMERAL..=u16::MAX;
        let mut chosen = Vec::new();
        for port in wanted.iter().flat_map(PublishRange::ports) {
            let port = match port.host {
                Some(_) => claim(&holders, port, host)?,
                None => claim_any(&holders, &port, &mut ephemeral, host)?,
            };
            holders.add(&port, "this container");
            chosen.push(port);
        }
        Ok(chosen)
    }

    fn holders(&self) -> Holders<'_> {
        let mut holders = Holders::default();
        for container in self.containers.values() {
            if container.phase == Phase::Running {
                let ports = container.publish.iter();
                ports.for_each(|port| holders.add(port, &container.name));
            }
        }
        holders
    }

    fn running_container(&self, name: &str) -> Result<&Container, Invalid> {
        let container = self.container(name)?;
        match container.phase {
            Phase::Running => Ok(container),
            Phase::Exited(_) => {
                let what = format!("{}: the container has ended already", container.name);
                Err(Invalid::new("", what))
            }
        }
    }
}

/// Claims a port whose number was asked for.
fn claim(
    holders: &Holders<'_>,
    port: PublishSpec,
    host: &mut impl HostPorts,
) -> Result<PublishSpec, Invalid> {
    if let Some(holder) = holders.of(&port) {
        let why = format!("port is already allocated to {holder}");
        return Err(bind_failed(&port, &why));
    }
    match host.claim(&port) {
        Ok(()) => Ok(port),
        Err(Unclaimed::Taken) => {
            let why = format!("address already in use by {}", host.holder(&port));
            Err(bind_failed(&port, &why))
        }
        Err(Unclaimed::Refused(why)) => Err(bind_failed(&port, &why)),
    }
}

/// Claims the first of the `candidates` that can be had.
fn claim_any(
    holders: &Holders<'_>,
    port: &PublishSpec,
    candidates: &mut impl Iterator<Item = u16>,
    host: &mut impl HostPorts,
) -> Result<PublishSpec, Invalid> {
    for candidate in candidates {
        let port = PublishSpec {
            host: Some(candidate),
            ..port.clone()
        };
        if holders.of(&port).is_some() {
            continue;
        }
        match host.claim(&port) {
            Ok(()) => return Ok(port),
            Err(Unclaimed::Taken) => {}
            Err(Unclaimed::Refused(why)) => return Err(bind_failed(&port, &why)),
        }
    }
    Err(Invalid::new(FIELD, "no ephemeral port is free"))
}

fn bind_failed(port: &PublishSpec, why: &str) -> Invalid {
    let (address, number) = (port.address, port.host.unwrap_or_default());
    let protocol = protocol_name(port.protocol);
    let what = format!("Bind for {address}:{number}/{protocol} failed: {why}");
    Invalid::new(FIELD, what)
}

/// Whether `port` is what `wanted` asks for.
fn covers(wanted: &PublishSpec, port: &PublishSpec) -> bool {
    wanted.protocol == port.protocol
        && wanted.container == port.container
        && (wanted.host.is_none() || wanted.host == port.host)
        && (wanted.address.is_unspecified() || wanted.address == port.address)
}
