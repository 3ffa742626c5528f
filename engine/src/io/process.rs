//! Processes by descriptor: a number may come to mean another process, a descriptor cannot.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

/// Says of a system call that the kernel does not know which kernel does; any other error stays as it is.
pub fn missing(call: &str, error: io::Error) -> io::Error {
    if error.raw_os_error() != Some(libc::ENOSYS) {
        return error;
    }
    let what = format!("this kernel has no {call}; Linux 5.9 or newer is needed");
    io::Error::new(io::ErrorKind::Unsupported, what)
}

/// A process, which may have ended (`pidfd_open(2)`).
#[derive(Debug)]
pub struct Process(OwnedFd);

impl Process {
    /// The process that has this number now.
    ///
    /// # Errors
    /// There is none (`ESRCH`), or no descriptor is free.
    #[allow(unsafe_code, reason = "pidfd_open has no wrapper")]
    pub fn open(pid: i32) -> io::Result<Self> {
        // SAFETY: the call takes no pointers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            return Err(missing("pidfd_open(2)", io::Error::last_os_error()));
        }
        // SAFETY: the kernel has just made the descriptor for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// Takes over a descriptor that came from elsewhere.
    pub const fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Another handle on the same process.
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Sends a signal; a process that has ended needs none.
    ///
    /// # Errors
    /// There is no right to, or the descriptor is not a process's.
    #[allow(unsafe_code, reason = "pidfd_send_signal has no wrapper")]
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        // SAFETY: the descriptor is open; a null pointer asks for default information.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal as i32,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        match io::Error::last_os_error() {
            _ if result == 0 => Ok(()),
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            error => Err(error),
        }
    }

    /// Waits for the process to end, so long. Whether it has.
    pub fn has_ended(&self, within: Duration) -> bool {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(within).unwrap_or(PollTimeout::MAX);
        poll(&mut fds, timeout).is_ok_and(|ready| ready > 0)
    }
}

/// When a process was started, in clock ticks since the machine was (`proc_pid_stat(5)`). Together with its
/// number it names the process for as long as the machine runs.
///
/// # Errors
/// There is none.
pub(super) fn started(pid: i32) -> io::Result<u64> {
    /// Fields behind the command's name, which may hold anything, up to field 22.
    const FIELD: usize = 19;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' '));
    let field = fields.and_then(|mut fields| fields.nth(FIELD)?.parse().ok());
    field.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
