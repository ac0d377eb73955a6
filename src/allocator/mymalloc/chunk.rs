//! Chunks: 256 KiB each, of which slices are cut. A chunk is 32 places of 8 KiB; a slice takes one place or
//! several that follow each other, at a multiple of their number.
//!
//! Slices are put where they leave the longest runs of free places: into the chunk, and there into the run,
//! in which they fit most tightly; but first of all into places that hold memory already. A slice is rather
//! shorter than that it takes fresh memory, or a new chunk. A chunk without a slice goes back to the large store,
//! where its memory serves whoever comes.

use core::ptr::{self, NonNull};

use super::super::lock::Lock;
use super::super::os;
use super::pages::{self, CHUNK_BYTES, PLACES_PER_CHUNK, REGION_BYTES};
use super::size_class::{
    LONG_PLACES, PLACE_BYTES, PLACE_SHIFT, SHORT_PLACES_MAX, places_max, places_of_next, states_in,
};
use super::slice::Slice;
use super::state_byte;
use super::{large, metadata, options, secure};

/// What is known of a chunk. Guarded by the lock of [`CHUNKS`]. In this order, so that one with few slices mostly touches
/// one OS page.
#[repr(C)]
pub(super) struct Chunk {
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
    /// The list that it is in: [`NO_LIST`] if no place is free.
    list: usize,
    next: *mut Chunk,
    previous: *mut Chunk,
    /// The first place of the slice that each place belongs to, if it has a class.
    pub(super) firsts: [u8; PLACES_PER_CHUNK],
    /// The slice that begins at each place.
    pub(super) slices: [Slice; PLACES_PER_CHUNK],
}

/// Chunks of a list that are looked at for one where a slice fits.
const CHUNK_LOOKS: usize = 16;

const ALL: u32 = u32::MAX >> (32 - PLACES_PER_CHUNK);

/// Lists of chunks, by the longest run of free places: 1, 2, 4, and so on.
const LISTS: usize = PLACES_PER_CHUNK.ilog2() as usize + 1;
const NO_LIST: usize = LISTS;

/// Lengths of arrays of state bytes: from 128 on, each twice as long.
const STATES_MIN_SHIFT: u32 = 7;
const STATES_KINDS: usize = 5;

/// Places that are multiples of so many, a bit each.
const fn multiples_of(places: usize) -> u32 {
    let (mut bits, mut place) = (0, 0);
    while place < PLACES_PER_CHUNK {
        bits |= 1 << place;
        place += places;
    }
    bits
}

/// Places from which on so many are free, a power of two, at multiples of their number, a bit each.
const fn starts_of(free: u32, places: usize) -> u32 {
    let (mut starts, mut shift) = (free, 1);
    while shift < places {
        starts &= starts >> shift;
        shift *= 2;
    }
    starts & multiples_of(places)
}

/// Where a slice of so many places fits among those of the mask, most tightly with regard to all that are
/// free, a bit for each of several starts. 0: nowhere.
const fn tightest_of(mask: u32, free: u32, places: usize) -> u32 {
    let mut run = places;
    while run < PLACES_PER_CHUNK {
        let longer = starts_of(free, 2 * run);
        let tight = starts_of(mask, run) & !(longer | longer << run);
        if tight != 0 {
            return tight;
        }
        run *= 2;
    }
    starts_of(mask, places)
}

/// Places of the longest slice that fits among those of the mask: `most` or, halved as often as it takes, not less than
/// `least`. 0: none does.
const fn longest_of(mask: u32, least: usize, most: usize) -> usize {
    let mut places = most;
    while places >= least {
        if starts_of(mask, places) != 0 {
            return places;
        }
        places /= 2;
    }
    0
}

/// The list of a chunk with these free places.
const fn list_of(free: u32) -> usize {
    let mut list = LISTS;
    while list > 0 {
        list -= 1;
        if starts_of(free, 1 << list) != 0 {
            return list;
        }
    }
    NO_LIST
}

struct Chunks {
    /// Chunks that have a free place, the latest used first.
    first: [*mut Chunk; LISTS],
    /// How many those are, and chunks in all.
    listed: usize,
    count: usize,
    /// Arrays of state bytes that are not in use, by length. Each begins with the address of the next.
    states: [*mut u8; STATES_KINDS],
}

// SAFETY: chunks belong to no thread.
unsafe impl Send for Chunks {}

static CHUNKS: Lock<Chunks> = Lock::new(Chunks {
    first: [ptr::null_mut(); LISTS],
    listed: 0,
    count: 0,
    states: [ptr::null_mut(); STATES_KINDS],
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
    let index = (address >> PLACE_SHIFT) % PLACES_PER_CHUNK;
    // SAFETY: slices with a class are part of a chunk.
    unsafe {
        let chunk = chunk_of(address);
        let first = usize::from((*chunk).firsts[index]);
        NonNull::new_unchecked(&raw mut (*chunk).slices[first])
    }
}

/// A slice for a class that had so many places, as long as [`places_of_next`] says or shorter, with no block carved.
/// None: no memory.
pub(super) fn take(class: usize, had: usize) -> Option<NonNull<Slice>> {
    let (least, most) = if options::is_secure() {
        (places_max(class), places_max(class))
    } else {
        (places_of_next(class, 0), places_of_next(class, had))
    };
    let mut chunks = CHUNKS.lock_spinning();
    let (chunk, places) = match chunks.find(least, most) {
        Some((chunk, places)) => (chunk.as_ptr(), places),
        None => {
            let chunk = new_chunk(most == LONG_PLACES)?.as_ptr();
            chunks.count += 1;
            // SAFETY: a chunk that is in no list.
            unsafe { chunks.link(chunk) };
            (chunk, most)
        }
    };
    let states = chunks.take_states(class, places)?;
    // SAFETY: a chunk in the list where the slice fits; the lock is held.
    unsafe {
        let (free, dirty) = ((*chunk).free, (*chunk).dirty);
        let index = if options::is_secure() {
            secure::pick(starts_of(free, places))
        } else {
            let among_dirty = tightest_of(free & dirty, free, places);
            let candidates = if among_dirty == 0 {
                tightest_of(free, free, places)
            } else {
                among_dirty
            };
            candidates.trailing_zeros()
        } as usize;
        let start = (*chunk).start.add(index * PLACE_BYTES);
        if !pages::set_class(start.addr().get(), class, places, states) {
            chunks.give_states(states, states_in(class, places));
            return None;
        }
        let record = &mut *chunk;
        record.firsts[index..index + places].fill(index as u8);
        record.slices[index].begin(class, places, start, states);
        record.free &= !run_of(index, places);
        record.dirty &= !run_of(index, places);
        chunks.relink(chunk);
        Some(NonNull::from(&mut (*chunk).slices[index]))
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
        let record = slice.as_ref();
        debug_assert!(record.is_idle());
        let (address, places) = (record.start.addr().get(), record.places());
        for place in 0..places {
            pages::clear(address + place * PLACE_BYTES);
        }
        chunks.give_states(record.states, record.states_count());
        let chunk = chunk_of(address);
        let run = run_of((address >> PLACE_SHIFT) % PLACES_PER_CHUNK, places);
        (*chunk).free |= run;
        (*chunk).dirty |= run;
        (*chunk).freed_ms = now_ms;
        chunks.unlink(chunk);
        // One free chunk stays, so that a program at the edge does not take and give it in turns. So does
        // one whose guards do not all go: its slices serve on.
        if (*chunk).free == (*chunk).usable && chunks.listed > 0 && remove_guards(&mut *chunk) {
            chunks.count -= 1;
            large::free_chunk((*chunk).start, (*chunk).dirty, now_ms);
        } else {
            chunks.link(chunk);
        }
    }
}

/// Gives the memory of places back to the system that have been free for `delay_ms`.
pub(super) fn purge(now_ms: u32, delay_ms: u32) {
    let chunks = CHUNKS.lock_spinning();
    for first in chunks.first {
        let mut chunk = first;
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
}

/// Gives back what the free places of a chunk hold, run by run.
fn purge_chunk(chunk: &mut Chunk) {
    let mut left = chunk.dirty;
    while left != 0 {
        let first = left.trailing_zeros();
        let length = (left >> first).trailing_ones();
        let run = (u32::MAX >> (32 - length)) << first;
        // SAFETY: the run lies in the chunk, and free places hold nothing that is needed.
        let is_clean = unsafe {
            let start = chunk.start.add(first as usize * PLACE_BYTES);
            os::discard(start, length as usize * PLACE_BYTES)
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
        ((*chunk).is_long, (*chunk).list) = (is_long, NO_LIST);
        (*chunk).usable = ALL & !place_guards(start, is_long);
        (*chunk).free = (*chunk).usable;
        (*chunk).dirty = dirty & (*chunk).usable;
        (*chunk).freed_ms = 0;
        (*chunk).next = ptr::null_mut();
        (*chunk).previous = ptr::null_mut();
    }
    NonNull::new(chunk)
}

/// Makes every second slice's room in a fresh chunk a guard, if that is asked for: a bit for each place.
fn place_guards(start: NonNull<u8>, is_long: bool) -> u32 {
    let places = if is_long {
        LONG_PLACES
    } else {
        SHORT_PLACES_MAX
    };
    let mut guards = 0;
    if options::is_secure() {
        for index in (places..PLACES_PER_CHUNK).step_by(2 * places) {
            // SAFETY: places of a chunk that is the caller's.
            if unsafe { secure::guard(start.add(index * PLACE_BYTES), places * PLACE_BYTES) } {
                guards |= run_of(index, places);
            }
        }
    }
    guards
}

/// Makes the guards of a chunk usable. False: not all of them.
fn remove_guards(chunk: &mut Chunk) -> bool {
    let mut guards = ALL & !chunk.usable;
    while guards != 0 {
        let first = guards.trailing_zeros() as usize;
        let length = (guards >> first).trailing_ones() as usize;
        let run = run_of(first, length);
        // SAFETY: `place_guards` made it one guard: none lies beside another.
        if unsafe { secure::unguard(chunk.start.add(first * PLACE_BYTES), length * PLACE_BYTES) } {
            chunk.usable |= run;
            chunk.free |= run;
        }
        guards &= !run;
    }
    chunk.usable == ALL
}

impl Chunks {
    /// A chunk where a slice fits, and of how many places: `most` or, halved as often as it takes, not less than
    /// `least`. Places that hold memory come before a longer slice, and both before a new chunk. None: there is none
    /// among those looked at.
    fn find(&self, least: usize, most: usize) -> Option<(NonNull<Chunk>, usize)> {
        let (mut dirty, mut any): (Option<(_, usize)>, Option<(_, usize)>) = (None, None);
        for list in least.ilog2() as usize..LISTS {
            let mut candidate = self.first[list];
            for _ in 0..CHUNK_LOOKS {
                let Some(chunk) = NonNull::new(candidate) else {
                    break;
                };
                // SAFETY: a chunk in the list; the lock is held, as `self` is borrowed.
                let record = unsafe { chunk.as_ref() };
                candidate = record.next;
                if options::is_secure() && record.is_long != (most == LONG_PLACES) {
                    continue;
                }
                for (found, among) in [
                    (&mut dirty, record.free & record.dirty),
                    (&mut any, record.free),
                ] {
                    let longest = longest_of(among, least, most);
                    if longest > found.map_or(0, |(_, places)| places) {
                        *found = Some((chunk, longest));
                    }
                }
                if dirty.is_some_and(|(_, places)| places == most) {
                    return dirty;
                }
            }
        }
        dirty.or(any)
    }

    /// The state bytes of a slice in which no block starts yet. None: no memory.
    fn take_states(&mut self, class: usize, places: usize) -> Option<NonNull<u8>> {
        let count = states_in(class, places);
        let kind = (count.ilog2() - STATES_MIN_SHIFT) as usize;
        let states = match NonNull::new(self.states[kind]) {
            // SAFETY: an array of so many bytes that is not in use, which begins with the address of the next;
            // the lock is held, as `self` is.
            Some(states) => unsafe {
                self.states[kind] = states.cast::<*mut u8>().read();
                states
            },
            None => match kind {
                0 => metadata::allocate::<[u64; 128 / 8]>().map(NonNull::cast),
                1 => metadata::allocate::<[u64; 256 / 8]>().map(NonNull::cast),
                2 => metadata::allocate::<[u64; 512 / 8]>().map(NonNull::cast),
                3 => metadata::allocate::<[u64; 1024 / 8]>().map(NonNull::cast),
                _ => metadata::allocate::<[u64; 2048 / 8]>().map(NonNull::cast),
            }?,
        };
        let none = [0, 8].map(|index| state_byte::of_none_in_word(class, index));
        for index in 0..count / 16 {
            // SAFETY: an array of so many bytes that nobody else has, aligned to a cache line; all states repeat after
            // 16 steps of 16 bytes.
            unsafe { states.cast::<[u64; 2]>().add(index).write(none) };
        }
        Some(states)
    }

    /// Takes an array back.
    ///
    /// # Safety
    /// It was taken with the same count, and is used no more.
    unsafe fn give_states(&mut self, states: NonNull<u8>, count: usize) {
        let kind = (count.ilog2() - STATES_MIN_SHIFT) as usize;
        // SAFETY: the caller hands it over; it is aligned to a cache line.
        unsafe { states.cast::<*mut u8>().write(self.states[kind]) };
        self.states[kind] = states.as_ptr();
    }

    /// Puts a chunk into the list that it belongs to, after its free places changed.
    ///
    /// # Safety
    /// A chunk of this store's.
    unsafe fn relink(&mut self, chunk: *mut Chunk) {
        // SAFETY: chunks are never unmapped; the lock is held, as `self` is.
        unsafe {
            if list_of((*chunk).free) != (*chunk).list {
                self.unlink(chunk);
                self.link(chunk);
            }
        }
    }

    /// # Safety
    /// The chunk is in no list.
    unsafe fn link(&mut self, chunk: *mut Chunk) {
        // SAFETY: chunks are never unmapped; the lock is held, as `self` is.
        unsafe {
            let list = list_of((*chunk).free);
            (*chunk).list = list;
            if list == NO_LIST {
                return;
            }
            (*chunk).previous = ptr::null_mut();
            (*chunk).next = self.first[list];
            if !self.first[list].is_null() {
                (*self.first[list]).previous = chunk;
            }
            self.first[list] = chunk;
        }
        self.listed += 1;
    }

    /// Takes a chunk out of the list that it is in, if any.
    ///
    /// # Safety
    /// A chunk of this store's.
    unsafe fn unlink(&mut self, chunk: *mut Chunk) {
        // SAFETY: chunks are never unmapped; the lock is held, as `self` is.
        unsafe {
            if (*chunk).list == NO_LIST {
                return;
            }
            let (next, previous) = ((*chunk).next, (*chunk).previous);
            if previous.is_null() {
                self.first[(*chunk).list] = next;
            } else {
                (*previous).next = next;
            }
            if !next.is_null() {
                (*next).previous = previous;
            }
            (*chunk).list = NO_LIST;
        }
        self.listed -= 1;
    }
}

/// Chunks, and the bytes in them that have no class but hold memory.
pub(super) fn count() -> (usize, usize) {
    let chunks = CHUNKS.lock();
    let mut dirty = 0;
    for first in chunks.first {
        let mut chunk = first;
        while !chunk.is_null() {
            // SAFETY: a chunk in the list; the lock is held.
            unsafe {
                dirty += (*chunk).dirty.count_ones() as usize;
                chunk = (*chunk).next;
            }
        }
    }
    (chunks.count, dirty * PLACE_BYTES)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_start_at_multiples_of_their_length() {
        assert_eq!(starts_of(u32::MAX, 1), u32::MAX);
        assert_eq!(starts_of(u32::MAX, 4), 0x1111_1111);
        assert_eq!(starts_of(u32::MAX, 32), 1);
        // Places 1 to 7: a run of four from 4 on, of two from 2 and 4 and 6 on.
        assert_eq!(starts_of(0xfe, 4), 1 << 4);
        assert_eq!(starts_of(0xfe, 2), 1 << 2 | 1 << 4 | 1 << 6);
        assert_eq!(starts_of(0x7fff_fffe, 16), 0);
    }

    #[test]
    fn slices_are_put_where_they_fit_most_tightly() {
        // Place 1, 2 and 3, and 8 to 15.
        let free = 0xff0e;
        assert_eq!(tightest_of(free, free, 1), 1 << 1);
        assert_eq!(tightest_of(free, free, 2), 1 << 2);
        assert_eq!(tightest_of(free, free, 4) & 1 << 8, 1 << 8);
        // Only in these, though there is a tighter one elsewhere.
        assert_eq!(tightest_of(0xf00, free, 2) & !0xf00, 0);
        assert_ne!(tightest_of(0xf00, free, 2), 0);
        assert_eq!(tightest_of(free, free, 16), 0);
        assert_eq!(tightest_of(u32::MAX, u32::MAX, 32), 1);
    }

    #[test]
    fn a_slice_is_as_long_as_fits() {
        assert_eq!(longest_of(0b0110, 1, 4), 1);
        assert_eq!(longest_of(0b1100, 1, 4), 2);
        assert_eq!(longest_of(0b1100, 2, 2), 2);
        assert_eq!(longest_of(0b0110, 2, 4), 0);
        assert_eq!(longest_of(u32::MAX, 1, 4), 4);
        assert_eq!(longest_of(0xff00, 8, 16), 8);
        assert_eq!(longest_of(0, 1, 4), 0);
    }

    #[test]
    fn chunks_are_listed_by_their_longest_run() {
        assert_eq!(list_of(0), NO_LIST);
        assert_eq!(list_of(1 << 31), 0);
        assert_eq!(list_of(0b0110), 0);
        assert_eq!(list_of(0b1100), 1);
        assert_eq!(list_of(u32::MAX << 16), 4);
        assert_eq!(list_of(u32::MAX), 5);
    }

    #[test]
    fn there_are_states_for_every_slice() {
        for class in 1..super::super::size_class::CLASSES {
            for had in 0..64 {
                let count = states_in(class, places_of_next(class, had));
                assert!(count.is_power_of_two());
                let kind = count.ilog2() - STATES_MIN_SHIFT;
                assert!((kind as usize) < STATES_KINDS, "{class}");
            }
            assert!(states_in(class, places_max(class)).ilog2() < STATES_MIN_SHIFT + 5);
        }
    }
}
