//! Notices that the first process of a container, or its monitor, has ended.
//!
//! The monitor tells with which status, and ends what the command left behind. One that was killed does
//! neither, so ends are seen here as well: that of a monitor is passed on at once, since it has told what it
//! had to tell before, and that of a first process once its monitor has had its time.

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

/// What a process is to its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Its first process.
    First,
    /// Its monitor.
    Monitor,
}

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
    pub(super) fn add(
        &self,
        container: ContainerNumber,
        role: Role,
        process: &Process,
    ) -> io::Result<()> {
        let fd = process.as_fd().as_raw_fd();
        self.0.register(
            &mut SourceFd(&fd),
            token(container, role),
            Interest::READABLE,
        )
    }

    /// No longer watches it.
    pub(super) fn remove(&self, process: &Process) {
        // One that could not be added is not there.
        let _ = self
            .0
            .deregister(&mut SourceFd(&process.as_fd().as_raw_fd()));
    }
}

fn token(container: ContainerNumber, role: Role) -> Token {
    Token((container.0 as usize) << 1 | usize::from(role == Role::Monitor))
}

fn of_token(Token(number): Token) -> (ContainerNumber, Role) {
    let role = match number & 1 {
        0 => Role::First,
        _ => Role::Monitor,
    };
    (ContainerNumber((number >> 1) as u32), role)
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
        for event in &events {
            match of_token(event.token()) {
                (container, Role::First) => due.push_back((now + GRACE, container)),
                (container, Role::Monitor) => due.push_front((now, container)),
            }
        }
        while let Some((_, container)) = due.front().copied().filter(|(at, _)| *at <= now) {
            due.pop_front();
            if words.send(Word::Ended(container)).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use crossbeam_channel::unbounded;

    use super::*;

    fn of(container: u32) -> Word {
        Word::Ended(ContainerNumber(container))
    }

    fn sleeper(watch: &Watch, number: u32, role: Role) -> (Child, Process) {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::open(child.id() as i32).unwrap();
        watch.add(ContainerNumber(number), role, &process).unwrap();
        (child, process)
    }

    #[test]
    fn a_monitors_end_is_told_at_once_and_a_first_process_waits_for_its_monitor() {
        let (words, word) = unbounded();
        let watch = Watch::start(words).unwrap();
        let mut first = sleeper(&watch, 1, Role::First);
        let mut monitor = sleeper(&watch, u32::MAX, Role::Monitor);
        for (child, _) in [&mut first, &mut monitor] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        // Kernels tell of an end once more when somebody has taken note of it.
        let mut told = word.iter().take_while(|word| *word != of(1)).peekable();
        assert_eq!(told.peek(), Some(&of(u32::MAX)));
        assert!(told.all(|word| word == of(u32::MAX)));
    }
}
