//! What a container holds out of order.

use core::ops::Range;

/// Most ranges that are known of a connection. Our choice: what is lost of a megabyte of segments when
/// five of a hundred are, nearly twice. What is not known is sent again.
const MOST: usize = 64;

/// Ranges of a stream that have arrived, though bytes before them have not (RFC 2018).
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// In order, apart from each other, none of them empty.
    ranges: Vec<Range<u64>>,
}

impl Held {
    /// Adds a range. Says whether that was news.
    pub(crate) fn add(&mut self, range: Range<u64>) -> bool {
        if range.is_empty() {
            return false;
        }
        let first = self.ranges.partition_point(|held| held.end < range.start);
        let after = self.ranges.partition_point(|held| held.start <= range.end);
        let touched = &self.ranges[first..after];
        let known = touched
            .iter()
            .any(|held| held.start <= range.start && range.end <= held.end);
        if known || (touched.is_empty() && self.ranges.len() == MOST) {
            return false;
        }
        let start = touched
            .first()
            .map_or(range.start, |held| held.start.min(range.start));
        let end = touched
            .last()
            .map_or(range.end, |held| held.end.max(range.end));
        self.ranges
            .splice(first..after, core::iter::once(start..end));
        true
    }

    /// Everything before `end` is acknowledged, and of no more interest.
    pub(crate) fn forget_before(&mut self, end: u64) {
        self.ranges.retain_mut(|held| {
            held.start = held.start.max(end);
            !held.is_empty()
        });
        if self.ranges.is_empty() {
            self.forget();
        }
    }

    /// A receiver may drop what it has told of (RFC 2018 §8).
    pub(crate) fn forget(&mut self) {
        self.ranges = Vec::new();
    }

    /// Where the last range begins: bytes before it have been overtaken.
    pub(crate) fn overtaken(&self) -> Option<u64> {
        self.ranges.last().map(|held| held.start)
    }

    pub(crate) fn contains(&self, at: u64) -> bool {
        self.ranges.iter().any(|held| held.contains(&at))
    }

    /// What of `range` has not arrived.
    pub(crate) fn gaps(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let before = self.ranges.iter().map(|held| held.end);
        let starts = core::iter::once(0).chain(before);
        let behind = self.ranges.iter().map(|held| held.start);
        let ends = behind.chain(core::iter::once(u64::MAX));
        starts
            .zip(ends)
            .map(move |(start, end)| start.max(range.start)..end.min(range.end))
            .filter(|gap| !gap.is_empty())
    }
}

#[cfg(test)]
#[allow(
    clippy::single_range_in_vec_init,
    clippy::reversed_empty_ranges,
    reason = "lists of ranges, and what a container may claim"
)]
mod tests {
    use super::*;

    fn held(ranges: &[Range<u64>]) -> Held {
        let mut held = Held::default();
        for range in ranges {
            held.add(range.clone());
        }
        held
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let held = held(&[10..20, 40..50, 20..30, 29..41]);
        assert_eq!(held.ranges, [10..50]);
    }

    #[test]
    fn what_is_known_is_no_news() {
        let mut held = held(&[10..20]);
        assert!(!held.add(12..18) && !held.add(10..20) && !held.add(5..5) && !held.add(15..5));
        assert!(held.add(12..21));
    }

    #[test]
    fn gaps_are_what_lies_between() {
        let mut held = held(&[10..20, 30..40]);
        let gaps = |held: &Held, range| held.gaps(range).collect::<Vec<_>>();
        assert_eq!(gaps(&held, 5..50), [5..10, 20..30, 40..50]);
        assert_eq!(gaps(&held, 12..35), [20..30]);
        assert_eq!(held.overtaken(), Some(30));
        held.forget_before(15);
        assert_eq!(gaps(&held, 0..16), [0..15]);
        held.forget_before(40);
        assert_eq!(held.overtaken(), None);
        assert_eq!(gaps(&held, 1..3), [1..3]);
    }

    #[test]
    fn there_is_an_end_to_what_is_known() {
        let mut held = Held::default();
        let news = (0..1000).filter(|n| held.add(10 * n..10 * n + 5)).count();
        assert_eq!((news, held.ranges.len()), (MOST, MOST));
        assert!(held.add(5..10), "closes a gap");
    }
}
