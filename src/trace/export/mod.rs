//! Writes traces, in the native formats and in those of other tools. Every writer is an
//! [`EventSink`](super::stream::EventSink): the events pass through, and memory holds names for the
//! live blocks alone, however long the trace.
//!
//! Blocks are named by slots, and the lowest free slot is taken first: names stay short, and the
//! text compresses far better than with the addresses of the recorded run. What a format cannot
//! tell is counted and handed back, so that the caller can say so.

#![forbid(unsafe_code)]

mod android;
mod binary;
mod file;
mod json_lines;
mod logalloc;
mod rep;
mod slots;
mod text;

use std::io::Write;
use std::path::Path;

pub use file::{FileSink, Written, create};
pub use slots::Losses;

use super::stream::{Batch, Ending, feed};
use super::{Operation, Trace};
use crate::error::Result;

/// A format to write.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OutputFormat {
    /// The native binary format. Loses nothing.
    Binary,
    /// The native text: logalloc's grammar and lines of our own. Loses nothing.
    Text,
    /// Logalloc with slot numbers, as other tools read it.
    Logalloc,
    /// Android `memory_replay`.
    Android,
    /// CMU `.rep`.
    Rep,
    /// One JSON object a line.
    JsonLines,
}

impl OutputFormat {
    /// The format that a file's name stands for, compressed or not: `.trace` is binary, `.log` the
    /// native text, `.rep` and `.jsonl` are what they say.
    pub fn of_name(path: &Path) -> Option<Self> {
        let extension = |path: &Path| path.extension()?.to_str().map(str::to_owned);
        let packed = matches!(extension(path).as_deref(), Some("zst" | "gz"));
        // The name without it may be no UTF-8.
        let name = if packed {
            Path::new(path.file_stem()?)
        } else {
            path
        };
        match extension(name)?.as_str() {
            "trace" => Some(Self::Binary),
            "log" => Some(Self::Text),
            "rep" => Some(Self::Rep),
            "jsonl" => Some(Self::JsonLines),
            _ => None,
        }
    }

    /// Whether the format has a place for this operation.
    fn tells(self, operation: &Operation) -> bool {
        match self {
            Self::Binary | Self::Text | Self::JsonLines => true,
            Self::Logalloc => !matches!(
                operation,
                Operation::FreeUnseen | Operation::ThreadStart | Operation::ThreadEnd
            ),
            Self::Android => !matches!(
                operation,
                Operation::FreeUnseen | Operation::ThreadStart | Operation::Mark
            ),
            Self::Rep => operation.is_replayed(),
        }
    }

    fn writer(self) -> Result<Box<dyn Writer>> {
        Ok(match self {
            Self::Binary => Box::new(binary::Binary::new()?),
            Self::Text => Box::<text::Text>::default(),
            Self::Logalloc => Box::<logalloc::Logalloc>::default(),
            Self::Android => Box::<android::Android>::default(),
            Self::Rep => Box::<rep::Rep>::default(),
            Self::JsonLines => Box::<json_lines::JsonLines>::default(),
        })
    }
}

/// One format's way to write events. Everything is appended to `out`, which the caller empties.
trait Writer: Send {
    /// The next events.
    fn take(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<()>;

    /// What stands behind the last event.
    fn end(&mut self, _ending: &Ending, _out: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    /// Whether the file begins with something that is known only at the end: see [`Writer::header`].
    fn has_header(&self) -> bool {
        false
    }

    /// What stands before the first event.
    fn header(&self) -> Vec<u8> {
        Vec::new()
    }

    /// What could not be told so far.
    fn losses(&self) -> &Losses;
}

/// Writes a trace to a file, compressed if its name ends in `.zst` or `.gz`. The file is written
/// beside its destination and renamed, so that nobody sees half of it.
///
/// # Errors
/// The folder or the file cannot be written.
pub fn write(trace: &Trace, path: &Path, format: OutputFormat) -> Result<Losses> {
    let mut sink = create(path, format)?;
    feed(trace, &mut sink)?;
    Ok(sink.finish(&trace.ending())?.losses)
}

/// Writes a trace, uncompressed.
///
/// # Errors
/// Those of `out`.
pub fn write_to(trace: &Trace, out: impl Write + Send, format: OutputFormat) -> Result<Losses> {
    file::write_to(trace, out, format)
}
