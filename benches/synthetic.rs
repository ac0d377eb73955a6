//! `cargo bench --bench synthetic`: the generated workloads, the kernels with threads, and the fleet
//! profiles. See `common`.

mod common;

fn main() -> std::process::ExitCode {
    mymalloc::run::child::intercept();
    common::main(common::Suite::Synthetic, &common::report_directory())
}
