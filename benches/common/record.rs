//! Samples -> results, together with what an earlier run left of the other workloads.

use std::path::Path;
use std::time::Instant;

use mymalloc::measure::disturbance::Watch;
use mymalloc::measure::environment::Environment;
use mymalloc::measure::results::{
    self, Order, Pass, Results, SCHEMA_VERSION, Settings, Status, SubjectRecord, WorkloadRecord,
};
use mymalloc::measure::summary;
use mymalloc::measure::warnings::unoptimised_warning;
use mymalloc::report;
use mymalloc::run::execute::elapsed_ns;
use mymalloc::run::experiment::{BOOTSTRAP_RESAMPLES, page_size_bytes, tool};
use mymalloc::run::session::Session;
use mymalloc::subject::{Subject, libc_version};

use super::cell::{Bench, TOUCH};
use super::{BASELINE, SEED};

/// A run under way.
pub(crate) struct Run {
    start: Instant,
    started: String,
    environment: Environment,
    watch: Watch,
    subjects: Vec<SubjectRecord>,
}

impl Run {
    pub(crate) fn begin(session: &Session, subjects: &[Subject]) -> Self {
        Self {
            start: Instant::now(),
            started: jiff::Timestamp::now()
                .strftime("%Y-%m-%dT%H:%M:%SZ")
                .to_string(),
            environment: Environment::capture(libc_version(), page_size_bytes()),
            watch: Watch::start(),
            subjects: subjects
                .iter()
                .map(|subject| session.record(subject))
                .collect(),
        }
    }

    /// The results of this run, and those of earlier ones at `previous` for the workloads that this
    /// one did not measure and that still exist (`known`).
    pub(crate) fn finish(
        mut self,
        bench: Bench,
        workloads: Vec<WorkloadRecord>,
        known: &[String],
        previous: &Path,
    ) -> Results {
        self.environment.finish(&self.watch);
        let mut results = Results {
            schema_version: SCHEMA_VERSION,
            settings: settings(&bench),
            runs: vec![results::Run {
                tool: tool(),
                started: self.started,
                resumed: Vec::new(),
                elapsed_ns: elapsed_ns(self.start),
                command: command(),
                environment: self.environment,
                stops: Vec::new(),
            }],
            workloads,
            subjects: self.subjects,
            samples: bench.samples,
            summary: Vec::new(),
            warnings: Vec::new(),
        };
        let mut warnings = own_warnings(&results);
        if let Some(earlier) = read_earlier(previous) {
            warnings.extend(merge(&mut results, earlier, known));
        }
        results.summary = summary::of(&results);
        warnings.extend(failures(&results));
        results.warnings = warnings;
        results
    }
}

/// What the user typed, as cargo passed it on.
fn command() -> Vec<String> {
    let words = std::env::args().skip(1).filter(|word| word != "--bench");
    ["cargo", "bench", "--"]
        .into_iter()
        .map(str::to_owned)
        .chain(words)
        .collect()
}

fn settings(bench: &Bench) -> Settings {
    let speed = || {
        bench
            .samples
            .iter()
            .filter(|sample| sample.pass == Pass::Speed)
    };
    let blocks = speed().map(|sample| sample.block + 1).max().unwrap_or(0);
    let passes = speed().filter_map(|sample| sample.speed.as_ref());
    Settings {
        speed_blocks_min: blocks,
        speed_blocks_max: blocks,
        memory_blocks: 1,
        latency_blocks: 0,
        precision: None,
        budget_seconds: None,
        passes_per_sample: passes
            .map(|speed| speed.passes_ns.len() as u32)
            .max()
            .unwrap_or(0),
        touch: TOUCH,
        order: Some(Order::Serial),
        timeout_seconds: bench.invocation.probe_timeout().as_secs_f64(),
        memory_limit_bytes: bench.memory_limit_bytes,
        baseline: BASELINE.to_owned(),
        baseline_twin: None,
        seed: SEED,
        bootstrap_resamples: BOOTSTRAP_RESAMPLES,
    }
}

/// Earlier results, if there are any that can be read.
fn read_earlier(path: &Path) -> Option<Results> {
    if !path.exists() {
        return None;
    }
    report::read_results(path)
        .inspect_err(|error| eprintln!("the earlier results are replaced as a whole: {error}"))
        .ok()
}

/// Adds the earlier run's other workloads, if it was made under the same conditions. Rows of one
/// workload are always of one run, so that no ratio compares two.
fn merge(results: &mut Results, earlier: Results, known: &[String]) -> Option<String> {
    if !is_comparable(results, &earlier) {
        eprintln!("the earlier results were made under other conditions and are replaced");
        return None;
    }
    let measured: Vec<String> = results
        .workloads
        .iter()
        .map(|new| new.name.clone())
        .collect();
    let kept = |name: &String| known.contains(name) && !measured.contains(name);
    let origin = earlier.first_run().clone();
    let workloads: Vec<WorkloadRecord> = earlier
        .workloads
        .into_iter()
        .filter(|old| kept(&old.name))
        .collect();
    if workloads.is_empty() {
        return None;
    }
    let text = format!(
        "{} of the workloads were measured by an earlier run, begun {} ({}): times of different \
         workloads may be of different moments.",
        workloads.len(),
        origin.started,
        origin.command.join(" ")
    );
    results.workloads.extend(workloads);
    results
        .workloads
        .sort_by_key(|one| known.iter().position(|name| *name == one.name));
    results.samples.extend(
        earlier
            .samples
            .into_iter()
            .filter(|old| kept(&old.workload)),
    );
    results.settings.speed_blocks_max = results
        .settings
        .speed_blocks_max
        .max(earlier.settings.speed_blocks_max);
    results.settings.passes_per_sample = results
        .settings
        .passes_per_sample
        .max(earlier.settings.passes_per_sample);
    Some(text)
}

/// Whether two runs may stand in one file: same program, machine, subjects and settings.
fn is_comparable(results: &Results, earlier: &Results) -> bool {
    let machine = |environment: &Environment| Environment {
        memory_available_bytes: None,
        load_average_start: None,
        load_average_end: None,
        // What happened during a run is no condition that it was made under.
        disturbance: None,
        ..environment.clone()
    };
    let settings = |settings: &Settings| Settings {
        speed_blocks_min: 0,
        speed_blocks_max: 0,
        passes_per_sample: 0,
        memory_limit_bytes: None,
        ..settings.clone()
    };
    let (this, that) = (results.first_run(), earlier.first_run());
    this.tool == that.tool
        && results.subjects == earlier.subjects
        && machine(&this.environment) == machine(&that.environment)
        && settings(&results.settings) == settings(&earlier.settings)
}

/// What a reader must know of every bench.
fn own_warnings(results: &Results) -> Vec<String> {
    let mut warnings: Vec<String> = unoptimised_warning().into_iter().collect();
    warnings.extend(results.first_run().environment.warnings());
    warnings.push(
        "criterion measures one subject after the other, and the baseline once: a change of the \
         machine's speed in between falls on the ratios, and no noise floor shows it. So there are \
         medians and intervals, and no verdicts. Use `replay` for a decision: it takes the subjects \
         side by side, and the baseline twice."
            .to_owned(),
    );
    warnings.push(
        "criterion's own figures are means over fresh and used heaps, and each of its samples may \
         repeat the workload; this report keeps the first pass, on a fresh heap, apart from later \
         ones. The threads-* workloads run on real threads."
            .to_owned(),
    );
    warnings
}

fn failures(results: &Results) -> impl Iterator<Item = String> {
    results
        .summary
        .iter()
        .filter(|row| row.status != Status::Ok)
        .map(|row| {
            let reason = row.reason.as_deref().unwrap_or("no reason is known");
            format!("{} on {}: {reason}.", row.subject, row.workload)
        })
}
