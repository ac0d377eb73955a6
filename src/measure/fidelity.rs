//! Does replay predict reality? Real programs and the replays of their traces, under the same subjects,
//! compared. Pure.
//!
//! ```text
//! time      predicted(s) = program(base) + replay(s) - replay(base) + n (start(s) - start(base))
//! peak RSS  predicted(s) = program(base) + replay(s) - replay(base), from the memory pass
//! ```
//! All times are CPU time, in user mode and in the kernel: of a program that of all its processes, of a
//! replay that of its process at the trace's operations, on the fresh heap of a fresh process. `start` is
//! what it takes to start a process under the subject and to end it, and `n` how many the program starts:
//! a preloaded object is loaded and sets itself up in each. Differences are taken inside a block.
//!
//! So what a program does outside its allocator is taken to be the same under every allocator; where it
//! is not (caches, page faults), the prediction misses, and by how much is what is shown. A program of
//! several processes has several traces: their times are added; of memory, the largest process is
//! compared with the trace that has the largest peak under the baseline.
//!
//! A process's RSS holds what is not the allocator's: code, stack, files. It is estimated as the
//! program's peak less the replay's, both under the baseline, and taken to be the same under all.

#![forbid(unsafe_code)]

mod explain;
mod predict;
mod ranking;

use serde::{Deserialize, Serialize};

use super::results::{Estimate, Results, Touch};
use crate::statistics::median;
pub use predict::predicted_ratio;

/// Version of the layout of [`Fidelity`].
pub const SCHEMA_VERSION: u32 = 2;

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
    /// Executables that it starts: each loads the allocator anew, where a forked process does not.
    pub started: usize,
}

/// The workload that does nothing but start processes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartUp {
    /// Its name.
    pub workload: String,
    /// Executables that one run of it starts.
    pub started: usize,
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
    /// Pairs of subjects, over all programs.
    pub agreement: Agreement,
    /// Median over programs and subjects of the error of the predicted time ratio, as a share of the
    /// real one.
    pub time_error: Option<f64>,
    /// The same for peak RSS.
    pub rss_error: Option<f64>,
    /// Program by program.
    pub programs: Vec<ProgramFidelity>,
}

/// In how many pairs of subjects the prediction has the one ahead that is ahead. Of subjects that
/// reality does not tell apart no order is right, and a rank correlation over them is a roll of dice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// All pairs, the baseline's among them.
    pub pairs: usize,
    /// Pairs whose real times differ: the 95 % interval of the ratio, block by block, does not hold 1,
    /// and the ratio is further from 1 than that of the baseline to itself.
    pub told_apart: usize,
    /// Those of them that the prediction puts in the same order.
    pub ordered_right: usize,
}

/// One program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramFidelity {
    /// Its workload.
    pub name: String,
    /// CPU time of one run under the baseline, in nanoseconds.
    pub program_ns: f64,
    /// CPU time of the replays under the baseline.
    pub replay_ns: f64,
    /// Peak RSS under the baseline that is not the allocator's, as estimated; `None` if unknown.
    pub other_rss_bytes: Option<f64>,
    /// Operations that were replayed, and those recorded.
    pub operations: [u64; 2],
    /// Processes recorded.
    pub processes: usize,
    /// Executables started.
    pub started: usize,
    /// How far the baseline is from itself: what a difference must exceed; `None` without a twin.
    pub noise: Option<f64>,
    /// The same of its replays, as a share of the program's time.
    pub replay_noise: Option<f64>,
    /// Spearman's correlation of the subjects' real and predicted times, the baseline's among them.
    pub rank_correlation: Option<f64>,
    /// Pair by pair.
    pub agreement: Agreement,
    /// Median error of the predicted time ratio.
    pub time_error: Option<f64>,
    /// Median error of the predicted ratio of peak RSS.
    pub rss_error: Option<f64>,
    /// The subjects but the baseline.
    pub subjects: Vec<Prediction>,
    /// Subjects that are not among them.
    pub unpredicted: Vec<Unpredicted>,
    /// What explains the misses, in sentences.
    pub explanations: Vec<String>,
}

/// A subject of which nothing could be predicted, or nothing compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unpredicted {
    /// The subject.
    pub subject: String,
    /// Why.
    pub reason: String,
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
    /// Of what is predicted, in nanoseconds: the replays' difference to the baseline's.
    pub replay_ns: f64,
    /// And the difference that starting its processes makes.
    pub start_up_ns: f64,
    /// Ratio of the peak RSS of the program's largest process.
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
    /// Difference of page faults that starting its processes makes.
    pub start_up_faults: f64,
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

/// Compares what these links name. A program that has no time under the baseline, or whose replays
/// have none, is left out: the results say why.
pub fn of(results: &Results, links: &[Link], start_up: Option<&StartUp>) -> Fidelity {
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
            of_touch
                .filter_map(|link| predict::program(results, link, start_up))
                .collect(),
        )
    };
    let mut policies: Vec<Policy> = touches.into_iter().map(policy).collect();
    explain::policies(&mut policies);
    Fidelity {
        schema_version: SCHEMA_VERSION,
        baseline: results.settings.baseline.clone(),
        policies,
    }
}

impl Policy {
    fn of(touch: Touch, programs: Vec<ProgramFidelity>) -> Self {
        let correlations = || programs.iter().filter_map(|one| one.rank_correlation);
        let predictions = || programs.iter().flat_map(|one| &one.subjects);
        let sum = |of: fn(&Agreement) -> usize| programs.iter().map(|one| of(&one.agreement)).sum();
        Self {
            touch,
            ranked_well: correlations().filter(|one| *one >= 0.9).count(),
            ranked: correlations().count(),
            agreement: Agreement {
                pairs: sum(|one| one.pairs),
                told_apart: sum(|one| one.told_apart),
                ordered_right: sum(|one| one.ordered_right),
            },
            time_error: median_of(predictions().map(|one| Some(one.time_error()))),
            rss_error: median_of(predictions().map(Prediction::rss_error)),
            programs,
        }
    }
}

fn median_of(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    median(&values.flatten().collect::<Vec<f64>>())
}

#[cfg(test)]
#[path = "fidelity/tests.rs"]
mod tests;
