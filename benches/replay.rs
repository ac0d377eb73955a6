//! `cargo bench --bench replay`: replays of the bundled traces. See `common`.

mod common;

fn main() -> std::process::ExitCode {
    mymalloc::run::child::intercept();
    common::main(common::Suite::Replay, &common::report_directory())
}
