//! Call sites: return addresses become names, by the list of what was mapped where.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use rustc_hash::FxHashMap;

use crate::trace::SiteId;

/// A list of mappings is not longer than this; what is beyond it stays without a name.
const MAPS_BYTES_MAX: u64 = 256 << 20;

/// Numbers call sites.
#[derive(Default)]
pub(super) struct Sites {
    numbers: FxHashMap<u64, SiteId>,
    /// By number, less one: 0 is "unknown".
    addresses: Vec<u64>,
}

impl Sites {
    /// The number of a return address.
    #[inline]
    pub(super) fn number(&mut self, address: u64) -> SiteId {
        if address == 0 {
            return SiteId(0);
        }
        *self.numbers.entry(address).or_insert_with(|| {
            self.addresses.push(address);
            // A trace has fewer events, and so fewer sites.
            SiteId(u32::try_from(self.addresses.len()).unwrap_or(0))
        })
    }

    /// A name for each number: `module+0xoffset` where the address lay in a file, otherwise the address.
    pub(super) fn names(&self, maps: &Maps) -> Vec<String> {
        let named = self.addresses.iter().map(|&address| maps.name(address));
        std::iter::once("unknown".to_owned()).chain(named).collect()
    }
}

/// What was mapped where, as `/proc/PID/maps` writes it.
#[derive(Default)]
pub(super) struct Maps {
    /// By their first address: behind their last one, offset in the file, its name.
    mappings: BTreeMap<u64, (u64, u64, String)>,
}

impl Maps {
    /// Reads a list; an empty one if there is none. Later lines count, if a place was used twice.
    pub(super) fn read(path: &Path) -> Self {
        let mut maps = Self::default();
        let Ok(file) = std::fs::File::open(path) else {
            return maps;
        };
        for line in BufReader::new(file.take(MAPS_BYTES_MAX)).split(b'\n') {
            let Ok(line) = line else { break };
            maps.add(&String::from_utf8_lossy(&line));
        }
        maps
    }

    pub(super) fn is_empty(&self) -> bool {
        self.mappings.is_empty()
    }

    /// A line: `start-end perms offset device inode path`; others are passed over.
    fn add(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        let mut word = || words.next();
        let (Some(range), Some(_), Some(offset), Some(_), Some(inode)) =
            (word(), word(), word(), word(), word())
        else {
            return;
        };
        // The path is the rest of the line, blanks and all.
        let Some(path) = line.find('/').map(|at| &line[at..]) else {
            return;
        };
        let Some((start, end)) = range.split_once('-') else {
            return;
        };
        let number = |text| u64::from_str_radix(text, 16).ok();
        let (Some(start), Some(end), Some(offset)) = (number(start), number(end), number(offset))
        else {
            return;
        };
        if inode != "0" && start < end {
            self.mappings.insert(start, (end, offset, path.to_owned()));
        }
    }

    fn name(&self, address: u64) -> String {
        match self.mappings.range(..=address).next_back() {
            Some((start, (end, offset, path))) if address < *end => {
                format!("{path}+{:#x}", (address - start).saturating_add(*offset))
            }
            _ => format!("{address:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_places_in_files() {
        let mut maps = Maps::default();
        for line in [
            "55d0c0a00000-55d0c0a20000 r-xp 00002000 fd:01 1234      /usr/bin/a b",
            "7f0000000000-7f0000001000 rw-p 00000000 00:00 0 ",
            "7f0000001000-7f0000002000 r--p 00000000 00:00 0      [vdso]",
            "nonsense / more",
            "zz-yy r-xp 0 0 1 /x",
            "",
        ] {
            maps.add(line);
        }
        assert_eq!(maps.name(0x55d0_c0a0_0010), "/usr/bin/a b+0x2010");
        assert_eq!(maps.name(0x55d0_c0a2_0000), "0x55d0c0a20000");
        assert_eq!(maps.name(0x7f00_0000_0010), "0x7f0000000010");
        assert_eq!(maps.name(1), "0x1");
        assert_eq!(maps.mappings.len(), 1);
    }

    #[test]
    fn an_address_has_one_number() {
        let mut sites = Sites::default();
        let numbers = [7, 9, 7, 0, 9].map(|address| sites.number(address).0);
        assert_eq!(numbers, [1, 2, 1, 0, 2]);
        let names = sites.names(&Maps::default());
        assert_eq!(names, ["unknown", "0x7", "0x9"]);
    }
}
