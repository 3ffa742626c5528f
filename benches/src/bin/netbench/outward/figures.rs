//! The figures of a run, round by round.

use super::budget::{Judged, RULES};
use super::peer::{PeerName, Way};
use super::{Probe, Subject};
use crate::budget::Sense;
use crate::measure::{Metric, Reading};
use crate::statistics::{Summary, ratios};
use serde::Serialize;
use std::collections::BTreeMap;

/// Which measurement of whom.
pub(super) type Place = (Subject, Way, Probe);

/// One value per round; none where the measurement failed.
pub(crate) struct Figures {
    rounds: usize,
    series: BTreeMap<(Place, Metric), Vec<Option<f64>>>,
}

/// The values of one figure.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    pub(super) way: Way,
    pub(super) probe: Probe,
    pub(super) metric: Metric,
    #[serde(flatten)]
    pub(super) subject: Subject,
    pub(super) summary: Option<Summary>,
    pub(super) values: Vec<Option<f64>>,
}

impl Figures {
    /// Room for this many rounds.
    pub(super) fn new(rounds: usize) -> Self {
        Self {
            rounds,
            series: BTreeMap::new(),
        }
    }

    /// Takes the readings of one measurement in one round.
    pub(super) fn record(&mut self, round: usize, place: Place, readings: &[Reading]) {
        for reading in readings {
            let empty = || vec![None; self.rounds];
            let series = self.series.entry((place, reading.metric));
            if let Some(value) = series.or_insert_with(empty).get_mut(round) {
                *value = Some(reading.value);
            }
        }
    }

    /// Every figure, those that belong beside each other in a row.
    pub(super) fn all(&self) -> Vec<Figure> {
        let figure = |(&((subject, way, probe), metric), values): (&_, &Vec<_>)| Figure {
            way,
            probe,
            metric,
            subject,
            summary: summary(values),
            values: values.clone(),
        };
        let mut figures: Vec<Figure> = self.series.iter().map(figure).collect();
        figures.sort_by_key(|figure| (figure.way, figure.probe, figure.metric, figure.subject));
        figures
    }

    /// Holds Pontoon, at each of its MTUs, to every budget that has something to be held against.
    pub(super) fn judge(&self, pontoon: &[Subject]) -> Vec<Judged> {
        let mut judged = Vec::new();
        for rule in &RULES {
            for &way in rule.ways {
                for &probe in rule.probes {
                    let at = (way, probe, rule.metric);
                    let Some(against) = self.best_of(rule.peers, at, rule.budget.sense) else {
                        continue;
                    };
                    let values = |subject| self.values(subject, at);
                    judged.extend(pontoon.iter().map(|&subject| {
                        let ratios = ratios(values(subject), values(against));
                        Judged {
                            subject,
                            against,
                            way,
                            probe,
                            metric: rule.metric,
                            summary: summary(values(subject)),
                            summary_against: summary(values(against)),
                            ratio_by_round: Summary::of(&ratios),
                            budget: rule.budget,
                            verdict: rule.budget.judge(Summary::of(&ratios).map(|r| r.median)),
                        }
                    }));
                }
            }
        }
        judged
    }

    /// The one of these peers, at the one of its MTUs, with the best median.
    fn best_of(
        &self,
        peers: &[PeerName],
        (way, probe, metric): (Way, Probe, Metric),
        sense: Sense,
    ) -> Option<Subject> {
        let better = |value: f64| match sense {
            Sense::AtLeast => value,
            Sense::AtMost => -value,
        };
        let candidates = self.series.iter().filter(|(((subject, w, p), m), _)| {
            peers.contains(&subject.peer) && (*w, *p, *m) == (way, probe, metric)
        });
        candidates
            .filter_map(|(((subject, ..), _), values)| Some((*subject, summary(values)?.median)))
            .max_by(|(_, one), (_, other)| better(*one).total_cmp(&better(*other)))
            .map(|(subject, _)| subject)
    }

    fn values(
        &self,
        subject: Subject,
        (way, probe, metric): (Way, Probe, Metric),
    ) -> &[Option<f64>] {
        let values = self.series.get(&((subject, way, probe), metric));
        values.map_or(&[], Vec::as_slice)
    }
}

fn summary(values: &[Option<f64>]) -> Option<Summary> {
    let taken: Vec<f64> = values.iter().copied().flatten().collect();
    Summary::of(&taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Verdict;

    const fn subject(peer: PeerName, mtu: u16) -> Subject {
        Subject {
            peer,
            mtu: Some(mtu),
        }
    }

    const PONTOON: Subject = subject(PeerName::Pontoon, 1500);

    fn record(
        figures: &mut Figures,
        subject: Subject,
        probe: Probe,
        metric: Metric,
        values: &[f64],
    ) {
        for (round, &value) in values.iter().enumerate() {
            figures.record(
                round,
                (subject, Way::Outward, probe),
                &[Reading { metric, value }],
            );
        }
    }

    #[test]
    fn pontoon_is_held_against_the_best_of_pasta() {
        let (large, raised) = (
            subject(PeerName::Pasta, 65520),
            subject(PeerName::PastaRaised, 65520),
        );
        let mut figures = Figures::new(3);
        for (subject, values) in [
            (large, [1.0; 3]),
            (raised, [20.0; 3]),
            (PONTOON, [29.0, 23.0, 21.0]),
        ] {
            record(
                &mut figures,
                subject,
                Probe::Tcp1,
                Metric::Throughput,
                &values,
            );
        }
        let judged = figures.judge(&[PONTOON]);
        assert_eq!(judged.len(), 1);
        assert_eq!(judged[0].against, raised);
        assert_eq!(
            judged[0].ratio_by_round.map(|ratio| ratio.median),
            Some(1.15)
        );
        assert_eq!(judged[0].verdict, Verdict::Met);
    }

    #[test]
    fn best_latency_is_the_least() {
        let (slow, fast) = (
            subject(PeerName::Pasta, 1500),
            subject(PeerName::Pasta, 65520),
        );
        let mut figures = Figures::new(1);
        for (subject, value) in [(slow, 14.0), (fast, 10.0), (PONTOON, 12.0)] {
            record(
                &mut figures,
                subject,
                Probe::TcpRr,
                Metric::Median,
                &[value],
            );
        }
        let judged = figures.judge(&[PONTOON]);
        assert_eq!(judged[0].against, fast);
        assert_eq!(judged[0].verdict, Verdict::Missed);
    }

    #[test]
    fn pontoon_without_figures_misses() {
        let mut figures = Figures::new(1);
        let slirp = subject(PeerName::Slirp4netns, 65520);
        record(
            &mut figures,
            slirp,
            Probe::Tcp1,
            Metric::Throughput,
            &[10.0],
        );
        let judged = figures.judge(&[PONTOON]);
        assert_eq!(judged[0].summary, None);
        assert_eq!(judged[0].verdict, Verdict::Missed);
    }

    #[test]
    fn nothing_is_judged_without_its_peer() {
        let mut figures = Figures::new(1);
        record(
            &mut figures,
            PONTOON,
            Probe::Tcp1,
            Metric::Throughput,
            &[10.0],
        );
        assert!(figures.judge(&[PONTOON]).is_empty());
    }
}
