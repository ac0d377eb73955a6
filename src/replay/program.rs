//! Trace -> [`Program`]: dense operations over a small table of pointers.
//!
//! Block ids are renumbered to slots that are used again as soon as their block is gone, so that
//! the table is as small as the peak of live blocks. Slot 0 always holds the null pointer: freeing
//! or reallocating null needs no case of its own.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{BufWriter, Read as _, Write as _};
use std::ops::Range;
use std::path::Path;

use super::touched::{ALL_PAGES, TouchedPages};
use crate::error::{Error, Result};
use crate::trace::{Operation, Trace};

/// One operation in eight bytes: tag in bits 0-2, slot in bits 3-31, and in bits 32-63 the size of
/// a `malloc`, whether a block that is freed has no bytes, or the index of a [`ColdOperation`]. So bits
/// 0-31 less the tag are the slot's place in a table of pointers, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Word(pub u64);

/// The slot that always holds the null pointer.
pub const NULL_SLOT: u32 = 0;
/// Slots are 29 bits wide.
const SLOT_LIMIT: u32 = 1 << 29;

/// Frees the pointer in the slot.
const TAG_FREE: u64 = 0;
/// `malloc` of at least one byte into the slot.
const TAG_MALLOC: u64 = 1;
/// Any other operation: see the table of cold operations.
const TAG_COLD: u64 = 2;
/// No operation at all: what the threads of a replay tell each other. Told from a cold operation by
/// one more bit, and taken for neither of the common ones.
const TAG_CONTROL: u64 = 4 | TAG_COLD;

impl Word {
    pub(super) fn free(slot: u32) -> Self {
        Self(TAG_FREE | u64::from(slot) << 3)
    }

    /// The same of a block of no bytes, which may not be read.
    fn free_of_nothing(slot: u32) -> Self {
        Self(Self::free(slot).0 | 1 << 32)
    }

    fn malloc(slot: u32, size: u32) -> Self {
        Self(TAG_MALLOC | u64::from(slot) << 3 | u64::from(size) << 32)
    }

    fn cold(index: u32) -> Self {
        Self(TAG_COLD | u64::from(index) << 32)
    }

    /// A word that is no operation; `payload` has 61 bits.
    pub(super) fn control(payload: u64) -> Self {
        Self(TAG_CONTROL | payload << 3)
    }

    /// The payload of a word that is no operation. Asked of words only that neither free nor malloc.
    #[inline(always)]
    pub(super) fn control_payload(self) -> Option<u64> {
        (self.0 & TAG_CONTROL == TAG_CONTROL).then_some(self.0 >> 3)
    }

    /// Whether the word is no operation.
    pub(super) fn is_control(self) -> bool {
        self.tag() == TAG_CONTROL
    }

    /// The kind, as a number.
    fn tag(self) -> u64 {
        self.0 & 7
    }

    /// Frees the pointer in the slot. The tags are single bits, so that each test is one instruction.
    #[inline(always)]
    pub fn is_free(self) -> bool {
        self.0 & (TAG_MALLOC | TAG_COLD) == TAG_FREE
    }

    /// Whether the block of a free has bytes that may be read; also true of null.
    #[inline(always)]
    pub(super) fn has_bytes(self) -> bool {
        self.0 >> 32 == 0
    }

    /// `malloc` of at least one byte into the slot.
    #[inline(always)]
    pub fn is_malloc(self) -> bool {
        self.0 & TAG_MALLOC != 0
    }

    /// The slot of a free or malloc.
    #[inline(always)]
    pub fn slot(self) -> usize {
        (self.0 as u32 >> 3) as usize
    }

    /// Requested bytes of a malloc, or the index of a cold operation.
    #[inline(always)]
    pub fn operand(self) -> usize {
        (self.0 >> 32) as usize
    }
}

/// An operation that is rarer than `malloc` and `free`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ColdOperation {
    /// One of the `COLD_` numbers.
    pub kind: u32,
    /// Slot of the block given, for `realloc`.
    pub old_slot: u32,
    /// Slot of the block returned.
    pub slot: u32,
    /// Pages of the block that the recorded program touched; `u32::MAX`: all.
    pub touched_pages: u32,
    /// Requested bytes; of one element for `calloc`.
    pub size: u64,
    /// Elements for `calloc`, bytes of alignment for aligned allocations.
    pub operand: u64,
}

/// `malloc` of nothing, of 4 GiB or more, or of which it is known how much of the block is touched.
pub const COLD_MALLOC: u32 = 0;
/// `calloc`
pub const COLD_CALLOC: u32 = 1;
/// `realloc`
pub const COLD_REALLOC: u32 = 2;
/// Any aligned allocation; replayed through `posix_memalign`, which every allocator has.
pub const COLD_ALIGNED: u32 = 3;

/// One operation of a program, for who wants to know what was measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    /// Where its time stands in the table of the latency pass.
    pub place: usize,
    /// The thread that performs it.
    pub thread: u32,
    /// The operation.
    pub word: Word,
}

/// A compiled trace.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Program {
    /// Operations in order.
    pub words: Vec<Word>,
    /// Frees of the blocks that the trace leaves live, done after it, outside any time taken.
    pub drain: Vec<Word>,
    /// The rarer operations, by index.
    pub cold: Vec<ColdOperation>,
    /// Slots, the null slot included.
    pub slots: u32,
    /// Sum of all requested bytes.
    pub requested_bytes: u64,
    /// Largest single request in bytes, alignment included.
    pub largest_bytes: u64,
}

impl Program {
    /// Compiles a trace. Fails if more than 2^29 blocks are live at once.
    pub fn compile(trace: &Trace) -> Result<Self> {
        Compiler::new(trace).compile(trace)
    }

    /// Operations of one replay.
    pub fn operations(&self) -> u64 {
        self.words.len() as u64
    }

    /// Names an operation for a message: "operation 1000 of the trace, malloc(64)".
    pub fn describe(&self, operation: usize) -> String {
        let place = match operation.checked_sub(self.words.len()) {
            None => format!("operation {} of the trace", operation + 1),
            Some(number) => format!(
                "the freeing of leftover block {} after the trace",
                number + 1
            ),
        };
        match self.call_text(operation) {
            Some(call) => format!("{place}, {call}"),
            None => place,
        }
    }

    /// The call of an operation in words, "malloc(64)"; those of draining are numbered on. `None` if
    /// there is no such operation.
    pub fn call_text(&self, operation: usize) -> Option<String> {
        let word = match operation.checked_sub(self.words.len()) {
            None => self.words[operation],
            Some(number) => *self.drain.get(number)?,
        };
        Some(self.call(word))
    }

    /// Every operation in order, all on one thread.
    pub fn calls(&self) -> Vec<Call> {
        let words = self.words.iter().enumerate();
        words
            .map(|(place, word)| Call {
                place,
                thread: 0,
                word: *word,
            })
            .collect()
    }

    /// Names a call for a message: "malloc(64)".
    pub(super) fn call(&self, word: Word) -> String {
        match word.tag() {
            TAG_FREE if word.slot() == NULL_SLOT as usize => "free(NULL)".to_owned(),
            TAG_FREE => "free".to_owned(),
            TAG_MALLOC => format!("malloc({})", word.operand()),
            _ => {
                let ColdOperation {
                    kind,
                    size,
                    operand,
                    ..
                } = self.cold[word.operand()];
                match kind {
                    COLD_MALLOC => format!("malloc({size})"),
                    COLD_CALLOC => format!("calloc({operand}, {size})"),
                    COLD_REALLOC => format!("realloc to {size} bytes"),
                    _ => format!("an allocation of {size} bytes aligned to {operand}"),
                }
            }
        }
    }

    /// Writes the program to a new file, for children to map.
    pub fn save(&self, path: &Path) -> Result<()> {
        let write = || -> std::io::Result<()> {
            let mut out = BufWriter::new(File::create_new(path)?);
            self.write(&mut out)?;
            out.flush()
        };
        write().map_err(|source| Error::io(path, "write the compiled trace to", source))
    }

    /// Writes what [`ProgramView`] reads.
    pub(super) fn write(&self, out: &mut impl std::io::Write) -> std::io::Result<()> {
        let lengths = [self.words.len(), self.drain.len(), self.cold.len()];
        for length in lengths {
            out.write_all(&(length as u64).to_ne_bytes())?;
        }
        for number in [
            u64::from(self.slots),
            self.requested_bytes,
            self.largest_bytes,
        ] {
            out.write_all(&number.to_ne_bytes())?;
        }
        for word in self.words.iter().chain(&self.drain) {
            out.write_all(&word.0.to_ne_bytes())?;
        }
        for cold in &self.cold {
            for number in [cold.kind, cold.old_slot, cold.slot, cold.touched_pages] {
                out.write_all(&number.to_ne_bytes())?;
            }
            out.write_all(&cold.size.to_ne_bytes())?;
            out.write_all(&cold.operand.to_ne_bytes())?;
        }
        Ok(())
    }

    /// Reads a saved program. For tests; children map it through [`ProgramView`].
    pub fn load(path: &Path) -> Result<Self> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .map_err(|source| Error::io(path, "read", source))?;
        let view = ProgramView::new(&bytes)
            .ok_or_else(|| Error::file(path, "not a compiled trace of this version"))?;
        Ok(Self {
            words: view.words().collect(),
            drain: view.drain().collect(),
            cold: (0..view.cold_count).map(|index| view.cold(index)).collect(),
            slots: view.slots,
            requested_bytes: view.requested_bytes,
            largest_bytes: view.largest_bytes,
        })
    }
}

/// State of compilation: which slot each live block has, and which slots are free.
struct Compiler {
    program: Program,
    slot_of_block: Vec<u32>,
    free_slots: Vec<u32>,
    touched: TouchedPages,
}

impl Compiler {
    fn new(trace: &Trace) -> Self {
        Self {
            program: Program {
                words: Vec::with_capacity(trace.counts().operations() as usize),
                slots: 1,
                ..Program::default()
            },
            slot_of_block: vec![NULL_SLOT; trace.block_count() as usize],
            free_slots: Vec::new(),
            touched: TouchedPages::of(trace),
        }
    }

    fn compile(mut self, trace: &Trace) -> Result<Program> {
        for event in trace.events() {
            self.operation(&event.operation)?;
        }
        self.program.drain = self
            .slot_of_block
            .iter()
            .filter(|slot| **slot != NULL_SLOT)
            .map(|slot| Word::free(*slot))
            .collect();
        Ok(self.program)
    }

    fn operation(&mut self, operation: &Operation) -> Result<()> {
        if !operation.is_replayed() {
            return Ok(());
        }
        // The released slot is taken again at once by a reallocation, as by the next allocation.
        let released = match operation.releases() {
            Some(block) => std::mem::replace(&mut self.slot_of_block[block.0 as usize], NULL_SLOT),
            None => NULL_SLOT,
        };
        if released != NULL_SLOT {
            self.free_slots.push(released);
        }
        let slot = match operation.allocates() {
            Some(block) => {
                let slot = self.take_slot()?;
                self.slot_of_block[block.0 as usize] = slot;
                slot
            }
            None => NULL_SLOT,
        };
        let word = self
            .program
            .word(operation, released, slot, &mut self.touched);
        self.program.words.push(word);
        Ok(())
    }

    fn take_slot(&mut self) -> Result<u32> {
        if let Some(slot) = self.free_slots.pop() {
            return Ok(slot);
        }
        self.program.new_slots(1)
    }
}

impl Program {
    /// The first of `count` slots that have not been used.
    pub(super) fn new_slots(&mut self, count: u32) -> Result<u32> {
        let slot = self.slots;
        if slot >= SLOT_LIMIT - count {
            return Err(Error::Failed(
                "more than 2^29 blocks are live at once; replay a slice of the trace".to_owned(),
            ));
        }
        self.slots += count;
        Ok(slot)
    }

    /// The word of an operation, which is entered into the sums and, if it is rare, into the table
    /// of cold operations.
    pub(super) fn word(
        &mut self,
        operation: &Operation,
        old_slot: u32,
        slot: u32,
        touched: &mut TouchedPages,
    ) -> Word {
        let alignment = match operation {
            Operation::Aligned { alignment_log2, .. } => 1u64 << alignment_log2,
            _ => 0,
        };
        let requested = operation.requested_bytes();
        self.requested_bytes = self.requested_bytes.saturating_add(requested);
        let reach = requested.saturating_add(alignment);
        self.largest_bytes = self.largest_bytes.max(reach);
        let touched_pages = touched.take(requested);
        if requested == 0
            && let Some(block) = operation.allocates()
        {
            touched.note_empty(block);
        }
        let (kind, size, operand) = match *operation {
            Operation::Malloc { size, .. } => match u32::try_from(size) {
                Ok(size) if size > 0 && touched_pages == ALL_PAGES => {
                    return Word::malloc(slot, size);
                }
                _ => (COLD_MALLOC, size, 0),
            },
            Operation::Free { block, .. } if touched.was_empty(block) => {
                return Word::free_of_nothing(old_slot);
            }
            Operation::Free { .. } | Operation::FreeNull => return Word::free(old_slot),
            Operation::Calloc { count, size, .. } => (COLD_CALLOC, size, u64::from(count)),
            Operation::Realloc { size, .. } => (COLD_REALLOC, size, 0),
            Operation::Aligned { size, .. } => {
                // posix_memalign refuses less than the size of a pointer.
                (
                    COLD_ALIGNED,
                    size,
                    alignment.max(size_of::<*const u8>() as u64),
                )
            }
            Operation::ThreadStart
            | Operation::ThreadEnd
            | Operation::FreeUnseen
            | Operation::Mark
            | Operation::FailedAllocation => unreachable!("filtered by is_replayed"),
        };
        let index = u32::try_from(self.cold.len()).expect("events are fewer than 2^32");
        self.cold.push(ColdOperation {
            kind,
            old_slot,
            slot,
            touched_pages,
            size,
            operand,
        });
        Word::cold(index)
    }
}

const HEADER_BYTES: usize = 48;
const COLD_BYTES: usize = 32;

/// A saved program, read in place: nothing is copied, nothing allocated.
#[derive(Clone, Copy, Debug)]
pub struct ProgramView<'a> {
    words: &'a [[u8; 8]],
    drain: &'a [[u8; 8]],
    cold: &'a [[u8; COLD_BYTES]],
    /// Number of cold operations.
    pub cold_count: usize,
    /// Slots, the null slot included.
    pub slots: u32,
    /// Sum of all requested bytes.
    pub requested_bytes: u64,
    /// Largest single request in bytes, alignment included.
    pub largest_bytes: u64,
}

impl<'a> ProgramView<'a> {
    /// Interprets the bytes of a saved program; `None` if lengths, slots or indices are not those
    /// of one.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let view = Self::parse(bytes)?;
        view.is_valid(|_| false).then_some(view)
    }

    /// As [`ProgramView::new`], but checks the lengths only.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let number = |index: usize| -> Option<u64> {
            Some(u64::from_ne_bytes(
                bytes.get(index * 8..index * 8 + 8)?.try_into().ok()?,
            ))
        };
        let count = |index: usize| -> Option<usize> { usize::try_from(number(index)?).ok() };
        let (words_count, drain_count, cold_count) = (count(0)?, count(1)?, count(2)?);
        let rest = bytes.get(HEADER_BYTES..)?;
        let (words, rest) = rest.split_at_checked(words_count.checked_mul(8)?)?;
        let (drain, rest) = rest.split_at_checked(drain_count.checked_mul(8)?)?;
        let view = Self {
            words: words.as_chunks().0,
            drain: drain.as_chunks().0,
            cold: rest.as_chunks().0,
            cold_count,
            slots: u32::try_from(number(3)?).ok()?,
            requested_bytes: number(4)?,
            largest_bytes: number(5)?,
        };
        (rest.len() == cold_count.checked_mul(COLD_BYTES)?).then_some(view)
    }

    /// Every slot and index lies inside its table, and the common `malloc` is of at least one byte.
    /// The replay loops rely on it. Words that are no
    /// operations are judged by their payload.
    pub(super) fn is_valid(&self, control_valid: impl Fn(u64) -> bool) -> bool {
        let slots = self.slots as usize;
        let word_valid = |word: Word| match word.tag() {
            TAG_FREE => word.slot() < slots,
            TAG_MALLOC => {
                word.slot() < slots && word.slot() != NULL_SLOT as usize && word.operand() != 0
            }
            TAG_COLD => word.operand() < self.cold_count,
            TAG_CONTROL => control_valid(word.0 >> 3),
            _ => false,
        };
        slots >= 1
            && self.words().chain(self.drain()).all(word_valid)
            && (0..self.cold_count)
                .map(|index| self.cold(index))
                .all(|cold| {
                    (cold.old_slot as usize) < slots
                        && (1..self.slots).contains(&cold.slot)
                        && cold.kind <= COLD_ALIGNED
                })
    }

    /// Operations in order.
    #[inline(always)]
    pub fn words(&self) -> impl ExactSizeIterator<Item = Word> + use<'a> {
        self.words
            .iter()
            .map(|bytes| Word(u64::from_ne_bytes(*bytes)))
    }

    /// The words of those numbers, which must be below that of all words.
    #[inline(always)]
    pub(super) fn words_in(
        &self,
        numbers: Range<usize>,
    ) -> impl ExactSizeIterator<Item = Word> + use<'a> {
        self.words[numbers]
            .iter()
            .map(|bytes| Word(u64::from_ne_bytes(*bytes)))
    }

    /// Frees of what the trace leaves live.
    #[inline(always)]
    pub fn drain(&self) -> impl ExactSizeIterator<Item = Word> + use<'a> {
        self.drain
            .iter()
            .map(|bytes| Word(u64::from_ne_bytes(*bytes)))
    }

    /// A cold operation; `index` must be below `cold_count`.
    #[inline]
    pub fn cold(&self, index: usize) -> ColdOperation {
        let bytes = &self.cold[index];
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let long = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        ColdOperation {
            kind: word(0),
            old_slot: word(4),
            slot: word(8),
            touched_pages: word(12),
            size: long(16),
            operand: long(24),
        }
    }
}
