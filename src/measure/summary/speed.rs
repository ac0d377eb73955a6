//! Times and ratios of a row.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use super::super::pairs::{BlockKey, Heap, of_run, outliers, ratios_by_run, runs, times};
use super::super::results::{Estimate, RunRow, Sample, SummaryRow};
use super::{Frame, combined, estimate, first_run, has_failed, rss_peaks};

type Times = BTreeMap<BlockKey, f64>;

/// Fills in what the timed pass shows.
pub(super) fn add(row: &mut SummaryRow, samples: &[Sample], operations: u64, frame: &Frame<'_>) {
    let of = |subject: &str, heap: Heap| times(samples, &row.workload, subject, heap);
    let (fresh, used) = (of(&row.subject, Heap::Fresh), of(&row.subject, Heap::Used));
    let ratios = |own: &Times, other: &str, heap: Heap| {
        // What a subject did before it failed is no measure for others.
        if has_failed(samples, &row.workload, other) {
            return BTreeMap::new();
        }
        ratios_by_run(own, &of(other, heap))
    };
    let fresh_ratios = ratios(&fresh, frame.baseline, Heap::Fresh);
    let used_ratios = ratios(&used, frame.baseline, Heap::Used);
    let harness_share = frame.harness.and_then(|harness| {
        let share = combined(&ratios(&fresh, harness, Heap::Fresh), frame)?.median;
        (share > 0.0).then(|| 1.0 / share)
    });
    let per_operation = |times: &Times, run: u32| {
        let values = of_run(times, run).map(|(_, ns)| ns / operations.max(1) as f64);
        estimate(&values.collect::<Vec<f64>>(), frame)
    };
    let all_runs: BTreeSet<u32> = runs(&fresh);
    if let Some(first) = first_run(samples, &row.workload) {
        row.ns_per_operation = per_operation(&fresh, first);
        row.ns_per_operation_used_heap = per_operation(&used, first);
    }
    if all_runs.len() > 1 {
        let peaks = rss_peaks(samples, &row.workload, &row.subject);
        let of_one = |ratios: &BTreeMap<u32, Vec<f64>>, run: u32| -> Option<Estimate> {
            estimate(ratios.get(&run)?, frame)
        };
        let one = |run: u32| RunRow {
            run,
            blocks: count(of_run(&fresh, run).count()),
            ns_per_operation: per_operation(&fresh, run),
            ratio_to_baseline: of_one(&fresh_ratios, run),
            ratio_to_baseline_used_heap: of_one(&used_ratios, run),
            rss_peak_bytes: peaks.get(&run).map(|bytes| *bytes as u64),
        };
        row.by_run = all_runs.into_iter().map(one).collect();
    }
    row.ratio_to_baseline = combined(&fresh_ratios, frame);
    row.ratio_to_baseline_used_heap = combined(&used_ratios, frame);
    row.blocks = count(fresh.len());
    let far: BTreeSet<BlockKey> = outliers(&fresh).union(&outliers(&used)).copied().collect();
    row.outliers = count(far.len());
    row.harness_share = harness_share;
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
