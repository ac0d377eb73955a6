//! Windows: chunks that are used again and again, so that a busy thread writes in memory that is there
//! and warm, and not in fresh pages of the file, which cost the program more than all else that the
//! recorder does. `wire` has the agreement; here is the process's side of it.
//!
//! ```text
//! OWNED --full, another is free or may be made--> FULL --the command--> COPYING --> FREE --> OWNED
//! OWNED --full, otherwise--> COPYING (by this thread) --> FREE --> OWNED
//! ```
//! Nobody waits: where the command is slow, stopped or dead, threads copy their windows themselves. That
//! is the back-pressure.
//!
//! Under the process's lock. The command moves windows from FULL to FREE (or, if it cannot copy, back to
//! FULL) without it, and touches no others.

use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use super::bell;
use super::file::{Header, Place, Refusal, WireFile};
use super::wire::{
    self, CHUNK_HEADER_BYTES, UNIT_BYTES, WINDOW_COPYING, WINDOW_FREE, WINDOW_FULL, WINDOW_OWNED,
    WINDOWS_MAX, header as at,
};

/// Bytes of a window: four of them, which is what one busy thread has at most, stay in a core's cache.
const WINDOW_BYTES: usize = 256 * 1024;
/// A chunk where there can be no more windows.
const LARGE_CHUNK_BYTES: usize = 1024 * 1024;

/// The windows of a process. All zero: none.
pub(crate) struct Windows {
    mappings: [*mut u8; WINDOWS_MAX],
    made: usize,
    /// The system refused one: there are no further attempts.
    is_refused: bool,
}

impl Windows {
    /// The chunk to go on in for a thread whose chunk is full. `current` is the chunk's window, as in
    /// [`Place::window`]; `threads` are the process's.
    pub(crate) fn next(
        &mut self,
        file: &mut WireFile,
        header: Header,
        current: u8,
        threads: u32,
    ) -> Result<Place, Refusal> {
        let Some(current) = usize::from(current).checked_sub(1) else {
            return match self.another(file, header, WINDOWS_MAX) {
                Some(place) => Ok(place),
                None => file.chunk(header, LARGE_CHUNK_BYTES),
            };
        };
        if bell::is_there() && header.get_u32(at::COPIES_REFUSED) == 0 {
            // Two for each thread and two more: enough that one is filled while others are copied.
            let windows_max = 2 * threads as usize + 2;
            if let Some(place) = self.another(file, header, windows_max.min(WINDOWS_MAX)) {
                let word = header.window(current);
                let (turn, _) = wire::window_state_parts(word.load(Ordering::Relaxed));
                // Release: the words before it. Partner: the command's exchange to COPYING.
                word.store(wire::window_state(turn, WINDOW_FULL), Ordering::Release);
                bell::ring(false);
                return Ok(place);
            }
        }
        self.copy(file, header, current)?;
        Ok(self.place(current))
    }

    /// A window that nobody uses: a free one, or a new one while there are fewer than this.
    fn another(
        &mut self,
        file: &mut WireFile,
        header: Header,
        windows_max: usize,
    ) -> Option<Place> {
        for index in 0..self.made {
            // Acquire: the command has read the words. Partner: its store of FREE.
            let word = header.window(index).load(Ordering::Acquire);
            if let (turn, WINDOW_FREE) = wire::window_state_parts(word) {
                self.take(header, index, turn);
                return Some(self.place(index));
            }
        }
        if self.made >= windows_max || self.is_refused {
            return None;
        }
        // Why the file cannot grow, whoever asks finds out by what it does instead.
        let Ok((chunk, offset)) = file.whole_chunk(header, WINDOW_BYTES) else {
            self.is_refused = true;
            return None;
        };
        let index = self.made;
        self.mappings[index] = chunk;
        self.made += 1;
        let units = (WINDOW_BYTES / UNIT_BYTES) as u64;
        header.set(
            at::WINDOWS + index * at::WINDOW_BYTES + 8,
            wire::window_place(offset, units),
        );
        self.own(header, index, 0);
        if index == 0 {
            bell::ring(true);
        }
        Some(self.place(index))
    }

    /// Takes a free window: void words become none before the window's state says that they count.
    fn take(&self, header: Header, index: usize, turn: u64) {
        // SAFETY: the window's words; it is free, so nobody else reads or writes them.
        unsafe {
            let words = self.mappings[index].add(CHUNK_HEADER_BYTES);
            ptr::write_bytes(words, 0, WINDOW_BYTES - CHUNK_HEADER_BYTES);
        }
        self.own(header, index, turn);
    }

    fn own(&self, header: Header, index: usize, turn: u64) {
        // SAFETY: the second word of the chunk's header; the window is this thread's.
        let mark = unsafe { AtomicU64::from_ptr(self.mappings[index].cast::<u64>().add(1)) };
        mark.store(wire::window_mark(index, turn), Ordering::Relaxed);
        // Release: whoever reads the file after a kill finds the mark and the zeros.
        header
            .window(index)
            .store(wire::window_state(turn, WINDOW_OWNED), Ordering::Release);
    }

    /// Copies a window of the calling thread's to the end of the file, and empties it.
    fn copy(&self, file: &mut WireFile, header: Header, index: usize) -> Result<(), Refusal> {
        let word = header.window(index);
        let (turn, _) = wire::window_state_parts(word.load(Ordering::Relaxed));
        word.store(wire::window_state(turn, WINDOW_COPYING), Ordering::SeqCst);
        // SAFETY: the window's bytes, which this thread alone writes.
        let bytes = unsafe { core::slice::from_raw_parts(self.mappings[index], WINDOW_BYTES) };
        if let Err(refusal) = file.append(header, bytes) {
            word.store(wire::window_state(turn, WINDOW_OWNED), Ordering::Release);
            return Err(refusal);
        }
        // From here on the copy counts and the window does not.
        word.store(wire::window_state(turn + 1, WINDOW_FREE), Ordering::Release);
        self.take(header, index, turn + 1);
        Ok(())
    }

    fn place(&self, index: usize) -> Place {
        Place {
            chunk: self.mappings[index],
            bytes: WINDOW_BYTES,
            window: index as u8 + 1,
        }
    }
}
