//! When an engine that has died is started again.

use std::time::Duration;

/// Who lives shorter than that dies of something that will be there the next time too.
const SHORT: Duration = Duration::from_secs(2);
/// Longest wait.
const LONGEST: Duration = Duration::from_secs(32);

/// How long to wait before the next engine: not at all after one that has served for a while, and
/// 1, 2, 4 … seconds after short lives in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    short_lives: u32,
}

impl Backoff {
    /// Takes a life of this length into account. Returns the wait.
    pub(super) fn ended(&mut self, life: Duration) -> Duration {
        if life >= SHORT {
            self.short_lives = 0;
            return Duration::ZERO;
        }
        self.short_lives += 1;
        let doubled = 1_u64.checked_shl(self.short_lives - 1);
        doubled.map_or(LONGEST, Duration::from_secs).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_served_is_started_again_at_once() {
        let mut backoff = Backoff::default();
        for _ in 0..100 {
            assert_eq!(backoff.ended(SHORT), Duration::ZERO);
        }
    }

    #[test]
    fn short_lives_in_a_row_wait_longer_each_time_up_to_a_limit() {
        let mut backoff = Backoff::default();
        let mut wait = || backoff.ended(Duration::from_millis(50)).as_secs();
        let waits: Vec<_> = std::iter::repeat_with(&mut wait).take(8).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 32, 32]);
        for _ in 0..100 {
            assert_eq!(wait(), 32);
        }
        backoff.ended(SHORT);
        assert_eq!(backoff.ended(Duration::ZERO).as_secs(), 1);
    }
}
