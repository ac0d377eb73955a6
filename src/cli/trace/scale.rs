//! `trace scale`: several copies of a trace at once.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::slice::from_ref;

use clap::Args;

use super::input::{Reading, refuse_pipe, tell_origin};
use super::output::Writing;
use super::same_file;
use crate::error::Result;
use crate::trace::tools::scale::{Mode, Repeat, Scale, check};
use crate::trace::tools::survey::{Survey, survey};
use crate::trace::{ReadOptions, read_into};

/// Make a trace of several copies, at once or in a row: what if load grows eight-fold?
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mymalloc trace scale --copies 8 server.log.zst eight.log.zst
  mymalloc trace scale --copies 8 --stretch server.log.zst eight-fold.log.zst
  mymalloc trace scale --copies 100 --repeat server.trace all-day.trace")]
pub(super) struct Arguments {
    /// The trace to read
    #[arg(value_name = "TRACE")]
    input: PathBuf,

    /// The file to write; .zst and .gz compress it
    #[arg(value_name = "OUT")]
    output: PathBuf,

    /// How many copies
    #[arg(long, value_name = "N")]
    copies: u32,

    /// Each copy on threads of its own, event by event in turn: more clients [default]
    #[arg(long)]
    interleave: bool,

    /// Every call N times in a row on its thread, with a block each: larger requests
    #[arg(long, conflicts_with = "interleave")]
    stretch: bool,

    /// One copy after the other, on the same threads: a longer run. What it never frees piles up
    #[arg(long, conflicts_with_all = ["interleave", "stretch"])]
    repeat: bool,

    #[command(flatten)]
    writing: Writing,

    #[command(flatten)]
    reading: Reading,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let input = &arguments.input;
    let options = arguments.reading.options();
    let mode = match arguments.stretch {
        true => Mode::Stretch,
        false => Mode::Interleave,
    };
    same_file::refuse(from_ref(input), &arguments.output)?;
    refuse_pipe(input, "scale")?;
    let survey = survey(input, &options)?;
    if arguments.repeat {
        return repeat(arguments, &survey, &options);
    }
    check(&survey.profile, arguments.copies, mode)?;
    arguments
        .writing
        .write(from_ref(input), &arguments.output, |sink| {
            let mut scale = Scale::new(sink, arguments.copies, mode);
            let ending = read_into(input, &options, &mut scale)?;
            tell_origin(input, &ending.origin);
            scale.finish(ending)
        })
}

fn repeat(arguments: &Arguments, survey: &Survey, options: &ReadOptions) -> Result<()> {
    let input = &arguments.input;
    // Once per copy would be too often.
    tell_origin(input, &survey.ending.origin);
    let options = ReadOptions {
        progress: false,
        ..options.clone()
    };
    arguments
        .writing
        .write(from_ref(input), &arguments.output, |sink| {
            let mut repeat = Repeat::new(sink, arguments.copies, survey)?;
            for _ in 0..arguments.copies {
                read_into(input, &options, &mut repeat)?;
                repeat.next_copy();
            }
            repeat.finish(survey.ending.clone())
        })
}
