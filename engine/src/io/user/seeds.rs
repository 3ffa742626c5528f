//! Numbers that nobody can guess.

use std::hash::{BuildHasher, RandomState};

/// A generator keyed by the system: SipHash of a count.
#[derive(Debug, Default)]
pub(super) struct Seeds {
    secret: RandomState,
    count: u64,
}

impl Seeds {
    /// The next one.
    pub(super) fn next(&mut self) -> u64 {
        self.count += 1;
        self.secret.hash_one(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ_within_and_between_generators() {
        let (mut a, mut b) = (Seeds::default(), Seeds::default());
        let drawn = [a.next(), a.next(), b.next(), b.next()];
        let distinct: std::collections::HashSet<_> = drawn.into_iter().collect();
        assert_eq!(distinct.len(), 4);
    }
}
