//! The verify pass: every block the allocator returns is checked. Alignment, overlap with live
//! blocks, zeroes of `calloc`, content kept through a block's whole life and through `realloc`,
//! usable size. Nothing is timed.
//!
//! Each block is filled with a pattern of its own, up to its usable size: what `malloc_usable_size`
//! promises must be the block's as well. The pattern is compared when the block is released, and in
//! sweeps over all live blocks meanwhile, as often as their cost stays in proportion to that of
//! filling. A block found changed is watched in a second replay, in a process of its own, after each
//! operation: so the first operation after which it shows is named.

use core::ffi::c_void;
use core::ops::Range;

use super::pattern::{checked_bytes, fill, holds};
use super::serial::{Failure, Fault, Observer, Replayer, Returned};
use super::shadow::{Refusal, Shadow};
use crate::subject::functions::Functions;

/// Place, sizes and pattern of the block in a slot; no place if there is none.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct SlotPattern {
    address: usize,
    /// Requested bytes.
    size: usize,
    /// Bytes that have the pattern: the usable ones.
    filled: usize,
    /// Number of the block in the order of filling, from 1.
    serial: u64,
}

impl SlotPattern {
    /// Whether the first `size` bytes of the two blocks, or of one and the given place, overlap.
    fn overlaps(&self, address: usize, size: usize) -> bool {
        self.address != 0 && self.address < address + size && address < self.address + self.size
    }
}

/// Bytes that sweeps may compare beyond what was filled.
const SWEEP_ALLOWANCE_BYTES: u64 = 128 << 20;
/// Sweeps in a replay, at most; and operations between two, at least.
const SWEEPS: usize = 256;
const SWEEP_OPERATIONS: usize = 64;

struct Checker<'a> {
    functions: Functions,
    shadow: Shadow,
    slots: &'a mut [SlotPattern],
    /// The block that is being reallocated, as it was.
    before: SlotPattern,
    serial: u64,
    /// Memory that no allocator may give out: the harness's own.
    ours: [Range<usize>; 2],
    operation: usize,
    /// Bytes filled so far, compared in sweeps so far, and filled in live blocks.
    filled_bytes: u64,
    swept_bytes: u64,
    live_filled_bytes: u64,
    sweep_stride: usize,
    /// The block that is compared after each operation, by its serial; 0 for none.
    watch: u64,
    watched: SlotPattern,
    /// The operation in which the watched block changed.
    culprit: Option<usize>,
    /// Serial of the block that was found changed; 0 for none.
    changed: &'a mut u64,
    progress: &'a mut dyn FnMut(usize),
}

impl Checker<'_> {
    /// Alignment, overlap, usable size; enters the block. Returns its usable bytes.
    fn enter(&mut self, returned: &Returned) -> Result<usize, Fault> {
        let (address, size) = (returned.block.addr(), returned.size);
        // Malloc promises what any type of the block's size needs: 16 from 16 bytes on, 8 below.
        let promised = if size >= 16 { 16 } else { 8 };
        if !address.is_multiple_of(promised.max(returned.alignment)) {
            return Err(Fault::Misaligned);
        }
        // A block at the end of the address space is not a user's; it would also overflow sums.
        if address >= 1 << 48 || size >= 1 << 48 || self.is_taken(address, size) {
            return Err(Fault::Overlap);
        }
        // SAFETY: the allocator has just returned the block.
        let usable = unsafe { (self.functions.malloc_usable_size)(returned.block) };
        if usable < size {
            return Err(Fault::UsableTooSmall);
        }
        let reaches_ours =
            |ours: &Range<usize>| address < ours.end && ours.start < address.saturating_add(usable);
        if usable >= 1 << 48 || self.ours.iter().any(reaches_ours) {
            return Err(Fault::UsableOverlap);
        }
        // More blocks than the map covers: the contents are still compared.
        if self.shadow.insert(address, usable) == Err(Refusal::Overlap) {
            return Err(self.kind_of_overlap(address, size));
        }
        Ok(usable)
    }

    /// Whether the bytes asked for are the harness's own.
    fn is_taken(&self, address: usize, size: usize) -> bool {
        self.ours
            .iter()
            .any(|ours| address < ours.end && ours.start < address + size)
    }

    /// Whether two blocks overlap in what was asked for, or only in what a usable size promised.
    fn kind_of_overlap(&self, address: usize, size: usize) -> Fault {
        // Bits of the map stand for eight bytes, and an empty block has an address of its own.
        let size = size.max(1);
        if self.slots.iter().any(|slot| slot.overlaps(address, size)) {
            Fault::Overlap
        } else {
            Fault::UsableOverlap
        }
    }

    /// Gives the block its pattern and remembers it.
    ///
    /// # Safety
    /// The block is valid for `usable` bytes.
    unsafe fn adopt(&mut self, returned: &Returned, usable: usize) {
        self.serial += 1;
        // SAFETY: the caller's promise.
        unsafe { fill(returned.block, usable, self.serial) };
        let bytes = checked_bytes(usable);
        self.filled_bytes += bytes;
        self.live_filled_bytes += bytes;
        let pattern = SlotPattern {
            address: returned.block.addr(),
            size: returned.size,
            filled: usable,
            serial: self.serial,
        };
        self.slots[returned.slot] = pattern;
        if self.serial == self.watch {
            self.watched = pattern;
        }
    }

    /// Whether the block still has its pattern.
    fn is_intact(pattern: &SlotPattern) -> bool {
        let SlotPattern {
            address,
            filled,
            serial,
            ..
        } = *pattern;
        let block = core::ptr::with_exposed_provenance_mut(address);
        // SAFETY: the slots hold live blocks only, whose usable bytes were written before.
        unsafe { holds(block, filled, serial, filled) }
    }

    /// Takes the block out of its slot, after its content was compared.
    fn release(&mut self, slot: usize) -> Result<SlotPattern, Fault> {
        let pattern = std::mem::take(&mut self.slots[slot]);
        if !Self::is_intact(&pattern) {
            *self.changed = pattern.serial;
            return Err(Fault::ContentLost);
        }
        self.shadow.remove(pattern.address, pattern.filled);
        self.live_filled_bytes -= checked_bytes(pattern.filled);
        if pattern.serial == self.watch {
            self.watched = SlotPattern::default();
        }
        Ok(pattern)
    }

    /// Compares all live blocks if it is time to, and tells what was found since the last call.
    fn look(&mut self) -> Result<(), Fault> {
        if self.culprit.is_some() {
            return Err(Fault::ContentChanged);
        }
        let allowed = self.filled_bytes + SWEEP_ALLOWANCE_BYTES;
        if self.operation.is_multiple_of(self.sweep_stride)
            && self.swept_bytes + self.live_filled_bytes <= allowed
        {
            self.sweep()?;
        }
        Ok(())
    }

    fn sweep(&mut self) -> Result<(), Fault> {
        self.swept_bytes += self.live_filled_bytes;
        let live = self.slots.iter().filter(|slot| slot.address != 0);
        for slot in live {
            if !Self::is_intact(slot) {
                *self.changed = slot.serial;
                return Err(Fault::ContentFoundChanged);
            }
        }
        Ok(())
    }
}

impl Observer for Checker<'_> {
    fn step(&mut self, operation: usize) {
        // What is seen now, the operation before did.
        if self.watched.address != 0 && self.culprit.is_none() && !Self::is_intact(&self.watched) {
            self.culprit = operation.checked_sub(1);
        }
        self.operation = operation;
        (self.progress)(operation);
    }

    unsafe fn allocated(&mut self, returned: &Returned) -> Result<(), Fault> {
        self.look()?;
        if returned.block.is_null() {
            self.slots[returned.slot] = SlotPattern::default();
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
        // SAFETY: the allocator has just returned the block, and promised the usable bytes, which are
        // nobody else's as far as known.
        unsafe { self.adopt(returned, usable) };
        Ok(())
    }

    unsafe fn releasing(&mut self, slot: usize, block: *mut c_void) -> Result<(), Fault> {
        self.look()?;
        if !block.is_null() {
            self.release(slot)?;
        }
        Ok(())
    }

    unsafe fn reallocating(&mut self, slot: usize, block: *mut c_void) -> Result<(), Fault> {
        self.look()?;
        self.before = if block.is_null() {
            SlotPattern::default()
        } else {
            self.release(slot)?
        };
        Ok(())
    }

    unsafe fn reallocated(
        &mut self,
        _old_slot: usize,
        _old: *mut c_void,
        returned: &Returned,
    ) -> Result<(), Fault> {
        let before = std::mem::take(&mut self.before);
        if returned.block.is_null() {
            self.slots[returned.slot] = SlotPattern::default();
            return Ok(());
        }
        let usable = self.enter(returned)?;
        // Only what was asked for is kept, not all that was usable.
        let kept = before.size.min(returned.size);
        // SAFETY: the new block is at least `kept` bytes long.
        if !unsafe { holds(returned.block, before.filled, before.serial, kept) } {
            return Err(Fault::ReallocLost);
        }
        // SAFETY: as in `allocated`.
        unsafe { self.adopt(returned, usable) };
        Ok(())
    }
}

/// What the checks are about, apart from the allocator.
pub struct Watch<'a> {
    /// The block that is compared after each operation: the how-manieth to be filled, from 1; 0 for
    /// none.
    pub block: u64,
    /// Gets the number of the block that was found changed.
    pub changed: &'a mut u64,
    /// Told each operation's number before it is performed, so that a crash can be placed.
    pub progress: &'a mut dyn FnMut(usize),
}

/// Replays once and drains, checking everything. `slots` has an entry per slot of the program, all
/// zero. Returns how many operations were performed.
pub fn verify(
    replayer: &mut Replayer<'_>,
    slots: &mut [SlotPattern],
    shadow: Shadow,
    watch: Watch<'_>,
) -> Result<usize, Failure> {
    let operations = replayer.program().words().len();
    let range_of = |start: usize, bytes: usize| start..start + bytes;
    let ours = [
        range_of(slots.as_ptr().addr(), size_of_val(slots)),
        replayer.table_range(),
    ];
    let mut checker = Checker {
        functions: *replayer.functions(),
        shadow,
        slots,
        before: SlotPattern::default(),
        serial: 0,
        ours,
        operation: 0,
        filled_bytes: 0,
        swept_bytes: 0,
        live_filled_bytes: 0,
        sweep_stride: (operations / SWEEPS).max(SWEEP_OPERATIONS),
        watch: watch.block,
        watched: SlotPattern::default(),
        culprit: None,
        changed: watch.changed,
        progress: watch.progress,
    };
    let done = replay_and_drain(replayer, &mut checker);
    // Noticed at the operation after it.
    match (done, checker.culprit) {
        (Err(failure), Some(operation)) if failure.fault == Fault::ContentChanged => Err(Failure {
            operation,
            ..failure
        }),
        (done, _) => done,
    }
}

fn replay_and_drain(
    replayer: &mut Replayer<'_>,
    checker: &mut Checker<'_>,
) -> Result<usize, Failure> {
    let operations = replayer.replay(checker)?;
    // Once more for what the last operations did; draining compares each block by itself.
    checker.step(operations);
    let last = checker.look().and_then(|()| checker.sweep());
    last.map_err(|fault| Failure {
        operation: operations.saturating_sub(1),
        fault,
    })?;
    replayer.drain(checker)?;
    Ok(operations)
}
