//! `mymalloc`: compare memory allocators on what real programs asked of theirs.

use std::process::ExitCode;

fn main() -> ExitCode {
    mymalloc::record::calibrate::intercept();
    mymalloc::run::child::intercept();
    mymalloc::cli::mymalloc()
}
