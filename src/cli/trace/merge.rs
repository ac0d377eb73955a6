//! `trace merge`: several traces into one.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::input::{Reading, refuse_pipe};
use super::output::Writing;
use super::same_file;
use crate::cli::terminal::{complain, folded};
use crate::error::Result;
use crate::trace::ReadOptions;
use crate::trace::tools::merge::{Order, Plan, merge_files};
use crate::trace::tools::survey::{Survey, survey};

/// Make one trace of several, such as those of a server's processes
///
/// Threads, blocks and call sites stay apart. Without --order, events are ordered by their time stamps
/// if all traces have them, otherwise the traces follow one another.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  mymalloc trace merge server.*.log.zst all.log.zst")]
pub(super) struct Arguments {
    /// The traces to read
    #[arg(value_name = "TRACE", required = true, num_args = 1..)]
    inputs: Vec<PathBuf>,

    /// The file to write; .zst and .gz compress it
    #[arg(value_name = "OUT", required = true)]
    output: PathBuf,

    /// In which order events of different traces follow each other
    #[arg(long, value_enum)]
    order: Option<Wish>,

    #[command(flatten)]
    writing: Writing,

    #[command(flatten)]
    reading: Reading,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wish {
    /// By time stamp
    Time,
    /// One event of each in turn
    RoundRobin,
    /// One trace after another
    Sequential,
}

impl From<Wish> for Order {
    fn from(wish: Wish) -> Self {
        match wish {
            Wish::Time => Self::Time,
            Wish::RoundRobin => Self::RoundRobin,
            Wish::Sequential => Self::Sequential,
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let inputs = &arguments.inputs;
    same_file::refuse(inputs, &arguments.output)?;
    let options = arguments.reading.options();
    let mut surveys: Vec<Survey> = Vec::new();
    for input in inputs {
        refuse_pipe(input, "merge")?;
        surveys.push(survey(input, &options)?);
    }
    let plan = Plan::of(&surveys, arguments.order.map(Into::into))?;
    // Bars of several files at once would overwrite each other.
    let options = ReadOptions {
        progress: false,
        ..options
    };
    arguments.writing.write(inputs, &arguments.output, |sink| {
        let ending = merge_files(inputs, &options, &plan, sink)?;
        let origin = &ending.origin;
        for message in origin.notes.iter().chain(&origin.warnings) {
            complain(&folded(&format!("note: {message}")));
        }
        Ok(ending)
    })
}
