//! Samples -> one row per workload and subject. Pure.
//!
//! Times are compared only inside a block: the ratio of a subject to the baseline is taken block by
//! block, and the median of those ratios is the result.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::results::{Estimate, MemorySample, Pass, Sample, SpeedSample, Status, SummaryRow};
use crate::statistics::{Interval, bootstrap_median, median};

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
    /// Resamples of the bootstrap.
    pub resamples: u32,
    /// Seed of the bootstrap.
    pub seed: u64,
}

/// The fresh-heap time of a sample, and the median of its used-heap times.
type TimeOf = fn(&SpeedSample) -> Option<f64>;

fn fresh_ns(sample: &SpeedSample) -> Option<f64> {
    sample.passes_ns.first().map(|ns| *ns as f64)
}

fn used_ns(sample: &SpeedSample) -> Option<f64> {
    let later: Vec<f64> = sample
        .passes_ns
        .iter()
        .skip(1)
        .map(|ns| *ns as f64)
        .collect();
    median(&later)
}

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
    add_baseline_memory(&mut rows, frame);
    rows
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
    let mut row = SummaryRow {
        workload: workload.to_owned(),
        subject: subject.to_owned(),
        status: failed.map_or(Status::Ok, |sample| sample.status),
        reason: failed.and_then(|sample| sample.reason.clone()),
        operations,
        ns_per_operation: None,
        ns_per_operation_used_heap: None,
        ratio_to_baseline: None,
        ratio_to_baseline_used_heap: None,
        harness_share: None,
        rss_peak_bytes: None,
        rss_peak_ratio_to_baseline: None,
        live_bytes_peak: None,
        fragmentation_at_peak: None,
        fragmentation_time_weighted: None,
        internal_fragmentation: None,
        rss_retained_bytes: None,
    };
    // A subject that failed in any pass is not ranked: what it did before proves nothing.
    if failed.is_some() {
        return row;
    }
    add_speed(&mut row, samples, operations, frame);
    let memory: Vec<&MemorySample> = own
        .iter()
        .filter_map(|sample| sample.memory.as_ref())
        .collect();
    add_memory(&mut row, &memory);
    row
}

fn add_speed(row: &mut SummaryRow, samples: &[Sample], operations: u64, frame: &Frame<'_>) {
    let times = |subject: &str, time: TimeOf| by_block(samples, &row.workload, subject, time);
    let per_operation = |blocks: &BTreeMap<u32, f64>| {
        let values: Vec<f64> = blocks
            .values()
            .map(|ns| ns / operations.max(1) as f64)
            .collect();
        estimate(&values, frame)
    };
    let ratio = |own: &BTreeMap<u32, f64>, other: &str, time: TimeOf| {
        // What a subject did before it failed is no measure for others.
        if has_failed(samples, &row.workload, other) {
            return None;
        }
        let other = times(other, time);
        let values: Vec<f64> = own
            .iter()
            .filter_map(|(block, ns)| Some(ns / other.get(block).filter(|ns| **ns > 0.0)?))
            .collect();
        estimate(&values, frame)
    };
    let (fresh, used) = (times(&row.subject, fresh_ns), times(&row.subject, used_ns));
    let harness_share = frame.harness.and_then(|harness| {
        let share = ratio(&fresh, harness, fresh_ns)?.median;
        (share > 0.0).then(|| 1.0 / share)
    });
    let ratio_fresh = ratio(&fresh, frame.baseline, fresh_ns);
    let ratio_used = ratio(&used, frame.baseline, used_ns);
    row.ns_per_operation = per_operation(&fresh);
    row.ns_per_operation_used_heap = per_operation(&used);
    row.ratio_to_baseline = ratio_fresh;
    row.ratio_to_baseline_used_heap = ratio_used;
    row.harness_share = harness_share;
}

fn has_failed(samples: &[Sample], workload: &str, subject: &str) -> bool {
    samples
        .iter()
        .filter(|sample| sample.workload == workload && sample.subject == subject)
        .any(|sample| sample.status != Status::Ok)
}

/// Times of a subject that did not fail, by block.
fn by_block(samples: &[Sample], workload: &str, subject: &str, time: TimeOf) -> BTreeMap<u32, f64> {
    samples
        .iter()
        .filter(|sample| sample.workload == workload && sample.subject == subject)
        .filter(|sample| sample.pass == Pass::Speed && sample.status == Status::Ok)
        .filter_map(|sample| Some((sample.block, time(sample.speed.as_ref()?)?)))
        .collect()
}

fn estimate(values: &[f64], frame: &Frame<'_>) -> Option<Estimate> {
    let Interval { median, low, high } = bootstrap_median(values, frame.resamples, frame.seed)?;
    Some(Estimate { median, low, high })
}

fn add_memory(row: &mut SummaryRow, samples: &[&MemorySample]) {
    let of = |value: fn(&MemorySample) -> Option<f64>| {
        let values: Vec<f64> = samples.iter().filter_map(|sample| value(sample)).collect();
        median(&values)
    };
    let bytes = |value: Option<f64>| value.map(|bytes| bytes.round() as u64);
    row.rss_peak_bytes = bytes(of(|sample| Some(sample.rss_peak_bytes as f64)));
    row.rss_retained_bytes = bytes(of(|sample| Some(sample.rss_retained_bytes as f64)));
    row.live_bytes_peak = bytes(of(|sample| Some(sample.live_bytes_peak as f64)));
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

/// Sum of RSS over the trace ÷ sum of live bytes over the trace; each point counts for the
/// operations until the next one.
fn time_weighted(sample: &MemorySample) -> Option<f64> {
    let (mut rss, mut live) = (0.0, 0.0);
    for pair in sample.curve.windows(2) {
        let operations = (pair[1].operation - pair[0].operation) as f64;
        rss += pair[0].rss_bytes as f64 * operations;
        live += pair[0].live_bytes as f64 * operations;
    }
    quotient(rss, live)
}

fn quotient(numerator: f64, denominator: f64) -> Option<f64> {
    (denominator > 0.0).then(|| numerator / denominator)
}

fn add_baseline_memory(rows: &mut [SummaryRow], frame: &Frame<'_>) {
    let baselines: BTreeMap<String, u64> = rows
        .iter()
        .filter(|row| row.subject == frame.baseline)
        .filter_map(|row| Some((row.workload.clone(), row.rss_peak_bytes?)))
        .collect();
    for row in rows {
        row.rss_peak_ratio_to_baseline = row
            .rss_peak_bytes
            .zip(baselines.get(&row.workload))
            .and_then(|(own, baseline)| quotient(own as f64, *baseline as f64));
    }
}

#[cfg(test)]
mod tests {
    use super::super::results::MemoryPoint;
    use super::*;

    fn sample(subject: &str, pass: Pass, block: u32) -> Sample {
        Sample {
            workload: "w".to_owned(),
            subject: subject.to_owned(),
            pass,
            block,
            position: 0,
            status: Status::Ok,
            reason: None,
            operations: 100,
            receipt: None,
            speed: None,
            memory: None,
            minor_faults: 0,
            major_faults: 0,
            involuntary_switches: 0,
        }
    }

    fn timed(subject: &str, block: u32, passes_ns: &[u64]) -> Sample {
        Sample {
            speed: Some(SpeedSample {
                passes_ns: passes_ns.to_vec(),
            }),
            ..sample(subject, Pass::Speed, block)
        }
    }

    fn summary(samples: &[Sample]) -> Vec<SummaryRow> {
        let subjects = ["base", "mine", "null"].map(str::to_owned);
        summarise(
            samples,
            &Frame {
                workloads: &[("w".to_owned(), 100)],
                subjects: &subjects,
                baseline: "base",
                harness: Some("null"),
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
    fn memory_is_weighted_by_operations() {
        let point = |operation, live_bytes, rss_bytes| MemoryPoint {
            operation,
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
        });
        let mut base = measured.clone();
        base.subject = "base".to_owned();
        base.memory.as_mut().expect("set above").rss_peak_bytes = 800;
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
}
