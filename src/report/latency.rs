//! Latencies of the latency pass, by kind of operation: what tables and charts of them show.

#![forbid(unsafe_code)]

use super::format;
use super::model::{Row, Workload};
use crate::measure::latency::ALL_SIZES;
use crate::measure::results::{
    LatencyClock, LatencyRow, LatencySample, Results, Status, WorkloadKind, WorstOperation,
};
use crate::statistics::median;

/// A kind of operation, of blocks of its own thread or another's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Operation {
    /// "malloc", "free", "calloc", "realloc", "aligned"
    pub(crate) name: String,
    pub(crate) other_thread: bool,
}

/// In which order they are shown.
const ORDER: [&str; 5] = ["malloc", "free", "realloc", "calloc", "aligned"];

impl Operation {
    fn of(row: &LatencyRow) -> Self {
        Self {
            name: row.operation.clone(),
            other_thread: row.other_thread,
        }
    }

    /// `free`, or `free of another thread's blocks`.
    pub(crate) fn words(&self) -> String {
        let name = match self.name.as_str() {
            "aligned" => "aligned allocation",
            name => name,
        };
        if self.other_thread {
            format!("{name} of another thread's blocks")
        } else {
            name.to_owned()
        }
    }

    fn rank(&self) -> (usize, bool, &str) {
        let known = ORDER.iter().position(|name| *name == self.name);
        let rank = known.unwrap_or(ORDER.len());
        (rank, self.other_thread, &self.name)
    }
}

/// Names of the percentiles, in order.
pub(crate) const PERCENTILES: [&str; 6] = ["p50", "p90", "p99", "p99.9", "p99.99", "max"];

/// The percentiles of a row in nanoseconds, in the order of their names; `None` where too few calls
/// lie beyond.
pub(crate) fn percentiles(row: &LatencyRow) -> [Option<u64>; 6] {
    [
        Some(row.p50_ns),
        row.p90_ns,
        row.p99_ns,
        row.p99_9_ns,
        row.p99_99_ns,
        Some(row.max_ns),
    ]
}

/// A latency. `step_ns`: see [`step_ns`].
pub(crate) fn time(ns: u64, step_ns: u64) -> String {
    match ns {
        _ if ns < step_ns => format!("< {step_ns} ns"),
        0..1000 => format!("{ns} ns"),
        _ => format::time_ns(ns as f64),
    }
}

/// One that may be unknown.
pub(crate) fn time_or_absent(ns: Option<u64>, step_ns: u64) -> String {
    ns.map_or(format::ABSENT.to_owned(), |ns| time(ns, step_ns))
}

/// Nothing shorter was told apart, in whole nanoseconds.
pub(crate) fn step_ns(workload: &Workload<'_>) -> u64 {
    let samples = workload.rows.iter().flat_map(samples);
    let steps = samples.map(|sample| sample.clock_step_ns);
    let longest = steps.filter(|step| step.is_finite()).fold(1.0, f64::max);
    longest.round() as u64
}

/// The kinds of operation that any subject has latencies of.
pub(crate) fn operations(workload: &Workload<'_>) -> Vec<Operation> {
    let mut operations: Vec<Operation> = Vec::new();
    for row in workload.rows.iter().flat_map(|row| &row.summary.latency) {
        let operation = Operation::of(row);
        if !operations.contains(&operation) {
            operations.push(operation);
        }
    }
    operations.sort_by(|one, two| one.rank().cmp(&two.rank()));
    operations
}

/// A subject's latencies of a kind of operation, by size class and, last, over all sizes.
pub(crate) fn classes<'a>(
    row: &Row<'a>,
    operation: &Operation,
) -> impl Iterator<Item = &'a LatencyRow> {
    let rows = row.summary.latency.iter();
    rows.filter(move |latency| Operation::of(latency) == *operation)
}

/// A subject's latencies of a kind of operation, over all sizes.
pub(crate) fn row<'a>(row: &Row<'a>, operation: &Operation) -> Option<&'a LatencyRow> {
    classes(row, operation).find(|latency| latency.size_class_bytes == ALL_SIZES)
}

/// A subject's samples of the latency pass.
pub(crate) fn samples<'a>(row: &Row<'a>) -> impl Iterator<Item = &'a LatencySample> {
    row.samples
        .iter()
        .filter(|sample| sample.status == Status::Ok)
        .filter_map(|sample| sample.latency.as_ref())
}

/// The slowest operations of all of a subject's samples, the slowest first.
pub(crate) fn worst<'a>(row: &Row<'a>) -> Vec<&'a WorstOperation> {
    let mut worst: Vec<&WorstOperation> = samples(row).flat_map(|sample| &sample.worst).collect();
    worst.sort_by_key(|operation| std::cmp::Reverse(operation.latency_ns));
    worst.truncate(10);
    worst
}

/// Whether a slow operation was slow in the second replay as well: took at least half as long. `None`
/// if that is not known.
pub(crate) fn recurred(operation: &WorstOperation) -> Option<bool> {
    let second = operation.second_latency_ns?;
    Some(second >= operation.latency_ns / 2)
}

/// Samples that each subject has, at most.
pub(crate) fn replays(workload: &Workload<'_>) -> usize {
    let counts = workload.rows.iter().map(|row| samples(row).count());
    counts.max().unwrap_or(0)
}

/// What was read before and after each call, what that costs, and whether it can be believed.
pub(crate) fn clock_words(workload: &Workload<'_>) -> String {
    let samples: Vec<&LatencySample> = workload.rows.iter().flat_map(samples).collect();
    let middle = |values: Vec<f64>| {
        let known: Vec<f64> = values.into_iter().filter(|one| one.is_finite()).collect();
        median(&known)
    };
    let cost = middle(samples.iter().map(|one| one.clock_cost_ns).collect());
    let hertz = middle(samples.iter().map(|one| one.clock_hertz).collect());
    let is_counter = |one: &&LatencySample| one.clock == LatencyClock::TimeStampCounter;
    let clock = match samples.iter().all(is_counter) {
        true => {
            let speed = hertz.map_or(String::new(), |hertz| {
                format!(", calibrated at {:.2} GHz", hertz / 1e9)
            });
            format!("the processor’s time-stamp counter{speed}")
        }
        false => "CLOCK_MONOTONIC of the kernel".to_owned(),
    };
    let calls: u64 = samples
        .iter()
        .flat_map(|sample| &sample.rows)
        .filter(|row| row.size_class_bytes == ALL_SIZES)
        .map(|row| row.count)
        .sum();
    let migrated: Option<u64> = samples.iter().map(|sample| sample.migrated).sum();
    let backward: u64 = samples.iter().map(|sample| sample.backward).sum();
    let moved = migrated.map_or(String::new(), |migrated| {
        format!(
            "{} of {} calls ended on another processor than they began on. ",
            format::count(migrated),
            format::count(calls + backward)
        )
    });
    let back = match backward {
        0 => "No reading was below the one before it.".to_owned(),
        count => format!(
            "{} ended with a reading below the one before: they have no latency.",
            format::plural(count, "call", "calls")
        ),
    };
    format!(
        "Each call was timed by itself, in a pass of its own, on a fresh heap. The clock is {clock}; \
         reading it costs {}, which is subtracted, and it advances in steps of {step} ns, so nothing \
         shorter is told apart. {moved}{back}",
        cost.map_or("an unknown time".to_owned(), format::time_ns),
        step = step_ns(workload),
    )
}

/// What the percentiles are, and what the bounds; below the charts and the tables.
pub(crate) fn caption(workload: &Workload<'_>) -> String {
    let latency_replays = replays(workload);
    let replays = match latency_replays {
        0 | 1 => "All figures are of one replay".to_owned(),
        count => format!(
            "Each percentile is the median of {count} replays, the maximum the highest of all, and \
             the calls are counted over all"
        ),
    };
    let each = match latency_replays {
        0 | 1 => "",
        _ => " of one replay",
    };
    let bounds: Vec<&str> = workload
        .rows
        .iter()
        .filter(|row| row.is_floor && samples(row).next().is_some())
        .map(Row::name)
        .filter_map(|name| match name {
            "null" => Some("(null) does nothing: what it shows is the jitter of clock and machine"),
            "bump" => Some("(bump) counts addresses up in memory that is resident already"),
            _ => None,
        })
        .collect();
    let bounds = match bounds.as_slice() {
        [] => String::new(),
        some => format!(" Bounds: {}.", some.join("; ")),
    };
    format!(
        "{replays}. A percentile above the median is shown only if at least ten calls{each} lie beyond \
         it.{bounds}"
    )
}

/// Why a workload has no latencies though others have; `None` if there is nothing to explain.
pub(crate) fn absent(workload: &Workload<'_>, results: &Results) -> Option<&'static str> {
    let is_absent = operations(workload).is_empty();
    if !is_absent || results.settings.latency_blocks == 0 {
        return None;
    }
    match workload.record?.kind {
        WorkloadKind::Threads => Some(
            "Latency is not measured here: the threads of a kernel run loops of their own, in which \
             no single call is timed.",
        ),
        WorkloadKind::Program => Some(
            "Latency is not measured here: a real program calls its allocator by itself, and no \
             single call is timed.",
        ),
        _ => None,
    }
}
