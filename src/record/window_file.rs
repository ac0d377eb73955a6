//! A recorder's file as the command sees it while the process writes: mapped, for the words that both
//! change. [`crate::trace::wire`] tells what they are.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

use super::system;
use crate::trace::wire::{
    MAGIC, UNIT_BYTES, VERSION, WINDOW_COPYING, WINDOW_FREE, WINDOW_FULL, WINDOW_NONE, WINDOWS_MAX,
    header as at, window_place_parts, window_state, window_state_parts,
};

/// Part of a file that another process writes too.
pub(super) struct Mapped(MmapRaw);

impl Mapped {
    pub(super) fn new(file: &File, offset: u64, bytes: usize) -> std::io::Result<Self> {
        // A part beyond the file's end could be mapped, and not be read.
        if file.metadata()?.len() < offset + bytes as u64 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let mapping = MmapOptions::new().offset(offset).len(bytes).map_raw(file)?;
        Ok(Self(mapping))
    }

    /// A word that is changed by whole words only.
    pub(super) fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.0.len());
        // SAFETY: aligned, as mappings begin at an OS page, and within the mapping, which lives as long
        // as the reference; whoever has the file mapped uses atomic operations.
        unsafe { AtomicU32::from_ptr(self.0.as_mut_ptr().add(offset).cast()) }
    }

    fn long_word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.0.len());
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(self.0.as_mut_ptr().add(offset).cast()) }
    }
}

/// A file that has windows.
pub(super) struct WindowFile {
    file: File,
    header: Mapped,
    /// Those that were copied once at least.
    windows: Vec<Option<Mapped>>,
}

impl WindowFile {
    /// Opens it. None: it has no windows yet.
    ///
    /// # Errors
    /// The system refuses, it is not a recorder's file, or it has no windows and will get none.
    pub(super) fn open(path: &Path) -> std::io::Result<Option<Self>> {
        let file = File::options().read(true).write(true).open(path)?;
        if file.metadata()?.len() < UNIT_BYTES as u64 {
            return Ok(None);
        }
        let header = Mapped::new(&file, 0, UNIT_BYTES)?;
        if header.long_word(at::WINDOWS).load(Ordering::Acquire) == WINDOW_NONE {
            let ended = header.long_word(at::ENDED_MONOTONIC_NS);
            return match ended.load(Ordering::Relaxed) {
                0 => Ok(None),
                _ => Err(std::io::ErrorKind::InvalidData.into()),
            };
        }
        let is_ours = header.long_word(at::MAGIC).load(Ordering::Relaxed)
            == u64::from_le_bytes(MAGIC)
            && header.word(at::VERSION).load(Ordering::Relaxed) == VERSION;
        if !is_ours {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        Ok(Some(Self {
            file,
            header,
            windows: Vec::new(),
        }))
    }

    /// Whether the process has ended in order.
    pub(super) fn has_ended(&self) -> bool {
        let ended = self.header.long_word(at::ENDED_MONOTONIC_NS);
        ended.load(Ordering::Relaxed) != 0
    }

    /// Copies what is full. Returns whether anything was.
    pub(super) fn copy_full_windows(&mut self) -> bool {
        let mut has_copied = false;
        for index in 0..WINDOWS_MAX {
            if self.header.word(at::COPIES_REFUSED).load(Ordering::Relaxed) != 0 {
                break;
            }
            let state = self
                .header
                .long_word(at::WINDOWS + index * at::WINDOW_BYTES);
            let full = state.load(Ordering::Relaxed);
            match window_state_parts(full) {
                (_, WINDOW_NONE) => break,
                (turn, WINDOW_FULL) => {
                    let copying = window_state(turn, WINDOW_COPYING);
                    // Acquire: the words were written before it was full. The process lets it alone
                    // from here on, so that the exchange can fail only in a file that somebody damages.
                    let exchange = (Ordering::Acquire, Ordering::Relaxed);
                    if state
                        .compare_exchange(full, copying, exchange.0, exchange.1)
                        .is_err()
                    {
                        continue;
                    }
                    let copied = self.copy(index);
                    let state = self
                        .header
                        .long_word(at::WINDOWS + index * at::WINDOW_BYTES);
                    if copied.is_ok() {
                        // Release: the words are read. From here on the copy counts.
                        state.store(window_state(turn + 1, WINDOW_FREE), Ordering::Release);
                        has_copied = true;
                    } else {
                        let refused = self.header.word(at::COPIES_REFUSED);
                        refused.store(1, Ordering::Relaxed);
                        state.store(full, Ordering::Release);
                    }
                }
                _ => {}
            }
        }
        has_copied
    }

    /// Copies a window to the end of the file.
    fn copy(&mut self, index: usize) -> std::io::Result<()> {
        let place = self
            .header
            .long_word(at::WINDOWS + index * at::WINDOW_BYTES + 8);
        let (offset, units) = window_place_parts(place.load(Ordering::Relaxed));
        if units == 0 {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        let bytes = usize::try_from(units).map_err(std::io::Error::other)? * UNIT_BYTES;
        if self.windows.len() <= index {
            self.windows.resize_with(index + 1, || None);
        }
        let window = match &mut self.windows[index] {
            Some(window) => window,
            missing => missing.insert(Mapped::new(&self.file, offset, bytes)?),
        };
        let to = reserve(&self.header, bytes as u64)?;
        let words = std::ptr::slice_from_raw_parts(window.0.as_ptr(), window.0.len());
        system::write_shared_at(&self.file, words, to)
    }
}

/// Hands out bytes at the end of the file: where they are.
fn reserve(header: &Mapped, bytes: u64) -> std::io::Result<u64> {
    let limit = header.long_word(at::LIMIT_BYTES).load(Ordering::Relaxed);
    let end = header.long_word(at::FILE_BYTES);
    let fitting = |end: u64| end.checked_add(bytes).filter(|&end| end <= limit);
    end.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fitting)
        .map_err(|_| std::io::ErrorKind::FileTooLarge.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;
    use crate::trace::wire::{WINDOW_OWNED, window_mark, window_place};

    const UNIT: u64 = UNIT_BYTES as u64;

    /// A file with a window of two units, and room for so many bytes in all.
    fn file(path: &Path, turn: u64, state: u64, limit_bytes: u64) -> File {
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(true);
        let file = options.open(path).expect("ours");
        file.set_len(3 * UNIT).expect("ours");
        let put = |at: usize, value: u64| {
            file.write_all_at(&value.to_le_bytes(), at as u64)
                .expect("ours");
        };
        put(at::MAGIC, u64::from_le_bytes(MAGIC));
        put(at::VERSION, VERSION.into());
        put(at::FILE_BYTES, 3 * UNIT);
        put(at::LIMIT_BYTES, limit_bytes);
        put(at::WINDOWS, window_state(turn, state));
        put(at::WINDOWS + 8, window_place(UNIT, 2));
        put(UNIT_BYTES + 8, window_mark(0, turn));
        put(3 * UNIT_BYTES - 8, 77);
        file
    }

    fn word(file: &File, at: u64) -> u64 {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at).expect("there");
        u64::from_le_bytes(bytes)
    }

    fn state(file: &File) -> (u64, u64) {
        window_state_parts(word(file, at::WINDOWS as u64))
    }

    #[test]
    fn a_full_window_is_copied_to_the_end_and_given_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("1.0.wire");
        let file = file(&path, 5, WINDOW_FULL, u64::MAX);
        let mut opened = WindowFile::open(&path).expect("ours").expect("a window");
        assert!(opened.copy_full_windows());
        assert_eq!(state(&file), (6, WINDOW_FREE));
        assert_eq!(file.metadata().expect("ours").len(), 5 * UNIT);
        assert_eq!(word(&file, at::FILE_BYTES as u64), 5 * UNIT);
        // Mark and words.
        assert_eq!(word(&file, 3 * UNIT + 8), window_mark(0, 5));
        assert_eq!(word(&file, 5 * UNIT - 8), 77);
        assert!(!opened.copy_full_windows());
    }

    #[test]
    fn what_is_not_full_or_does_not_fit_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("1.0.wire");
        for other in [WINDOW_OWNED, WINDOW_COPYING, WINDOW_FREE] {
            let file = file(&path, 5, other, u64::MAX);
            let mut opened = WindowFile::open(&path).expect("ours").expect("a window");
            assert!(!opened.copy_full_windows());
            assert_eq!(state(&file), (5, other));
        }
        // The limit is near; or the table says what cannot be.
        for (limit, place) in [(4 * UNIT, UNIT | 2), (u64::MAX, UNIT | 9), (u64::MAX, 0)] {
            let file = file(&path, 5, WINDOW_FULL, limit);
            file.write_all_at(&place.to_le_bytes(), at::WINDOWS as u64 + 8)
                .expect("ours");
            let mut opened = WindowFile::open(&path).expect("ours").expect("a window");
            assert!(!opened.copy_full_windows());
            assert_eq!(state(&file), (5, WINDOW_FULL));
            assert_eq!(word(&file, at::COPIES_REFUSED as u64) as u32, 1);
            assert_eq!(word(&file, at::FILE_BYTES as u64), 3 * UNIT);
        }
    }

    #[test]
    fn other_files_are_refused_and_those_without_windows_may_come_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("1.0.wire");
        std::fs::write(&path, "short").expect("ours");
        assert!(WindowFile::open(&path).expect("not yet").is_none());
        let file = file(&path, 0, WINDOW_NONE, u64::MAX);
        assert!(WindowFile::open(&path).expect("not yet").is_none());
        file.write_all_at(&[1], at::ENDED_MONOTONIC_NS as u64)
            .expect("ours");
        assert!(WindowFile::open(&path).is_err());
        file.write_all_at(
            &window_state(0, WINDOW_OWNED).to_le_bytes(),
            at::WINDOWS as u64,
        )
        .expect("ours");
        assert!(WindowFile::open(&path).is_ok_and(|file| file.is_some()));
        file.write_all_at(b"x", 0).expect("ours");
        assert!(WindowFile::open(&path).is_err());
    }
}
