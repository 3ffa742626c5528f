//! The budgets that Pontoon is held to, and how a ratio is judged by them.

use crate::measure::{Measure, Metric};
use crate::system::{Route, SystemName};
use serde::Serialize;

/// Limits of a ratio to the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Budget {
    /// Which side of the limits is good.
    pub(crate) sense: Sense,
    /// What has to hold.
    pub(crate) must: f64,
    /// What is strived for.
    pub(crate) goal: f64,
}

/// Which side of a limit is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Sense {
    /// Rates: the more the better.
    AtLeast,
    /// Times: the less the better.
    AtMost,
}

/// How a ratio stands to its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// Beyond the goal.
    Goal,
    /// Beyond what has to hold.
    Met,
    /// Short of what has to hold, or not measurable.
    Missed,
}

impl Budget {
    /// The budget for a figure of a system, where there is one (design, section "Budgets").
    pub(crate) fn of(system: SystemName, measure: Measure, metric: Metric) -> Option<Self> {
        system.baseline()?;
        let bridged = system.route() == Route::Bridged;
        let at_least = |must| {
            Some(Self {
                sense: Sense::AtLeast,
                must,
                goal: 1.0,
            })
        };
        match (measure, metric) {
            (
                Measure::Tcp1 | Measure::Tcp4 | Measure::Tcp1Reverse | Measure::Tcp4Reverse,
                Metric::Throughput,
            ) => at_least(0.8),
            (Measure::Udp64, Metric::Received) if bridged => at_least(0.6),
            (Measure::TcpRr, Metric::Median) if bridged => Some(Self {
                sense: Sense::AtMost,
                must: 1.7,
                goal: 1.2,
            }),
            _ => None,
        }
    }

    /// Judges a ratio; one that could not be taken misses.
    pub(crate) fn judge(self, ratio: Option<f64>) -> Verdict {
        match ratio {
            Some(ratio) if self.sense.holds(ratio, self.goal) => Verdict::Goal,
            Some(ratio) if self.sense.holds(ratio, self.must) => Verdict::Met,
            _ => Verdict::Missed,
        }
    }

    /// The limit that has to hold, for tables.
    pub(crate) fn label(self) -> String {
        match self.sense {
            Sense::AtLeast => format!("≥ {:.1}", self.must),
            Sense::AtMost => format!("≤ {:.1}", self.must),
        }
    }
}

impl Sense {
    fn holds(self, ratio: f64, limit: f64) -> bool {
        match self {
            Self::AtLeast => ratio >= limit,
            Self::AtMost => ratio <= limit,
        }
    }
}

impl Verdict {
    /// The word for tables.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Goal => "goal",
            Self::Met => "met",
            Self::Missed => "MISSED",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bridged(measure: Measure, metric: Metric) -> Budget {
        Budget::of(SystemName::Pontoon, measure, metric).unwrap()
    }

    #[test]
    fn throughput_is_judged_from_below() {
        let budget = bridged(Measure::Tcp4, Metric::Throughput);
        assert_eq!(budget.judge(Some(1.0)), Verdict::Goal);
        assert_eq!(budget.judge(Some(0.8)), Verdict::Met);
        assert_eq!(budget.judge(Some(0.79)), Verdict::Missed);
    }

    #[test]
    fn latency_is_judged_from_above() {
        let budget = bridged(Measure::TcpRr, Metric::Median);
        assert_eq!(budget.judge(Some(1.2)), Verdict::Goal);
        assert_eq!(budget.judge(Some(1.7)), Verdict::Met);
        assert_eq!(budget.judge(Some(1.71)), Verdict::Missed);
    }

    #[test]
    fn what_could_not_be_measured_misses() {
        let budget = bridged(Measure::Udp64, Metric::Received);
        assert_eq!(budget.judge(None), Verdict::Missed);
        assert_eq!(budget.judge(Some(f64::NAN)), Verdict::Missed);
    }

    #[test]
    fn kernel_has_no_budget() {
        for system in [SystemName::KernelBridge, SystemName::KernelNat] {
            assert_eq!(Budget::of(system, Measure::Tcp1, Metric::Throughput), None);
        }
    }

    #[test]
    fn translated_route_is_held_to_throughput_both_ways_only() {
        let of = |measure, metric| Budget::of(SystemName::PontoonNat, measure, metric);
        assert!(of(Measure::Tcp1Reverse, Metric::Throughput).is_some());
        assert_eq!(of(Measure::Udp64, Metric::Received), None);
        assert_eq!(of(Measure::TcpRr, Metric::Median), None);
    }
}
