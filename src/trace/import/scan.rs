//! A cursor over the bytes of one line. Failures name what was expected; they are static texts, so
//! that a million bad lines cost no allocation.

/// A parse that failed says what it expected instead.
pub(super) type Parse<T> = std::result::Result<T, &'static str>;

/// What is left of a line.
#[derive(Clone, Copy)]
pub(super) struct Scan<'b> {
    rest: &'b [u8],
}

impl<'b> Scan<'b> {
    pub(super) fn new(text: &'b [u8]) -> Self {
        Self { rest: text }
    }

    /// The next byte, not taken.
    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Whether a decimal digit comes next.
    #[inline]
    pub(super) fn at_digit(&self) -> bool {
        self.peek().is_some_and(|byte| byte.is_ascii_digit())
    }

    /// Takes `byte` if it comes next.
    #[inline]
    pub(super) fn skip(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    /// Takes `prefix` if it comes next.
    #[inline]
    pub(super) fn skip_all(&mut self, prefix: &[u8]) -> bool {
        let Some(rest) = self.rest.strip_prefix(prefix) else {
            return false;
        };
        self.rest = rest;
        true
    }

    /// Takes `byte`, which must come next.
    #[inline]
    pub(super) fn expect(&mut self, byte: u8, expected: &'static str) -> Parse<()> {
        if self.skip(byte) {
            Ok(())
        } else {
            Err(expected)
        }
    }

    /// What has not been taken.
    pub(super) fn rest(&self) -> &'b [u8] {
        self.rest
    }

    /// Takes blanks, of which there may be none.
    #[inline]
    pub(super) fn blanks(&mut self) {
        while self.skip(b' ') {}
    }

    /// Takes what stands before the next blank, or before the end.
    #[inline]
    pub(super) fn token(&mut self) -> &'b [u8] {
        let length = self.rest.iter().position(|&byte| byte == b' ');
        let (token, rest) = self.rest.split_at(length.unwrap_or(self.rest.len()));
        self.rest = rest;
        token
    }

    /// Nothing may be left.
    #[inline]
    pub(super) fn end(&self, expected: &'static str) -> Parse<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(expected)
        }
    }

    /// Letters, digits and underscores.
    #[inline]
    pub(super) fn word(&mut self) -> &'b [u8] {
        let ends = |byte: &u8| !byte.is_ascii_alphanumeric() && *byte != b'_';
        let length = self.rest.iter().position(ends).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest;
        word
    }

    /// A decimal number below 2^64.
    #[inline]
    pub(super) fn decimal(&mut self, expected: &'static str) -> Parse<u64> {
        let mut value = 0_u64;
        let mut digits = 0;
        for &byte in self.rest {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            digits += 1;
            value = value
                .checked_mul(10)
                .and_then(|value| value.checked_add(u64::from(digit)))
                .ok_or("a number below 2^64")?;
        }
        if digits == 0 {
            return Err(expected);
        }
        self.rest = &self.rest[digits..];
        Ok(value)
    }

    /// A hexadecimal address below 2^64, behind its `0x`; `(nil)`, as printf writes null, is 0.
    #[inline]
    pub(super) fn address(&mut self, expected: &'static str) -> Parse<u64> {
        if !self.skip_all(b"0x") {
            return if self.skip_all(b"(nil)") {
                Ok(0)
            } else {
                Err(expected)
            };
        }
        self.hexadecimal(expected)
    }

    /// A number below 2^64, hexadecimal behind `0x`, otherwise decimal.
    #[inline]
    pub(super) fn number(&mut self, expected: &'static str) -> Parse<u64> {
        if self.skip_all(b"0x") {
            self.hexadecimal(expected)
        } else {
            self.decimal(expected)
        }
    }

    /// A hexadecimal number below 2^64 without `0x`.
    #[inline]
    pub(super) fn hexadecimal(&mut self, expected: &'static str) -> Parse<u64> {
        let mut value = 0_u64;
        let mut digits = 0;
        for &byte in self.rest {
            let Some(digit) = (byte as char).to_digit(16) else {
                break;
            };
            if value >> 60 != 0 {
                return Err("an address below 2^64");
            }
            digits += 1;
            value = value << 4 | u64::from(digit);
        }
        if digits == 0 {
            return Err(expected);
        }
        self.rest = &self.rest[digits..];
        Ok(value)
    }
}

/// Where `part` stands first in `text`.
pub(super) fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_at_2_to_the_64() {
        let decimal = |text: &str| Scan::new(text.as_bytes()).decimal("a number");
        assert_eq!(decimal("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(decimal("18446744073709551616"), Err("a number below 2^64"));
        assert_eq!(decimal("x"), Err("a number"));
        let address = |text: &str| Scan::new(text.as_bytes()).address("an address");
        assert_eq!(address("0xffffffffffffffff"), Ok(u64::MAX));
        assert_eq!(address("0x10000000000000000"), Err("an address below 2^64"));
        assert_eq!(address("0x000000000000000000001f"), Ok(0x1f));
        assert_eq!(address("0x"), Err("an address"));
        assert_eq!(address("(nil)"), Ok(0));
        let number = |text: &str| Scan::new(text.as_bytes()).number("a number");
        assert_eq!((number("0x2a"), number("42")), (Ok(42), Ok(42)));
        assert_eq!(
            (number("0x"), number("x")),
            (Err("a number"), Err("a number"))
        );
    }

    #[test]
    fn what_is_left_of_a_line() {
        let mut scan = Scan::new(b"one   two");
        assert_eq!(scan.token(), b"one");
        scan.blanks();
        assert_eq!(scan.rest(), b"two");
        assert_eq!(scan.token(), b"two");
        assert_eq!(scan.token(), b"");
    }
}
