//! The C functions over the process's MyMalloc, as plain function values: nothing here is exported
//! under an unprefixed name, so a program can hold this allocator beside its own.

use super::super::c_abi;

c_abi::c_malloc_functions!(crate::allocator::mymalloc::Process);

/// Prints statistics on standard error.
///
/// # Safety
/// None; C functions are unsafe to call.
pub unsafe extern "C" fn mymalloc_stats_print() {
    super::stats::print();
}
