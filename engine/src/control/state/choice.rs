//! Choosing ports of the host's, and claiming them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::control::Invalid;
use crate::control::publish::{PublishSpec, protocol_name};

/// Ephemeral ports for `-p` without a host port start here; Linux `ip_local_port_range`.
const FIRST_EPHEMERAL: u32 = 32_768;
const FIELD: &str = "publish";

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
pub(super) struct Holders<'a>(BTreeMap<(u8, u16), Vec<(IpAddr, &'a str)>>);

impl<'a> Holders<'a> {
    pub(super) fn add(&mut self, port: &PublishSpec, name: &'a str) {
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

/// The ports that are being chosen.
pub(super) struct Choice<'a> {
    holders: Holders<'a>,
    /// Where the next number for a port that was left open is looked for.
    next_open: u32,
    chosen: Vec<PublishSpec>,
}

impl<'a> Choice<'a> {
    pub(super) const fn new(holders: Holders<'a>) -> Self {
        Self {
            holders,
            next_open: FIRST_EPHEMERAL,
            chosen: Vec::new(),
        }
    }

    /// What was claimed, in this order.
    pub(super) fn chosen(self) -> Vec<PublishSpec> {
        self.chosen
    }

    /// Claims ports whose numbers were asked for.
    pub(super) fn take(
        &mut self,
        ports: &[PublishSpec],
        host: &mut impl HostPorts,
    ) -> Result<(), Invalid> {
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
    pub(super) fn take_any(
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
    Invalid::conflict(FIELD, what)
}
