//! `lib`: writes the preload shim that this program carries.

use std::path::PathBuf;

use clap::Args;

use super::terminal::print;
use crate::error::Result;
use crate::files::write_library;
use crate::subject::shim;

/// Write the page list as a shared object for LD_PRELOAD
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  mymalloc lib && LD_PRELOAD=./mylibmalloc.so ls")]
pub(super) struct Arguments {
    /// Where to write it
    #[arg(long, value_name = "FILE", default_value = "mylibmalloc.so")]
    out: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    write_library(&arguments.out, shim::PAGELIST)?;
    print(&format!("{}\n", arguments.out.display()))
}
