//! Reads traces: one file per grammar parses lines into records, `intake` checks them and makes them
//! events. The grammar is told by the content, never by the file's name: `grammar` lists those of
//! lines, `bytes` the others.

mod alk;
mod android;
mod bytehound;
mod bytes;
mod chattymalloc;
mod chattymalloc_records;
mod detect;
mod dj_dump;
mod dj_trace;
mod dj_workload;
mod dropped;
mod fault;
mod grammar;
mod heaptrack;
mod held;
mod intake;
mod logalloc;
mod ltrace;
mod memleak;
mod mtrace;
pub(in crate::trace) mod native;
mod nested;
mod operators;
mod processes;
mod protobuf;
mod reader;
mod records;
mod refusal;
mod rep;
mod scan;
mod sizes;
mod tags;
mod tralloc;
mod valgrind;
pub(crate) mod wire;

use std::path::Path;

use super::builder::TraceBuilder;
use super::stream::{Ending, EventSink};
use super::{AlignedFunction, Origin, SiteId, Trace};
use crate::error::Result;

/// How to read a trace.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// Drop and count lines that cannot be used, instead of refusing the file.
    pub lenient: bool,
    /// The process to keep, where a log holds several.
    pub process: Option<u64>,
    /// Show a progress bar for a long file, if standard error is a terminal.
    pub progress: bool,
    /// Asked while reading, also while a pipe keeps the reader waiting: whether to give up, with
    /// [`crate::error::Error::Interrupted`].
    pub interrupted: Option<fn() -> bool>,
}

/// Reads a trace in any of the known grammars, compressed with gzip, zstd or zip or not at all.
///
/// # Errors
/// The first line that cannot be used, with its number, unless `options.lenient`; a file that
/// cannot be read, is empty or damaged, or holds no allocator operation.
pub fn read(path: &Path, options: &ReadOptions) -> Result<Trace> {
    let mut builder = TraceBuilder::new(Origin::generated("", Vec::new()));
    let ending = read_into(path, options, &mut builder)?;
    Ok(builder.finish_as(ending))
}

/// The same, handing the events on to `sink` instead of keeping them: memory stays within what the
/// live blocks need, however long the trace. Events that were handed on before an error are valid.
///
/// # Errors
/// As [`read`], and those of the sink.
pub fn read_into(path: &Path, options: &ReadOptions, sink: &mut dyn EventSink) -> Result<Ending> {
    reader::read_into(path, None, options, sink)
}

/// The same for a file whose bytes are in memory: packed or not, in any format, as it would stand on a
/// disk. `name` is what messages call it; nothing is looked for under that name.
///
/// # Errors
/// As [`read_into`].
pub fn read_bytes(
    name: &Path,
    bytes: &[u8],
    options: &ReadOptions,
    sink: &mut dyn EventSink,
) -> Result<Ending> {
    reader::read_into(name, Some(bytes), options, sink)
}

/// One line of any grammar.
#[derive(Clone, Copy, Debug)]
struct Record {
    /// Number of the process, where the grammar has it.
    process: Option<u64>,
    /// Number of the thread, where the line has it.
    thread: Option<u64>,
    /// What was asked.
    request: Request,
    /// The moment of the call, if recorded.
    time_ns: Option<u64>,
    /// The call site, where the grammar has them.
    site: SiteId,
}

impl Record {
    /// A record of a grammar that tells nothing beside the call.
    #[inline]
    fn of(request: Request) -> Self {
        Self {
            process: None,
            thread: None,
            request,
            time_ns: None,
            site: SiteId(0),
        }
    }
}

/// What a line asks of the allocator. A pointer is an address, a slot or an id; 0 is null.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Request {
    Malloc {
        size: u64,
        result: u64,
    },
    Calloc {
        count: u64,
        size: u64,
        result: u64,
    },
    Aligned {
        function: AlignedFunction,
        alignment: u64,
        size: u64,
        result: u64,
    },
    Realloc {
        old: u64,
        size: u64,
        result: u64,
    },
    Free {
        pointer: u64,
        /// The caller told the size.
        sized: bool,
    },
    /// The first half of a `realloc`, where a recording has two: the block's address is free to be
    /// given to others.
    ReallocBegin {
        old: u64,
    },
    /// The second half: belongs to the thread's last `ReallocBegin`.
    ReallocEnd {
        size: u64,
        result: u64,
    },
    ThreadStart,
    ThreadEnd,
    Mark,
}

impl Request {
    /// The pointer returned, if any.
    fn result(&self) -> Option<u64> {
        match *self {
            Self::Malloc { result, .. }
            | Self::Calloc { result, .. }
            | Self::Aligned { result, .. }
            | Self::Realloc { result, .. }
            | Self::ReallocEnd { result, .. } => Some(result).filter(|&pointer| pointer != 0),
            Self::Free { .. }
            | Self::ReallocBegin { .. }
            | Self::ThreadStart
            | Self::ThreadEnd
            | Self::Mark => None,
        }
    }
}
