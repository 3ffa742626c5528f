//! When bytes towards the container count as lost, and which of them are sent again.

use core::ops::Range;
use core::time::Duration;

use pontoon_packet::Timestamp;

use crate::held::Held;
use crate::segment::{Part, Segment};

/// Where sequence numbers that have not wrapped around begin; any but the first 4 GiB.
const ORIGIN: u64 = 1 << 32;
/// How long what was overtaken is waited for at least. Our choice: a path to a container has no reason
/// to reorder, and a round is not to cost more than a twentieth of the time between two.
const REORDERING: Duration = Duration::from_millis(2);
/// How long the last bytes sent are waited for at least: `TCP_TIMEOUT_MIN` of Linux (2 ms) and what a
/// busy machine delays.
const TAIL: Duration = Duration::from_millis(10);
/// By how much longer when they are a single segment, which the container may acknowledge late: more
/// than Linux' `TCP_DELACK_MIN` of 40 ms.
const LATE: Duration = Duration::from_millis(50);
/// The round-trip time of a path that was not measured yet. Our choice.
const UNKNOWN: Duration = Duration::from_millis(10);
/// Longest time between two rounds. Our choice: a tenth of Linux' `TCP_RTO_MAX`.
const LONGEST: Duration = Duration::from_secs(12);
/// Rounds without progress after which what the container claims to hold is not believed any more.
const BELIEVED: u32 = 6;
/// Bytes sent again in a round: those of a super-frame.
const BUDGET: usize = 1 << 16;

/// The state of a connection's loss recovery: RFC 8985 (RACK-TLP) with rounds instead of a time for
/// each segment. See the crate's documentation.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    /// The container has acknowledged everything before it.
    acked: u64,
    /// Everything before it was sent at least once.
    sent: u64,
    /// What smoltcp sends next; before `sent` while it goes back.
    next: u64,
    /// What has arrived behind `acked`.
    held: Held,
    /// What counts as lost in this round.
    lost: Range<u64>,
    /// How much of it may still be sent.
    budget: usize,
    /// When the next round begins.
    due: Option<Timestamp>,
    /// Rounds since the container has last acknowledged anything.
    rounds: u32,
    /// The window that the container has told last, unscaled.
    window: u16,
    /// The window that smoltcp has heard last.
    passed: Option<u16>,
    /// Largest segment sent.
    segment: usize,
    /// Smoothed round-trip time.
    rtt: Option<Duration>,
    /// The end of something sent once, and when.
    timed: Option<(u64, Timestamp)>,
    /// The acknowledgement and window that the container was told last.
    told: (u32, u16),
}

impl Recovery {
    /// The place of a sequence number in the stream.
    const fn place(&self, seq: u32) -> u64 {
        let distance = seq.wrapping_sub(self.acked as u32) as i32;
        self.acked.wrapping_add_signed(distance as i64)
    }

    fn range(&self, segment: &Segment) -> Range<u64> {
        let start = self.place(segment.seq);
        start..start + segment.len() as u64
    }

    fn is_outstanding(&self) -> bool {
        self.acked < self.sent
    }

    /// smoltcp sends what it has sent before.
    pub(crate) const fn goes_back(&self) -> bool {
        self.next < self.sent
    }

    /// Takes note of what the container says. Returns the window that smoltcp is to hear instead of
    /// the true one, lest it count repeated acknowledgements.
    pub(crate) fn heard(&mut self, now: Timestamp, segment: &Segment) -> Option<u16> {
        let acked = self.place(segment.ack);
        let valid = segment.is_ack() && (self.acked..=self.sent).contains(&acked);
        if !valid {
            if segment.is_syn() {
                self.window = segment.window;
                self.sample(now);
            }
            return None;
        }
        let repeats = acked == self.acked && segment.len() == 0;
        self.window = segment.window;
        self.progress(acked);
        let news = self.hold(segment);
        self.sample(now);
        self.wait(now, news);
        self.pass(repeats && self.is_outstanding())
    }

    fn progress(&mut self, acked: u64) {
        if acked == self.acked {
            return;
        }
        self.acked = acked;
        self.next = self.next.max(acked);
        self.held.forget_before(acked);
        self.rounds = 0;
        self.due = None;
    }

    /// The window to tell smoltcp instead of the true one: it counts as repeated what tells no new one.
    fn pass(&mut self, repeats: bool) -> Option<u16> {
        let told = self.passed.replace(self.window);
        let changed = (repeats && self.window > 1 && told == self.passed).then(|| self.window - 1);
        self.passed = changed.or(self.passed);
        changed
    }

    /// Takes note of what has arrived out of order. Says whether that was news.
    fn hold(&mut self, segment: &Segment) -> bool {
        let mut news = false;
        for (start, end) in segment.held.into_iter().flatten() {
            let range = self.place(start).max(self.acked)..self.place(end).min(self.sent);
            news |= self.held.add(range);
        }
        news
    }

    /// Measures the round trip of what was timed, if it has arrived (RFC 6298 §2).
    fn sample(&mut self, now: Timestamp) {
        let arrived = |end: &u64| *end <= self.acked || self.held.contains(end - 1);
        if let Some((_, at)) = self.timed.take_if(|(end, _)| arrived(end)) {
            let rtt = now.since(at);
            self.rtt = Some(self.rtt.map_or(rtt, |smoothed| (smoothed * 7 + rtt) / 8));
        }
    }

    /// Decides when the next round begins, now that the container has said something.
    fn wait(&mut self, now: Timestamp, news: bool) {
        if !self.is_outstanding() || self.window == 0 {
            self.due = None;
        } else if news || self.due.is_none() {
            let at = now + self.patience();
            self.due = Some(self.due.map_or(at, |due| due.min(at)));
        }
    }

    /// How long what is outstanding is waited for.
    fn patience(&self) -> Duration {
        let rtt = self.rtt.unwrap_or(UNKNOWN);
        let once = if self.held.overtaken().is_some() {
            rtt.max(REORDERING)
        } else if self.sent - self.acked <= self.segment as u64 {
            (rtt * 2).max(TAIL) + LATE
        } else {
            (rtt * 2).max(TAIL)
        };
        LONGEST.min(once * (1 << self.rounds.min(16)))
    }

    /// When a round begins.
    pub(crate) const fn due(&self) -> Option<Timestamp> {
        self.due
    }

    /// Nothing is waited for any more.
    pub(crate) const fn end(&mut self) {
        self.due = None;
    }

    /// Begins a round, if it is time for one: smoltcp is to go back to what was acknowledged last.
    pub(crate) fn begin_round(&mut self, now: Timestamp) -> bool {
        if self.due.is_none_or(|due| now < due) {
            return false;
        }
        self.rounds += 1;
        if self.rounds > BELIEVED {
            self.held.forget();
        }
        self.lost = self.suspects();
        if self.held.overtaken().is_none() {
            // The acknowledgement of what was timed may have waited for what is sent again now.
            self.timed = None;
        }
        self.budget = BUDGET;
        self.next = self.acked;
        self.due = Some(now + self.patience());
        true
    }

    /// What counts as lost: all that was overtaken; if nothing is known of that, the last segment,
    /// whose arrival will tell; if that has not helped, everything.
    fn suspects(&self) -> Range<u64> {
        match self.held.overtaken() {
            Some(end) => self.acked..end,
            None if self.rounds == 1 => {
                let last = self.sent.saturating_sub(self.segment.max(1) as u64);
                last.max(self.acked)..self.sent
            }
            None => self.acked..self.sent,
        }
    }

    /// Takes note of what smoltcp sends.
    pub(crate) fn note(&mut self, now: Timestamp, segment: &Segment, gso: Option<u16>) {
        self.told = (segment.ack, segment.window);
        if segment.is_syn() {
            self.acked = ORIGIN + u64::from(segment.seq) + 1;
            self.sent = self.acked;
            self.next = self.acked;
            self.timed = Some((self.acked, now));
            return;
        }
        let range = self.range(segment);
        if range.is_empty() || range.start < self.acked {
            // A keep-alive lies before everything.
            return;
        }
        if range.start < self.sent {
            // smoltcp's own timer: as good as a round that has not helped.
            self.held.forget();
            self.lost = self.acked..self.sent;
            self.budget = BUDGET;
        }
        let size = gso.map_or(segment.payload, usize::from);
        self.segment = self.segment.max(size);
        self.advance(now, range.end);
    }

    fn advance(&mut self, now: Timestamp, end: u64) {
        self.next = end;
        if end <= self.sent {
            return;
        }
        self.sent = end;
        self.timed.get_or_insert((end, now));
        if self.due.is_none() && self.window > 0 {
            self.due = Some(now + self.patience());
        }
    }

    /// Which parts of a segment are to be sent, now that smoltcp goes back: those that are new, and
    /// those that are lost.
    pub(crate) fn sift(&mut self, now: Timestamp, segment: &Segment) -> Vec<Part> {
        let told = core::mem::replace(&mut self.told, (segment.ack, segment.window));
        if segment.len() == 0 {
            return vec![segment.whole()];
        }
        let range = self.range(segment);
        let mut parts = self.take_lost(&range);
        let new = range.start.max(self.sent)..range.end;
        parts.extend((!new.is_empty()).then_some(new));
        self.advance(now, range.end);
        if parts.is_empty() && told != self.told {
            // The container is still to hear what this acknowledges.
            return vec![Part {
                place: 0..0,
                seq: self.sent as u32,
            }];
        }
        let part = |part: Range<u64>| Part {
            place: (part.start - range.start) as usize..(part.end - range.start) as usize,
            seq: part.start as u32,
        };
        parts.into_iter().map(part).collect()
    }

    /// What of `range` is lost, as far as the budget goes.
    fn take_lost(&mut self, range: &Range<u64>) -> Vec<Range<u64>> {
        let end = range.end.min(self.sent).min(self.lost.end);
        let lost = range.start.max(self.acked).max(self.lost.start)..end;
        let mut parts = Vec::new();
        for gap in self.held.gaps(lost) {
            let end = gap.end.min(gap.start + self.budget as u64);
            self.budget -= (end - gap.start) as usize;
            parts.extend((gap.start < end).then_some(gap.start..end));
        }
        // What is sent twice tells nothing of the time it took (RFC 6298 §3).
        self.timed
            .take_if(|(end, _)| parts.iter().any(|part| part.contains(&(*end - 1))));
        parts
    }
}
