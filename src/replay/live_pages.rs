//! A reference for memory: live bytes of each size class rounded up to whole OS pages. An allocator
//! that wastes nothing else, but keeps one run of pages for each class, would need it. It is no lower
//! bound: one that mixes classes on its pages can do with less. The bound is the live bytes.

#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Four classes for each power of two, and one for each of the smallest sizes.
const CLASSES: usize = 64 * 4;

/// Live bytes by size class, counted by any number of threads: each change is whole, so that the sum
/// is right whenever none is under way.
#[derive(Debug)]
pub struct LivePages {
    page_bytes: u64,
    class_bytes: [AtomicU64; CLASSES],
    rounded_bytes: AtomicU64,
}

impl LivePages {
    /// Nothing is live. `page_bytes` is the size of an OS page.
    pub fn new(page_bytes: u64) -> Self {
        Self {
            page_bytes,
            class_bytes: [const { AtomicU64::new(0) }; CLASSES],
            rounded_bytes: AtomicU64::new(0),
        }
    }

    /// Live bytes, each class rounded up to whole OS pages.
    pub fn bytes(&self) -> u64 {
        self.rounded_bytes.load(Relaxed)
    }

    /// A block of so many requested bytes more.
    pub fn add(&self, size: u64) {
        let before = self.class_bytes[class_of(size)].fetch_add(size, Relaxed);
        self.change(before, before.wrapping_add(size));
    }

    /// One less.
    pub fn remove(&self, size: u64) {
        let before = self.class_bytes[class_of(size)].fetch_sub(size, Relaxed);
        self.change(before, before.wrapping_sub(size));
    }

    /// Wrapping: an allocator that hands out a block twice must not end the measurement.
    fn change(&self, before: u64, after: u64) {
        let rounded = |bytes: u64| {
            bytes
                .div_ceil(self.page_bytes)
                .wrapping_mul(self.page_bytes)
        };
        let more = rounded(after).wrapping_sub(rounded(before));
        self.rounded_bytes.fetch_add(more, Relaxed);
    }
}

/// Sizes of one class lie in the same quarter between two powers of two: 17-20, 21-24, 25-28, 29-32.
fn class_of(size: u64) -> usize {
    let below = size.saturating_sub(1);
    if below < 4 {
        return below as usize;
    }
    let exponent = below.ilog2();
    (exponent * 4 + (below >> (exponent - 2) & 3) as u32) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn classes_are_quarters_of_powers_of_two() {
        assert_eq!(class_of(17), class_of(20));
        assert_eq!(class_of(29), class_of(32));
        assert!(class_of(20) < class_of(21) && class_of(32) < class_of(33));
        assert_eq!(class_of(0), class_of(1));
        assert!(class_of(u64::MAX) < CLASSES);
        assert!((1..100_000).map(class_of).is_sorted());
    }

    #[test]
    fn threads_count_together() {
        let pages = LivePages::new(4096);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let pages = &pages;
                scope.spawn(move || {
                    for number in 0..10_000u64 {
                        let size = (number * 7919 + thread * 31) % 60_000;
                        pages.add(size);
                        if number % 8 != 0 {
                            pages.remove(size);
                        }
                    }
                });
            }
        });
        let mut classes = BTreeMap::new();
        for (thread, number) in (0..4u64).flat_map(|t| (0..10_000u64).map(move |n| (t, n))) {
            let size = (number * 7919 + thread * 31) % 60_000;
            if number % 8 == 0 {
                *classes.entry(class_of(size)).or_insert(0u64) += size;
            }
        }
        let expected: u64 = classes
            .values()
            .map(|bytes| bytes.div_ceil(4096) * 4096)
            .sum();
        assert_eq!(pages.bytes(), expected);
    }

    proptest! {
        #[test]
        fn agrees_with_a_sum_over_the_live_blocks(
            sizes in prop::collection::vec((0u64..200_000, any::<bool>()), 1..200),
        ) {
            let pages = LivePages::new(4096);
            let mut live: Vec<u64> = Vec::new();
            for (size, release) in sizes {
                if release && let Some(size) = live.pop() {
                    pages.remove(size);
                }
                pages.add(size);
                live.push(size);
                let mut classes = BTreeMap::new();
                for size in &live {
                    *classes.entry(class_of(*size)).or_insert(0u64) += size;
                }
                let expected: u64 = classes.values().map(|bytes| bytes.div_ceil(4096) * 4096).sum();
                prop_assert_eq!(pages.bytes(), expected);
                prop_assert!(pages.bytes() >= live.iter().sum());
            }
        }
    }
}
