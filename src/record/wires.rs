//! The recorder's files as they appear in the session's folder.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::trace::import::wire::{Header, read_header};

/// Files of other processes that are held open, so that they outlive their folder. The program's own
/// always are.
const HELD_MAX: usize = 256;

/// Which process, and which of the programs that it became.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Key {
    pub(super) process: u32,
    pub(super) image: u32,
}

impl Key {
    /// `<pid>.<image>.wire`
    fn of(name: &str) -> Option<Self> {
        let (process, image) = name.strip_suffix(".wire")?.split_once('.')?;
        Some(Self {
            process: process.parse().ok()?,
            image: image.parse().ok()?,
        })
    }

    fn file_name(self) -> String {
        format!("{}.{}.wire", self.process, self.image)
    }
}

/// A file, and what it says of itself.
pub(super) struct Wire {
    pub(super) key: Key,
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) header: Header,
}

/// The files of a session.
pub(super) struct Wires {
    folder: PathBuf,
    /// The program's process.
    main: u32,
    found: BTreeMap<Key, Option<File>>,
    held: usize,
}

impl Wires {
    pub(super) fn new(folder: &Path, main: u32) -> Self {
        Self {
            folder: folder.to_owned(),
            main,
            found: BTreeMap::new(),
            held: 0,
        }
    }

    /// Whether the folder is still there.
    pub(super) fn has_folder(&self) -> bool {
        self.folder.is_dir()
    }

    /// Looks for new files.
    pub(super) fn look(&mut self) {
        let Ok(entries) = std::fs::read_dir(&self.folder) else {
            return;
        };
        for entry in entries.flatten() {
            let Some(key) = entry.file_name().to_str().and_then(Key::of) else {
                continue;
            };
            if self.found.contains_key(&key) {
                continue;
            }
            let is_main = key.process == self.main;
            let holds = is_main || self.held < HELD_MAX;
            let file = holds.then(|| File::open(entry.path()).ok()).flatten();
            self.held += usize::from(file.is_some() && !is_main);
            self.found.insert(key, file);
        }
    }

    /// All files that can be read, in the order of their processes. One that was made a moment ago and
    /// is not filled in yet is left out.
    pub(super) fn all(&self) -> Vec<Wire> {
        let wires = self.found.iter().filter_map(|(&key, file)| {
            let path = self.folder.join(key.file_name());
            let file = match file {
                Some(file) => file.try_clone().ok()?,
                None => File::open(&path).ok()?,
            };
            let header = read_header(&file).ok()?.ok()?;
            Some(Wire {
                key,
                path,
                file,
                header,
            })
        });
        wires.collect()
    }

    /// The program's last image, among files.
    pub(super) fn main_key(&self, wires: &[Wire]) -> Option<Key> {
        let own = wires.iter().filter(|wire| wire.key.process == self.main);
        own.map(|wire| wire.key).max()
    }

    /// Whether a process became no other program after this.
    pub(super) fn is_last_image(&self, key: Key) -> bool {
        let same = self
            .found
            .keys()
            .filter(|other| other.process == key.process);
        same.max() == Some(&key)
    }

    /// Those whose process lives: the last image of each.
    pub(super) fn living(&self) -> Vec<Wire> {
        let wires = self.all();
        let keys: Vec<Key> = wires
            .iter()
            .filter(|wire| self.is_last_image(wire.key) && wire.header.is_process_alive())
            .map(|wire| wire.key)
            .collect();
        let living = wires.into_iter().filter(|wire| keys.contains(&wire.key));
        living.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_process_and_image() {
        let key = Key {
            process: 12,
            image: 3,
        };
        assert_eq!(Key::of("12.3.wire"), Some(key));
        assert_eq!(Key::of(&key.file_name()), Some(key));
        for name in [
            "12.wire",
            "12.3.maps",
            "main",
            "-1.0.wire",
            "1.2.3.wire",
            ".wire",
        ] {
            assert_eq!(Key::of(name), None, "{name}");
        }
    }
}
