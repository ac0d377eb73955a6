//! Slices: address space of one class, 8 to 32 KiB, for blocks beyond 4 KiB 64 or 128 KiB. Where blocks are
//! carved from, and where they go back to when the caches above hold enough. A slice takes places of a
//! [`Chunk`](super::chunk::Chunk): one, or as many as a power of two.
//!
//! A slice has [state bytes](super::state_byte), by which every pointer is judged. What is known of slices lies apart
//! from them, so a stray write into a block cannot reach it.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::super::{FreeError, c_abi};
use super::heap::{Heap, IS_CHECKED};
use super::size_class::{
    CLASSES, PLACE_BYTES, SIZES, are_few, block_at, blocks_in, places_max, state_shift, states_in,
};
use super::state_byte::{at_home, block_at_home, on_its_way, which_are_at_home};
use super::tray::{Entry, Rack};
use super::{Process, chunk};

/// What is known of a slice. Guarded by the lock of its class's [`Shelf`](super::shelf::Shelf) while
/// it has a class; the state bytes of blocks that are not at home belong to whoever has the block.
pub(super) struct Slice {
    pub(super) start: NonNull<u8>,
    pub(super) states: NonNull<u8>,
    /// Which blocks are at home, a bit each, of classes of which a slice has 64 blocks at most: of these, the state
    /// bytes lie too far apart to be looked through.
    pub(super) home: u64,
    /// Neighbours in a list of the shelf.
    pub(super) next: *mut Slice,
    pub(super) previous: *mut Slice,
    /// The next of those that are not carved up, and that no thread carves.
    pub(super) next_open: *mut Slice,
    /// The heap that carved it, or carves it. Null: none.
    pub(super) owner: *const Heap,
    /// See the functions of these names. Short: a chunk has 32 such records.
    blocks: u16,
    free: u16,
    carved: u16,
    first_free: u16,
    places: u8,
    class: u8,
    pub(super) standing: Standing,
}

// No slice has more state bytes than those of the shortest blocks and the longest ones have, nor more blocks than that.
const _: () = assert!(
    states_in(1, places_max(1)) < u16::MAX as usize
        && states_in(CLASSES - 1, places_max(CLASSES - 1)) < u16::MAX as usize
        && places_max(CLASSES - 1) < u8::MAX as usize
        && CLASSES < u8::MAX as usize
);

/// In which list of its shelf a slice is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// In none: no free block, or the one being carved.
    Apart,
    /// Few free blocks.
    Sparse,
    /// Enough free blocks for a fetch to be worth it.
    Ready,
}

impl Slice {
    pub(super) fn class(&self) -> usize {
        usize::from(self.class)
    }

    /// Places that it takes.
    pub(super) fn places(&self) -> usize {
        usize::from(self.places)
    }

    /// Blocks that it has room for.
    pub(super) fn blocks(&self) -> usize {
        usize::from(self.blocks)
    }

    /// Blocks at home.
    pub(super) fn free(&self) -> usize {
        usize::from(self.free)
    }

    /// Blocks carved so far, from the lowest address on. What lies behind was never a block.
    pub(super) fn carved(&self) -> usize {
        usize::from(self.carved)
    }

    /// No block before this place among the state bytes is at home. Not of classes that have [`home`](Self::home).
    pub(super) fn first_free(&self) -> usize {
        usize::from(self.first_free)
    }

    /// Carves up to `count_max` blocks. Adds them to a rack that has room for them, so that the lowest
    /// address is taken first: memory is touched in that order, however many are carved at a time.
    ///
    /// # Safety
    /// The caller guards the slice, and it is not carved up.
    pub(super) unsafe fn carve(&mut self, rack: &mut Rack, count_max: usize) {
        let block_bytes = SIZES[self.class()];
        let from = self.carved() * block_bytes;
        let count = count_max.min(self.blocks() - self.carved());
        debug_assert!(count > 0);
        for index in (0..count).rev() {
            let place = from + index * block_bytes;
            // SAFETY: the block lies in the slice, its state byte, which says that none is allocated, among the
            // slice's, and there is room.
            unsafe {
                let block = self.start.add(place);
                let state = self.states.add(place >> state_shift(self.class())).as_ptr();
                rack.push(Entry { block, state });
            }
        }
        self.carved += count as u16;
    }

    /// Moves up to `count_max` blocks from home to a rack that has room for them, those with the lowest
    /// addresses.
    ///
    /// # Safety
    /// The caller guards the slice.
    pub(super) unsafe fn take_blocks(&mut self, rack: &mut Rack, count_max: usize) {
        let count = self.free().min(count_max);
        // SAFETY: there is room for so many, and so many are at home.
        unsafe {
            let first = rack.extend(count);
            if are_few(self.class()) {
                self.take_few(first, count);
            } else {
                self.take_many(first, count);
            }
        }
        self.free -= count as u16;
    }

    /// Moves `count` blocks from home to where they are to lie from `first` on, by their bits.
    ///
    /// # Safety
    /// As for [`take_blocks`](Self::take_blocks); so many are at home, and of a class that has bits for them.
    unsafe fn take_few(&mut self, first: *mut Entry, count: usize) {
        let (bytes, shift) = (SIZES[self.class()], state_shift(self.class()));
        for left in (0..count).rev() {
            let place = self.home.trailing_zeros() as usize * bytes;
            self.home &= self.home - 1;
            // SAFETY: a block of the slice, and its state byte.
            unsafe {
                let block = self.start.add(place);
                let state = self.states.add(place >> shift).as_ptr();
                state.write(on_its_way(block.addr().get()));
                first.add(left).write(Entry { block, state });
            }
        }
    }

    /// The same, by their state bytes.
    ///
    /// # Safety
    /// As for [`take_blocks`](Self::take_blocks), and so many are at home.
    unsafe fn take_many(&mut self, first: *mut Entry, count: usize) {
        let shift = state_shift(self.class());
        let in_step = (1 << shift) - 1;
        // From the last place on backwards, so that the lowest address is taken first.
        let mut left = count;
        let mut word_place = self.first_free() & !7;
        while left > 0 {
            // Eight at a time, each word read once: what was written a byte at a time is slow to read
            // as a word. Written a byte at a time, as the other bytes may be other threads'.
            // SAFETY: there are `free` blocks at home from `first_free` on, so the search ends among
            // the state bytes, whose number is a multiple of 8; and `left` of the places are empty.
            unsafe {
                let states = self.states.add(word_place);
                let steps = self.start.add(word_place << shift);
                let word = AtomicU64::from_ptr(states.as_ptr().cast()).load(Relaxed);
                let mut at_home = which_are_at_home(word.to_le());
                while at_home != 0 && left > 0 {
                    let in_word = at_home.trailing_zeros() as usize / 8;
                    at_home &= at_home - 1;
                    let state = states.add(in_word);
                    let low = usize::from(block_at_home(state.read()));
                    state.write(on_its_way(low));
                    let state = state.as_ptr();
                    let block = steps.add((in_word << shift) + (low & in_step));
                    left -= 1;
                    first.add(left).write(Entry { block, state });
                }
                if at_home == 0 {
                    word_place += 8;
                }
            }
        }
        self.first_free = word_place as u16;
    }

    /// Takes blocks home, as many from the first on as are its own. How many those are.
    ///
    /// # Safety
    /// The caller guards the slice; the blocks are free, and the caller's.
    pub(super) unsafe fn give_blocks(&mut self, entries: &[Entry]) -> usize {
        let (start, bytes) = (self.start.addr().get(), self.bytes());
        let are_few = are_few(self.class());
        let (mut count, mut lowest) = (0, usize::MAX);
        for entry in entries {
            let place = entry.block.addr().get().wrapping_sub(start);
            if place >= bytes {
                break;
            }
            let (state, home) = (self.state_of(entry), at_home(entry.block.addr().get()));
            // SAFETY: the block's state byte, which is the caller's.
            unsafe {
                if IS_CHECKED && state.read() == home {
                    // Two threads freed it at the same moment, and both were believed.
                    let block = entry.block.as_ptr().cast();
                    c_abi::report::<Process>("free", block, FreeError::AlreadyFreed);
                }
                state.write(home);
            }
            if are_few {
                self.home |= 1 << block_at(self.class(), place);
            }
            lowest = lowest.min(state.addr());
            count += 1;
        }
        let first = lowest.saturating_sub(self.states.addr().get());
        self.first_free = self.first_free().min(first) as u16;
        self.free += count as u16;
        count
    }

    /// The state byte of a block of its own.
    #[inline(always)]
    fn state_of(&self, entry: &Entry) -> *mut u8 {
        if IS_CHECKED {
            return entry.state;
        }
        // Nobody looked for it when the block was freed.
        let from_start = entry.block.addr().get() - self.start.addr().get();
        // SAFETY: the block lies in the slice, its state byte among the slice's.
        unsafe { self.states.add(from_start >> state_shift(self.class())) }.as_ptr()
    }

    /// In which list it belongs.
    pub(super) fn standing_due(&self) -> Standing {
        if self.free == 0 {
            Standing::Apart
        } else if self.free >= self.blocks.div_ceil(8) {
            Standing::Ready
        } else {
            Standing::Sparse
        }
    }

    pub(super) fn is_carved_up(&self) -> bool {
        self.carved == self.blocks
    }

    /// Whether no block of it is in anybody's hands.
    pub(super) fn is_idle(&self) -> bool {
        self.free == self.carved
    }

    /// Whether its blocks are better left to another heap, which has a thread and may have others of them: two
    /// threads that use blocks of one OS page take the state bytes from each other with each call.
    pub(super) fn is_of_another(&self, heap: *const Heap) -> bool {
        // SAFETY: a heap that carved a slice was made.
        self.owner != heap && !self.owner.is_null() && unsafe { Heap::has_thread(self.owner) }
    }

    /// Bytes of address space that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.places() * PLACE_BYTES
    }

    /// State bytes that it has.
    pub(super) fn states_count(&self) -> usize {
        states_in(self.class(), self.places())
    }

    /// Makes the record that of a slice with no block carved.
    ///
    /// # Safety
    /// The memory and the state bytes, which say that no block starts there, are the caller's.
    pub(super) unsafe fn begin(
        &mut self,
        class: usize,
        places: usize,
        start: NonNull<u8>,
        states: NonNull<u8>,
    ) {
        (self.start, self.states) = (start, states);
        (self.class, self.places) = (class as u8, places as u8);
        self.blocks = blocks_in(class, places) as u16;
        (self.free, self.first_free, self.home, self.carved) = (0, 0, 0, 0);
        let none = core::ptr::null_mut();
        (self.next, self.previous, self.next_open) = (none, none, none);
        self.owner = core::ptr::null();
        self.standing = Standing::Apart;
    }
}

/// Why this pointer into a slice that has a class is no allocated block.
///
/// # Safety
/// The address lies in such a slice.
pub(super) unsafe fn reason(pointer: NonNull<u8>) -> FreeError {
    let address = pointer.addr().get();
    if !address.is_multiple_of(16) {
        return FreeError::Misaligned;
    }
    // SAFETY: the caller says so. The count is read without the lock; it only grows while the slice has
    // its class, and the answer is for a message.
    let (start, class, carved) = unsafe {
        let slice = chunk::slice_of(pointer).as_ref();
        (slice.start.addr().get(), slice.class(), slice.carved())
    };
    let place = address - start;
    if place >= carved * SIZES[class] {
        FreeError::Foreign
    } else if place.is_multiple_of(SIZES[class]) {
        FreeError::AlreadyFreed
    } else {
        FreeError::Interior
    }
}
