//! Medians and spread of a few noisy values.

use serde::Serialize;

/// The middle and the ends of a series.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// Middle value.
    pub(crate) median: f64,
    /// Smallest value.
    pub(crate) min: f64,
    /// Largest value.
    pub(crate) max: f64,
}

impl Summary {
    /// Sums up a series; an empty one has no summary.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let sorted = sorted(values);
        Some(Self {
            median: median(values)?,
            min: *sorted.first()?,
            max: *sorted.last()?,
        })
    }
}

/// The middle value, or the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(sorted[sorted.len() / 2 - 1], upper))
}

/// The value at a percentile by nearest rank, of an ascending series.
pub(crate) fn percentile(sorted: &[f64], percent: f64) -> Option<f64> {
    let count = sorted.len() as f64;
    let rank = (percent / 100.0 * count).ceil().clamp(1.0, count.max(1.0));
    sorted.get(rank as usize - 1).copied()
}

/// The quotient of each pair whose both values are there and whose divisor is not zero.
pub(crate) fn ratios(values: &[Option<f64>], baseline: &[Option<f64>]) -> Vec<f64> {
    let pairs = values.iter().zip(baseline);
    pairs
        .filter_map(|(value, base)| value.zip(*base))
        .filter(|(_, base)| *base != 0.0)
        .map(|(value, base)| value / base)
        .collect()
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_an_odd_series_is_its_middle() {
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
    }

    #[test]
    fn median_of_an_even_series_lies_between() {
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn empty_series_has_no_figures() {
        assert_eq!(median(&[]), None);
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(percentile(&[], 99.0), None);
    }

    #[test]
    fn summary_shows_the_spread() {
        let expected = Summary {
            median: 2.0,
            min: 1.0,
            max: 8.0,
        };
        assert_eq!(Summary::of(&[8.0, 1.0, 2.0]), Some(expected));
    }

    #[test]
    fn percentile_is_the_nearest_rank() {
        let series: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&series, 50.0), Some(100.0));
        assert_eq!(percentile(&series, 99.0), Some(198.0));
        assert_eq!(percentile(&series, 100.0), Some(200.0));
        assert_eq!(percentile(&[7.0], 0.0), Some(7.0));
    }

    #[test]
    fn ratios_pair_rounds_and_leave_out_failed_ones() {
        let values = [Some(8.0), None, Some(9.0), Some(5.0)];
        let baseline = [Some(10.0), Some(10.0), None, Some(0.0)];
        assert_eq!(ratios(&values, &baseline), [0.8]);
    }
}
