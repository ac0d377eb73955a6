//! `convert`: a trace in another text format, or a piece of one.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::terminal::{complain, print};
use crate::error::{Error, Result};
use crate::run::interrupt;
use crate::trace::stream::feed;
use crate::trace::{self, Origin, OutputFormat, ReadOptions, Trace, export, plural};

/// Write a trace in another text format, compressed by the name it is given
///
/// The format of the trace that is read is found from its content: logalloc, Android memory_replay,
/// CMU .rep, heaptrack, mtrace, valgrind --trace-malloc, ltrace, bcc memleak and more
/// (workloads/formats.md). What it cannot tell, and what is lost in writing, is said.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mymalloc convert app.txt.gz app.log.zst
  mymalloc convert --format rep --first 0 --count 50000 app.log piece.rep")]
pub(super) struct Arguments {
    /// The trace to read
    #[arg(value_name = "TRACE")]
    input: PathBuf,

    /// The file to write; .zst and .gz compress it
    #[arg(value_name = "OUT")]
    output: PathBuf,

    /// The format to write; without, as the name of OUT says: .log, .rep, .jsonl, else text
    #[arg(long, value_enum)]
    format: Option<Format>,

    /// Number of the first event to keep, from 0; frees of blocks from before it are left out
    #[arg(long, value_name = "N")]
    first: Option<usize>,

    /// How many events to keep
    #[arg(long, value_name = "N")]
    count: Option<usize>,

    /// Drop lines that cannot be understood, instead of stopping at the first
    #[arg(long)]
    lenient: bool,

    /// Which process to convert, if a log holds several
    #[arg(long, value_name = "PID")]
    process: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The native text, which loses nothing
    #[value(alias = "native")]
    Text,
    /// Logalloc with slot numbers, for other tools
    Logalloc,
    /// Android memory_replay
    Android,
    /// CMU .rep
    Rep,
    /// One JSON object a line
    Jsonl,
}

impl From<Format> for OutputFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Logalloc => Self::Logalloc,
            Format::Android => Self::Android,
            Format::Rep => Self::Rep,
            Format::Jsonl => Self::JsonLines,
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    interrupt::install();
    let options = ReadOptions {
        lenient: arguments.lenient,
        process: arguments.process,
        progress: true,
        interrupted: Some(interrupt::requested),
    };
    let whole = trace::read(&arguments.input, &options)?;
    tell_origin(arguments, whole.origin());
    let trace = piece(arguments, whole)?;
    let format = match arguments.format {
        Some(format) => format.into(),
        None => OutputFormat::of_name(&arguments.output).unwrap_or(OutputFormat::Text),
    };
    if interrupt::requested() {
        return Err(Error::Interrupted);
    }
    let mut sink = export::create(&arguments.output, format)?;
    feed(&trace, &mut sink)?;
    let written = sink.finish(&trace.ending())?;
    for &(what, count) in written.losses.counts() {
        let events = plural(count, "event");
        complain(&format!("warning: {events} lost in this format: {what}"));
    }
    let events = plural(written.events, "event");
    print(&format!("{}: {events}\n", arguments.output.display()))
}

/// Says what the trace read is not, before it passes into a file that does not tell.
fn tell_origin(arguments: &Arguments, origin: &Origin) {
    let warn = |message: &str| {
        complain(&format!(
            "warning: {}: {message}",
            arguments.input.display()
        ));
    };
    if origin.dropped_lines > 0 {
        warn(&format!("{} dropped", plural(origin.dropped_lines, "line")));
    }
    for message in origin.warnings.iter().chain(&origin.notes) {
        warn(message);
    }
}

/// The events asked for, among which must be one that an allocator serves: without, the text could
/// not be read again.
fn piece(arguments: &Arguments, whole: Trace) -> Result<Trace> {
    if arguments.first.is_none() && arguments.count.is_none() {
        return Ok(whole);
    }
    let first = arguments.first.unwrap_or(0);
    if first >= whole.events().len() {
        return Err(Error::usage(format!(
            "--first {first}: the trace has {}",
            plural(whole.events().len() as u64, "event")
        )));
    }
    let piece = trace::slice(&whole, first, arguments.count.unwrap_or(usize::MAX));
    if piece.counts().operations() == 0 {
        return Err(Error::usage(
            "nothing to write: this piece holds no allocator operation, or only frees of blocks \
             from before it; choose another --first or --count",
        ));
    }
    Ok(piece)
}
