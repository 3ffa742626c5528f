//! What is left in a container whose monitor cannot end it.

use std::fs::{self, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::io::process::{Process, started};

/// How long processes may take to die of SIGKILL; nothing else is answered meanwhile.
const TIME: Duration = Duration::from_millis(500);
/// How often they are looked for meanwhile: they may fork.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Kinds of namespaces whose processes are ended.
const KINDS: [&str; 2] = ["net", "mnt"];

/// Ends every process in a network or mount namespace. As long as the caller has its descriptor, no other
/// namespace can have its number.
///
/// # Errors
/// It is the keeper's own, `/proc` is not mounted, or processes do not end.
pub(super) fn end_processes(net: BorrowedFd<'_>) -> io::Result<()> {
    let wanted = number(&fs::File::from(net.try_clone_to_owned()?).metadata()?);
    let own = std::process::id().cast_signed();
    if is_in(own, wanted) {
        let what = "the namespace is the keeper's own";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    let end = Instant::now() + TIME;
    loop {
        let left = kill_all(wanted)?;
        if left == 0 {
            return Ok(());
        }
        if Instant::now() > end {
            let what = format!("{left} processes do not end");
            return Err(io::Error::new(io::ErrorKind::TimedOut, what));
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Ends a process that was started at `since` (see [`started`]), and all others in its mount namespace.
///
/// # Errors
/// It is in the keeper's own namespace, or does not end.
pub(super) fn end_leftover(pid: i32, since: u64) -> io::Result<()> {
    let there = || started(pid).is_ok_and(|at| at == since);
    let found = there().then(|| {
        (
            Process::open(pid),
            fs::File::open(format!("/proc/{pid}/ns/mnt")),
        )
    });
    // Whoever has the number now had it when both were opened.
    let Some((process, mount)) = found.filter(|_| there()) else {
        return Ok(());
    };
    process?.signal(Signal::SIGKILL)?;
    end_processes(mount?.as_fd())
}

/// Sends SIGKILL to all that are there. Returns how many that are.
fn kill_all(wanted: (u64, u64)) -> io::Result<usize> {
    let mut found = 0;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if !is_in(pid, wanted) {
            continue;
        }
        let process = match Process::open(pid) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => continue,
            opened => opened?,
        };
        // The number may have gone to another one before it was opened.
        if is_in(pid, wanted) {
            process.signal(Signal::SIGKILL)?;
            found += 1;
        }
    }
    Ok(found)
}

/// A process that has ended is in no namespace, and others' cannot be seen.
fn is_in(pid: i32, wanted: (u64, u64)) -> bool {
    // Numbers of namespaces are unique, whatever their kind.
    KINDS.iter().any(|kind| {
        let there = fs::metadata(format!("/proc/{pid}/ns/{kind}"));
        there.is_ok_and(|there| number(&there) == wanted)
    })
}

fn number(namespace: &Metadata) -> (u64, u64) {
    (namespace.dev(), namespace.ino())
}
