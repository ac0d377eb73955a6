//! What the verify pass writes into blocks, and compares: a pattern that is each block's own.

use core::ffi::c_void;

/// Of blocks larger than this, the middle is filled and compared in one word per OS page only.
const FULL_CHECK_BYTES: usize = 1 << 20;
/// So much at each end of larger ones is filled.
const END_BYTES: usize = 64 << 10;
const PAGE_BYTES: usize = 4096;

/// The pattern's byte at an offset: depends on block and place, so that a block shifted by eight
/// bytes is noticed too.
fn pattern(serial: u64, word: usize) -> u64 {
    (serial ^ (word as u64).rotate_left(40)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Where the words are that are filled, and how far they are apart.
fn checked_parts(size: usize) -> [(usize, usize, usize); 3] {
    if size <= FULL_CHECK_BYTES {
        return [(0, size, 8), (0, 0, 8), (0, 0, 8)];
    }
    let end = (size - END_BYTES) & !7;
    [
        (0, END_BYTES, 8),
        (END_BYTES, end, PAGE_BYTES),
        (end, size, 8),
    ]
}

/// Bytes of a block of that size that are filled.
pub(super) fn checked_bytes(size: usize) -> u64 {
    checked_parts(size)
        .iter()
        .map(|(start, end, step)| (end.saturating_sub(*start) / step * 8) as u64)
        .sum()
}

/// Calls `visit` with the address and the pattern of each filled word below `limit`; stops at the
/// first `false`.
fn each_word(
    block: *mut c_void,
    size: usize,
    serial: u64,
    limit: usize,
    mut visit: impl FnMut(*mut u8, &[u8]) -> bool,
) -> bool {
    for (start, end, step) in checked_parts(size) {
        let end = end.min(limit);
        let mut offset = start;
        while offset < end {
            let bytes = pattern(serial, offset / 8).to_ne_bytes();
            let length = (end - offset).min(8);
            if !visit(block.cast::<u8>().wrapping_add(offset), &bytes[..length]) {
                return false;
            }
            offset += step;
        }
    }
    true
}

/// Fills a block.
///
/// # Safety
/// The block is valid for `size` bytes.
pub(super) unsafe fn fill(block: *mut c_void, size: usize, serial: u64) {
    each_word(block, size, serial, size, |address, bytes| {
        // SAFETY: `each_word` stays below `size`, for which the caller vouches.
        unsafe {
            match <[u8; 8]>::try_from(bytes) {
                Ok(word) => address.cast::<[u8; 8]>().write_unaligned(word),
                Err(_) => address.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()),
            }
        }
        true
    });
}

/// Whether the first `limit` bytes of a block filled as one of `size` are as they were filled.
///
/// # Safety
/// The block is valid for `limit` bytes.
pub(super) unsafe fn holds(block: *mut c_void, size: usize, serial: u64, limit: usize) -> bool {
    each_word(block, size, serial, limit, |address, bytes| {
        // SAFETY: `each_word` stays below `limit`, for which the caller vouches.
        unsafe {
            match <[u8; 8]>::try_from(bytes) {
                Ok(word) => address.cast::<[u8; 8]>().read_unaligned() == word,
                Err(_) => core::slice::from_raw_parts(address, bytes.len()) == bytes,
            }
        }
    })
}
