//! C++'s operators `new` and `delete`. Without these they are the C++ library's, which call `malloc` and
//! `free`: the same result, at some ten instructions and four jumps more a pair.
//!
//! Here are those that programs spend time in. The aligned and the `nothrow` forms stay with the C++
//! library, whose code for them ends in these, or in `aligned_alloc` and `free`.
//!
//! What C++ asks beyond memory stays there, too. Where there is no memory, the call goes on to the
//! operator that comes next in the dynamic linker's order: it tries again, calls the new-handler and
//! throws. It goes there by a jump, so that no frame of this object lies on the way of the exception.
//!
//! A program may replace `new(size)` and `delete(p)`, and must then see the calls of the forms that are
//! made of them: these jump to whatever the dynamic linker has bound the simple form to.
//!
//! `delete` with a size checks it, as `free_sized` does.

#![allow(non_snake_case, reason = "the names that C++ compilers give to the operators")]

use core::arch::naked_asm;
use core::ffi::c_void;

use crate::allocator::c_abi;
use crate::allocator::mymalloc::Process;
use crate::allocator::{end_process, next_definition};

/// `operator new(size)`.
///
/// # Safety
/// None; C functions are unsafe to call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _Znwm(size: usize) -> *mut c_void {
    let block = Process::allocate_at_hand(size);
    if block.is_null() {
        // SAFETY: as below.
        return unsafe { new_slowly(size) };
    }
    block.cast()
}

/// The same by all means.
///
/// # Safety
/// None; C functions are unsafe to call.
#[cold]
#[inline(never)]
unsafe extern "C" fn new_slowly(size: usize) -> *mut c_void {
    let block = c_abi::malloc::<Process>(size);
    if block.is_null() {
        // SAFETY: the argument goes on as it came. Should the compiler make this a call and not a jump,
        // an exception passes this frame, which has nothing to clean up.
        return unsafe { next_new(size) };
    }
    block
}

/// Jumps to the operator that comes next, which this one's caller then gets its answer from.
///
/// # Safety
/// As C++'s `operator new`.
#[unsafe(naked)]
unsafe extern "C" fn next_new(size: usize) -> *mut c_void {
    naked_asm!(
        "push rdi",
        "call {find}",
        "pop rdi",
        "jmp rax",
        find = sym find_next_new,
    )
}

extern "C" fn find_next_new(size: usize) -> *mut c_void {
    match next_definition(c"_Znwm") {
        Some(function) => function.as_ptr(),
        None => end_process(format_args!(
            "mymalloc: operator new({size}): no memory, and no C++ library to tell"
        )),
    }
}

/// `operator new[](size)`: whatever `operator new(size)` is.
///
/// # Safety
/// None; C functions are unsafe to call.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _Znam(size: usize) -> *mut c_void {
    naked_asm!("jmp qword ptr [rip + _Znwm@GOTPCREL]")
}

/// `operator delete(block)`. The label tells it from one that a program has put in its place.
///
/// # Safety
/// As C's `free`.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _ZdlPv(block: *mut c_void) {
    naked_asm!(
        ".globl mymalloc_operator_delete",
        ".hidden mymalloc_operator_delete",
        "mymalloc_operator_delete:",
        "jmp {delete}",
        delete = sym delete,
    )
}

unsafe extern "C" fn delete(block: *mut c_void) {
    // SAFETY: the caller hands over the block.
    unsafe { c_abi::free::<Process>(block) }
}

/// `operator delete[](block)`: whatever `operator delete(block)` is.
///
/// # Safety
/// As C's `free`.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _ZdaPv(block: *mut c_void) {
    naked_asm!("jmp qword ptr [rip + _ZdlPv@GOTPCREL]")
}

/// `operator delete(block, size)`: `operator delete(block)`, and if that is this object's, the size is
/// checked.
///
/// # Safety
/// As C's `free_sized`.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _ZdlPvm(block: *mut c_void, size: usize) {
    naked_asm!(
        "mov rax, qword ptr [rip + _ZdlPv@GOTPCREL]",
        "lea rcx, [rip + mymalloc_operator_delete]",
        "cmp rax, rcx",
        "je {delete_sized}",
        "jmp rax",
        delete_sized = sym delete_sized,
    )
}

unsafe extern "C" fn delete_sized(block: *mut c_void, size: usize) {
    // SAFETY: the caller hands over the block.
    unsafe { c_abi::free_sized::<Process>(block, size) }
}

/// `operator delete[](block, size)`: whatever `operator delete[](block)` is.
///
/// # Safety
/// As C's `free`.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _ZdaPvm(block: *mut c_void, size: usize) {
    naked_asm!("jmp qword ptr [rip + _ZdaPv@GOTPCREL]")
}
