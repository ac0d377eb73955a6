//! The resident memory of this process, read without allocating: `/proc/self/status` takes some ten
//! microseconds whatever the size of the process.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;

use super::anonymous::{AnonymousPages, Held};

/// The kernel's counters of the process at one moment, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Reading {
    /// Private memory that is backed by no file.
    pub private_bytes: u64,
    /// Shared memory that is backed by no file on a disk: shared anonymous mappings, memfd, tmpfs.
    pub shared_bytes: u64,
    /// Private memory that the kernel has written to swap.
    pub swapped_bytes: u64,
    /// Pages of hugetlbfs, which the kernel counts apart from everything else.
    pub huge_bytes: u64,
    /// Pages of files: code and data, nobody's memory.
    file_bytes: u64,
    /// The most that private, shared and file pages together have been since [`Gauge::begin`].
    high_water_bytes: u64,
}

impl Reading {
    /// So much private memory and nothing else.
    #[cfg(test)]
    pub(super) fn of_private(private_bytes: u64) -> Self {
        Self {
            private_bytes,
            ..Self::default()
        }
    }

    /// All memory of the process, files left out.
    pub fn held_bytes(&self) -> u64 {
        self.private_bytes + self.shared_bytes + self.swapped_bytes + self.huge_bytes
    }

    /// The most that was held at any moment since the reading before, inside calls too, by the
    /// kernel's high-water mark. That counts pages of files as well: those there are now are taken
    /// off, so it is too low by what was read of files since the highest moment. What is in swap and
    /// in hugetlbfs is taken to have been the same then.
    fn held_at_most_bytes(&self) -> u64 {
        let above_files = self.high_water_bytes.saturating_sub(self.file_bytes);
        above_files.max(self.private_bytes + self.shared_bytes)
            + self.swapped_bytes
            + self.huge_bytes
    }

    /// Of the text of `/proc/self/status`; `None` unless the kernel tells what is needed.
    fn parse(text: &[u8]) -> Option<Self> {
        let field = |name: &[u8]| {
            let line = text
                .split(|byte| *byte == b'\n')
                .find_map(|line| line.strip_prefix(name))?;
            let digits = line
                .iter()
                .skip_while(|byte| byte.is_ascii_whitespace())
                .take_while(|byte| byte.is_ascii_digit());
            let number = digits.fold(0u64, |number, byte| number * 10 + u64::from(byte - b'0'));
            // "   1234 kB"
            Some(number << 10)
        };
        Some(Self {
            private_bytes: field(b"RssAnon:")?,
            shared_bytes: field(b"RssShmem:")?,
            // Absent from kernels that are built without.
            swapped_bytes: field(b"VmSwap:").unwrap_or(0),
            huge_bytes: field(b"HugetlbPages:").unwrap_or(0),
            file_bytes: field(b"RssFile:")?,
            high_water_bytes: field(b"VmHWM:")?,
        })
    }
}

/// Longer than the file is, but for a user in hundreds of groups.
const STATUS_BYTES: usize = 8 << 10;

/// Reads the memory of the process.
#[derive(Debug)]
pub struct ResidentReader {
    status: File,
}

impl ResidentReader {
    /// Opens `/proc/self/status`, which stays open.
    pub fn open() -> std::io::Result<Self> {
        Ok(Self {
            status: File::open("/proc/self/status")?,
        })
    }

    /// What the process holds now. The kernel's counters may lag by some pages for each thread.
    pub fn read(&self) -> std::io::Result<Reading> {
        let mut buffer = [0; STATUS_BYTES];
        let mut length = 0;
        while length < buffer.len() {
            match self.status.read_at(&mut buffer[length..], length as u64)? {
                0 => break,
                count => length += count,
            }
        }
        Reading::parse(&buffer[..length])
            .ok_or_else(|| std::io::Error::other("/proc/self/status does not tell RssAnon"))
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
    /// Resets the high-water mark when 5 is written to it.
    clear_refs: Option<File>,
    exact: Option<AnonymousPages>,
    start: Reading,
    /// Whether the high-water mark was reset at the beginning.
    sees_every_moment: bool,
}

impl Gauge {
    /// Opens what it reads. Without pagemap (a restricted container) the quick reading has to do.
    pub fn open() -> std::io::Result<Self> {
        let clear_refs = OpenOptions::new().write(true).open("/proc/self/clear_refs");
        Ok(Self {
            reader: ResidentReader::open()?,
            clear_refs: clear_refs.ok(),
            exact: AnonymousPages::new(page_bytes()).ok(),
            start: Reading::default(),
            sees_every_moment: false,
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
        self.sees_every_moment = self
            .clear_refs
            .as_ref()
            .is_some_and(|file| file.write_at(b"5", 0).is_ok());
        self.start = self.read();
    }

    /// What the process held at the beginning, by the quick reading.
    pub fn start(&self) -> Reading {
        self.start
    }

    /// The same by the exact look, stack left out.
    pub fn exact_start_bytes(&self) -> u64 {
        self.exact
            .as_ref()
            .map_or(self.start.held_bytes(), AnonymousPages::before_bytes)
    }

    /// What the process holds now, by the quick reading; nothing at all if it cannot be read.
    pub fn read(&self) -> Reading {
        self.reader.read().unwrap_or_default()
    }

    /// The most that the process held since the last reading, by `reading`; `None` if the kernel does
    /// not let its high-water mark be reset, so that it may be older than the beginning.
    pub fn held_at_most_bytes(&self, reading: &Reading) -> Option<u64> {
        self.sees_every_moment.then(|| reading.held_at_most_bytes())
    }

    /// Bytes that were not there at the beginning, by the exact look: milliseconds, not for curves.
    /// Where the kernel does not allow it, by the quick reading.
    pub fn new_bytes(&mut self) -> u64 {
        match self.exact_new() {
            Some(held) => held.total_bytes(),
            None => self
                .read()
                .held_bytes()
                .saturating_sub(self.start.held_bytes()),
        }
    }

    /// What was not there at the beginning, by the exact look and by kind; `None` if the kernel does
    /// not allow it.
    pub fn exact_new(&mut self) -> Option<Held> {
        self.exact.as_mut()?.new_held().ok()
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
    fn touched_memory_is_counted_private_or_shared() {
        let reader = ResidentReader::open().expect("Linux has /proc");
        let read = || reader.read().expect("readable");
        let bytes = 64 << 20;
        let before = read();
        let mut private = MmapMut::map_anon(bytes).expect("64 MiB");
        private.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        // SAFETY: a new mapping of the kernel's choice, written within its length, then unmapped.
        let with_shared = unsafe {
            let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let map = libc::mmap(core::ptr::null_mut(), bytes, access, flags, -1, 0);
            assert_ne!(map, libc::MAP_FAILED);
            core::ptr::write_bytes(map.cast::<u8>(), 1, bytes);
            let reading = read();
            libc::munmap(map, bytes);
            reading
        };
        // Other tests of this process allocate and free meanwhile; 64 MiB stand out all the same.
        let grown = |of: fn(&Reading) -> u64| of(&with_shared).saturating_sub(of(&before));
        assert!(grown(|reading| reading.private_bytes) > bytes as u64 / 2);
        assert!(grown(|reading| reading.shared_bytes) > bytes as u64 / 2);
        assert!(grown(Reading::held_bytes) > bytes as u64 * 3 / 2);
    }

    #[test]
    fn the_status_is_read_by_its_names() {
        let text = b"Name:\tx\nVmHWM:\t    900 kB\nVmRSS:\t 800 kB\nRssAnon:\t     100 kB\n\
            RssFile:\t     500 kB\nRssShmem:\t      30 kB\nVmSwap:\t       7 kB\nThreads:\t1\n\
            HugetlbPages:\t    2048 kB\n";
        let reading = Reading::parse(text).expect("whole");
        assert_eq!(reading.held_bytes(), (100 + 30 + 7 + 2048) << 10);
        // 900 at most, of which 500 are of files.
        assert_eq!(reading.held_at_most_bytes(), (400 + 7 + 2048) << 10);
        assert_eq!(Reading::parse(b"Name:\tx\nThreads:\t1\n"), None);
    }
}
