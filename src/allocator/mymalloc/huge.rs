//! Huge pages, for those who ask for them: once much memory is in use, fresh memory is got 2 MiB at a time, by
//! one call in place of 512 faults. What is not handed out at once is idle memory, as if it had been used before.
//!
//! A heap that is not large yet would hold more than it needs; so would large blocks that a program uses in
//! part. Where the system takes longer for a huge page than the faults would take (it has none at hand, and
//! has to move memory to get one), none is asked for during a while that doubles each time.

use core::ptr::NonNull;

use super::super::os::{self, HUGE_PAGE_BYTES, OS_PAGE_BYTES};
use super::extent::{Extent, State};
use super::options;
use super::store::Store;

/// OS pages of a huge page.
const HUGE_PAGES: usize = HUGE_PAGE_BYTES / OS_PAGE_BYTES;
/// So many OS pages must be in use: what is got too early is a twelfth of it at most.
const USED_PAGES_MIN: usize = 12 * HUGE_PAGES;
/// A huge page for which the system takes longer is not worth it: 512 faults take about 600 µs.
const WORTH_US: u64 = 1000;
/// Searches that pass after one that was not worth it: at first, and how often that doubles.
const WAIT_MIN: u32 = 16;
const DOUBLINGS_MAX: u32 = 8;

/// Whether it is time to ask for a huge page.
pub(super) struct Huge {
    /// Searches until the next is asked for.
    wait: u32,
    /// How often in a row it was not worth it.
    failures: u32,
}

impl Huge {
    pub(super) const fn new() -> Self {
        Self {
            wait: 0,
            failures: 0,
        }
    }

    /// When to ask the next time, after it took so long; `None`: in vain.
    fn learn(&mut self, took_us: Option<u64>) {
        if took_us.is_some_and(|us| us <= WORTH_US) {
            self.failures = 0;
        } else {
            self.wait = WAIT_MIN << self.failures;
            self.failures = (self.failures + 1).min(DOUBLINGS_MAX);
        }
    }
}

impl Store {
    /// A dirty extent in which the pages fit, made of clean memory by a huge page. None: it is not the time for
    /// one, or there is none.
    pub(super) fn take_huge(
        &mut self,
        pages: usize,
        alignment_pages: usize,
    ) -> Option<NonNull<Extent>> {
        let is_due = options::has_huge_pages()
            && self.used_pages() >= USED_PAGES_MIN
            && pages <= HUGE_PAGES
            && alignment_pages <= HUGE_PAGES
            // Whoever counts memory, or guards it page by page, wants it page by page.
            && options::limit_pages() == usize::MAX
            && !options::is_secure();
        if !is_due {
            return None;
        }
        if self.huge.wait > 0 {
            self.huge.wait -= 1;
            return None;
        }
        let extent = self.free.find_clean(HUGE_PAGES, HUGE_PAGES)?;
        // SAFETY: a free extent in its bin, in which a huge page fits; what is cut out is the store's, and
        // goes back at once: clean memory that has become a huge page still reads as zeroes, but is there.
        unsafe {
            let first = extent.as_ref().place_for(HUGE_PAGES, HUGE_PAGES)?;
            let used_before = (self.used_pages_peak, self.used_pages_grown);
            let held_before = self.held_pages_grown;
            self.cut(extent, first, first + HUGE_PAGES, State::Chunk)?;
            let begun_us = os::now_us();
            let is_huge = os::make_huge(NonNull::new(extent.as_ref().start())?);
            let took_us = os::now_us().saturating_sub(begun_us);
            self.huge.learn(is_huge.then_some(took_us));
            self.put(extent, is_huge, os::now_ms());
            // It was not in use.
            (self.used_pages_peak, self.used_pages_grown) = used_before;
            if !is_huge {
                self.held_pages_grown = held_before;
                return None;
            }
        }
        self.free.find_dirty(pages, alignment_pages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_worth_it_is_asked_for_less_and_less() {
        let mut huge = Huge::new();
        for expected in [16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 4096] {
            huge.learn(None);
            assert_eq!(huge.wait, expected);
        }
        huge.wait = 0;
        huge.learn(Some(WORTH_US));
        assert_eq!((huge.wait, huge.failures), (0, 0));
        huge.learn(Some(WORTH_US + 1));
        assert_eq!(huge.wait, WAIT_MIN);
    }
}
