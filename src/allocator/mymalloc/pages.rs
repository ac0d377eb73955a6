//! What is at an address.
//!
//! * The radix tree: a record per MiB of address space that holds memory of ours, found from any address
//!   by two loads. It has a word for each place of 8 KiB, of a slice or where a block of the large store starts: the
//!   class, and where the state bytes of its blocks are. 0: none of ours.
//! * The window: the same words once more in one flat array, for the short path of `free`, by one load.
//!   It covers the 256 GiB of addresses from which the system gives memory, is reserved and not committed
//!   (256 MiB of addresses; 4 KiB of memory per 4 MiB of heap), and is smaller where addresses are
//!   scarce. What lies outside of it (the program may have mapped more than that itself) is freed by the
//!   long path, as is everything if no window can be had.

use core::ptr::{self, NonNull};
use core::sync::atomic::{
    AtomicPtr, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use super::super::os;
use super::chunk::Chunk;
use super::extent::Extent;
use super::heap::Doubled;
use super::size_class::{LARGE, PLACE_BYTES, PLACE_SHIFT, state_shift};
use super::{cpu, metadata};

/// Bytes of a region.
pub(super) const REGION_BYTES: usize = 1 << REGION_SHIFT;
pub(super) const REGION_SHIFT: u32 = 20;
const PLACES_PER_REGION: usize = REGION_BYTES / PLACE_BYTES;
/// Bytes of a chunk: a part of a region that is cut into slices as a whole.
pub(super) const CHUNK_BYTES: usize = 256 << 10;
pub(super) const PLACES_PER_CHUNK: usize = CHUNK_BYTES / PLACE_BYTES;
/// OS pages of a chunk.
pub(super) const PAGES_PER_CHUNK: usize = CHUNK_BYTES / os::OS_PAGE_BYTES;
/// OS pages of a region.
pub(super) const PAGES_PER_REGION: usize = REGION_BYTES / os::OS_PAGE_BYTES;

/// What is known of a MiB of address space.
pub(super) struct Region {
    /// What is known of its parts that are, or once were, cut into slices.
    pub(super) chunks: [*mut Chunk; REGION_BYTES / CHUNK_BYTES],
    /// What the slices are.
    entries: [AtomicU64; PLACES_PER_REGION],
    /// Large blocks and free extents, at their first and at their last OS page. Null elsewhere.
    /// Written under the lock of the large store.
    pub(super) extents: [AtomicPtr<Extent>; PAGES_PER_REGION],
}

/// Bits of an address that user space may use.
pub(super) const ADDRESS_BITS: u32 = 47;
const LEAF_SHIFT: u32 = 14;
/// The regions of 16 GiB.
type Leaf = [AtomicPtr<Region>; 1 << LEAF_SHIFT];
/// The top of the radix tree. Its pages are touched where they are needed.
static LEAVES: [AtomicPtr<Leaf>; 1 << (ADDRESS_BITS - REGION_SHIFT - LEAF_SHIFT)] =
    [const { AtomicPtr::new(ptr::null_mut()) }; 1 << (ADDRESS_BITS - REGION_SHIFT - LEAF_SHIFT)];

/// Slices of the largest window, 256 GiB, and of those that are tried if it cannot be had: 16 GiB, 2 GiB.
const WINDOWS_SLICES: [usize; 3] = [
    1 << (38 - PLACE_SHIFT),
    1 << (34 - PLACE_SHIFT),
    1 << (31 - PLACE_SHIFT),
];

/// The window. Set once, before any memory is got.
static WINDOW_MAP: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());
static WINDOW_FIRST: AtomicUsize = AtomicUsize::new(0);
static WINDOW_SLICES: AtomicUsize = AtomicUsize::new(0);

/// A granule of the window's map, which becomes writable as a whole.
const GRANULE_BYTES: usize = 64 << 10;
/// Which granules are writable, a bit each.
static GRANULES: [AtomicU64; WINDOWS_SLICES[0] * 8 / GRANULE_BYTES / 64] =
    [const { AtomicU64::new(0) }; WINDOWS_SLICES[0] * 8 / GRANULE_BYTES / 64];

/// What is known of a place: of the slice that it is part of, or of the large block that starts in it. From the lowest
/// bit on: [`state_shift`] of the class, 8 bits; the class, [`Doubled`], 8 bits; and, 48 bits long, the address of a
/// state byte less the number of its step. 0: nothing.
#[derive(Clone, Copy)]
pub(super) struct Entry(u64);

/// What is known of a place where a block starts that only the large store knows.
const LARGE_WORD: u64 = (Doubled::of(LARGE).to_byte() as u64) << 8;

/// The number of an address's step, by a word's shift. That of an address 4 GiB on is the same: no slice lies across
/// such a limit, so that of the address's lower half will do.
#[inline(always)]
fn step_of(address: usize, word: u64) -> usize {
    cpu::shift_lower_half(address, word)
}

impl Entry {
    /// Nothing.
    pub(super) const NONE: Self = Self(0);

    /// `start`: of the slice, or of the place where a medium block starts. `states`: the address of the first of its
    /// state bytes.
    fn new(class: usize, start: usize, states: usize) -> Self {
        let low = u64::from(Doubled::of(class).to_byte()) << 8 | u64::from(state_shift(class));
        let base = states.wrapping_sub(step_of(start, low)) as u64;
        Self(base << 16 | low)
    }

    /// The class, doubled.
    #[inline(always)]
    pub(super) fn doubled(self) -> Doubled {
        Doubled::from_byte((self.0 >> 8) as u8)
    }

    /// Whether there are state bytes here. False where nothing starts that has any; and of an array whose address is
    /// the number of its step, which only those below 256 MiB can have: the long path serves such blocks.
    #[inline(always)]
    pub(super) fn has_states(self) -> bool {
        self.base() != 0
    }

    /// The number of an address's step.
    #[inline(always)]
    pub(super) fn step_of(self, address: usize) -> usize {
        step_of(address, self.0)
    }

    /// Where the state byte of a step of the slice is.
    #[inline(always)]
    pub(super) fn state_at(self, step: usize) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.base().wrapping_add(step))
    }

    /// Where the state byte for an address of the slice is.
    #[inline(always)]
    pub(super) fn state_of(self, address: usize) -> *mut u8 {
        self.state_at(self.step_of(address))
    }

    /// The address of a state byte, less the number of its step.
    #[inline(always)]
    fn base(self) -> usize {
        (self.0 as i64 >> 16) as usize
    }

    /// Whether it says anything.
    pub(super) fn is_known(self) -> bool {
        self.0 != 0
    }

    pub(super) fn class(self) -> usize {
        self.doubled().class()
    }
}

/// The window, for the short path of `free`. Heaps have a copy each.
#[derive(Clone, Copy)]
pub(super) struct Direct {
    /// Number of the first slice that has a word, and how many have one.
    first: usize,
    slices: usize,
    map: *const AtomicU64,
}

impl Direct {
    /// No slice.
    pub(super) const NONE: Self = Self {
        first: 0,
        slices: 0,
        map: ptr::null(),
    };

    /// The word of the slice that this address is in, if it is in the window.
    #[inline(always)]
    pub(super) fn entry(&self, address: usize) -> Option<Entry> {
        let word = self.word(address)?;
        // SAFETY: a word of the map.
        Some(Entry(unsafe { &*word }.load(Relaxed)))
    }

    /// The class alone, for who needs no more: doubled.
    #[inline(always)]
    pub(super) fn doubled(&self, address: usize) -> Option<Doubled> {
        let byte = if cfg!(target_endian = "little") { 1 } else { 6 };
        let word = self.word(address)?.cast_mut().cast::<u8>();
        // An atomic load would be widened by an instruction of its own.
        // SAFETY: a byte of a word of the map.
        Some(Doubled::from_byte(unsafe {
            word.add(byte).read_volatile()
        }))
    }

    #[inline(always)]
    fn word(&self, address: usize) -> Option<*const AtomicU64> {
        let slice = (address >> PLACE_SHIFT).wrapping_sub(self.first);
        if slice >= self.slices {
            return None;
        }
        // SAFETY: the map has a word for each of those slices, and is readable throughout.
        Some(unsafe { self.map.add(slice) })
    }
}

/// The window, once there is one.
pub(super) fn direct() -> Direct {
    Direct {
        first: WINDOW_FIRST.load(Relaxed),
        slices: WINDOW_SLICES.load(Relaxed),
        map: WINDOW_MAP.load(Relaxed),
    }
}

/// Reserves the window, or goes without. Called once, before any memory is got.
pub(super) fn reserve_window() {
    for slices in WINDOWS_SLICES {
        let Some(map) = os::reserve(slices * size_of::<AtomicU64>(), true) else {
            continue;
        };
        // Mappings lie side by side, and most systems place each below the one before.
        let here = map.expose_provenance().get() >> PLACE_SHIFT;
        WINDOW_FIRST.store(here.saturating_sub(slices / 4 * 3), Relaxed);
        WINDOW_MAP.store(map.as_ptr().cast(), Relaxed);
        WINDOW_SLICES.store(slices, Relaxed);
        return;
    }
}

/// Where the tree has the region that this address is in. None: no user space has such an address.
fn leaf_slot(address: usize) -> Option<&'static AtomicPtr<Leaf>> {
    LEAVES.get(address >> (REGION_SHIFT + LEAF_SHIFT))
}

const fn index_in_leaf(address: usize) -> usize {
    (address >> REGION_SHIFT) % (1 << LEAF_SHIFT)
}

/// What is known of the MiB that this address is in.
#[inline]
pub(super) fn region_at(address: usize) -> Option<NonNull<Region>> {
    // Acquire pairs with the Releases in `enter_region`, here and below.
    let leaf = NonNull::new(leaf_slot(address)?.load(Acquire))?;
    // SAFETY: leaves and regions are never taken away again.
    NonNull::new(unsafe { leaf.as_ref() }[index_in_leaf(address)].load(Acquire))
}

/// Makes a region known, if it is not. False: no memory.
///
/// Called under the lock of the large store.
pub(super) fn enter_region(address: usize) -> bool {
    let Some(slot) = leaf_slot(address) else {
        return false;
    };
    let leaf = match NonNull::new(slot.load(Relaxed)) {
        Some(leaf) => leaf,
        None => {
            // Zeroes are a leaf without regions.
            let Some(leaf) = metadata::allocate::<Leaf>() else {
                return false;
            };
            // Release pairs with the Acquire in `region_at`.
            slot.store(leaf.as_ptr(), Release);
            leaf
        }
    };
    // SAFETY: leaves are never taken away again.
    let entry = &unsafe { leaf.as_ref() }[index_in_leaf(address)];
    if entry.load(Relaxed).is_null() {
        // Zeroes are a region of which nothing is known.
        let Some(region) = metadata::allocate::<Region>() else {
            return false;
        };
        // Release pairs with the Acquire in `region_at`.
        entry.store(region.as_ptr(), Release);
    }
    true
}

/// Visits every region, the lowest address first, until there is an error.
///
/// # Errors
/// The visitor's first.
pub(super) fn for_each_region<E>(
    mut visit: impl FnMut(usize, &Region) -> Result<(), E>,
) -> Result<(), E> {
    for (high, slot) in LEAVES.iter().enumerate() {
        let Some(leaf) = NonNull::new(slot.load(Acquire)) else {
            continue;
        };
        // SAFETY: leaves and regions are never taken away again.
        for (low, entry) in unsafe { leaf.as_ref() }.iter().enumerate() {
            if let Some(region) = NonNull::new(entry.load(Acquire)) {
                let number = (high << LEAF_SHIFT) + low;
                // SAFETY: as above.
                visit(number << REGION_SHIFT, unsafe { region.as_ref() })?;
            }
        }
    }
    Ok(())
}

/// Whether the window says the same of a slice as the tree, or nothing at all: for the checker.
pub(super) fn window_agrees(address: usize) -> bool {
    let known = direct().entry(address).map_or(0, |entry| entry.0);
    known == 0 || Some(known) == entry_at(address).map(|entry| entry.0)
}

/// What is known of the slice that this address is in, if it is ours.
pub(super) fn entry_at(address: usize) -> Option<Entry> {
    let word = word_of(address)?.load(Relaxed);
    (word != 0).then_some(Entry(word))
}

fn word_of(address: usize) -> Option<&'static AtomicU64> {
    let region = region_at(address)?;
    // SAFETY: regions are never taken away again, and the words are atomic.
    let entries = unsafe { &(*region.as_ptr()).entries };
    Some(&entries[(address >> PLACE_SHIFT) % PLACES_PER_REGION])
}

/// Says of a slice that starts here, or of the place where a medium block does, that it has a class, and where its
/// state bytes are. False: its region is not known.
pub(super) fn set_class(start: usize, class: usize, places: usize, states: NonNull<u8>) -> bool {
    let word = Entry::new(class, start, states.expose_provenance().get()).0;
    // All places of a slice are in one chunk, so either all are known or none.
    (0..places).all(|place| set(start + place * PLACE_BYTES, word))
}

/// Says of the slice that this address is in that a large block starts there. False: its region is not
/// known.
pub(super) fn set_large(address: usize) -> bool {
    set(address, LARGE_WORD)
}

/// Says of the slice that this address is in that nothing starts there.
pub(super) fn clear(address: usize) {
    if entry_at(address).is_some() {
        set(address, 0);
    }
}

fn set(address: usize, word: u64) -> bool {
    let Some(place) = word_of(address) else {
        return false;
    };
    // Release, here and below: who finds the state bytes by the word finds them as they were made.
    place.store(word, Release);
    let Direct { first, slices, map } = direct();
    let index = (address >> PLACE_SHIFT).wrapping_sub(first);
    // Where the map does not become writable it says 0, and the long path of `free` does the work.
    if index < slices && make_granule_writable(map, index) {
        // SAFETY: a word of the map, in a granule that is writable.
        unsafe { (*map.add(index)).store(word, Release) };
    }
    true
}

fn make_granule_writable(map: *const AtomicU64, index: usize) -> bool {
    let granule = index * size_of::<AtomicU64>() / GRANULE_BYTES;
    let (word, bit) = (&GRANULES[granule / 64], 1 << (granule % 64));
    if word.load(Relaxed) & bit != 0 {
        return true;
    }
    // SAFETY: whole OS pages of the reservation: its length is a multiple of a granule's.
    let made = unsafe {
        let start = map.cast_mut().byte_add(granule * GRANULE_BYTES);
        os::make_writable(NonNull::new_unchecked(start.cast()), GRANULE_BYTES)
    };
    if made {
        word.fetch_or(bit, Relaxed);
    }
    made
}
