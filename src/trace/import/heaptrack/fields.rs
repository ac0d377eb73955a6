//! The fields of a line: hexadecimal numbers and strings, each behind a blank.

use crate::trace::import::scan::Parse;

/// What is left of a line.
#[derive(Clone, Copy)]
pub(super) struct Fields<'b> {
    rest: &'b [u8],
}

impl<'b> Fields<'b> {
    pub(super) fn new(text: &'b [u8]) -> Self {
        Self { rest: text }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that is left.
    pub(super) fn rest(&self) -> &'b [u8] {
        self.rest
    }

    pub(super) fn end(&self) -> Parse<()> {
        match self.rest {
            [] => Ok(()),
            _ => Err("the end of the line"),
        }
    }

    /// A number below 2^64, and the blank behind it.
    #[inline]
    pub(super) fn number(&mut self, expected: &'static str) -> Parse<u64> {
        let mut value = 0_u64;
        let mut digits = 0;
        for &byte in self.rest {
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'f' => byte - b'a' + 10,
                b' ' => break,
                _ => return Err(expected),
            };
            if value >> 60 != 0 {
                return Err("a number below 2^64");
            }
            digits += 1;
            value = value << 4 | u64::from(digit);
        }
        if digits == 0 {
            return Err(expected);
        }
        self.rest = self.rest.get(digits + 1..).unwrap_or_default();
        Ok(value)
    }

    /// A string behind its length, and the blank behind it.
    pub(super) fn sized(&mut self) -> Parse<&'b [u8]> {
        let length = self.number("the length of a string")?;
        let split = usize::try_from(length)
            .ok()
            .and_then(|length| self.rest.split_at_checked(length));
        let (string, rest) = split.ok_or("a string as long as its length says")?;
        self.rest = match rest {
            [] => rest,
            [b' ', rest @ ..] => rest,
            _ => return Err("a string as long as its length says"),
        };
        Ok(string)
    }

    /// A string behind its length that ends the line; blanks at its end may be lost.
    pub(super) fn sized_to_end(&mut self) -> Parse<&'b [u8]> {
        let length = self.number("the length of a string")?;
        if self.rest.len() as u64 > length {
            return Err("a string as long as its length says");
        }
        Ok(self.rest)
    }

    /// The text before the numbers that end the line. It may hold blanks.
    pub(super) fn before_numbers(&mut self) -> &'b [u8] {
        let is_number = |field: &[u8]| {
            let digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            !field.is_empty() && field.iter().all(digit)
        };
        let mut end = self.rest.len();
        while let Some(blank) = self.rest[..end].iter().rposition(|&byte| byte == b' ') {
            if !is_number(&self.rest[blank + 1..end]) {
                break;
            }
            end = blank;
        }
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest.get(1..).unwrap_or_default();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let mut fields = Fields::new(b"2a ffffffffffffffff 0");
        assert_eq!(fields.number("n"), Ok(42));
        assert_eq!(fields.number("n"), Ok(u64::MAX));
        assert_eq!(fields.number("n"), Ok(0));
        assert_eq!(fields.number("n"), Err("n"));
        assert!(fields.end().is_ok());
        assert_eq!(Fields::new(b"0x2a").number("n"), Err("n"));
        let above = Fields::new(b"10000000000000000").number("n");
        assert_eq!(above, Err("a number below 2^64"));
    }

    #[test]
    fn strings_may_hold_blanks() {
        let mut fields = Fields::new(b"5 a b c 7f");
        assert_eq!(fields.sized(), Ok(&b"a b c"[..]));
        assert_eq!(fields.number("n"), Ok(0x7f));
        assert!(Fields::new(b"5 a b").sized().is_err());
        assert!(Fields::new(b"2 abc").sized().is_err());
        assert!(Fields::new(b"ffffffffffffffff a").sized().is_err());
        assert_eq!(Fields::new(b"6 a b").sized_to_end(), Ok(&b"a b"[..]));
        assert!(Fields::new(b"1 a b").sized_to_end().is_err());
        let mut fields = Fields::new(b"/opt/a b/c.so 7f00 0 10");
        assert_eq!(fields.before_numbers(), b"/opt/a b/c.so");
        assert_eq!(fields.number("n"), Ok(0x7f00));
        assert_eq!(Fields::new(b"-").before_numbers(), b"-");
    }
}
