//! The lower bound of memory: live bytes of each size class rounded up to whole OS pages. An allocator
//! that wastes nothing else, but keeps blocks of different classes on different pages, would need it.

#![forbid(unsafe_code)]

/// Four classes for each power of two, and one for each of the smallest sizes.
const CLASSES: usize = 64 * 4;

/// Live bytes by size class.
#[derive(Clone, Debug)]
pub struct LivePages {
    page_bytes: u64,
    class_bytes: [u64; CLASSES],
    rounded_bytes: u64,
}

impl LivePages {
    /// Nothing is live. `page_bytes` is the size of an OS page.
    pub fn new(page_bytes: u64) -> Self {
        Self {
            page_bytes,
            class_bytes: [0; CLASSES],
            rounded_bytes: 0,
        }
    }

    /// Live bytes, each class rounded up to whole OS pages.
    pub fn bytes(&self) -> u64 {
        self.rounded_bytes
    }

    /// A block of so many requested bytes more.
    pub fn add(&mut self, size: u64) {
        self.change(size, u64::wrapping_add);
    }

    /// One less.
    pub fn remove(&mut self, size: u64) {
        self.change(size, u64::wrapping_sub);
    }

    /// Wrapping: an allocator that hands out a block twice must not end the measurement.
    fn change(&mut self, size: u64, by: fn(u64, u64) -> u64) {
        let bytes = &mut self.class_bytes[class_of(size)];
        let rounded = |bytes: u64| {
            bytes
                .div_ceil(self.page_bytes)
                .wrapping_mul(self.page_bytes)
        };
        let before = rounded(*bytes);
        *bytes = by(*bytes, size);
        self.rounded_bytes = self
            .rounded_bytes
            .wrapping_sub(before)
            .wrapping_add(rounded(*bytes));
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

    proptest! {
        #[test]
        fn agrees_with_a_sum_over_the_live_blocks(
            sizes in prop::collection::vec((0u64..200_000, any::<bool>()), 1..200),
        ) {
            let mut pages = LivePages::new(4096);
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
