//! Call sites are addresses; what lies there is told by copies of /proc/self/maps, written beside the
//! wire file when a call comes from a mapping that no copy shows yet, and at the end.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::folder;
use super::process::{self, NUMBERED, Process};
use super::state::State;
use super::system;
use super::text::{self, Text};

/// A program that makes code all the time is not copied for ever.
const COPIES_MOST: u32 = 1000;

const MAPPINGS_MOST: usize = 1024;
/// Executable mappings that a copy shows: so many as `Process::mappings` says. Only ever added to.
static MAPPINGS: [(AtomicUsize, AtomicUsize); MAPPINGS_MOST] =
    [const { (AtomicUsize::new(0), AtomicUsize::new(0)) }; MAPPINGS_MOST];

/// Sees to it that the mapping of a call's return address is shown by some copy.
pub(crate) fn meet(state: &State, site: usize) {
    let (begin, end) = (
        state.code_begin.load(Ordering::Relaxed),
        state.code_end.load(Ordering::Relaxed),
    );
    if (begin..end).contains(&site) {
        return;
    }
    let Some(process) = process::process() else {
        return;
    };
    let known = find(process, site).or_else(|| {
        process.locked(|inner| {
            let (process_id, image) = inner.file.name();
            copy(process, process_id, image);
        });
        find(process, site)
    });
    // An address in no mapping: its surroundings are taken as known.
    let page = site & !4095;
    let (begin, end) = known.unwrap_or((page, page + 4096));
    state.code_begin.store(begin, Ordering::Relaxed);
    state.code_end.store(end, Ordering::Relaxed);
}

fn find(process: &Process, site: usize) -> Option<(usize, usize)> {
    let count = process.mappings.load(Ordering::Acquire) as usize;
    let mut known = MAPPINGS[..count]
        .iter()
        .map(|(begin, end)| (begin.load(Ordering::Relaxed), end.load(Ordering::Relaxed)));
    known.find(|&(begin, end)| (begin..end).contains(&site))
}

/// Appends a copy of the mappings to the file beside the wire file, and notes the executable ones.
/// Under the lock.
pub(crate) fn copy(process: &Process, process_id: u32, image: u32) {
    if process.copies.fetch_add(1, Ordering::Relaxed) >= COPIES_MOST {
        return;
    }
    let Ok(maps) = system::open(system::CURRENT_FOLDER, c"/proc/self/maps", system::O_RDONLY)
    else {
        return;
    };
    let name = text::file_name(process_id, image, b"maps");
    let flags = system::O_WRONLY | system::O_CREAT | system::O_APPEND;
    if let Ok(file) = folder::open(name.as_c(), flags) {
        let head = Text::new()
            .push(b"= ")
            .push_number(NUMBERED.load(Ordering::Relaxed))
            .push(b"\n");
        let mut is_written = system::write(file, head.as_bytes()).is_ok();
        let mut lines = Lines::new();
        let mut buffer = [0_u8; 1024];
        while is_written {
            let part = match system::read(maps, &mut buffer) {
                Ok(bytes) if bytes > 0 => &buffer[..bytes],
                _ => break,
            };
            is_written = system::write(file, part).is_ok();
            for &byte in part {
                if let Some(mapping) = lines.take(byte) {
                    note(process, mapping);
                }
            }
        }
        system::close(file);
    }
    system::close(maps);
}

fn note(process: &Process, (begin, end): (usize, usize)) {
    let count = process.mappings.load(Ordering::Relaxed) as usize;
    if count < MAPPINGS_MOST && find(process, begin).is_none_or(|known| known.1 < end) {
        MAPPINGS[count].0.store(begin, Ordering::Relaxed);
        MAPPINGS[count].1.store(end, Ordering::Relaxed);
        process.mappings.store(count as u32 + 1, Ordering::Release);
    }
}

/// Reads "BEGIN-END PERMISSIONS ..." lines, byte by byte.
struct Lines {
    numbers: [usize; 2],
    /// Which part of the line comes: 0 and 1 the numbers, then the permissions.
    part: usize,
    /// Permissions seen.
    letters: usize,
    is_executable: bool,
}

impl Lines {
    const fn new() -> Self {
        Self {
            numbers: [0; 2],
            part: 0,
            letters: 0,
            is_executable: false,
        }
    }

    /// Takes the next byte; an executable mapping at the end of its line.
    fn take(&mut self, byte: u8) -> Option<(usize, usize)> {
        match (self.part, byte) {
            (_, b'\n') => {
                let line = core::mem::replace(self, Self::new());
                return line
                    .is_executable
                    .then_some((line.numbers[0], line.numbers[1]));
            }
            (0, b'-') | (1 | 2, b' ') => self.part += 1,
            (0 | 1, _) => {
                let digit = (byte as char).to_digit(16).unwrap_or(0) as usize;
                self.numbers[self.part] = self.numbers[self.part] << 4 | digit;
            }
            (2, _) => {
                self.letters += 1;
                self.is_executable |= self.letters == 3 && byte == b'x';
            }
            _ => {}
        }
        None
    }
}
