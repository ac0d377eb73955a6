//! Options, by environment variables, read once when the process first allocates.
//!
//! | variable | meaning |
//! |---|---|
//! | `MYMALLOC_PURGE_DELAY` | milliseconds until idle memory goes back to the system (1000); -1: never |
//! | `MYMALLOC_VERBOSE` | 1: statistics on standard error when the process ends |
//!
//! A value that is no number counts as not set, as the C library has it for its own.

use core::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

use super::super::os;
use super::stats;

/// Milliseconds; below 0: never.
static PURGE_DELAY_MS: AtomicI64 = AtomicI64::new(1000);
static VERBOSE: AtomicBool = AtomicBool::new(false);

/// Reads them all. Allocates nothing.
pub(super) fn read() {
    if let Some(delay_ms) = number(c"MYMALLOC_PURGE_DELAY") {
        PURGE_DELAY_MS.store(delay_ms, Relaxed);
    }
    VERBOSE.store(number(c"MYMALLOC_VERBOSE").is_some_and(|n| n > 0), Relaxed);
}

/// What options ask for at the start, beyond being known. May allocate.
pub(super) fn at_start() {
    if VERBOSE.load(Relaxed) {
        os::at_exit(stats::print_at_exit);
    }
}

/// How long memory may be idle. None: for ever.
pub(super) fn purge_delay_ms() -> Option<u32> {
    let delay_ms = PURGE_DELAY_MS.load(Relaxed);
    (delay_ms >= 0).then(|| u32::try_from(delay_ms).unwrap_or(u32::MAX))
}

fn number(name: &core::ffi::CStr) -> Option<i64> {
    core::str::from_utf8(os::environment(name)?)
        .ok()?
        .parse()
        .ok()
}
