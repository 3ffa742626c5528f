//! Tells of tables that had no room and of frames that were lost: at once, and from then on once a second.

use std::time::Duration;

use pontoon_packet::Timestamp;

/// Least time between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Counters by name.
pub(super) type Counts = Vec<(&'static str, u64)>;

/// Looks at counters while something happens, and tells by how much they have grown.
#[derive(Default)]
pub(super) struct Alarm {
    tell: Option<Box<dyn Fn(Counts) + Send>>,
    seen: Counts,
    next: Timestamp,
    /// Something has happened since the last look.
    unseen: bool,
}

impl Alarm {
    /// Tells from now on.
    pub(super) fn set(&mut self, tell: impl Fn(Counts) + Send + 'static) {
        self.tell = Some(Box::new(tell));
    }

    /// Something has happened.
    pub(super) const fn note(&mut self) {
        self.unseen = self.tell.is_some();
    }

    /// When counters are to be looked at.
    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        self.unseen.then_some(self.next)
    }

    /// Looks at the counters.
    pub(super) fn look(&mut self, now: Timestamp, counts: Counts) {
        let before = |name: &str| {
            let mut seen = self.seen.iter();
            seen.find(|(other, _)| *other == name)
                .map_or(0, |(_, n)| *n)
        };
        let grown = counts
            .iter()
            .map(|(name, n)| (*name, n.saturating_sub(before(name))));
        let grown: Counts = grown.filter(|(_, more)| *more > 0).collect();
        if let Some(tell) = self.tell.as_ref().filter(|_| !grown.is_empty()) {
            tell(grown);
        }
        (self.seen, self.next, self.unseen) = (counts, now + EVERY, false);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn growth_is_told_at_once_and_then_once_a_second() {
        let (tell, told) = channel();
        let mut alarm = Alarm::default();
        alarm.note();
        assert_eq!(alarm.poll_timeout(), None, "nobody listens");
        alarm.set(move |counts| tell.send(counts).unwrap());
        let begin = Timestamp::from_nanos(5_000_000_000);
        let mut looks = 0;
        for millis in 0..2_500 {
            let now = begin + Duration::from_millis(millis);
            alarm.note();
            if alarm.poll_timeout().is_some_and(|at| at <= now) {
                alarm.look(now, vec![("a", millis + 1), ("b", 7)]);
                looks += 1;
            }
        }
        let told: Vec<_> = told.try_iter().collect();
        let expected = [
            vec![("a", 1), ("b", 7)],
            vec![("a", 1000)],
            vec![("a", 1000)],
        ];
        assert_eq!((looks, &told[..]), (3, &expected[..]));
        // What came last is looked at although nothing more comes.
        assert_eq!(alarm.poll_timeout(), Some(begin + Duration::from_secs(3)));
        alarm.look(begin + Duration::from_secs(3), vec![("a", 2001), ("b", 7)]);
        assert_eq!(alarm.poll_timeout(), None);
    }
}
