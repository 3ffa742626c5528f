//! smoltcp's clock.

use pontoon_packet::Timestamp;
use smoltcp::time::{Duration, Instant};

/// How much faster smoltcp's clock runs. Its least time to resend is one second, meant for the
/// internet; a container is microseconds away, and Linux' own least, 200 ms, is a fifth of that.
pub(crate) const HASTE: u32 = 5;
/// The longest time that smoltcp waits before it resends (its `RTTE_MAX_RTO`).
const LEAP: Duration = Duration::from_secs(60);

/// The time that smoltcp is told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// What leaps have put it ahead by.
    ahead: Duration,
}

impl Clock {
    pub(crate) fn instant(self, now: Timestamp) -> Instant {
        let micros = now.as_nanos() / 1000 * u64::from(HASTE);
        Instant::from_micros(micros as i64) + self.ahead
    }

    /// The other way round, rounded up.
    pub(crate) fn timestamp(self, instant: Instant) -> Timestamp {
        let micros = instant.total_micros() - self.ahead.total_micros() as i64;
        let micros = u64::try_from(micros).unwrap_or(0);
        Timestamp::from_nanos((micros * 1000).div_ceil(u64::from(HASTE)))
    }

    /// Moves on by so much that bytes which smoltcp waits for are overdue.
    pub(crate) fn leap(&mut self) {
        self.ahead += LEAP;
    }
}
