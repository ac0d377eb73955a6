//! rpmalloc, from the crate `rpmalloc-sys`. Each thread must be made known to it before its first
//! call and taken back at its end, so every function that may be a thread's first looks at a flag of
//! the thread: the price of linking rpmalloc in without its replacing `malloc`.

use core::cell::Cell;
use core::ffi::{c_int, c_void};
use std::sync::Once;

use rpmalloc_sys as rpmalloc;

use crate::subject::functions::Functions;

/// The crate and its version.
pub(super) const VERSION: &str = "crate rpmalloc-sys 0.2.3";

/// Its functions.
pub(super) const FUNCTIONS: Functions = Functions {
    malloc,
    free,
    calloc,
    realloc,
    posix_memalign,
    aligned_alloc,
    malloc_usable_size: rpmalloc::rpmalloc_usable_size,
};

static PROCESS: Once = Once::new();

thread_local! {
    static KNOWN: Cell<bool> = const { Cell::new(false) };
    static AT_END: AtEnd = const { AtEnd };
}

/// Takes the thread's heap back when the thread ends.
struct AtEnd;

impl Drop for AtEnd {
    fn drop(&mut self) {
        KNOWN.set(false);
        // SAFETY: this thread was initialised, or `AT_END` would not exist.
        unsafe { rpmalloc::rpmalloc_thread_finalize() };
    }
}

fn begin() {
    if !KNOWN.get() {
        begin_thread();
    }
}

#[cold]
fn begin_thread() {
    PROCESS.call_once(|| {
        // SAFETY: once in the process, before any other call.
        unsafe { rpmalloc::rpmalloc_initialize() };
    });
    // SAFETY: the allocator is initialised; for the thread that did it this changes nothing.
    unsafe { rpmalloc::rpmalloc_thread_initialize() };
    KNOWN.set(true);
    // Fails in a thread that is ending already; its heap is then lost to other threads.
    let _ = AT_END.try_with(|_| ());
}

unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    begin();
    // SAFETY: the thread is initialised.
    unsafe { rpmalloc::rpmalloc(size) }
}

unsafe extern "C" fn free(block: *mut c_void) {
    begin();
    // SAFETY: the thread is initialised; the caller gives a block of rpmalloc's.
    unsafe { rpmalloc::rpfree(block) }
}

unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    if count.checked_mul(size).is_none() {
        return core::ptr::null_mut();
    }
    begin();
    // SAFETY: the thread is initialised.
    unsafe { rpmalloc::rpcalloc(count, size) }
}

unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    begin();
    // SAFETY: the thread is initialised; the caller gives a block of rpmalloc's.
    unsafe { rpmalloc::rprealloc(block, size) }
}

unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, alignment: usize, size: usize) -> c_int {
    // SAFETY: as in `aligned_alloc`.
    let block = unsafe { aligned_alloc(alignment, size) };
    // SAFETY: the caller gives a valid place for the result, as posix_memalign demands.
    unsafe { super::store(out, block) }
}

unsafe extern "C" fn aligned_alloc(alignment: usize, size: usize) -> *mut c_void {
    begin();
    // SAFETY: the thread is initialised; an alignment it cannot serve is answered with null.
    unsafe { rpmalloc::rpaligned_alloc(alignment, size) }
}
