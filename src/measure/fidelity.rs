//! Does replay predict reality? Real programs and the replays of their traces, under the same subjects,
//! compared. Pure.
//!
//! ```text
//! time      predicted(s) = program(baseline) + replay(s) - replay(baseline)
//! peak RSS  likewise, from the memory pass
//! ```
//! So what a program does outside its allocator is taken to be the same under every allocator; where it
//! is not (caches, page faults), the prediction misses, and by how much is what is shown. Ratios are to
//! the baseline's. A program of several processes has several traces: their times are added; of
//! memory, the trace with the largest peak under the baseline stands for the program.
//!
//! A program's RSS holds what is not the allocator's: code, stack, files. It is estimated as the
//! program's peak less the replay's, both under the baseline, and taken to be the same under all.

#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

use super::pairs::{Heap, time_ns};
use super::results::{Estimate, Pass, Results, Sample, Status, SummaryRow, Touch};
use crate::statistics::median;
use crate::statistics::rank_correlation::spearman;

/// Version of the layout of [`Fidelity`].
pub const SCHEMA_VERSION: u32 = 1;
/// A prediction that is off by less than this share is not explained.
const MISS: f64 = 0.02;
/// Below this share of the program's time inside the allocator, there is little to predict.
const SMALL_SHARE: f64 = 0.05;

/// Which workloads of the results belong together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The workload that is the real program.
    pub program: String,
    /// Workloads that are replays of its traces.
    pub replays: Vec<String>,
    /// What those replays write into new blocks.
    pub touch: Touch,
    /// Operations of all traces of the program, those too short to be replayed among them.
    pub operations: u64,
    /// Processes that were recorded.
    pub processes: usize,
}

/// The whole comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fidelity {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The subject that ratios refer to.
    pub baseline: String,
    /// By touch policy, in the order asked for.
    pub policies: Vec<Policy>,
}

/// All programs, replayed with one touch policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// What replays wrote into new blocks.
    pub touch: Touch,
    /// Programs with a rank correlation of at least 0.9, and those that have one.
    pub ranked_well: usize,
    /// See `ranked_well`.
    pub ranked: usize,
    /// Median over programs and subjects of the error of the predicted time ratio, as a share of the
    /// real one.
    pub time_error: Option<f64>,
    /// The same for peak RSS.
    pub rss_error: Option<f64>,
    /// Program by program.
    pub programs: Vec<ProgramFidelity>,
}

/// One program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramFidelity {
    /// Its workload.
    pub name: String,
    /// CPU time of one run under the baseline, in nanoseconds.
    pub program_ns: f64,
    /// Time of the replays under the baseline.
    pub replay_ns: f64,
    /// Peak RSS under the baseline that is not the allocator's, as estimated; `None` if unknown.
    pub other_rss_bytes: Option<f64>,
    /// Operations that were replayed, and those recorded.
    pub operations: [u64; 2],
    /// Processes recorded.
    pub processes: usize,
    /// How far the baseline is from itself: what a difference must exceed; `None` without a twin.
    pub noise: Option<f64>,
    /// Spearman's correlation of the subjects' real and predicted times, the baseline's among them.
    pub rank_correlation: Option<f64>,
    /// Median error of the predicted time ratio.
    pub time_error: Option<f64>,
    /// Median error of the predicted ratio of peak RSS.
    pub rss_error: Option<f64>,
    /// The subjects but the baseline.
    pub subjects: Vec<Prediction>,
    /// What explains the misses, in sentences.
    pub explanations: Vec<String>,
}

/// One program under one subject. Ratios are to the baseline's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prediction {
    /// The subject.
    pub subject: String,
    /// Ratio of the program's CPU time.
    pub real_time: Estimate,
    /// Ratio that the replay predicts.
    pub predicted_time: Estimate,
    /// Ratio of the program's peak RSS.
    pub real_rss: Option<f64>,
    /// Ratio that the replay predicts.
    pub predicted_rss: Option<f64>,
    /// The same two without what is not the allocator's.
    pub real_allocator_rss: Option<f64>,
    /// See `real_allocator_rss`: the ratio of the replays' peaks.
    pub predicted_allocator_rss: Option<f64>,
    /// Difference of the program's time to the baseline's in user mode and in the kernel.
    pub user_ns: f64,
    /// See `user_ns`.
    pub system_ns: f64,
    /// Difference of page faults to the baseline's, of the program and of the replays.
    pub page_faults: [f64; 2],
}

impl Prediction {
    /// Error of the predicted time ratio as a share of the real one.
    pub fn time_error(&self) -> f64 {
        (self.predicted_time.median / self.real_time.median - 1.0).abs()
    }

    /// The same for peak RSS.
    pub fn rss_error(&self) -> Option<f64> {
        Some((self.predicted_rss? / self.real_rss? - 1.0).abs())
    }
}

/// The predicted ratio of a program's amount to the baseline's, from the program's under the baseline
/// and the replay's under both; `None` where that is no ratio.
pub fn predicted_ratio(program: f64, replay: f64, replay_baseline: f64) -> Option<f64> {
    let ratio = (program + replay - replay_baseline) / program;
    (program > 0.0 && ratio.is_finite() && ratio > 0.0).then_some(ratio)
}

/// Compares what these links name. A program that has no time under the baseline, or whose replays
/// have none, is left out: the results say why.
pub fn of(results: &Results, links: &[Link]) -> Fidelity {
    let mut touches: Vec<Touch> = Vec::new();
    for link in links {
        if !touches.contains(&link.touch) {
            touches.push(link.touch);
        }
    }
    let policy = |touch: Touch| {
        let of_touch = links.iter().filter(|link| link.touch == touch);
        Policy::of(
            touch,
            of_touch.filter_map(|link| program(results, link)).collect(),
        )
    };
    Fidelity {
        schema_version: SCHEMA_VERSION,
        baseline: results.settings.baseline.clone(),
        policies: touches.into_iter().map(policy).collect(),
    }
}

impl Policy {
    fn of(touch: Touch, programs: Vec<ProgramFidelity>) -> Self {
        let correlations = || programs.iter().filter_map(|one| one.rank_correlation);
        let predictions = || programs.iter().flat_map(|one| &one.subjects);
        Self {
            touch,
            ranked_well: correlations().filter(|one| *one >= 0.9).count(),
            ranked: correlations().count(),
            time_error: median_of(predictions().map(|one| Some(one.time_error()))),
            rss_error: median_of(predictions().map(Prediction::rss_error)),
            programs,
        }
    }
}

fn median_of(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    median(&values.flatten().collect::<Vec<f64>>())
}

fn row<'r>(results: &'r Results, workload: &str, subject: &str) -> Option<&'r SummaryRow> {
    let mut rows = results.summary.iter();
    rows.find(|row| row.workload == workload && row.subject == subject && row.status == Status::Ok)
}

fn program(results: &Results, link: &Link) -> Option<ProgramFidelity> {
    let baseline = results.settings.baseline.as_str();
    let twin = results.settings.baseline_twin.as_deref();
    let program_ns = median_of(
        samples(results, &link.program, baseline).map(|sample| time_ns(sample, Heap::Fresh)),
    )?;
    let replay_ns: f64 = link
        .replays
        .iter()
        .map(|replay| replay_base_ns(results, replay))
        .sum::<Option<f64>>()?;
    let program_rss = row(results, &link.program, baseline)
        .and_then(|row| row.rss_peak_bytes)
        .map(|bytes| bytes as f64);
    let largest = link
        .replays
        .iter()
        .filter_map(|replay| {
            let bytes = row(results, replay, baseline)?.rss_peak_bytes?;
            Some((replay, bytes as f64))
        })
        .max_by(|one, other| one.1.total_cmp(&other.1));
    let frame = Frame {
        results,
        link,
        program_ns,
        program_rss,
        largest,
    };
    let names = results.subjects.iter().map(|subject| subject.name.as_str());
    let others = names.filter(|name| *name != baseline && Some(*name) != twin);
    let subjects: Vec<Prediction> = others.filter_map(|name| frame.prediction(name)).collect();
    let replayed = link
        .replays
        .iter()
        .filter_map(|replay| row(results, replay, baseline));
    let noise = twin
        .and_then(|twin| row(results, &link.program, twin)?.ratio_to_baseline)
        .map(|ratio| (ratio.high - 1.0).abs().max((ratio.low - 1.0).abs()));
    let mut pairs: Vec<(f64, f64)> = subjects
        .iter()
        .map(|one| (one.real_time.median, one.predicted_time.median))
        .collect();
    pairs.push((1.0, 1.0));
    let mut found = ProgramFidelity {
        name: link.program.clone(),
        program_ns,
        replay_ns,
        other_rss_bytes: program_rss
            .zip(largest)
            .map(|(program, (_, replay))| (program - replay).max(0.0)),
        operations: [replayed.map(|row| row.operations).sum(), link.operations],
        processes: link.processes,
        noise,
        rank_correlation: spearman(&pairs),
        time_error: median_of(subjects.iter().map(|one| Some(one.time_error()))),
        rss_error: median_of(subjects.iter().map(Prediction::rss_error)),
        subjects,
        explanations: Vec::new(),
    };
    found.explanations = explain(&found);
    Some(found)
}

/// Time of one replay under the baseline: on a fresh heap, as the program's.
fn replay_base_ns(results: &Results, replay: &str) -> Option<f64> {
    let row = row(results, replay, &results.settings.baseline)?;
    Some(row.ns_per_operation?.median * row.operations as f64)
}

fn samples<'r>(
    results: &'r Results,
    workload: &'r str,
    subject: &'r str,
) -> impl Iterator<Item = &'r Sample> {
    let all = results.samples.iter();
    all.filter(move |sample| sample.workload == workload && sample.subject == subject)
}

/// What all subjects of a program are predicted from.
struct Frame<'r> {
    results: &'r Results,
    link: &'r Link,
    program_ns: f64,
    program_rss: Option<f64>,
    /// The replay that stands for the program's memory, and its peak under the baseline.
    largest: Option<(&'r String, f64)>,
}

impl Frame<'_> {
    fn prediction(&self, subject: &str) -> Option<Prediction> {
        let baseline = self.results.settings.baseline.as_str();
        let own = row(self.results, &self.link.program, subject)?;
        // Ratios are of paired blocks, so each replay's time is its ratio times the baseline's.
        let (mut delta, mut low, mut high) = (0.0, 0.0, 0.0);
        for replay in &self.link.replays {
            let base = replay_base_ns(self.results, replay)?;
            let ratio = row(self.results, replay, subject)?.ratio_to_baseline?;
            delta += (ratio.median - 1.0) * base;
            low += (ratio.low - 1.0) * base;
            high += (ratio.high - 1.0) * base;
        }
        let predicted = |delta: f64| predicted_ratio(self.program_ns, delta, 0.0);
        let replay_rss = self.largest.and_then(|(replay, base)| {
            let bytes = row(self.results, replay, subject)?.rss_peak_bytes?;
            Some((bytes as f64, base))
        });
        let real_rss = own.rss_peak_ratio_to_baseline;
        let other = self
            .program_rss
            .zip(self.largest)
            .map(|(program, (_, base))| program - base);
        let difference = |of: &dyn Fn(&Sample) -> Option<f64>, workload: &str, pass: Pass| {
            let of_pass = |name| {
                let taken = samples(self.results, workload, name);
                median_of(taken.filter(|sample| sample.pass == pass).map(of))
            };
            Some(of_pass(subject)? - of_pass(baseline)?)
        };
        let of_program = |of: &dyn Fn(&Sample) -> Option<f64>| {
            difference(of, &self.link.program, Pass::Program).unwrap_or(0.0)
        };
        let first_faults = |sample: &Sample| {
            let usage = sample.speed.as_ref()?.usage.first()?;
            Some(usage.minor_faults as f64)
        };
        let replays = self.link.replays.iter();
        let replay_faults = replays.map(|one| difference(&first_faults, one, Pass::Speed));
        Some(Prediction {
            subject: subject.to_owned(),
            real_time: own.ratio_to_baseline?,
            predicted_time: Estimate {
                median: predicted(delta)?,
                low: predicted(low)?,
                high: predicted(high)?,
            },
            real_rss,
            predicted_rss: self
                .program_rss
                .zip(replay_rss)
                .and_then(|(program, (own, base))| predicted_ratio(program, own, base)),
            real_allocator_rss: real_rss
                .zip(self.program_rss)
                .zip(other)
                .map(|((ratio, program), other)| (ratio * program - other) / (program - other)),
            predicted_allocator_rss: replay_rss.map(|(own, base)| own / base),
            user_ns: of_program(&|sample| Some(sample.program.as_ref()?.user_ns as f64)),
            system_ns: of_program(&|sample| Some(sample.program.as_ref()?.system_ns as f64)),
            page_faults: [
                of_program(&|sample| Some(sample.minor_faults as f64)),
                replay_faults.map(|faults| faults.unwrap_or(0.0)).sum(),
            ],
        })
    }
}

/// What the figures say of why predictions miss.
fn explain(found: &ProgramFidelity) -> Vec<String> {
    let share = found.replay_ns / found.program_ns;
    let mut sentences = Vec::new();
    if share < SMALL_SHARE {
        sentences.push(format!(
            "Of its time {:.1} % is spent in the allocator by the replay under the baseline: \
             allocators can hardly differ by their own work, only by what they do to the rest.",
            100.0 * share
        ));
    }
    if share > 1.0 {
        sentences.push(format!(
            "The replay alone takes {share:.2} times as long as the program: it touches memory that the \
             program does not, or finds it less often in the cache."
        ));
    }
    let noise = found.noise.unwrap_or(0.0);
    let mut within = Vec::new();
    for one in &found.subjects {
        let miss = one.real_time.median - one.predicted_time.median;
        if miss.abs() <= MISS.max(noise) {
            continue;
        }
        if one.real_time.low <= one.predicted_time.high
            && one.predicted_time.low <= one.real_time.high
        {
            within.push(one.subject.as_str());
            continue;
        }
        let real_ns = one.user_ns + one.system_ns;
        let word = if miss > 0.0 { "more" } else { "less" };
        let mut text = format!(
            "{}: {:.0} ms {word} than predicted",
            one.subject,
            (miss * found.program_ns).abs() / 1e6
        );
        let is_kernel = one.system_ns * real_ns > 0.0 && one.system_ns.abs() > one.user_ns.abs();
        let [own, replayed] = one.page_faults;
        text += &if is_kernel {
            format!(
                "; most of the real difference to the baseline is in the kernel ({:+.0} ms), with {own:+.0} \
                 page faults where the replay has {replayed:+.0}: memory is touched or given back \
                 otherwise than in the replay.",
                one.system_ns / 1e6
            )
        } else {
            format!(
                "; the real difference to the baseline is in user mode ({:+.0} ms; kernel {:+.0} ms), \
                 outside the allocator's own work: where its blocks lie in the caches when the program \
                 uses them.",
                one.user_ns / 1e6,
                one.system_ns / 1e6
            )
        };
        sentences.push(text);
    }
    if !within.is_empty() {
        sentences.push(format!(
            "{}: what was predicted and what was seen differ by less than their intervals; more blocks \
             would tell.",
            within.join(", ")
        ));
    }
    sentences
}

#[cfg(test)]
#[path = "fidelity/tests.rs"]
mod tests;
