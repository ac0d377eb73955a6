//! `completions`: scripts for shells.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::terminal::print;
use super::{Mymalloc, Replay};
use crate::error::Result;

/// Print the completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  mymalloc completions bash > ~/.local/share/bash-completion/completions/mymalloc")]
pub(super) struct Arguments {
    /// The shell
    shell: Shell,

    /// For the `replay` program instead of `mymalloc`
    #[arg(long)]
    replay: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let (mut command, name) = if arguments.replay {
        (Replay::command(), "replay")
    } else {
        (Mymalloc::command(), "mymalloc")
    };
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, name, &mut script);
    print(&String::from_utf8_lossy(&script))
}
