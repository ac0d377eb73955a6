//! Which file is mapped where, so that an address can be named by file and offset, which unlike the
//! address itself is the same in every run.

use std::collections::BTreeMap;

use crate::trace::import::scan::Parse;

/// Mapped segments. A large program has some thousand.
const SEGMENTS_MAX: usize = 1 << 20;

/// Mapped files.
const FILES_MAX: usize = 1 << 16;

/// The files that are mapped at a time.
#[derive(Default)]
pub(super) struct Modules {
    /// Name of the file that is called "x".
    executable: String,
    files: Vec<File>,
    /// By first address: the address behind the last, and the number of the file.
    segments: BTreeMap<u64, (u64, usize)>,
}

struct File {
    name: String,
    base: u64,
}

/// An address in a file.
pub(super) struct Frame<'m> {
    file: &'m str,
    offset: u64,
}

impl Frame<'_> {
    /// What it is called.
    pub(super) fn name(&self) -> String {
        format!("{}+{:#x}", self.file, self.offset)
    }

    /// Whether it belongs to the C++ library, whose `operator new` is not the program's own site.
    pub(super) fn is_of_cxx_library(&self) -> bool {
        self.file.starts_with("libstdc++.so") || self.file.starts_with("libc++.so")
    }
}

impl Modules {
    pub(super) fn set_executable(&mut self, path: &[u8]) {
        self.executable = file_name(&String::from_utf8_lossy(path)).to_owned();
    }

    /// Forgets all files: the list comes anew.
    pub(super) fn clear(&mut self) {
        self.files.clear();
        self.segments.clear();
    }

    /// Adds a file and returns its number.
    pub(super) fn add(&mut self, path: &[u8], base: u64) -> Parse<usize> {
        if self.files.len() == FILES_MAX {
            return Err("at most 2^16 modules");
        }
        let name = match path {
            b"x" => self.executable.clone(),
            path => file_name(&String::from_utf8_lossy(path)).to_owned(),
        };
        self.files.push(File { name, base });
        Ok(self.files.len() - 1)
    }

    /// Adds a segment of a file. One that does not fit the address space holds no address.
    pub(super) fn add_segment(&mut self, file: usize, offset: u64, bytes: u64) -> Parse<()> {
        if self.segments.len() == SEGMENTS_MAX {
            return Err("at most 2^20 segments");
        }
        let start = self.files[file].base.wrapping_add(offset);
        if let Some(end) = start.checked_add(bytes) {
            self.segments.insert(start, (end, file));
        }
        Ok(())
    }

    /// The file and offset of an address.
    pub(super) fn find(&self, address: u64) -> Option<Frame<'_>> {
        let (_, &(end, file)) = self.segments.range(..=address).next_back()?;
        let file = self.files.get(file).filter(|_| address < end)?;
        Some(Frame {
            file: &file.name,
            offset: address.wrapping_sub(file.base),
        })
    }
}

/// The last part of a path.
pub(super) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_their_segment() {
        let mut modules = Modules::default();
        modules.set_executable(b"/usr/bin/demo");
        let demo = modules.add(b"x", 0x1000).unwrap();
        modules.add_segment(demo, 0, 0x10).unwrap();
        modules.add_segment(demo, 0x100, 0x10).unwrap();
        let library = modules
            .add(b"/lib/libstdc++.so.6", u64::MAX - 0xff)
            .unwrap();
        modules.add_segment(library, 0x80, 0x10).unwrap();
        modules.add_segment(library, 0xf0, u64::MAX).unwrap();
        let name = |address| modules.find(address).map(|frame| frame.name());
        assert_eq!(name(0xfff), None);
        assert_eq!(name(0x1000), Some("demo+0x0".to_owned()));
        assert_eq!(name(0x1010), None);
        assert_eq!(name(0x110f), Some("demo+0x10f".to_owned()));
        let found = modules.find(u64::MAX - 0x7f).unwrap();
        assert_eq!(found.name(), "libstdc++.so.6+0x80");
        assert!(found.is_of_cxx_library());
        assert_eq!(name(u64::MAX), None);
        modules.clear();
        assert!(modules.find(0x1000).is_none());
    }
}
