//! Networks and containers.
//!
//! Every operation checks first and changes afterwards; what it reserves it can give back
//! ([`State::forget`], [`State::remove_network`]), so that the shell can undo what it could not carry
//! out.

mod addressing;
mod change;
mod choice;
mod containers;
mod endpoints;
mod modes;
#[cfg(test)]
mod network_tests;
mod networks;
mod ports;
mod snapshot;
#[cfg(test)]
mod tests;
mod tracked;

use std::collections::BTreeMap;

pub use change::{Change, Difference, Keyed};
pub use choice::{FreePorts, HostPorts, Stopped, Unclaimed};
pub use containers::{Container, ContainerNumber, Phase};
pub use endpoints::Endpoint;
pub use networks::{HostPort, Network, UplinkSpec};
pub use snapshot::{Damage, SCHEMA, Snapshot};

use crate::config::PortId;
use tracked::Tracked;

/// The network that containers join when they name none.
pub const DEFAULT_NETWORK: &str = "bridge";

/// All networks and containers.
#[derive(Clone, Debug, Default)]
pub struct State {
    networks: BTreeMap<String, Network>,
    containers: Tracked<Container>,
    last_network: u32,
    last_container: u32,
    last_port: u32,
}

impl State {
    /// A number for a port that no container has, or will have.
    pub fn next_port(&mut self) -> PortId {
        self.last_port += 1;
        PortId(self.last_port)
    }
}
