//! A link between a host and the datapath, and its faults.

use core::time::Duration;

/// How a link treats the frames of one direction.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Percent of frames that are lost.
    pub lost: u64,
    /// Percent of frames that arrive twice.
    pub repeated: u64,
    /// Percent of frames that later ones overtake.
    pub late: u64,
    /// How long a frame takes that is not late.
    pub delay: Duration,
}

impl Link {
    /// Loses nothing, and keeps the order.
    pub const PERFECT: Self = Self {
        lost: 0,
        repeated: 0,
        late: 0,
        delay: Duration::from_millis(1),
    };

    /// When the copies of one frame arrive, counted from now: none, one or two.
    pub fn arrivals(&self, random: &mut Random) -> Vec<Duration> {
        let copies = if random.percent(self.lost) {
            0
        } else if random.percent(self.repeated) {
            2
        } else {
            1
        };
        (0..copies).map(|_| self.transit(random)).collect()
    }

    fn transit(&self, random: &mut Random) -> Duration {
        if random.percent(self.late) {
            self.delay * (2 + random.below(6) as u32)
        } else {
            self.delay
        }
    }
}

/// xorshift64* (Vigna 2016), seeded.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence that depends on `seed` alone.
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % bound
    }

    /// Bytes that look like nothing else.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }

    const fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}
