//! Slots through which threads hand trays of blocks to each other, without a lock.
//!
//! A slot is one word: the address of a tray, or 0. A tray enters by a compare-and-exchange from 0 and
//! leaves by a swap with 0, so it is always in one pair of hands, and a slot's old value never matters:
//! there is no ABA.

use core::ptr::NonNull;
use core::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{self, Acquire, Relaxed, Release},
};

use super::tray::Tray;

/// Slots per class: with the flag, a cache line.
pub(super) const SLOTS: usize = 7;

/// A word that threads share: the real one, or `loom`'s.
pub(super) trait Word {
    fn load(&self, order: Ordering) -> u64;
    fn swap(&self, new: u64, order: Ordering) -> u64;
    fn compare_exchange(&self, old: u64, new: u64, success: Ordering) -> bool;
}

impl Word for AtomicU64 {
    #[inline]
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }

    #[inline]
    fn swap(&self, new: u64, order: Ordering) -> u64 {
        self.swap(new, order)
    }

    #[inline]
    fn compare_exchange(&self, old: u64, new: u64, success: Ordering) -> bool {
        self.compare_exchange(old, new, success, Relaxed).is_ok()
    }
}

/// Puts a word that is not 0 into the first free slot. False: none is free.
fn give<W: Word>(slots: &[W], word: u64) -> bool {
    // Release pairs with the Acquire in `take`: who takes the tray sees what is in it.
    slots
        .iter()
        .any(|slot| slot.load(Relaxed) == 0 && slot.compare_exchange(0, word, Release))
}

/// Takes the word out of the last slot that has one.
fn take<W: Word>(slots: &[W]) -> Option<u64> {
    slots.iter().rev().find_map(|slot| {
        // The load first: a swap would take the cache line from the others for nothing.
        if slot.load(Relaxed) == 0 {
            return None;
        }
        // Acquire pairs with the Release in `give`.
        let word = slot.swap(0, Acquire);
        (word != 0).then_some(word)
    })
}

/// The slots of a class. On cache lines of their own.
#[repr(align(64))]
pub(super) struct Exchange {
    slots: [AtomicU64; SLOTS],
    /// Whether a tray was taken since somebody asked.
    was_used: AtomicBool,
}

const _: () = assert!(size_of::<Exchange>() == 64);

impl Exchange {
    /// Offers a tray in one of the first `slots`. False: none is free; the tray stays the caller's.
    pub(super) fn give(&self, tray: NonNull<Tray>, slots: usize) -> bool {
        give(&self.slots[..slots], tray.expose_provenance().get() as u64)
    }

    /// Takes a tray, the latest if it can be had.
    pub(super) fn take(&self) -> Option<NonNull<Tray>> {
        let tray = self.take_unseen()?;
        if !self.was_used.load(Relaxed) {
            self.was_used.store(true, Relaxed);
        }
        Some(tray)
    }

    /// The same, without its counting as use.
    pub(super) fn take_unseen(&self) -> Option<NonNull<Tray>> {
        let word = take(&self.slots)?;
        NonNull::new(core::ptr::with_exposed_provenance_mut(word as usize))
    }

    /// Whether nobody took a tray since the last call.
    pub(super) fn was_idle(&self) -> bool {
        // The load first: what nobody uses is not written to, nor touched.
        if !self.was_used.load(Relaxed) {
            return true;
        }
        self.was_used.store(false, Relaxed);
        false
    }

    /// Trays in all slots.
    pub(super) fn count(&self) -> usize {
        let is_filled = |slot: &&AtomicU64| slot.load(Relaxed) != 0;
        self.slots.iter().filter(is_filled).count()
    }
}

#[cfg(test)]
mod tests {
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicU64 as LoomU64;

    use super::*;

    impl Word for LoomU64 {
        fn load(&self, order: Ordering) -> u64 {
            self.load(order)
        }

        fn swap(&self, new: u64, order: Ordering) -> u64 {
            self.swap(new, order)
        }

        fn compare_exchange(&self, old: u64, new: u64, success: Ordering) -> bool {
            self.compare_exchange(old, new, success, Relaxed).is_ok()
        }
    }

    /// Two threads give and take; every word ends in exactly one pair of hands, in any interleaving,
    /// and whoever takes it sees what was written before it was given.
    #[test]
    fn no_tray_is_lost_or_taken_twice() {
        loom::model(|| {
            let slots = Arc::new([LoomU64::new(0), LoomU64::new(0)]);
            let content = Arc::new([LoomU64::new(0), LoomU64::new(0)]);
            let run = |thread: u64| {
                let (slots, content) = (Arc::clone(&slots), Arc::clone(&content));
                move || {
                    content[thread as usize].store(7, Relaxed);
                    let mut held = Vec::new();
                    if !give(&*slots, thread + 1) {
                        held.push(thread + 1);
                    }
                    if let Some(word) = take(&*slots) {
                        let seen = content[word as usize - 1].load(Relaxed);
                        assert_eq!(seen, 7, "written before it was given");
                        held.push(word);
                    }
                    held
                }
            };
            let other = loom::thread::spawn(run(1));
            let mut held = run(0)();
            held.extend(other.join().expect("it ends"));
            held.extend(std::iter::from_fn(|| take(&*slots)));
            held.sort_unstable();
            assert_eq!(held, [1, 2]);
        });
    }

    #[test]
    fn full_slots_refuse() {
        let slots = [const { AtomicU64::new(0) }; 3];
        for word in 1..=3 {
            assert!(give(&slots, word));
        }
        assert!(!give(&slots, 4));
        let taken: Vec<u64> = std::iter::from_fn(|| take(&slots)).collect();
        assert_eq!(taken, [3, 2, 1]);
    }
}
