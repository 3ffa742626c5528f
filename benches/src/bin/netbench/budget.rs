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
    /// The budget for a figure of a system beside a baseline of its, where there is one.
    pub(crate) fn of(
        system: SystemName,
        baseline: SystemName,
        measure: Measure,
        metric: Metric,
    ) -> Option<Self> {
        if baseline.is_off() {
            return Self::beside_itself(metric);
        }
        let bridged = system.route() == Route::Bridged;
        let off = system.is_off();
        match (measure, metric) {
            (_, Metric::Throughput) => Some(Self::at_least(if off { 0.8 } else { 1.0 }, 1.0)),
            (Measure::Udp64, Metric::Received) if bridged => Some(Self::at_least(0.6, 1.0)),
            (Measure::TcpRr, Metric::Median) if bridged && off => Some(Self::at_most(1.7, 1.2)),
            (Measure::TcpRr, Metric::Median) if bridged => Some(Self::at_most(1.1, 1.0)),
            _ => None,
        }
    }

    /// With offload beside without: what is short must not get slower.
    fn beside_itself(metric: Metric) -> Option<Self> {
        (metric == Metric::Connections).then(|| Self::at_least(0.95, 1.0))
    }

    const fn at_least(must: f64, goal: f64) -> Self {
        let sense = Sense::AtLeast;
        Self { sense, must, goal }
    }

    const fn at_most(must: f64, goal: f64) -> Self {
        let sense = Sense::AtMost;
        Self { sense, must, goal }
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
        let tenths = (self.must * 10.0).fract() == 0.0;
        let (must, digits) = (self.must, if tenths { 1 } else { 2 });
        match self.sense {
            Sense::AtLeast => format!("≥ {must:.digits$}"),
            Sense::AtMost => format!("≤ {must:.digits$}"),
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

    use SystemName::{KernelBridge, KernelNat, Pontoon, PontoonNat, PontoonOff};

    fn bridged(system: SystemName, measure: Measure, metric: Metric) -> Budget {
        Budget::of(system, KernelBridge, measure, metric).unwrap()
    }

    #[test]
    fn throughput_is_judged_from_below() {
        let budget = bridged(PontoonOff, Measure::Tcp4, Metric::Throughput);
        assert_eq!(budget.judge(Some(1.0)), Verdict::Goal);
        assert_eq!(budget.judge(Some(0.8)), Verdict::Met);
        assert_eq!(budget.judge(Some(0.79)), Verdict::Missed);
        let carried = bridged(Pontoon, Measure::Tcp4, Metric::Throughput);
        assert_eq!(carried.judge(Some(0.99)), Verdict::Missed);
    }

    #[test]
    fn latency_is_judged_from_above() {
        let budget = bridged(PontoonOff, Measure::TcpRr, Metric::Median);
        assert_eq!(budget.judge(Some(1.2)), Verdict::Goal);
        assert_eq!(budget.judge(Some(1.7)), Verdict::Met);
        assert_eq!(budget.judge(Some(1.71)), Verdict::Missed);
    }

    #[test]
    fn what_could_not_be_measured_misses() {
        let budget = bridged(Pontoon, Measure::Udp64, Metric::Received);
        assert_eq!(budget.judge(None), Verdict::Missed);
        assert_eq!(budget.judge(Some(f64::NAN)), Verdict::Missed);
    }

    #[test]
    fn beside_itself_only_new_connections_are_judged() {
        let of = |metric| Budget::of(Pontoon, PontoonOff, Measure::Connects, metric);
        let budget = of(Metric::Connections).unwrap();
        assert_eq!(budget.judge(Some(0.95)), Verdict::Met);
        assert_eq!(budget.label(), "≥ 0.95");
        assert_eq!(of(Metric::Throughput), None);
    }

    #[test]
    fn translated_route_is_held_to_throughput_both_ways_only() {
        let of = |measure, metric| Budget::of(PontoonNat, KernelNat, measure, metric);
        assert!(of(Measure::Tcp1Reverse, Metric::Throughput).is_some());
        assert_eq!(of(Measure::Udp64, Metric::Received), None);
        assert_eq!(of(Measure::TcpRr, Metric::Median), None);
    }
}
