//! `trace validate`: what of a trace holds, and what does not.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use clap::Args;

use super::input::Reading;
use crate::cli::terminal::print;
use crate::error::Result;
use crate::report::trace::validation;
use crate::trace::tools::validate::validate;

/// Check a trace to its end: exit code 0 if all of it holds, 1 if not
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The traces to check
    #[arg(value_name = "TRACE", required = true)]
    inputs: Vec<PathBuf>,

    /// Which process to check, if a log holds several
    #[arg(long, value_name = "PID")]
    process: Option<u64>,
}

pub(super) fn run(arguments: &Arguments) -> Result<bool> {
    let options = Reading {
        lenient: false,
        process: arguments.process,
    }
    .options();
    let mut all_valid = true;
    for (place, input) in arguments.inputs.iter().enumerate() {
        let found = validate(input, &options)?;
        all_valid &= found.is_valid();
        let gap = if place > 0 { "\n" } else { "" };
        let text = validation::text(&input.display().to_string(), &found, 80);
        print(&format!("{gap}{text}"))?;
    }
    Ok(all_valid)
}
