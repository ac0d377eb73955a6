//! Options, by environment variables, read once when the process first allocates.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `MYMALLOC_PURGE_DELAY` | milliseconds until idle memory goes back to the system; -1: never | 1000 |
//! | `MYMALLOC_LIMIT` | bytes of memory for blocks, idle memory included: `4M` at least, with `K`, `M`, `G` or `T` for powers of 1024. Beyond it there is no memory: null and `ENOMEM` | none |
//! | `MYMALLOC_SECURE` | 1: slices lie between pages that fault, large blocks end at one, blocks are handed out in random order | 0 |
//! | `MYMALLOC_BACKGROUND` | 1: a thread of the allocator's own gives idle memory back, also while the program does nothing | 0 |
//! | `MYMALLOC_HUGE_PAGES` | 1: once 24 MiB are in use, fresh memory for blocks of up to 2 MiB is got in huge pages, even if they are switched off for the system as a whole. Not beside a limit or guard pages | 0 |
//! | `MYMALLOC_VERBOSE` | 1: statistics on standard error when the process ends | 0 |
//!
//! A value that is none of these is told in one line on standard error, and counts as not set.

use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::Relaxed};

use super::super::os::{self, OS_PAGE_BYTES};
use super::{background, stats};

/// Milliseconds; below 0: never.
static PURGE_DELAY_MS: AtomicI64 = AtomicI64::new(1000);
static LIMIT_PAGES: AtomicUsize = AtomicUsize::new(usize::MAX);
static IS_SECURE: AtomicBool = AtomicBool::new(false);
static IS_BACKGROUND: AtomicBool = AtomicBool::new(false);
static HAS_HUGE_PAGES: AtomicBool = AtomicBool::new(false);
static IS_VERBOSE: AtomicBool = AtomicBool::new(false);

/// With less not even the smallest program would start.
const LIMIT_BYTES_MIN: usize = 4 << 20;

/// Reads them all. Allocates nothing.
pub(super) fn read() {
    let delay = "a number of milliseconds, or -1";
    if let Some(delay_ms) = value(c"MYMALLOC_PURGE_DELAY", delay, milliseconds) {
        PURGE_DELAY_MS.store(delay_ms, Relaxed);
    }
    let limit = "a number of bytes of at least 4M, such as 512M or 2G";
    if let Some(bytes) = value(c"MYMALLOC_LIMIT", limit, limit_bytes) {
        LIMIT_PAGES.store(bytes / OS_PAGE_BYTES, Relaxed);
    }
    for (name, switch) in [
        (c"MYMALLOC_SECURE", &IS_SECURE),
        (c"MYMALLOC_BACKGROUND", &IS_BACKGROUND),
        (c"MYMALLOC_HUGE_PAGES", &HAS_HUGE_PAGES),
        (c"MYMALLOC_VERBOSE", &IS_VERBOSE),
    ] {
        if let Some(is_on) = value(name, "0 or 1", on_or_off) {
            switch.store(is_on, Relaxed);
        }
    }
}

/// What options ask for at the start, beyond being known. May allocate.
pub(super) fn at_start() {
    if IS_VERBOSE.load(Relaxed) {
        os::at_exit(stats::print_at_exit);
    }
    if IS_BACKGROUND.load(Relaxed) {
        background::start();
    }
}

/// How long memory may be idle. None: for ever.
pub(super) fn purge_delay_ms() -> Option<u32> {
    let delay_ms = PURGE_DELAY_MS.load(Relaxed);
    (delay_ms >= 0).then(|| u32::try_from(delay_ms).unwrap_or(u32::MAX))
}

/// OS pages for blocks, idle ones included. `usize::MAX`: no limit.
pub(super) fn limit_pages() -> usize {
    LIMIT_PAGES.load(Relaxed)
}

/// Whether huge pages are wanted.
pub(super) fn has_huge_pages() -> bool {
    HAS_HUGE_PAGES.load(Relaxed)
}

/// Whether what overflows should meet a guard page.
pub(super) fn is_secure() -> bool {
    IS_SECURE.load(Relaxed)
}

/// A variable's value, if it is set and good.
fn value<T>(name: &CStr, expected: &str, read: fn(&str) -> Option<T>) -> Option<T> {
    let text = os::environment(name)?;
    let value = core::str::from_utf8(text).ok().and_then(read);
    if value.is_none() {
        os::error_line(format_args!(
            "mymalloc: {}={}: not {expected}; ignored",
            name.to_bytes().escape_ascii(),
            text.escape_ascii(),
        ));
    }
    value
}

fn milliseconds(text: &str) -> Option<i64> {
    text.parse().ok().filter(|delay_ms| *delay_ms >= -1)
}

fn limit_bytes(text: &str) -> Option<usize> {
    bytes(text).filter(|bytes| *bytes >= LIMIT_BYTES_MIN)
}

fn on_or_off(text: &str) -> Option<bool> {
    match text {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

/// "100", "64K", "2G".
fn bytes(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches(|last: char| "KMGT".contains(last));
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(bytes("100"), Some(100));
        assert_eq!(bytes("64K"), Some(64 << 10));
        assert_eq!(bytes("2G"), Some(2 << 30));
        for text in ["", "M", "-1", "1KK", "1k", "1.5G", " 1", "99999999999T"] {
            assert_eq!(bytes(text), None, "{text:?}");
        }
        assert_eq!(limit_bytes("4096K"), Some(4 << 20));
        assert_eq!(limit_bytes("4095K"), None);
    }

    #[test]
    fn other_values_are_refused() {
        assert_eq!(milliseconds("-1"), Some(-1));
        assert_eq!(milliseconds("-2"), None);
        assert_eq!(milliseconds("10 ms"), None);
        assert_eq!(on_or_off("1"), Some(true));
        assert_eq!(on_or_off("yes"), None);
    }
}
