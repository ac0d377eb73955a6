//! Slices: 32 KiB of address space each, for blocks beyond 4 KiB 128 KiB, all blocks of one class. Where
//! blocks are carved from, and where they go back to when the caches above hold enough.
//!
//! A slice has state bytes, by which every pointer is judged. The byte of the place where a block starts
//! holds the lowest six bits of the block's address, and above them what the block is: allocated,
//! at home in its slice, or on its way between the two (in a magazine, or offered to other threads).
//! Places where no block starts, or none was carved yet, have 0. So a pointer is an allocated block if
//! and only if its byte is `ALLOCATED | address & 63`: nothing else passes, wherever it points, and
//! whatever the program wrote into its blocks.
//!
//! A chunk is 256 KiB, eight places of 32 KiB, of which a slice takes one or four. What is known of slices
//! and chunks lies apart from them, so a stray write into a block cannot reach it.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::super::FreeError;
use super::super::lock::Lock;
use super::super::os;
use super::pages::{self, CHUNK_BYTES, REGION_BYTES, SLICES_PER_CHUNK};
use super::size_class::{
    LONG_PLACES, SIZES, SLICE_BYTES, SLICE_SHIFT, STATE_SHIFT_MIN, STATE_SHIFTS, blocks_per_slice,
    places_per_slice, state_shift, states_per_slice,
};
use super::tray::{Entry, Rack};
use super::{large, metadata, options, secure};

/// Bit of a state byte: the block is the program's.
pub(super) const ALLOCATED: u8 = 0x40;
/// Bit of a state byte: the block is free and in no thread's hands.
pub(super) const AT_HOME: u8 = 0x80;

/// Bits of an address that stand in the state byte of the block that starts there.
#[inline(always)]
pub(super) const fn low_bits(address: usize) -> u8 {
    (address & 63) as u8
}

/// What is known of a slice. Guarded by the lock of its class's [`Shelf`](super::shelf::Shelf) while
/// it has a class; the state bytes of blocks that are not at home belong to whoever has the block.
pub(super) struct Slice {
    pub(super) start: NonNull<u8>,
    pub(super) states: NonNull<u8>,
    /// Arrays of state bytes, kept for the next time: one for each shift, and for long slices.
    arrays: [*mut u8; STATE_SHIFTS + 1],
    /// Blocks at home.
    pub(super) free: usize,
    /// No block before this place among the state bytes is at home.
    pub(super) first_free: usize,
    /// Blocks carved so far, from the lowest address on. What lies behind was never a block.
    pub(super) carved: usize,
    pub(super) class: usize,
    /// Neighbours in a list of the shelf.
    pub(super) next: *mut Slice,
    pub(super) previous: *mut Slice,
    pub(super) standing: Standing,
}

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
    /// Carves up to `count_max` blocks. Adds them to a rack that has room for them, so that the lowest
    /// address is taken first: memory is touched in that order, however many are carved at a time.
    ///
    /// # Safety
    /// The caller guards the slice, and it is not carved up.
    pub(super) unsafe fn carve(&mut self, rack: &mut Rack, count_max: usize) {
        let block_bytes = SIZES[self.class];
        let from = self.carved * block_bytes;
        let count = count_max.min(blocks_per_slice(self.class) - self.carved);
        debug_assert!(count > 0);
        for index in (0..count).rev() {
            let place = from + index * block_bytes;
            // SAFETY: the block lies in the slice, its state byte among the slice's, and there is room.
            unsafe {
                let block = self.start.add(place);
                let state = self.states.add(place >> state_shift(self.class));
                state.write(low_bits(block.addr().get()));
                rack.push(Entry { block, state });
            }
        }
        self.carved += count;
    }

    /// Moves up to `count_max` blocks from home to a rack that has room for them, those with the lowest
    /// addresses.
    ///
    /// # Safety
    /// The caller guards the slice.
    pub(super) unsafe fn take_blocks(&mut self, rack: &mut Rack, count_max: usize) {
        let shift = state_shift(self.class);
        let (from, count) = (rack.count, self.free.min(count_max));
        let mut word_place = self.first_free & !7;
        while rack.count < from + count {
            // Eight at a time, each word read once: what was written a byte at a time is slow to read
            // as a word. Written a byte at a time, as the other bytes may be other threads'.
            // SAFETY: there are `free` blocks at home from `first_free` on, so the search ends among
            // the state bytes, whose number is a multiple of 8.
            unsafe {
                let states = self.states.add(word_place);
                let word = AtomicU64::from_ptr(states.as_ptr().cast())
                    .load(Relaxed)
                    .to_le();
                let mut at_home = word & u64::from_ne_bytes([AT_HOME; 8]);
                while at_home != 0 && rack.count < from + count {
                    let bit = at_home.trailing_zeros();
                    at_home &= at_home - 1;
                    let in_word = bit as usize / 8;
                    let low = (word >> (bit & !7)) as u8 & !AT_HOME;
                    let state = states.add(in_word);
                    state.write(low);
                    let in_step = usize::from(low) & ((1 << shift) - 1);
                    let place = ((word_place + in_word) << shift) + in_step;
                    let block = self.start.add(place);
                    rack.push(Entry { block, state });
                }
                if at_home == 0 {
                    word_place += 8;
                }
            }
        }
        self.first_free = word_place;
        self.free -= count;
        rack.reverse_from(from);
    }

    /// Takes a block home.
    ///
    /// # Safety
    /// The caller guards the slice; the block is one of its own, free, and the caller's.
    pub(super) unsafe fn give_block(&mut self, entry: Entry) {
        let place = self.place_of(entry);
        // SAFETY: the block's state byte, which is the caller's.
        unsafe {
            let state = self.states.add(place);
            state.write(low_bits(entry.block.addr().get()) | AT_HOME);
        }
        self.first_free = self.first_free.min(place);
        self.free += 1;
    }

    /// Where the block's state byte stands.
    fn place_of(&self, entry: Entry) -> usize {
        let from_start = entry.block.addr().get() - self.start.addr().get();
        from_start >> state_shift(self.class)
    }

    /// In which list it belongs.
    pub(super) fn standing_due(&self) -> Standing {
        if self.free == 0 {
            Standing::Apart
        } else if self.free >= blocks_per_slice(self.class).div_ceil(8) {
            Standing::Ready
        } else {
            Standing::Sparse
        }
    }

    pub(super) fn is_carved_up(&self) -> bool {
        self.carved == blocks_per_slice(self.class)
    }

    /// Whether no block of it is in anybody's hands.
    pub(super) fn is_idle(&self) -> bool {
        self.free == self.carved
    }

    /// Gets state bytes for a class, all 0. False: no memory.
    fn prepare_states(&mut self, class: usize) -> bool {
        let kind = if places_per_slice(class) > 1 {
            STATE_SHIFTS
        } else {
            (state_shift(class) - STATE_SHIFT_MIN) as usize
        };
        let array = &mut self.arrays[kind];
        if array.is_null() {
            const LONG: usize = SLICE_BYTES * LONG_PLACES;
            let fresh = match kind {
                0 => metadata::allocate::<[u64; SLICE_BYTES >> 4 >> 3]>().map(NonNull::cast),
                1 => metadata::allocate::<[u64; SLICE_BYTES >> 5 >> 3]>().map(NonNull::cast),
                2 => metadata::allocate::<[u64; SLICE_BYTES >> 6 >> 3]>().map(NonNull::cast),
                _ => metadata::allocate::<[u64; LONG >> 6 >> 3]>().map(NonNull::cast),
            };
            let Some(fresh) = fresh else { return false };
            *array = fresh.as_ptr();
        } else {
            // SAFETY: the array has so many bytes, and the slice is the caller's.
            unsafe { array.write_bytes(0, states_per_slice(class)) };
        }
        // SAFETY: not null.
        self.states = unsafe { NonNull::new_unchecked(*array) };
        true
    }
}

/// What is known of a chunk. Guarded by the lock of [`CHUNKS`].
pub(super) struct Chunk {
    /// The slice that begins at each place.
    pub(super) slices: [Slice; SLICES_PER_CHUNK],
    /// The first place of the slice that each place belongs to, if it has a class.
    pub(super) firsts: [u8; SLICES_PER_CHUNK],
    pub(super) start: NonNull<u8>,
    /// Whether its guards, if it has any, leave room for long slices, and for these alone.
    is_long: bool,
    /// Places that are no guards, a bit each.
    pub(super) usable: u32,
    /// Those of them without a class.
    pub(super) free: u32,
    /// Those of them that hold memory.
    pub(super) dirty: u32,
    /// When the last place became free.
    freed_ms: u32,
    next: *mut Chunk,
    previous: *mut Chunk,
}

/// Chunks that are looked at for one where a slice fits.
const CHUNK_LOOKS: usize = 16;

const ALL: u32 = u32::MAX >> (32 - SLICES_PER_CHUNK);

/// Places from which on a slice of so many is free, a bit each.
const fn starts_of(free: u32, places: usize) -> u32 {
    let (mut starts, mut place) = (free, 1);
    while place < places {
        starts &= free >> place;
        place += 1;
    }
    if places == 1 {
        starts
    } else {
        // At multiples of its length.
        starts & 0x1111_1111
    }
}

/// Chunks that have a free place, the latest used first.
struct Chunks {
    first: *mut Chunk,
    /// Chunks in all.
    count: usize,
}

// SAFETY: chunks belong to no thread.
unsafe impl Send for Chunks {}

static CHUNKS: Lock<Chunks> = Lock::new(Chunks {
    first: ptr::null_mut(),
    count: 0,
});

/// The chunk around an address.
///
/// # Safety
/// The address lies in one.
unsafe fn chunk_of(address: usize) -> *mut Chunk {
    // SAFETY: a chunk is entered in its region.
    let region = unsafe { pages::region_at(address).unwrap_unchecked() };
    // SAFETY: regions stay; the pointer to a chunk that has a slice with a class does not change.
    unsafe { region.as_ref() }.chunks[address % REGION_BYTES / CHUNK_BYTES]
}

/// The slice that holds this block of ours.
///
/// # Safety
/// The address lies in a slice that has a class.
#[inline]
pub(super) unsafe fn slice_of(block: NonNull<u8>) -> NonNull<Slice> {
    let address = block.addr().get();
    let index = (address >> SLICE_SHIFT) % SLICES_PER_CHUNK;
    // SAFETY: slices with a class are part of a chunk.
    unsafe {
        let chunk = chunk_of(address);
        let first = usize::from((*chunk).firsts[index]);
        NonNull::new_unchecked(&raw mut (*chunk).slices[first])
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
        let slice = slice_of(pointer).as_ref();
        (slice.start.addr().get(), slice.class, slice.carved)
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

/// A slice for a class, with no block carved. None: no memory.
pub(super) fn take(class: usize) -> Option<NonNull<Slice>> {
    let places = places_per_slice(class);
    let mut chunks = CHUNKS.lock_spinning();
    let chunk = match chunks.find(places) {
        Some(chunk) => chunk.as_ptr(),
        None => {
            let chunk = new_chunk(places > 1)?.as_ptr();
            chunks.count += 1;
            // SAFETY: a chunk that is in no list.
            unsafe { chunks.link(chunk) };
            chunk
        }
    };
    // SAFETY: a chunk in the list where the slice fits; the lock is held.
    unsafe {
        let preferred = starts_of((*chunk).free & (*chunk).dirty, places);
        let candidates = if preferred == 0 {
            starts_of((*chunk).free, places)
        } else {
            preferred
        };
        let index = if options::is_secure() {
            secure::pick(candidates)
        } else {
            candidates.trailing_zeros()
        } as usize;
        let record = &mut *chunk;
        let start = record.start.add(index * SLICE_BYTES);
        record.firsts[index..index + places].fill(index as u8);
        let slice = &mut record.slices[index];
        if !slice.prepare_states(class)
            || !pages::set_class(start.addr().get(), class, slice.states)
        {
            return None;
        }
        record.free &= !run_of(index, places);
        record.dirty &= !run_of(index, places);
        if record.free == 0 {
            chunks.unlink(chunk);
        }
        let slice = &mut (*chunk).slices[index];
        slice.start = start;
        (slice.free, slice.first_free, slice.carved, slice.class) = (0, 0, 0, class);
        (slice.next, slice.previous) = (ptr::null_mut(), ptr::null_mut());
        slice.standing = Standing::Apart;
        Some(NonNull::from(slice))
    }
}

/// Takes a slice back of which no block is in use.
///
/// # Safety
/// The slice is the caller's, in no list, and idle.
pub(super) unsafe fn give_back(slice: NonNull<Slice>, now_ms: u32) {
    let mut chunks = CHUNKS.lock_spinning();
    // SAFETY: the slice is part of a chunk, and the lock is held.
    unsafe {
        let address = slice.as_ref().start.addr().get();
        debug_assert!(slice.as_ref().is_idle());
        let places = places_per_slice(slice.as_ref().class);
        for place in 0..places {
            pages::clear(address + place * SLICE_BYTES);
        }
        let chunk = chunk_of(address);
        let run = run_of((address >> SLICE_SHIFT) % SLICES_PER_CHUNK, places);
        if (*chunk).free == 0 {
            chunks.link(chunk);
        }
        (*chunk).free |= run;
        (*chunk).dirty |= run;
        (*chunk).freed_ms = now_ms;
        // One free chunk stays, so that a program at the edge does not take and give it in turns.
        let is_last = chunks.first == chunk && (*chunk).next.is_null();
        if (*chunk).free == (*chunk).usable && !is_last {
            chunks.unlink(chunk);
            if !remove_guards(&mut *chunk) {
                // It cannot be taken back whole; its slices serve on.
                chunks.link(chunk);
                return;
            }
            chunks.count -= 1;
            large::free_chunk((*chunk).start, (*chunk).dirty, now_ms);
        }
    }
}

/// Gives the memory of slices back to the system that have been free for `delay_ms`.
pub(super) fn purge(now_ms: u32, delay_ms: u32) {
    let chunks = CHUNKS.lock_spinning();
    let mut chunk = chunks.first;
    while !chunk.is_null() {
        // SAFETY: a chunk in the list; the lock is held.
        unsafe {
            if (*chunk).dirty != 0 && now_ms.wrapping_sub((*chunk).freed_ms) >= delay_ms {
                purge_chunk(&mut *chunk);
            }
            chunk = (*chunk).next;
        }
    }
}

/// Gives back what the free slices of a chunk hold, run by run.
fn purge_chunk(chunk: &mut Chunk) {
    let mut left = chunk.dirty;
    while left != 0 {
        let first = left.trailing_zeros();
        let length = (left >> first).trailing_ones();
        let run = (u32::MAX >> (32 - length)) << first;
        // SAFETY: the run lies in the chunk, and free slices hold nothing that is needed.
        let is_clean = unsafe {
            let start = chunk.start.add(first as usize * SLICE_BYTES);
            os::discard(start, length as usize * SLICE_BYTES)
        };
        if is_clean {
            chunk.dirty &= !run;
        }
        left &= !run;
    }
}

/// Bits of the places of a slice.
const fn run_of(first: usize, places: usize) -> u32 {
    u32::MAX >> (32 - places) << first
}

/// A chunk whose places are all free, for slices that are long or not.
fn new_chunk(is_long: bool) -> Option<NonNull<Chunk>> {
    let (start, dirty) = large::allocate_chunk()?;
    let address = start.addr().get();
    let Some(region) = pages::region_at(address) else {
        large::free_chunk(start, dirty, os::now_ms());
        return None;
    };
    // SAFETY: regions are never taken away, and the pointers to chunks are guarded by the lock held.
    let known = unsafe { &mut (*region.as_ptr()).chunks[address % REGION_BYTES / CHUNK_BYTES] };
    if known.is_null() {
        let Some(chunk) = metadata::allocate::<Chunk>() else {
            large::free_chunk(start, dirty, os::now_ms());
            return None;
        };
        *known = chunk.as_ptr();
    }
    let chunk = *known;
    // SAFETY: a chunk's record, which nobody else uses now. `slices` stays as it is: each is made ready
    // when it is taken, and keeps its arrays.
    unsafe {
        (*chunk).start = start;
        (*chunk).is_long = is_long;
        (*chunk).usable = ALL & !place_guards(start, is_long);
        (*chunk).free = (*chunk).usable;
        (*chunk).dirty = dirty & (*chunk).usable;
        (*chunk).freed_ms = 0;
        (*chunk).next = ptr::null_mut();
        (*chunk).previous = ptr::null_mut();
    }
    NonNull::new(chunk)
}

/// Makes every second slice of a fresh chunk a guard, if that is asked for: a bit for each place.
fn place_guards(start: NonNull<u8>, is_long: bool) -> u32 {
    let places = if is_long { LONG_PLACES } else { 1 };
    let mut guards = 0;
    if options::is_secure() {
        for index in (0..SLICES_PER_CHUNK).filter(|index| index / places % 2 == 1) {
            // SAFETY: a place of a chunk that is the caller's.
            if unsafe { secure::guard(start.add(index * SLICE_BYTES), SLICE_BYTES) } {
                guards |= 1 << index;
            }
        }
    }
    guards
}

/// Makes the guards of a chunk usable. False: not all of them.
fn remove_guards(chunk: &mut Chunk) -> bool {
    let mut guards = ALL & !chunk.usable;
    while guards != 0 {
        let index = guards.trailing_zeros();
        guards &= guards - 1;
        // SAFETY: `place_guards` made it a guard.
        if unsafe { secure::unguard(chunk.start.add(index as usize * SLICE_BYTES), SLICE_BYTES) } {
            chunk.usable |= 1 << index;
            chunk.free |= 1 << index;
        }
    }
    chunk.usable == ALL
}

impl Chunks {
    /// A chunk of the list where a slice of so many places fits. None: none of those looked at.
    fn find(&self, places: usize) -> Option<NonNull<Chunk>> {
        let mut candidate = self.first;
        for _ in 0..CHUNK_LOOKS {
            let chunk = NonNull::new(candidate)?;
            // SAFETY: a chunk in the list; the lock is held, as `self` is borrowed.
            let record = unsafe { chunk.as_ref() };
            let suits = !options::is_secure() || record.is_long == (places > 1);
            if suits && starts_of(record.free, places) != 0 {
                return Some(chunk);
            }
            candidate = record.next;
        }
        None
    }

    /// # Safety
    /// The chunk is in no list.
    unsafe fn link(&mut self, chunk: *mut Chunk) {
        // SAFETY: chunks are never unmapped; the lock is held, as `self` is.
        unsafe {
            (*chunk).previous = ptr::null_mut();
            (*chunk).next = self.first;
            if !self.first.is_null() {
                (*self.first).previous = chunk;
            }
        }
        self.first = chunk;
    }

    /// # Safety
    /// The chunk is in the list.
    unsafe fn unlink(&mut self, chunk: *mut Chunk) {
        // SAFETY: chunks are never unmapped; the lock is held, as `self` is.
        unsafe {
            let (next, previous) = ((*chunk).next, (*chunk).previous);
            if previous.is_null() {
                self.first = next;
            } else {
                (*previous).next = next;
            }
            if !next.is_null() {
                (*next).previous = previous;
            }
        }
    }
}

/// Chunks, and the slices in them that have no class but hold memory.
pub(super) fn count() -> (usize, usize) {
    let chunks = CHUNKS.lock();
    let mut dirty = 0;
    let mut chunk = chunks.first;
    while !chunk.is_null() {
        // SAFETY: a chunk in the list; the lock is held.
        unsafe {
            dirty += (*chunk).dirty.count_ones() as usize;
            chunk = (*chunk).next;
        }
    }
    (chunks.count, dirty)
}

/// Chunks, for the checker.
///
/// # Safety
/// After [`acquire`], while the lock is held.
pub(super) unsafe fn count_held() -> usize {
    // SAFETY: the caller says so.
    unsafe { CHUNKS.held() }.count
}

/// Around `fork`.
pub(super) fn acquire() {
    CHUNKS.acquire();
}

/// # Safety
/// After [`acquire`], as for `Lock::release`.
pub(super) unsafe fn release() {
    // SAFETY: the caller says so.
    unsafe { CHUNKS.release() }
}
