//! `LD_PRELOAD=mylibmalloc.so program`: MyMalloc in the place of the C library's malloc. Built by
//! build.rs, without cargo and without std: the allocator comes in by path and needs no crate.
#![cfg_attr(all(target_arch = "x86_64", not(feature = "portable")), no_std)]

#[path = "../allocator/mod.rs"]
mod allocator;
#[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
mod operators;

use core::ffi::{c_int, c_void};

use allocator::mymalloc::c::{self, Mallinfo, Mallinfo2};

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
    unsafe { c::malloc(size) }
}

/// The project's own name for `free`.
///
/// # Safety
/// As C's `free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn myfree(block: *mut c_void) {
    // SAFETY: the caller keeps the same rules.
    unsafe { c::free(block) }
}

/// Functions of the C library's that are about its malloc, under the same names.
macro_rules! exported {
    ($($(#[$doc:meta])* $name:ident = $function:path, ($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Safety
            /// As the C function.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($($argument: $type),*) -> $result {
                // SAFETY: the caller keeps the same rules.
                unsafe { $function($($argument),*) }
            }
        )*
    };
}

exported! {
    /// Prints what the allocator holds on standard error.
    mymalloc_stats_print = c::mymalloc_stats_print, () -> ();
    /// GNU's `malloc_stats`.
    malloc_stats = c::malloc_stats, () -> ();
    /// GNU's `malloc_trim`.
    malloc_trim = c::malloc_trim, (pad: usize) -> c_int;
    /// GNU's `mallopt`.
    mallopt = c::mallopt, (parameter: c_int, value: c_int) -> c_int;
    /// GNU's `mallinfo`.
    mallinfo = c::mallinfo, () -> Mallinfo;
    /// GNU's `mallinfo2`.
    mallinfo2 = c::mallinfo2, () -> Mallinfo2;
    /// GNU's `malloc_info`.
    malloc_info = c::malloc_info, (options: c_int, stream: *mut c_void) -> c_int;
}

// glibc's own second names, which some programs call to reach "the real malloc". A block that they got
// there may end in `free`, so all names must be of one allocator.
exported! {
    /// glibc's second name of `malloc`.
    __libc_malloc = c::malloc, (size: usize) -> *mut c_void;
    /// glibc's second name of `free`.
    __libc_free = c::free, (block: *mut c_void) -> ();
    /// glibc's second name of `calloc`.
    __libc_calloc = c::calloc, (count: usize, size: usize) -> *mut c_void;
    /// glibc's second name of `realloc`.
    __libc_realloc = c::realloc, (block: *mut c_void, size: usize) -> *mut c_void;
    /// glibc's second name of `memalign`.
    __libc_memalign = c::memalign, (alignment: usize, size: usize) -> *mut c_void;
    /// glibc's second name of `valloc`.
    __libc_valloc = c::valloc, (size: usize) -> *mut c_void;
    /// glibc's second name of `pvalloc`.
    __libc_pvalloc = c::pvalloc, (size: usize) -> *mut c_void;
    /// glibc's second name of `posix_memalign`.
    __posix_memalign = c::posix_memalign,
        (result: *mut *mut c_void, alignment: usize, size: usize) -> c_int;
}

/// Without std, a panic ends the process; nothing in the allocators is meant to panic.
#[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    allocator::panicked()
}

// `core` is compiled for unwinding and names this function, which nothing here calls. Hidden: the
// programs that the shim is loaded into have a real one.
#[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
core::arch::global_asm!(
    ".globl rust_eh_personality",
    ".hidden rust_eh_personality",
    "rust_eh_personality:",
    "ud2",
);
