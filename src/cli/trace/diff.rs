//! `trace diff`: two traces side by side.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use clap::Args;

use super::input::Reading;
use super::stat::{Format, json, measure};
use crate::cli::terminal::print;
use crate::error::Result;
use crate::report::trace::difference;
use crate::trace::tools::diff::diff;

/// Put two traces side by side, with ratios
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  mymalloc trace diff before.log.zst after.log.zst")]
pub(super) struct Arguments {
    /// The trace that ratios are taken to
    #[arg(value_name = "A")]
    first: PathBuf,

    /// The other
    #[arg(value_name = "B")]
    second: PathBuf,

    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    #[command(flatten)]
    reading: Reading,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let options = arguments.reading.options();
    let first = measure(&arguments.first, &options)?;
    let second = measure(&arguments.second, &options)?;
    let difference = diff(&first, &second);
    print(&match arguments.format {
        Format::Text => difference::text(&difference, 80),
        Format::Json => json(&difference)?,
    })
}
