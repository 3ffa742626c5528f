//! The outer process: runs the measurements in a child and leaves nothing behind.
//!
//! The systems under test start daemons of their own. The supervisor is their subreaper: whatever
//! outlives the measurements, or an interrupt from the terminal, becomes its child and is ended
//! here. Namespaces are held by nothing but descriptors and processes, so they go as well.

use crate::error::{Context, Result};
use crate::outward::SocketMemory;
use nix::errno::Errno;
use nix::sys::prctl::{set_child_subreaper, set_pdeathsig};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// Environment variable that tells the measuring child from the supervisor.
const INSIDE: &str = "NETBENCH_INSIDE";

/// How long daemons may take to leave after the measurements before they are killed.
const GRACE: Duration = Duration::from_secs(2);

/// Whether this process is the measuring child.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Prepares the measuring child: it takes signals again and dies with its supervisor.
///
/// # Errors
/// When the kernel refuses either setting.
pub(crate) fn settle_inside() -> Result<()> {
    SigSet::empty()
        .thread_set_mask()
        .context("unblocking signals")?;
    set_pdeathsig(Signal::SIGKILL).context("tying this process to its supervisor")
}

/// Runs this program again as the measuring child, waits for it and ends what it left.
/// Answers the exit status, 128 + signal number when a signal ended the run.
///
/// # Errors
/// When the child cannot be started or waited for.
pub(crate) fn supervise() -> Result<u8> {
    let signals: SigSet = [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGCHLD,
    ]
    .into_iter()
    .collect();
    signals.thread_block().context("blocking signals")?;
    set_child_subreaper(true).context("becoming the subreaper")?;
    let socket_memory = SocketMemory::find()?;
    let mut arguments = std::env::args_os();
    let child = Command::new("/proc/self/exe")
        .arg0(arguments.next().unwrap_or_else(|| "netbench".into()))
        .args(arguments)
        .env(INSIDE, "1")
        .spawn()
        .context("starting the measuring process")?;
    let measuring = Pid::from_raw(child.id().cast_signed());
    let status = await_end(&signals, measuring)?;
    socket_memory.restore()?;
    let grace = if status < 128 { GRACE } else { Duration::ZERO };
    end_descendants(grace);
    Ok(status)
}

/// Waits until the child ends or a signal asks for it.
fn await_end(signals: &SigSet, measuring: Pid) -> Result<u8> {
    loop {
        match signals.wait().context("waiting for a signal")? {
            Signal::SIGCHLD => {
                if let Some(status) = reap(measuring) {
                    return Ok(status);
                }
            }
            signal => {
                let _gone_already = kill(measuring, Signal::SIGKILL);
                return Ok(exit_status_of(signal));
            }
        }
    }
}

fn exit_status_of(signal: Signal) -> u8 {
    128 + u8::try_from(signal as i32).unwrap_or(0)
}

/// Collects ended children; answers the exit status of `measuring` once it is among them.
fn reap(measuring: Pid) -> Option<u8> {
    let mut status = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == measuring => {
                status = Some(u8::try_from(code).unwrap_or(1));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == measuring => {
                status = Some(exit_status_of(signal));
            }
            Ok(WaitStatus::StillAlive) | Err(_) => return status,
            Ok(_) => {}
        }
    }
}

/// Waits up to `grace` for what is left to end by itself, then kills it and says so.
fn end_descendants(grace: Duration) {
    let deadline = Instant::now() + grace;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return,
            Ok(WaitStatus::StillAlive) if Instant::now() >= deadline => kill_children(grace),
            Ok(WaitStatus::StillAlive) => {}
            _ => continue,
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Kills the direct children of this process; theirs come to us and are met in the next turn.
fn kill_children(grace: Duration) {
    for (pid, name) in children() {
        if !grace.is_zero() {
            eprintln!("netbench: {name} (pid {pid}) was left behind and is killed");
        }
        let _gone_already = kill(pid, Signal::SIGKILL);
    }
}

/// Direct children of this process: pid and name.
fn children() -> Vec<(Pid, String)> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok())
        .filter_map(|stat| child_of(&stat, std::process::id()))
        .collect()
}

/// Reads `/proc/PID/stat` (proc_pid_stat(5)); answers pid and name when the parent is `parent`.
fn child_of(stat: &str, parent: u32) -> Option<(Pid, String)> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, fields) = rest.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let alive = fields.next()? != "Z";
    let is_child = fields.next()?.parse::<u32>().ok()? == parent;
    (alive && is_child).then_some((Pid::from_raw(pid.parse().ok()?), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_brackets_in_the_name_is_read() {
        let stat = "4711 (a) (b) S 42 4711 4711 0";
        assert_eq!(
            child_of(stat, 42),
            Some((Pid::from_raw(4711), "a) (b".to_owned()))
        );
    }

    #[test]
    fn another_parents_child_is_left_alone() {
        assert_eq!(child_of("4711 (sleep) S 43 4711", 42), None);
    }

    #[test]
    fn zombie_needs_no_killing() {
        assert_eq!(child_of("4711 (sleep) Z 42 4711", 42), None);
    }
}
