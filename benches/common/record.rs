//! Samples -> results, together with what an earlier run left of the other workloads.

use std::path::Path;
use std::time::Instant;

use mymalloc::measure::environment::Environment;
use mymalloc::measure::results::{
    Pass, Results, SCHEMA_VERSION, Sample, Settings, Status, SubjectRecord, WorkloadRecord,
};
use mymalloc::measure::summary::{Frame, summarise};
use mymalloc::measure::warnings::unoptimised_warning;
use mymalloc::report;
use mymalloc::run::execute::elapsed_ns;
use mymalloc::run::experiment::{BOOTSTRAP_RESAMPLES, page_size_bytes, tool};
use mymalloc::subject::{Subject, libc_version};

use super::cell::{Bench, TOUCH};
use super::{BASELINE, SEED};

/// A run under way.
pub(crate) struct Run {
    start: Instant,
    started: String,
    environment: Environment,
    subjects: Vec<SubjectRecord>,
}

impl Run {
    pub(crate) fn begin(subjects: &[Subject]) -> Self {
        Self {
            start: Instant::now(),
            started: jiff::Timestamp::now()
                .strftime("%Y-%m-%dT%H:%M:%SZ")
                .to_string(),
            environment: Environment::capture(libc_version(), page_size_bytes()),
            subjects: subjects.iter().map(Subject::record).collect(),
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
        self.environment.finish();
        let mut results = Results {
            schema_version: SCHEMA_VERSION,
            tool: tool(),
            started: self.started,
            elapsed_ns: elapsed_ns(self.start),
            command: command(),
            settings: settings(&bench),
            environment: self.environment,
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
        results.summary = summary(&results);
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
        speed_blocks: blocks,
        memory_blocks: 1,
        passes_per_sample: passes
            .map(|speed| speed.passes_ns.len() as u32)
            .max()
            .unwrap_or(0),
        touch: TOUCH,
        order: "serial".to_owned(),
        timeout_seconds: bench.invocation.probe_timeout().as_secs_f64(),
        baseline: BASELINE.to_owned(),
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
        earlier.started,
        earlier.command.join(" ")
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
    results.settings.speed_blocks = results
        .settings
        .speed_blocks
        .max(earlier.settings.speed_blocks);
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
        ..environment.clone()
    };
    let settings = |settings: &Settings| Settings {
        speed_blocks: 0,
        passes_per_sample: 0,
        ..settings.clone()
    };
    results.tool == earlier.tool
        && results.subjects == earlier.subjects
        && machine(&results.environment) == machine(&earlier.environment)
        && settings(&results.settings) == settings(&earlier.settings)
}

fn summary(results: &Results) -> Vec<mymalloc::measure::results::SummaryRow> {
    let workloads: Vec<(String, u64)> = results
        .workloads
        .iter()
        .map(|one| (one.name.clone(), operations(&results.samples, one)))
        .collect();
    let subjects: Vec<String> = results
        .subjects
        .iter()
        .map(|one| one.name.clone())
        .collect();
    summarise(
        &results.samples,
        &Frame {
            workloads: &workloads,
            subjects: &subjects,
            baseline: BASELINE,
            harness: None,
            resamples: BOOTSTRAP_RESAMPLES,
            seed: SEED,
        },
    )
}

/// Operations of a workload: what its samples performed, or what its profile shows.
fn operations(samples: &[Sample], workload: &WorkloadRecord) -> u64 {
    let whole = |sample: &&Sample| sample.workload == workload.name && sample.status == Status::Ok;
    samples.iter().find(whole).map_or_else(
        || workload.profile.counts.operations(),
        |sample| sample.operations,
    )
}

/// What a reader must know of every bench.
fn own_warnings(results: &Results) -> Vec<String> {
    let mut warnings: Vec<String> = unoptimised_warning().into_iter().collect();
    warnings.extend(results.environment.warnings());
    warnings.push(
        "criterion measures one subject after the other, so a change of the machine's speed in \
         between falls on the ratios. Use `replay` for a decision: it takes the subjects side by \
         side."
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
