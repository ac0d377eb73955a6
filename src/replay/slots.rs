//! A table with one entry per slot, which the threads of a replay share without a lock.
//!
//! Compiling sees to it that two threads never use one slot at the same time: a slot goes from one
//! thread to another only where the second waits for the first (see `threaded::compile`).

use core::marker::PhantomData;

/// The entries, all of them initialised.
#[derive(Debug)]
pub struct SlotTable<'a, T> {
    start: *mut T,
    length: usize,
    marker: PhantomData<&'a mut [T]>,
}

// Not derived: that would ask the same of `T`.
impl<T> Clone for SlotTable<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SlotTable<'_, T> {}

// SAFETY: entries are reached through unsafe functions only, whose callers vouch that no other
// thread uses the same slot meanwhile; entries are plain numbers and pointers, which may change
// threads.
unsafe impl<T> Send for SlotTable<'_, T> {}
// SAFETY: as above.
unsafe impl<T> Sync for SlotTable<'_, T> {}

impl<'a, T: Copy> SlotTable<'a, T> {
    /// Takes the entries over for as long as the table, or a copy of it, lives.
    pub fn new(entries: &'a mut [T]) -> Self {
        Self {
            start: entries.as_mut_ptr(),
            length: entries.len(),
            marker: PhantomData,
        }
    }

    /// Addresses of the entries.
    pub fn range(&self) -> core::ops::Range<usize> {
        let start = self.start.addr();
        start..start + self.length * size_of::<T>()
    }

    /// Number of slots.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no slot at all.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The entry.
    ///
    /// # Safety
    /// `slot` is below [`SlotTable::len`], and no other thread writes it meanwhile.
    #[inline(always)]
    pub unsafe fn get(&self, slot: usize) -> T {
        debug_assert!(slot < self.length);
        // SAFETY: the caller's promise; the slice given to `new` had so many entries.
        unsafe { *self.start.add(slot) }
    }

    /// The entry, to change.
    ///
    /// # Safety
    /// `slot` is below [`SlotTable::len`], and nobody uses it in another way while the reference
    /// lives.
    pub unsafe fn entry(&self, slot: usize) -> &'a mut T {
        debug_assert!(slot < self.length);
        // SAFETY: the caller's promise; the slice given to `new` had so many entries, and is borrowed
        // for as long.
        unsafe { &mut *self.start.add(slot) }
    }

    /// Sets the entry.
    ///
    /// # Safety
    /// `slot` is below [`SlotTable::len`], and no other thread uses it meanwhile.
    #[inline(always)]
    pub unsafe fn set(&self, slot: usize, entry: T) {
        debug_assert!(slot < self.length);
        // SAFETY: as in `get`.
        unsafe { *self.start.add(slot) = entry }
    }
}
