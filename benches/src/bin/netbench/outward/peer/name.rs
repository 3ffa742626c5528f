//! Who is measured, and which way.

use clap::ValueEnum;
use serde::Serialize;

/// The MTU at which pasta and slirp4netns are usually run.
const LARGE_MTU: u16 = 65_520;

/// What joins container and host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PeerName {
    /// Nothing: both ends on the host's loopback interface.
    Loopback,
    /// The kernel's bridge, published ports by nftables: what docker0 is made of.
    KernelBridge,
    /// slirp4netns with ports forwarded through its API.
    Slirp4netns,
    /// pasta of Debian's passt.
    Pasta,
    /// The same with socket buffers up to 32 MiB.
    PastaRaised,
    /// RootlessKit's builtin port driver.
    Rootlesskit,
    /// One docker-proxy per port in front of a kernel bridge.
    DockerProxy,
    /// Pontoon's user uplink.
    Pontoon,
}

/// From where to where connections are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Way {
    /// From the container to an address of the host.
    Outward,
    /// From the host to a published port.
    Inward,
}

impl PeerName {
    /// Every peer, references first.
    pub(crate) const ALL: [Self; 8] = [
        Self::Loopback,
        Self::KernelBridge,
        Self::Slirp4netns,
        Self::Pasta,
        Self::PastaRaised,
        Self::Rootlesskit,
        Self::DockerProxy,
        Self::Pontoon,
    ];

    /// The name on the command line and in reports.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::KernelBridge => "kernel-bridge",
            Self::Slirp4netns => "slirp4netns",
            Self::Pasta => "pasta",
            Self::PastaRaised => "pasta-raised",
            Self::Rootlesskit => "rootlesskit",
            Self::DockerProxy => "docker-proxy",
            Self::Pontoon => "pontoon",
        }
    }

    /// The ways that it carries itself. RootlessKit and docker-proxy only publish ports.
    pub(crate) fn ways(self) -> &'static [Way] {
        match self {
            Self::Loopback => &[Way::Outward],
            Self::Rootlesskit | Self::DockerProxy => &[Way::Inward],
            Self::KernelBridge
            | Self::Slirp4netns
            | Self::Pasta
            | Self::PastaRaised
            | Self::Pontoon => &[Way::Outward, Way::Inward],
        }
    }

    /// Whether an MTU that can be chosen lies on its ways.
    pub(crate) fn has_mtu(self) -> bool {
        !matches!(self, Self::Loopback | Self::Rootlesskit)
    }

    /// Whether it is measured at this MTU; the raised buffers are for pasta at its best.
    pub(crate) fn concerns_mtu(self, mtu: u16) -> bool {
        self != Self::PastaRaised || mtu == LARGE_MTU
    }

    /// Whether its program is fetched.
    pub(crate) fn is_packaged(self) -> bool {
        self.has_processes() && self != Self::Pontoon
    }

    /// Whether it has processes that can be weighed.
    pub(crate) fn has_processes(self) -> bool {
        !matches!(self, Self::Loopback | Self::KernelBridge)
    }
}

impl Way {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Outward, Self::Inward];

    /// The name in reports.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Outward => "container → host",
            Self::Inward => "host → container",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_is_the_word_of_the_command_line_and_of_the_json() {
        for peer in PeerName::ALL {
            let word = peer.to_possible_value().unwrap().get_name().to_owned();
            assert_eq!(peer.label(), word);
            assert_eq!(serde_json::to_value(peer).unwrap(), word);
        }
    }
}
