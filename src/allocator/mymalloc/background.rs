//! A thread that looks at the clock for a program that does nothing, so that idle memory goes back even
//! then. Only if `MYMALLOC_BACKGROUND` asks for it: a thread that a program did not start surprises those
//! that count theirs.
//!
//! A child of `fork` has none: what the parent's would do, the child's own threads do on their slow
//! paths, as they do by default.

use core::ffi::c_void;
use core::ptr;

use super::super::os;
use super::{options, tick};

/// Looks at the clock: at most, and at least so often.
const PERIOD_MS_MIN: u32 = 50;
const PERIOD_MS_MAX: u32 = 500;

/// Starts the thread. May allocate, so the caller holds no lock.
pub(super) fn start() {
    // Memory that never goes back needs nobody to give it back.
    if options::purge_delay_ms().is_some() && !os::start_thread(run) {
        os::error_line(format_args!(
            "mymalloc: MYMALLOC_BACKGROUND: the system starts no thread; \
             idle memory goes back when the program allocates"
        ));
    }
}

unsafe extern "C" fn run(_: *mut c_void) -> *mut c_void {
    while let Some(delay_ms) = options::purge_delay_ms() {
        os::sleep_ms((delay_ms / 2).clamp(PERIOD_MS_MIN, PERIOD_MS_MAX));
        if let Some(now_ms) = tick::now_if_due() {
            tick::work(now_ms);
        }
    }
    ptr::null_mut()
}
