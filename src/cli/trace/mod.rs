//! `trace`: tools on traces, one file each.

#![forbid(unsafe_code)]

mod anonymise;
mod convert;
mod diff;
mod filter;
mod input;
mod merge;
mod model;
mod output;
mod same_file;
mod scale;
mod slice;
mod speed;
mod stat;
mod validate;

use clap::{Args, Subcommand};

use crate::error::Result;
use crate::run::interrupt;

/// Look into traces, check them, cut and change them
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    tool: Tool,
}

#[derive(Debug, Subcommand)]
enum Tool {
    Stat(stat::Arguments),
    Validate(validate::Arguments),
    Convert(convert::Arguments),
    Slice(slice::Arguments),
    Filter(filter::Arguments),
    Anonymise(anonymise::Arguments),
    Scale(scale::Arguments),
    Merge(merge::Arguments),
    Diff(diff::Arguments),
    Speed(speed::Arguments),
    Model(model::Arguments),
}

/// Whether the tool found what it looked for; false ends with 1.
pub(super) fn run(arguments: &Arguments) -> Result<bool> {
    interrupt::install();
    match &arguments.tool {
        Tool::Stat(arguments) => stat::run(arguments),
        Tool::Validate(arguments) => return validate::run(arguments),
        Tool::Convert(arguments) => convert::run(arguments),
        Tool::Slice(arguments) => slice::run(arguments),
        Tool::Filter(arguments) => filter::run(arguments),
        Tool::Anonymise(arguments) => anonymise::run(arguments),
        Tool::Scale(arguments) => scale::run(arguments),
        Tool::Merge(arguments) => merge::run(arguments),
        Tool::Diff(arguments) => diff::run(arguments),
        Tool::Speed(arguments) => speed::run(arguments),
        Tool::Model(arguments) => model::run(arguments),
    }?;
    Ok(true)
}
