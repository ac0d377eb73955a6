//! Size classes: which block sizes exist, and which serves a request.
//!
//! Steps of 16 bytes up to 128, four per doubling up to 1024, eight up to 4 KiB, then five to seven.
//! Programs ask often for a power of two and a few bytes, so the steps behind one are short. From 2 KiB on
//! the sizes are those that divide a slice with little or no rest. All are multiples of 16. Powers of two
//! are all among them, so that a request with an alignment finds a class whose blocks have it: a slice
//! starts at a multiple of its length, and a block at a multiple of its size.
//!
//! Blocks of 16 KiB that start at multiples of their size crowd in a few sets of the caches: the first bytes of each
//! of their pages, which are what is used most, fit in a second-level cache for 64 of them. So there is one more
//! class of a cache line more, which serves the same requests once they are many: its blocks spread. (It is not there
//! for 4 and 8 KiB: they spread as far as the caches need, and a block that lies across pages takes one more.)

use core::ops::Range;

/// Bytes of a place: the unit in which memory is given to size classes.
pub(super) const PLACE_BYTES: usize = 1 << PLACE_SHIFT;
pub(super) const PLACE_SHIFT: u32 = 13;

/// Requests beyond this are large blocks.
pub(super) const SMALL_BYTES_MAX: usize = 16384;

/// Number of classes; class 0 is "none".
pub(super) const CLASSES: usize = SIZES.len();

/// Not a class of blocks: what the class map says of a place in which a block starts that only the large store knows.
pub(super) const LARGE: usize = CLASSES;

/// Block size of each class, in bytes.
pub(super) static SIZES: [usize; 51] = [
    0, 16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640, 768,
    896, 1024, 1088, 1152, 1280, 1408, 1536, 1664, 1792, 1920, 2048, 2176, 2336, 2512, 2720, 2976,
    3264, 3632, 4096, 4368, 5040, 5952, 7280, 8192, 9360, 10912, 11904, 13104, 14560, 16384, 16448,
];

/// Sizes of small requests in units of 16 bytes, rounded up: none to the longest.
pub(super) const UNITS: usize = SMALL_BYTES_MAX / 16 + 1;

/// Class of each request, by its size in units.
pub(super) static CLASS_OF_UNITS: [u8; UNITS] = {
    let mut table = [0; UNITS];
    let (mut units, mut class) = (0, 1);
    while units < UNITS {
        while units * 16 > SIZES[class] || is_for_alignments(class) {
            class += 1;
        }
        table[units] = class as u8;
        units += 1;
    }
    table
};

/// Whether a class serves requests with an alignment, and others only until the next class, which is as good as of the
/// same size, does.
const fn is_for_alignments(class: usize) -> bool {
    SIZES[class] == 16384
}

/// The smallest class that holds `size` bytes without an alignment, which is at most [`SMALL_BYTES_MAX`].
#[inline]
pub(super) fn class_of(size: usize) -> usize {
    usize::from(CLASS_OF_UNITS[size.div_ceil(16)])
}

/// The requests of a class, in units.
pub(super) fn units_of(class: usize) -> Range<usize> {
    let first_of = |class: usize| CLASS_OF_UNITS.partition_point(|of| usize::from(*of) < class);
    first_of(class)..first_of(class + 1)
}

/// The smallest class of blocks of `size` bytes that start at multiples of `alignment`, a power of
/// two. None: there is no such class.
pub(super) fn class_of_aligned(size: usize, alignment: usize) -> Option<usize> {
    if size > SMALL_BYTES_MAX || alignment > SMALL_BYTES_MAX {
        return None;
    }
    let bytes = size.max(alignment);
    // No division: the alignment is a power of two.
    let is_aligned = |class: &usize| SIZES[*class] & (alignment - 1) == 0;
    let class = class_of(bytes);
    let first = class - usize::from(SIZES[class - 1] >= bytes);
    (first..CLASSES).find(is_aligned)
}

/// Places that the first slice of a class takes, and that a later one takes at most: powers of two. A
/// program that needs a few blocks of many sizes keeps little of each, and one that needs many has long
/// slices. The sizes beyond 1 KiB are such that little of either is left over.
const fn places_of(class: usize) -> (usize, usize) {
    match SIZES[class] {
        ..=1024 => (1, SHORT_PLACES_MAX),
        1025..=4096 => (2, SHORT_PLACES_MAX),
        4097..=16384 => (8, LONG_PLACES),
        // Three blocks in the half would leave a quarter of it over.
        _ => (LONG_PLACES, LONG_PLACES),
    }
}

/// Places of the longest slices of short blocks, and of those of long ones (beyond 4 KiB).
pub(super) const SHORT_PLACES_MAX: usize = 4;
pub(super) const LONG_PLACES: usize = 16;

/// Places that the next slice of a class is to take: twice as many as the last one, if all that it has so far, `had`
/// places, were so.
pub(super) const fn places_of_next(class: usize, had: usize) -> usize {
    let (first, most) = places_of(class);
    let doubled = first << (had / first + 1).ilog2();
    if doubled < most { doubled } else { most }
}

/// Places of the longest slices of a class.
pub(super) const fn places_max(class: usize) -> usize {
    places_of(class).1
}

/// Blocks in a slice of so many places.
pub(super) const fn blocks_in(class: usize, places: usize) -> usize {
    places * PLACE_BYTES / SIZES[class]
}

/// Whether a slice of the class has 64 blocks at most.
pub(super) const fn are_few(class: usize) -> bool {
    SIZES[class] >= 512
}

/// Which block of a slice begins so many bytes behind its start.
#[inline]
pub(super) fn block_at(class: usize, place: usize) -> usize {
    // A multiplication in place of a division: exact, as the place is a multiple of the size, and less than 2^32.
    ((place as u64 * u64::from(RECIPROCALS[class])) >> 32) as usize
}

/// 2^32 by the size of each class, rounded up.
static RECIPROCALS: [u32; CLASSES] = {
    let mut reciprocals = [0; CLASSES];
    let mut class = 1;
    while class < CLASSES {
        reciprocals[class] = (1_u64 << 32).div_ceil(SIZES[class] as u64) as u32;
        class += 1;
    }
    reciprocals
};

/// Bits of an address that stay out of a block's place among the state bytes of its slice: there is one
/// per 64 bytes, for smaller blocks one per 32 or 16, at most as many as a block has. So the state bytes
/// of an OS page share no cache line with those of another page, and threads that use different pages do
/// not disturb each other.
pub(super) const fn state_shift(class: usize) -> u32 {
    if class > LARGE {
        return MEDIUM_STATE_SHIFT;
    }
    match SIZES[class] {
        ..32 => 4,
        32..64 => 5,
        64.. => 6,
    }
}

/// The same of medium blocks.
pub(super) const MEDIUM_STATE_SHIFT: u32 = 6;

/// State bytes of a slice of so many places.
pub(super) const fn states_in(class: usize, places: usize) -> usize {
    (places * PLACE_BYTES) >> state_shift(class)
}

/// Medium blocks are whole OS pages from the large store, kept in magazines as small blocks are. Their
/// classes follow [`LARGE`]: four per doubling up to 32 KiB, then eight.
pub(super) const MEDIUM_BYTES_MAX: usize = 256 << 10;
/// Bytes of the shortest of them.
pub(super) const MEDIUM_BYTES_MIN: usize = MEDIUM_PAGES[0] * 4096;
static MEDIUM_PAGES: [usize; 28] = [
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
    Some(usize::from(CLASS_OF_PAGES[size.div_ceil(4096)]))
}

/// The class of medium blocks that hold so many OS pages.
static CLASS_OF_PAGES: [u8; MEDIUM_BYTES_MAX / 4096 + 1] = {
    let mut table = [0; MEDIUM_BYTES_MAX / 4096 + 1];
    let (mut pages, mut index) = (0, 0);
    while pages < table.len() {
        if pages > MEDIUM_PAGES[index] {
            index += 1;
        }
        table[pages] = (LARGE + 1 + index) as u8;
        pages += 1;
    }
    table
};

/// The class of medium blocks of exactly so many OS pages.
pub(super) fn class_of_pages(pages: usize) -> Option<usize> {
    let class = usize::from(*CLASS_OF_PAGES.get(pages)?);
    (MEDIUM_PAGES[class - LARGE - 1] == pages).then_some(class)
}

/// Which class serves a class as long as that is cold: a longer one, so that programs which need a few blocks of each
/// size touch fewer OS pages. Its blocks have the alignment of the cold class's, and hold what is asked of that.
pub(super) static STAND_INS: [u8; BINS] = {
    let mut stand_ins = [0; BINS];
    let mut class = 1;
    while class < BINS {
        stand_ins[class] = class as u8;
        if class < CLASSES && is_for_alignments(class - 1) {
            stand_ins[class] = (class - 1) as u8;
        } else if class < CLASSES {
            let alignment = 1 << SIZES[class].trailing_zeros();
            let mut other = class;
            while other < CLASSES && SIZES[other] * 5 <= SIZES[class] * 8 {
                if is_shared(other) && SIZES[other].is_multiple_of(alignment) {
                    stand_ins[class] = other as u8;
                    break;
                }
                other += 1;
            }
        }
        class += 1;
    }
    stand_ins
};

/// The class for a block that grows to `size` bytes, at most [`SMALL_BYTES_MAX`]: what grew once will grow again, and
/// not each class on its way is worth a copy. Up to 1 KiB there are two per doubling, beyond only the powers of two:
/// what is not touched of their blocks is mostly no memory.
pub(super) fn roomy_class_of(size: usize) -> usize {
    if size > 1024 {
        return class_of(size.next_power_of_two());
    }
    usize::from(STAND_INS[class_of(size)])
}

/// The classes that stand in for others, a bit each.
pub(super) const STAND_IN_CLASSES: u128 = {
    let mut classes = 0;
    let mut class = 1;
    while class < CLASSES {
        let stand_in = STAND_INS[class] as usize;
        if stand_in != class {
            classes |= 1 << stand_in;
        }
        class += 1;
    }
    classes
};

/// The classes that a class stands in for, and itself. (They need not follow each other: which one can stand in depends
/// on the alignment, too.)
pub(super) fn served_by(stand_in: usize) -> impl Iterator<Item = usize> {
    (1..CLASSES).filter(move |class| usize::from(STAND_INS[*class]) == stand_in)
}

/// Whether a class stands in for shorter ones: two per doubling do.
const fn is_shared(class: usize) -> bool {
    let size = SIZES[class];
    let log = size.ilog2();
    size == 1 << log
        || (size >= 256 && size == 3 << (log - 1))
        || matches!(size, 3264 | 5952 | 13104)
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
            let shorter = class - 1 - usize::from(is_for_alignments(class - 1));
            assert!(class == 1 || SIZES[shorter] < size, "{size}");
            assert!(units_of(class).contains(&size.div_ceil(16)), "{size}");
        }
        assert!(SIZES[CLASSES - 1] >= SMALL_BYTES_MAX);
    }

    #[test]
    fn what_stands_in_holds_what_it_serves() {
        let mut served = [0; CLASSES];
        for stand_in in (1..CLASSES).filter(|class| STAND_IN_CLASSES & (1 << class) != 0) {
            assert!(served_by(stand_in).count() > 1);
            for class in served_by(stand_in) {
                let alignment = 1 << SIZES[class].trailing_zeros();
                assert!(SIZES[stand_in] >= SIZES[class].min(SMALL_BYTES_MAX));
                assert!(SIZES[stand_in].is_multiple_of(alignment), "{class}");
                served[class] += 1;
            }
        }
        for class in 1..CLASSES {
            let is_its_own = usize::from(STAND_INS[class]) == class;
            assert!(served[class] == 1 || is_its_own && served[class] == 0);
        }
    }

    #[test]
    fn every_power_of_two_has_a_class() {
        for shift in 4..=14 {
            let class = class_of_aligned(1, 1 << shift).expect("there is one");
            assert_eq!(SIZES[class], 1 << shift);
        }
        assert_eq!(class_of_aligned(1, 2 * SMALL_BYTES_MAX), None);
        for (size, alignment, bytes) in [
            (100, 64, Some(128)),
            (4097, 128, Some(8192)),
            (15000, 64, Some(16384)),
            (15000, 128, Some(16384)),
            (16384, 16384, Some(16384)),
            (16385, 16, None),
        ] {
            let class = class_of_aligned(size, alignment);
            assert_eq!(
                class.map(|class| SIZES[class]),
                bytes,
                "{size}, {alignment}"
            );
        }
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
            let in_all = places_max(class);
            let places = (0..blocks_in(class, in_all)).map(|block| block * size);
            let mut last = None;
            for place in places.map(|place| place >> state_shift(class)) {
                assert!(last < Some(place) && place < states_in(class, in_all));
                last = Some(place);
            }
        }
    }

    #[test]
    fn blocks_are_counted_without_a_division() {
        for (class, size) in SIZES.iter().enumerate().skip(1) {
            let blocks = blocks_in(class, places_max(class));
            assert!((0..blocks).all(|block| block_at(class, block * size) == block));
            assert_eq!(are_few(class), blocks <= 64, "{size}");
        }
    }

    #[test]
    fn slices_grow_and_waste_little() {
        for (class, size) in SIZES.iter().enumerate().skip(1) {
            let mut had = 0;
            let places: Vec<usize> = std::iter::repeat_with(|| {
                let places = places_of_next(class, had);
                had += places;
                places
            })
            .take(9)
            .collect();
            assert_eq!(places[8], places_max(class));
            let is_doubled = |pair: &[usize]| pair[1] == (2 * pair[0]).min(places[8]);
            assert!(places.windows(2).all(is_doubled));
            assert!(places.iter().all(|places| places.is_power_of_two()));
            // A block of a power of two lies at a multiple of its size.
            assert!(places[0] * PLACE_BYTES >= size.next_power_of_two());
            for places in places {
                let bytes = places * PLACE_BYTES;
                let rest = bytes - blocks_in(class, places) * size;
                assert!(rest * 8 <= bytes, "{size} in {bytes}: {rest}");
                // Read a word at a time.
                assert!(states_in(class, places).is_multiple_of(8));
            }
        }
    }
}
