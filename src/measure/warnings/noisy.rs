//! Noise that the measurement shows itself: the baseline against itself.

#![forbid(unsafe_code)]

use super::super::noise;
use super::super::pairs::Heap;
use super::super::results::{Results, Status, SummaryRow, Verdict};
use super::{FEW_BLOCKS, listed};

/// What intervals are asked to reach when nothing was asked for.
const PRECISION: f64 = 0.015;
/// A noise floor above so many times the precision hides what was looked for.
const FLOOR_LIMIT: f64 = 2.0;

/// Warnings of each workload's noise floor: too high, off centre, or missing.
pub(super) fn of(results: &Results) -> Vec<String> {
    let Some(twin) = &results.settings.baseline_twin else {
        return Vec::new();
    };
    let rows = results.summary.iter().filter(|row| row.subject == *twin);
    let mut places: Vec<(f64, String)> = rows
        .flat_map(|row| Heap::ALL.map(|heap| place(results, row, heap)))
        .flatten()
        .collect();
    places.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let mut warnings = Vec::new();
    if !places.is_empty() {
        let places: Vec<&str> = places.iter().map(|(_, text)| text.as_str()).collect();
        warnings.push(format!(
            "The machine was noisy: the baseline differs from itself by up to {}. Smaller \
             differences are not called ones. Stop other work, and repeat with more blocks or a longer \
             --budget.",
            listed(&places)
        ));
    }
    warnings.extend(without_floor(results, twin));
    warnings
}

/// The floor, in words as well, where it is high or off centre.
fn place(results: &Results, twin: &SummaryRow, heap: Heap) -> Option<(f64, String)> {
    // Below, there is no interval to judge by, and that is told.
    let ratio = twin.ratio(heap).filter(|_| twin.blocks >= FEW_BLOCKS)?;
    let floor = noise::reach(ratio);
    let precision = results.settings.precision.unwrap_or(PRECISION);
    let heap = match heap {
        Heap::Fresh => "",
        Heap::Used => " on a used heap",
    };
    let off = if ratio.low > 1.0 || ratio.high < 1.0 {
        " (its interval does not even hold 1)"
    } else {
        ""
    };
    let is_high = floor > FLOOR_LIMIT * precision;
    (is_high || !off.is_empty()).then(|| {
        let text = format!("{:.1} % on {}{heap}{off}", 100.0 * floor, twin.workload);
        (floor, text)
    })
}

/// Workloads whose subjects have ratios, and blocks enough, but nothing to hold them against.
fn without_floor(results: &Results, twin: &str) -> Option<String> {
    let has_floor = |workload: &str| {
        let mut twins = results.summary.iter().filter(|row| row.subject == twin);
        twins.any(|row| {
            row.workload == workload && row.status == Status::Ok && row.ratio_to_baseline.is_some()
        })
    };
    let is_unjudged = |workload: &str| {
        let mut rows = results
            .summary
            .iter()
            .filter(|row| row.workload == workload);
        rows.any(|row| {
            row.subject != results.settings.baseline
                && row.ratio_to_baseline.is_some()
                && row.verdict == Verdict::Unknown
        })
    };
    let names: Vec<&str> = results
        .workloads
        .iter()
        .map(|workload| workload.name.as_str())
        .filter(|name| is_unjudged(name) && !has_floor(name))
        .collect();
    (!names.is_empty()).then(|| {
        format!(
            "{}: no noise floor, since the baseline's second run ({twin}) has no ratio, and so no \
             verdict. Repeat.",
            listed(&names)
        )
    })
}
