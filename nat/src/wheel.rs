//! When things end: a timing wheel that is lazy about refreshes.

/// Nobody.
pub(crate) const NONE: u32 = u32::MAX;
/// Slots of one second each. What ends later is put into the last slot and looked at again.
const SLOTS: usize = 1024;
/// From here on a link names a slot of the wheel, below it an entry.
const HEADS: u32 = 1 << 31;

/// The links of one entry, kept with the entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Links {
    next: u32,
    /// The entry in front; of the first one the slot.
    previous: u32,
}

impl Links {
    pub(crate) const UNLINKED: Self = Self {
        next: NONE,
        previous: NONE,
    };
}

/// Where the wheel finds the links of entry number `index`.
pub(crate) trait Linked {
    fn links(&mut self, index: u32) -> &mut Links;
}

/// A wheel of one-second slots, each a doubly linked list through the entries.
///
/// A refresh does not touch the wheel: it only moves the entry's own deadline. When an entry's slot
/// comes up, its owner looks at the deadline and puts it in again if it was refreshed. That is one
/// look per entry and timeout, whatever the traffic.
#[derive(Debug)]
pub(crate) struct Wheel {
    heads: Box<[u32; SLOTS]>,
    occupied: [u64; SLOTS / 64],
    /// The second up to which everything has been looked at.
    done: u64,
}

impl Wheel {
    pub(crate) fn new() -> Self {
        Self {
            heads: Box::new([NONE; SLOTS]),
            occupied: [0; SLOTS / 64],
            done: 0,
        }
    }

    /// Puts an entry in that ends at second `at`. Indices are below 2³¹.
    pub(crate) fn link(&mut self, entries: &mut impl Linked, index: u32, at: u64) {
        let last = self.done + SLOTS as u64 - 1;
        let slot = (at.clamp(self.done + 1, last) % SLOTS as u64) as usize;
        let head = self.heads[slot];
        *entries.links(index) = Links {
            next: head,
            previous: HEADS + slot as u32,
        };
        if head != NONE {
            entries.links(head).previous = index;
        }
        self.heads[slot] = index;
        self.occupied[slot / 64] |= 1 << (slot % 64);
    }

    /// Takes an entry out.
    pub(crate) fn unlink(&mut self, entries: &mut impl Linked, index: u32) {
        let Links { next, previous } = *entries.links(index);
        if previous == NONE {
            return;
        }
        if previous < HEADS {
            entries.links(previous).next = next;
        } else {
            let slot = (previous - HEADS) as usize;
            self.heads[slot] = next;
            if next == NONE {
                self.occupied[slot / 64] &= !(1 << (slot % 64));
            }
        }
        if next != NONE {
            entries.links(next).previous = previous;
        }
        *entries.links(index) = Links::UNLINKED;
    }

    /// Takes out one entry whose slot has come up by second `now`; `None` when there are no more.
    pub(crate) fn pop(&mut self, entries: &mut impl Linked, now: u64) -> Option<u32> {
        loop {
            let next = self.next_slot()?;
            if next > now {
                self.done = self.done.max(now);
                return None;
            }
            let head = self.heads[(next % SLOTS as u64) as usize];
            if head != NONE {
                self.unlink(entries, head);
                self.done = self.done.max(next - 1);
                return Some(head);
            }
        }
    }

    /// The second of the next slot that is occupied.
    pub(crate) fn next_slot(&self) -> Option<u64> {
        let start = self.done + 1;
        (0..=SLOTS / 64).find_map(|word| {
            let base = start / 64 * 64 + word as u64 * 64;
            let bits = self.occupied[(base / 64) as usize % (SLOTS / 64)];
            let bits = if word == 0 {
                bits & (!0 << (start % 64))
            } else {
                bits
            };
            (bits != 0).then(|| base + u64::from(bits.trailing_zeros()))
        })
    }

    /// Brings an idle wheel up to the present, so that its horizon is as far as it can be.
    pub(crate) fn skip_to(&mut self, now: u64) {
        let free = self.next_slot().is_none_or(|next| next > now);
        if free {
            self.done = self.done.max(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Entries(Vec<Links>);

    impl Linked for Entries {
        fn links(&mut self, index: u32) -> &mut Links {
            &mut self.0[index as usize]
        }
    }

    fn drain(wheel: &mut Wheel, entries: &mut Entries, now: u64) -> Vec<u32> {
        core::iter::from_fn(|| wheel.pop(entries, now)).collect()
    }

    #[test]
    fn entries_come_up_at_their_second_and_not_before() {
        let mut wheel = Wheel::new();
        let mut entries = Entries(vec![Links::UNLINKED; 3]);
        for (index, at) in [(0, 30), (1, 10), (2, 700)] {
            wheel.link(&mut entries, index, at);
        }
        assert_eq!(wheel.next_slot(), Some(10));
        assert_eq!(drain(&mut wheel, &mut entries, 9), []);
        assert_eq!(drain(&mut wheel, &mut entries, 10), [1]);
        assert_eq!(drain(&mut wheel, &mut entries, 699), [0]);
        assert_eq!(drain(&mut wheel, &mut entries, 5000), [2]);
        assert_eq!(wheel.next_slot(), None);
    }

    #[test]
    fn what_ends_beyond_the_horizon_comes_up_early_to_be_put_in_again() {
        let mut wheel = Wheel::new();
        let mut entries = Entries(vec![Links::UNLINKED; 1]);
        wheel.link(&mut entries, 0, 432_000);
        assert_eq!(wheel.next_slot(), Some(SLOTS as u64 - 1));
        assert_eq!(drain(&mut wheel, &mut entries, 1023), [0]);
        wheel.link(&mut entries, 0, 432_000);
        assert_eq!(wheel.next_slot().unwrap(), 1022 + 1023);
    }

    #[test]
    fn an_entry_in_the_middle_can_be_taken_out() {
        let mut wheel = Wheel::new();
        let mut entries = Entries(vec![Links::UNLINKED; 3]);
        for index in 0..3 {
            wheel.link(&mut entries, index, 5);
        }
        wheel.unlink(&mut entries, 1);
        wheel.unlink(&mut entries, 1);
        assert_eq!(drain(&mut wheel, &mut entries, 5), [2, 0]);
    }
}
