//! How the tools write a trace: beside its place and renamed, never over what they read.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::same_file;
use crate::cli::terminal::{complain, print};
use crate::error::{Error, Result};
use crate::run::interrupt;
use crate::trace::stream::{Ending, EventSink};
use crate::trace::{OutputFormat, export, plural};

/// In which format to write.
#[derive(Debug, Args)]
pub(super) struct Writing {
    /// The format to write; without, as the name of OUT says: .trace, .log, .rep, .jsonl, else text
    #[arg(long, value_enum)]
    format: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The native binary format, a few bits per event, which loses nothing
    Binary,
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
            Format::Binary => Self::Binary,
            Format::Text => Self::Text,
            Format::Logalloc => Self::Logalloc,
            Format::Android => Self::Android,
            Format::Rep => Self::Rep,
            Format::Jsonl => Self::JsonLines,
        }
    }
}

impl Writing {
    /// Writes what `fill` hands on, and says what was written and what the format could not tell.
    /// Nothing is left behind by an error or an interrupt.
    ///
    /// # Errors
    /// The output is one of the inputs; those of `fill` and of writing.
    pub(super) fn write(
        &self,
        inputs: &[PathBuf],
        output: &Path,
        fill: impl FnOnce(&mut dyn EventSink) -> Result<Ending>,
    ) -> Result<()> {
        same_file::refuse(inputs, output)?;
        let format = match self.format {
            Some(format) => format.into(),
            None => OutputFormat::of_name(output).unwrap_or(OutputFormat::Text),
        };
        let is_stream = std::fs::metadata(output).is_ok_and(|there| !there.is_file());
        let mut sink = export::create(output, format)?;
        let ending = fill(&mut sink)?;
        if interrupt::requested() {
            return Err(Error::Interrupted);
        }
        let written = sink.finish(&ending)?;
        for &(what, count) in written.losses.counts() {
            let events = plural(count, "event");
            complain(&format!("warning: {events} lost in this format: {what}"));
        }
        let events = plural(written.events, "event");
        let told = format!("{}: {events}", output.display());
        match is_stream {
            // It may be standard output, and nothing may stand behind the trace.
            true => complain(&told),
            false => print(&format!("{told}\n"))?,
        }
        Ok(())
    }
}
