//! The way to the command that records: it copies full windows while the program goes on (`windows`).
//! The file is described in `wire::bell`; it is mapped once, and a forked child has the mapping too.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::folder;
use super::system;
use super::wire::bell as at;

static MAPPING: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

/// Finds the bell. Without one nobody is there to copy. Under the process's lock, once per image.
pub(crate) fn find() {
    let Ok(file) = folder::open(at::NAME, system::O_RDWR) else {
        return;
    };
    if system::file_bytes(file).is_ok_and(|bytes| bytes >= at::BYTES as u64)
        && let Ok(mapping) = system::map_file(file, 0, at::BYTES)
    {
        MAPPING.store(mapping, Ordering::Relaxed);
    }
    system::close(file);
}

/// Whether somebody may be there to copy.
pub(crate) fn is_there() -> bool {
    !MAPPING.load(Ordering::Relaxed).is_null()
}

fn word(mapping: *mut u8, offset: usize) -> &'static AtomicU32 {
    // SAFETY: a mapping made by `find`, which is never unmapped, and an offset of `wire::bell`: aligned,
    // within the mapping.
    unsafe { AtomicU32::from_ptr(mapping.add(offset).cast()) }
}

/// Tells that a window is full, or (`has_first_window`) that there is a file to look at. Never waits.
pub(crate) fn ring(has_first_window: bool) {
    let mapping = MAPPING.load(Ordering::Relaxed);
    if mapping.is_null() {
        return;
    }
    if has_first_window {
        word(mapping, at::FILES).fetch_add(1, Ordering::Relaxed);
    }
    let rings = word(mapping, at::RINGS);
    let sleeps = word(mapping, at::SLEEPS);
    // SeqCst: the command says that it sleeps, then looks for rings; here the ring comes first, then the
    // look whether it sleeps. One of the two sees the other.
    rings.fetch_add(1, Ordering::SeqCst);
    if sleeps.load(Ordering::SeqCst) != 0 && sleeps.swap(0, Ordering::SeqCst) != 0 {
        system::futex_wake_other_process(rings);
    }
}
