//! Which bytes of the address space belong to live blocks: one bit per eight bytes, in memory of our
//! own, so that an allocator under test can neither disturb it nor be disturbed by it.
//!
//! The address space is cut into regions of 1 MiB; an open-addressing table maps a region to its
//! bitmap of 16 KiB. Both are reserved at once and committed by use.

use memmap2::{MmapMut, MmapOptions};

/// Bytes per bit. No allocator gives two blocks a common eight bytes: every block is aligned to 8.
const GRANULE_BYTES: usize = 8;
const REGION_BYTES: usize = 1 << 20;
const WORDS_PER_REGION: usize = REGION_BYTES / GRANULE_BYTES / 64;
/// Regions that can hold blocks at any time of a replay: 256 GiB of address space.
const REGION_LIMIT: usize = 1 << 18;
const TABLE_LENGTH: usize = REGION_LIMIT * 2;

/// The shadow map.
#[derive(Debug)]
pub struct Shadow {
    /// Region number + 1 in even places, its bitmap's number in odd ones; 0 is vacant.
    table: MmapMut,
    bitmaps: MmapMut,
    regions: usize,
}

/// Why a block could not be entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Some of its bytes belong to a live block.
    Overlap,
    /// The blocks are spread over more of the address space than the map covers.
    Full,
}

impl Shadow {
    /// Reserves the map; some 4 GiB of addresses, hardly any memory.
    pub fn new() -> std::io::Result<Self> {
        let reserve = |bytes: usize| MmapOptions::new().len(bytes).no_reserve_swap().map_anon();
        Ok(Self {
            table: reserve(TABLE_LENGTH * 2 * size_of::<u64>())?,
            bitmaps: reserve(REGION_LIMIT * WORDS_PER_REGION * size_of::<u64>())?,
            regions: 0,
        })
    }

    /// Enters a block of `bytes` at `address`, a multiple of 8. Nothing is entered on refusal.
    pub fn insert(&mut self, address: usize, bytes: usize) -> Result<(), Refusal> {
        let mut overlap = false;
        let complete = self.each_word(address, bytes, |word, mask| overlap |= *word & mask != 0);
        if !complete {
            return Err(Refusal::Full);
        }
        if overlap {
            return Err(Refusal::Overlap);
        }
        self.each_word(address, bytes, |word, mask| *word |= mask);
        Ok(())
    }

    /// Takes a block out again.
    pub fn remove(&mut self, address: usize, bytes: usize) {
        self.each_word(address, bytes, |word, mask| *word &= !mask);
    }

    /// Calls `change` with each word of the bitmaps that the block has bits in, and those bits.
    /// Returns whether the map could cover all of them.
    fn each_word(
        &mut self,
        address: usize,
        bytes: usize,
        mut change: impl FnMut(&mut u64, u64),
    ) -> bool {
        let mut granule = address / GRANULE_BYTES;
        // An empty block has an address of its own, so it takes one granule.
        let end = granule + bytes.div_ceil(GRANULE_BYTES).max(1);
        while granule < end {
            let region = granule * GRANULE_BYTES / REGION_BYTES;
            let region_end = (region + 1) * (REGION_BYTES / GRANULE_BYTES);
            let Some(bitmap) = self.bitmap(region) else {
                return false;
            };
            let stop = end.min(region_end);
            while granule < stop {
                let bit = granule % 64;
                let count = (64 - bit).min(stop - granule);
                let mask = (u64::MAX >> (64 - count)) << bit;
                change(&mut bitmap[granule / 64 % WORDS_PER_REGION], mask);
                granule += count;
            }
        }
        true
    }

    fn bitmap(&mut self, region: usize) -> Option<&mut [u64]> {
        let key = region as u64 + 1;
        let table = as_words(&mut self.table);
        // Fibonacci hashing: neighbouring regions spread over the table.
        let mut place = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize % TABLE_LENGTH;
        while table[place * 2] != key {
            if table[place * 2] == 0 {
                if self.regions == REGION_LIMIT {
                    return None;
                }
                table[place * 2] = key;
                table[place * 2 + 1] = self.regions as u64;
                self.regions += 1;
                break;
            }
            place = (place + 1) % TABLE_LENGTH;
        }
        let start = table[place * 2 + 1] as usize * WORDS_PER_REGION;
        Some(&mut as_words(&mut self.bitmaps)[start..start + WORDS_PER_REGION])
    }
}

fn as_words(map: &mut MmapMut) -> &mut [u64] {
    // SAFETY: every bit pattern is a u64; a mapping is aligned to an OS page, so nothing is cut off.
    unsafe { map.align_to_mut::<u64>().1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_list_of_intervals(
            blocks in prop::collection::vec((0usize..400_000, 0usize..3_000, any::<bool>()), 1..120),
        ) {
            // Around the boundary of two regions.
            let base = (0x7f12_3450_0000 & !(REGION_BYTES - 1)) - 200_000 * GRANULE_BYTES / 2;
            let mut shadow = Shadow::new().expect("addresses");
            let mut live: Vec<(usize, usize)> = Vec::new();
            for (granule, bytes, release) in blocks {
                if release && let Some((address, bytes)) = live.pop() {
                    shadow.remove(address, bytes);
                }
                let address = base + granule * GRANULE_BYTES;
                let end = |address: usize, bytes: usize| {
                    address + bytes.next_multiple_of(GRANULE_BYTES).max(GRANULE_BYTES)
                };
                let overlaps = live.iter().any(|(other, length)| {
                    address < end(*other, *length) && *other < end(address, bytes)
                });
                let entered = shadow.insert(address, bytes);
                prop_assert_eq!(entered, if overlaps { Err(Refusal::Overlap) } else { Ok(()) });
                if !overlaps {
                    live.push((address, bytes));
                }
            }
        }
    }
}
