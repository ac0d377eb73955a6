//! The resident memory of this process, read without allocating: `/proc/self/statm` takes some
//! microseconds whatever the size of the process.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::anonymous::AnonymousPages;

/// Reads private anonymous memory of the process.
#[derive(Debug)]
pub struct ResidentReader {
    statm: File,
    page_bytes: u64,
}

impl ResidentReader {
    /// Opens `/proc/self/statm`, which stays open.
    pub fn open() -> std::io::Result<Self> {
        Ok(Self {
            statm: File::open("/proc/self/statm")?,
            page_bytes: page_bytes() as u64,
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

/// Bytes of an OS page.
pub fn page_bytes() -> usize {
    // SAFETY: takes and returns numbers.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Stack that is resident before anything is read, so that its growth is not taken for memory of the
/// allocator.
const STACK_BYTES: usize = 256 << 10;

/// Reads the allocator's memory: quickly for the curve, exactly where the kernel lets it.
#[derive(Debug)]
pub struct Gauge {
    reader: ResidentReader,
    exact: Option<AnonymousPages>,
    start_bytes: u64,
}

impl Gauge {
    /// Opens what it reads. Without pagemap (a restricted container) the quick reading has to do.
    pub fn open() -> std::io::Result<Self> {
        Ok(Self {
            reader: ResidentReader::open()?,
            exact: AnonymousPages::new(page_bytes()).ok(),
            start_bytes: 0,
        })
    }

    /// Notes what is there now, before the allocator's first call. To be called once, when all of the
    /// harness's own memory is resident.
    pub fn begin(&mut self) {
        grow_stack();
        if self
            .exact
            .as_mut()
            .is_some_and(|exact| exact.begin().is_err())
        {
            self.exact = None;
        }
        self.start_bytes = self.anonymous_bytes();
    }

    /// Private anonymous memory of the process at the beginning, by the quick reading, in bytes.
    pub fn start_bytes(&self) -> u64 {
        self.start_bytes
    }

    /// The same by the exact look, stack left out.
    pub fn exact_start_bytes(&self) -> u64 {
        self.exact
            .as_ref()
            .map_or(self.start_bytes, AnonymousPages::before_bytes)
    }

    /// Private anonymous memory of the process now, by the quick reading, in bytes.
    pub fn anonymous_bytes(&self) -> u64 {
        self.reader.anonymous_bytes().unwrap_or(0)
    }

    /// Bytes that were not there at the beginning, by the exact look: milliseconds, not for curves.
    pub fn new_bytes(&mut self) -> u64 {
        match self.exact.as_mut().map(AnonymousPages::new_bytes) {
            Some(Ok(bytes)) => bytes,
            _ => self.anonymous_bytes().saturating_sub(self.start_bytes),
        }
    }

    /// For the exact look at each page; `None` if the kernel does not allow it.
    pub fn exact(&mut self) -> Option<&mut AnonymousPages> {
        self.exact.as_mut()
    }
}

/// Writes into the stack below the caller's.
#[inline(never)]
fn grow_stack() {
    let mut room = [0u8; STACK_BYTES];
    for byte in room.iter_mut().step_by(4096) {
        // SAFETY: a valid byte; volatile, so that the write is not left out.
        unsafe { std::ptr::write_volatile(byte, 1) };
    }
    std::hint::black_box(&room);
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
