//! The C functions over the process's page list, as plain function values: nothing here is exported
//! under an unprefixed name, so a program can hold this allocator beside its own.

use core::ffi::c_void;
use core::ptr;

use super::super::c_abi::{self, ProcessAllocator};
use super::{Process, REQUEST_BYTES_MAX};

c_abi::c_malloc_functions!(crate::allocator::pagelist::Process);

/// The seed's `malloc`: up to 4096 bytes; beyond that, or without memory, null and `ENOMEM`.
///
/// # Safety
/// As C's `malloc`: none beyond using the block within its bounds.
pub unsafe extern "C" fn mymalloc(size: usize) -> *mut c_void {
    c_abi::or_enomem(if size <= REQUEST_BYTES_MAX {
        Process::allocate(size)
    } else {
        None
    })
}

/// The seed's `free`: a pointer that is no allocated block is ignored without a word. Keeps `errno`.
///
/// # Safety
/// The caller uses the block no more. Any other pointer value is allowed.
pub unsafe extern "C" fn myfree(block: *mut c_void) {
    if let Some(block) = ptr::NonNull::new(block.cast()) {
        // The seed recognises such a pointer and does nothing; so does this.
        // SAFETY: the caller hands over the block, if it is one.
        let _ = unsafe { Process::free(block) };
    }
}
