//! The figures of a run, and what follows from them.

use crate::budget::{Budget, Verdict};
use crate::measure::{Measure, Metric, Reading};
use crate::statistics::{Summary, ratios};
use crate::system::SystemName;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Which figure of which system.
type Key = (SystemName, Measure, Metric);

/// One value per round; none where the measurement failed.
#[derive(Debug)]
pub(crate) struct Results {
    rounds: usize,
    series: BTreeMap<Key, Vec<Option<f64>>>,
}

/// The values of one figure.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    /// Whose.
    pub(crate) system: SystemName,
    /// Of which measurement.
    pub(crate) measure: Measure,
    /// What it is.
    pub(crate) metric: Metric,
    /// Middle and ends.
    pub(crate) summary: Option<Summary>,
    /// Round by round.
    pub(crate) values: Vec<Option<f64>>,
}

/// A figure beside its baseline's.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    /// What is judged.
    pub(crate) system: SystemName,
    /// What it is judged by.
    pub(crate) baseline: SystemName,
    /// The measurement.
    pub(crate) measure: Measure,
    /// The figure of it.
    pub(crate) metric: Metric,
    /// Middle and ends of the judged system.
    pub(crate) summary: Option<Summary>,
    /// Middle and ends of the baseline.
    pub(crate) baseline_summary: Option<Summary>,
    /// Quotient of the two medians.
    pub(crate) ratio_of_medians: Option<f64>,
    /// Middle and ends of the quotients of each round. The median is what is judged.
    pub(crate) ratio_by_round: Option<Summary>,
    /// What has to hold.
    pub(crate) budget: Option<Budget>,
    /// Whether it does.
    pub(crate) verdict: Option<Verdict>,
}

impl Results {
    /// Room for this many rounds.
    pub(crate) fn new(rounds: usize) -> Self {
        Self {
            rounds,
            series: BTreeMap::new(),
        }
    }

    /// Takes the readings of one measurement in one round.
    pub(crate) fn record(
        &mut self,
        round: usize,
        system: SystemName,
        measure: Measure,
        readings: &[Reading],
    ) {
        for reading in readings {
            let rounds = self.rounds;
            let key = (system, measure, reading.metric);
            let series = self.series.entry(key).or_insert_with(|| vec![None; rounds]);
            if let Some(value) = series.get_mut(round) {
                *value = Some(reading.value);
            }
        }
    }

    /// Every figure.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        let figure = |(&(system, measure, metric), values): (&Key, &Vec<Option<f64>>)| Figure {
            system,
            measure,
            metric,
            summary: summary(values),
            values: values.clone(),
        };
        self.series.iter().map(figure).collect()
    }

    /// Every figure by which one of `systems` is compared with a baseline among them.
    pub(crate) fn comparisons(&self, systems: &[SystemName]) -> Vec<Comparison> {
        let pairs = systems.iter().flat_map(|system| {
            let baselines = system.baselines().iter();
            baselines.map(|baseline| (*system, *baseline))
        });
        pairs
            .filter(|(_, baseline)| systems.contains(baseline))
            .flat_map(|(system, baseline)| self.compare(system, baseline))
            .collect()
    }

    fn compare(&self, system: SystemName, baseline: SystemName) -> Vec<Comparison> {
        let of_either = |&&(owner, _, _): &&Key| owner == system || owner == baseline;
        let figures: BTreeSet<(Measure, Metric)> = self
            .series
            .keys()
            .filter(of_either)
            .map(|&(_, measure, metric)| (measure, metric))
            .filter(|(_, metric)| metric.is_compared())
            .collect();
        let compare = |(measure, metric)| self.compare_by(system, baseline, measure, metric);
        figures.into_iter().map(compare).collect()
    }

    fn compare_by(
        &self,
        system: SystemName,
        baseline: SystemName,
        measure: Measure,
        metric: Metric,
    ) -> Comparison {
        let values = self.values(system, measure, metric);
        let base = self.values(baseline, measure, metric);
        let (own, other) = (summary(values), summary(base));
        let ratio_by_round = Summary::of(&ratios(values, base));
        let budget = Budget::of(system, baseline, measure, metric);
        Comparison {
            system,
            baseline,
            measure,
            metric,
            summary: own,
            baseline_summary: other,
            ratio_of_medians: own.zip(other).map(|(own, other)| own.median / other.median),
            ratio_by_round,
            budget,
            verdict: budget.map(|budget| budget.judge(ratio_by_round.map(|ratio| ratio.median))),
        }
    }

    fn values(&self, system: SystemName, measure: Measure, metric: Metric) -> &[Option<f64>] {
        self.series
            .get(&(system, measure, metric))
            .map_or(&[], Vec::as_slice)
    }
}

fn summary(values: &[Option<f64>]) -> Option<Summary> {
    let taken: Vec<f64> = values.iter().copied().flatten().collect();
    Summary::of(&taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use SystemName::{KernelBridge, Pontoon};

    const BOTH: [SystemName; 2] = [KernelBridge, Pontoon];

    fn throughput(value: f64) -> [Reading; 2] {
        [
            Reading {
                metric: Metric::Throughput,
                value,
            },
            Reading {
                metric: Metric::Retransmits,
                value: 3.0,
            },
        ]
    }

    fn results(kernel: &[f64], pontoon: &[f64]) -> Results {
        let mut results = Results::new(kernel.len());
        for (system, values) in [(KernelBridge, kernel), (Pontoon, pontoon)] {
            for (round, value) in values.iter().enumerate() {
                results.record(round, system, Measure::Tcp1, &throughput(*value));
            }
        }
        results
    }

    #[test]
    fn ratio_is_judged_by_its_median_over_rounds() {
        let comparisons = results(&[40.0, 20.0, 50.0], &[36.0, 19.0, 20.0]).comparisons(&BOTH);
        let [only] = comparisons.as_slice() else {
            panic!("{comparisons:?}")
        };
        assert_eq!(only.ratio_of_medians, Some(0.5));
        assert_eq!(
            only.ratio_by_round,
            Some(Summary {
                median: 0.9,
                min: 0.4,
                max: 0.95
            })
        );
        assert_eq!(only.verdict, Some(Verdict::Missed));
    }

    #[test]
    fn system_that_never_answered_misses_its_budget() {
        let comparisons = results(&[40.0], &[]).comparisons(&BOTH);
        assert_eq!(comparisons[0].summary, None);
        assert_eq!(comparisons[0].verdict, Some(Verdict::Missed));
    }

    #[test]
    fn system_without_its_baseline_is_not_compared() {
        assert!(results(&[], &[30.0]).comparisons(&[Pontoon]).is_empty());
    }

    #[test]
    fn failed_round_leaves_a_gap_in_the_figures() {
        let mut results = Results::new(2);
        results.record(1, KernelBridge, Measure::Tcp1, &throughput(40.0));
        let figures = results.figures();
        assert_eq!(figures[0].values, [None, Some(40.0)]);
        assert_eq!(figures[0].summary.map(|summary| summary.median), Some(40.0));
        assert_eq!(figures.len(), 2);
    }

    #[test]
    fn explaining_figures_are_kept_but_not_compared() {
        let results = results(&[40.0], &[40.0]);
        assert_eq!(results.figures().len(), 4);
        assert_eq!(results.comparisons(&BOTH).len(), 1);
    }
}
