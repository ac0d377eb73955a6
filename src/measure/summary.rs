//! Samples -> one row per workload and subject. Pure.
//!
//! Times are compared only inside a block: the ratio of a subject to the baseline is taken block by
//! block, and the median of those ratios is the result. Runs, which may be of several machines, are
//! summed up each by itself, and then combined ([`combined_median`]). What is called a difference is
//! judged over the whole file at once (`judge`).

#![forbid(unsafe_code)]

mod judge;
mod latency;
mod speed;
mod threads;

use std::collections::BTreeMap;

use super::results::{
    Estimate, MemorySample, Pass, Results, Sample, Status, SubjectKind, SubjectRecord, SummaryRow,
    WorkloadRecord,
};
use crate::statistics::{bootstrap_median, combined_median, geometric_mean, median};

/// What the rows are computed from, apart from the samples.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Name and operations of each workload, in order.
    pub workloads: &'a [(String, u64)],
    /// Names of the subjects, in order.
    pub subjects: &'a [String],
    /// Name of the subject that ratios refer to.
    pub baseline: &'a str,
    /// Name of the subject that shows the harness's own cost, if it is among them.
    pub harness: Option<&'a str>,
    /// Names of the subjects that are no allocators (the floor rows): they are not judged.
    pub floors: &'a [String],
    /// Name under which the baseline ran a second time, if it did.
    pub twin: Option<&'a str>,
    /// Resamples of the bootstrap.
    pub resamples: u32,
    /// Seed of the bootstrap.
    pub seed: u64,
}

pub use judge::blocks_needed;
pub(super) use judge::verdict;

/// All rows, workload by workload.
pub fn summarise(samples: &[Sample], frame: &Frame<'_>) -> Vec<SummaryRow> {
    let mut rows = Vec::new();
    for (workload, operations) in frame.workloads {
        for subject in frame.subjects {
            let own: Vec<&Sample> = samples
                .iter()
                .filter(|sample| sample.workload == *workload && sample.subject == *subject)
                .collect();
            if !own.is_empty() {
                rows.push(row(samples, &own, workload, subject, *operations, frame));
            }
        }
    }
    judge::judge(&mut rows, samples, frame);
    threads::judge(&mut rows, samples, frame);
    rows
}

/// The rows of a whole file.
pub fn of(results: &Results) -> Vec<SummaryRow> {
    let workloads: Vec<(String, u64)> = results
        .workloads
        .iter()
        .map(|workload| (workload.name.clone(), operations(results, workload)))
        .collect();
    let named = |wanted: &dyn Fn(&SubjectRecord) -> bool| -> Vec<String> {
        let subjects = results.subjects.iter().filter(|subject| wanted(subject));
        subjects.map(|subject| subject.name.clone()).collect()
    };
    let floors = named(&|subject| subject.kind == SubjectKind::Floor);
    summarise(
        &results.samples,
        &Frame {
            workloads: &workloads,
            subjects: &named(&|_| true),
            baseline: &results.settings.baseline,
            harness: floors
                .iter()
                .find(|name| *name == "null")
                .map(String::as_str),
            floors: &floors,
            twin: results.settings.baseline_twin.as_deref(),
            resamples: results.settings.bootstrap_resamples,
            seed: results.settings.seed,
        },
    )
}

/// Operations of a workload: what its samples performed, or what its profile shows.
fn operations(results: &Results, workload: &WorkloadRecord) -> u64 {
    let whole = |sample: &&Sample| sample.workload == workload.name && sample.status == Status::Ok;
    let performed = results
        .samples
        .iter()
        .find(whole)
        .map(|sample| sample.operations);
    let recorded = workload
        .profile
        .as_ref()
        .map(|profile| profile.counts.operations());
    performed.or(recorded).unwrap_or(0)
}

fn row(
    samples: &[Sample],
    own: &[&Sample],
    workload: &str,
    subject: &str,
    operations: u64,
    frame: &Frame<'_>,
) -> SummaryRow {
    let failed = own.iter().find(|sample| sample.status != Status::Ok);
    let mut row = SummaryRow::unmeasured(workload, subject, operations);
    row.status = failed.map_or(Status::Ok, |sample| sample.status);
    row.reason = failed.and_then(|sample| sample.reason.clone());
    // A subject that failed in any pass is not ranked: what it did before proves nothing.
    if failed.is_some() {
        return row;
    }
    speed::add(&mut row, samples, operations, frame);
    add_memory_ratio(&mut row, samples, frame);
    // Amounts of two machines have no common middle: the first run's are shown.
    let first = own.iter().copied();
    let own: Vec<&Sample> = first
        .filter(|one| Some(one.run) == first_run(samples, workload))
        .collect();
    let own = own.as_slice();
    threads::add(&mut row, samples, own, operations, frame);
    let memory: Vec<&MemorySample> = own
        .iter()
        .filter_map(|sample| sample.memory.as_ref())
        .collect();
    add_memory(&mut row, &memory);
    add_program(&mut row, own, frame);
    row.latency = latency::rows(own);
    row
}

/// Wall time and memory of a real program; its CPU time is taken as all times are.
fn add_program(row: &mut SummaryRow, own: &[&Sample], frame: &Frame<'_>) {
    let programs = |pass: Pass| {
        own.iter()
            .filter(move |sample| sample.pass == pass)
            .filter_map(|sample| sample.program.as_ref())
    };
    let wall_ns: Vec<f64> = programs(Pass::Program)
        .map(|program| program.wall_ns as f64)
        .collect();
    if wall_ns.is_empty() {
        return;
    }
    row.wall_ns = estimate(&wall_ns, frame);
    let peaks: Vec<f64> = programs(Pass::Memory)
        .filter_map(|program| Some(program.memory?.rss_peak_bytes as f64))
        .collect();
    row.rss_peak_bytes = median(&peaks).map(|bytes| bytes.round() as u64);
}

/// The first run that measured a workload.
fn first_run(samples: &[Sample], workload: &str) -> Option<u32> {
    let own = samples.iter().filter(|sample| sample.workload == workload);
    own.map(|sample| sample.run).min()
}

fn has_failed(samples: &[Sample], workload: &str, subject: &str) -> bool {
    samples
        .iter()
        .filter(|sample| sample.workload == workload && sample.subject == subject)
        .any(|sample| sample.status != Status::Ok)
}

fn estimate(values: &[f64], frame: &Frame<'_>) -> Option<Estimate> {
    bootstrap_median(values, frame.resamples, frame.seed).map(Estimate::from)
}

/// The ratios of several runs as one.
fn combined(runs: &BTreeMap<u32, Vec<f64>>, frame: &Frame<'_>) -> Option<Estimate> {
    let runs: Vec<Vec<f64>> = runs.values().cloned().collect();
    combined_median(&runs, frame.resamples, frame.seed).map(Estimate::from)
}

fn add_memory(row: &mut SummaryRow, samples: &[&MemorySample]) {
    let of = |value: fn(&MemorySample) -> Option<f64>| {
        let values: Vec<f64> = samples.iter().filter_map(|sample| value(sample)).collect();
        median(&values)
    };
    let bytes = |value: Option<f64>| value.map(|bytes| bytes.round() as u64);
    row.live_bytes_peak = bytes(of(|sample| Some(sample.live_bytes_peak as f64)));
    // What is known to be wrong must not be compared: the row then has no RSS.
    if samples.iter().any(|sample| sample.unmeasurable.is_some()) {
        return;
    }
    row.rss_peak_bytes = bytes(of(|sample| Some(sample.rss_peak_bytes as f64)));
    row.rss_mean_bytes = bytes(of(|sample| Some(sample.rss_mean_bytes as f64)));
    row.rss_retained_bytes = bytes(of(|sample| Some(sample.rss_retained_bytes as f64)));
    row.rss_retained_1s_bytes = bytes(of(|sample| {
        sample.rss_retained_1s_bytes.map(|bytes| bytes as f64)
    }));
    row.drift = of(|sample| sample.drift);
    row.fragmentation_at_peak =
        of(|sample| quotient(sample.rss_peak_bytes as f64, sample.live_bytes_peak as f64));
    row.internal_fragmentation = of(|sample| {
        quotient(
            sample.usable_bytes_peak as f64,
            sample.live_bytes_peak as f64,
        )
    });
    row.fragmentation_time_weighted = of(time_weighted);
}

/// Sum of RSS over the trace ÷ sum of live bytes over the trace; each point counts for the time
/// until the next one.
fn time_weighted(sample: &MemorySample) -> Option<f64> {
    let (mut rss, mut live) = (0.0, 0.0);
    for pair in sample.curve.windows(2) {
        let time = pair[1].elapsed_ns.saturating_sub(pair[0].elapsed_ns) as f64;
        rss += pair[0].rss_bytes as f64 * time;
        live += pair[0].live_bytes as f64 * time;
    }
    quotient(rss, live)
}

fn quotient(numerator: f64, denominator: f64) -> Option<f64> {
    (denominator > 0.0).then(|| numerator / denominator)
}

/// Peak RSS over the baseline's, run by run; of several runs the geometric mean, as for times.
fn add_memory_ratio(row: &mut SummaryRow, samples: &[Sample], frame: &Frame<'_>) {
    if has_failed(samples, &row.workload, frame.baseline) {
        return;
    }
    if !is_alike(samples, &row.workload, &row.subject, frame.baseline) {
        return;
    }
    let own = rss_peaks(samples, &row.workload, &row.subject);
    let baseline = rss_peaks(samples, &row.workload, frame.baseline);
    let ratios: Option<Vec<Vec<f64>>> = own
        .iter()
        .filter_map(|(run, own)| Some((*own, *baseline.get(run)?)))
        .map(|(own, baseline)| Some(vec![quotient(own, baseline)?]))
        .collect();
    row.rss_peak_ratio_to_baseline = ratios.and_then(|ratios| match ratios.as_slice() {
        [] => None,
        // The mean's logarithms know no ratio of nothing.
        [one] => one.first().copied(),
        several => geometric_mean(&[several.to_vec()], 1, frame.seed).map(|mean| mean.median),
    });
}

/// Above this share of the baseline's peak RSS, another peak of live bytes is a reason of its own for
/// another RSS.
const LIVE_LIMIT: f64 = 0.05;

/// Whether two subjects had about the same live bytes at their peaks: where threads may run ahead of
/// each other they depend on who came first, and what a subject needed more of was then not its own
/// doing. True where nothing is known.
fn is_alike(samples: &[Sample], workload: &str, own: &str, baseline: &str) -> bool {
    let peak = |subject: &str, of: fn(&MemorySample) -> u64| {
        let peaks: Vec<f64> = samples
            .iter()
            .filter(|sample| sample.workload == workload && sample.subject == subject)
            .filter_map(|sample| Some(of(sample.memory.as_ref()?) as f64))
            .collect();
        median(&peaks)
    };
    let live = |subject: &str| peak(subject, |memory| memory.live_bytes_peak);
    let rss = peak(baseline, |memory| memory.rss_peak_bytes);
    match (live(own), live(baseline), rss) {
        (Some(own), Some(baseline), Some(rss)) => (own - baseline).abs() <= LIVE_LIMIT * rss,
        _ => true,
    }
}

/// Median of the samples' highest RSS in each run.
fn rss_peaks(samples: &[Sample], workload: &str, subject: &str) -> BTreeMap<u32, f64> {
    let mut peaks: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    let own = samples
        .iter()
        .filter(|sample| sample.workload == workload && sample.subject == subject);
    for sample in own {
        let memory = sample.memory.as_ref().map(|memory| memory.rss_peak_bytes);
        let program = sample.program.as_ref();
        let program = program.and_then(|program| Some(program.memory?.rss_peak_bytes));
        if let Some(bytes) = memory.or(program) {
            peaks.entry(sample.run).or_default().push(bytes as f64);
        }
    }
    let medians = peaks.into_iter();
    medians
        .filter_map(|(run, peaks)| Some((run, median(&peaks)?.round())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::results::{MemoryPoint, SpeedSample, Verdict};
    use super::*;

    fn sample(subject: &str, pass: Pass, block: u32) -> Sample {
        Sample {
            operations: 100,
            ..Sample::untaken("w", subject, pass, block)
        }
    }

    fn timed(subject: &str, block: u32, passes_ns: &[u64]) -> Sample {
        Sample {
            speed: Some(SpeedSample {
                passes_ns: passes_ns.to_vec(),
                ..SpeedSample::default()
            }),
            ..sample(subject, Pass::Speed, block)
        }
    }

    fn summary(samples: &[Sample]) -> Vec<SummaryRow> {
        let subjects = ["base", "mine", "null", "again"].map(str::to_owned);
        summarise(
            samples,
            &Frame {
                workloads: &[("w".to_owned(), 100)],
                subjects: &subjects,
                baseline: "base",
                harness: Some("null"),
                floors: &["null".to_owned()],
                twin: Some("again"),
                resamples: 200,
                seed: 1,
            },
        )
    }

    #[test]
    fn ratios_are_taken_inside_blocks() {
        // The machine is ten times slower in the second block; mine is always half as fast.
        let mut samples = Vec::new();
        for (block, speed) in [(0, 1), (1, 10), (2, 1)] {
            samples.push(timed("base", block, &[1000 * speed, 800 * speed]));
            samples.push(timed(
                "mine",
                block,
                &[2000 * speed, 1600 * speed, 1600 * speed],
            ));
            samples.push(timed("null", block, &[100 * speed]));
        }
        let rows = summary(&samples);
        let mine = rows
            .iter()
            .find(|row| row.subject == "mine")
            .expect("a row");
        let ratio = mine.ratio_to_baseline.expect("a ratio");
        assert_eq!((ratio.low, ratio.median, ratio.high), (2.0, 2.0, 2.0));
        assert_eq!(
            mine.ratio_to_baseline_used_heap
                .expect("later passes")
                .median,
            2.0
        );
        assert_eq!(mine.ns_per_operation.expect("times").median, 20.0);
        assert!((mine.harness_share.expect("a floor") - 0.05).abs() < 1e-12);
        let null = rows
            .iter()
            .find(|row| row.subject == "null")
            .expect("a row");
        assert_eq!(null.ns_per_operation_used_heap, None);
    }

    fn find<'a>(rows: &'a [SummaryRow], subject: &str) -> &'a SummaryRow {
        let found = rows.iter().find(|row| row.subject == subject);
        found.expect("a row")
    }

    /// Blocks in which the baseline's time goes up and down, and the others' are a share of it: mine,
    /// the twin's.
    fn shares(blocks: u32, mine: impl Fn(u32) -> f64, again: impl Fn(u32) -> f64) -> Vec<Sample> {
        let mut samples = Vec::new();
        for block in 0..blocks {
            let base = 1e6 + 1e5 * f64::from(block % 7);
            let (mine, again) = (base * mine(block), base * again(block));
            for (subject, ns) in [
                ("base", base),
                ("mine", mine),
                ("again", again),
                ("null", 1e4),
            ] {
                samples.push(timed(subject, block, &[ns as u64, ns as u64, ns as u64]));
            }
        }
        samples
    }

    #[test]
    fn differences_beyond_the_noise_floor_are_called_ones() {
        let wobble = |block: u32| 1.0 + 0.01 * (f64::from(block % 5) - 2.0) / 2.0;
        for (share, verdict) in [
            (1.05, Verdict::Slower),
            (0.95, Verdict::Faster),
            // The A/A interval is within 1 %, and so is this.
            (1.004, Verdict::NotDistinguishable),
        ] {
            let rows = summary(&shares(20, |_| share, wobble));
            let mine = find(&rows, "mine");
            assert_eq!(
                (mine.verdict, mine.verdict_used_heap),
                (verdict, verdict),
                "{share}"
            );
            for exempt in ["base", "again", "null"] {
                assert_eq!(find(&rows, exempt).verdict, Verdict::Unknown);
            }
        }
        // Without a noisy twin, the same small difference is one.
        let rows = summary(&shares(20, |_| 1.004, |_| 1.0));
        assert_eq!(find(&rows, "mine").verdict, Verdict::Slower);
    }

    #[test]
    fn too_few_blocks_say_nothing() {
        // Two verdicts: the fewest blocks are log2(2 · 2 / 0.05) = 6.3, so 7.
        for (blocks, verdict) in [(6, Verdict::Unknown), (7, Verdict::Slower)] {
            let rows = summary(&shares(blocks, |_| 1.5, |_| 1.0));
            assert_eq!(find(&rows, "mine").verdict, verdict, "{blocks}");
        }
    }

    #[test]
    fn ratios_never_pair_two_runs() {
        let mut samples = Vec::new();
        for run in 0..2 {
            // The second machine is ten times slower; each ran only every other block of one subject.
            for block in 0..10 {
                let ns = if run == 0 { 1000 } else { 10_000 };
                samples.push(timed("base", block, &[ns]));
                samples.last_mut().expect("pushed").run = run;
                if block % 2 == run {
                    samples.push(timed("mine", block, &[2 * ns]));
                    samples.last_mut().expect("pushed").run = run;
                }
            }
        }
        let rows = summary(&samples);
        let mine = find(&rows, "mine");
        assert_eq!(mine.blocks, 10);
        let ratio = mine.ratio_to_baseline.expect("a ratio");
        assert_eq!((ratio.low, ratio.median, ratio.high), (2.0, 2.0, 2.0));
        assert_eq!(find(&rows, "base").blocks, 20);
    }

    #[test]
    fn outliers_stay_and_are_counted() {
        let spike = |block: u32| if block == 3 { 5.0 } else { 1.0 };
        let rows = summary(&shares(20, spike, |_| 1.0));
        let mine = find(&rows, "mine");
        assert_eq!((mine.outliers, mine.blocks), (1, 20));
        assert_eq!(find(&rows, "base").outliers, 0);
    }

    #[test]
    fn a_subject_that_failed_is_not_ranked() {
        let mut crashed = sample("mine", Pass::Memory, 0);
        crashed.status = Status::Crashed;
        crashed.reason = Some("SIGSEGV".to_owned());
        let samples = [timed("base", 0, &[1000]), timed("mine", 0, &[500]), crashed];
        let rows = summary(&samples);
        let mine = rows
            .iter()
            .find(|row| row.subject == "mine")
            .expect("a row");
        assert_eq!(mine.status, Status::Crashed);
        assert_eq!(mine.reason.as_deref(), Some("SIGSEGV"));
        assert_eq!(mine.ratio_to_baseline, None);
        let base = rows
            .iter()
            .find(|row| row.subject == "base")
            .expect("a row");
        assert_eq!(base.ratio_to_baseline.expect("itself").median, 1.0);
    }

    #[test]
    fn there_are_no_ratios_to_a_baseline_that_failed_later() {
        let mut crashed = timed("base", 1, &[1000]);
        crashed.status = Status::Crashed;
        let samples = [
            timed("base", 0, &[1000]),
            timed("mine", 0, &[500]),
            crashed,
            timed("mine", 1, &[500]),
        ];
        let rows = summary(&samples);
        let mine = rows
            .iter()
            .find(|row| row.subject == "mine")
            .expect("a row");
        assert_eq!(mine.ratio_to_baseline, None);
        assert!(mine.ns_per_operation.is_some());
    }

    #[test]
    fn memory_is_weighted_by_time() {
        let point = |elapsed_ns: u64, live_bytes, rss_bytes| MemoryPoint {
            operation: elapsed_ns / 60,
            elapsed_ns,
            live_bytes,
            usable_bytes: live_bytes,
            rss_bytes,
        };
        let mut measured = sample("mine", Pass::Memory, 0);
        measured.memory = Some(MemorySample {
            rss_start_bytes: 0,
            rss_peak_bytes: 400,
            rss_retained_bytes: 40,
            live_bytes_peak: 200,
            usable_bytes_peak: 250,
            curve: vec![point(0, 100, 100), point(90, 200, 400), point(100, 0, 400)],
            ..MemorySample::default()
        });
        let mut base = measured.clone();
        base.subject = "base".to_owned();
        base.memory.as_mut().expect("set above").rss_peak_bytes = 800;
        let mut hidden = measured.clone();
        hidden.memory.as_mut().expect("set above").unmeasurable = Some("in a file".to_owned());
        let rows = summary(&[base.clone(), hidden]);
        let row = rows
            .iter()
            .find(|row| row.subject == "mine")
            .expect("a row");
        assert_eq!(
            (row.rss_peak_bytes, row.fragmentation_at_peak),
            (None, None)
        );
        let rows = summary(&[base, measured]);
        let mine = rows
            .iter()
            .find(|row| row.subject == "mine")
            .expect("a row");
        assert_eq!(mine.fragmentation_at_peak, Some(2.0));
        assert_eq!(mine.internal_fragmentation, Some(1.25));
        assert_eq!(mine.rss_peak_ratio_to_baseline, Some(0.5));
        // (100·90 + 400·10) / (100·90 + 200·10)
        assert_eq!(mine.fragmentation_time_weighted, Some(13_000.0 / 11_000.0));
    }

    #[test]
    fn memory_is_not_compared_where_other_blocks_were_live() {
        let measured = |subject: &str, rss_peak_bytes, live_bytes_peak| Sample {
            memory: Some(MemorySample {
                rss_peak_bytes,
                live_bytes_peak,
                ..MemorySample::default()
            }),
            ..sample(subject, Pass::Memory, 0)
        };
        for (live_bytes, ratio) in [(840, Some(2.0)), (860, None), (760, Some(2.0)), (740, None)] {
            let samples = [
                measured("base", 1000, 800),
                measured("mine", 2000, live_bytes),
            ];
            let rows = summary(&samples);
            let mine = rows.iter().find(|row| row.subject == "mine");
            let mine = mine.expect("a row");
            assert_eq!(mine.rss_peak_ratio_to_baseline, ratio, "{live_bytes}");
            assert_eq!(mine.rss_peak_bytes, Some(2000));
        }
    }
}
