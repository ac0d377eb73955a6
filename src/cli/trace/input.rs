//! How the tools read a trace, and what they say of it.

#![forbid(unsafe_code)]

use std::path::Path;

use clap::Args;

use crate::cli::terminal::{complain, folded};
use crate::error::{Error, Result};
use crate::run::interrupt;
use crate::trace::{Origin, ReadOptions, plural};

/// How to read traces.
#[derive(Debug, Args)]
pub(super) struct Reading {
    /// Drop lines that cannot be understood, instead of stopping at the first
    #[arg(long)]
    pub(super) lenient: bool,

    /// Which process to keep, if a log holds several
    #[arg(long, value_name = "PID")]
    pub(super) process: Option<u64>,
}

impl Reading {
    pub(super) fn options(&self) -> ReadOptions {
        ReadOptions {
            lenient: self.lenient,
            process: self.process,
            progress: true,
            interrupted: Some(interrupt::requested),
        }
    }
}

/// Says what the trace read is not, before it passes into a file that may not tell.
pub(super) fn tell_origin(path: &Path, origin: &Origin) {
    let warn =
        |message: &str| complain(&folded(&format!("warning: {}: {message}", path.display())));
    if origin.dropped_lines > 0 {
        warn(&format!("{} dropped", plural(origin.dropped_lines, "line")));
    }
    for message in origin.warnings.iter().chain(&origin.notes) {
        warn(message);
    }
}

/// Refuses what cannot be read twice.
pub(super) fn refuse_pipe(path: &Path, tool: &str) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(data) if !data.is_file() && !data.is_dir() => Err(Error::usage(format!(
            "{}: {tool} reads a trace twice, and this is a pipe or a device; save it to a file first",
            path.display()
        ))),
        // What is missing or a folder is told when it is read.
        _ => Ok(()),
    }
}
