//! A child of `fork` has a copy of every lock as it was, but only the one thread: had another thread
//! held a lock, the child could never take it. So all are taken around every fork, always in this
//! order: process, exchanges, shelves, trays, chunks, large store, metadata. Every other path that holds two takes them
//! in the same order.
//!
//! Before them glibc's own lock of all its streams, which its `fork` takes after these: a thread that
//! flushes all streams has it, waits for one stream, and whoever reads from that allocates.
//!
//! A process with one thread takes none: the thread cannot wait for itself. It may have been interrupted
//! by a signal while it held a lock, and fork in the handler; parent and child then go on where it was.
//!
//! Trays and heaps that threads had in their hands at that moment are lost to the child, whole; words that are
//! exchanged without a lock are in one state or the other.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::super::os;
use super::{chunk, large, metadata, shelf, thread, tray};

/// Has the locks taken around every fork. May allocate, so the caller holds none.
pub(super) fn watch() {
    os::at_fork(before, after_in_parent, after_in_child);
}

/// Whether `before` took the locks. Written by who holds them all, or is alone.
static IS_HOLDING: AtomicBool = AtomicBool::new(false);

unsafe extern "C" fn before() {
    if !os::is_single_threaded() {
        os::lock_streams();
        acquire();
        IS_HOLDING.store(true, Relaxed);
    }
}

unsafe extern "C" fn after_in_parent() {
    if open() {
        os::unlock_streams();
    }
}

unsafe extern "C" fn after_in_child() {
    // The lock of the streams was made anew by `fork`.
    open();
}

/// Opens what `before` took. False: nothing.
fn open() -> bool {
    let is_holding = IS_HOLDING.load(Relaxed);
    if is_holding {
        IS_HOLDING.store(false, Relaxed);
        // SAFETY: `before` took them all, on this thread or on the parent's that this one is a copy of.
        unsafe { release() }
    }
    is_holding
}

/// Runs `action` while the calling thread holds all locks, so `action` allocates nothing.
pub(super) fn holding_all_locks<T>(action: impl FnOnce() -> T) -> T {
    acquire();
    let result = action();
    // SAFETY: taken above.
    unsafe { release() };
    result
}

fn acquire() {
    thread::acquire();
    shelf::acquire();
    tray::acquire();
    chunk::acquire();
    large::acquire();
    metadata::acquire();
}

/// # Safety
/// After [`acquire`].
unsafe fn release() {
    // SAFETY: the caller says so.
    unsafe {
        metadata::release();
        large::release();
        chunk::release();
        tray::release();
        shelf::release();
        thread::release();
    }
}
