//! A child of `fork` has a copy of every lock as it was, but only the one thread: had another thread
//! held a lock, the child could never take it. So all are taken around every fork, always in this
//! order: process, shelves, trays, chunks, large store, metadata. Every other path that holds two takes them
//! in the same order.
//!
//! Trays that threads had in their hands at that moment are lost to the child, whole; words that are
//! exchanged without a lock are in one state or the other.

use super::super::os;
use super::{large, metadata, shelf, slice, thread, tray};

/// Has the locks taken around every fork. May allocate, so the caller holds none.
pub(super) fn watch() {
    os::at_fork(before, after, after);
}

unsafe extern "C" fn before() {
    thread::acquire();
    shelf::acquire();
    tray::acquire();
    slice::acquire();
    large::acquire();
    metadata::acquire();
}

unsafe extern "C" fn after() {
    // SAFETY: `before` took them all, on this thread or on the parent's that this one is a copy of.
    unsafe {
        metadata::release();
        large::release();
        slice::release();
        tray::release();
        shelf::release();
        thread::release();
    }
}
