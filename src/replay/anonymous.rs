//! The exact look at memory: which OS pages of the process are private, anonymous and resident. Taken
//! at chosen moments, outside anything timed, without allocating.
//!
//! `/proc/self/smaps` tells the private mappings that have anonymous memory at all,
//! `/proc/self/pagemap` which pages of them it is. What was resident when [`AnonymousPages::begin`]
//! was called, the stack, and the harness's own later memory are told apart.

use core::ops::Range;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use memmap2::MmapMut;

use super::page_set::PageSet;

/// Bytes of each file read at once.
const BUFFER_BYTES: usize = 64 << 10;
/// Lines of smaps are shorter, but for paths, whose end does not matter.
const LINE_BYTES: usize = 512;
/// Bits of an entry of pagemap: the page is there, belongs to a file or to shared memory, and is mapped
/// here alone (which the kernel's shared page of zeroes is not).
const PRESENT: u64 = 1 << 63;
const OF_FILE: u64 = 1 << 61;
const EXCLUSIVE: u64 = 1 << 56;

/// See the module text.
#[derive(Debug)]
pub struct AnonymousPages {
    reader: Reader,
    /// Pages that were resident at the beginning.
    before: PageSet,
    before_bytes: u64,
}

impl AnonymousPages {
    /// Opens the files and reserves the memory. `page_bytes` is the size of an OS page.
    pub fn new(page_bytes: usize) -> std::io::Result<Self> {
        let mut reader = Reader {
            smaps: File::open("/proc/self/smaps")?,
            pagemap: File::open("/proc/self/pagemap")?,
            buffers: MmapMut::map_anon(2 * BUFFER_BYTES)?,
            page_bytes,
            ours: Default::default(),
            ours_count: 0,
        };
        // Resident before the beginning.
        reader.buffers.fill(1);
        let before = PageSet::new(page_bytes)?;
        reader.exclude(before.own_memory());
        Ok(Self {
            reader,
            before,
            before_bytes: 0,
        })
    }

    /// Leaves out memory of the harness's own.
    ///
    /// # Panics
    /// If there are more than eight ranges in all.
    pub fn exclude(&mut self, ranges: impl IntoIterator<Item = Range<usize>>) {
        self.reader.exclude(ranges);
    }

    /// Notes what is resident now as not the allocator's. To be called once.
    pub fn begin(&mut self) -> std::io::Result<()> {
        let (before, mut count) = (&mut self.before, 0);
        self.reader.each_page(|page| {
            before.insert(page..page + 1);
            count += 1;
        })?;
        self.before_bytes = count * self.reader.page_bytes as u64;
        Ok(())
    }

    /// Bytes that were resident at the beginning.
    pub fn before_bytes(&self) -> u64 {
        self.before_bytes
    }

    /// Bytes of an OS page.
    pub fn page_bytes(&self) -> usize {
        self.reader.page_bytes
    }

    /// Bytes resident now that were not at the beginning.
    pub fn new_bytes(&mut self) -> std::io::Result<u64> {
        let mut count = 0;
        self.each_page(|_, was_before| count += u64::from(!was_before))?;
        Ok(count * self.reader.page_bytes as u64)
    }

    /// Calls `visit` with the number of each OS page that is private, anonymous and resident, the
    /// stack's and the harness's later memory left out, ascending; and whether it was resident at the
    /// beginning.
    pub fn each_page(&mut self, mut visit: impl FnMut(usize, bool)) -> std::io::Result<()> {
        let before = &self.before;
        self.reader
            .each_page(|page| visit(page, before.contains(page)))
    }
}

/// The files, and what they are read into.
#[derive(Debug)]
struct Reader {
    smaps: File,
    pagemap: File,
    buffers: MmapMut,
    page_bytes: usize,
    /// Memory of the harness's own that grows later.
    ours: [Range<usize>; 8],
    ours_count: usize,
}

impl Reader {
    fn exclude(&mut self, ranges: impl IntoIterator<Item = Range<usize>>) {
        for range in ranges {
            self.ours[self.ours_count] = range;
            self.ours_count += 1;
        }
    }

    fn each_page(&mut self, mut visit: impl FnMut(usize)) -> std::io::Result<()> {
        let (page_bytes, ours) = (self.page_bytes, &self.ours[..self.ours_count]);
        let (text, entries) = self.buffers.split_at_mut(BUFFER_BYTES);
        let pagemap = &self.pagemap;
        self.smaps.seek(SeekFrom::Start(0))?;
        let mut mapping = Mapping::default();
        each_line(&mut self.smaps, text, |line| {
            if let Some(next) = Mapping::parse(line) {
                mapping = next;
            } else if let Some(rest) = line.strip_prefix(b"Anonymous:")
                && mapping.counts
                && rest.iter().any(|byte| (b'1'..=b'9').contains(byte))
            {
                return each_page_of(&mapping.range, pagemap, page_bytes, entries, |page| {
                    let address = page * page_bytes;
                    if !ours.iter().any(|range| range.contains(&address)) {
                        visit(page);
                    }
                });
            }
            Ok(())
        })
    }
}

/// A line of smaps that begins a mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Mapping {
    range: Range<usize>,
    /// Private, and not the stack.
    counts: bool,
}

impl Mapping {
    /// `55dc31ac2000-55dc31ac4000 r--p 00000000 fe:00 247030   /usr/bin/cat`; `None` for any other line.
    fn parse(line: &[u8]) -> Option<Self> {
        let (start, rest) = hexadecimal(line)?;
        let (end, rest) = hexadecimal(rest.strip_prefix(b"-")?)?;
        let private = *rest.strip_prefix(b" ")?.get(3)? == b'p';
        Some(Self {
            range: start..end,
            counts: private && !line.ends_with(b"[stack]") && !line.ends_with(b"[vvar]"),
        })
    }
}

/// The hexadecimal number that the text begins with, and what follows.
fn hexadecimal(text: &[u8]) -> Option<(usize, &[u8])> {
    let digits = text
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let number = text[..digits].iter().try_fold(0usize, |number, byte| {
        let digit = (*byte as char).to_digit(16)?;
        number.checked_mul(16)?.checked_add(digit as usize)
    })?;
    (digits > 0).then_some((number, &text[digits..]))
}

/// Calls `visit` with each line, cut to `LINE_BYTES`.
fn each_line(
    file: &mut File,
    buffer: &mut [u8],
    mut visit: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let (mut line, mut length) = ([0; LINE_BYTES], 0);
    loop {
        let count = match file.read(buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        for byte in &buffer[..count] {
            if *byte == b'\n' {
                visit(&line[..length])?;
                length = 0;
            } else if length < LINE_BYTES {
                line[length] = *byte;
                length += 1;
            }
        }
    }
}

/// Calls `visit` with each page of a mapping that is anonymous and resident.
fn each_page_of(
    range: &Range<usize>,
    pagemap: &File,
    page_bytes: usize,
    buffer: &mut [u8],
    mut visit: impl FnMut(usize),
) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let (mut page, end) = (range.start / page_bytes, range.end / page_bytes);
    while page < end {
        let wanted = ((end - page) * 8).min(buffer.len());
        let count = pagemap.read_at(&mut buffer[..wanted], page as u64 * 8)? / 8;
        if count == 0 {
            return Ok(());
        }
        for (number, entry) in buffer[..count * 8].as_chunks().0.iter().enumerate() {
            let entry = u64::from_ne_bytes(*entry);
            if entry & (PRESENT | OF_FILE | EXCLUSIVE) == PRESENT | EXCLUSIVE {
                visit(page + number);
            }
        }
        page += count;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_smaps_are_told_apart() {
        let line = b"7f00-8f00 rw-p 00000000 00:00 0 ";
        let expected = Mapping {
            range: 0x7f00..0x8f00,
            counts: true,
        };
        assert_eq!(Mapping::parse(line), Some(expected));
        let shared = Mapping::parse(b"10-20 rw-s 00000000 00:01 5 /dev/zero").expect("a mapping");
        let stack = Mapping::parse(b"10-20 rw-p 00000000 00:00 0   [stack]").expect("a mapping");
        assert!(!shared.counts && !stack.counts);
        for other in [
            "Anonymous:      12 kB",
            "VmFlags: rd wr",
            "",
            "Size: 8 kB",
            "abcd",
        ] {
            assert_eq!(Mapping::parse(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn written_pages_are_found_and_read_ones_are_not() {
        // SAFETY: takes and returns numbers.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let mut pages = AnonymousPages::new(page_bytes).expect("Linux has /proc");
        let mut map = MmapMut::map_anon(64 * page_bytes).expect("memory");
        map[0] = 1;
        pages.begin().expect("readable");
        // A read maps the kernel's page of zeroes, which is nobody's memory.
        assert_eq!(map[2 * page_bytes], 0);
        for page in 10..20 {
            map[page * page_bytes] = 1;
        }
        let first = map.as_ptr().addr() / page_bytes;
        let mut found = Vec::with_capacity(64);
        pages
            .each_page(|page, _| {
                if (first..first + 64).contains(&page) && found.len() < 64 {
                    found.push(page - first);
                }
            })
            .expect("readable");
        assert_eq!(found, [0].into_iter().chain(10..20).collect::<Vec<_>>());
        let mut at_first = None;
        pages
            .each_page(|page, before| {
                if page == first {
                    at_first = Some(before);
                }
            })
            .expect("readable");
        assert_eq!(at_first, Some(true));
        assert!(pages.new_bytes().expect("readable") >= 10 * page_bytes as u64);
    }
}
