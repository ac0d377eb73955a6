//! `trace anonymise`: a trace that can be shared.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::slice::from_ref;
use std::time::Duration;

use clap::Args;

use super::input::Reading;
use super::output::Writing;
use crate::cli::amounts::{parse_bytes, parse_time};
use crate::error::Result;
use crate::trace::read_into;
use crate::trace::tools::anonymise::{Anonymise, Sizes, Times};

/// Leave out whatever names the program: its name, arguments, paths, call sites, dates, times
///
/// What stays is the calls in their order, with threads and call sites as numbers in the order of
/// their first appearance. Addresses and thread ids are in no trace that was read.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  mymalloc trace anonymise --round-sizes classes app.log.zst shared.log.zst")]
pub(super) struct Arguments {
    /// The trace to read
    #[arg(value_name = "TRACE")]
    input: PathBuf,

    /// The file to write; .zst and .gz compress it
    #[arg(value_name = "OUT")]
    output: PathBuf,

    /// Round sizes up to multiples of so many bytes, or to size "classes" as `trace stat` has them
    #[arg(long, value_name = "BYTES|classes", value_parser = parse_sizes)]
    round_sizes: Option<Sizes>,

    /// Keep times, down to multiples of this, instead of leaving them out: 1ms
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    coarse_times: Option<Duration>,

    #[command(flatten)]
    writing: Writing,

    #[command(flatten)]
    reading: Reading,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let input = &arguments.input;
    let sizes = arguments.round_sizes.unwrap_or(Sizes::Exact);
    let times = match arguments.coarse_times {
        None => Times::Drop,
        Some(step) => Times::Coarsen {
            step_ns: u64::try_from(step.as_nanos()).unwrap_or(u64::MAX),
        },
    };
    arguments
        .writing
        .write(from_ref(input), &arguments.output, |sink| {
            let mut anonymise = Anonymise::new(sink, sizes, times);
            let ending = read_into(input, &arguments.reading.options(), &mut anonymise)?;
            anonymise.finish(&ending)
        })
}

fn parse_sizes(text: &str) -> std::result::Result<Sizes, String> {
    if text == "classes" {
        return Ok(Sizes::Classes);
    }
    match parse_bytes(text)? {
        0 => Err("must be at least 1, or \"classes\"".to_owned()),
        step => Ok(Sizes::Multiple(step)),
    }
}
