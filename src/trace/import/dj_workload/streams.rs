//! Takes a workload's bytes apart.

use crate::trace::import::fault::Fault;
use crate::trace::import::scan::Parse;

/// Threads of a workload. Each costs some memory while the streams are read side by side.
const THREADS_MAX: u64 = 1 << 16;

/// The bytes of the opening block, each also an operation of the format's player.
const DONE: u8 = 1;
const BLOCKS: u8 = 8;
const MARKS: u8 = 9;
const THREADS: u8 = 10;
const THREAD: u8 = 11;

/// One operation of a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Malloc {
        block: u64,
        size: u64,
    },
    Calloc {
        block: u64,
        size: u64,
    },
    Realloc {
        new: u64,
        old: u64,
        size: u64,
    },
    Free {
        block: u64,
    },
    Memalign {
        block: u64,
        alignment: u64,
        size: u64,
    },
    Valloc {
        block: u64,
        size: u64,
    },
    Pvalloc {
        block: u64,
        size: u64,
    },
    Set {
        mark: u64,
    },
    Wait {
        mark: u64,
    },
    Nothing,
    Done,
}

/// A workload whose opening block has been read.
pub(super) struct Workload<'f> {
    file: &'f [u8],
    blocks: u64,
    marks: u64,
    /// Where each thread's stream begins, in the order of their start, and where the next stream
    /// behind it does.
    streams: Vec<(usize, usize)>,
}

/// A cursor over the numbers and operations of the file.
struct Cursor<'f> {
    file: &'f [u8],
    at: usize,
}

impl Cursor<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.file.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn number(&mut self) -> Parse<u64> {
        let mut number = 0_u64;
        loop {
            let byte = self.byte().ok_or("a number that ends")?;
            if number >> 57 != 0 {
                return Err("a number below 2^64");
            }
            number = number << 7 | u64::from(byte & 0x7f);
            if byte < 0x80 {
                return Ok(number);
            }
        }
    }
}

/// The opening block.
#[derive(Default)]
struct Opening {
    blocks: Option<u64>,
    marks: Option<u64>,
    threads: Option<u64>,
    offsets: Vec<u64>,
}

impl Opening {
    /// Reads the block. Returns what it holds, and whether it has ended: the bytes may.
    fn read(cursor: &mut Cursor) -> Parse<(Self, bool)> {
        let mut opening = Self::default();
        loop {
            let Some(operation) = cursor.byte() else {
                return Ok((opening, false));
            };
            let mut number = || match cursor.number() {
                Err("a number that ends") => Ok(None),
                number => number.map(Some),
            };
            let set = match operation {
                BLOCKS => &mut opening.blocks,
                MARKS => &mut opening.marks,
                THREADS => &mut opening.threads,
                THREAD => {
                    let Some(offset) = number()? else {
                        return Ok((opening, false));
                    };
                    if opening.offsets.len() as u64 >= opening.threads.unwrap_or(0) {
                        return Err("as many threads as announced");
                    }
                    opening.offsets.push(offset);
                    continue;
                }
                DONE if opening.threads != Some(opening.offsets.len() as u64) => {
                    return Err("as many threads as announced");
                }
                DONE => return Ok((opening, true)),
                _ => return Err("8, 9, 10, 11 or 1 at the beginning of the file"),
            };
            if set.is_some() || !opening.offsets.is_empty() {
                return Err("8, 9 and 10 once, before 11");
            }
            let Some(number) = number()? else {
                return Ok((opening, false));
            };
            *set = Some(number);
            if opening.threads.is_some_and(|threads| threads > THREADS_MAX) {
                return Err("at most 65536 threads");
            }
        }
    }
}

/// Whether a file is of this format, which has no magic: it begins with the opening block, whose
/// offsets lie behind it.
pub(in crate::trace::import) fn recognises(head: &[u8]) -> bool {
    let mut cursor = Cursor { file: head, at: 0 };
    let Ok((opening, ended)) = Opening::read(&mut cursor) else {
        return false;
    };
    head.first() == Some(&BLOCKS)
        && opening.marks.is_some()
        && !opening.offsets.is_empty()
        && (ended || head.len() >= 1024)
        && (opening.offsets.iter()).all(|&offset| offset >= cursor.at as u64 || !ended)
}

impl<'f> Workload<'f> {
    /// Reads the opening block.
    pub(super) fn new(file: &'f [u8]) -> Result<Self, String> {
        let mut cursor = Cursor { file, at: 0 };
        let opening = match Opening::read(&mut cursor) {
            Ok((opening, true)) => opening,
            Ok((_, false)) => {
                return Err("the file ends inside its opening block: it is truncated".to_owned());
            }
            Err(expected) => return Err(format!("byte {}: expected {expected}", cursor.at)),
        };
        let behind = cursor.at;
        let mut starts = Vec::new();
        for (thread, &offset) in opening.offsets.iter().enumerate() {
            let start = usize::try_from(offset)
                .ok()
                .filter(|&start| start >= behind);
            starts.push(start.ok_or_else(|| {
                format!(
                    "thread {} begins at byte {offset}, inside the opening block, which ends at \
                     byte {behind}",
                    thread + 1
                )
            })?);
        }
        let mut sorted = starts.clone();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("two threads begin at byte {}", twice[0]));
        }
        let end_of = |start: usize| {
            let next = sorted.partition_point(|&other| other <= start);
            sorted.get(next).copied().unwrap_or(file.len())
        };
        Ok(Self {
            file,
            blocks: opening.blocks.unwrap_or(0),
            marks: opening.marks.unwrap_or(0),
            streams: starts.iter().map(|&start| (start, end_of(start))).collect(),
        })
    }

    /// Where each thread's stream begins.
    pub(super) fn starts(&self) -> impl Iterator<Item = usize> {
        self.streams.iter().map(|&(start, _)| start)
    }

    /// The operation of a thread at a byte, and where the next one stands.
    pub(super) fn step(&self, thread: usize, at: usize) -> Result<(Step, usize), Fault> {
        let end = self.streams[thread].1.min(self.file.len());
        let mut cursor = Cursor {
            file: &self.file[..end],
            at,
        };
        let step = self.parse(&mut cursor).map_err(Fault::Syntax)?;
        Ok((step, cursor.at))
    }

    /// The bytes from `at` on, for messages.
    pub(super) fn bytes(&self, at: usize) -> &[u8] {
        self.file.get(at..).unwrap_or_default()
    }

    fn parse(&self, cursor: &mut Cursor) -> Parse<Step> {
        let operation = cursor
            .byte()
            .ok_or("the thread's end (1) before the end of its stream")?;
        // The player takes the announced number itself as well.
        let within = |number: Parse<u64>, announced, expected| match number {
            Ok(number) if number > announced => Err(expected),
            number => number,
        };
        let block = |cursor: &mut Cursor| {
            let expected = "a block number within what the file announces";
            within(cursor.number(), self.blocks, expected)
        };
        let mark = |cursor: &mut Cursor| {
            let expected = "a mark within what the file announces";
            within(cursor.number(), self.marks, expected)
        };
        Ok(match operation {
            0 => Step::Nothing,
            DONE => Step::Done,
            2 => Step::Malloc {
                block: block(cursor)?,
                size: cursor.number()?,
            },
            3 => Step::Calloc {
                block: block(cursor)?,
                size: cursor.number()?,
            },
            4 => Step::Realloc {
                new: block(cursor)?,
                old: block(cursor)?,
                size: cursor.number()?,
            },
            5 => Step::Free {
                block: block(cursor)?,
            },
            6 => Step::Set {
                mark: mark(cursor)?,
            },
            7 => Step::Wait {
                mark: mark(cursor)?,
            },
            12 => Step::Memalign {
                block: block(cursor)?,
                alignment: cursor.number()?,
                size: cursor.number()?,
            },
            13 => Step::Valloc {
                block: block(cursor)?,
                size: cursor.number()?,
            },
            14 => Step::Pvalloc {
                block: block(cursor)?,
                size: cursor.number()?,
            },
            _ => return Err("an operation from 0 to 7 or from 12 to 14"),
        })
    }
}
