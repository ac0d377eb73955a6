//! A trace compiled for several threads: one run of words for each of them.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::measure::results::ThreadedRecord;
use crate::replay::program::{Call, Program, ProgramView, Word};

/// What stands between the operations of a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Control {
    /// Waits until the thread has counted so far.
    Wait { thread: u32, count: u32 },
    /// Counts up: somebody waits for what was done until here.
    Advance,
    /// Makes the thread.
    Start { thread: u32 },
    /// Joins the thread, which has done everything.
    Reap { thread: u32 },
    /// Waits until so long after the start of the replay.
    Pace { time_ns: u64 },
}

const KIND_BITS: u32 = 3;
const THREAD_BITS: u32 = 26;
/// Most threads of a trace.
pub(super) const THREAD_LIMIT: u32 = 1 << THREAD_BITS;
/// Nine years.
const TIME_LIMIT_NS: u64 = (1 << 58) - 1;

impl Control {
    /// As a word among those of operations.
    pub(super) fn word(self) -> Word {
        let (kind, thread, count) = match self {
            Self::Wait { thread, count } => (0, thread, count),
            Self::Advance => (1, 0, 0),
            Self::Start { thread } => (2, thread, 0),
            Self::Reap { thread } => (3, thread, 0),
            Self::Pace { time_ns } => {
                return Word::control(4 | time_ns.min(TIME_LIMIT_NS) << KIND_BITS);
            }
        };
        Word::control(
            kind | u64::from(thread) << KIND_BITS | u64::from(count) << (KIND_BITS + THREAD_BITS),
        )
    }

    /// The inverse: `None` for an operation.
    #[inline]
    pub(super) fn of(word: Word) -> Option<Self> {
        Self::from_payload(word.control_payload()?)
    }

    fn from_payload(payload: u64) -> Option<Self> {
        let thread = (payload >> KIND_BITS) as u32 & (THREAD_LIMIT - 1);
        Some(match payload & ((1 << KIND_BITS) - 1) {
            0 => Self::Wait {
                thread,
                count: (payload >> (KIND_BITS + THREAD_BITS)) as u32,
            },
            1 => Self::Advance,
            2 => Self::Start { thread },
            3 => Self::Reap { thread },
            4 => Self::Pace {
                time_ns: payload >> KIND_BITS,
            },
            _ => return None,
        })
    }
}

/// Where the words of a thread stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Part {
    pub(super) first: u64,
    pub(super) words: u64,
    /// Which of the places that threads alive at once need; a place is taken again when its thread
    /// has been joined.
    pub(super) place: u32,
}

impl Part {
    pub(super) fn range(self) -> Range<usize> {
        self.first as usize..(self.first + self.words) as usize
    }
}

/// See the module text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ThreadedProgram {
    /// The words of all threads, one thread after the other, and what they share.
    pub(super) program: Program,
    /// By recorded thread.
    pub(super) threads: Vec<Part>,
    /// What the process's first thread does after the operations of the thread that it plays.
    pub(super) tail: Part,
    /// For each word the number of its operation in the recorded total order, from 0; that of the
    /// next one for what is no operation.
    pub(super) numbers: Vec<u32>,
    /// The thread that the process's first thread plays.
    pub(super) first_thread: u32,
    /// Operations of one replay.
    pub(super) operations: u64,
    /// What results files tell of it.
    pub(super) record: ThreadedRecord,
}

const MAGIC: u64 = u64::from_le_bytes(*b"threads1");
const HEADER_WORDS: usize = 9;
const PART_BYTES: usize = 24;

impl ThreadedProgram {
    /// Operations of one replay.
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// What results files tell of it.
    pub fn record(&self) -> ThreadedRecord {
        self.record
    }

    /// How long a replay waits for recorded times at least; nothing unless it is paced.
    pub fn paced_time(&self) -> Duration {
        let paces = self
            .program
            .words
            .iter()
            .filter_map(|word| Control::of(*word));
        let times_ns = paces.filter_map(|control| match control {
            Control::Pace { time_ns } => Some(time_ns),
            _ => None,
        });
        Duration::from_nanos(times_ns.max().unwrap_or(0))
    }

    /// The same operations in the recorded total order, on one thread. Slots that are used again when
    /// their last use is over in any order are so in this one.
    pub fn on_one_thread(&self) -> Program {
        let numbers = self.numbers.iter().copied();
        let mut words: Vec<(u32, Word)> = numbers
            .zip(self.program.words.iter().copied())
            .filter(|(_, word)| !word.is_control())
            .collect();
        words.sort_unstable_by_key(|(number, _)| *number);
        Program {
            words: words.into_iter().map(|(_, word)| word).collect(),
            ..self.program.clone()
        }
    }

    /// What the words of all threads refer to.
    pub fn shared(&self) -> &Program {
        &self.program
    }

    /// Words of all threads, those that are no operations included.
    pub fn words(&self) -> usize {
        self.program.words.len()
    }

    /// Slots of the table of pointers, the null slot included.
    pub fn slots(&self) -> u32 {
        self.program.slots
    }

    /// Names an operation, by its number in the recorded total order, for a message: "operation
    /// 1000 of the trace, malloc(64) on thread 3".
    pub fn describe(&self, operation: usize) -> String {
        let Some(leftover) = (operation as u64).checked_sub(self.operations) else {
            let place = format!("operation {} of the trace", operation + 1);
            return match self.find(operation) {
                Some((thread, word)) => {
                    format!("{place}, {} on thread {thread}", self.program.call(word))
                }
                None => place,
            };
        };
        let number = leftover + 1;
        format!("the freeing of leftover block {number} after the trace, free")
    }

    /// Names an operation, by its number in the recorded total order: "malloc(64) on thread 3".
    /// `None` if there is no such operation.
    pub fn call_text(&self, operation: usize) -> Option<String> {
        let (thread, word) = self.find(operation)?;
        Some(format!("{} on thread {thread}", self.program.call(word)))
    }

    /// Every operation, in the recorded total order.
    pub fn calls(&self) -> Vec<Call> {
        let mut calls: Vec<Option<Call>> = vec![None; self.operations as usize];
        for (thread, part) in (0..).zip(&self.threads) {
            let words = self.program.words[part.range()].iter();
            let numbered = words.zip(&self.numbers[part.range()]);
            let operations = numbered.filter(|(word, _)| !word.is_control());
            // The times of a thread stand one after the other from its first word's place on.
            for (place, (word, number)) in (part.first as usize..).zip(operations) {
                calls[*number as usize] = Some(Call {
                    place,
                    thread,
                    word: *word,
                });
            }
        }
        calls.into_iter().flatten().collect()
    }

    /// The thread and the word of an operation.
    fn find(&self, operation: usize) -> Option<(usize, Word)> {
        let index = self
            .numbers
            .iter()
            .zip(&self.program.words)
            .position(|(number, word)| *number as usize == operation && !word.is_control())?;
        let thread = self
            .threads
            .iter()
            .position(|part| part.range().contains(&index))?;
        Some((thread, self.program.words[index]))
    }

    /// Writes the program to a new file, for children to map.
    pub fn save(&self, path: &Path) -> Result<()> {
        let write = || -> std::io::Result<()> {
            let mut out = BufWriter::new(File::create_new(path)?);
            let header: [u64; HEADER_WORDS] = [
                MAGIC,
                self.threads.len() as u64,
                u64::from(self.first_thread),
                u64::from(self.record.threads_alive_peak),
                self.operations,
                self.tail.first,
                self.tail.words,
                u64::from(self.tail.place),
                self.numbers.len() as u64,
            ];
            for number in header {
                out.write_all(&number.to_ne_bytes())?;
            }
            for part in &self.threads {
                for number in [part.first, part.words, u64::from(part.place)] {
                    out.write_all(&number.to_ne_bytes())?;
                }
            }
            for number in &self.numbers {
                out.write_all(&number.to_ne_bytes())?;
            }
            self.program.write(&mut out)?;
            out.flush()
        };
        write().map_err(|source| Error::io(path, "write the compiled trace to", source))
    }
}

/// A saved program, read in place: nothing is copied, nothing allocated.
#[derive(Clone, Copy, Debug)]
pub struct ThreadedView<'a> {
    program: ProgramView<'a>,
    threads: &'a [[u8; PART_BYTES]],
    numbers: &'a [[u8; 4]],
    pub(super) tail: Part,
    pub(super) first_thread: u32,
    /// Places for threads: as many as are alive at once, at most.
    pub(super) places: u32,
    operations: u64,
}

impl<'a> ThreadedView<'a> {
    /// Interprets the bytes of a saved program; `None` if lengths, slots or indices are not those
    /// of one.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.get(..HEADER_WORDS * 8)?.as_chunks::<8>().0;
        let number = |index: usize| u64::from_ne_bytes(header[index]);
        let count = |index: usize| usize::try_from(number(index)).ok();
        let small = |index: usize| u32::try_from(number(index)).ok();
        let rest = &bytes[HEADER_WORDS * 8..];
        let (threads, rest) = rest.split_at_checked(count(1)?.checked_mul(PART_BYTES)?)?;
        let (numbers, rest) = rest.split_at_checked(count(8)?.checked_mul(4)?)?;
        let view = Self {
            program: ProgramView::parse(rest)?,
            threads: threads.as_chunks().0,
            numbers: numbers.as_chunks().0,
            tail: Part {
                first: number(5),
                words: number(6),
                place: small(7)?,
            },
            first_thread: small(2)?,
            places: small(3)?,
            operations: number(4),
        };
        (number(0) == MAGIC && view.is_valid()).then_some(view)
    }

    /// Every index lies inside its table. The replay relies on it.
    fn is_valid(&self) -> bool {
        let words = self.program.words().len() as u64;
        let threads = self.thread_count();
        let part_valid = |part: Part| {
            part.first
                .checked_add(part.words)
                .is_some_and(|end| end <= words)
                && part.place < self.places.max(1)
        };
        let control_valid = |payload: u64| match Control::from_payload(payload) {
            Some(
                Control::Wait { thread, .. } | Control::Start { thread } | Control::Reap { thread },
            ) => thread < threads,
            Some(Control::Advance | Control::Pace { .. }) => true,
            None => false,
        };
        self.numbers.len() as u64 == words
            && (threads == 0 || self.first_thread < threads)
            && part_valid(self.tail)
            && (0..threads).all(|thread| part_valid(self.part(thread)))
            && self.program.is_valid(control_valid)
    }

    /// Recorded threads.
    pub fn thread_count(&self) -> u32 {
        self.threads.len() as u32
    }

    /// Operations of one replay.
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// Most threads alive at once.
    pub fn threads_alive_peak(&self) -> u32 {
        self.places
    }

    /// The words of all threads, and what they share.
    pub fn program(&self) -> &ProgramView<'a> {
        &self.program
    }

    /// The words of a thread.
    pub(super) fn part(&self, thread: u32) -> Part {
        let numbers = self.threads[thread as usize].as_chunks::<8>().0;
        Part {
            first: u64::from_ne_bytes(numbers[0]),
            words: u64::from_ne_bytes(numbers[1]),
            place: u64::from_ne_bytes(numbers[2]) as u32,
        }
    }

    /// The number of a word's operation in the recorded total order.
    ///
    /// # Panics
    /// If there is no such word.
    #[inline(always)]
    pub(super) fn number(&self, word: usize) -> usize {
        u32::from_ne_bytes(self.numbers[word]) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_survive_their_words() {
        let (thread, count) = (THREAD_LIMIT - 1, u32::MAX - 1);
        for control in [
            Control::Wait { thread, count },
            Control::Wait {
                thread: 0,
                count: 0,
            },
            Control::Advance,
            Control::Start { thread },
            Control::Reap { thread },
            Control::Pace {
                time_ns: TIME_LIMIT_NS,
            },
        ] {
            let word = control.word();
            assert_eq!(Control::of(word), Some(control));
            assert!(!word.is_free() && !word.is_malloc());
        }
        assert_eq!(Control::of(Word::free(7)), None);
    }
}
