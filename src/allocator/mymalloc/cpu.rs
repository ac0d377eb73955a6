//! Single instructions of the short path of `free` that the compiler does not find, or has no words for; on other
//! machines, and with the feature `portable`, what means the same.

#[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
use core::arch::asm;

/// Bits of the count that [`shift_lower_half`] heeds.
pub(super) const SHIFT_BITS: u64 = 31;

/// The lower 32 bits of a value, shifted to the right as the lowest five bits of `count` say.
#[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
#[inline(always)]
pub(super) fn shift_lower_half(value: usize, count: u64) -> usize {
    let mut shifted = value;
    // The compiler would take the five bits out of the count, which the processor does anyway.
    // SAFETY: nothing but this register changes.
    unsafe {
        asm!("shr {0:e}, cl", inout(reg) shifted, in("rcx") count, options(pure, nomem, nostack));
    }
    shifted
}

#[cfg(not(all(target_arch = "x86_64", not(feature = "portable"))))]
#[inline(always)]
pub(super) fn shift_lower_half(value: usize, count: u64) -> usize {
    (value as u32 >> (count & SHIFT_BITS)) as usize
}

/// Inverts all bits of a byte.
///
/// # Safety
/// The byte is the caller's.
#[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
#[inline(always)]
pub(super) unsafe fn invert(byte: *mut u8) {
    // Where the byte was compared with another, the compiler inverts that and writes it: two instructions more.
    // SAFETY: the caller says so.
    unsafe { asm!("not byte ptr [{}]", in(reg) byte, options(nostack, preserves_flags)) };
}

/// # Safety
/// The byte is the caller's.
#[cfg(not(all(target_arch = "x86_64", not(feature = "portable"))))]
#[inline(always)]
pub(super) unsafe fn invert(byte: *mut u8) {
    // SAFETY: the caller says so.
    unsafe { byte.write(!byte.read()) };
}

/// Has the processor get a cache line that will be read and then written: if another processor has it, that is one
/// message and not two. Nothing waits for it, and no address is wrong.
#[inline(always)]
pub(super) fn prefetch_to_write(address: *mut u8) {
    // `_mm_prefetch` needs a feature of the target for it. Processors that do not know it do nothing.
    #[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
    // SAFETY: a hint.
    unsafe {
        asm!("prefetchw [{}]", in(reg) address, options(nostack, preserves_flags));
    }
    #[cfg(not(all(target_arch = "x86_64", not(feature = "portable"))))]
    let _ = address;
}

/// Has the processor get a cache line. Nothing waits for it, and no address is wrong.
#[inline(always)]
pub(super) fn prefetch(address: *mut u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
