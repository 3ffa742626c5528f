//! The command line.

use crate::error::{Context, Result};
use crate::measure::Measure;
use crate::outward::{PeerName, Probe, default_cache};
use crate::system::SystemName;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Measures Pontoon against the kernel's bridge and masquerade, in network namespaces that it
/// makes for itself. Needs no privileges. Exit status 0 when everything could be measured.
#[derive(Debug, Parser)]
#[command(name = "netbench", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    /// What to do instead of comparing systems.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// What to compare.
    #[command(flatten)]
    pub(crate) compare: CompareOptions,
}

/// What netbench does apart from comparing systems.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure memory and attach times of Pontoon with many ports
    Memory(MemoryOptions),
    /// Measure traffic between two containers alone and beside idle and racing clients of the API
    Clients(ClientsOptions),
    /// Measure the ways between container and host, beside slirp4netns, pasta, RootlessKit and
    /// docker-proxy
    Outward(OutwardOptions),
    /// Measure what published ports and idle connections cost, beside the same peers
    OutwardMemory(OutwardMemoryOptions),
}

/// Options of a comparison.
#[derive(Debug, Args)]
pub(crate) struct CompareOptions {
    /// Rounds; each measures everything once, every other one in opposite order
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Seconds per measurement
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,
    /// Only these measurements
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub(crate) only: Vec<Measure>,
    /// Only these systems
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub(crate) systems: Vec<SystemName>,
    /// Where results go.
    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

/// Options of the memory measurement.
#[derive(Debug, Args)]
pub(crate) struct MemoryOptions {
    /// Numbers of attached ports to stop at, ascending
    #[arg(long, value_delimiter = ',', default_values_t = [2, 100, 1000])]
    pub(crate) ports: Vec<u16>,
    /// Where results go.
    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

/// Options of the measurements beside clients.
#[derive(Debug, Args)]
pub(crate) struct ClientsOptions {
    /// Rounds; each measures everything once, every other one in opposite order
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Seconds per measurement
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,
    /// Where results go.
    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

/// Options of the measurements between container and host.
#[derive(Debug, Args)]
pub(crate) struct OutwardOptions {
    /// Rounds; each measures everything once, every other one in opposite order
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Seconds per measurement
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,
    /// Only these measurements
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<Probe>,
    /// Only these peers
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    peers: Vec<PeerName>,
    /// MTUs of the container's interface
    #[arg(long, value_delimiter = ',', default_values_t = [1500, 65520])]
    #[arg(value_parser = clap::value_parser!(u16).range(576..=65520))]
    pub(crate) mtu: Vec<u16>,
    /// Directory for the peers' packages
    #[arg(long, value_name = "DIR", default_value_os_t = default_cache())]
    pub(crate) cache: PathBuf,
    /// Where results go.
    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

/// Options of the memory measurement of ports and connections.
#[derive(Debug, Args)]
pub(crate) struct OutwardMemoryOptions {
    /// Published ports
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) ports: u16,
    /// Idle connections
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) connections: u16,
    /// Only these peers
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    peers: Vec<PeerName>,
    /// Directory for the peers' packages
    #[arg(long, value_name = "DIR", default_value_os_t = default_cache())]
    pub(crate) cache: PathBuf,
    /// Where results go.
    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

/// Options that every command has.
#[derive(Debug, Args)]
pub(crate) struct CommonOptions {
    /// The pontoon binary [default: the one beside netbench]
    #[arg(long, value_name = "PATH")]
    pontoon: Option<PathBuf>,
    /// Also write the results as JSON to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

impl CompareOptions {
    /// The systems to measure, a baseline in front of what is compared with it.
    pub(crate) fn systems(&self) -> Vec<SystemName> {
        wanted(&SystemName::ALL, &self.systems)
    }

    /// The measurements to make.
    pub(crate) fn measures(&self) -> Vec<Measure> {
        wanted(&Measure::ALL, &self.only)
    }
}

impl OutwardOptions {
    /// The peers to measure, references first.
    pub(crate) fn peers(&self) -> Vec<PeerName> {
        wanted(&PeerName::ALL, &self.peers)
    }

    /// The measurements to make.
    pub(crate) fn probes(&self) -> Vec<Probe> {
        wanted(&Probe::ALL, &self.only)
    }
}

impl OutwardMemoryOptions {
    /// The peers to weigh: those that are processes, each of them once.
    pub(crate) fn peers(&self) -> Vec<PeerName> {
        let mut peers = wanted(&PeerName::ALL, &self.peers);
        peers.retain(|peer| peer.has_processes() && *peer != PeerName::PastaRaised);
        peers
    }
}

/// Those of `all` that were chosen, in their order; all when none was.
fn wanted<T: Copy + PartialEq>(all: &[T], chosen: &[T]) -> Vec<T> {
    let is_wanted = |one: &T| chosen.is_empty() || chosen.contains(one);
    all.iter().copied().filter(is_wanted).collect()
}

impl CommonOptions {
    /// The pontoon binary to measure.
    ///
    /// # Errors
    /// When the place of netbench itself cannot be found out.
    pub(crate) fn pontoon(&self) -> Result<PathBuf> {
        match &self.pontoon {
            Some(path) => std::path::absolute(path).context("reading --pontoon"),
            None => {
                let this = std::env::current_exe().context("looking for this program")?;
                Ok(this.with_file_name("pontoon"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn compare(line: &str) -> CompareOptions {
        Options::try_parse_from(line.split(' ')).unwrap().compare
    }

    #[test]
    fn command_line_is_sound() {
        Options::command().debug_assert();
    }

    #[test]
    fn without_options_everything_is_measured_five_times() {
        let options = compare("netbench");
        assert_eq!((options.rounds, options.seconds), (5, 3));
        assert_eq!(options.systems(), SystemName::ALL);
        assert_eq!(options.measures(), Measure::ALL);
    }

    #[test]
    fn selection_keeps_the_order_of_a_round() {
        let options = compare("netbench --systems pontoon,kernel-bridge --only tcp-rr,tcp-1");
        assert_eq!(
            options.systems(),
            [SystemName::KernelBridge, SystemName::Pontoon]
        );
        assert_eq!(options.measures(), [Measure::Tcp1, Measure::TcpRr]);
    }

    #[test]
    fn no_rounds_are_refused() {
        assert!(Options::try_parse_from(["netbench", "--rounds", "0"]).is_err());
    }
}
