//! A block made of a dirty extent, too short for it, and of clean ones beside it: memory that is there
//! already is used before new memory is touched. Each kind stays apart while it is free.

use core::ptr::NonNull;

use super::super::os;
use super::extent::{self, Extent, State};
use super::store::Store;

/// Dirty extents that are looked at for one that, with clean ones beside it, is long enough.
const JOINT_LOOKS: usize = 12;
/// The least part of a block that is worth it, as a divisor.
const JOINT_PART_MIN: usize = 8;

impl Store {
    /// An extent for use of this kind. None: none was found, or no memory for records; nothing is in
    /// use then that was not.
    pub(super) fn take_joint(
        &mut self,
        pages: usize,
        alignment_pages: usize,
        state: State,
    ) -> Option<NonNull<Extent>> {
        let found = self.free.find_longest_dirty(JOINT_LOOKS, |dirty| {
            Self::window_around(dirty, pages, alignment_pages).map(|first| (dirty, first))
        });
        let (dirty, first) = found?;
        let end = first + pages;
        // SAFETY: the store's record, under its lock.
        let (dirty_first, dirty_end) = unsafe { (dirty.as_ref().first, dirty.as_ref().end) };
        let before = (first < dirty_first).then(|| extent::at(dirty_first - 1));
        let after = (end > dirty_end).then(|| extent::at(dirty_end));
        let parts = [before.flatten(), Some(dirty), after.flatten()];
        let mut joint: Option<NonNull<Extent>> = None;
        for part in parts.into_iter().flatten() {
            // SAFETY: free extents in their bins, side by side, under the lock; what has been cut off is
            // ours.
            unsafe {
                let (from, to) = (part.as_ref().first.max(first), part.as_ref().end.min(end));
                if self.cut(part, from, to, State::Chunk).is_none() {
                    joint
                        .into_iter()
                        .for_each(|joint| self.put(joint, true, os::now_ms()));
                    return None;
                }
                match joint {
                    None => joint = Some(part),
                    Some(joint) => self.join(joint, part),
                }
            }
        }
        let joint = joint?;
        // SAFETY: the store's record, under its lock; nobody has the memory yet.
        unsafe {
            ((*joint.as_ptr()).state, (*joint.as_ptr()).is_dirty) = (state, true);
        }
        Some(joint)
    }

    /// Where `pages` fit that take in a dirty extent, as much of it as can be, and free ones beside it.
    fn window_around(
        dirty: NonNull<Extent>,
        pages: usize,
        alignment_pages: usize,
    ) -> Option<usize> {
        // SAFETY: the store's record, under its lock, which the caller holds.
        let dirty = unsafe { dirty.as_ref() };
        if dirty.pages() < pages / JOINT_PART_MIN {
            return None;
        }
        let before = dirty.first.checked_sub(1).and_then(Self::free_at_end_of);
        let start = before.map_or(dirty.first, |(first, _)| first);
        let end = Self::free_at_end_of(dirty.end).map_or(dirty.end, |(_, end)| end);
        let wished = dirty.first.min(end.checked_sub(pages)?);
        let below = wished & !(alignment_pages - 1);
        let above = extent::align_up(wished, alignment_pages)?;
        let fits = |first: &usize| {
            *first >= start
                && *first + pages <= end
                && *first < dirty.end
                && *first + pages > dirty.first
        };
        [below, above].into_iter().find(fits)
    }

    /// First page and end of the free extent that begins or ends at this page.
    fn free_at_end_of(page: usize) -> Option<(usize, usize)> {
        // SAFETY: the store's record, under its lock, which the caller holds.
        let extent = unsafe { extent::at(page)?.as_ref() };
        (extent.state == State::Free).then_some((extent.first, extent.end))
    }
}
