//! Trays: arrays of free blocks, in which they lie in magazines and pass from thread to thread. Apart
//! from the blocks: freeing a block and handing it out does not touch it, and what a program writes
//! into a freed block reaches nothing of ours.

use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};

use super::super::lock::Lock;
use super::metadata;

/// A free block, and the byte that says whether it is allocated.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Entry {
    pub(super) block: NonNull<u8>,
    pub(super) state: NonNull<u8>,
}

/// Blocks of a tray.
pub(super) const TRAY_ENTRIES: usize = 128;

/// An array of free blocks of one class.
#[repr(C)]
pub(super) struct Tray {
    pub(super) count: usize,
    /// The next of the trays that are not in use.
    next: *mut Tray,
    entries: [MaybeUninit<Entry>; TRAY_ENTRIES],
}

impl Tray {
    /// The entries that it has.
    pub(super) fn entries(&self) -> &[Entry] {
        // SAFETY: `count` entries were written by whoever set it.
        unsafe { self.entries[..self.count].assume_init_ref() }
    }

    pub(super) fn entries_mut(&mut self) -> &mut [Entry] {
        // SAFETY: as in `entries`.
        unsafe { self.entries[..self.count].assume_init_mut() }
    }

    pub(super) fn first(&mut self) -> *mut Entry {
        self.entries.as_mut_ptr().cast()
    }
}

/// A part of an array that is being filled with blocks.
pub(super) struct Rack {
    first: *mut Entry,
    pub(super) count: usize,
}

impl Rack {
    /// # Safety
    /// There is room for `first..` as many entries as will be pushed.
    pub(super) unsafe fn new(first: *mut Entry) -> Self {
        Self { first, count: 0 }
    }

    /// # Safety
    /// There is room for another one.
    #[inline]
    pub(super) unsafe fn push(&mut self, entry: Entry) {
        // SAFETY: the caller says so.
        unsafe { self.first.add(self.count).write(entry) };
        self.count += 1;
    }

    /// Those that were pushed.
    pub(super) fn entries_mut(&mut self) -> &mut [Entry] {
        // SAFETY: so many entries were pushed.
        unsafe { core::slice::from_raw_parts_mut(self.first, self.count) }
    }

    /// Turns the order of those from `from` on.
    pub(super) fn reverse_from(&mut self, from: usize) {
        self.entries_mut()[from..].reverse();
    }
}

struct Pool {
    first: *mut Tray,
}

// SAFETY: trays belong to no thread.
unsafe impl Send for Pool {}

/// Trays that are not in use.
static POOL: Lock<Pool> = Lock::new(Pool {
    first: ptr::null_mut(),
});

/// An empty tray. None: no memory.
pub(super) fn take() -> Option<NonNull<Tray>> {
    let mut pool = POOL.lock_spinning();
    let Some(tray) = NonNull::new(pool.first) else {
        drop(pool);
        return metadata::allocate();
    };
    // SAFETY: a tray of the pool, under its lock.
    pool.first = unsafe { tray.as_ref().next };
    Some(tray)
}

/// Takes a tray back; what it held is the caller's.
///
/// # Safety
/// The tray is the caller's, and is used no more.
pub(super) unsafe fn give(tray: NonNull<Tray>) {
    let mut pool = POOL.lock_spinning();
    // SAFETY: the caller's tray.
    unsafe {
        (*tray.as_ptr()).count = 0;
        (*tray.as_ptr()).next = pool.first;
    }
    pool.first = tray.as_ptr();
}

/// Around `fork`.
pub(super) fn acquire() {
    POOL.acquire();
}

/// # Safety
/// After [`acquire`], as for `Lock::release`.
pub(super) unsafe fn release() {
    // SAFETY: the caller says so.
    unsafe { POOL.release() }
}
