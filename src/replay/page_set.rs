//! A set of OS pages of the whole address space: one bit each, in memory of our own, so that an
//! allocator under test neither serves nor disturbs it.
//!
//! Two levels: an index over the 48 bits of user addresses, and leaves of one bit per OS page. Both are
//! reserved at once and committed by use.

use core::ops::Range;

use memmap2::{MmapMut, MmapOptions};

/// User addresses have so many bits.
const ADDRESS_BITS: u32 = 48;
/// OS pages of one leaf, which takes 4 KiB.
const LEAF_PAGES: usize = 1 << 15;
const LEAF_WORDS: usize = LEAF_PAGES / 64;
/// Leaves: 32 TiB of addresses may be spread over the address space.
const LEAF_LIMIT: usize = 1 << 18;

/// See the module text. Pages are named by number: address ÷ page size.
#[derive(Debug)]
pub struct PageSet {
    /// Number of the leaf + 1; 0 where there is none.
    index: MmapMut,
    leaves: MmapMut,
    leaf_count: usize,
    overflowed: bool,
}

impl PageSet {
    /// An empty set; some GiB of addresses, hardly any memory. `page_bytes` is the size of an OS page.
    pub fn new(page_bytes: usize) -> std::io::Result<Self> {
        let reserve = |bytes: usize| MmapOptions::new().len(bytes).no_reserve_swap().map_anon();
        let pages = (1usize << ADDRESS_BITS) / page_bytes;
        Ok(Self {
            index: reserve(pages / LEAF_PAGES * size_of::<u32>())?,
            leaves: reserve(LEAF_LIMIT * LEAF_WORDS * size_of::<u64>())?,
            leaf_count: 0,
            overflowed: false,
        })
    }

    /// Takes every page out. `None` if the system does not give the memory back.
    pub fn clear(&mut self) -> Option<()> {
        for map in [&mut self.index, &mut self.leaves] {
            // SAFETY: an anonymous private mapping of ours alone: it is all zeroes again, which is
            // the empty set, and nothing is borrowed from it.
            unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) }.ok()?;
        }
        (self.leaf_count, self.overflowed) = (0, false);
        Some(())
    }

    /// Addresses of the set's own memory: no part of what it describes.
    pub fn own_memory(&self) -> [Range<usize>; 2] {
        [&self.index, &self.leaves].map(|map| {
            let start = map.as_ptr().addr();
            start..start + map.len()
        })
    }

    /// Memory that the set takes, but for its index, which is some OS pages at most.
    pub fn leaf_bytes(&self) -> u64 {
        (self.leaf_count * LEAF_WORDS * size_of::<u64>()) as u64
    }

    /// Whether pages did not fit and are missing from the set.
    pub fn is_overflowed(&self) -> bool {
        self.overflowed
    }

    /// Enters a run of pages.
    pub fn insert(&mut self, pages: Range<usize>) {
        let mut page = pages.start;
        while page < pages.end {
            let bit = page % 64;
            let count = (64 - bit).min(pages.end - page);
            match self.leaf(page / LEAF_PAGES) {
                Some(leaf) => {
                    leaf[page % LEAF_PAGES / 64] |= (u64::MAX >> (64 - count)) << bit;
                    page += count;
                }
                None => {
                    self.overflowed = true;
                    return;
                }
            }
        }
    }

    /// Whether the page was entered.
    pub fn contains(&self, page: usize) -> bool {
        // SAFETY: every bit pattern is a u32 or u64; mappings are aligned to an OS page.
        let (index, leaves) = unsafe {
            (
                self.index.align_to::<u32>().1,
                self.leaves.align_to::<u64>().1,
            )
        };
        match index.get(page / LEAF_PAGES) {
            None | Some(0) => false,
            Some(number) => {
                let word = (*number as usize - 1) * LEAF_WORDS + page % LEAF_PAGES / 64;
                leaves[word] >> (page % 64) & 1 != 0
            }
        }
    }

    fn leaf(&mut self, number: usize) -> Option<&mut [u64]> {
        // SAFETY: as in `contains`.
        let (index, leaves) = unsafe {
            (
                self.index.align_to_mut::<u32>().1,
                self.leaves.align_to_mut::<u64>().1,
            )
        };
        let entry = index.get_mut(number)?;
        if *entry == 0 {
            if self.leaf_count == LEAF_LIMIT {
                return None;
            }
            self.leaf_count += 1;
            *entry = self.leaf_count as u32;
        }
        let start = (*entry as usize - 1) * LEAF_WORDS;
        leaves.get_mut(start..start + LEAF_WORDS)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_list_of_pages(
            runs in prop::collection::vec((0usize..3 * LEAF_PAGES, 0usize..300), 0..40),
            probes in prop::collection::vec(0usize..4 * LEAF_PAGES, 200),
        ) {
            // Across the borders of leaves.
            let base = 0x7f12_3450_0000 / 4096 / LEAF_PAGES * LEAF_PAGES;
            let mut set = PageSet::new(4096).expect("addresses");
            let mut model = BTreeSet::new();
            for (start, length) in runs {
                set.insert(base + start..base + start + length);
                model.extend(base + start..base + start + length);
            }
            for probe in probes.into_iter().map(|page| base + page).chain(model.iter().copied()) {
                prop_assert_eq!(set.contains(probe), model.contains(&probe));
            }
            prop_assert!(!set.is_overflowed());
            set.clear().expect("given back");
            prop_assert!(model.iter().all(|page| !set.contains(*page)));
            set.insert(base..base + 1);
            prop_assert!(set.contains(base) && !set.contains(base + 1));
        }
    }

    #[test]
    fn addresses_that_no_user_has_overflow() {
        let mut set = PageSet::new(4096).expect("addresses");
        set.insert(usize::MAX / 4096..usize::MAX / 4096 + 1);
        assert!(set.is_overflowed());
    }
}
