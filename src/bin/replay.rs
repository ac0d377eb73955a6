//! `replay trace.log`: the same as `mymalloc replay`, under the name that people type.

use std::process::ExitCode;

fn main() -> ExitCode {
    mymalloc::run::child::intercept();
    mymalloc::cli::replay()
}
