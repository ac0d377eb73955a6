//! `rank`: one line per allocator over all workloads of a results file.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::report::merged;
use super::terminal::print;
use crate::error::Result;
use crate::measure::rank;
use crate::report::ranked;

/// Rank the allocators of results files over all their workloads, by time and by memory
///
/// Several files, the shards of a suite or the same comparison on several machines, are merged first.
/// Ratios are taken inside each run, never across.
#[derive(Debug, Args)]
#[command(after_help = "\
Allocators have different places only where their times differ: block by block, after correction for
all pairs of allocators, and by more than the noise floor.

Examples:
  mymalloc rank reports/suite/results.json
  mymalloc rank shard-*/results.json")]
pub(super) struct Arguments {
    /// One or several results.json files
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
    let results = merged(&arguments.results)?;
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
