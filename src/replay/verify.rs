//! The verify pass: every block the allocator returns is checked. Alignment, overlap with live
//! blocks, zeroes of `calloc`, content kept through a block's whole life and through `realloc`,
//! usable size. Nothing is timed.
//!
//! Each block is filled with a pattern of its own, which is compared when it is released.

use core::ffi::c_void;

use super::serial::{Failure, Fault, Observer, Replayer, Returned};
use super::shadow::Shadow;
use crate::subject::functions::Functions;

/// Requested bytes and pattern of the block in a slot.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct SlotPattern {
    size: usize,
    serial: u64,
}

/// Blocks larger than this are filled and compared at both ends only.
const FULL_CHECK_BYTES: usize = 1 << 20;
/// So much at each end of larger ones.
const END_BYTES: usize = 64 << 10;

struct Checker<'a> {
    functions: Functions,
    shadow: Shadow,
    slots: &'a mut [SlotPattern],
    serial: u64,
    progress: &'a mut dyn FnMut(usize),
}

/// The pattern's byte at an offset: depends on block and place, so that a block shifted by eight
/// bytes is noticed too.
fn pattern(serial: u64, word: usize) -> u64 {
    (serial ^ (word as u64).rotate_left(40)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// The parts of a block that are filled.
fn checked_parts(size: usize) -> [(usize, usize); 2] {
    if size <= FULL_CHECK_BYTES {
        [(0, size), (0, 0)]
    } else {
        [(0, END_BYTES), ((size - END_BYTES) & !7, size)]
    }
}

/// Calls `visit` with the address and the pattern byte of each checked byte below `limit`; stops at
/// the first `false`.
fn each_word(
    block: *mut c_void,
    size: usize,
    serial: u64,
    limit: usize,
    mut visit: impl FnMut(*mut u8, &[u8]) -> bool,
) -> bool {
    for (start, end) in checked_parts(size) {
        let mut offset = start;
        while offset < end.min(limit) {
            let bytes = pattern(serial, offset / 8).to_ne_bytes();
            let length = (end.min(limit) - offset).min(8);
            if !visit(block.cast::<u8>().wrapping_add(offset), &bytes[..length]) {
                return false;
            }
            offset += 8;
        }
    }
    true
}

impl Checker<'_> {
    /// Fills a block.
    ///
    /// # Safety
    /// The block is valid for `size` bytes.
    unsafe fn fill(block: *mut c_void, size: usize, serial: u64) {
        each_word(block, size, serial, size, |address, bytes| {
            // SAFETY: `each_word` stays below `size`, for which the caller vouches.
            unsafe { address.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
            true
        });
    }

    /// Whether the first `limit` bytes of a block filled as one of `size` are as they were filled.
    ///
    /// # Safety
    /// The block is valid for `limit` bytes.
    unsafe fn holds(block: *mut c_void, size: usize, serial: u64, limit: usize) -> bool {
        each_word(block, size, serial, limit, |address, bytes| {
            // SAFETY: `each_word` stays below `limit`, for which the caller vouches.
            unsafe { core::slice::from_raw_parts(address, bytes.len()) == bytes }
        })
    }

    /// Alignment, overlap, usable size; enters the block.
    fn enter(&mut self, returned: &Returned) -> Result<(), Fault> {
        let address = returned.block.addr();
        // Malloc promises what any type of the block's size needs: 16 from 16 bytes on, 8 below.
        let promised = if returned.size >= 16 { 16 } else { 8 };
        if !address.is_multiple_of(promised.max(returned.alignment)) {
            return Err(Fault::Misaligned);
        }
        // A block at the end of the address space is not a user's; it would also overflow sums.
        if address >= 1 << 48 || returned.size >= 1 << 48 {
            return Err(Fault::Overlap);
        }
        // More blocks than the map covers: the contents are still compared.
        if self.shadow.insert(address, returned.size) == Err(super::shadow::Refusal::Overlap) {
            return Err(Fault::Overlap);
        }
        // SAFETY: the allocator has just returned the block.
        let usable = unsafe { (self.functions.malloc_usable_size)(returned.block) };
        if usable < returned.size {
            return Err(Fault::UsableTooSmall);
        }
        Ok(())
    }

    /// Gives the block its pattern and remembers it.
    ///
    /// # Safety
    /// The block is valid for its size.
    unsafe fn adopt(&mut self, returned: &Returned) {
        self.serial += 1;
        // SAFETY: the caller's promise.
        unsafe { Self::fill(returned.block, returned.size, self.serial) };
        self.slots[returned.slot] = SlotPattern {
            size: returned.size,
            serial: self.serial,
        };
    }
}

impl Observer for Checker<'_> {
    fn step(&mut self, operation: usize) {
        (self.progress)(operation);
    }

    unsafe fn allocated(&mut self, returned: &Returned) -> Result<(), Fault> {
        if returned.block.is_null() {
            self.slots[returned.slot] = SlotPattern::default();
            return Ok(());
        }
        self.enter(returned)?;
        if returned.zeroed {
            // SAFETY: the caller's promise.
            let bytes =
                unsafe { core::slice::from_raw_parts(returned.block.cast::<u8>(), returned.size) };
            if bytes.iter().any(|byte| *byte != 0) {
                return Err(Fault::NotZeroed);
            }
        }
        // SAFETY: the caller's promise.
        unsafe { self.adopt(returned) };
        Ok(())
    }

    unsafe fn releasing(&mut self, slot: usize, block: *mut c_void) -> Result<(), Fault> {
        if block.is_null() {
            return Ok(());
        }
        let SlotPattern { size, serial } = self.slots[slot];
        // SAFETY: the block is live and `size` long; the caller has not freed it yet.
        if !unsafe { Self::holds(block, size, serial, size) } {
            return Err(Fault::ContentLost);
        }
        self.shadow.remove(block.addr(), size);
        Ok(())
    }

    unsafe fn reallocating(&mut self, slot: usize, block: *mut c_void) -> Result<(), Fault> {
        // SAFETY: the caller's promise is the same.
        unsafe { self.releasing(slot, block) }
    }

    unsafe fn reallocated(
        &mut self,
        old_slot: usize,
        old: *mut c_void,
        returned: &Returned,
    ) -> Result<(), Fault> {
        // The new block may stand in the old one's slot.
        let before = if old.is_null() {
            SlotPattern::default()
        } else {
            self.slots[old_slot]
        };
        if returned.block.is_null() {
            self.slots[returned.slot] = SlotPattern::default();
            return Ok(());
        }
        self.enter(returned)?;
        let kept = before.size.min(returned.size);
        // SAFETY: the new block is at least `kept` bytes long.
        if !unsafe { Self::holds(returned.block, before.size, before.serial, kept) } {
            return Err(Fault::ReallocLost);
        }
        // SAFETY: the caller's promise.
        unsafe { self.adopt(returned) };
        Ok(())
    }
}

/// Replays once and drains, checking everything. Returns how many operations were performed. `progress` is told each operation's number before
/// it is performed, so that a crash can be placed.
pub fn verify(
    replayer: &mut Replayer<'_>,
    slots: &mut [SlotPattern],
    shadow: Shadow,
    progress: &mut dyn FnMut(usize),
) -> Result<usize, Failure> {
    let functions = *replayer.functions();
    let mut checker = Checker {
        functions,
        shadow,
        slots,
        serial: 0,
        progress,
    };
    let operations = replayer.replay(&mut checker)?;
    replayer.drain(&mut checker)?;
    Ok(operations)
}
