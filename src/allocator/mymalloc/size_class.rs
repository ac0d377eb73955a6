//! Size classes: which block sizes exist, and which serves a request.
//!
//! Steps of 16 bytes up to 128, four per doubling up to 1024 (and one more behind 512), eight up to 2048,
//! and from there the sizes that divide a slice without a rest. Programs ask often for a power of two and
//! a few bytes, so the steps behind one are short. All are multiples of 16. Powers of two are all among them, so that a request
//! with an alignment finds a class whose blocks have it: a slice starts at a multiple of its length,
//! and a block at a multiple of its size.

/// Bytes of a slice: the unit in which memory is given to size classes.
pub(super) const SLICE_BYTES: usize = 1 << SLICE_SHIFT;
pub(super) const SLICE_SHIFT: u32 = 15;

/// Requests beyond this are large blocks.
pub(super) const SMALL_BYTES_MAX: usize = 16384;

/// Number of classes; class 0 is "none".
pub(super) const CLASSES: usize = SIZES.len();

/// Not a class of blocks: what the class map says of a slice in which a large block starts.
pub(super) const LARGE: usize = CLASSES;

/// Block size of each class, in bytes.
pub(super) const SIZES: [usize; 44] = [
    0, 16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640, 768,
    896, 1024, 1152, 1280, 1408, 1536, 1664, 1792, 1920, 2048, 2176, 2336, 2512, 2720, 2976, 3264,
    3632, 4096, 4672, 5456, 6544, 8192, 10912, 16384,
];

/// Class of each request, by its size in units of 16 bytes, rounded up.
static CLASS_OF_UNITS: [u8; SMALL_BYTES_MAX / 16 + 1] = class_of_units();

const fn class_of_units<const N: usize>() -> [u8; N] {
    let mut table = [0; N];
    let (mut units, mut class) = (0, 1);
    while units < N {
        if units * 16 > SIZES[class] {
            class += 1;
        }
        table[units] = class as u8;
        units += 1;
    }
    table
}

/// The smallest class whose blocks hold `size` bytes, which is at most [`SMALL_BYTES_MAX`].
#[inline]
pub(super) fn class_of(size: usize) -> usize {
    usize::from(CLASS_OF_UNITS[size.div_ceil(16)])
}

/// The same for the first units, in a form of the caller's.
pub(super) const fn first_classes<const N: usize>() -> [u8; N] {
    class_of_units()
}

/// The smallest class of blocks of `size` bytes that start at multiples of `alignment`, a power of
/// two. None: there is no such class.
pub(super) fn class_of_aligned(size: usize, alignment: usize) -> Option<usize> {
    if size > SMALL_BYTES_MAX || alignment > SMALL_BYTES_MAX {
        return None;
    }
    let mut class = class_of(size.max(alignment));
    while !SIZES[class].is_multiple_of(alignment) {
        class += 1;
    }
    Some(class)
}

/// Blocks in a slice.
pub(super) const fn blocks_per_slice(class: usize) -> usize {
    SLICE_BYTES / SIZES[class]
}

/// The least [`state_shift`], and how many there are.
pub(super) const STATE_SHIFT_MIN: u32 = 4;
pub(super) const STATE_SHIFTS: usize = 3;

/// Bits of an address that stay out of a block's place among the state bytes of its slice: there is one
/// per 64 bytes, for smaller blocks one per 32 or 16, at most as many as a block has. So the state bytes of an OS page share no
/// cache line with those of another page, and threads that use different pages do not disturb each
/// other.
pub(super) const fn state_shift(class: usize) -> u32 {
    match SIZES[class] {
        ..32 => STATE_SHIFT_MIN,
        32..64 => 5,
        64.. => 6,
    }
}

/// State bytes of a slice.
pub(super) const fn states_per_slice(class: usize) -> usize {
    SLICE_BYTES >> state_shift(class)
}

/// Medium blocks are whole OS pages from the large store, kept in magazines as small blocks are. Their
/// classes follow [`LARGE`]: four per doubling up to 32 KiB, then eight.
pub(super) const MEDIUM_BYTES_MAX: usize = 256 << 10;
const MEDIUM_PAGES: [usize; 28] = [
    5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 24, 26, 28, 30, 32, 36, 40, 44, 48, 52,
    56, 60, 64,
];
/// All classes and what is between them.
pub(super) const BINS: usize = LARGE + 1 + MEDIUM_PAGES.len();

/// The class of medium blocks for `size` bytes, which is more than [`SMALL_BYTES_MAX`]. None: more than
/// [`MEDIUM_BYTES_MAX`].
pub(super) fn class_of_medium(size: usize) -> Option<usize> {
    if size > MEDIUM_BYTES_MAX {
        return None;
    }
    let pages = size.div_ceil(4096);
    Some(LARGE + 1 + MEDIUM_PAGES.partition_point(|have| *have < pages))
}

/// The class of medium blocks of exactly so many OS pages.
pub(super) fn class_of_pages(pages: usize) -> Option<usize> {
    let index = MEDIUM_PAGES.binary_search(&pages).ok()?;
    Some(LARGE + 1 + index)
}

/// Bytes of the blocks of a class, small or medium.
pub(super) const fn block_bytes(class: usize) -> usize {
    if class < CLASSES {
        SIZES[class]
    } else if class == LARGE {
        0
    } else {
        MEDIUM_PAGES[class - LARGE - 1] * 4096
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_gets_the_smallest_class_that_holds_it() {
        for size in 0..=SMALL_BYTES_MAX {
            let class = class_of(size);
            assert!(SIZES[class] >= size.max(1), "{size}");
            assert!(class == 1 || SIZES[class - 1] < size, "{size}");
        }
        assert_eq!(SIZES[CLASSES - 1], SMALL_BYTES_MAX);
    }

    #[test]
    fn every_power_of_two_has_a_class() {
        for shift in 4..=14 {
            let class = class_of_aligned(1, 1 << shift).expect("there is one");
            assert_eq!(SIZES[class], 1 << shift);
        }
        assert_eq!(class_of_aligned(1, 2 * SMALL_BYTES_MAX), None);
        let class = class_of_aligned(100, 64).expect("there is one");
        assert_eq!(SIZES[class], 128);
    }

    #[test]
    fn each_medium_request_gets_the_smallest_class_that_holds_it() {
        for size in (SMALL_BYTES_MAX + 1..=MEDIUM_BYTES_MAX).step_by(511) {
            let class = class_of_medium(size).expect("there is one");
            assert!(block_bytes(class) >= size, "{size}");
            assert!(
                class == LARGE + 1 || block_bytes(class - 1) < size,
                "{size}"
            );
            assert_eq!(class_of_pages(block_bytes(class) / 4096), Some(class));
        }
        assert_eq!(class_of_medium(MEDIUM_BYTES_MAX + 1), None);
        assert_eq!(class_of_pages(17), None);
    }

    #[test]
    fn no_two_blocks_of_a_slice_share_a_state_byte() {
        for (class, size) in SIZES.iter().enumerate().skip(1) {
            let places = (0..blocks_per_slice(class)).map(|block| block * size);
            let mut last = None;
            for place in places.map(|place| place >> state_shift(class)) {
                assert!(last < Some(place) && place < states_per_slice(class));
                last = Some(place);
            }
        }
    }
}
