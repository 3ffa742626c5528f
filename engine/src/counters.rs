//! What happened, in numbers.

use ahash::RandomState;
use hashbrown::HashMap;

use crate::drop::DropReason;

/// Counts of the whole datapath; those of one port are kept with the port.
#[derive(Debug)]
pub(crate) struct Counters {
    drops: HashMap<DropReason, u64, RandomState>,
    /// ARP requests answered for the gateway.
    pub(crate) arp_answered: u64,
    /// ARP requests originated.
    pub(crate) arp_asked: u64,
    /// Echo requests answered by a gateway.
    pub(crate) echo_answered: u64,
    /// ICMP errors sent.
    pub(crate) icmp_sent: u64,
    /// ICMP errors not sent because of the rate limits.
    pub(crate) icmp_limited: u64,
    /// Datagrams put together from fragments.
    pub(crate) reassembled: u64,
    /// Fragments made.
    pub(crate) fragments_sent: u64,
    /// Frames that took the compiled path.
    pub(crate) cached: u64,
}

impl Counters {
    pub(crate) fn new(hasher: RandomState) -> Self {
        Self {
            drops: HashMap::with_hasher(hasher),
            arp_answered: 0,
            arp_asked: 0,
            echo_answered: 0,
            icmp_sent: 0,
            icmp_limited: 0,
            reassembled: 0,
            fragments_sent: 0,
            cached: 0,
        }
    }

    pub(crate) fn drop(&mut self, reason: DropReason) {
        *self.drops.entry(reason).or_insert(0) += 1;
    }

    /// How many frames were dropped for a reason.
    pub(crate) fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(&reason).copied().unwrap_or_default()
    }

    pub(crate) fn drops(&self) -> Vec<(String, u64)> {
        let mut drops: Vec<_> = self.drops.iter().map(|(r, n)| (r.name(), *n)).collect();
        drops.sort_unstable();
        drops
    }

    pub(crate) fn named(&self) -> Vec<(String, u64)> {
        [
            ("arp.answered", self.arp_answered),
            ("arp.asked", self.arp_asked),
            ("echo.answered", self.echo_answered),
            ("icmp.sent", self.icmp_sent),
            ("icmp.limited", self.icmp_limited),
            ("fragments.reassembled", self.reassembled),
            ("fragments.sent", self.fragments_sent),
            ("flows.cached_frames", self.cached),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}
