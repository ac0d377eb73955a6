//! How much of the heap a piece of work takes at most. What C libraries take (zstd's window) is not
//! counted here; the limit on resident memory holds that.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counting for each thread what it holds.
pub(crate) struct Counting;

thread_local! {
    static LIVE_BYTES: Cell<isize> = const { Cell::new(0) };
    static PEAK_BYTES: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    let live = LIVE_BYTES.get().wrapping_add(change);
    LIVE_BYTES.set(live);
    PEAK_BYTES.set(PEAK_BYTES.get().max(live));
}

fn bytes(size: usize) -> isize {
    isize::try_from(size).unwrap_or(isize::MAX)
}

// SAFETY: every call goes to the system's allocator with the same arguments, which so keeps the
// contract; counting allocates nothing, as the cells are constants without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(bytes(layout.size()));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-bytes(layout.size()));
        // SAFETY: the caller gives a block of this allocator, which is the system's.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(bytes(layout.size()));
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(bytes(size) - bytes(layout.size()));
        // SAFETY: the caller gives a block of this allocator, which is the system's.
        unsafe { System.realloc(block, layout, size) }
    }
}

/// Does the work, and tells how many bytes more than before this thread held at most.
pub(crate) fn peak_of<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = LIVE_BYTES.get();
    PEAK_BYTES.set(before);
    let done = work();
    let peak = PEAK_BYTES.get().saturating_sub(before);
    (done, u64::try_from(peak).unwrap_or(0))
}
