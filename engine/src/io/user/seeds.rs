//! Numbers that nobody can guess.

use std::hash::{BuildHasher, RandomState};

use pontoon_packet::Timestamp;

use super::tcp::Ends;

/// Initial sequence numbers advance by one every 2⁶ ns, as Linux' do (`seq_scale`): a host that remembers
/// a connection for a minute (TIME-WAIT) takes the next one between the same ends for the later one if the
/// old one was slower than 15 MB/s. Else it asks, which costs a round trip.
const TICK: u32 = 6;

/// A generator keyed by the system: SipHash.
#[derive(Debug, Default)]
pub(super) struct Seeds {
    secret: RandomState,
    sequence: RandomState,
    count: u64,
}

impl Seeds {
    /// The next one.
    pub(super) fn next(&mut self) -> u64 {
        self.count += 1;
        self.secret.hash_one(self.count)
    }

    /// The initial sequence number of a connection (RFC 6528 §3): a place on the circle that only this
    /// engine knows for these ends, and the time.
    pub(super) fn isn(&self, now: Timestamp, ends: Ends) -> u32 {
        let place = self.sequence.hash_one(ends) as u32;
        place.wrapping_add((now.as_nanos() >> TICK) as u32)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use pontoon_packet::Endpoint;

    use super::*;

    fn ends(port: u16) -> Ends {
        let end = |port| Endpoint::new(Ipv4Addr::LOCALHOST.into(), port);
        Ends {
            container: end(80),
            far: end(port),
        }
    }

    #[test]
    fn numbers_differ_within_and_between_generators() {
        let (mut a, mut b) = (Seeds::default(), Seeds::default());
        let drawn = [a.next(), a.next(), b.next(), b.next()];
        let distinct: std::collections::HashSet<_> = drawn.into_iter().collect();
        assert_eq!(distinct.len(), 4);
    }

    #[test]
    fn a_later_connection_of_the_same_ends_begins_ahead_of_the_earlier_one() {
        let seeds = Seeds::default();
        let first = seeds.isn(Timestamp::from_secs(7), ends(1));
        let minute = Timestamp::from_secs(7) + Duration::from_secs(60);
        let ahead = seeds.isn(minute, ends(1)).wrapping_sub(first);
        assert_eq!(u64::from(ahead), 60_000_000_000 >> TICK);
        assert!(ahead < 1 << 31);
    }

    #[test]
    fn connections_of_other_ends_begin_elsewhere() {
        let (seeds, others) = (Seeds::default(), Seeds::default());
        let at = |seeds: &Seeds, port| seeds.isn(Timestamp::ZERO, ends(port));
        let mut drawn: Vec<_> = (1..=32).map(|port| at(&seeds, port)).collect();
        drawn.extend((1..=32).map(|port| at(&others, port)));
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 64);
    }
}
