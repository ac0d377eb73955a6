//! Which sizes and alignments a request may have.

use super::fault::{Fault, SIZE_BYTES_MAX};
use crate::trace::AlignedFunction;

/// Whether a program can ask for so many bytes.
#[inline]
pub(super) fn sane(bytes: u64) -> Result<(), Fault> {
    if bytes > SIZE_BYTES_MAX {
        Err(Fault::TooLarge(bytes))
    } else {
        Ok(())
    }
}

/// Count and size of a calloc, exchanged if the count is the one that needs 64 bits.
pub(super) fn calloc_sizes(count: u64, size: u64) -> Result<(u32, u64), Fault> {
    sane(count)?;
    sane(size)?;
    sane(count.saturating_mul(size))?;
    match (u32::try_from(count), u32::try_from(size)) {
        (Ok(count), _) => Ok((count, size)),
        (Err(_), Ok(size)) => Ok((size, count)),
        (Err(_), Err(_)) => Err(Fault::TooLarge(count.saturating_mul(size))),
    }
}

/// The binary logarithm of an alignment, as the C library takes it.
pub(super) fn alignment_log2(function: AlignedFunction, alignment: u64) -> Result<u8, Fault> {
    // C libraries round what memalign is given up; its younger relatives refuse it.
    let rounded = match function {
        AlignedFunction::Memalign => alignment.checked_next_power_of_two(),
        _ => Some(alignment).filter(|alignment| alignment.is_power_of_two()),
    };
    let alignment = rounded
        .filter(|&rounded| rounded <= SIZE_BYTES_MAX)
        .ok_or(Fault::Alignment(alignment))?;
    Ok(u8::try_from(alignment.trailing_zeros()).expect("a number of bits below 64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calloc_counts_that_need_64_bits() {
        assert_eq!(calloc_sizes(4, 1 << 40), Ok((4, 1 << 40)));
        assert_eq!(calloc_sizes(1 << 40, 4), Ok((4, 1 << 40)));
        assert_eq!(
            calloc_sizes(1 << 24, 1 << 24),
            Err(Fault::TooLarge(1 << 48))
        );
        assert_eq!(
            calloc_sizes(1 << 33, 1 << 33),
            Err(Fault::TooLarge(u64::MAX))
        );
        assert_eq!(calloc_sizes(1 << 50, 0), Err(Fault::TooLarge(1 << 50)));
    }

    #[test]
    fn alignments() {
        use AlignedFunction::{Memalign, PosixMemalign};
        assert_eq!(alignment_log2(PosixMemalign, 4096), Ok(12));
        assert_eq!(alignment_log2(PosixMemalign, 24), Err(Fault::Alignment(24)));
        assert_eq!(alignment_log2(Memalign, 24), Ok(5));
        assert_eq!(alignment_log2(Memalign, 0), Ok(0));
        assert_eq!(
            alignment_log2(Memalign, u64::MAX),
            Err(Fault::Alignment(u64::MAX))
        );
        assert_eq!(
            alignment_log2(Memalign, 1 << 48),
            Err(Fault::Alignment(1 << 48))
        );
    }
}
