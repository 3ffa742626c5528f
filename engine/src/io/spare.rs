//! Descriptors that are kept for when there are no others.

use std::os::unix::net::UnixDatagram;

/// So many descriptors, which are given up to do what has to be done when there is no other.
#[derive(Debug)]
pub(super) struct Spare {
    wanted: usize,
    kept: Vec<UnixDatagram>,
}

impl Spare {
    /// Keeps `wanted` descriptors, or as many as there are.
    pub(super) fn keep(wanted: usize) -> Self {
        let mut spare = Self {
            wanted,
            kept: Vec::new(),
        };
        spare.fill();
        spare
    }

    /// Makes room. Another thread may take it.
    pub(super) fn give_up(&mut self) {
        self.kept.clear();
    }

    /// Keeps descriptors again, as many as there are.
    pub(super) fn fill(&mut self) {
        while self.kept.len() < self.wanted
            && let Ok(socket) = UnixDatagram::unbound()
        {
            self.kept.push(socket);
        }
    }

    /// Whether all are there.
    pub(super) fn is_whole(&self) -> bool {
        self.kept.len() == self.wanted
    }
}
