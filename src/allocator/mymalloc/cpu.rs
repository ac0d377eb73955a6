//! Single instructions of the short paths that the compiler does not find, or has no words for; on other
//! machines, and with the feature `portable`, what means the same.

#[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
use core::arch::asm;

use super::heap::{Doubled, Heap};
use super::tray::Slot;

/// Where a heap has its bins.
#[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
const BINS_AT: usize = core::mem::offset_of!(Heap, bins);

/// Bits of the count that [`shift_lower_half`] heeds.
#[cfg(any(test, not(all(target_arch = "x86_64", not(feature = "portable")))))]
const SHIFT_BITS: u64 = 31;

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

/// The lowest byte of an address, inverted.
#[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
#[inline(always)]
pub(super) fn inverted_byte(address: usize) -> u8 {
    let mut inverted = address;
    // Where that byte is known to be equal to another, the compiler would keep the other one for this.
    // SAFETY: nothing but this register changes.
    unsafe {
        asm!("not {0:e}", inout(reg) inverted, options(pure, nomem, nostack, preserves_flags))
    };
    inverted as u8
}

#[cfg(not(all(target_arch = "x86_64", not(feature = "portable"))))]
#[inline(always)]
pub(super) fn inverted_byte(address: usize) -> u8 {
    !(address as u8)
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

/// Copies a slot, by one load and one store.
///
/// # Safety
/// The one may be read, and the other written.
#[inline(always)]
pub(super) unsafe fn copy_slot(from: *const Slot, to: *mut Slot) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_mm_loadu_si128, _mm_storeu_si128};
        // SAFETY: the caller says so.
        unsafe { _mm_storeu_si128(to.cast(), _mm_loadu_si128(from.cast())) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the caller says so.
    unsafe {
        to.write(from.read());
    }
}

/// Moves the top of a bin's magazine up by an entry.
///
/// # Safety
/// The calling thread's heap, and a class whose magazine has room.
#[inline(always)]
pub(super) unsafe fn raise_top(heap: *mut Heap, class: Doubled) {
    // By one instruction, though the top is in a register.
    #[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
    // SAFETY: the caller says so, and bins begin with it.
    unsafe {
        asm!("add qword ptr [{} + 8*{} + {}], {}", in(reg) heap, in(reg) class.words(), const BINS_AT,
            const size_of::<Slot>(), options(nostack));
    }
    #[cfg(not(all(target_arch = "x86_64", not(feature = "portable"))))]
    // SAFETY: the caller says so.
    unsafe {
        let bin = Heap::bin(heap, class);
        (*bin).top = (*bin).top.add(1);
    }
}

/// Moves the top of a bin's magazine down by an entry.
///
/// # Safety
/// The calling thread's heap, and a class whose magazine is not empty.
#[inline(always)]
pub(super) unsafe fn lower_top(heap: *mut Heap, class: Doubled) {
    #[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
    // SAFETY: as above.
    unsafe {
        asm!("sub qword ptr [{} + 8*{} + {}], {}", in(reg) heap, in(reg) class.words(), const BINS_AT,
            const size_of::<Slot>(), options(nostack));
    }
    #[cfg(not(all(target_arch = "x86_64", not(feature = "portable"))))]
    // SAFETY: the caller says so.
    unsafe {
        let bin = Heap::bin(heap, class);
        (*bin).top = (*bin).top.sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::state_byte::on_its_way;
    use super::*;

    #[test]
    fn they_do_what_is_said_of_them() {
        let address = 0x7fff_1234_5678_9ab0;
        for count in 0..=SHIFT_BITS {
            // Bits beyond the five are not heeded.
            let shifted = shift_lower_half(address, count | 0xabcd_0000_0000_ffe0);
            assert_eq!(shifted, (address & 0xffff_ffff) >> count);
        }
        for address in (0..4096).step_by(16) {
            assert_eq!(inverted_byte(address), on_its_way(address));
        }
        let mut value = 7_u8;
        let byte = &raw mut value;
        for wherever in [byte, core::ptr::null_mut(), byte.wrapping_byte_add(1 << 62)] {
            prefetch_to_write(wherever);
            prefetch(wherever);
        }
        assert_eq!(value, 7);
    }
}
