//! What goes back to the system, and when.
//!
//! Memory that becomes free stays for a while: it goes back to the system when it has been idle for the
//! purge delay, or when used and idle memory together are more than the most that was in use lately and
//! a quarter (or 64 MiB) above it. What goes back then is what has been idle the longest, and a little
//! more than must, so that a program which frees and takes in turns does not pay for it each time.

use core::ptr::{self, NonNull};

use super::super::os::{self, OS_PAGE_BYTES};
use super::extent::{self, Extent};
use super::options;
use super::store::Store;

/// Idle memory beyond the most in use lately that is always allowed, in pages: 64 MiB.
const DIRTY_PAGES_ALLOWED: usize = (64 << 20) / OS_PAGE_BYTES;
/// Free extents from here on go back to the system with their addresses.
const UNMAP_PAGES_MIN: usize = (32 << 20) / OS_PAGE_BYTES;

impl Store {
    /// Gives the memory of extents back to the system that have been free for `delay_ms`.
    pub(super) fn purge(&mut self, now_ms: u32, delay_ms: u32) {
        // What was in use once counts for less each time.
        self.used_pages_peak -= (self.used_pages_peak - self.used_pages) / 8;
        let held = self.used_pages + self.free.dirty_pages();
        self.held_pages_grown -= self.held_pages_grown.saturating_sub(held) / 8;
        // Towards the most of this round, and slowly: what goes up and down by turns has not grown each time.
        let round = core::mem::replace(&mut self.used_pages_round, self.used_pages);
        self.used_pages_grown -= self.used_pages_grown.saturating_sub(round) / 32;
        self.purge_while(|_, extent| now_ms.wrapping_sub(extent.freed_ms) >= delay_ms);
    }

    /// Gives idle memory back, if so many more pages in use would otherwise be beyond the limit. False:
    /// they would be, all the same.
    pub(super) fn make_way_for(&mut self, pages: usize) -> bool {
        let limit = options::limit_pages();
        let allowed = limit.saturating_sub(self.used_pages);
        if pages > allowed {
            return false;
        }
        // A dirty extent that will be used counts as idle here: a little more goes back than must.
        if limit != usize::MAX && self.free.dirty_pages() > allowed - pages {
            self.purge_while(|store, _| store.free.dirty_pages() > allowed - pages);
            return self.free.dirty_pages() <= allowed - pages;
        }
        true
    }

    /// Gives everything that is idle back, addresses and all.
    pub(super) fn purge_all(&mut self) {
        self.purge_while(|_, _| true);
        self.unmap_free();
    }

    /// Gives memory back if more is idle than may be.
    pub(super) fn limit_dirty(&mut self) {
        let total = self.used_pages_peak + (self.used_pages_peak / 4).max(DIRTY_PAGES_ALLOWED);
        let allowed = total.saturating_sub(self.used_pages);
        if self.free.dirty_pages() > allowed && options::purge_delay_ms().is_some() {
            self.purge_while(|store, _| store.free.dirty_pages() > allowed / 8 * 7);
        }
    }

    /// Gives the memory of dirty extents back, the oldest first, while the condition holds and the
    /// system takes it.
    fn purge_while(&mut self, condition: impl Fn(&Self, &Extent) -> bool) {
        while let Some(extent) = self.free.oldest_dirty() {
            // SAFETY: a free extent in its bin holds nothing that is needed; under the lock.
            unsafe {
                if !condition(self, extent.as_ref()) {
                    return;
                }
                if extent.as_ref().pages() >= UNMAP_PAGES_MIN && self.unmap_extent(extent) {
                    continue;
                }
                let start = NonNull::new_unchecked(extent.as_ref().start());
                if !os::discard(start, extent.as_ref().bytes()) {
                    return;
                }
                self.free.remove(extent);
                (*extent.as_ptr()).is_dirty = false;
                self.add_free(extent);
            }
        }
    }

    /// Gives a free extent back to the system, addresses and all. False: the system refused.
    ///
    /// # Safety
    /// A free extent in its bin.
    unsafe fn unmap_extent(&mut self, extent: NonNull<Extent>) -> bool {
        // SAFETY: a free extent holds nothing that is needed; under the lock. The pages were mapped by
        // `grow`.
        unsafe {
            let record = extent.as_ref();
            let start = NonNull::new_unchecked(record.start());
            if !os::unmap(start, record.bytes()) {
                return false;
            }
            self.free.remove(extent);
            self.mapped_pages -= record.pages();
            extent::enter(record.first, record.end, ptr::null_mut());
            self.drop_record(extent);
        }
        true
    }

    /// Gives all free extents back, addresses and all.
    fn unmap_free(&mut self) {
        for index in 0..extent::BINS {
            let mut candidate = self.free.first_clean(index);
            while let Some(extent) = candidate {
                // SAFETY: a free extent in its bin, under the lock.
                unsafe {
                    candidate = NonNull::new(extent.as_ref().next);
                    self.unmap_extent(extent);
                }
            }
        }
    }
}
