//! What is at an address: two flat maps over the whole address space, reserved and not committed, so
//! that a lookup is one load for any pointer at all.
//!
//! * The slice map has a word per slice of 32 KiB: the offset of the slice's class in a heap's table of
//!   bins, and where the state bytes of its blocks are. 0: none of ours. 32 GiB of addresses, 4 KiB of
//!   memory per 16 MiB of heap.
//! * The region map has a pointer per MiB to what is known of it.
//!
//! Where that much address space is refused (`ulimit -v`, some containers), both maps cover a window,
//! by the lowest bits of the slice's number. Foreign addresses then fall on entries that are not
//! theirs, so the short path of `free` is closed ([`Direct`] has no slice) and the long one compares the
//! whole address.

use core::ptr::{self, NonNull};
use core::sync::atomic::{
    AtomicPtr, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use super::super::os;
use super::extent::Extent;
use super::size_class::{LARGE, SLICE_BYTES, SLICE_SHIFT, state_shift};
use super::slice::Chunk;
use super::{heap, metadata};

/// Bytes of a region.
pub(super) const REGION_BYTES: usize = 1 << REGION_SHIFT;
pub(super) const REGION_SHIFT: u32 = 20;
pub(super) const SLICES_PER_REGION: usize = REGION_BYTES / SLICE_BYTES;
/// OS pages of a region.
pub(super) const PAGES_PER_REGION: usize = REGION_BYTES / os::OS_PAGE_BYTES;

/// What is known of a MiB of address space.
pub(super) struct Region {
    /// Its number: address over 2^20.
    pub(super) number: usize,
    /// If it is cut into slices: by which chunk.
    pub(super) chunk: *mut Chunk,
    /// Large blocks and free extents, at their first and at their last OS page. Null elsewhere.
    /// Written under the lock of the large store.
    pub(super) extents: [AtomicPtr<Extent>; PAGES_PER_REGION],
}

/// Slices in 47 bits of address space.
const SLICES: usize = 1 << (47 - SLICE_SHIFT);
/// The same where address space is scarce: 16 GiB.
const SLICES_WINDOWED: usize = 1 << (34 - SLICE_SHIFT);

/// The maps, and how they are used.
struct Maps {
    slices: AtomicPtr<AtomicU64>,
    /// Slices that have a word of their own, from address 0 on: all or none.
    direct_slices: AtomicUsize,
    /// Slice number to index.
    mask: AtomicUsize,
    regions: AtomicPtr<AtomicPtr<Region>>,
}

static MAPS: Maps = Maps {
    slices: AtomicPtr::new(ptr::null_mut()),
    direct_slices: AtomicUsize::new(0),
    mask: AtomicUsize::new(0),
    regions: AtomicPtr::new(ptr::null_mut()),
};

/// A granule of a map, which becomes writable as a whole.
const GRANULE_BYTES: usize = 64 << 10;
/// Which granules of the slice map are writable, a bit each.
static SLICE_GRANULES: [AtomicU64; SLICES * 8 / GRANULE_BYTES / 64] =
    [const { AtomicU64::new(0) }; SLICES * 8 / GRANULE_BYTES / 64];
/// The same of the region map.
static REGION_GRANULES: [AtomicU64; SLICES / SLICES_PER_REGION * 8 / GRANULE_BYTES / 64] =
    [const { AtomicU64::new(0) }; SLICES / SLICES_PER_REGION * 8 / GRANULE_BYTES / 64];

/// What the slice map says of a slice.
#[derive(Clone, Copy)]
pub(super) struct Entry(u64);

impl Entry {
    /// Offset of the class's bin in a heap.
    #[inline(always)]
    pub(super) fn bin_offset(self) -> usize {
        usize::from(self.0 as u16)
    }

    /// The address of a state byte, less the block's address shifted by its class's
    /// [`state_shift`].
    #[inline(always)]
    pub(super) fn states(self) -> usize {
        (self.0 as i64 >> 16) as usize
    }

    pub(super) fn class(self) -> usize {
        self.bin_offset() / heap::BIN_BYTES
    }

    /// The state byte of the block that starts here.
    pub(super) fn state_of(self, address: usize) -> *mut u8 {
        let place = address >> state_shift(self.class());
        ptr::with_exposed_provenance_mut(self.states().wrapping_add(place))
    }
}

/// The slice map, for the short path of `free`. Heaps have a copy each.
#[derive(Clone, Copy)]
pub(super) struct Direct {
    /// Slices that have a word of their own, from address 0 on: all or none.
    slices: usize,
    map: *const AtomicU64,
}

impl Direct {
    /// No slice.
    pub(super) const NONE: Self = Self {
        slices: 0,
        map: ptr::null(),
    };

    /// The word of the slice that this address is in, if it has one of its own.
    #[inline(always)]
    pub(super) fn entry(&self, address: usize) -> Option<Entry> {
        let slice = address >> SLICE_SHIFT;
        if slice >= self.slices {
            return None;
        }
        // SAFETY: the map has a word for each of those slices, and is readable throughout.
        unsafe { Some(Entry((*self.map.add(slice)).load(Relaxed))) }
    }
}

/// The slice map, once there is one.
pub(super) fn direct() -> Direct {
    Direct {
        slices: MAPS.direct_slices.load(Relaxed),
        map: MAPS.slices.load(Relaxed),
    }
}

/// The slice map's word of the slice that this address is in, if the slice is ours.
pub(super) fn entry_at(address: usize) -> Option<Entry> {
    region_at(address)?;
    let index = (address >> SLICE_SHIFT) & MAPS.mask.load(Relaxed);
    // SAFETY: the map has a word for every number that the mask leaves, and is readable throughout;
    // there are regions, so there is the map.
    let entry = unsafe { Entry((*MAPS.slices.load(Relaxed).add(index)).load(Relaxed)) };
    (entry.0 != 0).then_some(entry)
}

/// Reserves both maps. Called once, before any memory is got. False: the system refused.
pub(super) fn reserve_maps() -> bool {
    for slices in [SLICES, SLICES_WINDOWED] {
        let slices_bytes = slices * size_of::<AtomicU64>();
        let regions_bytes = slices / SLICES_PER_REGION * size_of::<AtomicPtr<Region>>();
        let Some(map) = os::reserve(slices_bytes, true) else {
            continue;
        };
        let Some(regions) = os::reserve(regions_bytes, true) else {
            // SAFETY: got a moment ago and not used.
            unsafe { os::unmap(map, slices_bytes) };
            continue;
        };
        MAPS.slices.store(map.as_ptr().cast(), Relaxed);
        MAPS.mask.store(slices - 1, Relaxed);
        MAPS.direct_slices
            .store(if slices == SLICES { slices } else { 0 }, Relaxed);
        // Release pairs with the Acquire in `region_at`.
        MAPS.regions.store(regions.as_ptr().cast(), Release);
        return true;
    }
    false
}

fn region_index(address: usize) -> usize {
    let mask = MAPS.mask.load(Relaxed) / SLICES_PER_REGION;
    (address >> REGION_SHIFT) & mask
}

/// What is known of the MiB that this address is in.
#[inline]
pub(super) fn region_at(address: usize) -> Option<NonNull<Region>> {
    // Acquire pairs with the Release in `reserve_maps`.
    let map = MAPS.regions.load(Acquire);
    if map.is_null() {
        return None;
    }
    // SAFETY: the map has an entry for every masked number, and is readable throughout. Acquire pairs
    // with the Release in `enter_region`; regions are never taken away again.
    let region = unsafe { NonNull::new((*map.add(region_index(address))).load(Acquire))? };
    // SAFETY: as above.
    (unsafe { region.as_ref() }.number == address >> REGION_SHIFT).then_some(region)
}

/// Makes a region known, if it is not. False: no memory, or another region has its place in the
/// window.
///
/// Called under the lock of the large store.
pub(super) fn enter_region(address: usize) -> bool {
    let (map, index) = (MAPS.regions.load(Relaxed), region_index(address));
    // SAFETY: the map has an entry for every masked number, and is readable throughout.
    let entry = unsafe { &*map.add(index) };
    let number = address >> REGION_SHIFT;
    if let Some(known) = NonNull::new(entry.load(Relaxed)) {
        // SAFETY: regions are never taken away again.
        return unsafe { known.as_ref() }.number == number;
    }
    if !make_granule_writable(map.cast(), index * 8, &REGION_GRANULES) {
        return false;
    }
    let Some(region) = metadata::allocate::<Region>() else {
        return false;
    };
    // SAFETY: fresh zeroed memory of its type; zeroes are valid for all its fields.
    unsafe { (*region.as_ptr()).number = number };
    // Release pairs with the Acquire in `region_at`.
    entry.store(region.as_ptr(), Release);
    true
}

/// Says of the slice that starts here that it has a class, and where its state bytes are. False: no
/// memory for the map.
pub(super) fn set_class(start: usize, class: usize, states: NonNull<u8>) -> bool {
    let base = states
        .expose_provenance()
        .get()
        .wrapping_sub(start >> state_shift(class));
    set(
        start,
        (base as u64) << 16 | (class * heap::BIN_BYTES) as u64,
    )
}

/// Says of the slice that this address is in that a large block starts there. False: no memory for the
/// map.
pub(super) fn set_large(address: usize) -> bool {
    set(address, (LARGE * heap::BIN_BYTES) as u64)
}

/// Says of the slice that this address is in that nothing starts there.
pub(super) fn clear(address: usize) {
    if entry_at(address).is_some() {
        set(address, 0);
    }
}

fn set(address: usize, word: u64) -> bool {
    let index = (address >> SLICE_SHIFT) & MAPS.mask.load(Relaxed);
    let map = MAPS.slices.load(Relaxed);
    if !make_granule_writable(map.cast(), index * 8, &SLICE_GRANULES) {
        return false;
    }
    // SAFETY: a word of the map, in a granule that is writable.
    unsafe { (*map.add(index)).store(word, Relaxed) };
    true
}

fn make_granule_writable(map: *mut u8, offset: usize, done: &[AtomicU64]) -> bool {
    let granule = offset / GRANULE_BYTES;
    let (word, bit) = (&done[granule / 64], 1 << (granule % 64));
    if word.load(Relaxed) & bit != 0 {
        return true;
    }
    // SAFETY: whole OS pages of the reservation: its length is a multiple of a granule's.
    let made = unsafe {
        let start = NonNull::new_unchecked(map.add(granule * GRANULE_BYTES));
        os::make_writable(start, GRANULE_BYTES)
    };
    if made {
        word.fetch_or(bit, Relaxed);
    }
    made
}
