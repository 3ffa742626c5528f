//! Memory for relayed bytes, touched only as far as it is used.
#![allow(
    unsafe_code,
    reason = "anonymous mappings that a connection borrows for as long as it lives"
)]

use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};
use pontoon_relay::Buffers;

/// What one connection may hold, by how many its container has: a few get room for full speed, many
/// get little, so that what a container can fill is bounded.
const SIZES: [(usize, usize); 4] = [
    (32, 1 << 20),
    (256, 256 << 10),
    (2048, 64 << 10),
    (usize::MAX, 16 << 10),
];
/// Bytes of each direction that a region keeps when it is used again: what a short connection needs.
const KEPT: usize = 16 << 10;
/// Regions of the largest size that are kept for the next connection.
const SPARE: usize = 64;

/// A mapping that holds both directions of a connection.
#[derive(Debug)]
pub(super) struct Region {
    start: NonNull<u8>,
    /// Bytes of each direction.
    half: usize,
}

// SAFETY: the memory belongs to this value alone and does not depend on the thread.
unsafe impl Send for Region {}

impl Region {
    fn map(half: usize) -> io::Result<Self> {
        let len = NonZeroUsize::new(half * 2).ok_or(io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a fresh anonymous mapping; no existing memory is replaced.
        let start = unsafe { mmap_anonymous(None, len, protection, flags) }?;
        Ok(Self {
            start: start.cast(),
            half,
        })
    }

    /// The two halves, to be used until [`Memory::give_back`].
    ///
    /// # Safety
    /// Nothing else may use them meanwhile, and the borrower must be gone before this value is given
    /// back or dropped.
    pub(super) unsafe fn buffers(&self) -> Buffers {
        // SAFETY: the mapping is `2 * half` bytes long and initialised (zero); the caller promises
        // that these are the only references and that they end before the mapping does.
        unsafe {
            Buffers {
                received: std::slice::from_raw_parts_mut(self.start.as_ptr(), self.half),
                unsent: std::slice::from_raw_parts_mut(
                    self.start.add(self.half).as_ptr(),
                    self.half,
                ),
            }
        }
    }

    /// Lets go of the pages that few connections need.
    ///
    /// # Safety
    /// Nothing that lies in either half is needed any more.
    unsafe fn shrink(&self) {
        // SAFETY: the caller's promise is passed on.
        unsafe {
            self.forget_half(0);
            self.forget_half(self.half);
        }
    }

    /// The same for what the host has sent, of a connection in use.
    ///
    /// # Safety
    /// Nothing is unsent: what lies in that half will be written before it is read.
    pub(super) unsafe fn shrink_unsent(&self) {
        // SAFETY: the caller's promise is passed on.
        unsafe { self.forget_half(self.half) };
    }

    unsafe fn forget_half(&self, start: usize) {
        let rest = self.half.saturating_sub(KEPT);
        // SAFETY: the range lies in the mapping; its contents are not needed, as the caller promises.
        // Not heeding the advice costs memory, nothing else.
        let _ = unsafe {
            let from = self.start.add(start + self.half - rest);
            madvise(from.cast(), rest, MmapAdvise::MADV_DONTNEED)
        };
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: made by `map` with this length; borrowers are gone (`buffers`).
        let _ = unsafe { munmap(self.start.cast(), self.half * 2) };
    }
}

/// Gives the heap's free pages back to the system, which the allocator keeps otherwise. Takes some
/// milliseconds for a heap of some megabytes.
pub(super) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no memory that is in use changes.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Regions for connections.
#[derive(Debug, Default)]
pub(super) struct Memory {
    spare: Vec<Region>,
}

impl Memory {
    /// A region for one more connection of a container that has so many.
    pub(super) fn take(&mut self, connections: usize) -> io::Result<Region> {
        let (_, largest) = SIZES[0];
        let fitting = SIZES.iter().find(|(up_to, _)| connections < *up_to);
        let half = fitting.map_or(KEPT, |(_, half)| *half);
        if half == largest
            && let Some(region) = self.spare.pop()
        {
            return Ok(region);
        }
        Region::map(half)
    }

    /// The smallest region there is.
    pub(super) fn take_small(&mut self) -> io::Result<Region> {
        Region::map(KEPT)
    }

    /// Takes a region back whose connection is gone.
    pub(super) fn give_back(&mut self, region: Region) {
        let (_, largest) = SIZES[0];
        if region.half == largest && self.spare.len() < SPARE {
            // SAFETY: the connection that used it is gone.
            unsafe { region.shrink() };
            self.spare.push(region);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_connections_get_little_each() {
        let mut memory = Memory::default();
        assert_eq!(memory.take(0).unwrap().half, 1 << 20);
        assert_eq!(memory.take(5000).unwrap().half, 16 << 10);
    }

    #[test]
    fn a_region_can_be_filled_and_is_used_again() {
        let mut memory = Memory::default();
        let region = memory.take(0).unwrap();
        // SAFETY: the buffers are gone at the end of the block.
        unsafe {
            let buffers = region.buffers();
            buffers.received.fill(1);
            buffers.unsent.fill(2);
        }
        let start = region.start;
        memory.give_back(region);
        assert_eq!(memory.take(0).unwrap().start, start);
    }
}
