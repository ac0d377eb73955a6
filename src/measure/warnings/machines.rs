//! What the machines of the runs call for, each by itself and all together.

#![forbid(unsafe_code)]

use super::super::pairs::Heap;
use super::super::results::{Estimate, Results, Run, RunRow, SummaryRow};
use super::is_floor;

/// Those of each run's machine; of several runs, each with the run's name unless it holds for all.
pub(super) fn of_each(runs: &[Run]) -> Vec<String> {
    let of_runs: Vec<(&Run, Vec<String>)> = runs
        .iter()
        .map(|run| (run, run.environment.warnings()))
        .collect();
    let mut told: Vec<String> = Vec::new();
    for (run, warnings) in &of_runs {
        for warning in warnings {
            let is_common = of_runs.iter().all(|(_, others)| others.contains(warning));
            let text = match is_common {
                true => warning.clone(),
                false => format!("Run of {}: {warning}", run.started),
            };
            if !told.contains(&text) {
                told.push(text);
            }
        }
    }
    told
}

/// What differs between the runs that measured the same: their processors, and what they found.
pub(super) fn together(results: &Results) -> Vec<String> {
    let mut warnings: Vec<String> = processors(results).into_iter().collect();
    let several = results.summary.iter().filter(|row| row.by_run.len() > 1);
    for row in several.filter(|row| !is_floor(row, results)) {
        warnings.extend(
            Heap::ALL
                .map(|heap| apart(results, row, heap))
                .into_iter()
                .flatten(),
        );
    }
    warnings
}

/// A run in words: its processor and when it began.
fn named(run: &Run) -> String {
    let cpu = run
        .environment
        .cpu
        .as_deref()
        .unwrap_or("an unknown processor");
    format!("{cpu} (run of {})", run.started)
}

/// Runs on different processors, where they measured the same workload.
fn processors(results: &Results) -> Option<String> {
    let shared = results.summary.iter().flat_map(|row| &row.by_run);
    let mut indices: Vec<u32> = shared.map(|one| one.run).collect();
    indices.sort_unstable();
    indices.dedup();
    let mut different: Vec<&Run> = Vec::new();
    for run in indices
        .iter()
        .filter_map(|index| results.runs.get(*index as usize))
    {
        let machine = |run: &Run| (run.environment.cpu.clone(), run.environment.cpus);
        if different.iter().all(|one| machine(one) != machine(run)) {
            different.push(run);
        }
    }
    let names: Vec<String> = different.iter().map(|run| named(run)).collect();
    (names.len() > 1).then(|| {
        format!(
            "The runs are of different machines: {}. Ratios are taken inside each run and combined, each \
             run counting the same; times and memory are those of the first run that measured the \
             workload. For one machine's numbers, report its file alone.",
            names.join("; ")
        )
    })
}

/// Runs whose intervals of a ratio do not overlap.
fn apart(results: &Results, row: &SummaryRow, heap: Heap) -> Option<String> {
    let known: Vec<(&RunRow, Estimate)> = row
        .by_run
        .iter()
        .filter_map(|one| Some((one, one.ratio(heap)?)))
        .collect();
    let lowest = known.iter().min_by(|a, b| a.1.high.total_cmp(&b.1.high))?;
    let highest = known.iter().max_by(|a, b| a.1.low.total_cmp(&b.1.low))?;
    if lowest.1.high >= highest.1.low {
        return None;
    }
    let told = |(one, ratio): &(&RunRow, Estimate)| {
        let run = results.runs.get(one.run as usize);
        let run = run.map_or_else(|| format!("run {}", one.run), named);
        format!(
            "{:.3} ({:.3}–{:.3}) on {run}",
            ratio.median, ratio.low, ratio.high
        )
    };
    let place = match heap {
        Heap::Fresh => "",
        Heap::Used => " on a used heap",
    };
    let effect = if lowest.1.high < 1.0 && highest.1.low > 1.0 {
        " One is faster than the baseline, the other slower, so there is no verdict for both."
    } else {
        ""
    };
    Some(format!(
        "{} on {}{place}: the runs disagree: {}, but {}.{effect} Their mean stands for neither: report \
         each file alone.",
        row.subject,
        row.workload,
        told(lowest),
        told(highest)
    ))
}
