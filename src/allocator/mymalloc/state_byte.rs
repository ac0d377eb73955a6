//! State bytes: what a pointer is judged by. A slice has an array of them, and so has a block of the large store, for
//! the place where it starts: one per 16, 32 or 64 bytes of address space, a *step* (see
//! [`state_shift`](super::size_class::state_shift)). At most one block starts in a step.
//!
//! | the block that starts in the step | its state byte | lowest bits |
//! |---|---|---|
//! | allocated | the lowest byte of the block's address, a multiple of 16 | 00 |
//! | on its way: in a magazine, or offered to other threads | the same, inverted | 11 |
//! | at home in its slice | the same, inverted but for the lowest bit | 10 |
//! | none starts here, or none was carved yet | the lowest byte of the step's address, inverted | 11 |
//!
//! A pointer is an allocated block if and only if its step's byte is its own lowest one: the bits of that byte which
//! all addresses of a step have in common are inverted in any other state, so that no address of the step passes,
//! aligned or not, wherever it points, and whatever the program wrote into its blocks. (A step has at most 64 bytes,
//! so two bits at least are common.)
//!
//! Who allocates a block writes its byte without a look at the old one: another processor may have the cache line, and
//! nothing waits for a write.

use super::size_class::state_shift;

/// Of the byte of a block that is free: whether it is on its way. Not so of blocks at home.
const ON_ITS_WAY: u8 = 1;

/// The state byte of the block at this address when it is allocated.
#[inline(always)]
pub(super) const fn allocated(block: usize) -> u8 {
    block as u8
}

/// The state byte of the block at this address when it is on its way. (The short path of `free` has an instruction of
/// its own for it.)
#[inline(always)]
pub(super) const fn on_its_way(block: usize) -> u8 {
    !(block as u8)
}

/// The state byte of the block at this address when it is at home.
#[inline(always)]
pub(super) const fn at_home(block: usize) -> u8 {
    on_its_way(block) & !ON_ITS_WAY
}

/// The lowest byte of the address of the block that is at home by this state byte.
#[inline(always)]
pub(super) const fn block_at_home(state: u8) -> u8 {
    !(state | ON_ITS_WAY)
}

/// The lowest bit of each byte of the word whose block is at home.
#[inline(always)]
pub(super) const fn which_are_at_home(word: u64) -> u64 {
    // The two lowest bits are 10.
    !word & (word >> 1) & u64::from_ne_bytes([1; 8])
}

/// Whether the state byte of an address's step says that an allocated block starts exactly there.
#[inline(always)]
pub(super) const fn is_allocated(state: u8, address: usize) -> bool {
    state == allocated(address)
}

/// The state byte of a step of this class in which no block starts, or none was carved yet. `index`: which step, from
/// any multiple of 256 bytes on.
pub(super) const fn of_none(class: usize, index: usize) -> u8 {
    on_its_way(index << state_shift(class))
}

/// The state bytes of eight steps, from one on that is a multiple of eight, in which no block starts.
pub(super) const fn of_none_in_word(class: usize, index: usize) -> u64 {
    let (mut bytes, mut in_word) = ([0; 8], 0);
    while in_word < 8 {
        bytes[in_word] = of_none(class, index + in_word);
        in_word += 1;
    }
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::size_class::{CLASSES, PLACE_BYTES, SIZES, blocks_in, places_max};
    use super::*;

    #[test]
    fn nothing_but_an_allocated_block_passes() {
        for (class, size) in SIZES.iter().enumerate().skip(1) {
            let (shift, places) = (state_shift(class), places_max(class));
            let mut states: Vec<u8> = (0..(places * PLACE_BYTES) >> shift)
                .map(|index| of_none(class, index))
                .collect();
            let none_passes = |states: &[u8]| {
                (0..places * PLACE_BYTES)
                    .all(|address| !is_allocated(states[address >> shift], address))
            };
            assert!(none_passes(&states));
            let blocks = || (0..blocks_in(class, places)).map(|block| block * size);
            for state in [on_its_way, at_home] {
                blocks().for_each(|block| states[block >> shift] = state(block));
                assert!(none_passes(&states), "{class}");
            }
            for block in blocks() {
                let state = &mut states[block >> shift];
                *state = allocated(block);
                let step = (block >> shift) << shift;
                let passes = (step..step + (1 << shift)).filter(|at| is_allocated(*state, *at));
                assert!(passes.eq([block]), "{class}");
                *state = on_its_way(block);
            }
        }
    }

    #[test]
    fn blocks_at_home_are_found_in_words() {
        for class in [1, 2, 4, 5, CLASSES - 1] {
            let step = 1 << state_shift(class);
            let none = of_none_in_word(class, 8);
            assert_eq!(which_are_at_home(none), 0);
            for in_word in 0..8 {
                for block in [(8 + in_word) * step, (8 + in_word) * step + step - 16] {
                    for (state, is_home) in [
                        (allocated(block), false),
                        (on_its_way(block), false),
                        (at_home(block), true),
                    ] {
                        let mut bytes = none.to_ne_bytes();
                        bytes[in_word] = state;
                        let found = which_are_at_home(u64::from_ne_bytes(bytes)).to_ne_bytes();
                        assert_eq!(found[in_word] == 1, is_home);
                        assert_eq!(found.iter().sum::<u8>(), u8::from(is_home));
                    }
                    assert_eq!(block_at_home(at_home(block)), block as u8);
                }
            }
        }
    }
}
