//! The systems that are compared, behind one interface.

mod kernel;
mod pontoon;

pub(crate) use pontoon::Engine;

use crate::error::{Error, Result};
use crate::lab::{Lab, OUTSIDE, SECOND};
use crate::netns::Netns;
use clap::ValueEnum;
use serde::Serialize;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

/// A network that carries packets between two endpoints.
pub(crate) trait System {
    /// Builds it, up to the point where its endpoints reach each other.
    fn build(&mut self) -> Result<()>;

    /// The two ends between which it is measured.
    fn endpoints(&self) -> Endpoints<'_>;

    /// The process that carries the packets, where the kernel does not do it.
    fn carrier(&self) -> Option<u32>;

    /// Ends it in an orderly way.
    fn teardown(&mut self) -> Result<()>;
}

/// The two ends of a measured path.
#[derive(Clone, Copy)]
pub(crate) struct Endpoints<'a> {
    /// Opens every connection.
    pub(crate) client: &'a Netns,
    /// Answers.
    pub(crate) server: &'a Netns,
    /// Where the client reaches the server.
    pub(crate) address: Ipv4Addr,
    /// How far the port that the client names lies above the one that the server listens on.
    pub(crate) shift: u16,
}

impl Endpoints<'_> {
    /// The port that the client names to reach `port` of the server.
    pub(crate) fn port(self, port: u16) -> u16 {
        port + self.shift
    }

    /// Where the client reaches `port` of the server.
    pub(crate) fn target(self, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, self.port(port))
    }
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SystemName {
    /// The kernel's bridge with one veth per container.
    KernelBridge,
    /// Pontoon, container to container.
    Pontoon,
    /// The kernel's bridge and router with nftables masquerade, container to outside.
    KernelNat,
    /// Pontoon with a device uplink, container to outside.
    PontoonNat,
}

/// The two ways through a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// From one container to another on the same bridge.
    Bridged,
    /// From a container to the outside host, with the host's address as the source.
    Masqueraded,
}

impl SystemName {
    /// Every system, a baseline in front of what is compared with it.
    pub(crate) const ALL: [Self; 4] = [
        Self::KernelBridge,
        Self::Pontoon,
        Self::KernelNat,
        Self::PontoonNat,
    ];

    /// The kernel's counterpart, for systems that are not the kernel's own.
    pub(crate) fn baseline(self) -> Option<Self> {
        match self {
            Self::Pontoon => Some(Self::KernelBridge),
            Self::PontoonNat => Some(Self::KernelNat),
            Self::KernelBridge | Self::KernelNat => None,
        }
    }

    /// The way through it that is measured.
    pub(crate) fn route(self) -> Route {
        match self {
            Self::KernelBridge | Self::Pontoon => Route::Bridged,
            Self::KernelNat | Self::PontoonNat => Route::Masqueraded,
        }
    }

    /// The name on the command line and in reports.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::KernelBridge => "kernel-bridge",
            Self::Pontoon => "pontoon",
            Self::KernelNat => "kernel-nat",
            Self::PontoonNat => "pontoon-nat",
        }
    }

    /// Prepares the system in a lab of its own.
    ///
    /// # Errors
    /// When a tool it needs is missing or namespaces cannot be made.
    pub(crate) fn prepare(self, pontoon: &Path) -> Result<Box<dyn System>> {
        let (lab, route) = (Lab::create()?, self.route());
        Ok(match self {
            Self::KernelBridge | Self::KernelNat => Box::new(kernel::Kernel::new(lab, route)?),
            Self::Pontoon | Self::PontoonNat => {
                let engine = Engine::new(pontoon, self.label())?;
                Box::new(pontoon::Pontoon::new(lab, route, engine))
            }
        })
    }
}

impl Lab {
    fn endpoints(&self, route: Route) -> Endpoints<'_> {
        let (server, address) = match route {
            Route::Bridged => (&self.second, SECOND),
            Route::Masqueraded => (&self.outside, OUTSIDE),
        };
        Endpoints {
            client: &self.first,
            server,
            address,
            shift: 0,
        }
    }
}

impl Error {
    /// The error of a system whose endpoints cannot reach each other.
    pub(crate) fn unreachable(system: SystemName, source: &Self) -> Self {
        Self::Failed {
            command: format!("first exchange through {}", system.label()),
            output: source.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_is_the_word_of_the_command_line_and_of_the_json() {
        for system in SystemName::ALL {
            let word = system.to_possible_value().unwrap().get_name().to_owned();
            assert_eq!(system.label(), word);
            assert_eq!(serde_json::to_value(system).unwrap(), word);
        }
    }

    #[test]
    fn baseline_carries_the_same_route() {
        for system in SystemName::ALL {
            if let Some(baseline) = system.baseline() {
                assert_eq!(baseline.route(), system.route());
                assert_eq!(baseline.baseline(), None);
            }
        }
    }
}
