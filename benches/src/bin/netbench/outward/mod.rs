//! `netbench outward`: the ways between a container and its host, through Pontoon's user uplink
//! and through what else does that job without or with root.

mod budget;
mod figures;
mod packages;
mod peer;
mod probe;
mod pss;
mod report;
mod socket_memory;
mod weigh;

pub(crate) use packages::{Packages, default_cache};
pub(crate) use peer::{PeerName, Surroundings};
pub(crate) use probe::Probe;
pub(crate) use report::OutwardReport;
pub(crate) use socket_memory::SocketMemory;
pub(crate) use weigh::run as weigh;

use crate::compare::progress;
use crate::error::Result;
use crate::measure::Iperf;
use crate::options::OutwardOptions;
use figures::Figures;
use peer::{Ports, Running, Way};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// A peer at one MTU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Subject {
    /// Who.
    pub(crate) peer: PeerName,
    /// Largest datagram in the container, bytes; none where no datagram is involved.
    pub(crate) mtu: Option<u16>,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.peer.label())?;
        self.mtu.map_or(Ok(()), |mtu| write!(f, " {mtu}"))
    }
}

impl Subject {
    /// Each of the peers at each of the MTUs that concern it.
    pub(crate) fn all(peers: &[PeerName], mtus: &[u16]) -> Vec<Self> {
        let of = |&peer: &PeerName| -> Vec<Self> {
            if !peer.has_mtu() {
                return vec![Self { peer, mtu: None }];
            }
            let concerned = mtus.iter().filter(|mtu| peer.concerns_mtu(**mtu));
            concerned
                .map(|&mtu| Self {
                    peer,
                    mtu: Some(mtu),
                })
                .collect()
        };
        peers.iter().flat_map(of).collect()
    }
}

/// What a run found.
pub(crate) struct Outcome {
    /// The figures.
    pub(crate) figures: Figures,
    /// Peers that could not be built and measurements that failed, in words.
    pub(crate) failures: Vec<String>,
    /// What was left out from the start, and why.
    pub(crate) notes: Vec<String>,
}

/// Builds the chosen peers, measures them round by round and takes them down again.
///
/// # Errors
/// When iperf3 is missing. Peers that cannot be built and measurements that fail are listed in
/// the outcome.
pub(crate) fn run(options: &OutwardOptions, surroundings: &Surroundings) -> Result<Outcome> {
    let iperf = Iperf::locate()?;
    let mut outcome = Outcome {
        figures: Figures::new(options.rounds as usize),
        failures: Vec::new(),
        notes: Vec::new(),
    };
    let peers = outcome.possible(&options.peers(), surroundings);
    let built = outcome.build(&Subject::all(&peers, &options.mtu), surroundings);
    for round in 0..options.rounds as usize {
        for probe in options.probes() {
            for (subject, running) in in_turn(round, &built) {
                let seconds = Duration::from_secs(options.seconds);
                for &way in subject.peer.ways() {
                    let ends = running.endpoints(way);
                    let readings = surroundings
                        .with_memory_of(subject.peer, || probe.run(&iperf, ends, seconds));
                    outcome.take(round, *subject, way, probe, readings);
                }
            }
        }
    }
    Ok(outcome)
}

/// The peers in the order of a round: every other one backwards.
fn in_turn(round: usize, built: &[(Subject, Running)]) -> Vec<&(Subject, Running)> {
    let mut order: Vec<_> = built.iter().collect();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

impl Outcome {
    /// The peers without those that this user cannot have.
    fn possible(&mut self, peers: &[PeerName], surroundings: &Surroundings) -> Vec<PeerName> {
        let (possible, left_out): (Vec<_>, Vec<_>) = peers.iter().partition(|peer| {
            **peer != PeerName::PastaRaised || surroundings.memory.is_adjustable()
        });
        let note = |peer: &PeerName| {
            format!(
                "{}: left out, net.core.rmem_max and wmem_max can be raised by root only",
                peer.label()
            )
        };
        self.notes.extend(left_out.iter().map(note));
        possible
    }

    fn build(
        &mut self,
        subjects: &[Subject],
        surroundings: &Surroundings,
    ) -> Vec<(Subject, Running)> {
        let mut built = Vec::new();
        for &subject in subjects {
            progress(&format!("building {subject}"));
            let start = || {
                let mut running = Running::start(subject, &Ports::measured(), surroundings)?;
                running.await_traffic()?;
                Ok(running)
            };
            match surroundings.with_memory_of(subject.peer, start) {
                Ok(running) => built.push((subject, running)),
                Err(error) => self.fail(format!("{subject}: {error}")),
            }
        }
        built
    }

    fn fail(&mut self, failure: String) {
        progress(&format!("FAILED: {failure}"));
        self.failures.push(failure);
    }

    fn take(
        &mut self,
        round: usize,
        subject: Subject,
        way: Way,
        probe: Probe,
        readings: Result<Vec<crate::measure::Reading>>,
    ) {
        let place = format!(
            "round {}: {} {} {subject}",
            round + 1,
            way.label(),
            probe.label()
        );
        match readings {
            Ok(readings) => {
                let values: Vec<String> = readings
                    .iter()
                    .map(|reading| format!("{:.2} {}", reading.value, reading.metric.label()))
                    .collect();
                progress(&format!("{place}: {}", values.join(", ")));
                self.figures.record(round, (subject, way, probe), &readings);
            }
            Err(error) => self.fail(format!("{place}: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_without_datagrams_is_measured_once() {
        let subjects = Subject::all(
            &[
                PeerName::Loopback,
                PeerName::Slirp4netns,
                PeerName::PastaRaised,
            ],
            &[1500, 65520],
        );
        let names: Vec<String> = subjects.iter().map(Subject::to_string).collect();
        let expected = [
            "loopback",
            "slirp4netns 1500",
            "slirp4netns 65520",
            "pasta-raised 65520",
        ];
        assert_eq!(names, expected);
    }
}
