//! `report`: draws a report again from its results files.

use std::path::{Path, PathBuf};

use clap::Args;

use super::terminal::print;
use crate::error::{Error, Result};
use crate::measure::merge::merge;
use crate::measure::results::Results;
use crate::report;

/// Draw the report again from results.json, without measuring
///
/// Several files, the shards of a suite or the same comparison on several machines, become one report
/// and one results file. Ratios are taken inside each run, never across.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mymalloc report reports/trace/results.json --out elsewhere
  mymalloc report shard-*/results.json --out reports/suite")]
pub(super) struct Arguments {
    /// One or several results.json files
    #[arg(value_name = "RESULTS", required = true)]
    results: Vec<PathBuf>,

    /// Folder for the report [default: the folder of the results file; of several: reports/merged]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let (results, default) = match arguments.results.as_slice() {
        [path] => (report::read_results(path)?, folder_of(path)),
        several => (merged(several)?, Path::new("reports/merged")),
    };
    let directory = arguments.out.as_deref().unwrap_or(default);
    report::prepare_directory(directory)?;
    if arguments.results.len() > 1 {
        report::write_results(&results, &directory.join("results.json"))?;
    }
    let paths = report::write(&results, directory)?;
    print(&report::table::render(&results, 80))?;
    print(&format!("\nReport: {}\n", paths.index.display()))
}

fn merged(paths: &[PathBuf]) -> Result<Results> {
    let read = |path: &PathBuf| Ok((path.display().to_string(), report::read_results(path)?));
    let files = paths.iter().map(read).collect::<Result<_>>()?;
    merge(files).map_err(Error::Failed)
}

fn folder_of(path: &Path) -> &Path {
    let own = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    own.unwrap_or(Path::new("."))
}
