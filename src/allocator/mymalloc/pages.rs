//! What is at an address.
//!
//! * The window: a word for each place of 8 KiB, of a slice or where a block of the large store starts: the
//!   class, and where the state bytes of its blocks are. 0: none of ours. It is one flat array, for the short path of
//!   `free`, which needs one load. It covers the 256 GiB of addresses from which the system gives memory, is reserved and not committed
//!   (256 MiB of addresses; 4 KiB of memory per 4 MiB of heap), and is smaller where addresses are
//!   scarce. What lies outside of it (the program may have mapped more than that itself) is freed by the
//!   long path, as is everything if no window can be had.
//! * The radix tree: a record per MiB of address space that holds memory of ours, found from any address over a leaf of
//!   2 GiB; if it is far from where the system gave the first memory, over one more step. It has the words of places that
//!   the window has not.

use core::ops::Range;
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
    /// What the places are, where the window does not say so. Null: it does.
    words: AtomicPtr<Words>,
    /// Large blocks and free extents, at their first and at their last OS page. Null elsewhere.
    /// Written under the lock of the large store.
    pub(super) extents: [AtomicPtr<Extent>; PAGES_PER_REGION],
}

/// A word for each place of a region.
type Words = [AtomicU64; PLACES_PER_REGION];

/// Records that a region may need.
const REGION_RECORDS_BYTES: usize =
    size_of::<Region>().next_multiple_of(metadata::ALIGNMENT) + size_of::<Words>();
/// Records that the two regions may need in which a mapping begins and ends.
pub(super) const MAPPING_RECORDS_BYTES: usize = 2 * REGION_RECORDS_BYTES + size_of::<Leaf>();

/// Bits of an address that user space may use.
pub(super) const ADDRESS_BITS: u32 = 47;

/// The regions of 2 GiB.
const LEAF_SHIFT: u32 = 11;
type Leaf = [AtomicPtr<Region>; 1 << LEAF_SHIFT];
/// Those of the 256 GiB from [`ORIGIN`] on.
static LEAVES: [AtomicPtr<Leaf>; 128] = [const { AtomicPtr::new(ptr::null_mut()) }; 128];
/// Where they begin: a multiple of a region's bytes. Set once, before any memory is got.
static ORIGIN: AtomicUsize = AtomicUsize::new(0);

/// The regions of 16 GiB anywhere.
const FAR_LEAF_SHIFT: u32 = 14;
type FarLeaf = [AtomicPtr<Region>; 1 << FAR_LEAF_SHIFT];
type FarLeaves = [AtomicPtr<FarLeaf>; 1 << (ADDRESS_BITS - REGION_SHIFT - FAR_LEAF_SHIFT)];
/// The top of the tree for all other addresses, once one of them is ours.
static FAR_LEAVES: AtomicPtr<FarLeaves> = AtomicPtr::new(ptr::null_mut());

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
        let here = map.expose_provenance().get();
        set_origin(here + slices * size_of::<AtomicU64>());
        // It begins where a region does.
        let first = (here / REGION_BYTES * PLACES_PER_REGION).saturating_sub(slices / 4 * 3);
        WINDOW_FIRST.store(first, Relaxed);
        WINDOW_MAP.store(map.as_ptr().cast(), Relaxed);
        WINDOW_SLICES.store(slices, Relaxed);
        return;
    }
}

/// Says where the near part of the tree begins. `map_end`: the end of the window's map.
fn set_origin(map_end: usize) {
    // Some systems leave a gap above a mapping that is so long, which the next ones fill, and others place these below it.
    // Either way they are to have the last words of a leaf, which share an OS page with the records made next.
    let leaf_end = (map_end / REGION_BYTES + GAP_REGIONS) << REGION_SHIFT;
    let leaves = LEAVES.len() / 4 * 3;
    ORIGIN.store(
        leaf_end.saturating_sub(leaves << (REGION_SHIFT + LEAF_SHIFT)),
        Relaxed,
    );
}

/// The gap is shorter: at most a huge page.
const GAP_REGIONS: usize = 4;

/// The index of a place's word in the window. None: the address is not in it.
#[inline]
fn place_in_window(address: usize) -> Option<usize> {
    let Direct { first, slices, .. } = direct();
    let place = (address >> PLACE_SHIFT).wrapping_sub(first);
    (place < slices).then_some(place)
}

/// Where the tree has the region that this address is in. None: it has none there yet.
#[inline]
fn entry_of(address: usize) -> Option<&'static AtomicPtr<Region>> {
    let from_origin = address.wrapping_sub(ORIGIN.load(Relaxed));
    let Some(leaf) = LEAVES.get(from_origin >> (REGION_SHIFT + LEAF_SHIFT)) else {
        return far_entry_of(address);
    };
    // Acquire pairs with the Release in `make`.
    let leaf = NonNull::new(leaf.load(Acquire))?;
    // SAFETY: nothing of the tree is ever taken away again.
    Some(unsafe { &(*leaf.as_ptr())[from_origin / REGION_BYTES % (1 << LEAF_SHIFT)] })
}

/// The same of an address that is far from most.
#[cold]
#[inline(never)]
fn far_entry_of(address: usize) -> Option<&'static AtomicPtr<Region>> {
    // Acquire, here and below, pairs with the Releases in `make`.
    let far = NonNull::new(FAR_LEAVES.load(Acquire))?;
    // No user space has addresses beyond.
    // SAFETY: nothing of the tree is ever taken away again.
    let leaf = unsafe { far.as_ref() }.get(address >> (REGION_SHIFT + FAR_LEAF_SHIFT))?;
    let leaf = NonNull::new(leaf.load(Acquire))?;
    // SAFETY: as above.
    Some(unsafe { &(*leaf.as_ptr())[(address >> REGION_SHIFT) % (1 << FAR_LEAF_SHIFT)] })
}

/// What is known of the MiB that this address is in.
#[inline]
pub(super) fn region_at(address: usize) -> Option<NonNull<Region>> {
    // Acquire pairs with the Release in `make_region`.
    NonNull::new(entry_of(address)?.load(Acquire))
}

/// Makes a region known, if it is not. False: no memory.
///
/// Called under the lock of the large store.
#[inline]
pub(super) fn enter_region(address: usize) -> bool {
    region_at(address).is_some() || make_region(address).is_some()
}

#[cold]
#[inline(never)]
fn make_region(address: usize) -> Option<()> {
    if address >> ADDRESS_BITS != 0 {
        // An [`Entry`] has no room for such an address.
        return None;
    }
    let from_origin = address.wrapping_sub(ORIGIN.load(Relaxed));
    if let Some(leaf) = LEAVES.get(from_origin >> (REGION_SHIFT + LEAF_SHIFT)) {
        make(leaf)?;
    } else {
        // SAFETY: nothing of the tree is ever taken away again.
        let far = unsafe { make(&FAR_LEAVES)?.as_ref() };
        make(far.get(address >> (REGION_SHIFT + FAR_LEAF_SHIFT))?)?;
    }
    // The words of a region are in one granule. As long as that does not become writable, the window says 0, and the long
    // path of `free` does the work.
    let needs_words = !place_in_window(address).is_some_and(make_granule_writable);
    if !metadata::make_sure_of(REGION_RECORDS_BYTES) {
        return None;
    }
    // Zeroes are a region of which nothing is known, and words that say nothing.
    let region = metadata::allocate::<Region>()?;
    if needs_words {
        let words = metadata::allocate::<Words>()?;
        // SAFETY: a record that nobody knows yet.
        unsafe { &(*region.as_ptr()).words }.store(words.as_ptr(), Relaxed);
    }
    // Release pairs with the Acquire in `region_at`.
    entry_of(address)?.store(region.as_ptr(), Release);
    Some(())
}

/// Puts a record of zeroes into a word of the tree, if it has none. None: no memory.
fn make<T>(word: &AtomicPtr<T>) -> Option<NonNull<T>> {
    NonNull::new(word.load(Relaxed)).or_else(|| {
        let record = metadata::allocate::<T>()?;
        // Release pairs with the Acquires in `entry_of` and `far_entry_of`.
        word.store(record.as_ptr(), Release);
        Some(record)
    })
}

/// Visits every region, the lowest address first, until there is an error.
///
/// # Errors
/// The visitor's first.
pub(super) fn for_each_region<E>(
    mut visit: impl FnMut(usize, &Region) -> Result<(), E>,
) -> Result<(), E> {
    let near = ORIGIN.load(Relaxed) / REGION_BYTES;
    // SAFETY: nothing of the tree is ever taken away again.
    let far = unsafe { FAR_LEAVES.load(Acquire).as_ref() };
    if let Some(far) = far {
        for_each_of(far, 0, 0..near, &mut visit)?;
    }
    for_each_of(&LEAVES, near, near..usize::MAX, &mut visit)?;
    if let Some(far) = far {
        for_each_of(far, 0, near..usize::MAX, &mut visit)?;
    }
    Ok(())
}

/// Visits those regions of some leaves whose numbers are in a range. `first`: the number of the first leaf's first.
fn for_each_of<const N: usize, E>(
    leaves: &[AtomicPtr<[AtomicPtr<Region>; N]>],
    first: usize,
    range: Range<usize>,
    visit: &mut impl FnMut(usize, &Region) -> Result<(), E>,
) -> Result<(), E> {
    for (high, leaf) in leaves.iter().enumerate() {
        // SAFETY: nothing of the tree is ever taken away again.
        let Some(leaf) = (unsafe { leaf.load(Acquire).as_ref() }) else {
            continue;
        };
        for (low, entry) in leaf.iter().enumerate() {
            let number = first + high * N + low;
            if let Some(region) = NonNull::new(entry.load(Acquire))
                && range.contains(&number)
            {
                // SAFETY: as above.
                visit(number << REGION_SHIFT, unsafe { region.as_ref() })?;
            }
        }
    }
    Ok(())
}

/// Whether the window says the same of a slice as the tree, or nothing at all, where both have words: for the checker.
pub(super) fn window_agrees(address: usize) -> bool {
    let known = direct().entry(address).map_or(0, |entry| entry.0);
    known == 0 || Some(known) == entry_at(address).map(|entry| entry.0)
}

/// What is known of the slice that this address is in, if it is ours.
pub(super) fn entry_at(address: usize) -> Option<Entry> {
    let region = region_at(address)?;
    // SAFETY: nothing of the tree is ever taken away again, and the words are atomic.
    let word = unsafe {
        match (*region.as_ptr()).words.load(Acquire).as_ref() {
            Some(words) => words[index_in_region(address)].load(Relaxed),
            None => direct().entry(address)?.0,
        }
    };
    (word != 0).then_some(Entry(word))
}

const fn index_in_region(address: usize) -> usize {
    (address >> PLACE_SHIFT) % PLACES_PER_REGION
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
    let Some(region) = region_at(address) else {
        return false;
    };
    let place = place_in_window(address);
    // Release, here and below: who finds the state bytes by the word finds them as they were made.
    // SAFETY: nothing of the tree is ever taken away again.
    let is_in_window = match unsafe { (*region.as_ptr()).words.load(Relaxed).as_ref() } {
        Some(words) => {
            words[index_in_region(address)].store(word, Release);
            // What the system refused once it may grant now.
            place.is_some_and(make_granule_writable)
        }
        // Its granule was writable from the first.
        None => true,
    };
    if let Some(place) = place
        && is_in_window
    {
        // SAFETY: a word of the map, in a granule that is writable.
        unsafe { (*direct().map.add(place)).store(word, Release) };
    }
    true
}

/// The granule of a place's word.
const fn granule_of(place: usize) -> usize {
    place * size_of::<AtomicU64>() / GRANULE_BYTES
}

fn is_granule_writable(place: usize) -> bool {
    let granule = granule_of(place);
    GRANULES[granule / 64].load(Relaxed) & (1 << (granule % 64)) != 0
}

/// Makes the granule of a place's word writable. False: the system refused.
fn make_granule_writable(place: usize) -> bool {
    if is_granule_writable(place) {
        return true;
    }
    let granule = granule_of(place);
    // SAFETY: whole OS pages of the reservation: its length is a multiple of a granule's.
    let made = unsafe {
        let start = direct().map.cast_mut().byte_add(granule * GRANULE_BYTES);
        os::make_writable(NonNull::new_unchecked(start.cast()), GRANULE_BYTES)
    };
    if made {
        GRANULES[granule / 64].fetch_or(1 << (granule % 64), Relaxed);
    }
    made
}
