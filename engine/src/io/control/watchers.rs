//! Clients that watch: each has a queue of events. Who reads slowly loses some and is told how many;
//! nobody waits for it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::control::event::{Event, Record, Snapshot};
use crate::control::fault::of_limit;
use crate::control::state::State;

/// Clients that watch at once: a quarter of those that are served.
const MAX_WATCHERS: usize = 16;
/// Events that wait for one of them.
const QUEUE: usize = 256;

/// Everybody who watches.
#[derive(Default)]
pub(super) struct Watchers(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    last: Snapshot,
    queues: Vec<Weak<Queue>>,
}

/// What waits for one who watches, as JSON lines.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    bell: EventFd,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    lost: u64,
}

impl Watchers {
    /// One more watches, from `state` on; `None` when there are too many.
    pub(super) fn join(&self, state: &State) -> io::Result<Option<Arc<Queue>>> {
        let mut inner = lock(&self.0);
        inner.queues.retain(|queue| queue.strong_count() > 0);
        if inner.queues.len() >= MAX_WATCHERS {
            return Ok(None);
        }
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let queue = Arc::new(Queue {
            waiting: Mutex::default(),
            bell: EventFd::from_flags(flags)?,
        });
        if inner.queues.is_empty() {
            inner.last = Snapshot::of(state);
        }
        inner.queues.push(Arc::downgrade(&queue));
        Ok(Some(queue))
    }

    /// Something may have changed. Costs nothing while nobody watches.
    pub(super) fn note(&self, state: &State) {
        let mut inner = lock(&self.0);
        inner.queues.retain(|queue| queue.strong_count() > 0);
        if inner.queues.is_empty() {
            return;
        }
        let now = Snapshot::of(state);
        let events = inner.last.changes(&now);
        inner.last = now;
        events.into_iter().for_each(|event| inner.tell(event));
    }

    /// Tables had no room: the counters of some have grown.
    pub(super) fn tell_of_limits(&self, grown: &[(&'static str, u64)]) {
        let faults = grown
            .iter()
            .filter_map(|(name, times)| of_limit(name, *times));
        faults.for_each(|fault| self.tell(fault));
    }

    /// Something has happened that is no change of what there is.
    pub(super) fn tell(&self, event: Event) {
        lock(&self.0).tell(event);
    }
}

impl Inner {
    fn tell(&self, event: Event) {
        let line = line(event);
        for queue in self.queues.iter().filter_map(Weak::upgrade) {
            queue.push(line.clone());
        }
    }
}

impl Queue {
    fn push(&self, line: Vec<u8>) {
        let mut waiting = lock(&self.waiting);
        if waiting.lines.len() < QUEUE {
            waiting.lines.push_back(line);
        } else {
            waiting.lost += 1;
        }
        // Who watches looks before it sleeps; a bell that rings already will do.
        let _ = self.bell.write(1);
    }

    /// Takes what waits, and says at its end how much was lost.
    pub(super) fn take(&self) -> Vec<u8> {
        let mut waiting = lock(&self.waiting);
        // Nothing to read is no harm.
        let _ = self.bell.read();
        let mut lines: Vec<u8> = waiting.lines.drain(..).flatten().collect();
        let count = std::mem::take(&mut waiting.lost);
        if count > 0 {
            lines.extend(line(Event::Lost { count }));
        }
        lines
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

fn line(event: Event) -> Vec<u8> {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let record = Record {
        time_nanos: time.map_or(0, |time| time.as_nanos() as u64),
        event,
    };
    let mut line = serde_json::to_vec(&record).expect("events have no keys but strings");
    line.push(b'\n');
    line
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fault::FaultKind;

    fn fault(number: usize) -> Event {
        Event::Fault {
            kind: FaultKind::FramesLost,
            what: number.to_string(),
        }
    }

    fn read(queue: &Queue) -> Vec<Event> {
        let text = String::from_utf8(queue.take()).unwrap();
        let records = text
            .lines()
            .map(|line| serde_json::from_str::<Record>(line).unwrap());
        records.map(|record| record.event).collect()
    }

    #[test]
    fn who_does_not_read_loses_events_and_is_told_how_many() {
        let watchers = Watchers::default();
        let slow = watchers.join(&State::default()).unwrap().unwrap();
        let quick = watchers.join(&State::default()).unwrap().unwrap();
        for number in 0..QUEUE + 3 {
            watchers.tell(fault(number));
            assert_eq!(read(&quick), [fault(number)]);
        }
        let events = read(&slow);
        assert_eq!(events.len(), QUEUE + 1);
        assert_eq!(events[QUEUE - 1], fault(QUEUE - 1));
        assert_eq!(events[QUEUE], Event::Lost { count: 3 });
        watchers.tell(fault(7));
        assert_eq!(read(&slow), [fault(7)]);
    }

    #[test]
    fn so_many_watch_and_a_place_is_free_when_one_goes() {
        let watchers = Watchers::default();
        let join = || watchers.join(&State::default()).unwrap();
        let mut all: Vec<_> = std::iter::from_fn(join).collect();
        assert_eq!(all.len(), MAX_WATCHERS);
        all.pop();
        assert!(join().is_some());
    }
}
