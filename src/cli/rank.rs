//! `rank`: one line per allocator over all workloads of a results file.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::terminal::print;
use crate::error::{Error, Result};
use crate::measure::rank;
use crate::report::{ranked, read_results};

/// Rank the allocators of results files over all their workloads, by time and by memory
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  mymalloc rank reports/suite/results.json")]
pub(super) struct Arguments {
    /// A results.json file
    #[arg(value_name = "RESULTS", required = true)]
    results: Vec<PathBuf>,

    /// How to write it
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For a terminal, 80 columns
    Table,
    /// For a document
    Markdown,
    /// For a program
    Json,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let [path] = arguments.results.as_slice() else {
        return Err(Error::usage("rank takes one results file"));
    };
    let results = read_results(path)?;
    let all = rank::rank(&results, false);
    let has_own = all.rows.iter().any(|row| row.is_own);
    let rankings = if has_own {
        vec![all, rank::rank(&results, true)]
    } else {
        vec![all]
    };
    print(&match arguments.format {
        Format::Table => ranked::render(&rankings, 80),
        Format::Markdown => ranked::markdown(&rankings),
        Format::Json => ranked::json(&rankings)?,
    })
}
