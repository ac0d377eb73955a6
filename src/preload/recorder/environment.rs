//! What the system tells of this process, read without the C library, which may not be ready yet.

use core::ffi::CStr;

use super::system::{self, CURRENT_FOLDER, O_RDONLY};

/// Reads the beginning of a file; the bytes read.
pub(crate) fn read_file(path: &CStr, buffer: &mut [u8]) -> usize {
    match system::open(CURRENT_FOLDER, path, O_RDONLY) {
        Ok(file) => {
            let bytes = system::read_whole(file, buffer);
            system::close(file);
            bytes
        }
        Err(_) => 0,
    }
}

/// Copies the value that a variable had when the image was started; its bytes. None: it is not set, or
/// its value is empty or too long.
pub(crate) fn variable(name: &[u8], value: &mut [u8]) -> Option<usize> {
    let file = system::open(CURRENT_FOLDER, c"/proc/self/environ", O_RDONLY).ok()?;
    let mut buffer = [0_u8; 1024];
    let mut search = Search {
        name,
        matched: Some(0),
        length: 0,
        value,
    };
    let found = loop {
        match system::read(file, &mut buffer) {
            Ok(bytes) if bytes > 0 => {
                if let Some(found) = buffer[..bytes].iter().find_map(|&byte| search.take(byte)) {
                    break found;
                }
            }
            // The last variable may lack its NUL.
            _ => break search.take(0).unwrap_or(None),
        }
    };
    system::close(file);
    found.filter(|&length| length > 0)
}

struct Search<'a> {
    name: &'a [u8],
    /// Bytes of "NAME=" that the current variable began with; None: it is another.
    matched: Option<usize>,
    length: usize,
    value: &'a mut [u8],
}

impl Search<'_> {
    /// Takes the next byte; the value's length, or None for one that is too long, at its end.
    fn take(&mut self, byte: u8) -> Option<Option<usize>> {
        let is_value = self.matched == Some(self.name.len() + 1);
        if byte == 0 {
            if is_value {
                return Some((self.length <= self.value.len()).then_some(self.length));
            }
            self.matched = Some(0);
            return None;
        }
        if is_value {
            if let Some(place) = self.value.get_mut(self.length) {
                *place = byte;
            }
            self.length += 1;
        } else if let Some(matched) = self.matched {
            let expected = self.name.get(matched).copied().unwrap_or(b'=');
            self.matched = (byte == expected).then_some(matched + 1);
        }
        None
    }
}

/// Bytes of an OS page.
pub(crate) fn page_bytes() -> u64 {
    unsafe extern "C" {
        fn getpagesize() -> core::ffi::c_int;
    }
    // SAFETY: has no conditions.
    unsafe { getpagesize() as u64 }
}
