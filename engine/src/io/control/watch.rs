//! Notices that the first process of a container, or its monitor, has ended.
//!
//! The monitor tells with which status, and ends what the command left behind. One that was killed does
//! neither, so ends are seen here as well, and passed on once the monitor has had its time.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};

use super::Word;
use crate::control::state::ContainerNumber;
use crate::io::process::Process;

/// How long a monitor may take to report.
const GRACE: Duration = Duration::from_secs(1);
/// Ends that are taken note of at once.
const BATCH: usize = 64;

/// The processes that are watched.
pub(super) struct Watch(Registry);

impl Watch {
    /// Starts to watch; ends are told to `words`.
    pub(super) fn start(words: Sender<Word>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        thread::Builder::new()
            .name("pontoon-ends".to_owned())
            .spawn(move || watch(poll, &words))?;
        Ok(Self(registry))
    }

    /// Watches a process of a container.
    pub(super) fn add(&self, container: ContainerNumber, process: &Process) -> io::Result<()> {
        let fd = process.as_fd().as_raw_fd();
        let token = Token(container.0 as usize);
        self.0
            .register(&mut SourceFd(&fd), token, Interest::READABLE)
    }

    /// No longer watches it.
    pub(super) fn remove(&self, process: &Process) {
        // One that could not be added is not there.
        let _ = self
            .0
            .deregister(&mut SourceFd(&process.as_fd().as_raw_fd()));
    }
}

fn watch(mut poll: Poll, words: &Sender<Word>) {
    let mut events = Events::with_capacity(BATCH);
    let mut due: VecDeque<(Instant, ContainerNumber)> = VecDeque::new();
    loop {
        let next = due.front().map(|(at, _)| *at);
        let wait = next.map(|at| at.saturating_duration_since(Instant::now()));
        if poll.poll(&mut events, wait).is_err() {
            // A signal; nothing else can be wrong with a poll that was made.
            continue;
        }
        let now = Instant::now();
        let ended = events.iter();
        let ended = ended.map(|event| ContainerNumber(event.token().0 as u32));
        due.extend(ended.map(|container| (now + GRACE, container)));
        while let Some((_, container)) = due.front().copied().filter(|(at, _)| *at <= now) {
            due.pop_front();
            if words.send(Word::Ended(container)).is_err() {
                return;
            }
        }
    }
}
