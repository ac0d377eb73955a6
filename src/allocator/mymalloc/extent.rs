//! Extents: runs of OS pages, in use or free, that tile all memory got from the system.
//!
//! An extent is entered in the region map at its first and its last page, so its neighbours are found
//! without a search. A free extent is dirty (it may hold memory) or clean (it holds none and reads as
//! zeroes); no two of the same kind stand side by side. Free extents stand in bins by kind and length,
//! eight per doubling; dirty ones also in a queue by the time when they became free.

use core::ptr::{self, NonNull};
use core::sync::atomic::{
    AtomicU8,
    Ordering::{Acquire, Relaxed, Release},
};

use super::super::os::OS_PAGE_BYTES;
use super::pages::{self, PAGES_PER_REGION};
use super::size_class::{self, LARGE, PLACE_BYTES, class_of_pages};
use super::state_byte;

/// A run of OS pages.
pub(super) struct Extent {
    /// Number of its first page: address over 4096.
    pub(super) first: usize,
    /// Number of the page behind it.
    pub(super) end: usize,
    /// Whether it may hold memory. Of a block: whether it did when it was handed out.
    pub(super) is_dirty: bool,
    /// Whether the last page of a block is a guard, which faults.
    pub(super) has_guard: bool,
    /// When it became free.
    pub(super) freed_ms: u32,
    pub(super) state: State,
    /// Neighbours in a bin; `next` also in the list of records not in use.
    pub(super) next: *mut Extent,
    pub(super) previous: *mut Extent,
    /// Neighbours in the queue of dirty extents.
    pub(super) newer: *mut Extent,
    pub(super) older: *mut Extent,
    /// The state bytes of the place where a block starts, as slices have them: that of the block itself says whether
    /// it is allocated, all others that no block starts there.
    /// Not under the lock: whoever has the block may change its byte.
    pub(super) states: [AtomicU8; STATES],
}

/// State bytes of a place of medium blocks. No block of the large store is shorter than a place, so one starts there at
/// most.
const STATES: usize = PLACE_BYTES >> size_class::MEDIUM_STATE_SHIFT;
/// Those of one without a block.
const fn no_states() -> [AtomicU8; STATES] {
    let (mut states, mut index) = ([const { AtomicU8::new(0) }; STATES], 0);
    while index < STATES {
        states[index] = AtomicU8::new(state_byte::of_none(LARGE + 1, index));
        index += 1;
    }
    states
}

/// What an extent is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Free,
    /// A large block.
    Block,
    /// Cut into slices.
    Chunk,
}

impl Extent {
    /// A record that is entered nowhere.
    pub(super) const fn nowhere() -> Self {
        Self {
            first: 0,
            end: 0,
            is_dirty: false,
            has_guard: false,
            freed_ms: 0,
            state: State::Free,
            next: ptr::null_mut(),
            previous: ptr::null_mut(),
            newer: ptr::null_mut(),
            older: ptr::null_mut(),
            states: no_states(),
        }
    }

    pub(super) fn pages(&self) -> usize {
        self.end - self.first
    }

    /// Those that a program may use of a block.
    pub(super) fn usable_pages(&self) -> usize {
        self.pages() - usize::from(self.has_guard)
    }

    /// Bytes that may be used.
    pub(super) fn bytes(&self) -> usize {
        self.usable_pages() * OS_PAGE_BYTES
    }

    /// The class of a block that is as long as those of one.
    pub(super) fn medium_class(&self) -> Option<usize> {
        class_of_pages(self.usable_pages())
    }

    /// Whether the block is allocated.
    pub(super) fn is_allocated(&self) -> bool {
        let state = self.states[state_index(self.first)].load(Relaxed);
        state_byte::is_allocated(state, self.first * OS_PAGE_BYTES)
    }

    /// Says that the block is not allocated.
    pub(super) fn set_not_here(&self) {
        // The record may have been that of a block which started at another page of a place.
        for page in 0..PLACE_BYTES / OS_PAGE_BYTES {
            let state = state_byte::on_its_way(page * OS_PAGE_BYTES);
            self.states[state_index(page)].store(state, Relaxed);
        }
    }

    /// Says that the block is allocated.
    pub(super) fn set_allocated(&self) {
        self.set_not_here();
        let state = state_byte::allocated(self.first * OS_PAGE_BYTES);
        self.states[state_index(self.first)].store(state, Relaxed);
    }

    /// Whether no state byte but the block's own says anything, and that nothing but whether it is allocated: for the
    /// checker.
    pub(super) fn has_sound_states(&self) -> bool {
        let (own, address) = (state_index(self.first), self.first * OS_PAGE_BYTES);
        self.states.iter().enumerate().all(|(index, state)| {
            // Read once: whoever has the block may free it meanwhile.
            let state = state.load(Relaxed);
            state == state_byte::of_none(LARGE + 1, index)
                || index == own && state_byte::is_allocated(state, address)
        })
    }

    pub(super) fn start(&self) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.first * OS_PAGE_BYTES)
    }

    pub(super) fn last_page(&self) -> *mut u8 {
        ptr::with_exposed_provenance_mut((self.end - 1) * OS_PAGE_BYTES)
    }

    /// First page, at a multiple of `alignment_pages`, a power of two, where `pages` fit. None: they do not.
    pub(super) fn place_for(&self, pages: usize, alignment_pages: usize) -> Option<usize> {
        let first = align_up(self.first, alignment_pages)?;
        (first.checked_add(pages)? <= self.end).then_some(first)
    }
}

/// Which of the state bytes is that of a block which starts at this page.
fn state_index(page: usize) -> usize {
    ((page * OS_PAGE_BYTES) >> size_class::MEDIUM_STATE_SHIFT) % STATES
}

/// Where the state byte of a block is.
///
/// # Safety
/// A record. What is read without the lock is the block's only if the caller has that.
pub(super) unsafe fn state_of(extent: NonNull<Extent>) -> NonNull<u8> {
    // SAFETY: the caller says so; the index is one of the array, whatever page is read.
    unsafe {
        let index = state_index((*extent.as_ptr()).first);
        NonNull::new_unchecked((&raw mut (*extent.as_ptr()).states).cast::<u8>().add(index))
    }
}

/// Says in the map what starts where a block does: a medium one, which can be freed by the short path, or one that only
/// the large store knows.
///
/// # Safety
/// The record of a block in use, under the large store's lock; its first page's region is known.
pub(super) unsafe fn declare(extent: NonNull<Extent>) {
    // SAFETY: the caller says so.
    unsafe {
        let address = extent.as_ref().first * OS_PAGE_BYTES;
        match extent.as_ref().medium_class() {
            Some(class) => {
                let place = address & !(PLACE_BYTES - 1);
                let states = NonNull::new_unchecked(&raw mut (*extent.as_ptr()).states);
                pages::set_class(place, class, 1, states.cast())
            }
            None => pages::set_large(address),
        };
    }
}

/// The least multiple of a power of two from a page on. (A division for it would take longer than all the
/// rest of a look.)
pub(super) fn align_up(page: usize, power: usize) -> Option<usize> {
    Some(page.checked_add(power - 1)? & !(power - 1))
}

/// The extent entered at this page, if there is one: it begins or ends there.
pub(super) fn at(page: usize) -> Option<NonNull<Extent>> {
    let region = pages::region_at(page * OS_PAGE_BYTES)?;
    // SAFETY: regions stay.
    let entry = unsafe { &(*region.as_ptr()).extents[page % PAGES_PER_REGION] };
    // Acquire pairs with the Release in `enter`, for those who look without the lock.
    NonNull::new(entry.load(Acquire))
}

/// Regions that are looked at for [`entered_before`]: 16 GiB.
const REGIONS_BEFORE: usize = 1 << 14;

/// The extent that is entered next before this page, by the end or the beginning of it. For those who have
/// time: a long block is looked through.
pub(super) fn entered_before(page: usize) -> Option<NonNull<Extent>> {
    let here = page / PAGES_PER_REGION;
    let numbers = (here.saturating_sub(REGIONS_BEFORE)..=here).rev();
    let known = numbers.filter(|number| pages::region_at(number * pages::REGION_BYTES).is_some());
    known
        .flat_map(|number| (number * PAGES_PER_REGION..(number + 1) * PAGES_PER_REGION).rev())
        .filter(|entered| *entered < page)
        .find_map(at)
}

/// Makes sure that an extent can be entered at this page. False: no memory.
pub(super) fn can_enter(page: usize) -> bool {
    pages::enter_region(page * OS_PAGE_BYTES)
}

/// Enters an extent at both its ends, or, with null, takes it out.
///
/// # Safety
/// [`can_enter`] held at both ends; the large store's lock is held.
pub(super) unsafe fn enter(first: usize, end: usize, extent: *mut Extent) {
    let region_of = |page: usize| pages::region_at(page * OS_PAGE_BYTES);
    let last = end - 1;
    let Some(region) = region_of(first) else {
        return;
    };
    let last_region = if first / PAGES_PER_REGION == last / PAGES_PER_REGION {
        Some(region)
    } else {
        region_of(last)
    };
    for (page, region) in [(first, Some(region)), (last, last_region)] {
        if let Some(region) = region {
            // SAFETY: regions stay.
            let entry = unsafe { &(*region.as_ptr()).extents[page % PAGES_PER_REGION] };
            // Release pairs with the Acquire in `at`.
            entry.store(extent, Release);
        }
    }
}

/// Bins per doubling.
const STEPS: usize = 8;
/// Enough for 2^35 pages, all of the address space.
pub(super) const BINS: usize = STEPS * 34;
/// Extents of a bin that are compared for the best fit.
const LOOKS: usize = 24;

/// The bin of extents of this many pages.
fn bin_of(pages: usize) -> usize {
    if pages < STEPS {
        return pages;
    }
    let log = pages.ilog2() as usize;
    let bin = (log - 2) * STEPS + ((pages >> (log - 3)) & (STEPS - 1));
    bin.min(BINS - 1)
}

/// Free extents by kind and length.
pub(super) struct Bins {
    dirty: Set,
    clean: Set,
    /// Dirty extents by the time when they became free.
    oldest: *mut Extent,
    newest: *mut Extent,
    /// Pages of dirty extents.
    dirty_pages: usize,
}

/// Extents by length.
struct Set {
    first: [*mut Extent; BINS],
    /// Bins that are not empty, a bit each.
    filled: [u64; BINS.div_ceil(64)],
}

impl Bins {
    pub(super) const fn new() -> Self {
        Self {
            dirty: Set::new(),
            clean: Set::new(),
            oldest: ptr::null_mut(),
            newest: ptr::null_mut(),
            dirty_pages: 0,
        }
    }

    pub(super) fn dirty_pages(&self) -> usize {
        self.dirty_pages
    }

    /// # Safety
    /// A free extent in no bin, which does not change until it is taken out. If it is dirty, it is the
    /// one that became free last.
    pub(super) unsafe fn insert(&mut self, extent: NonNull<Extent>) {
        // SAFETY: records stay mapped, and the lock that guards them is held, as `self` is borrowed.
        unsafe {
            if !extent.as_ref().is_dirty {
                return self.clean.insert(extent);
            }
            self.dirty.insert(extent);
            self.dirty_pages += extent.as_ref().pages();
            let record = extent.as_ptr();
            ((*record).older, (*record).newer) = (self.newest, ptr::null_mut());
            match NonNull::new(self.newest) {
                Some(newest) => (*newest.as_ptr()).newer = record,
                None => self.oldest = record,
            }
            self.newest = record;
        }
    }

    /// # Safety
    /// An extent that is in its bin.
    pub(super) unsafe fn remove(&mut self, extent: NonNull<Extent>) {
        // SAFETY: as in `insert`.
        unsafe {
            if !extent.as_ref().is_dirty {
                return self.clean.remove(extent);
            }
            self.dirty.remove(extent);
            self.dirty_pages -= extent.as_ref().pages();
            let (older, newer) = (extent.as_ref().older, extent.as_ref().newer);
            match NonNull::new(older) {
                Some(older) => (*older.as_ptr()).newer = newer,
                None => self.oldest = newer,
            }
            match NonNull::new(newer) {
                Some(newer) => (*newer.as_ptr()).older = older,
                None => self.newest = older,
            }
        }
    }

    /// A free extent in which `pages` fit at a multiple of `alignment_pages`: a dirty one if there is
    /// one, and the shortest of those looked at in the first bin that has one.
    pub(super) fn find(&self, pages: usize, alignment_pages: usize) -> Option<NonNull<Extent>> {
        self.find_dirty(pages, alignment_pages)
            .or_else(|| self.find_clean(pages, alignment_pages))
    }

    /// The same, of dirty ones alone.
    pub(super) fn find_dirty(
        &self,
        pages: usize,
        alignment_pages: usize,
    ) -> Option<NonNull<Extent>> {
        self.dirty.find(pages, alignment_pages)
    }

    /// The same, of clean ones alone.
    pub(super) fn find_clean(
        &self,
        pages: usize,
        alignment_pages: usize,
    ) -> Option<NonNull<Extent>> {
        self.clean.find(pages, alignment_pages)
    }

    /// The first result of `test` among the longest dirty extents, of which `looks` are looked at.
    pub(super) fn find_longest_dirty<T>(
        &self,
        looks: usize,
        test: impl FnMut(NonNull<Extent>) -> Option<T>,
    ) -> Option<T> {
        self.dirty.longest_first().take(looks).find_map(test)
    }

    /// One of the longest clean extents.
    pub(super) fn longest_clean(&self) -> Option<NonNull<Extent>> {
        self.clean.longest()
    }

    /// The dirty extent that has been free for the longest time.
    pub(super) fn oldest_dirty(&self) -> Option<NonNull<Extent>> {
        NonNull::new(self.oldest)
    }

    /// Free extents, if each is where it belongs: for the checker.
    pub(super) fn count(&self) -> Option<usize> {
        Some(self.dirty.count(true)? + self.clean.count(false)?)
    }

    /// The first clean extent of a bin.
    pub(super) fn first_clean(&self, bin: usize) -> Option<NonNull<Extent>> {
        NonNull::new(self.clean.first[bin])
    }
}

impl Set {
    const fn new() -> Self {
        Self {
            first: [ptr::null_mut(); BINS],
            filled: [0; BINS.div_ceil(64)],
        }
    }

    /// # Safety
    /// A free extent in no bin, whose length stays until it is taken out.
    unsafe fn insert(&mut self, extent: NonNull<Extent>) {
        // SAFETY: records stay mapped, and the lock that guards them is held, as `self` is borrowed.
        unsafe {
            let bin = bin_of(extent.as_ref().pages());
            let next = self.first[bin];
            (*extent.as_ptr()).next = next;
            (*extent.as_ptr()).previous = ptr::null_mut();
            if !next.is_null() {
                (*next).previous = extent.as_ptr();
            }
            self.first[bin] = extent.as_ptr();
            self.filled[bin / 64] |= 1 << (bin % 64);
        }
    }

    /// # Safety
    /// An extent that is in its bin.
    unsafe fn remove(&mut self, extent: NonNull<Extent>) {
        // SAFETY: as in `insert`.
        unsafe {
            let bin = bin_of(extent.as_ref().pages());
            let (next, previous) = (extent.as_ref().next, extent.as_ref().previous);
            if previous.is_null() {
                self.first[bin] = next;
            } else {
                (*previous).next = next;
            }
            if !next.is_null() {
                (*next).previous = previous;
            }
            if self.first[bin].is_null() {
                self.filled[bin / 64] &= !(1 << (bin % 64));
            }
        }
    }

    /// Extents of all bins, each of which is free, of the kind, and in its bin. None: one is not.
    fn count(&self, is_dirty: bool) -> Option<usize> {
        let mut count = 0;
        for (bin, first) in self.first.iter().enumerate() {
            let is_filled = self.filled[bin / 64] & (1 << (bin % 64)) != 0;
            if is_filled == first.is_null() {
                return None;
            }
            let mut candidate = *first;
            while let Some(extent) = NonNull::new(candidate) {
                // SAFETY: records stay mapped; the lock is held.
                let extent = unsafe { extent.as_ref() };
                let is_right = extent.state == State::Free
                    && extent.is_dirty == is_dirty
                    && bin_of(extent.pages()) == bin;
                if !is_right {
                    return None;
                }
                count += 1;
                candidate = extent.next;
            }
        }
        Some(count)
    }

    /// The first bin from `bin` on that is not empty.
    fn next_filled(&self, bin: usize) -> Option<usize> {
        let mut word = bin / 64;
        let mut bits = self.filled.get(word)? & (u64::MAX << (bin % 64));
        while bits == 0 {
            word += 1;
            bits = *self.filled.get(word)?;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }

    fn find(&self, pages: usize, alignment_pages: usize) -> Option<NonNull<Extent>> {
        let mut bin = bin_of(pages);
        loop {
            bin = self.next_filled(bin)?;
            let mut best: Option<NonNull<Extent>> = None;
            let mut candidate = self.first[bin];
            let mut looks = 0;
            while let Some(extent) = NonNull::new(candidate) {
                // SAFETY: extents in bins are free records; the lock is held.
                let (fits, is_better) = unsafe {
                    let is_better =
                        best.is_none_or(|best| extent.as_ref().pages() < best.as_ref().pages());
                    candidate = extent.as_ref().next;
                    let fits = extent.as_ref().place_for(pages, alignment_pages);
                    (fits.is_some(), is_better)
                };
                if fits && is_better {
                    best = Some(extent);
                }
                looks += 1;
                // With a fit in hand the search has an end; without one every extent is looked at.
                // SAFETY: as above.
                let is_exact = best.is_some_and(|best| unsafe { best.as_ref() }.pages() == pages);
                if is_exact || looks >= LOOKS && best.is_some() {
                    break;
                }
            }
            if best.is_some() {
                return best;
            }
            bin += 1;
        }
    }

    fn longest(&self) -> Option<NonNull<Extent>> {
        self.longest_first().next()
    }

    /// All of them, the longest bin first.
    fn longest_first(&self) -> impl Iterator<Item = NonNull<Extent>> {
        let bins = (0..self.filled.len()).rev().flat_map(|word| {
            let mut bits = self.filled[word];
            core::iter::from_fn(move || {
                let bit = bits.checked_ilog2()?;
                bits &= !(1 << bit);
                Some(word * 64 + bit as usize)
            })
        });
        bins.flat_map(|bin| {
            let mut candidate = self.first[bin];
            core::iter::from_fn(move || {
                let extent = NonNull::new(candidate)?;
                // SAFETY: extents in bins are free records; the lock is held, as `self` is borrowed.
                candidate = unsafe { extent.as_ref() }.next;
                Some(extent)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_extents_are_in_later_bins() {
        let mut last = 0;
        for pages in 1..100_000 {
            let bin = bin_of(pages);
            assert!(bin == last || bin == last + 1, "{pages}");
            last = bin;
        }
        assert!(bin_of(1 << 35) < BINS);
    }
}
