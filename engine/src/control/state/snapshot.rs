//! The state as it outlives an engine.
//!
//! A snapshot is the state's own values under a schema number. Restoring one checks whatever the state
//! itself would have seen to: a snapshot that contradicts itself is refused as a whole, since half of it
//! would be a state that nobody has asked for.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Container, Network, Phase, State};
use crate::control::address::overlaps;
use crate::control::publish::{PublishSpec, protocol_name};

/// Number of the snapshot's shape. Whoever changes what [`Network`], [`Container`] or what they hold is
/// made of, counts it up, unless files that were written before mean what they did.
pub const SCHEMA: u32 = 2;

/// All networks and containers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    pub(super) networks: Vec<Network>,
    pub(super) containers: Vec<Container>,
    pub(super) last_network: u32,
    pub(super) last_container: u32,
    pub(super) last_port: u32,
}

/// Why a snapshot is not restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Something that there can be only one of is there twice.
    Twice {
        /// What.
        what: &'static str,
        /// Which.
        which: String,
    },
    /// A number is above the last one that was given.
    NeverGiven {
        /// Whose.
        name: String,
    },
    /// A container's network is not there.
    NoNetwork {
        /// The container.
        container: String,
        /// The network.
        network: String,
    },
    /// A running container does not hold its address.
    NoAddress {
        /// The container.
        container: String,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Twice { what, which } => write!(f, "the {what} {which} is there twice"),
            Self::NeverGiven { name } => write!(f, "{name} has a number that was never given"),
            Self::NoNetwork { container, network } => {
                write!(
                    f,
                    "container {container} is on network {network}, which is not there"
                )
            }
            Self::NoAddress { container } => {
                write!(f, "container {container} does not hold its address")
            }
        }
    }
}

impl std::error::Error for Damage {}

impl State {
    /// Everything that an engine after this one has to know.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            networks: self.networks.values().cloned().collect(),
            containers: self.containers.values().cloned().collect(),
            last_network: self.last_network,
            last_container: self.last_container,
            last_port: self.last_port,
        }
    }

    /// The state of which a snapshot was made.
    ///
    /// # Errors
    /// It contradicts itself.
    pub fn restore(snapshot: Snapshot) -> Result<Self, Damage> {
        check_networks(&snapshot)?;
        check_containers(&snapshot)?;
        let networks = snapshot.networks.into_iter();
        let containers = snapshot.containers.into_iter();
        let state = Self {
            networks: networks.map(|n| (n.name.clone(), n)).collect(),
            containers: containers.map(|c| (c.name.clone(), c)).collect(),
            last_network: snapshot.last_network,
            last_container: snapshot.last_container,
            last_port: snapshot.last_port,
        };
        for container in state.containers.values() {
            state.check_places(container)?;
        }
        Ok(state)
    }

    fn check_places(&self, container: &Container) -> Result<(), Damage> {
        let name = || container.name.clone();
        for endpoint in &container.endpoints {
            let network = self.networks.get(&endpoint.network);
            let network = network.ok_or_else(|| Damage::NoNetwork {
                container: name(),
                network: endpoint.network.clone(),
            })?;
            let runs = container.phase == Phase::Running;
            if runs && !network.addresses.holds(endpoint.address) {
                return Err(Damage::NoAddress { container: name() });
            }
        }
        Ok(())
    }
}

fn check_networks(snapshot: &Snapshot) -> Result<(), Damage> {
    let networks = &snapshot.networks;
    once("network", networks.iter().map(|n| &n.name))?;
    once("network number", networks.iter().map(|n| n.number.0))?;
    for (nth, network) in networks.iter().enumerate() {
        if network.number.0 > snapshot.last_network {
            let name = network.name.clone();
            return Err(Damage::NeverGiven { name });
        }
        let mut before = networks[..nth].iter();
        if before.any(|other| overlaps(&other.subnet.into(), &network.subnet.into())) {
            return Err(Damage::Twice {
                what: "subnet",
                which: network.subnet.to_string(),
            });
        }
    }
    Ok(())
}

fn check_containers(snapshot: &Snapshot) -> Result<(), Damage> {
    let containers = &snapshot.containers;
    let places = || containers.iter().flat_map(|c| &c.endpoints);
    let running = containers.iter().filter(|c| c.phase == Phase::Running);
    let running: Vec<_> = running.flat_map(|c| &c.endpoints).collect();
    once("container", containers.iter().map(|c| &c.name))?;
    once("id", containers.iter().map(|c| &c.id))?;
    once("container number", containers.iter().map(|c| c.number.0))?;
    once("port", places().map(|e| e.port.0))?;
    let published = running.iter().flat_map(|e| &e.publish);
    let published = published.filter(|port| port.host.is_some());
    once("published port", published.map(host_side))?;
    let addresses = running
        .iter()
        .map(|e| format!("{} on {}", e.address, e.network));
    once("address", addresses)?;
    let macs = running
        .iter()
        .map(|e| format!("{} on {}", e.mac, e.network));
    once("hardware address", macs)?;
    let given = |c: &Container| {
        let mut ports = c.endpoints.iter().map(|e| e.port.0);
        c.number.0 <= snapshot.last_container && ports.all(|port| port <= snapshot.last_port)
    };
    match containers.iter().find(|c| !given(c)) {
        Some(container) => Err(Damage::NeverGiven {
            name: container.name.clone(),
        }),
        None => Ok(()),
    }
}

/// What there can be only one of, of a published port.
fn host_side(port: &PublishSpec) -> String {
    let number = port.host.unwrap_or_default();
    let protocol = protocol_name(port.protocol);
    format!("{}:{number}/{protocol}", port.address)
}

fn once(what: &'static str, all: impl Iterator<Item = impl fmt::Display>) -> Result<(), Damage> {
    let mut seen = BTreeSet::new();
    for which in all.map(|thing| thing.to_string()) {
        if seen.contains(&which) {
            return Err(Damage::Twice { what, which });
        }
        seen.insert(which);
    }
    Ok(())
}

/// Numbers of ports, as what they are.
pub(super) mod port_id {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::config::PortId;

    pub(in super::super) fn serialize<S: Serializer>(
        port: &PortId,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_u32(port.0)
    }

    pub(in super::super) fn deserialize<'a, D: Deserializer<'a>>(
        from: D,
    ) -> Result<PortId, D::Error> {
        u32::deserialize(from).map(PortId)
    }
}

/// Hardware addresses, as they are shown.
pub(super) mod hardware {
    use pontoon_packet::MacAddr;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(
        mac: &MacAddr,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(mac)
    }

    pub(in super::super) fn deserialize<'a, D: Deserializer<'a>>(
        from: D,
    ) -> Result<MacAddr, D::Error> {
        let text = String::deserialize(from)?;
        text.parse()
            .map_err(|_| Error::custom(format!("{text}: not a hardware address")))
    }
}
