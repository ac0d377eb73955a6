//! What the benches share: criterion decides how often and shows the times; every criterion sample
//! is a fresh process, so that no heap is older than its sample; the samples become a report.
//!
//! ```text
//! definitions -> workload -> probe -> memory pass -> criterion -> samples -> reports/bench
//! ```
//!
//! One criterion group per workload, one function per subject. A subject that fails its probe is a
//! row with its reason in the report, and criterion is not asked.

mod cell;
mod invocation;
mod record;
mod workload;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use criterion::{Criterion, SamplingMode, Throughput};
use mymalloc::error::{Error, Result};
use mymalloc::measure::warnings::unoptimised_warning;
use mymalloc::report;
use mymalloc::run::interrupt;
use mymalloc::run::session::Session;
use mymalloc::subject::Subject;
use mymalloc::subject::catalogue::Catalogue;

use cell::Bench;
use invocation::{Invocation, Mode};
pub(crate) use workload::Suite;
use workload::Workload;

/// The subjects compared. The floor rows are left to `replay`: they serve one thread only.
const SUBJECTS: [&str; 5] = ["mymalloc", "pagelist", "system", "mimalloc", "jemalloc"];
/// What ratios refer to.
const BASELINE: &str = "system";
/// Seed of every random choice that is not in a definition.
const SEED: u64 = 1;

/// Where `cargo bench` leaves its report.
#[allow(dead_code, reason = "the test of the benches has a folder of its own")]
pub(crate) fn report_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("reports/bench")
}

/// Runs a bench as its command line says. [`mymalloc::run::child::intercept`] must come before.
pub(crate) fn main(suite: Suite, directory: &Path) -> ExitCode {
    match run(suite, directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(suite: Suite, directory: &Path) -> Result<()> {
    let invocation = Invocation::of(std::env::args().skip(1))?;
    let names = SUBJECTS.map(str::to_owned);
    let subjects = Catalogue::load()?.select(Some(&names), &[], BASELINE)?;
    let workloads = workload::load(suite)?;
    if invocation.mode == Mode::List {
        return list(&invocation, &workloads, &subjects);
    }
    if let Some(warning) = unoptimised_warning() {
        eprintln!("WARNING: {warning}");
    }
    interrupt::install();
    if invocation.mode == Mode::Measure {
        // Before minutes are spent on what could then not be written.
        std::fs::create_dir_all(directory)
            .map_err(|source| Error::io(directory, "make", source))?;
    }
    let mut criterion = invocation.criterion().without_plots().configure_from_args();
    let session = Session::new()?;
    let run = record::Run::begin(&session, &subjects);
    let mut bench = Bench::new(session, invocation);
    let mut measured = Vec::new();
    for workload in &workloads {
        measured.extend(bench_workload(
            &mut criterion,
            &mut bench,
            workload,
            &subjects,
        )?);
    }
    criterion.final_summary();
    if bench.invocation.mode != Mode::Measure || measured.is_empty() {
        return Ok(());
    }
    let known: Vec<String> = workload::load_all()?
        .into_iter()
        .map(|known| known.name)
        .collect();
    let results = run.finish(bench, measured, &known, &directory.join("results.json"));
    report::write_results(&results, &directory.join("results.json"))?;
    let paths = report::write(&results, directory)?;
    println!("Report: {}", paths.index.display());
    Ok(())
}

/// Names the benchmarks that the filter lets through, as libtest does, without preparing any.
fn list(invocation: &Invocation, workloads: &[Workload], subjects: &[Subject]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for workload in workloads {
        for subject in subjects {
            if invocation.wants(&workload.name, &subject.name) {
                // Whoever closes the pipe has seen enough.
                let written = writeln!(out, "{}/{}: benchmark", workload.name, subject.name);
                if written.is_err() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Benches the cells of a workload that the filter lets through; `None` if there are none.
fn bench_workload(
    criterion: &mut Criterion,
    bench: &mut Bench,
    workload: &Workload,
    subjects: &[Subject],
) -> Result<Option<mymalloc::measure::results::WorkloadRecord>> {
    let wanted: Vec<&Subject> = subjects
        .iter()
        .filter(|subject| bench.invocation.wants(&workload.name, &subject.name))
        .collect();
    if wanted.is_empty() {
        return Ok(None);
    }
    let start = Instant::now();
    let (prepared, record) = workload.prepare(&bench.session)?;
    bench.note(&format!(
        "{}: prepared in {:.1?}",
        workload.name,
        start.elapsed()
    ));
    let mut group = criterion.benchmark_group(&workload.name);
    group
        .throughput(Throughput::Elements(prepared.operations))
        .sampling_mode(SamplingMode::Flat);
    for subject in wanted {
        if interrupt::requested() {
            return Err(Error::Interrupted);
        }
        bench.cell(&mut group, &prepared, subject)?;
    }
    group.finish();
    Ok(Some(record))
}
