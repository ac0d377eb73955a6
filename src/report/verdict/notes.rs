//! What stands below the sentence: how sure it is, who else is as good, what a used heap or little
//! memory would change.

#![forbid(unsafe_code)]

use super::{MEMORY_TOLERANCE, Measured};
use crate::measure::results::Verdict;
use crate::report::format;
use crate::report::model::{BLOCKS_FOR_INTERVAL, Row, Workload};
use crate::report::words::{
    certainty_words, more_words, shows_difference, takes_words, time_words,
};

/// The recommended one "needs clearly more memory" from here on, relative to the baseline.
const MUCH_MEMORY: f64 = 1.25;
/// Ratios on a fresh and on a used heap that differ by more than this tell different stories.
const HEAP_TOLERANCE: f64 = 0.15;

/// Rivals that these measurements do not tell apart from the best one.
pub(super) fn rivals_as_good(
    workload: &Workload<'_>,
    best: &Row<'_>,
    rivals: &[&Row<'_>],
) -> Option<String> {
    if !best.has_intervals {
        return None;
    }
    let close: Vec<&str> = rivals
        .iter()
        .filter(|row| row.name() != best.name() && row.summary.ratio_to_baseline.is_some())
        .filter(|row| !workload.is_told_apart(best, row))
        .map(|row| row.name())
        .collect();
    if close.is_empty() {
        return None;
    }
    Some(format!(
        "Not told apart from {}: {}.",
        best.name(),
        format::list(&close)
    ))
}

/// If the recommended one is ours: who would be in its place without it.
pub(super) fn without_own(
    best: &Row<'_>,
    baseline: &Row<'_>,
    rivals: &[&Row<'_>],
) -> Option<String> {
    if !best.is_own {
        return None;
    }
    let others = rivals.iter().filter(|row| !row.is_own);
    let mut faster = others.filter(|row| row.seems_faster());
    Some(
        match faster
            .next()
            .and_then(|row| Some((row, row.summary.ratio_to_baseline?)))
        {
            Some((next, ratio)) => format!(
                "{} is this project's own. Among the others, {} {} faster: {} {} ({}).",
                best.name(),
                next.name(),
                if next.has_intervals { "is" } else { "looks" },
                time_words(ratio.median),
                baseline.name(),
                certainty_words(next, &ratio)
            ),
            None => format!(
                "{} is this project's own. Among the others, none was shown to be faster than {}.",
                best.name(),
                baseline.name()
            ),
        },
    )
}

pub(super) fn how_sure(
    fastest: Option<&Row<'_>>,
    workload: &Workload<'_>,
    measured: &Measured,
) -> String {
    let count = format::plural(measured.blocks as u64, "block", "blocks");
    let rows = || workload.rows.iter().filter(|row| row.is_candidate());
    let is_unjudged = || rows().all(|row| row.standing() == Verdict::Unknown);
    if !measured.has_twin && !measured.is_few() && is_unjudged() {
        return format!(
            "Measured in {count}: medians and intervals are shown. What is noise is known only where \
             the baseline runs a second time, so there are no verdicts; `replay` gives them."
        );
    }
    let blocks = format!("Measured in {count}, side by side");
    if measured.is_few() {
        return format!(
            "{blocks}: too few for an interval that holds in 95 of 100 cases ({BLOCKS_FOR_INTERVAL} are needed). \
             Take it as a hint and repeat it with more blocks."
        );
    }
    if let Some(words) = measured.lacking()
        && is_unjudged()
    {
        return format!(
            "{blocks}: {words}. The intervals hold all the same; repeat it with more blocks."
        );
    }
    let floor = match workload.noise() {
        Some(_) => " and is larger than the noise floor",
        None => "",
    };
    match (fastest, measured.is_noisy) {
        (Some(_), false) => format!(
            "{blocks}; the difference holds after correction for the number of comparisons{floor}: \
             noise alone is an unlikely cause."
        ),
        (Some(_), true) => format!(
            "{blocks}; the difference holds after correction for the number of comparisons{floor}, \
             but the warnings name noise that this may not cover."
        ),
        (None, _) => format!(
            "{blocks}; a difference from {} counts only if it holds after correction for the number of \
             comparisons and is larger than the noise floor.",
            workload.baseline
        ),
    }
}

/// What changes on a used heap, if it is another story than the sentence tells. It looks at the
/// two at the top, and at the one recommended.
pub(super) fn used_heap(
    baseline: &Row<'_>,
    ranking: &[&Row<'_>],
    fastest: Option<&Row<'_>>,
) -> Option<String> {
    let used = |row: &Row<'_>| row.summary.ratio_to_baseline_used_heap;
    let mut by_used: Vec<&Row<'_>> = ranking
        .iter()
        .copied()
        .filter(|row| used(row).is_some_and(|ratio| ratio.median.is_finite()))
        .collect();
    by_used.sort_by(|a, b| {
        let median = |row| used(row).map_or(f64::INFINITY, |ratio| ratio.median);
        median(a).total_cmp(&median(b))
    });
    let chosen = fastest.or_else(|| ranking.iter().copied().find(|row| !row.is_baseline))?;
    let ratio = used(chosen)?;
    let fresh = chosen.summary.ratio_to_baseline?;
    let names = |rows: &[&Row<'_>]| -> Vec<String> {
        rows.iter()
            .take(2)
            .map(|row| row.name().to_owned())
            .collect()
    };
    let is_reordered = names(&by_used) != names(ranking) && is_order_shown(&by_used);
    let is_undecided = fastest.is_some()
        && chosen.has_intervals
        && chosen.summary.verdict_used_heap != Verdict::Faster;
    // Two medians that were both not told from 1 tell no story by their difference.
    let is_shown = shows_difference(chosen, &ratio, chosen.summary.verdict_used_heap)
        || shows_difference(chosen, &fresh, chosen.standing());
    let is_elsewhere = is_shown && (ratio.median / fresh.median - 1.0).abs() > HEAP_TOLERANCE;
    if !(is_reordered || is_undecided || is_elsewhere) {
        return None;
    }
    let mut text = format!(
        "On a used heap (later replays in the same process) it is another story: {} {} ({})",
        chosen.name(),
        takes_words(
            chosen,
            &ratio,
            chosen.summary.verdict_used_heap,
            baseline.name()
        ),
        certainty_words(chosen, &ratio)
    );
    if is_reordered {
        text.push_str(&format!(
            "; the order there is {} before {}",
            by_used[0].name(),
            by_used[1].name()
        ));
    }
    text.push('.');
    Some(text)
}

/// Whether the first two on a used heap are told apart there: by the verdict where one of them is the
/// baseline, else by intervals that lie apart. Without intervals the order is a hint like all else.
fn is_order_shown(by_used: &[&Row<'_>]) -> bool {
    let [first, second, ..] = by_used else {
        return false;
    };
    let used = |row: &Row<'_>| row.summary.ratio_to_baseline_used_heap;
    let (Some(low), Some(high)) = (used(first), used(second)) else {
        return false;
    };
    match (first.is_baseline, second.is_baseline) {
        (true, _) => shows_difference(second, &high, second.summary.verdict_used_heap),
        (_, true) => shows_difference(first, &low, first.summary.verdict_used_heap),
        _ if !(first.has_intervals && second.has_intervals) => true,
        _ => low.high < high.low,
    }
}

/// If the fastest pays with much memory: the leanest of those that are still faster.
pub(super) fn lighter_and_faster(
    best: &Row<'_>,
    baseline: &Row<'_>,
    rivals: &[&Row<'_>],
) -> Option<String> {
    let price = best.rss_ratio().filter(|&ratio| ratio > MUCH_MEMORY)?;
    let (row, memory) = rivals
        .iter()
        .filter(|row| row.name() != best.name() && row.seems_faster())
        .filter_map(|row| Some((*row, row.rss_ratio()?)))
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .filter(|&(_, memory)| memory < price * (1.0 - MEMORY_TOLERANCE))?;
    let ratio = row.summary.ratio_to_baseline?;
    let memory = if memory < 1.0 - MEMORY_TOLERANCE {
        format!("{} less memory", format::percent(1.0 - memory))
    } else if memory <= 1.0 + MEMORY_TOLERANCE {
        "about the same memory".to_owned()
    } else {
        format!("{} memory", more_words(memory))
    };
    Some(format!(
        "Faster for less memory than {}: {} takes {} {} ({}), with {memory} ({}).",
        best.name(),
        row.name(),
        time_words(ratio.median),
        baseline.name(),
        certainty_words(row, &ratio),
        row.rss_words(row.summary.rss_peak_bytes)
    ))
}

/// Who needs least memory, if it is not the one the sentence is about.
pub(super) fn leanest(chosen: &Row<'_>, ranking: &[&Row<'_>]) -> Option<String> {
    let chosen_peak = chosen.summary.rss_peak_bytes?;
    let leanest = ranking
        .iter()
        .filter(|row| row.summary.rss_peak_bytes.is_some())
        .min_by_key(|row| row.summary.rss_peak_bytes)?;
    let peak = leanest.summary.rss_peak_bytes?;
    if leanest.name() == chosen.name()
        || peak as f64 >= chosen_peak as f64 * (1.0 - MEMORY_TOLERANCE)
    {
        return None;
    }
    let time = match (
        leanest.is_baseline,
        leanest.summary.ratio_to_baseline,
        leanest.standing(),
    ) {
        (true, ..) => ", the baseline,".to_owned(),
        (false, Some(ratio), standing) if !shows_difference(leanest, &ratio, standing) => {
            ", at a time not distinguishable from the baseline's,".to_owned()
        }
        (false, Some(ratio), _) => format!(", at {} the baseline,", time_words(ratio.median)),
        (false, None, _) => String::new(),
    };
    Some(format!(
        "If memory matters more: the leanest is {}{time} with {} at its peak, against {} for {}.",
        leanest.name(),
        leanest.rss_words(Some(peak)),
        chosen.rss_words(Some(chosen_peak)),
        chosen.name(),
    ))
}
