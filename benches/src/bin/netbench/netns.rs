//! Anonymous network namespaces, held by a descriptor and gone with it.

use crate::error::{Context, Result};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::os::fd::AsRawFd;

/// The namespace of the calling thread.
const OF_THIS_THREAD: &str = "/proc/thread-self/ns/net";

/// A network namespace.
pub(crate) struct Netns {
    file: File,
}

impl Netns {
    /// The namespace that the calling thread is in.
    ///
    /// # Errors
    /// When /proc is not mounted.
    pub(crate) fn current() -> Result<Self> {
        let file = File::open(OF_THIS_THREAD).context(format!("opening {OF_THIS_THREAD}"))?;
        Ok(Self { file })
    }

    /// The network namespace of a process.
    ///
    /// # Errors
    /// When the process has ended or is another user's.
    pub(crate) fn of_process(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/ns/net");
        let file = File::open(&path).context(format!("opening {path}"))?;
        Ok(Self { file })
    }

    /// A new, empty namespace. The calling thread stays where it is.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN, or when the kernel's limit on namespaces is reached.
    pub(crate) fn create() -> Result<Self> {
        let home = Self::current()?;
        unshare(CloneFlags::CLONE_NEWNET)
            .context("making a network namespace (see user.max_net_namespaces)")?;
        let created = Self::current();
        home.enter()?;
        created
    }

    /// Moves the calling thread into this namespace, for good.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN over it.
    pub(crate) fn enter(&self) -> Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).context("entering a network namespace")
    }

    /// Runs `task` inside this namespace and comes back. Children it starts stay inside.
    ///
    /// # Errors
    /// Those of `task`, and those of [`Netns::enter`].
    pub(crate) fn run<T>(&self, task: impl FnOnce() -> Result<T>) -> Result<T> {
        let home = Self::current()?;
        self.enter()?;
        let outcome = task();
        home.enter()?;
        outcome
    }

    /// A path by which other processes can open this namespace while this process lives.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }
}
