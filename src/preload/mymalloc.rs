//! `LD_PRELOAD=mylibmalloc.so program`: MyMalloc in the place of the C library's malloc. Built by
//! build.rs, without cargo and without std: the allocator comes in by path and needs no crate.
#![cfg_attr(target_arch = "x86_64", no_std)]

#[path = "../allocator/mod.rs"]
mod allocator;

use core::ffi::c_void;

allocator::c_abi::c_malloc_functions!(
    crate::allocator::mymalloc::Process,
    #[unsafe(no_mangle)]
);

/// The project's own name for `malloc`, by which its shims are known.
///
/// # Safety
/// As C's `malloc`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mymalloc(size: usize) -> *mut c_void {
    // SAFETY: the caller keeps the same rules.
    unsafe { allocator::mymalloc::c::malloc(size) }
}

/// The project's own name for `free`.
///
/// # Safety
/// As C's `free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn myfree(block: *mut c_void) {
    // SAFETY: the caller keeps the same rules.
    unsafe { allocator::mymalloc::c::free(block) }
}

/// Prints what the allocator holds on standard error.
#[unsafe(no_mangle)]
pub extern "C" fn mymalloc_stats_print() {
    // SAFETY: no rules to keep.
    unsafe { allocator::mymalloc::c::mymalloc_stats_print() }
}

/// Without std, a panic ends the process; nothing in the allocators is meant to panic.
#[cfg(target_arch = "x86_64")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    allocator::panicked()
}

// `core` is compiled for unwinding and names this function, which nothing here calls. Hidden: the
// programs that the shim is loaded into have a real one.
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".globl rust_eh_personality",
    ".hidden rust_eh_personality",
    "rust_eh_personality:",
    "ud2",
);
