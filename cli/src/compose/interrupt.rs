//! Signals by which a user ends what runs in the foreground.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::client::Failure;

/// SIGINT, SIGTERM and SIGHUP, which come here from now on.
pub(super) struct Interrupts(SignalFd);

impl Interrupts {
    /// Blocks the signals and listens for them.
    pub(super) fn listen() -> Result<Self, Failure> {
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
            .into_iter()
            .collect();
        signals.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self(SignalFd::with_flags(&signals, flags)?))
    }

    /// The next signal that has come, as the exit status that stands for it.
    pub(super) fn came(&self) -> Result<Option<u8>, Failure> {
        let signal = self.0.read_signal()?;
        let status = signal.and_then(|info| u8::try_from(info.ssi_signo).ok());
        Ok(status.map(|number| number | 0x80))
    }
}

impl AsFd for Interrupts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
