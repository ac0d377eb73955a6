//! The store of extents: all memory got from the system, best fit, merged with free neighbours at once.
//! What of it goes back to the system, and when, is told in [`purge`](super::purge).

use core::ptr::{self, NonNull};

use super::super::FreeError;
use super::super::os::{self, OS_PAGE_BYTES};
use super::extent::{self, Bins, Extent, State};
use super::heap::IS_CHECKED;
use super::huge::Huge;
use super::pages::{self, PAGES_PER_REGION, REGION_BYTES};
use super::size_class::MEDIUM_BYTES_MAX;
use super::{metadata, options, secure, tick};

/// Longer blocks that grow always move by pages.
const COPY_PAGES_MAX: usize = (4 << 20) / OS_PAGE_BYTES;
/// So much idle memory does not matter.
const IDLE_PAGES_MIN: usize = (1 << 20) / OS_PAGE_BYTES;
/// What is got from the system at a time: at least, and at most unless a block needs more.
const GROWTH_BYTES_MIN: usize = 1 << 20;
const GROWTH_BYTES_MAX: usize = 64 << 20;
/// The heap has grown when it holds, or uses, so many pages more than it ever did lately: a part of what is in use, and
/// so many at least.
const GROWTH_PART: usize = 32;
const GROWTH_PAGES_MIN: usize = 32;

/// Records that a mapping may need: of its first and last region, and of itself.
const RECORDS_BYTES: usize = pages::MAPPING_RECORDS_BYTES + size_of::<Extent>() + 256;

/// Extents, used and free. Guarded by the lock of [`large`](super::large).
pub(super) struct Store {
    pub(super) free: Bins,
    /// Records of extents that are not in use.
    records: *mut Extent,
    pub(super) mapped_pages: usize,
    /// In blocks and chunks, and the most of them lately.
    pub(super) used_pages: usize,
    pub(super) used_pages_peak: usize,
    /// The most of them since the last round of work.
    pub(super) used_pages_round: usize,
    /// The most of them lately, when that had grown by a step.
    pub(super) used_pages_grown: usize,
    /// Those and idle ones that hold memory: the most of them lately, when that had grown by a step.
    pub(super) held_pages_grown: usize,
    pub(super) huge: Huge,
}

// SAFETY: extents belong to no thread.
unsafe impl Send for Store {}

/// Whether a block of so many OS pages is to be shortened, if `pages` are wanted. A little too long is as good;
/// medium ones that grow have room to do so, and up to half of what they need is left to them. (What is as near as eleven
/// sixteenths stays by the short path, `paths::may_stay`.)
pub(super) fn is_too_long(have: usize, pages: usize) -> bool {
    let allowed = if have <= MEDIUM_BYTES_MAX / OS_PAGE_BYTES {
        pages / 2
    } else {
        pages / 8
    };
    have - pages > allowed
}

impl Store {
    /// A store that has got nothing from the system yet.
    pub(super) const fn new() -> Self {
        Self {
            free: Bins::new(),
            records: ptr::null_mut(),
            mapped_pages: 0,
            used_pages: 0,
            used_pages_peak: 0,
            used_pages_round: 0,
            used_pages_grown: 0,
            held_pages_grown: 0,
            huge: Huge::new(),
        }
    }

    /// Bytes of memory: mapped, in use by blocks and chunks, and idle but still there.
    pub(super) fn bytes(&self) -> (usize, usize, usize) {
        (
            self.mapped_pages * OS_PAGE_BYTES,
            self.used_pages * OS_PAGE_BYTES,
            self.free.dirty_pages() * OS_PAGE_BYTES,
        )
    }

    /// Free extents, if each is where it belongs: for the checker.
    pub(super) fn count_free(&self) -> Option<usize> {
        self.free.count()
    }

    /// The block in use that starts here.
    pub(super) fn find(&mut self, block: NonNull<u8>) -> Result<NonNull<Extent>, FreeError> {
        let address = block.addr().get();
        let page = address / OS_PAGE_BYTES;
        let Some(extent) = extent::at(page) else {
            return Err(Self::reason(page));
        };
        // SAFETY: the store's record, under its lock.
        let record = unsafe { extent.as_ref() };
        match record.state {
            State::Block if record.first * OS_PAGE_BYTES == address => {
                if record.is_allocated() || !IS_CHECKED {
                    Ok(extent)
                } else {
                    Err(FreeError::AlreadyFreed)
                }
            }
            State::Free => Err(FreeError::AlreadyFreed),
            State::Block => Err(FreeError::Interior),
            State::Chunk => Err(FreeError::Foreign),
        }
    }

    /// Why no block starts at this page, at which no extent is entered: the one around it says so.
    fn reason(page: usize) -> FreeError {
        // SAFETY: the store's record, under its lock, which the caller holds.
        match extent::entered_before(page).map(|extent| unsafe { extent.as_ref() }) {
            Some(extent) if extent.end > page => match extent.state {
                State::Free => FreeError::AlreadyFreed,
                State::Block => FreeError::Interior,
                // A place of a chunk that no class has.
                State::Chunk => FreeError::Foreign,
            },
            _ => FreeError::Foreign,
        }
    }

    /// An extent of `pages` for use. None: no memory.
    pub(super) fn take(
        &mut self,
        pages: usize,
        alignment_pages: usize,
        state: State,
        to_grow: bool,
    ) -> Option<NonNull<Extent>> {
        let to_guard = state == State::Block && options::is_secure();
        let pages = pages.checked_add(usize::from(to_guard))?;
        if !self.make_way_for(pages) {
            return None;
        }
        // What grows gets room to grow, in clean memory, so that its pages can move there; unless so much
        // is idle that copying is the better way.
        let idle_pages_allowed = (self.used_pages / 4).max(IDLE_PAGES_MIN);
        let to_grow =
            to_grow && (pages > COPY_PAGES_MAX || self.free.dirty_pages() <= idle_pages_allowed);
        let dirty = if to_grow || to_guard {
            None
        } else {
            self.free.find_dirty(pages, alignment_pages)
        };
        if !to_grow
            && !to_guard
            && dirty.is_none()
            && let Some(extent) = self.take_joint(pages, alignment_pages, state)
        {
            return Some(extent);
        }
        // What grows, or ends at a guard, is to have clean memory.
        let dirty = dirty.or_else(|| {
            let is_any = !to_grow && !to_guard;
            is_any.then(|| self.take_huge(pages, alignment_pages))?
        });
        let mut extent = match dirty {
            Some(dirty) => dirty,
            None => self.find_or_grow(pages, alignment_pages, to_grow)?,
        };
        // SAFETY: a free extent in its bin, in which the pages fit.
        unsafe {
            let mut first = extent.as_ref().place_for(pages, alignment_pages)?;
            if self.cut(extent, first, first + pages, state).is_none() {
                // No memory for records, while there is idle memory: its addresses go back for them.
                self.purge_all();
                extent = self.find_or_grow(pages, alignment_pages, to_grow)?;
                first = extent.as_ref().place_for(pages, alignment_pages)?;
                self.cut(extent, first, first + pages, state)?;
            }
            if to_guard {
                let last = NonNull::new(extent.as_ref().last_page())?;
                // Without the guard it is a block that is a page longer.
                (*extent.as_ptr()).has_guard = secure::guard(last, OS_PAGE_BYTES);
            }
        }
        Some(extent)
    }

    /// A free extent in which the pages fit. None: no memory.
    fn find_or_grow(
        &mut self,
        pages: usize,
        alignment_pages: usize,
        to_grow: bool,
    ) -> Option<NonNull<Extent>> {
        let longest = || {
            let longest = self.free.longest_clean()?;
            // SAFETY: the store's record, under its lock.
            let place = unsafe { longest.as_ref() }.place_for(pages, alignment_pages);
            place.map(|_| longest)
        };
        to_grow
            .then(longest)
            .flatten()
            .or_else(|| self.free.find(pages, alignment_pages))
            .or_else(|| self.grow(pages, alignment_pages))
    }

    /// Pages in blocks and chunks.
    pub(super) fn used_pages(&self) -> usize {
        self.used_pages
    }

    /// Makes two extents one that follow each other; `behind` is no more.
    ///
    /// # Safety
    /// Both are in use, and the caller's.
    pub(super) unsafe fn join(&mut self, extent: NonNull<Extent>, behind: NonNull<Extent>) {
        // SAFETY: the store's records, under its lock.
        unsafe {
            let (first, middle, end) = (
                extent.as_ref().first,
                extent.as_ref().end,
                behind.as_ref().end,
            );
            extent::enter(middle, end, ptr::null_mut());
            extent::enter(first, middle, ptr::null_mut());
            (*extent.as_ptr()).end = end;
            extent::enter(first, end, extent.as_ptr());
            self.drop_record(behind);
        }
    }

    /// Makes the middle of a free extent one in use; what is left over on both sides stays free. None:
    /// no memory for records; nothing has changed.
    ///
    /// # Safety
    /// A free extent in its bin, which `first..end` lies in.
    pub(super) unsafe fn cut(
        &mut self,
        extent: NonNull<Extent>,
        first: usize,
        end: usize,
        state: State,
    ) -> Option<()> {
        // SAFETY: the store's records, under its lock.
        unsafe {
            let record = &mut *extent.as_ptr();
            let (old_first, old_end) = (record.first, record.end);
            // Everything that may fail, first.
            let mut known = usize::MAX;
            let entered = [first, first.max(1) - 1, end - 1, end]
                .into_iter()
                .filter(|page| (old_first..old_end).contains(page))
                .all(|page| {
                    let region = page / PAGES_PER_REGION;
                    core::mem::replace(&mut known, region) == region || extent::can_enter(page)
                });
            if !entered {
                return None;
            }
            let before = if old_first < first {
                Some(self.new_record()?)
            } else {
                None
            };
            let after = if end < old_end {
                match self.new_record() {
                    Some(after) => Some(after),
                    None => {
                        before
                            .into_iter()
                            .for_each(|record| self.drop_record(record));
                        return None;
                    }
                }
            } else {
                None
            };
            self.free.remove(extent);
            extent::enter(old_first, old_end, ptr::null_mut());
            for (part, part_first, part_end) in [(before, old_first, first), (after, end, old_end)]
            {
                let Some(part) = part else { continue };
                part.write(Extent {
                    first: part_first,
                    end: part_end,
                    is_dirty: record.is_dirty,
                    freed_ms: record.freed_ms,
                    state: State::Free,
                    ..Extent::nowhere()
                });
                extent::enter(part_first, part_end, part.as_ptr());
                self.free.insert(part);
            }
            (record.first, record.end, record.state) = (first, end, state);
            record.set_allocated();
            extent::enter(first, end, extent.as_ptr());
            self.used_pages += end - first;
            self.used_pages_peak = self.used_pages_peak.max(self.used_pages);
            self.used_pages_round = self.used_pages_round.max(self.used_pages);
            self.see_growth();
        }
        Some(())
    }

    /// Sees whether more is in use than was lately, or held, after pages were handed out. What is in use says it while
    /// there is idle memory still, which other blocks will want: magazines and slices that nobody needs are to serve
    /// first.
    fn see_growth(&mut self) {
        let held = self.used_pages + self.free.dirty_pages();
        let step = (self.used_pages / GROWTH_PART).max(GROWTH_PAGES_MIN);
        if held >= self.held_pages_grown + step || self.used_pages >= self.used_pages_grown + step {
            self.held_pages_grown = self.held_pages_grown.max(held);
            self.used_pages_grown = self.used_pages_grown.max(self.used_pages);
            tick::count_growth();
        }
    }

    /// Makes a block free that was in use.
    ///
    /// # Safety
    /// An extent in use, which nobody uses any more.
    pub(super) unsafe fn free_dirty(&mut self, extent: NonNull<Extent>) {
        // SAFETY: the caller says so.
        unsafe {
            self.put(extent, true, os::now_ms());
        }
        self.limit_dirty();
    }

    /// Makes an extent free and merges it with free neighbours of the same kind.
    ///
    /// # Safety
    /// An extent in use, which nobody uses any more; unless `is_dirty`, it reads as zeroes.
    pub(super) unsafe fn put(&mut self, extent: NonNull<Extent>, is_dirty: bool, now_ms: u32) {
        // SAFETY: the store's records, under its lock.
        unsafe {
            let record = &mut *extent.as_ptr();
            // The guard counts as long as it is there.
            let is_medium = record.state == State::Block && record.medium_class().is_some();
            if record.has_guard {
                let last = NonNull::new_unchecked(record.last_page());
                if !secure::unguard(last, OS_PAGE_BYTES) {
                    // A block that can be used no more: its addresses are lost, its memory is not.
                    record.set_not_here();
                    os::discard(NonNull::new_unchecked(record.start()), record.bytes());
                    return;
                }
                record.has_guard = false;
            }
            if is_medium {
                // What the map says of it holds no more. The region is known.
                pages::set_large(record.first * OS_PAGE_BYTES);
            }
            self.used_pages -= record.pages();
            (record.state, record.is_dirty, record.freed_ms) = (State::Free, is_dirty, now_ms);
            self.add_free(extent);
        }
    }

    /// Merges a free extent with neighbours of the same kind and puts it into its bin.
    ///
    /// # Safety
    /// A free extent in no bin.
    pub(super) unsafe fn add_free(&mut self, extent: NonNull<Extent>) {
        // SAFETY: the store's records, under its lock.
        unsafe {
            let record = &mut *extent.as_ptr();
            let before = record.first.checked_sub(1).and_then(extent::at);
            for neighbour in [before, extent::at(record.end)] {
                let Some(neighbour) = neighbour else { continue };
                let other = neighbour.as_ref();
                if other.state != State::Free || other.is_dirty != record.is_dirty {
                    continue;
                }
                self.free.remove(neighbour);
                // The age of the longer part counts, so that a long idle run goes back though its edges
                // are busy.
                if other.pages() > record.pages() {
                    record.freed_ms = other.freed_ms;
                }
                extent::enter(other.first, other.end, ptr::null_mut());
                extent::enter(record.first, record.end, ptr::null_mut());
                record.first = record.first.min(other.first);
                record.end = record.end.max(other.end);
                self.drop_record(neighbour);
            }
            extent::enter(record.first, record.end, extent.as_ptr());
            self.free.insert(extent);
        }
    }

    /// Makes a block shorter, or longer by what is free behind it. False: it cannot.
    ///
    /// # Safety
    /// A block in use, which is the caller's.
    pub(super) unsafe fn resize_in_place(&mut self, extent: NonNull<Extent>, pages: usize) -> bool {
        // SAFETY: the store's records, under its lock.
        unsafe {
            if extent.as_ref().has_guard {
                return extent.as_ref().usable_pages() == pages;
            }
            let (first, old_end) = (extent.as_ref().first, extent.as_ref().end);
            let end = first + pages;
            if end < old_end {
                if is_too_long(old_end - first, pages) {
                    self.shorten(extent, end);
                }
                return true;
            }
            if end == old_end {
                return true;
            }
            if !self.make_way_for(end - old_end) {
                return false;
            }
            let Some(behind) = extent::at(old_end) else {
                return false;
            };
            if behind.as_ref().state != State::Free || behind.as_ref().end < end {
                return false;
            }
            if self.cut(behind, old_end, end, State::Chunk).is_none() {
                return false;
            }
            // What was cut off is of its own now; it becomes part of the block.
            self.join(extent, behind);
            true
        }
    }

    /// Frees the end of a block. Without memory for a record it stays as long as it is.
    ///
    /// # Safety
    /// A block in use, which is the caller's, of more pages than up to `end`.
    unsafe fn shorten(&mut self, extent: NonNull<Extent>, end: usize) {
        if !extent::can_enter(end - 1) || !extent::can_enter(end) {
            return;
        }
        let Some(rest) = self.new_record() else {
            return;
        };
        // SAFETY: the store's records, under its lock.
        unsafe {
            let record = &mut *extent.as_ptr();
            let old_end = record.end;
            extent::enter(record.first, old_end, ptr::null_mut());
            record.end = end;
            extent::enter(record.first, end, extent.as_ptr());
            rest.write(Extent {
                first: end,
                end: old_end,
                state: State::Block,
                ..Extent::nowhere()
            });
            extent::enter(end, old_end, rest.as_ptr());
            self.put(rest, true, os::now_ms());
        }
    }

    /// Gets memory from the system, in which `pages` fit at a multiple of `alignment_pages`. None: it
    /// refuses.
    fn grow(&mut self, pages: usize, alignment_pages: usize) -> Option<NonNull<Extent>> {
        let needed_bytes = pages
            .checked_mul(OS_PAGE_BYTES)?
            .checked_next_multiple_of(REGION_BYTES)?;
        let wished_bytes = (self.mapped_pages * OS_PAGE_BYTES / 8)
            .clamp(GROWTH_BYTES_MIN, GROWTH_BYTES_MAX)
            .next_multiple_of(REGION_BYTES)
            .max(needed_bytes);
        // Wherever a mapping of this length begins, the pages fit. What is too much of it stays free:
        // addresses without memory.
        let alignment_bytes = alignment_pages.checked_mul(OS_PAGE_BYTES)?;
        let padded_bytes = needed_bytes.checked_add(alignment_bytes)?;
        for attempt in 0..2 {
            if attempt == 1 {
                // The last resort: addresses that are not in use.
                self.purge_all();
            }
            for bytes in [wished_bytes, needed_bytes, padded_bytes] {
                let Some(extent) = self.map(bytes) else {
                    continue;
                };
                // SAFETY: the store's record, under its lock.
                let place = unsafe { extent.as_ref() }.place_for(pages, alignment_pages);
                if place.is_some() {
                    return Some(extent);
                }
            }
        }
        None
    }

    /// A clean free extent with `bytes` that the system has not given before, merged with its
    /// neighbours. None: the system refuses.
    fn map(&mut self, bytes: usize) -> Option<NonNull<Extent>> {
        // What may fail, first: a mapping that cannot be entered would have to go back, which the system
        // may refuse.
        if !metadata::make_sure_of(RECORDS_BYTES) {
            return None;
        }
        let start = os::map(bytes)?;
        let first = start.expose_provenance().get() / OS_PAGE_BYTES;
        let end = first + bytes / OS_PAGE_BYTES;
        let record = (extent::can_enter(first) && extent::can_enter(end - 1))
            .then(|| self.new_record())
            .flatten();
        let Some(record) = record else {
            // SAFETY: got a moment ago and not used.
            unsafe { os::unmap(start, bytes) };
            return None;
        };
        self.mapped_pages += end - first;
        // As if it had been in use: `put` merges it with what is free beside it.
        self.used_pages += end - first;
        // SAFETY: fresh memory, and a record that nobody else has.
        unsafe {
            record.write(Extent {
                first,
                end,
                state: State::Block,
                ..Extent::nowhere()
            });
            extent::enter(first, end, record.as_ptr());
            // Clean: it does not matter since when it is free.
            self.put(record, false, tick::last_ms());
        }
        Some(record)
    }

    fn new_record(&mut self) -> Option<NonNull<Extent>> {
        let Some(record) = NonNull::new(self.records) else {
            return metadata::allocate();
        };
        // SAFETY: a record not in use, under the lock.
        self.records = unsafe { record.as_ref().next };
        Some(record)
    }

    /// # Safety
    /// A record that is entered nowhere.
    pub(super) unsafe fn drop_record(&mut self, record: NonNull<Extent>) {
        // SAFETY: the caller says so.
        unsafe { (*record.as_ptr()).next = self.records };
        self.records = record.as_ptr();
    }
}
