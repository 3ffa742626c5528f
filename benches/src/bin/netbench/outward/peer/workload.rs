//! The command that a container runs: it does nothing, and holds the container's namespaces.

use crate::error::{Error, Result};
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a container may take to start its command.
const LIMIT: Duration = Duration::from_secs(10);

/// The program; processes of this name are no part of a peer.
pub(in crate::outward) const PROGRAM: &str = "sleep";

/// Workloads so far: each sleeps for another number of seconds.
static NUMBER: AtomicU32 = AtomicU32::new(1_000_000);

/// A command that can be told from every other process of the machine.
pub(super) struct Workload {
    seconds: String,
}

impl Workload {
    /// A command that has not been used yet.
    pub(super) fn new() -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self {
            seconds: format!("{number}.{}", std::process::id()),
        }
    }

    /// What tells it from others; fit for a file's name.
    pub(super) fn mark(&self) -> &str {
        &self.seconds
    }

    /// The command line.
    pub(super) fn line(&self) -> String {
        format!("{PROGRAM} {}", self.seconds)
    }

    /// Waits until it runs and answers its process.
    ///
    /// # Errors
    /// [`Error::TimedOut`], or what `check` finds wrong meanwhile.
    pub(super) fn await_start(&self, mut check: impl FnMut() -> Result<()>) -> Result<u32> {
        let (start, line) = (Instant::now(), format!("{PROGRAM}\0{}\0", self.seconds));
        while start.elapsed() < LIMIT {
            if let Some(pid) = process_with(&line) {
                return Ok(pid);
            }
            check()?;
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(Error::TimedOut {
            what: "start of the container's command".to_owned(),
            after: LIMIT,
        })
    }
}

fn process_with(line: &str) -> Option<u32> {
    let mut pids = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|found| found == line.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn started_command_is_found() {
        let workload = Workload::new();
        let mut child = Command::new(PROGRAM).arg(workload.mark()).spawn().unwrap();
        assert_eq!(workload.await_start(|| Ok(())).unwrap(), child.id());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
