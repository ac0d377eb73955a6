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

/// What is left of a column of numbers, or of one thread's part of it, while it is read.
#[derive(Clone, Default)]
pub(super) struct Cursor<'c> {
    main: std::slice::Iter<'c, u8>,
    extra: &'c [u8],
}

impl<'c> Cursor<'c> {
    pub(super) fn new(main: &'c [u8], extra: &'c [u8]) -> Self {
        Self {
            main: main.iter(),
            extra,
        }
    }

    /// Whether all was read.
    pub(super) fn is_empty(&self) -> bool {
        self.main.as_slice().is_empty() && self.extra.is_empty()
    }

    /// The next number; none if the column ends.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<u64> {
        let first = u64::from(*self.main.next()?);
        if first < ONE_EXTRA {
            return Some(first);
        }
        if first < TWO_EXTRA {
            let (&low, behind) = self.extra.split_first()?;
            self.extra = behind;
            return Some(ONE_EXTRA + (first - ONE_EXTRA) * 256 + u64::from(low));
        }
        let (number, behind) = wide(first, self.extra)?;
        self.extra = behind;
        Some(number)
    }
}

/// A number of two extra bytes or more, and the extra bytes behind it.
#[inline]
fn wide(first: u64, extra: &[u8]) -> Option<(u64, &[u8])> {
    let bytes = (first - TWO_EXTRA) as usize + 2;
    if bytes > 8 {
        return None;
    }
    let (stored, behind) = extra.split_at_checked(bytes)?;
    // A load of fixed width wherever there is room for one.
    let number = match extra.first_chunk() {
        Some(eight) => u64::from_le_bytes(*eight) & u64::MAX >> (64 - 8 * bytes),
        None => {
            let mut number = [0; 8];
            number[..bytes].copy_from_slice(stored);
            u64::from_le_bytes(number)
        }
    };
    Some((number, behind))
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
            let (mut cursor, mut table) = (Cursor::new(&column.main, &column.extra), table.as_slice());
            for &number in &numbers {
                prop_assert_eq!(cursor.next(), Some(number));
                prop_assert_eq!(take_leb(&mut table), Some(number));
            }
            prop_assert_eq!(cursor.next(), None);
            prop_assert_eq!(take_leb(&mut table), None);
        }
    }

    #[test]
    fn limits() {
        for number in [0, 223, 224, LARGE - 1, LARGE, 65_535, 65_536, u64::MAX] {
            let mut column = Numbers::default();
            column.push(number);
            let read = Cursor::new(&column.main, &column.extra).next();
            assert_eq!(read, Some(number));
        }
        assert_eq!(Cursor::new(&[255], &[0; 9]).next(), None);
        assert_eq!(take_leb(&mut [0xff; 9].as_slice()), None);
        assert_eq!(
            take_leb(&mut [[0xff; 9].as_slice(), &[2]].concat().as_slice()),
            None
        );
    }
}
