//! The resident memory of this process, read without allocating: `/proc/self/statm` takes some
//! microseconds whatever the size of the process.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// Reads private anonymous memory of the process.
#[derive(Debug)]
pub struct ResidentReader {
    statm: File,
    page_bytes: u64,
}

impl ResidentReader {
    /// Opens `/proc/self/statm`, which stays open.
    pub fn open() -> std::io::Result<Self> {
        // SAFETY: takes and returns numbers.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        Ok(Self {
            statm: File::open("/proc/self/statm")?,
            page_bytes: u64::try_from(page_bytes).unwrap_or(4096),
        })
    }

    /// Resident memory that is backed by no file: resident minus shared, in bytes. The kernel's
    /// counters may lag by some pages.
    pub fn anonymous_bytes(&self) -> std::io::Result<u64> {
        let mut buffer = [0; 128];
        let length = self.statm.read_at(&mut buffer, 0)?;
        // "size resident shared text lib data dt", in pages.
        let mut fields = buffer[..length].split(|byte| *byte == b' ').map(|digits| {
            digits
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .fold(0u64, |number, byte| number * 10 + u64::from(byte - b'0'))
        });
        let resident = fields.nth(1).unwrap_or(0);
        let shared = fields.next().unwrap_or(0);
        Ok(resident.saturating_sub(shared) * self.page_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memmap2::MmapMut;

    #[test]
    fn touched_memory_is_counted() {
        let reader = ResidentReader::open().expect("Linux has /proc");
        let bytes = 64 << 20;
        let before = reader.anonymous_bytes().expect("readable");
        let mut map = MmapMut::map_anon(bytes).expect("64 MiB");
        map.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        let after = reader.anonymous_bytes().expect("readable");
        let grown = after.saturating_sub(before);
        // Other tests of this process allocate and free meanwhile; 64 MiB stand out all the same.
        assert!(grown > bytes as u64 / 2, "grew by {grown}");
    }
}
