//! What a thread of the verify pass checks: the same as a serial replay does, without sweeps over the
//! blocks of other threads. Contents are compared when a block is released or reallocated.

use core::ffi::c_void;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::replay::pattern::{fill, holds};
use crate::replay::serial::{Fault, Observer, Returned};
use crate::replay::shadow::{Refusal, Shadow};
use crate::replay::slots::SlotTable;
use crate::subject::functions::Functions;

/// Sizes and pattern of the block in a slot.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct SlotPattern {
    /// Requested bytes.
    size: usize,
    /// Usable bytes, all of them filled.
    filled: usize,
    serial: u64,
}

/// Where the block in a slot is, and how much was asked for; no place if there is none.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct SlotPlace {
    address: usize,
    size: usize,
}

/// What all threads know of all blocks, under a lock.
pub struct Ground<'a> {
    shadow: Shadow,
    places: &'a mut [SlotPlace],
    /// Memory that no allocator may give out: the harness's own.
    pub(super) ours: [Range<usize>; 3],
}

impl<'a> Ground<'a> {
    /// `places` has an entry per slot, none with a block.
    pub fn new(shadow: Shadow, places: &'a mut [SlotPlace]) -> Self {
        let start = places.as_ptr().addr();
        let own = start..start + size_of_val(places);
        Self {
            shadow,
            places,
            ours: [own, 0..0, 0..0],
        }
    }

    /// Enters a block.
    fn enter(&mut self, returned: &Returned, usable: usize) -> Result<(), Fault> {
        let (address, size) = (returned.block.addr(), returned.size);
        let reaches_ours = |bytes: usize| {
            let mut ours = self.ours.iter();
            ours.any(|ours| address < ours.end && ours.start < address.saturating_add(bytes))
        };
        if reaches_ours(size) {
            return Err(Fault::Overlap);
        }
        if reaches_ours(usable) {
            return Err(Fault::UsableOverlap);
        }
        // More blocks than the map covers: the contents are still compared.
        if self.shadow.insert(address, usable) == Err(Refusal::Overlap) {
            return Err(self.kind_of_overlap(address, size));
        }
        self.places[returned.slot] = SlotPlace { address, size };
        Ok(())
    }

    /// Whether two blocks overlap in what was asked for, or only in what a usable size promised.
    fn kind_of_overlap(&self, address: usize, size: usize) -> Fault {
        // Bits of the map stand for eight bytes, and an empty block has an address of its own.
        let size = size.max(1);
        let overlaps = |place: &SlotPlace| {
            place.address != 0
                && place.address < address + size
                && address < place.address + place.size.max(1)
        };
        match self.places.iter().any(overlaps) {
            true => Fault::Overlap,
            false => Fault::UsableOverlap,
        }
    }

    fn leave(&mut self, slot: usize, address: usize, filled: usize) {
        self.shadow.remove(address, filled);
        self.places[slot] = SlotPlace::default();
    }
}

fn lock<'g, 'a>(ground: &'g Mutex<Ground<'a>>) -> MutexGuard<'g, Ground<'a>> {
    ground.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Checks what one thread is given and gives back. Blocks are entered into the shared map after the
/// allocator returned them and taken out before it gets them back, so that whatever the threads do,
/// what overlaps in the map was handed out twice.
pub(super) struct Checker<'w, 'a> {
    pub(super) functions: Functions,
    pub(super) ground: &'w Mutex<Ground<'a>>,
    pub(super) slots: SlotTable<'w, SlotPattern>,
    /// Number of the operation under way; tells the patterns of different blocks apart.
    pub(super) operation: u64,
    /// The last operation that any thread has begun, so that a crash can be placed.
    pub(super) progress: &'w AtomicU64,
}

impl Checker<'_, '_> {
    /// Alignment, overlap, usable size; enters the block. Returns its usable bytes.
    fn enter(&mut self, returned: &Returned) -> Result<usize, Fault> {
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
        // SAFETY: the allocator has just returned the block.
        let usable = unsafe { (self.functions.malloc_usable_size)(returned.block) };
        if usable < returned.size {
            return Err(Fault::UsableTooSmall);
        }
        if usable >= 1 << 48 {
            return Err(Fault::UsableOverlap);
        }
        lock(self.ground).enter(returned, usable)?;
        Ok(usable)
    }

    /// Gives the block its pattern and remembers it.
    ///
    /// # Safety
    /// The block is valid for `filled` bytes.
    unsafe fn adopt(&mut self, returned: &Returned, filled: usize) {
        // An operation makes one block at most; 0 is the pattern of none.
        let serial = self.operation + 1;
        // SAFETY: the caller's promise.
        unsafe { fill(returned.block, filled, serial) };
        let pattern = SlotPattern {
            size: returned.size,
            filled,
            serial,
        };
        self.remember(returned.slot, pattern);
    }

    fn pattern(&self, slot: usize) -> SlotPattern {
        // SAFETY: the replayer hands on slots of its program, for each of which there is an entry;
        // they are the calling thread's while it works on their block.
        unsafe { self.slots.get(slot) }
    }

    fn remember(&mut self, slot: usize, pattern: SlotPattern) {
        // SAFETY: as in `pattern`.
        unsafe { self.slots.set(slot, pattern) }
    }
}

impl Observer for Checker<'_, '_> {
    fn step(&mut self, operation: usize) {
        self.operation = operation as u64;
        self.progress.store(operation as u64, Ordering::Relaxed);
    }

    unsafe fn allocated(&mut self, returned: &Returned) -> Result<(), Fault> {
        if returned.block.is_null() {
            self.remember(returned.slot, SlotPattern::default());
            return Ok(());
        }
        let usable = self.enter(returned)?;
        if returned.zeroed {
            let bytes =
                // SAFETY: the caller's promise.
                unsafe { core::slice::from_raw_parts(returned.block.cast::<u8>(), returned.size) };
            if bytes.iter().any(|byte| *byte != 0) {
                return Err(Fault::NotZeroed);
            }
        }
        // SAFETY: the allocator has just returned the block and promised the usable bytes, which are
        // nobody else's as far as known.
        unsafe { self.adopt(returned, usable) };
        Ok(())
    }

    unsafe fn releasing(&mut self, slot: usize, block: *mut c_void) -> Result<(), Fault> {
        if block.is_null() {
            return Ok(());
        }
        let SlotPattern { filled, serial, .. } = self.pattern(slot);
        // SAFETY: the block is live and `filled` bytes long; the caller has not freed it yet.
        if !unsafe { holds(block, filled, serial, filled) } {
            return Err(Fault::ContentLost);
        }
        lock(self.ground).leave(slot, block.addr(), filled);
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
            self.pattern(old_slot)
        };
        if returned.block.is_null() {
            self.remember(returned.slot, SlotPattern::default());
            return Ok(());
        }
        let usable = self.enter(returned)?;
        let kept = before.size.min(returned.size);
        // SAFETY: the new block is at least `kept` bytes long.
        if !unsafe { holds(returned.block, before.filled, before.serial, kept) } {
            return Err(Fault::ReallocLost);
        }
        // SAFETY: the allocator has just returned the block and promised the usable bytes, which are
        // nobody else's as far as known.
        unsafe { self.adopt(returned, usable) };
        Ok(())
    }
}
