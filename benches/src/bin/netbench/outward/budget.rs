//! What Pontoon's user uplink is held to, and against whom (design, section "Budgets").

use super::peer::{PeerName, Way};
use super::{Probe, Subject};
use crate::budget::{Budget, Sense, Verdict};
use crate::measure::Metric;
use crate::statistics::Summary;
use serde::Serialize;

/// Budgets of ratios to the best of some peers.
pub(super) struct Rule {
    pub(super) peers: &'static [PeerName],
    pub(super) ways: &'static [Way],
    pub(super) probes: &'static [Probe],
    pub(super) metric: Metric,
    pub(super) budget: Budget,
}

/// Pontoon beside the best of a rule's peers.
#[derive(Debug, Serialize)]
pub(super) struct Judged {
    #[serde(flatten)]
    pub(super) subject: Subject,
    pub(super) against: Subject,
    pub(super) way: Way,
    pub(super) probe: Probe,
    pub(super) metric: Metric,
    pub(super) summary: Option<Summary>,
    pub(super) summary_against: Option<Summary>,
    pub(super) ratio_by_round: Option<Summary>,
    pub(super) budget: Budget,
    pub(super) verdict: Verdict,
}

const SLIRP: &[PeerName] = &[PeerName::Slirp4netns];
const PASTA: &[PeerName] = &[PeerName::Pasta, PeerName::PastaRaised];
const PROXY: &[PeerName] = &[PeerName::DockerProxy];
const ROOTLESSKIT: &[PeerName] = &[PeerName::Rootlesskit];
const BOTH: &[Way] = &Way::ALL;
const INWARD: &[Way] = &[Way::Inward];
const STREAMS: &[Probe] = &[Probe::Tcp1, Probe::Tcp4];
const CONNECTIONS: &[Probe] = &[Probe::Connect1, Probe::Connect16];

/// Every budget.
pub(super) const RULES: [Rule; 8] = [
    rate(SLIRP, BOTH, STREAMS, Metric::Throughput, (2.0, 3.0)),
    rate(PASTA, BOTH, STREAMS, Metric::Throughput, (1.1, 1.5)),
    Rule {
        peers: PASTA,
        ways: BOTH,
        probes: &[Probe::TcpRr],
        metric: Metric::Median,
        budget: Budget {
            sense: Sense::AtMost,
            must: 1.1,
            goal: 0.8,
        },
    },
    rate(PASTA, BOTH, CONNECTIONS, Metric::Connections, (1.3, 1.8)),
    rate(
        PROXY,
        INWARD,
        &[Probe::Tcp1],
        Metric::Throughput,
        (1.0, 1.2),
    ),
    rate(
        PROXY,
        INWARD,
        &[Probe::Tcp4],
        Metric::Throughput,
        (0.8, 1.2),
    ),
    rate(PROXY, INWARD, CONNECTIONS, Metric::Connections, (1.0, 2.0)),
    rate(
        ROOTLESSKIT,
        INWARD,
        CONNECTIONS,
        Metric::Connections,
        (1.0, 2.0),
    ),
];

const fn rate(
    peers: &'static [PeerName],
    ways: &'static [Way],
    probes: &'static [Probe],
    metric: Metric,
    (must, goal): (f64, f64),
) -> Rule {
    Rule {
        peers,
        ways,
        probes,
        metric,
        budget: Budget {
            sense: Sense::AtLeast,
            must,
            goal,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_asked_only_for_ways_they_carry() {
        for rule in &RULES {
            for peer in rule.peers {
                assert!(rule.ways.iter().all(|way| peer.ways().contains(way)));
            }
        }
    }
}
