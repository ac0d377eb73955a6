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
  mymalloc report shard-*/results.json --out reports/suite

Merged results are written to the folder, too. They never replace a file that they were merged from,
nor one with runs that are not among them.")]
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
    let is_merged = arguments.results.len() > 1;
    let file = directory.join("results.json");
    if is_merged {
        check_is_free(&file, &arguments.results, &results)?;
    }
    report::prepare_directory(directory)?;
    if is_merged {
        report::write_results(&results, &file)?;
    }
    let paths = report::write(&results, directory)?;
    print(&report::table::render(&results, 80))?;
    print(&format!("\nReport: {}\n", paths.index.display()))
}

/// Refuses to write merged results where any that are not among them would be lost, or over one of
/// the files that were merged: the next merge would find its runs twice.
fn check_is_free(file: &Path, inputs: &[PathBuf], merged: &Results) -> Result<()> {
    let Ok(real) = std::fs::canonicalize(file) else {
        return Ok(());
    };
    let is_real = |path: &PathBuf| std::fs::canonicalize(path).is_ok_and(|path| path == real);
    if inputs.iter().any(is_real) {
        return Err(Error::usage(format!(
            "{}: this is one of the files to merge, and the merged results would replace it; name \
             another folder with --out",
            file.display()
        )));
    }
    let are_kept = report::read_results(file)
        .is_ok_and(|old| old.runs.iter().all(|run| merged.runs.contains(run)));
    if are_kept {
        return Ok(());
    }
    Err(Error::usage(format!(
        "{}: a file is there whose runs are not among those to merge, and it would be lost; name \
         another folder with --out, or move it away",
        file.display()
    )))
}

/// Reads results files; several become one.
pub(super) fn merged(paths: &[PathBuf]) -> Result<Results> {
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
