//! `lib`: writes a preload shim that this program carries.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::terminal::print;
use crate::error::Result;
use crate::files::write_library;
use crate::subject::shim;

/// Write one of our allocators as a shared object for LD_PRELOAD
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mymalloc lib && LD_PRELOAD=./mylibmalloc.so ls
  mymalloc lib --allocator pagelist --out mylibmalloc-pagelist.so")]
pub(super) struct Arguments {
    /// Which one
    #[arg(long, value_enum, default_value_t = Shim::Mymalloc)]
    allocator: Shim,
    /// Where to write it
    #[arg(long, value_name = "FILE", default_value = "mylibmalloc.so")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shim {
    /// MyMalloc: for any program
    Mymalloc,
    /// The page list: for study, it takes long where there are many pages
    Pagelist,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let library = match arguments.allocator {
        Shim::Mymalloc => shim::MYMALLOC,
        Shim::Pagelist => shim::PAGELIST,
    };
    write_library(&arguments.out, library)?;
    print(&format!("{}\n", arguments.out.display()))
}
