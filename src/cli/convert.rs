//! `convert`: a trace in another text format, or a piece of one.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::terminal::{complain, print};
use crate::error::{Error, Result};
use crate::trace::{self, ReadOptions, TextFormat};

/// Write a trace in another text format, compressed by the name it is given
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

    /// The grammar to write
    #[arg(long, value_enum, default_value_t = Format::Native)]
    format: Format,

    /// Number of the first event to keep, from 0; frees of blocks from before it are left out
    #[arg(long, value_name = "N")]
    first: Option<usize>,

    /// How many events to keep
    #[arg(long, value_name = "N")]
    count: Option<usize>,

    /// Drop lines that cannot be understood, instead of stopping at the first
    #[arg(long)]
    lenient: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Logalloc text with slot numbers
    Native,
    /// Android memory_replay
    Android,
    /// CMU .rep
    Rep,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let options = ReadOptions {
        lenient: arguments.lenient,
        progress: true,
        ..Default::default()
    };
    let mut trace = trace::read(&arguments.input, &options)?;
    if arguments.first.is_some() || arguments.count.is_some() {
        let first = arguments.first.unwrap_or(0);
        if first >= trace.events().len() {
            return Err(Error::usage(format!(
                "--first {first}: the trace has {} events",
                trace.events().len()
            )));
        }
        trace = trace::slice(&trace, first, arguments.count.unwrap_or(usize::MAX));
    }
    let format = match arguments.format {
        Format::Native => TextFormat::Native,
        Format::Android => TextFormat::Android,
        Format::Rep => TextFormat::Rep,
    };
    let losses = trace::write(&trace, &arguments.output, format)?;
    for (what, count) in losses.counts() {
        complain(&format!(
            "warning: {count} events lost in this format: {what}"
        ));
    }
    print(&format!(
        "{}: {} events\n",
        arguments.output.display(),
        trace.events().len()
    ))?;
    Ok(())
}
