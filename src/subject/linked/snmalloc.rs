//! snmalloc, from the crate `snmalloc-sys`, which builds its C++ source.

use core::ffi::{c_int, c_void};
use core::ptr;

use snmalloc_sys as snmalloc;

use crate::subject::functions::Functions;

/// The crate and its version.
pub(super) const VERSION: &str = "crate snmalloc-sys 0.7.6";

/// Its functions.
pub(super) const FUNCTIONS: Functions = Functions {
    malloc: snmalloc::sn_malloc,
    free: snmalloc::sn_free,
    calloc: snmalloc::sn_calloc,
    realloc: snmalloc::sn_realloc,
    posix_memalign,
    aligned_alloc,
    malloc_usable_size: usable_size,
};

unsafe extern "C" fn aligned_alloc(alignment: usize, size: usize) -> *mut c_void {
    if !alignment.is_power_of_two() {
        return ptr::null_mut();
    }
    // SAFETY: a power of two, as it demands.
    unsafe { snmalloc::sn_rust_alloc(alignment, size) }
}

unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, alignment: usize, size: usize) -> c_int {
    // SAFETY: as above.
    let block = unsafe { aligned_alloc(alignment, size) };
    // SAFETY: the caller gives a valid place for the result, as posix_memalign demands.
    unsafe { super::store(out, block) }
}

unsafe extern "C" fn usable_size(block: *mut c_void) -> usize {
    // SAFETY: the caller gives a block of snmalloc's, as malloc_usable_size demands.
    unsafe { snmalloc::sn_malloc_usable_size(block) }
}
