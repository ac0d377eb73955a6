//! `compare`: what changed between two results files, with an exit code for a gate.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::terminal::print;
use crate::error::{Error, Result};
use crate::measure::compare::{self, Outcome, Selection};
use crate::measure::results::Results;
use crate::report::{compared, read_results};

/// Compare two results files: is any allocator slower than it was?
#[derive(Debug, Args)]
#[command(after_help = "\
Times are compared relative to the baseline of their own run, so that a slower day cancels. A
difference counts only if it holds after correction for all comparisons and is larger than the noise
floor of both files. Rows with too few blocks to be judged fail if all that they show is slower.

OLD and NEW may be the same file, to compare two subjects of one run: then block by block.

Exit code: 0 nothing is slower; 1 something is, or has no result any more; 2 the files cannot be
compared, or have too few blocks for most verdicts.

Examples:
  mymalloc compare before/results.json after/results.json
  mymalloc compare before.json after.json --fail-above 2%
  mymalloc compare run.json run.json --old-subject system --new-subject mimalloc")]
pub(super) struct Arguments {
    /// Results before the change
    #[arg(value_name = "OLD")]
    old: PathBuf,

    /// Results after it
    #[arg(value_name = "NEW")]
    new: PathBuf,

    /// Fail only if a slower subject's median is slower by more than this share
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = share)]
    fail_above: f64,

    /// Compare only this subject
    #[arg(long, value_name = "NAME", conflicts_with_all = ["old_subject", "new_subject"])]
    subject: Option<String>,

    /// Subject of the old file to compare with --new-subject
    #[arg(long, value_name = "NAME", requires = "new_subject")]
    old_subject: Option<String>,

    /// Subject of the new file to compare with --old-subject
    #[arg(long, value_name = "NAME", requires = "old_subject")]
    new_subject: Option<String>,

    /// Compare results of different machines
    #[arg(long)]
    across_machines: bool,

    /// Compare in spite of another version, build or environment of the baseline
    #[arg(long)]
    other_baseline: bool,

    /// Let pass what the new file does not have at all; what fails in it closes the gate all the same
    #[arg(long)]
    allow_missing: bool,

    /// How to write it
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For a terminal, 80 columns
    Table,
    /// For a pull request
    Markdown,
    /// For a program
    Json,
}

/// Runs it; `true` if nothing fails.
pub(super) fn run(arguments: &Arguments) -> Result<bool> {
    let subject = |own: &Option<String>| own.clone().or_else(|| arguments.subject.clone());
    let selection = Selection {
        old_subject: subject(&arguments.old_subject),
        new_subject: subject(&arguments.new_subject),
        across_machines: arguments.across_machines,
        other_baseline: arguments.other_baseline,
        allow_missing: arguments.allow_missing,
    };
    let (old, new) = (read(&arguments.old)?, read(&arguments.new)?);
    let comparison = compare::compare(&old, &new, &selection)?;
    let limit = arguments.fail_above;
    print(&match arguments.format {
        Format::Table => compared::render(&comparison, limit, 80),
        Format::Markdown => compared::markdown(&comparison, limit),
        Format::Json => compared::json(&comparison, limit)?,
    })?;
    match comparison.outcome(limit) {
        Outcome::Passes => Ok(true),
        Outcome::Fails => Ok(false),
        // Not that something is slower, but that nothing can be told: as with other unusable files.
        Outcome::Undecided => Err(Error::usage(compared::unjudged_words(&comparison))),
    }
}

/// A file that cannot be read must not look like a subject that got slower: exit code 2, not 1.
fn read(path: &std::path::Path) -> Result<Results> {
    read_results(path).map_err(|error| Error::usage(error.to_string()))
}

/// `2%` or `0.02`
fn share(text: &str) -> std::result::Result<f64, String> {
    let (number, unit) = match text.strip_suffix('%') {
        Some(number) => (number.trim_end(), 0.01),
        None => (text, 1.0),
    };
    match number.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value * unit),
        _ => Err("expected a share such as 2% or 0.02".to_owned()),
    }
}
