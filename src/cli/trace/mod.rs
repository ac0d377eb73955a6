//! `trace`: what one does with traces, one file per subcommand.

mod model;

use clap::{Args, Subcommand};

use crate::error::Result;

/// Work with traces
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Model(model::Arguments),
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.command {
        Command::Model(arguments) => model::run(arguments),
    }
}
