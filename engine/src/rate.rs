//! Rates: how often the engine speaks of its own accord.

use core::net::IpAddr;

use ahash::RandomState;
use hashbrown::HashMap;
use pontoon_packet::Timestamp;

/// A bucket that fills with one token per `1/rate` seconds, up to `burst`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenBucket {
    rate: u32,
    burst: u32,
    /// Tokens in units of a nanosecond's worth times `rate`.
    credit: u64,
    filled: Timestamp,
}

const TOKEN: u64 = 1_000_000_000;

impl TokenBucket {
    /// A full bucket. `rate` is in tokens per second.
    pub(crate) const fn new(rate: u32, burst: u32) -> Self {
        Self {
            rate,
            burst,
            credit: burst as u64 * TOKEN,
            filled: Timestamp::ZERO,
        }
    }

    /// Takes a token if there is one.
    pub(crate) fn take(&mut self, now: Timestamp) -> bool {
        let elapsed = now.since(self.filled).as_nanos().min(1 << 40) as u64;
        self.filled = now;
        let full = u64::from(self.burst) * TOKEN;
        self.credit = full.min(self.credit + elapsed.saturating_mul(u64::from(self.rate)));
        if self.credit < TOKEN {
            return false;
        }
        self.credit -= TOKEN;
        true
    }
}

/// ICMP errors sent per second in all; Linux `icmp_msgs_per_sec`.
pub(crate) const ICMP_PER_SECOND: u32 = 1000;
/// ICMP errors sent at once after a pause; Linux `icmp_msgs_burst`.
pub(crate) const ICMP_BURST: u32 = 50;
/// ICMP errors sent at once to one address after a pause (then one per second); Linux
/// `XRLIM_BURST_FACTOR` and `icmp_ratelimit`.
pub(crate) const ICMP_TARGET_BURST: u32 = 6;
/// Addresses whose rate is remembered; beyond it the oldest generation is forgotten.
const MAX_TARGETS: usize = 1024;

/// Limits ICMP errors, in all and for each receiver.
///
/// Both limits are randomised: a count of errors that an outsider can observe would tell how many
/// others have been sent, and from it which ports are in use (the "SAD DNS" side channel; Linux
/// commit b38e7819cae9).
///
/// Cap: two generations of `MAX_TARGETS` addresses; when the younger is full the older is
/// forgotten, which at worst lets one address start a new burst.
#[derive(Debug)]
pub(crate) struct IcmpLimiter {
    all: TokenBucket,
    young: HashMap<IpAddr, TokenBucket, RandomState>,
    old: HashMap<IpAddr, TokenBucket, RandomState>,
    random: u64,
}

impl IcmpLimiter {
    /// A limiter whose hash and randomness come from `hasher` and `seed`.
    pub(crate) fn new(hasher: RandomState, seed: u64) -> Self {
        Self {
            all: TokenBucket::new(ICMP_PER_SECOND, ICMP_BURST),
            young: HashMap::with_hasher(hasher.clone()),
            old: HashMap::with_hasher(hasher),
            random: seed | 1,
        }
    }

    /// Whether an error may be sent to `target` now.
    pub(crate) fn allow(&mut self, now: Timestamp, target: IpAddr) -> bool {
        self.target(target).take(now) && self.allow_any(now)
    }

    /// Whether an error that only the limit for all applies to may be sent now: *fragmentation
    /// needed*, which path MTU discovery depends on (Linux `icmpv4_mask_allow`).
    pub(crate) fn allow_any(&mut self, now: Timestamp) -> bool {
        // One extra token is lost at random for every fourth message on average.
        if self.next_random().is_multiple_of(4) && !self.all.take(now) {
            return false;
        }
        self.all.take(now)
    }

    fn target(&mut self, target: IpAddr) -> &mut TokenBucket {
        if self.young.len() >= MAX_TARGETS && !self.young.contains_key(&target) {
            core::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        let burst = ICMP_TARGET_BURST - (self.next_random() % 3) as u32;
        let known = self.old.remove(&target);
        self.young
            .entry(target)
            .or_insert_with(|| known.unwrap_or(TokenBucket::new(1, burst)))
    }

    /// xorshift64 (Marsaglia 2003): enough to blur a count, seeded by the shell.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    fn target(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n))
    }

    fn limiter(seed: u64) -> IcmpLimiter {
        IcmpLimiter::new(RandomState::with_seeds(1, 2, 3, 4), seed)
    }

    #[test]
    fn bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = TokenBucket::new(10, 3);
        assert_eq!(
            (0..9)
                .filter(|_| bucket.take(Timestamp::from_secs(1)))
                .count(),
            3
        );
        assert!(!bucket.take(Timestamp::from_millis(1099)));
        assert!(bucket.take(Timestamp::from_millis(1199)));
    }

    #[test]
    fn one_target_gets_a_burst_and_then_one_per_second() {
        let mut l = limiter(7);
        let sent =
            (0..2000u64).filter(|i| l.allow(Timestamp::from_millis(1000 + i / 2), target(1)));
        let sent = sent.count();
        assert!((3..=7).contains(&sent), "{sent}");
        assert!(l.allow(Timestamp::from_secs(10), target(1)));
    }

    #[test]
    fn all_targets_together_stay_under_the_limit_and_the_count_varies() {
        let count = |seed| {
            let mut l = limiter(seed);
            (0..20_000u32)
                .filter(|i| {
                    let now = Timestamp::from_nanos(1_000_000_000 + u64::from(*i) * 50_000);
                    l.allow(now, target(*i))
                })
                .count()
        };
        let counts: Vec<_> = (1..5).map(|s| count(s * 0x9e37_79b9)).collect();
        assert!(
            counts.iter().all(|c| (600..=1050).contains(c)),
            "{counts:?}"
        );
        assert!(
            counts.iter().any(|c| *c != counts[0]),
            "not randomised: {counts:?}"
        );
    }

    #[test]
    fn remembered_targets_are_bounded() {
        let mut l = limiter(3);
        for i in 0..10_000 {
            l.allow(Timestamp::from_secs(1), target(i));
        }
        assert!(l.young.len() + l.old.len() <= 2 * MAX_TARGETS);
    }
}
