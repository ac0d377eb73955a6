//! The allocators. This folder is a library of its own: it knows nothing of the suite around it,
//! imports `core` and itself only, and needs no crate. The same files are compiled twice: as this
//! module, and (by `#[path]`) inside the preload shims.
//!
//! | file | one idea |
//! |---|---|
//! | [`mymalloc`] | MyMalloc: built to win, and to be trusted |
//! | [`pagelist`] | the page list: a linked list of 4096-byte pages, first fit, coalescing |
//! | [`c_abi`] | the C malloc API over any process-wide allocator, and the macro that exports it |
//! | [`FreeError`] | why a pointer handed to `free` is none of ours |
//! | `lock` | a futex mutex that is constant-initialised and never allocates |
//! | `os` | every call of the C library |
//!
//! Invariant: nothing here allocates through the global allocator; it may be the global allocator.
//! Invariant: nothing here panics on a caller's mistake; a bad pointer is an error value.
//! Invariant: compiled as a library, no unprefixed C name (`malloc`, `free`) is exported.
//!
//! # As the global allocator
//! ```
//! use mymalloc::allocator::pagelist::PageListGlobal;
//!
//! #[global_allocator]
//! static GLOBAL: PageListGlobal = PageListGlobal;
//!
//! let squares: Vec<u64> = (0..1000).map(|n| n * n).collect();
//! assert_eq!(squares[999], 998_001);
//! ```

pub mod c_abi;
mod free_error;
mod lock;
pub mod mymalloc;
mod os;
pub mod pagelist;

pub use free_error::FreeError;

/// Ends the process. For shims without std, whose panics come here: that there are none is an invariant.
#[doc(hidden)]
pub fn panicked() -> ! {
    os::abort(format_args!("mymalloc: internal error"))
}

/// Ends the process at once, after one line on standard error. For shims.
#[doc(hidden)]
pub fn end_process(message: core::fmt::Arguments<'_>) -> ! {
    os::abort(message)
}

/// The definition of a function that comes behind this object's in the dynamic linker's order. For shims.
#[doc(hidden)]
pub fn next_definition(name: &core::ffi::CStr) -> Option<core::ptr::NonNull<core::ffi::c_void>> {
    os::next_definition(name)
}
