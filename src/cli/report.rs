//! `report`: draws a report again from its results file.

use std::path::{Path, PathBuf};

use clap::Args;

use super::terminal::print;
use crate::error::Result;
use crate::report;

/// Draw the report again from results.json, without measuring
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  mymalloc report reports/trace/results.json --out elsewhere")]
pub(super) struct Arguments {
    /// A results.json file
    #[arg(value_name = "RESULTS")]
    results: PathBuf,

    /// Folder for the report [default: the folder of the results file]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let results = report::read_results(&arguments.results)?;
    let own = arguments
        .results
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = arguments.out.as_deref().or(own).unwrap_or(Path::new("."));
    report::prepare_directory(directory)?;
    let paths = report::write(&results, directory)?;
    print(&report::table::render(&results, 80))?;
    print(&format!("\nReport: {}\n", paths.index.display()))
}
