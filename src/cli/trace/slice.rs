//! `trace slice`: a piece of a trace.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::slice::from_ref;
use std::time::Duration;

use clap::Args;

use super::input::{Reading, tell_origin};
use super::output::Writing;
use crate::error::{Error, Result};
use crate::trace::binary::Chunks;
use crate::trace::tools::slice::{LiveSet, Slice, Window, slice_chunks};
use crate::trace::{ReadOptions, read_into};

/// Cut a piece out of a trace, with the blocks that are live at its start
///
/// The blocks that are live when the piece begins are allocated first, in the order of their birth and
/// on their threads; a note in the file says how many events those are. Of a plain .trace file, a piece by
/// number is read through the index at its end: nothing behind the piece, and with --no-live-set nothing
/// before it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mymalloc trace slice --first 1000000 --count 500000 app.log.zst piece.log.zst
  mymalloc trace slice --from 2s --until 12s server.log.zst ten-seconds.log.zst")]
pub(super) struct Arguments {
    /// The trace to read
    #[arg(value_name = "TRACE")]
    input: PathBuf,

    /// The file to write; .zst and .gz compress it
    #[arg(value_name = "OUT")]
    output: PathBuf,

    /// Number of the first event to keep, from 0
    #[arg(long, value_name = "N")]
    first: Option<u64>,

    /// How many events to keep
    #[arg(long, value_name = "N")]
    count: Option<u64>,

    /// Keep events from so long after the first one on: 200ms, 1.5s
    #[arg(long, value_name = "TIME", value_parser = parse_moment, conflicts_with_all = ["first", "count"])]
    from: Option<Duration>,

    /// Keep events until so long after the first one
    #[arg(long, value_name = "TIME", value_parser = parse_moment, conflicts_with_all = ["first", "count"])]
    until: Option<Duration>,

    /// Leave out blocks from before the piece: their frees too, and a realloc of one becomes one of
    /// null
    #[arg(long)]
    no_live_set: bool,

    #[command(flatten)]
    writing: Writing,

    #[command(flatten)]
    reading: Reading,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let input = &arguments.input;
    let window = window(arguments)?;
    let live_set = match arguments.no_live_set {
        true => LiveSet::Drop,
        false => LiveSet::Recreate,
    };
    arguments
        .writing
        .write(from_ref(input), &arguments.output, |sink| {
            let options = arguments.reading.options();
            if let (Some(mut chunks), Window::Events { first, count }) =
                (indexed(input, &options), window)
            {
                let ending = slice_chunks(&mut chunks, first, count, live_set, sink)?;
                tell_origin(input, &ending.origin);
                return Ok(ending);
            }
            let mut slice = Slice::new(sink, window, live_set);
            let ending = read_into(input, &options, &mut slice)?;
            tell_origin(input, &ending.origin);
            slice.finish(ending)
        })
}

/// The chunks of a plain file in the binary format with its index. Whatever is not right about it is
/// told by reading it from its beginning.
fn indexed(input: &Path, options: &ReadOptions) -> Option<Chunks<'static>> {
    if options.lenient || options.process.is_some() || !input.is_file() {
        return None;
    }
    Chunks::open(input, options).ok()
}

fn window(arguments: &Arguments) -> Result<Window> {
    let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    match (
        arguments.first,
        arguments.count,
        arguments.from,
        arguments.until,
    ) {
        (None, None, None, None) => Err(Error::usage(
            "which piece? give --first and --count, or --from and --until",
        )),
        (first, count, None, None) => Ok(Window::Events {
            first: first.unwrap_or(0),
            count: count.unwrap_or(u64::MAX),
        }),
        (_, _, from, until) => Ok(Window::Times {
            from_ns: from.map_or(0, ns),
            until_ns: until.map_or(u64::MAX, ns),
        }),
    }
}

/// "0s", "200ms", "1.5s", "2m".
fn parse_moment(text: &str) -> std::result::Result<Duration, String> {
    let time: jiff::SignedDuration = text
        .parse()
        .map_err(|_| "not a time; expected e.g. 200ms, 1.5s or 2m".to_owned())?;
    Duration::try_from(time).map_err(|_| "must not be negative".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_units() {
        for (text, ms) in [("0s", 0), ("200ms", 200), ("1.5s", 1500), ("2m", 120_000)] {
            assert_eq!(parse_moment(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["2", "", "-2s", "soon"] {
            assert!(parse_moment(text).is_err(), "{text}");
        }
    }
}
