//! Clients that come again from the same port before the end of their last connection was heard here.
//!
//! To the host's kernel, which has accepted them, that connection is over. Its last bytes may still be on
//! their way to the container, for which the two would be one.

use std::time::Duration;

use pontoon_packet::Timestamp;

use super::inward::Arrival;

/// How long the end of the last connection is waited for; then the client is refused.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked for: the container is microseconds away.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Clients that wait, each with a socket and the memory of a connection.
const MOST: usize = 64;

/// Those who wait.
#[derive(Debug, Default)]
pub(super) struct Returning {
    waiting: Vec<Arrival>,
    look: Option<Timestamp>,
}

impl Returning {
    /// Lets a client wait; gives it back when it has waited long enough, or too many do.
    pub(super) fn wait(&mut self, now: Timestamp, mut arrival: Arrival) -> Option<Arrival> {
        let until = *arrival.until.get_or_insert(now + PATIENCE);
        if until <= now || self.waiting.len() >= MOST {
            return Some(arrival);
        }
        self.look.get_or_insert(now + LOOK_EVERY);
        self.waiting.push(arrival);
        None
    }

    /// Those whose last connection may have ended by now.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<Arrival> {
        if self.look.is_none_or(|look| look > now) {
            return Vec::new();
        }
        self.look = None;
        std::mem::take(&mut self.waiting)
    }

    /// Those who have come by listeners at these places.
    pub(super) fn leave(&mut self, places: &[usize]) -> Vec<Arrival> {
        let goes = |arrival: &mut Arrival| places.contains(&arrival.listener);
        self.waiting.extract_if(.., goes).collect()
    }

    /// When that is next looked for.
    pub(super) const fn poll_timeout(&self) -> Option<Timestamp> {
        self.look
    }
}
