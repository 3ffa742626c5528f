//! Counts what the heap gives to a thread. A program that measures memory takes this file in as a module
//! (`#[path]`), since an allocator is a whole program's choice.
#![allow(dead_code, reason = "each program looks at one of the counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn hold(change: isize) {
    let held = HELD.get() + change;
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting touches no memory that
// it hands out, and allocates none.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        hold(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        hold(-(layout.size() as isize));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Allocations made by the calling thread so far. Growing in place counts as one (`realloc` falls back
/// on `alloc`).
pub(crate) fn allocations() -> u64 {
    ALLOCATIONS.get()
}

/// Bytes that the calling thread has been given and has not returned.
pub(crate) fn held() -> isize {
    HELD.get()
}

/// The most bytes that are held at once while `action` runs, beyond those before.
pub(crate) fn peak(action: impl FnOnce()) -> isize {
    let before = held();
    PEAK.set(before);
    action();
    PEAK.get() - before
}
