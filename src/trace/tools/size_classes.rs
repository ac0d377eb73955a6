//! Size classes to count by, and to round to: multiples of 16 bytes up to 128, then four for each
//! doubling. No allocator's own, but close to those of most: jemalloc's are these from 16 bytes on,
//! mimalloc's lie at most 16 bytes apart from them below 128.

#![forbid(unsafe_code)]

/// Number of classes.
pub const CLASSES: usize = SMALL + (64 - SMALL_LOG2 as usize) * 4;

/// Multiples of [`STEP_BYTES`] up to `2^SMALL_LOG2`.
const SMALL: usize = 8;
const SMALL_LOG2: u32 = 7;
const STEP_BYTES: u64 = 16;

/// The class that a request of so many bytes falls into; 0 bytes into the first.
#[inline]
pub fn of(bytes: u64) -> usize {
    let last = bytes.max(1) - 1;
    if last < 1 << SMALL_LOG2 {
        return (last / STEP_BYTES) as usize;
    }
    // 2^log2 < bytes <= 2^(log2 + 1)
    let log2 = last.ilog2();
    let quarter = (last >> (log2 - 2)) & 3;
    SMALL + (log2 - SMALL_LOG2) as usize * 4 + quarter as usize
}

/// Smallest and largest request of a class; the first holds 0 too.
pub fn bounds(class: usize) -> (u64, u64) {
    let low = match class {
        0 => 0,
        _ => high(class - 1) + 1,
    };
    (low, high(class))
}

fn high(class: usize) -> u64 {
    debug_assert!(class < CLASSES);
    if class < SMALL {
        return (class as u64 + 1) * STEP_BYTES;
    }
    let log2 = SMALL_LOG2 + ((class - SMALL) / 4) as u32;
    let quarters = ((class - SMALL) % 4) as u64 + 1;
    // The last class ends at 2^64 - 1.
    (1_u64 << log2).saturating_add(quarters << (log2 - 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_cover_every_number_once() {
        let mut next = 0_u64;
        for class in 0..CLASSES {
            let (low, high) = bounds(class);
            assert_eq!(low, next, "class {class}");
            assert!(low <= high);
            assert_eq!((of(low), of(high)), (class, class));
            next = high.wrapping_add(1);
        }
        assert_eq!(next, 0, "the last class ends at the largest number");
    }

    #[test]
    fn classes_are_those_that_the_text_names() {
        let ends: Vec<u64> = (6..14).map(|class| bounds(class).1).collect();
        assert_eq!(ends, [112, 128, 160, 192, 224, 256, 320, 384]);
    }
}
