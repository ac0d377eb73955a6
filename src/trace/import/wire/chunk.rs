//! One chunk's words, read piece by piece and put together to events.

#![forbid(unsafe_code)]

use super::super::Request;
use crate::trace::AlignedFunction;
use crate::trace::input::ReadAt;
use crate::trace::wire::{
    ADDRESS_END, CHUNK_HEADER_BYTES, Kind, SMALL_END, TAG_CALLOC, TAG_FREE, TAG_FREE_SIZED,
    TAG_GENERAL, TAG_MALLOC, TAG_REALLOC_BEGIN, TAG_REALLOC_END, TAG_SEQUENCE, TAG_SITE,
    TAG_SWITCH, TAG_THREAD, TAG_THREAD_END, TAG_THREAD_START, TAG_TIME, small_parts,
};

/// Bytes of a chunk in memory at a time. Many chunks are open at once if a program has many threads.
const BUFFER_BYTES: usize = 4096;
const WORD_BYTES: u64 = 8;

/// Where a chunk lies in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Extent {
    /// Its first byte.
    pub(super) start: u64,
    /// Behind its last byte.
    pub(super) end: u64,
}

/// An event as it stands in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Recorded {
    pub(super) sequence: u64,
    pub(super) thread: u64,
    pub(super) request: Request,
    /// Recording was switched off or on: the request is a mark.
    pub(super) is_switch: bool,
    pub(super) time_ns: Option<u64>,
    /// The return address of the call.
    pub(super) site: Option<u64>,
}

/// What comes next in a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Event(Recorded),
    End,
    Damage(Damage),
}

/// A place where the file does not follow its grammar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Damage {
    /// Of the word, in bytes from the file's beginning.
    pub(super) offset: u64,
    pub(super) what: &'static str,
}

/// Reads a chunk from its beginning to its end.
pub(super) struct Cursor {
    /// Of the next word.
    offset: u64,
    end: u64,
    buffer: Box<[u8; BUFFER_BYTES]>,
    /// Unread bytes are `buffer[from..to]`.
    from: usize,
    to: usize,
    /// Told by the last words.
    sequence: Option<u64>,
    thread: Option<u64>,
    time_ns: Option<u64>,
    site: Option<u64>,
    page_log2: u8,
}

impl Cursor {
    /// At a chunk's beginning.
    pub(super) fn new(chunk: Extent, page_log2: u8) -> Self {
        let mut cursor = Self {
            offset: 0,
            end: 0,
            buffer: Box::new([0; BUFFER_BYTES]),
            from: 0,
            to: 0,
            sequence: None,
            thread: None,
            time_ns: None,
            site: None,
            page_log2,
        };
        cursor.restart(chunk);
        cursor
    }

    /// At the beginning of another chunk.
    pub(super) fn restart(&mut self, chunk: Extent) {
        self.offset = chunk.start + CHUNK_HEADER_BYTES as u64;
        self.end = chunk.end;
        (self.from, self.to) = (0, 0);
        self.sequence = None;
        self.thread = None;
        self.time_ns = None;
        self.site = None;
    }

    /// The next word; none at the end.
    #[inline]
    fn word(&mut self, file: &dyn ReadAt) -> std::io::Result<Option<u64>> {
        if self.from == self.to && !self.fill(file)? {
            return Ok(None);
        }
        let bytes = self.buffer[self.from..self.from + 8].try_into();
        self.from += 8;
        self.offset += WORD_BYTES;
        Ok(Some(u64::from_le_bytes(bytes.expect("eight bytes"))))
    }

    /// Whether there was more.
    fn fill(&mut self, file: &dyn ReadAt) -> std::io::Result<bool> {
        let left = self.end.saturating_sub(self.offset) / WORD_BYTES * WORD_BYTES;
        let wanted = usize::try_from(left).map_or(BUFFER_BYTES, |left| left.min(BUFFER_BYTES));
        let read = file.fill_at(&mut self.buffer[..wanted], self.offset)?;
        (self.from, self.to) = (0, read / 8 * 8);
        Ok(self.to > 0)
    }

    /// The next event.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn step(&mut self, file: &dyn ReadAt) -> std::io::Result<Step> {
        loop {
            let offset = self.offset;
            let Some(word) = self.word(file)? else {
                return Ok(Step::End);
            };
            let damage = |what| Ok(Step::Damage(Damage { offset, what }));
            let (tag, small, address) = small_parts(word);
            let number = word >> 4;
            let request = match tag {
                TAG_MALLOC => Request::Malloc {
                    size: small,
                    result: address,
                },
                TAG_FREE | TAG_FREE_SIZED | TAG_REALLOC_BEGIN
                    if tag != TAG_FREE_SIZED && small != 0 =>
                {
                    return damage("a free or realloc with a size");
                }
                TAG_FREE | TAG_FREE_SIZED => Request::Free {
                    pointer: address,
                    sized: tag == TAG_FREE_SIZED,
                },
                TAG_REALLOC_BEGIN => Request::ReallocBegin { old: address },
                TAG_REALLOC_END => Request::ReallocEnd {
                    size: small,
                    result: address,
                },
                TAG_CALLOC => {
                    let Some(size) = self.word(file)? else {
                        return damage("a calloc that the chunk's end cuts off");
                    };
                    Request::Calloc {
                        count: small,
                        size,
                        result: address,
                    }
                }
                TAG_GENERAL => match self.general(word, file)? {
                    Ok(request) => request,
                    Err(what) => return damage(what),
                },
                TAG_THREAD_START => Request::ThreadStart,
                TAG_THREAD_END => Request::ThreadEnd,
                TAG_SWITCH if number > 1 => return damage("a switch that is neither on nor off"),
                TAG_SWITCH => Request::Mark,
                TAG_SEQUENCE => {
                    if self.sequence.is_some_and(|next| number < next) {
                        return damage("a sequence number that is smaller than the one before");
                    }
                    self.sequence = Some(number);
                    continue;
                }
                TAG_THREAD => {
                    self.thread = Some(number);
                    continue;
                }
                TAG_TIME => {
                    self.time_ns = Some(number);
                    continue;
                }
                TAG_SITE => {
                    self.site = Some(number);
                    continue;
                }
                0 if word == 0 => return Ok(Step::End),
                _ => return damage("a word of no known kind"),
            };
            let (Some(sequence), Some(thread)) = (self.sequence, self.thread) else {
                return damage("an event without thread or sequence number");
            };
            self.sequence = Some(sequence + 1);
            return Ok(Step::Event(Recorded {
                sequence,
                thread,
                request,
                is_switch: tag == TAG_SWITCH,
                time_ns: self.time_ns.take(),
                site: self.site.take(),
            }));
        }
    }

    /// An event of four words, or what is wrong with it.
    fn general(
        &mut self,
        word: u64,
        file: &dyn ReadAt,
    ) -> std::io::Result<Result<Request, &'static str>> {
        let mut operands = [0; 3];
        for operand in &mut operands {
            match self.word(file)? {
                Some(word) => *operand = word,
                None => return Ok(Err("an event that the chunk's end cuts off")),
            }
        }
        let [address, size, count] = operands;
        let alignment_log2 = (word >> 12 & 0xff) as u8;
        let Some(kind) = Kind::of((word >> 4 & 0xff) as u8) else {
            return Ok(Err("an event of no known kind"));
        };
        if word >> 20 != 0 || alignment_log2 > 63 {
            return Ok(Err("an event with an impossible alignment"));
        }
        let aligned = |function| {
            let is_page = matches!(function, AlignedFunction::Valloc | AlignedFunction::Pvalloc);
            Request::Aligned {
                function,
                alignment: match alignment_log2 {
                    0 if is_page => 1 << self.page_log2,
                    log2 => 1 << log2,
                },
                size,
                result: address,
            }
        };
        Ok(Ok(match kind {
            Kind::Malloc => Request::Malloc {
                size,
                result: address,
            },
            Kind::Calloc => Request::Calloc {
                count,
                size,
                result: address,
            },
            Kind::Free => Request::Free {
                pointer: address,
                sized: count == 1,
            },
            Kind::ReallocBegin => Request::ReallocBegin { old: address },
            Kind::ReallocEnd => Request::ReallocEnd {
                size,
                result: address,
            },
            Kind::Memalign => aligned(AlignedFunction::Memalign),
            Kind::PosixMemalign => aligned(AlignedFunction::PosixMemalign),
            Kind::AlignedAlloc => aligned(AlignedFunction::AlignedAlloc),
            Kind::Valloc => aligned(AlignedFunction::Valloc),
            Kind::Pvalloc => aligned(AlignedFunction::Pvalloc),
        }))
    }
}

// What `small` can hold is what `small_parts` gives back.
const _: () = assert!(SMALL_END == 1 << 16 && ADDRESS_END == 1 << 47);
