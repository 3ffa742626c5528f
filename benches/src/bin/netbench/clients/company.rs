//! What goes on beside the traffic that is measured.

use super::racer::{Client, race};
use crate::error::{Error, Result};
use serde::Serialize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

/// Clients that connect and ask for nothing: as many as an engine takes.
const IDLE: usize = 64;

/// Clients that ask as fast as they are answered.
const RACING: usize = 20;

/// Who is there besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Company {
    /// Nobody.
    Nobody,
    /// Clients that ask for nothing.
    Idle,
    /// Clients that ask as fast as they are answered.
    Racing,
    /// A thread that has nothing to do with the engine, and computes.
    Computing,
}

impl Company {
    /// Everybody, whoever the others are compared with in front.
    pub(crate) const ALL: [Self; 4] = [Self::Nobody, Self::Idle, Self::Racing, Self::Computing];

    /// The name in reports.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Idle => "64 idle clients",
            Self::Racing => "20 racing clients",
            Self::Computing => "a busy thread",
        }
    }

    /// Does `work` beside it. Answers how many requests were answered per second as well.
    ///
    /// # Errors
    /// Those of `work`, or a client was refused.
    pub(super) fn beside<T>(
        self,
        socket: &Path,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<(T, f64)> {
        match self {
            Self::Nobody => work().map(|done| (done, 0.0)),
            Self::Idle => {
                let connect = |_| Client::connect(socket);
                let _clients: Vec<_> = (0..IDLE).map(connect).collect::<Result<_>>()?;
                work().map(|done| (done, 0.0))
            }
            Self::Racing => meanwhile(RACING, |number, done| race(socket, number, done), work),
            Self::Computing => meanwhile(1, |_, done| Ok(compute(done)), work),
        }
    }
}

/// Does `work` while threads do `other`; answers what they counted, per second.
fn meanwhile<T>(
    threads: usize,
    other: impl Fn(usize, &AtomicBool) -> Result<u64> + Sync,
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, f64)> {
    let (done, start) = (AtomicBool::new(false), Instant::now());
    thread::scope(|scope| {
        let (done, other) = (&done, &other);
        let begin = |number| scope.spawn(move || other(number, done));
        let others: Vec<_> = (0..threads).map(begin).collect();
        let outcome = work();
        done.store(true, Ordering::Relaxed);
        let mut counted = 0;
        for one in others {
            counted += one.join().map_err(|_| panicked())??;
        }
        Ok((outcome?, counted as f64 / start.elapsed().as_secs_f64()))
    })
}

fn compute(done: &AtomicBool) -> u64 {
    while !done.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
    0
}

fn panicked() -> Error {
    Error::Failed {
        command: "thread beside the measurement".to_owned(),
        output: "panicked".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_work_until_the_work_is_done() {
        let count = |_: usize, done: &AtomicBool| {
            let mut turns = 1;
            while !done.load(Ordering::Relaxed) {
                turns += 1;
            }
            Ok(turns)
        };
        let (done, rate) = meanwhile(3, count, || Ok("done")).unwrap();
        assert_eq!(done, "done");
        assert!(rate > 0.0);
    }

    #[test]
    fn a_client_that_is_refused_fails_the_measurement() {
        let refused = |_: usize, _: &AtomicBool| Err(panicked());
        assert!(meanwhile(1, refused, || Ok(())).is_err());
    }
}
