//! How large a socket's buffers may be made, for the peer whose speed hangs on it.

use crate::error::Result;
use crate::netns::Netns;
use crate::sandbox::write;
use std::fs::{OpenOptions, read_to_string};

/// Largest receive and send buffers that a program may ask for (socket(7)), bytes.
const LIMITS: [&str; 2] = ["/proc/sys/net/core/rmem_max", "/proc/sys/net/core/wmem_max"];

/// What they are raised to: 32 MiB.
const RAISED: &str = "33554432";

/// The machine's limits as they were found, and the only namespace in which they can be set.
pub(crate) struct SocketMemory {
    home: Netns,
    found: [String; 2],
    adjustable: bool,
}

impl SocketMemory {
    /// Looks at the limits; changes nothing. Must be called where the machine's own network is.
    ///
    /// # Errors
    /// When /proc is not mounted.
    pub(crate) fn find() -> Result<Self> {
        let may_write = |path: &&str| OpenOptions::new().write(true).open(path).is_ok();
        let home = Netns::current()?;
        Ok(Self {
            found: LIMITS.map(|path| read_to_string(path).unwrap_or_default()),
            adjustable: home.enter().is_ok() && LIMITS.iter().all(may_write),
            home,
        })
    }

    /// Whether this user may raise them.
    pub(crate) fn is_adjustable(&self) -> bool {
        self.adjustable
    }

    /// Runs `task` while both are 32 MiB.
    ///
    /// # Errors
    /// Those of `task`, and when a limit cannot be written.
    pub(crate) fn raised<T>(&self, task: impl FnOnce() -> Result<T>) -> Result<T> {
        self.home
            .run(|| LIMITS.iter().try_for_each(|path| write(path, RAISED)))?;
        let outcome = task();
        self.restore()?;
        outcome
    }

    /// Puts back what was found, where [`SocketMemory::raised`] was ended halfway.
    ///
    /// # Errors
    /// When a limit cannot be written.
    pub(crate) fn restore(&self) -> Result<()> {
        if !self.adjustable {
            return Ok(());
        }
        let left_raised = |(path, found): &(&&str, &String)| {
            let now = read_to_string(path).unwrap_or_default();
            now != **found && now.trim() == RAISED
        };
        self.home.run(|| {
            let limits = LIMITS.iter().zip(&self.found);
            limits
                .filter(left_raised)
                .try_for_each(|(path, found)| write(path, found.trim()))
        })
    }
}
