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
        let left = self.waiting.extract_if(.., goes).collect();
        if self.waiting.is_empty() {
            self.look = None;
        }
        left
    }

    /// When that is next looked for.
    pub(super) const fn poll_timeout(&self) -> Option<Timestamp> {
        self.look
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use pontoon_packet::Offload;

    use super::*;
    use crate::PortId;
    use crate::io::user::{Carrier, PublishedFlow};

    fn at(millis: u64) -> Timestamp {
        Timestamp::ZERO + Duration::from_millis(millis)
    }

    /// Somebody who has come by the listener at this place.
    fn arrival(listener: usize) -> Arrival {
        let (client, local) = (
            SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1),
            Ipv4Addr::LOCALHOST,
        );
        Arrival {
            carrier: Carrier::Published(PublishedFlow { client, local }),
            from: PortId(1),
            listener,
            frame: Vec::new(),
            offload: Offload::NONE,
            until: None,
        }
    }

    #[test]
    fn who_waits_is_looked_at_again_soon_and_once() {
        let mut returning = Returning::default();
        assert_eq!(returning.poll_timeout(), None);
        assert!(returning.wait(at(10), arrival(0)).is_none());
        assert!(returning.wait(at(11), arrival(0)).is_none());
        assert_eq!(returning.poll_timeout(), Some(at(12)));
        assert_eq!(returning.due(at(11)).len(), 0);
        assert_eq!(returning.due(at(12)).len(), 2);
        assert_eq!(returning.due(at(12)).len(), 0);
        assert_eq!(returning.poll_timeout(), None);
    }

    #[test]
    fn who_has_waited_for_a_second_is_given_back() {
        let mut returning = Returning::default();
        let mut waits = arrival(0);
        for millis in (0..1000).step_by(2) {
            assert!(returning.wait(at(millis), waits).is_none(), "{millis} ms");
            waits = returning.due(at(millis + 2)).remove(0);
        }
        assert!(returning.wait(at(1000), waits).is_some());
        assert_eq!(returning.poll_timeout(), None);
    }

    #[test]
    fn no_more_wait_than_may() {
        let mut returning = Returning::default();
        for _ in 0..MOST {
            assert!(returning.wait(at(0), arrival(0)).is_none());
        }
        assert!(returning.wait(at(0), arrival(0)).is_some());
    }

    #[test]
    fn who_came_by_a_listener_leaves_with_it() {
        let mut returning = Returning::default();
        for place in [1, 2, 1] {
            assert!(returning.wait(at(0), arrival(place)).is_none());
        }
        assert_eq!(returning.leave(&[1, 3]).len(), 2);
        assert_eq!(returning.due(at(2)).len(), 1);
    }
}
