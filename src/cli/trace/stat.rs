//! `trace stat`: what a trace is like.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::input::Reading;
use super::same_file;
use crate::cli::terminal::print;
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::report;
use crate::trace::tools::stat::{Statistician, Statistics};
use crate::trace::{ReadOptions, read_into};

/// Say what a trace is like: sizes, lifetimes, live bytes, threads, reallocations, churn, call sites
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mymalloc trace stat app.log.zst
  mymalloc trace stat --html app.html app.log.zst
  mymalloc trace stat --format json app.log.zst | jq .profile.live_bytes_peak")]
pub(super) struct Arguments {
    /// The trace to read
    #[arg(value_name = "TRACE")]
    input: PathBuf,

    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    /// Write a page with charts instead
    #[arg(long, value_name = "FILE", conflicts_with = "format")]
    html: Option<PathBuf>,

    #[command(flatten)]
    reading: Reading,
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people, within 80 columns
    Text,
    /// For programs
    Json,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    if let Some(html) = &arguments.html {
        same_file::refuse(&[&arguments.input], html)?;
    }
    let statistics = measure(&arguments.input, &arguments.reading.options())?;
    if let Some(html) = &arguments.html {
        write_atomically(html, report::trace::html(&statistics)?.as_bytes())?;
        return print(&format!("Page: {}\n", html.display()));
    }
    print(&match arguments.format {
        Format::Text => report::trace::text(&statistics, 80),
        Format::Json => json(&statistics)?,
    })
}

/// Measures a trace without keeping it.
pub(super) fn measure(path: &Path, options: &ReadOptions) -> Result<Statistics> {
    let mut statistician = Statistician::default();
    let ending = read_into(path, options, &mut statistician)?;
    Ok(statistician.finish(ending))
}

/// Indented JSON with a line end.
pub(super) fn json(value: &impl serde::Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::Failed(format!("cannot write this as JSON: {error}")))?;
    Ok(format!("{text}\n"))
}
