//! `LD_PRELOAD=mylibmalloc.so program`: the page list in the place of the C library's malloc.
//! Built by build.rs, without cargo: the allocator comes in by path and needs no crate.

#[path = "../allocator/mod.rs"]
mod allocator;

use core::ffi::c_void;

allocator::c_abi::c_malloc_functions!(
    crate::allocator::pagelist::Process,
    #[unsafe(no_mangle)]
);

/// The seed's name: up to 4096 bytes.
///
/// # Safety
/// As C's `malloc`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mymalloc(size: usize) -> *mut c_void {
    // SAFETY: the caller keeps the same rules.
    unsafe { allocator::pagelist::c::mymalloc(size) }
}

/// The seed's name: bad pointers are ignored without a word.
///
/// # Safety
/// As C's `free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn myfree(block: *mut c_void) {
    // SAFETY: the caller keeps the same rules.
    unsafe { allocator::pagelist::c::myfree(block) }
}
