//! Waiting for a command as if one were the command: signals pass through, and the exit status.

use std::io;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use pontoon_engine::io::process::Process;

use super::Failure;

/// Signals that are passed on to the command.
const PASSED_ON: [Signal; 8] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGCONT,
];
/// `si_code` of signals that the kernel itself sends, for one the terminal's.
const SI_KERNEL: i32 = 0x80;

/// Blocks the signals that [`wait_for`] reads; a command that is forked must unblock them.
pub(super) fn signals() -> io::Result<SignalFd> {
    let mut set: SigSet = PASSED_ON.into_iter().collect();
    set.add(Signal::SIGCHLD);
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)?)
}

/// Passes signals on until the command has ended. It is killed when the process `with` ends first. Returns its exit status.
pub(super) fn wait_for(
    command: Pid,
    signals: &SignalFd,
    mut with: Option<Process>,
) -> Result<u8, Failure> {
    loop {
        let fds = [Some(signals.as_fd()), with.as_ref().map(AsFd::as_fd)];
        let polled = fds.into_iter().flatten();
        let mut polled: Vec<_> = polled
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(Failure::own("wait for the command", error)),
        }
        let ready = |fd: &PollFd<'_>| fd.any().unwrap_or_default();
        let (signalled, orphaned) = (ready(&polled[0]), polled.get(1).is_some_and(ready));
        if orphaned {
            // It may have ended meanwhile.
            let _ = kill(command, Signal::SIGKILL);
            with = None;
        }
        if signalled && let Some(status) = handle_signal(command, signals)? {
            return Ok(status);
        }
    }
}

/// Returns the command's exit status when the signal tells of its end.
fn handle_signal(command: Pid, signals: &SignalFd) -> Result<Option<u8>, Failure> {
    match signals.read_signal() {
        Ok(Some(info)) if info.ssi_signo == Signal::SIGCHLD as u32 => reap(command),
        Ok(Some(info)) if info.ssi_code != SI_KERNEL => {
            if let Ok(signal) = Signal::try_from(info.ssi_signo as i32) {
                // A command that has just ended needs no signal.
                let _ = kill(command, signal);
            }
            Ok(None)
        }
        // The terminal has sent it to the command as well.
        Ok(Some(_) | None) | Err(nix::Error::EINTR) => Ok(None),
        Err(error) => Err(Failure::own("wait for the command", error)),
    }
}

/// Takes in every child that has ended. Returns the exit status of the first process when it is among
/// them, as a shell would show it.
fn reap(first: Pid) -> Result<Option<u8>, Failure> {
    let mut status = None;
    loop {
        let ended = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, code as u8),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as u8),
            Ok(WaitStatus::StillAlive) | Err(nix::Error::ECHILD) => return Ok(status),
            Ok(_) | Err(nix::Error::EINTR) => continue,
            Err(error) => return Err(Failure::own("wait for the command", error)),
        };
        if ended.0 == first {
            status = Some(ended.1);
        }
    }
}

#[allow(unsafe_code, reason = "fork")]
pub(super) fn fork_here() -> Result<ForkResult, Failure> {
    // SAFETY: the command line has a single thread, so the child may do whatever the parent could.
    unsafe { fork() }.map_err(|error| Failure::own("fork", error))
}
