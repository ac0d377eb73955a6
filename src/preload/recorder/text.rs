//! Short texts without an allocator: names of files, messages.

use core::ffi::CStr;

/// A short text, cut off where it is full, always ended by NUL.
pub(crate) struct Text {
    bytes: [u8; 64],
    length: usize,
}

impl Text {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; 64],
            length: 0,
        }
    }

    pub(crate) fn push(mut self, text: &[u8]) -> Self {
        for &byte in text {
            if self.length + 1 < self.bytes.len() {
                self.bytes[self.length] = byte;
                self.length += 1;
            }
        }
        self
    }

    pub(crate) fn push_number(self, number: u64) -> Self {
        let mut digits = [0_u8; 20];
        let mut at = digits.len();
        let mut rest = number;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                return self.push(&digits[at..]);
            }
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    pub(crate) fn as_c(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }
}

/// "PID.IMAGE.ENDING"
pub(crate) fn file_name(process: u32, image: u32, ending: &[u8]) -> Text {
    Text::new()
        .push_number(u64::from(process))
        .push(b".")
        .push_number(u64::from(image))
        .push(b".")
        .push(ending)
}
