//! Writes recorder's files in tests: what the shim does, without the system.

use std::collections::BTreeMap;

use crate::trace::wire::{
    CHUNK_HEADER_BYTES, CHUNK_MAGIC, Kind, MAGIC, TAG_CALLOC, TAG_FREE, TAG_FREE_SIZED, TAG_MALLOC,
    TAG_REALLOC_BEGIN, TAG_REALLOC_END, TAG_SEQUENCE, TAG_SITE, TAG_THREAD, TAG_TIME, UNIT_BYTES,
    VERSION, general, header as at, is_small, number, small, window_mark, window_place,
    window_state,
};

/// A file in the making.
pub(crate) struct Writer {
    header: Vec<u8>,
    /// Words of each chunk; none where a unit was reserved and never used.
    chunks: Vec<Option<(u32, Vec<u64>)>>,
    /// Second words of chunks' headers, where they are not zero.
    marks: BTreeMap<usize, u64>,
    /// The chunk of each thread, and the number that its next event has without a word.
    threads: BTreeMap<u64, (usize, u64)>,
    next_sequence: u64,
}

impl Writer {
    pub(crate) fn new() -> Self {
        let mut writer = Self {
            header: vec![0; UNIT_BYTES],
            chunks: Vec::new(),
            marks: BTreeMap::new(),
            threads: BTreeMap::new(),
            next_sequence: 0,
        };
        writer.header[..8].copy_from_slice(&MAGIC);
        writer.narrow(at::VERSION, VERSION);
        writer.wide(at::PAGE_BYTES, 4096);
        writer
    }

    pub(crate) fn narrow(&mut self, field: usize, value: u32) {
        self.header[field..field + 4].copy_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn wide(&mut self, field: usize, value: u64) {
        self.header[field..field + 8].copy_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn text(&mut self, field: usize, text: &[u8]) {
        self.header[field..field + text.len()].copy_from_slice(text);
    }

    /// The thread's next event goes into a chunk of its own.
    pub(crate) fn new_chunk(&mut self, thread: u64, units: u32) {
        self.chunks.push(Some((units, Vec::new())));
        self.threads
            .insert(thread, (self.chunks.len() - 1, u64::MAX));
    }

    /// A unit that nobody came to use.
    pub(crate) fn unused_unit(&mut self) {
        self.chunks.push(None);
    }

    /// Enters the first chunk in the table of windows.
    pub(crate) fn first_is_window(&mut self, turn: u64, state: u64) {
        self.wide(at::WINDOWS, window_state(turn, state));
        self.wide(at::WINDOWS + 8, window_place(UNIT_BYTES as u64, 1));
        self.marks.insert(0, window_mark(0, turn));
    }

    /// Copies the first chunk as the window that it was then to a new one at the end.
    pub(crate) fn copy_first(&mut self, turn: u64) {
        self.chunks.push(self.chunks[0].clone());
        self.marks
            .insert(self.chunks.len() - 1, window_mark(0, turn));
    }

    /// The thread goes on in the first chunk, which is empty.
    pub(crate) fn reuse_first(&mut self, thread: u64) {
        self.chunks[0].as_mut().expect("in use").1.clear();
        self.threads.insert(thread, (0, u64::MAX));
    }

    /// The first thread has ended, the second goes on in its chunk.
    pub(crate) fn hand_over(&mut self, from: u64, to: u64) {
        if let Some((chunk, _)) = self.threads.remove(&from) {
            self.threads.insert(to, (chunk, u64::MAX));
        }
    }

    /// A number is taken by an event that is never written.
    pub(crate) fn lose_number(&mut self) {
        self.next_sequence += 1;
    }

    /// Writes an event, in a new chunk if it does not fit.
    pub(crate) fn event(&mut self, thread: u64, words: &[u64], time_ns: Option<u64>, site: u64) {
        let is_full = |writer: &Self| match writer.threads.get(&thread) {
            None => true,
            Some(&(chunk, _)) => {
                let (units, words) = writer.chunks[chunk].as_ref().expect("in use");
                words.len() + 8 > (*units as usize * UNIT_BYTES - CHUNK_HEADER_BYTES) / 8
            }
        };
        if is_full(self) {
            self.new_chunk(thread, 1);
        }
        let (chunk, expected) = self.threads[&thread];
        let (_, out) = self.chunks[chunk].as_mut().expect("in use");
        if expected != self.next_sequence {
            out.push(number(TAG_SEQUENCE, self.next_sequence));
        }
        if expected == u64::MAX {
            out.push(number(TAG_THREAD, thread));
        }
        if let Some(time_ns) = time_ns {
            out.push(number(TAG_TIME, time_ns));
        }
        if site != 0 {
            out.push(number(TAG_SITE, site));
        }
        out.extend_from_slice(words);
        self.next_sequence += 1;
        self.threads.insert(thread, (chunk, self.next_sequence));
    }

    /// The file. What is not whole units is rounded up.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.clone();
        for (index, chunk) in self.chunks.iter().enumerate() {
            let start = bytes.len();
            let Some((units, words)) = chunk else {
                bytes.resize(start + UNIT_BYTES, 0);
                continue;
            };
            bytes.extend_from_slice(&CHUNK_MAGIC.to_le_bytes());
            bytes.extend_from_slice(&units.to_le_bytes());
            let mark = self.marks.get(&index).copied().unwrap_or(0);
            bytes.extend_from_slice(&mark.to_le_bytes());
            for word in words {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
            bytes.resize(start + *units as usize * UNIT_BYTES, 0);
        }
        let file_bytes = bytes.len() as u64;
        bytes[at::FILE_BYTES..][..8].copy_from_slice(&file_bytes.to_le_bytes());
        bytes
    }
}

pub(crate) fn malloc(size: u64, address: u64) -> Vec<u64> {
    either(TAG_MALLOC, Kind::Malloc, size, address)
}

pub(crate) fn realloc_end(size: u64, address: u64) -> Vec<u64> {
    either(TAG_REALLOC_END, Kind::ReallocEnd, size, address)
}

pub(crate) fn realloc_begin(address: u64) -> Vec<u64> {
    either(TAG_REALLOC_BEGIN, Kind::ReallocBegin, 0, address)
}

pub(crate) fn free(address: u64) -> Vec<u64> {
    either(TAG_FREE, Kind::Free, 0, address)
}

pub(crate) fn free_sized(size: u64, address: u64) -> Vec<u64> {
    if is_small(size, address) {
        return vec![small(TAG_FREE_SIZED, size, address)];
    }
    vec![general(Kind::Free, 0), address, size, 1]
}

pub(crate) fn calloc(count: u64, size: u64, address: u64) -> Vec<u64> {
    if is_small(count, address) {
        return vec![small(TAG_CALLOC, count, address), size];
    }
    vec![general(Kind::Calloc, 0), address, size, count]
}

pub(crate) fn aligned(kind: Kind, alignment_log2: u8, size: u64, address: u64) -> Vec<u64> {
    vec![general(kind, alignment_log2), address, size, 0]
}

fn either(tag: u64, kind: Kind, size: u64, address: u64) -> Vec<u64> {
    if is_small(size, address) {
        return vec![small(tag, size, address)];
    }
    vec![general(kind, 0), address, size, 0]
}
