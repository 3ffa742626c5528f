//! What the keeper keeps for the next engine.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use super::protocol::Key;

/// A thing that some engine has had, and whether the one that runs has it.
#[derive(Debug)]
pub(super) struct Kept<T> {
    pub(super) thing: T,
    pub(super) claimed: bool,
}

impl<T> Kept<T> {
    /// What the engine that runs has.
    pub(super) const fn claimed(thing: T) -> Self {
        Self {
            thing,
            claimed: true,
        }
    }
}

/// Descriptors by name.
#[derive(Debug, Default)]
pub(super) struct Vault(BTreeMap<Key, Kept<Vec<OwnedFd>>>);

impl Vault {
    pub(super) fn keep(&mut self, key: Key, fds: Vec<OwnedFd>) {
        self.0.insert(key, Kept::claimed(fds));
    }

    /// Duplicates of what is kept.
    ///
    /// # Errors
    /// No descriptor is free.
    pub(super) fn fetch(&mut self, key: Key) -> io::Result<Vec<OwnedFd>> {
        let Some(kept) = self.0.get_mut(&key) else {
            return Ok(Vec::new());
        };
        kept.claimed = true;
        kept.thing.iter().map(OwnedFd::try_clone).collect()
    }

    pub(super) fn let_go(&mut self, key: Key) {
        self.0.remove(&key);
    }

    /// The engine that had everything is gone.
    pub(super) fn disown(&mut self) {
        for kept in self.0.values_mut() {
            kept.claimed = false;
        }
    }

    /// Takes out what the engine that runs does not have.
    pub(super) fn unclaimed(&mut self) -> impl Iterator<Item = (Key, Vec<OwnedFd>)> {
        let gone = self.0.extract_if(.., |_, kept| !kept.claimed);
        gone.map(|(key, kept)| (key, kept.thing))
    }
}
