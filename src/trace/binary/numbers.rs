//! Numbers as bytes: LEB128 in tables, and in columns one byte for most and extra bytes for the rest, so
//! that the bytes which tell something stand close together.

/// The first main byte that is followed by one extra byte.
const ONE_EXTRA: u64 = 224;
/// The first that is followed by two; each further one by one more.
const TWO_EXTRA: u64 = 248;
/// The first number that takes two extra bytes.
const LARGE: u64 = ONE_EXTRA + (TWO_EXTRA - ONE_EXTRA) * 256;

/// A column of numbers while it is written.
#[derive(Default)]
pub(super) struct Numbers {
    pub(super) main: Vec<u8>,
    pub(super) extra: Vec<u8>,
}

impl Numbers {
    #[inline]
    pub(super) fn push(&mut self, number: u64) {
        if number < ONE_EXTRA {
            self.main.push(number as u8);
        } else if number < LARGE {
            let rest = number - ONE_EXTRA;
            self.main.push((ONE_EXTRA + rest / 256) as u8);
            self.extra.push(rest as u8);
        } else {
            let bytes = (number.ilog2() / 8 + 1) as usize;
            self.main.push(TWO_EXTRA as u8 + (bytes - 2) as u8);
            self.extra.extend_from_slice(&number.to_le_bytes()[..bytes]);
        }
    }

    pub(super) fn clear(&mut self) {
        self.main.clear();
        self.extra.clear();
    }
}

/// A place in a column of numbers while it is read.
#[derive(Clone, Copy, Default)]
pub(super) struct Cursor {
    pub(super) main: usize,
    pub(super) extra: usize,
}

impl Cursor {
    /// The next number; none if the column ends.
    #[inline(always)]
    pub(super) fn next(&mut self, main: &[u8], extra: &[u8]) -> Option<u64> {
        let first = *main.get(self.main)?;
        self.main += 1;
        if u64::from(first) < ONE_EXTRA {
            return Some(u64::from(first));
        }
        self.long(first, extra)
    }

    #[inline]
    fn long(&mut self, first: u8, extra: &[u8]) -> Option<u64> {
        let first = u64::from(first);
        if first < TWO_EXTRA {
            let low = *extra.get(self.extra)?;
            self.extra += 1;
            return Some(ONE_EXTRA + (first - ONE_EXTRA) * 256 + u64::from(low));
        }
        let bytes = (first - TWO_EXTRA) as usize + 2;
        if bytes > 8 {
            return None;
        }
        let stored = extra.get(self.extra..self.extra + bytes)?;
        self.extra += bytes;
        let mut number = [0; 8];
        number[..bytes].copy_from_slice(stored);
        Some(u64::from_le_bytes(number))
    }
}

/// Appends a number, seven bits a byte, the lowest first.
pub(super) fn put_leb(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes such a number off the front; none if it does not end, or does not fit 64 bits.
pub(super) fn take_leb(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        number |= bits << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// Signed differences as unsigned numbers, the near ones small.
#[inline]
pub(super) fn zigzag(difference: i64) -> u64 {
    (difference << 1 ^ difference >> 63) as u64
}

/// Its inverse.
#[inline]
pub(super) fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(shifted in proptest::collection::vec((any::<u64>(), 0_u32..64), 0..200)) {
            let numbers: Vec<u64> = shifted.iter().map(|&(number, shift)| number >> shift).collect();
            let mut column = Numbers::default();
            let mut table = Vec::new();
            for &number in &numbers {
                column.push(number);
                put_leb(number, &mut table);
                prop_assert_eq!(zigzag(unzigzag(number)), number);
            }
            let (mut cursor, mut table) = (Cursor::default(), table.as_slice());
            for &number in &numbers {
                prop_assert_eq!(cursor.next(&column.main, &column.extra), Some(number));
                prop_assert_eq!(take_leb(&mut table), Some(number));
            }
            prop_assert_eq!(cursor.next(&column.main, &column.extra), None);
            prop_assert_eq!(take_leb(&mut table), None);
        }
    }

    #[test]
    fn limits() {
        for number in [0, 223, 224, LARGE - 1, LARGE, 65_535, 65_536, u64::MAX] {
            let mut column = Numbers::default();
            column.push(number);
            let read = Cursor::default().next(&column.main, &column.extra);
            assert_eq!(read, Some(number));
        }
        assert_eq!(Cursor::default().next(&[255], &[0; 9]), None);
        assert_eq!(take_leb(&mut [0xff; 9].as_slice()), None);
        assert_eq!(
            take_leb(&mut [[0xff; 9].as_slice(), &[2]].concat().as_slice()),
            None
        );
    }
}
