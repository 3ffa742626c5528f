//! The systems that are compared, behind one interface.

mod kernel;
mod pontoon;

pub(crate) use pontoon::Engine;

use crate::error::{Error, Result};
use crate::lab::{Lab, OUTSIDE, SECOND, UPLINK_ADDRESS};
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
    /// The kernel's bridge and router with a published port, outside to container.
    KernelPublished,
    /// Pontoon with a device uplink and a published port, outside to container.
    PontoonPublished,
    /// Pontoon without offload, container to container.
    PontoonOff,
    /// Pontoon without offload, container to outside.
    PontoonNatOff,
}

/// The ways through a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// From one container to another on the same bridge.
    Bridged,
    /// From a container to the outside host, with the host's address as the source.
    Masqueraded,
    /// From the outside host to a port of the host's address that is a container's.
    Published,
}

impl SystemName {
    /// Every system, baselines in front of what is compared with them.
    pub(crate) const ALL: [Self; 8] = [
        Self::KernelBridge,
        Self::PontoonOff,
        Self::Pontoon,
        Self::KernelNat,
        Self::PontoonNatOff,
        Self::PontoonNat,
        Self::KernelPublished,
        Self::PontoonPublished,
    ];

    /// What it is compared with: the kernel's counterpart, and itself without offload.
    pub(crate) const fn baselines(self) -> &'static [Self] {
        match self {
            Self::PontoonOff => &[Self::KernelBridge],
            Self::Pontoon => &[Self::KernelBridge, Self::PontoonOff],
            Self::PontoonNatOff => &[Self::KernelNat],
            Self::PontoonNat => &[Self::KernelNat, Self::PontoonNatOff],
            Self::PontoonPublished => &[Self::KernelPublished],
            Self::KernelBridge | Self::KernelNat | Self::KernelPublished => &[],
        }
    }

    /// Whether the kernel carries nothing that the engine could.
    pub(crate) const fn is_off(self) -> bool {
        matches!(self, Self::PontoonOff | Self::PontoonNatOff)
    }

    /// The way through it that is measured.
    pub(crate) const fn route(self) -> Route {
        match self {
            Self::KernelBridge | Self::Pontoon | Self::PontoonOff => Route::Bridged,
            Self::KernelNat | Self::PontoonNat | Self::PontoonNatOff => Route::Masqueraded,
            Self::KernelPublished | Self::PontoonPublished => Route::Published,
        }
    }

    /// The name on the command line and in reports.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::KernelBridge => "kernel-bridge",
            Self::Pontoon => "pontoon",
            Self::KernelNat => "kernel-nat",
            Self::PontoonNat => "pontoon-nat",
            Self::KernelPublished => "kernel-published",
            Self::PontoonPublished => "pontoon-published",
            Self::PontoonOff => "pontoon-off",
            Self::PontoonNatOff => "pontoon-nat-off",
        }
    }

    /// Prepares the system in a lab of its own.
    ///
    /// # Errors
    /// When a tool it needs is missing or namespaces cannot be made.
    pub(crate) fn prepare(self, pontoon: &Path) -> Result<Box<dyn System>> {
        let (lab, route) = (Lab::create()?, self.route());
        Ok(match self {
            Self::KernelBridge | Self::KernelNat | Self::KernelPublished => {
                Box::new(kernel::Kernel::new(lab, route)?)
            }
            Self::Pontoon
            | Self::PontoonNat
            | Self::PontoonPublished
            | Self::PontoonOff
            | Self::PontoonNatOff => {
                let offload = if self.is_off() { "off" } else { "auto" };
                let engine = Engine::new(pontoon, self.label())?.with_offload(offload);
                Box::new(pontoon::Pontoon::new(lab, route, engine))
            }
        })
    }
}

impl Lab {
    fn endpoints(&self, route: Route) -> Endpoints<'_> {
        let (client, server, address) = match route {
            Route::Bridged => (&self.first, &self.second, SECOND),
            Route::Masqueraded => (&self.first, &self.outside, OUTSIDE),
            Route::Published => (&self.outside, &self.second, UPLINK_ADDRESS),
        };
        Endpoints {
            client,
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
    fn baselines_have_the_same_route_and_stand_in_front() {
        for system in SystemName::ALL {
            let place = |one| SystemName::ALL.iter().position(|other| *other == one);
            for baseline in system.baselines() {
                assert_eq!(baseline.route(), system.route());
                assert!(place(*baseline) < place(system));
            }
        }
    }
}
