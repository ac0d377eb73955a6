//! `trace convert`: a trace in another format.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::slice::from_ref;

use clap::Args;

use super::input::{Reading, tell_origin};
use super::output::Writing;
use crate::error::Result;
use crate::trace::read_into;

/// Write a trace in another format, compressed by the name it is given
///
/// The format of the trace that is read is found from its content: logalloc, Android memory_replay,
/// CMU .rep, heaptrack, mtrace, valgrind --trace-malloc, ltrace, bcc memleak and more
/// (workloads/formats.md). What it cannot tell, and what is lost in writing, is said.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mymalloc trace convert app.txt.gz app.log.zst
  mymalloc trace convert --format rep app.log app.rep")]
pub(super) struct Arguments {
    /// The trace to read
    #[arg(value_name = "TRACE")]
    input: PathBuf,

    /// The file to write; .zst and .gz compress it
    #[arg(value_name = "OUT")]
    output: PathBuf,

    #[command(flatten)]
    writing: Writing,

    #[command(flatten)]
    reading: Reading,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let input = &arguments.input;
    arguments
        .writing
        .write(from_ref(input), &arguments.output, |sink| {
            let ending = read_into(input, &arguments.reading.options(), sink)?;
            tell_origin(input, &ending.origin);
            Ok(ending)
        })
}
