//! Published ports.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Container, Phase, State};
use crate::control::Invalid;
use crate::control::publish::{PublishRange, PublishSpec, protocol_name};

/// Ephemeral ports for `-p` without a host port start here; Linux `ip_local_port_range`.
const FIRST_EPHEMERAL: u16 = 32_768;
const FIELD: &str = "--publish";

/// Why a port of the host's cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unclaimed {
    /// Somebody else has it.
    Taken,
    /// It cannot be had at all.
    Refused(String),
}

/// How far a claim came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// How many ports were claimed before the one that cannot be had.
    pub at: usize,
    /// Why that one cannot.
    pub why: Unclaimed,
}

/// The host's ports, as far as something has to be done to have one.
pub trait HostPorts {
    /// Takes ports, whose numbers are chosen, one after the other up to the first that cannot be had.
    ///
    /// # Errors
    /// There is such a one. Those before it are claimed.
    fn claim(&mut self, ports: &[PublishSpec]) -> Result<(), Stopped>;

    /// Who has a port that is taken, for an error message.
    fn holder(&self, port: &PublishSpec) -> String;
}

/// Nothing has to be done.
#[derive(Clone, Copy, Debug)]
pub struct FreePorts;

impl HostPorts for FreePorts {
    fn claim(&mut self, _: &[PublishSpec]) -> Result<(), Stopped> {
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
        let mut choice = Choice {
            holders: self.holders(),
            next_open: FIRST_EPHEMERAL.into(),
            chosen: Vec::new(),
        };
        for range in wanted {
            let ports: Vec<_> = range.ports().collect();
            match range.host {
                Some(_) => choice.take(&ports, host)?,
                None => choice.take_any(&ports, host)?,
            }
        }
        Ok(choice.chosen)
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

/// The ports that are being chosen.
struct Choice<'a> {
    holders: Holders<'a>,
    /// Where the next number for a port that was left open is looked for.
    next_open: u32,
    chosen: Vec<PublishSpec>,
}

impl Choice<'_> {
    /// Claims ports whose numbers were asked for.
    fn take(&mut self, ports: &[PublishSpec], host: &mut impl HostPorts) -> Result<(), Invalid> {
        let held = |port| Some((port, self.holders.of(port)?));
        if let Some((port, holder)) = ports.iter().find_map(held) {
            let why = format!("port is already allocated to {holder}");
            return Err(bind_failed(port, &why));
        }
        host.claim(ports)
            .map_err(|Stopped { at, why }| match (why, &ports[at]) {
                (Unclaimed::Taken, port) => {
                    let why = format!("address already in use by {}", host.holder(port));
                    bind_failed(port, &why)
                }
                (Unclaimed::Refused(why), port) => bind_failed(port, &why),
            })?;
        self.note(ports);
        Ok(())
    }

    /// Claims ports that were left open, with the first numbers that can be had.
    fn take_any(
        &mut self,
        ports: &[PublishSpec],
        host: &mut impl HostPorts,
    ) -> Result<(), Invalid> {
        let mut left = ports;
        while !left.is_empty() {
            let tried = self.candidates(left);
            if tried.len() < left.len() {
                return Err(Invalid::new(FIELD, "no ephemeral port is free"));
            }
            let had = match host.claim(&tried) {
                Ok(()) => tried.len(),
                Err(Stopped { at, why }) => match why {
                    Unclaimed::Taken => at,
                    Unclaimed::Refused(why) => return Err(bind_failed(&tried[at], &why)),
                },
            };
            let last = tried.get(had).or(tried.last()).and_then(|port| port.host);
            self.next_open = last.map_or(self.next_open, |last| u32::from(last) + 1);
            self.note(&tried[..had]);
            left = &left[had..];
        }
        Ok(())
    }

    /// The next numbers that nobody here has, for as many of these ports as there are.
    fn candidates(&self, ports: &[PublishSpec]) -> Vec<PublishSpec> {
        let mut numbers = (self.next_open..).map_while(|number| u16::try_from(number).ok());
        let free = |port: &PublishSpec| {
            let at = |number| PublishSpec {
                host: Some(number),
                ..port.clone()
            };
            let candidates = &mut numbers.by_ref().map(at);
            candidates.find(|port| self.holders.of(port).is_none())
        };
        ports.iter().map_while(free).collect()
    }

    fn note(&mut self, ports: &[PublishSpec]) {
        for port in ports {
            self.holders.add(port, "this container");
            self.chosen.push(port.clone());
        }
    }
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
