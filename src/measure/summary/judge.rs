//! Which differences are called ones, over the whole file at once.

#![forbid(unsafe_code)]

use super::super::noise;
use super::super::pairs::{Heap, ratios, times};
use super::super::results::{Estimate, Results, Sample, SubjectKind, SummaryRow, Verdict};
use super::Frame;
use crate::statistics::signed_rank::{ERROR_RATE, fewest_blocks, holm, ratios_differ_p};

/// Gives the verdicts of a file. One is given on each heap of each row that has a ratio, but for the
/// baseline, its twin and the floor rows; a difference is called one if
/// - the signed-rank test says so, corrected for the number of all these verdicts together (Holm);
/// - the interval that is shown excludes 1;
/// - the median is further from 1 than the noise floor of that workload and heap.
///
/// The test is of no difference on any run, so the blocks of all runs count in it alike. Where one run
/// shows a subject faster and another slower, there is no verdict for both.
/// With fewer blocks than the test needs at all ([`fewest_blocks`]) nothing is known, nor without a
/// noise floor.
pub(super) fn judge(rows: &mut [SummaryRow], samples: &[Sample], frame: &Frame<'_>) {
    let exempt = |subject: &str| {
        subject == frame.baseline
            || frame.twin == Some(subject)
            || frame.floors.iter().any(|floor| floor == subject)
    };
    let judged: Vec<(usize, Heap, Vec<f64>)> = places(rows, &exempt)
        .into_iter()
        .map(|(index, heap)| {
            let row = &rows[index];
            let of = |subject: &str| times(samples, &row.workload, subject, heap);
            (index, heap, ratios(&of(&row.subject), &of(frame.baseline)))
        })
        .collect();
    let p_value = |(.., ratios): &(usize, Heap, Vec<f64>)| ratios_differ_p(ratios);
    let p_values: Vec<f64> = judged.iter().map(p_value).collect();
    let differs = holm(&p_values, ERROR_RATE);
    let fewest = fewest_blocks(judged.len(), ERROR_RATE) as usize;
    let floors = noise::floors(rows, frame.twin);
    for ((index, heap, ratios), differs) in judged.into_iter().zip(differs) {
        let row = &mut rows[index];
        let floor = floors.get(&(row.workload.clone(), heap)).copied();
        let verdict = match (row.ratio(heap), floor) {
            _ if contradicts(row, heap) => Verdict::Unknown,
            (Some(ratio), Some(floor)) if ratios.len() >= fewest && ratio.low.is_finite() => {
                verdict(ratio, differs, floor)
            }
            _ => Verdict::Unknown,
        };
        match heap {
            Heap::Fresh => row.verdict = verdict,
            Heap::Used => row.verdict_used_heap = verdict,
        }
    }
}

/// Whether the intervals of two runs are on different sides of 1.
fn contradicts(row: &SummaryRow, heap: Heap) -> bool {
    let ratios = || row.by_run.iter().filter_map(|one| one.ratio(heap));
    ratios().any(|ratio| ratio.high < 1.0) && ratios().any(|ratio| ratio.low > 1.0)
}

/// The rows and heaps that a verdict is given on.
fn places(rows: &[SummaryRow], exempt: &dyn Fn(&str) -> bool) -> Vec<(usize, Heap)> {
    let judged = rows.iter().enumerate();
    let judged = judged.filter(|(_, row)| !exempt(&row.subject));
    judged
        .flat_map(|(index, row)| Heap::ALL.map(|heap| (index, heap, row.ratio(heap))))
        .filter_map(|(index, heap, ratio)| ratio.map(|_| (index, heap)))
        .collect()
}

/// Blocks that a verdict needs at least in these results, for all that they compare; 0 if there is
/// nothing to compare.
pub fn blocks_needed(results: &Results) -> u32 {
    let exempt = |name: &str| {
        let is_exempt = |subject: &&super::SubjectRecord| {
            subject.name == name
                && (subject.kind == SubjectKind::Floor || subject.twin_of.is_some())
        };
        name == results.settings.baseline
            || results.settings.baseline_twin.as_deref() == Some(name)
            || results.subjects.iter().any(|one| is_exempt(&one))
    };
    match places(&results.summary, &exempt).len() {
        0 => 0,
        comparisons => fewest_blocks(comparisons, ERROR_RATE),
    }
}

/// What an interval is called.
pub(in super::super) fn verdict(ratio: Estimate, differs: bool, floor: f64) -> Verdict {
    let is_beyond = noise::difference(ratio.median) > floor;
    match () {
        () if !differs || !is_beyond => Verdict::NotDistinguishable,
        () if ratio.high < 1.0 => Verdict::Faster,
        () if ratio.low > 1.0 => Verdict::Slower,
        () => Verdict::NotDistinguishable,
    }
}
