//! The noise floor: what the baseline differs from itself, run under two names in the same blocks.
//! Pure.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::pairs::Heap;
use super::results::{Estimate, SummaryRow};

/// How far a ratio is from 1, as a share of the smaller time: 0.25 for a ratio of 1.25 or of 0.8.
pub fn difference(ratio: f64) -> f64 {
    ratio.ln().abs().exp_m1()
}

/// The noise floor of a twin's row on a heap: the distance from 1 of the farther end of its ratio's
/// interval, as [`difference`]. A difference within it is none. `None` without a ratio.
pub fn floor(twin: &SummaryRow, heap: Heap) -> Option<f64> {
    twin.ratio(heap).map(reach)
}

/// How far the farther end of an interval is from 1, as [`difference`].
pub fn reach(ratio: Estimate) -> f64 {
    difference(ratio.low).max(difference(ratio.high))
}

/// The noise floor of wall time, of replays on several threads.
pub fn wall_floor(rows: &[SummaryRow], twin: Option<&str>, workload: &str) -> Option<f64> {
    let is_twin =
        |row: &&SummaryRow| row.workload == workload && Some(row.subject.as_str()) == twin;
    let ratio = rows.iter().find(is_twin)?.wall_ratio_to_baseline?;
    Some(difference(ratio.low).max(difference(ratio.high)))
}

/// The noise floors of all workloads.
pub fn floors(rows: &[SummaryRow], twin: Option<&str>) -> BTreeMap<(String, Heap), f64> {
    let twins = rows.iter().filter(|row| Some(row.subject.as_str()) == twin);
    twins
        .flat_map(|row| Heap::ALL.map(|heap| ((row.workload.clone(), heap), floor(row, heap))))
        .filter_map(|(key, floor)| Some((key, floor?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_farther_end_counts() {
        let mut row = SummaryRow::unmeasured("w", "base-again", 1);
        assert_eq!(floor(&row, Heap::Fresh), None);
        row.ratio_to_baseline = Some(Estimate {
            median: 1.0,
            low: 0.8,
            high: 1.1,
        });
        assert!((floor(&row, Heap::Fresh).expect("a ratio") - 0.25).abs() < 1e-12);
        let floors = floors(&[row], Some("base-again"));
        assert_eq!(floors.len(), 1);
    }
}
