//! The exact look at memory: which OS pages of the process are resident and backed by no file that is
//! older than the replay. Taken at chosen moments, outside anything timed, without allocating.
//!
//! `/proc/self/smaps` tells the mappings that can have such pages, `/proc/self/pagemap` which pages of
//! them it is: private anonymous ones, those of shared mappings (shared anonymous memory, memfd, a
//! file that the allocator maps shared), those of hugetlbfs, and those that are in swap. What was
//! there when [`AnonymousPages::begin`] was called, the stack, and the harness's own later memory are
//! told apart. A page of shared memory that is mapped twice counts twice, as in the kernel's RSS.

use core::ops::Range;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use memmap2::MmapMut;

use super::page_set::PageSet;

/// Bytes of each file read at once.
const BUFFER_BYTES: usize = 64 << 10;
/// Lines of smaps are shorter, but for paths, whose end does not matter.
const LINE_BYTES: usize = 512;
/// Bits of an entry of pagemap: the page is there, is in swap, belongs to a file or to shared memory,
/// and is mapped here alone (which the kernel's shared page of zeroes is not).
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_FILE: u64 = 1 << 61;
const EXCLUSIVE: u64 = 1 << 56;

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Private and anonymous.
    Private,
    /// Of a shared mapping.
    Shared,
    /// Of hugetlbfs.
    Huge,
    /// Private, and in swap.
    Swapped,
}

/// Bytes of pages by what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Held {
    /// Private and anonymous.
    pub private_bytes: u64,
    /// Of shared mappings.
    pub shared_bytes: u64,
    /// Of hugetlbfs.
    pub huge_bytes: u64,
    /// In swap.
    pub swapped_bytes: u64,
}

impl Held {
    /// All of it.
    pub fn total_bytes(&self) -> u64 {
        self.private_bytes + self.shared_bytes + self.huge_bytes + self.swapped_bytes
    }

    /// Adds a page.
    pub fn add(&mut self, kind: Kind, page_bytes: usize) {
        *match kind {
            Kind::Private => &mut self.private_bytes,
            Kind::Shared => &mut self.shared_bytes,
            Kind::Huge => &mut self.huge_bytes,
            Kind::Swapped => &mut self.swapped_bytes,
        } += page_bytes as u64;
    }
}

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
        self.reader.each_page(|page, _| {
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

    /// What is held now that was not at the beginning.
    pub fn new_held(&mut self) -> std::io::Result<Held> {
        let (mut held, page_bytes) = (Held::default(), self.page_bytes());
        self.each_page(|_, kind, was_before| {
            if !was_before {
                held.add(kind, page_bytes);
            }
        })?;
        Ok(held)
    }

    /// Calls `visit` with the number of each OS page that is held, the stack's and the harness's later
    /// memory left out, ascending; with what it is, and whether it was held at the beginning.
    pub fn each_page(&mut self, mut visit: impl FnMut(usize, Kind, bool)) -> std::io::Result<()> {
        let before = &self.before;
        self.reader
            .each_page(|page, kind| visit(page, kind, before.contains(page)))
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

    fn each_page(&mut self, mut visit: impl FnMut(usize, Kind)) -> std::io::Result<()> {
        let (page_bytes, ours) = (self.page_bytes, &self.ours[..self.ours_count]);
        let (text, entries) = self.buffers.split_at_mut(BUFFER_BYTES);
        let pagemap = &self.pagemap;
        self.smaps.seek(SeekFrom::Start(0))?;
        let mut mapping = Mapping::default();
        let mut look = |mapping: &Mapping| {
            if !mapping.counts || !mapping.has_pages {
                return Ok(());
            }
            each_page_of(mapping, pagemap, page_bytes, entries, |page, kind| {
                let address = page * page_bytes;
                if !ours.iter().any(|range| range.contains(&address)) {
                    visit(page, kind);
                }
            })
        };
        each_line(&mut self.smaps, text, |line| {
            if let Some(next) = Mapping::parse(line) {
                look(&std::mem::replace(&mut mapping, next))
            } else {
                mapping.note(line);
                Ok(())
            }
        })?;
        look(&mapping)
    }
}

/// A mapping, as smaps tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Mapping {
    range: Range<usize>,
    is_shared: bool,
    is_huge: bool,
    /// Not the stack, and nothing of the kernel's.
    counts: bool,
    /// Whether there can be pages to count: reading pagemap takes time for each page of a mapping.
    has_pages: bool,
}

impl Mapping {
    /// `55dc31ac2000-55dc31ac4000 r--p 00000000 fe:00 247030   /usr/bin/cat`; `None` for any other line.
    fn parse(line: &[u8]) -> Option<Self> {
        let (start, rest) = hexadecimal(line)?;
        let (end, rest) = hexadecimal(rest.strip_prefix(b"-")?)?;
        let is_shared = *rest.strip_prefix(b" ")?.get(3)? == b's';
        let is_kernels = [
            b"[vvar]".as_slice(),
            b"[vvar_vclock]",
            b"[vdso]",
            b"[stack]",
        ];
        Some(Self {
            range: start..end,
            is_shared,
            counts: !is_kernels.iter().any(|name| line.ends_with(name)),
            ..Self::default()
        })
    }

    /// Takes in a line on the mapping: `Anonymous:          12 kB`.
    fn note(&mut self, line: &[u8]) {
        let is_more_than_nothing = |name: &[u8]| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.iter().any(|byte| (b'1'..=b'9').contains(byte)))
        };
        let names: &[&[u8]] = match self.is_shared {
            true => &[b"Rss:", b"Swap:"],
            false => &[b"Anonymous:", b"Swap:"],
        };
        self.has_pages |= names.iter().any(|name| is_more_than_nothing(name));
        // The other lines are all 0 then.
        if is_more_than_nothing(b"Private_Hugetlb:") || is_more_than_nothing(b"Shared_Hugetlb:") {
            (self.is_huge, self.has_pages) = (true, true);
        }
    }

    /// What a page is by its entry in pagemap; `None` if it is not there or a file's.
    fn kind(&self, entry: u64) -> Option<Kind> {
        match entry {
            _ if entry & PRESENT != 0 && self.is_huge => Some(Kind::Huge),
            _ if entry & PRESENT != 0 && self.is_shared => Some(Kind::Shared),
            _ if entry & (PRESENT | OF_FILE | EXCLUSIVE) == PRESENT | EXCLUSIVE => {
                Some(Kind::Private)
            }
            // For an entry of shared memory the kernel does not tell.
            _ if entry & (PRESENT | OF_FILE | SWAPPED) == SWAPPED => Some(Kind::Swapped),
            _ => None,
        }
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

/// Calls `visit` with each page of a mapping that counts.
fn each_page_of(
    mapping: &Mapping,
    pagemap: &File,
    page_bytes: usize,
    buffer: &mut [u8],
    mut visit: impl FnMut(usize, Kind),
) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let range = &mapping.range;
    let (mut page, end) = (range.start / page_bytes, range.end / page_bytes);
    while page < end {
        let wanted = ((end - page) * 8).min(buffer.len());
        let count = pagemap.read_at(&mut buffer[..wanted], page as u64 * 8)? / 8;
        if count == 0 {
            return Ok(());
        }
        for (number, entry) in buffer[..count * 8].as_chunks().0.iter().enumerate() {
            if let Some(kind) = mapping.kind(u64::from_ne_bytes(*entry)) {
                visit(page + number, kind);
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
            ..Mapping::default()
        };
        assert_eq!(Mapping::parse(line), Some(expected));
        let shared = Mapping::parse(b"10-20 rw-s 00000000 00:01 5 /dev/zero").expect("a mapping");
        let stack = Mapping::parse(b"10-20 rw-p 00000000 00:00 0   [stack]").expect("a mapping");
        assert!(shared.counts && shared.is_shared && !stack.counts);
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
    fn pages_are_told_apart_by_their_mapping() {
        let private = Mapping::parse(b"10-20 rw-p 00000000 00:00 0 ").expect("a mapping");
        let shared = Mapping::parse(b"10-20 rw-s 00000000 00:01 5 /memfd:x").expect("a mapping");
        let with = |mapping: &Mapping, lines: &[&str]| {
            let mut mapping = mapping.clone();
            for line in lines {
                mapping.note(line.as_bytes());
            }
            mapping
        };
        let none = with(
            &private,
            &["Rss:  12 kB", "Anonymous:  0 kB", "Swap:  0 kB"],
        );
        assert!(!none.has_pages);
        let swapped = with(&private, &["Anonymous:     0 kB", "Swap:      8 kB"]);
        assert!(swapped.has_pages);
        let huge = with(&private, &["Rss:  0 kB", "Private_Hugetlb:    2048 kB"]);
        let resident = with(&shared, &["Rss:      8 kB", "Anonymous:   0 kB"]);
        assert!(resident.has_pages && huge.has_pages);
        let own = PRESENT | EXCLUSIVE;
        for (mapping, entry, expected) in [
            (&private, own, Some(Kind::Private)),
            (&private, PRESENT, None),
            (&private, own | OF_FILE, None),
            (&swapped, SWAPPED, Some(Kind::Swapped)),
            (&resident, PRESENT | OF_FILE, Some(Kind::Shared)),
            (&huge, own, Some(Kind::Huge)),
            (&huge, 0, None),
        ] {
            assert_eq!(mapping.kind(entry), expected, "{mapping:?} {entry:x}");
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
            .each_page(|page, _, _| {
                if (first..first + 64).contains(&page) && found.len() < 64 {
                    found.push(page - first);
                }
            })
            .expect("readable");
        assert_eq!(found, [0].into_iter().chain(10..20).collect::<Vec<_>>());
        let mut at_first = None;
        pages
            .each_page(|page, _, before| {
                if page == first {
                    at_first = Some(before);
                }
            })
            .expect("readable");
        assert_eq!(at_first, Some(true));
        let held = pages.new_held().expect("readable");
        assert!(held.private_bytes >= 10 * page_bytes as u64, "{held:?}");
    }
}
