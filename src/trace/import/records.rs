//! What the binary formats share: reading records with their place in the file, and judging them:
//! a bad record ends the reading (strict) or is dropped and counted (lenient).

use std::io::Read;
use std::path::{Path, PathBuf};

use super::fault::Fault;
use super::held::Judge;
use super::intake::{Intake, Rules};
use super::{ReadOptions, Record, Request};
use crate::error::{Error, Result};
use crate::trace::input::Lines;
use crate::trace::stream::{Ending, EventSink};
use crate::trace::{Format, Origin, plural};

/// Dropped records that are shown.
const EXAMPLES: usize = 5;

/// Bytes of a record that are shown.
const SHOWN_BYTES: usize = 16;

/// Where a record stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct At {
    /// Number of the record, from 1.
    pub(super) number: u64,
    /// Offset of its first byte, from 0, in the file as decompressed.
    pub(super) offset: u64,
}

/// The bytes of an opened file, and how many have been read.
pub(super) struct Bytes<'l, 's> {
    lines: &'l mut Lines<'s>,
    offset: u64,
    records: u64,
}

impl<'l, 's> Bytes<'l, 's> {
    pub(super) fn new(lines: &'l mut Lines<'s>) -> Self {
        Self {
            lines,
            offset: 0,
            records: 0,
        }
    }

    /// The file as the user named it.
    pub(super) fn path(&self) -> &Path {
        self.lines.path()
    }

    /// The place of the record that begins with the next byte.
    pub(super) fn begin(&mut self) -> At {
        self.records += 1;
        At {
            number: self.records,
            offset: self.offset,
        }
    }

    /// Fills `out`, or as much of it as there is. Returns the bytes filled.
    ///
    /// # Errors
    /// The file cannot be read or decompressed.
    pub(super) fn fill(&mut self, out: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < out.len() {
            let count = match self.lines.read(&mut out[filled..]) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) => {
                    return Err(match error.downcast::<Error>() {
                        Ok(told) => told,
                        Err(source) => Error::io(self.path(), "read", source),
                    });
                }
            };
            filled += count;
            self.offset += count as u64;
        }
        Ok(filled)
    }

    /// The next record of `N` bytes; none at the end of the file.
    ///
    /// # Errors
    /// As [`Bytes::fill`]; the file ends inside the record.
    pub(super) fn record<const N: usize>(&mut self) -> Result<Option<([u8; N], At)>> {
        let at = self.begin();
        let mut record = [0; N];
        match self.fill(&mut record)? {
            0 => Ok(None),
            filled if filled == N => Ok(Some((record, at))),
            filled => Err(self.cut(at, filled, N)),
        }
    }

    /// The file ends inside a record.
    pub(super) fn cut(&self, at: At, filled: usize, whole: usize) -> Error {
        let message = format!(
            "byte {} (record {}): the file ends after {filled} of the record's {whole} bytes: it is \
             truncated",
            at.offset, at.number
        );
        Error::file(self.path(), message)
    }
}

/// How messages name what stands at a place, and the pointers there.
#[derive(Clone, Copy)]
pub(super) struct Naming {
    /// Earlier records are named by their number; else by their offset.
    pub(super) numbered: bool,
    /// A pointer as the format writes it.
    pub(super) pointer: fn(u64) -> String,
}

/// The records of one file on their way to the sink.
pub(super) struct Records<'o> {
    pub(super) intake: Intake<'o>,
    pub(super) lenient: bool,
    path: PathBuf,
    origin: Origin,
    naming: Naming,
}

impl<'o> Records<'o> {
    pub(super) fn new(
        path: &Path,
        options: &ReadOptions,
        format: Format,
        naming: Naming,
        sink: &'o mut dyn EventSink,
    ) -> Self {
        let rules = Rules {
            mixed_times: options.lenient,
            ..Rules::default()
        };
        Self {
            intake: Intake::new(sink, rules),
            lenient: options.lenient,
            path: path.to_owned(),
            origin: Origin {
                source: path.display().to_string(),
                format,
                ..Origin::generated("", Vec::new())
            },
            naming,
        }
    }

    /// Whether anything can be saved from a file that is damaged further on.
    pub(super) fn saves(&mut self, damage: Error) -> Result<()> {
        let tolerable = matches!(damage, Error::File { .. } | Error::Line { .. });
        if !self.lenient {
            return Err(match damage {
                Error::File { path, message } => Error::file(
                    path,
                    format!("{message} (--lenient reads what stands before)"),
                ),
                other => other,
            });
        }
        if !tolerable || self.intake.events.counts().total() == 0 {
            return Err(damage);
        }
        self.warn(match damage {
            Error::Line { line, message, .. } => format!("line {line}: {message}"),
            Error::File { message, .. } => message,
            other => other.to_string(),
        });
        Ok(())
    }

    /// The next record of `N` bytes; none at the end, or where a lenient reader has to stop.
    pub(super) fn next<const N: usize>(
        &mut self,
        bytes: &mut Bytes,
    ) -> Result<Option<([u8; N], At)>> {
        match bytes.record() {
            Ok(next) => Ok(next),
            Err(damage) => self.saves(damage).map(|()| None),
        }
    }

    /// Takes a record, or judges it. Returns whether it was taken.
    #[inline]
    pub(super) fn take(&mut self, record: &Record, at: At) -> Result<bool> {
        let line = match self.naming.numbered {
            true => at.number,
            false => at.offset,
        };
        match self.intake.take(record, line) {
            Ok(()) => {
                self.intake.events.flush_full()?;
                Ok(true)
            }
            Err(fault) => self.refuse(fault, at, &[]).map(|()| false),
        }
    }

    /// A record that cannot be taken: the end, or one more on the count. `bytes` is how it begins.
    #[cold]
    pub(super) fn refuse(&mut self, fault: Fault, at: At, bytes: &[u8]) -> Result<()> {
        let place = if self.naming.numbered {
            format!("byte {} (record {})", at.offset, at.number)
        } else {
            format!("byte {}", at.offset)
        };
        let earlier = match self.naming.numbered {
            true => "record",
            false => "the operation at byte",
        };
        let explain = || fault.explain_by(earlier, &shown(bytes), self.naming.pointer);
        if !self.lenient || fault == Fault::Full {
            let advice = match fault {
                Fault::Full => "",
                _ => " (--lenient drops such records)",
            };
            let message = format!("{place}: {}{advice}", explain());
            return Err(Error::file(&self.path, message));
        }
        if self.origin.dropped_examples.len() < EXAMPLES {
            let example = format!("{place}: {}", explain());
            self.origin.dropped_examples.push(example);
        }
        self.origin.dropped_lines += 1;
        Ok(())
    }

    /// Tells of an input that is not as it should be.
    pub(super) fn warn(&mut self, message: String) {
        self.origin.warnings.push(message);
    }

    /// Tells what the format cannot.
    pub(super) fn note(&mut self, message: impl Into<String>) {
        self.origin.notes.push(message.into());
    }

    /// An error if strict, a warning if lenient: the file as a whole contradicts itself.
    pub(super) fn contradiction(&mut self, message: String) -> Result<()> {
        if self.lenient {
            self.warn(message);
            return Ok(());
        }
        let message = format!("{message} (--lenient reads it all the same)");
        Err(Error::file(&self.path, message))
    }

    /// All records were taken.
    pub(super) fn finish(mut self) -> Result<Ending> {
        if self.intake.events.counts().operations() == 0 {
            let message = match self.origin.dropped_examples.first() {
                Some(example) => format!(
                    "no allocator operation is left: {}; {example}",
                    plural(self.origin.dropped_lines, "bad record")
                ),
                None => "the trace holds no allocator operation".to_owned(),
            };
            return Err(Error::file(&self.path, message));
        }
        self.intake.tell(&mut self.origin.warnings);
        self.intake.events.flush()?;
        Ok(Ending {
            origin: self.origin,
            site_names: Vec::new(),
        })
    }
}

impl Judge for Records<'_> {
    type At = At;
    type Error = Error;

    #[inline]
    fn is_live(&self, pointer: u64) -> bool {
        self.intake.is_live(pointer)
    }

    #[inline]
    fn take(&mut self, record: &Record, at: At) -> Result<bool> {
        Records::take(self, record, at)
    }
}

/// The begin of a record in hexadecimal.
fn shown(bytes: &[u8]) -> String {
    let dots = if bytes.len() > SHOWN_BYTES {
        " ..."
    } else {
        ""
    };
    let bytes: Vec<String> = bytes
        .iter()
        .take(SHOWN_BYTES)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{}{dots}", bytes.join(" "))
}

/// A pointer that is an address.
pub(super) fn address(pointer: u64) -> String {
    format!("{pointer:#x}")
}

/// A pointer that is a number, kept one higher since 0 stands for null.
pub(super) fn block(pointer: u64) -> String {
    format!("block {}", pointer - 1)
}

/// The little-endian number of 8 bytes at `offset`.
#[inline]
pub(super) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let bytes = bytes[offset..offset + 8].try_into();
    u64::from_le_bytes(bytes.expect("8 bytes were sliced"))
}

/// The little-endian number of 4 bytes at `offset`.
#[inline]
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let bytes = bytes[offset..offset + 4].try_into();
    u32::from_le_bytes(bytes.expect("4 bytes were sliced"))
}

/// A free whose caller did not tell the size.
pub(super) fn free(pointer: u64) -> Request {
    Request::Free {
        pointer,
        sized: false,
    }
}

/// A call by a thread.
pub(super) fn by(thread: u64, request: Request) -> Record {
    Record {
        thread: Some(thread),
        ..Record::of(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_shown_by_their_first_bytes() {
        assert_eq!(shown(&[0, 0x1f, 255]), "00 1f ff");
        assert!(shown(&[7; 17]).ends_with("07 ..."));
        assert_eq!(u64_at(&[9, 1, 0, 0, 0, 0, 0, 0, 0x80], 1), 1 << 63 | 1);
        assert_eq!(u32_at(&[1, 0, 0, 0x80], 0), 1 << 31 | 1);
    }
}
