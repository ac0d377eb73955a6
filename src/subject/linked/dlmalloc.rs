//! Doug Lea's malloc, in the Rust port of the crate `dlmalloc`, behind one lock.

use core::ffi::{c_int, c_void};
use core::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmalloc::Dlmalloc;

use crate::subject::functions::Functions;

/// The crate and its version.
pub(super) const VERSION: &str = "crate dlmalloc 0.2.14";

/// Its functions.
pub(super) const FUNCTIONS: Functions = Functions {
    malloc,
    free,
    calloc,
    realloc,
    posix_memalign,
    aligned_alloc,
    malloc_usable_size: usable_size,
};

static HEAP: Mutex<Dlmalloc> = Mutex::new(Dlmalloc::new());

fn heap() -> MutexGuard<'static, Dlmalloc> {
    HEAP.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Alignment of every block.
const ALIGNMENT: usize = 2 * size_of::<usize>();

unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    // SAFETY: any size may be asked for.
    unsafe { heap().c_malloc(size) }.cast()
}

unsafe extern "C" fn free(block: *mut c_void) {
    // SAFETY: the caller gives a block of this heap, or null.
    unsafe { heap().c_free(block.cast()) }
}

unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    let Some(bytes) = count.checked_mul(size) else {
        return ptr::null_mut();
    };
    // SAFETY: any size may be asked for; it clears what is not zero already.
    unsafe { heap().calloc(bytes, ALIGNMENT) }.cast()
}

unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: the caller gives a block of this heap, or null.
    unsafe { heap().c_realloc(block.cast(), size) }.cast()
}

unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, alignment: usize, size: usize) -> c_int {
    // SAFETY: as in `aligned_alloc`.
    let block = unsafe { aligned_alloc(alignment, size) };
    // SAFETY: the caller gives a valid place for the result, as posix_memalign demands.
    unsafe { super::store(out, block) }
}

unsafe extern "C" fn aligned_alloc(alignment: usize, size: usize) -> *mut c_void {
    if !alignment.is_power_of_two() {
        return ptr::null_mut();
    }
    // SAFETY: the alignment is a power of two.
    unsafe { heap().c_memalign(alignment, size) }.cast()
}

/// Flags in a chunk's size: the chunk before is in use, this one is, and one that is not used.
const IN_USE: usize = 0b011;
const FLAGS: usize = 0b111;

/// The crate has no such function, but its chunks are dlmalloc's: the word before a block is the
/// chunk's size with flags. A chunk of the heap lends its block the first word of the next one; one
/// that was mapped by itself has neither flag, and does not. The exact version of the crate in
/// Cargo.toml, and the verify pass, which writes all usable bytes, hold this to be so.
unsafe extern "C" fn usable_size(block: *mut c_void) -> usize {
    if block.is_null() {
        return 0;
    }
    // SAFETY: the caller gives a block of this heap, and before it stands its chunk's size. Another
    // thread that frees the chunk before changes a flag that does not count here.
    let head = unsafe { block.cast::<usize>().sub(1).read_volatile() };
    let words = if head & IN_USE == 0 { 2 } else { 1 };
    (head & !FLAGS) - words * size_of::<usize>()
}
