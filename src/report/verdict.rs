//! The sentence at the top: which allocator, how much faster or slower and leaner than the
//! baseline, and how sure. It never claims more than the interval shows, and never recommends a
//! floor row, which is no allocator.

#![forbid(unsafe_code)]

use super::format;
use super::model::{self, BLOCKS_FOR_INTERVAL, Row, Standing, Workload};
use crate::measure::results::Estimate;

/// Memory differences up to this share are told as "about the same": there is no interval for them.
const MEMORY_TOLERANCE: f64 = 0.02;

/// What to conclude from one workload.
pub(crate) struct Verdict {
    /// The one plain sentence.
    pub(crate) sentence: String,
    /// What limits it: how sure, who else is as good, who failed.
    pub(crate) notes: Vec<String>,
    /// One word for the badge beside it: "sure", "not sure", "few blocks", "no comparison".
    pub(crate) confidence: &'static str,
}

/// Judges one workload.
pub(crate) fn of(workload: &Workload<'_>, blocks_asked: u32) -> Verdict {
    let blocks = workload.blocks().unwrap_or(blocks_asked as usize);
    let mut verdict = match (workload.baseline_row(), workload.ranking(false).as_slice()) {
        (_, []) => nothing_finished(workload),
        (None, ranking) => no_baseline(workload, ranking),
        (Some(baseline), [_]) => Verdict {
            sentence: format!(
                "Only the baseline, {}, was measured{}: there is nothing to compare it with.",
                baseline.name(),
                of_workload(workload)
            ),
            notes: Vec::new(),
            confidence: "no comparison",
        },
        (Some(baseline), ranking) => compared(workload, baseline, ranking, blocks),
    };
    let failed: Vec<String> = workload
        .rows
        .iter()
        .filter(|row| !row.is_ok())
        .map(|row| {
            format!(
                "{} ({})",
                row.name(),
                model::status_word(row.summary.status)
            )
        })
        .collect();
    if !failed.is_empty() && failed.len() < workload.rows.len() {
        verdict.notes.push(format!(
            "Without a result: {}; the table tells why.",
            format::list(&failed)
        ));
    }
    verdict
}

fn of_workload(workload: &Workload<'_>) -> String {
    format!(" on {}", workload.name)
}

fn nothing_finished(workload: &Workload<'_>) -> Verdict {
    let any_floor = workload.rows.iter().any(Row::is_ok);
    let sentence = if workload.rows.is_empty() {
        format!("Nothing was measured{}.", of_workload(workload))
    } else if any_floor {
        format!(
            "No allocator finished{}; the rows that did are bounds, not allocators. There is nothing to recommend.",
            of_workload(workload)
        )
    } else {
        format!(
            "No subject finished{}: there is nothing to recommend.",
            of_workload(workload)
        )
    };
    Verdict {
        sentence,
        notes: Vec::new(),
        confidence: "no comparison",
    }
}

fn no_baseline(workload: &Workload<'_>, ranking: &[&Row<'_>]) -> Verdict {
    let baseline = workload.baseline;
    let failed = workload.rows.iter().find(|row| row.is_baseline);
    let why = match failed {
        Some(row) => format!(
            "the baseline, {baseline}, has no result ({})",
            model::status_word(row.summary.status)
        ),
        None => format!("the baseline, {baseline}, was not measured"),
    };
    let mut sentence = format!(
        "No verdict{}: {why}, so there is nothing to compare with",
        of_workload(workload)
    );
    if let Some((first, time)) = ranking
        .iter()
        .find_map(|row| Some((row, row.summary.ns_per_operation?)))
    {
        sentence.push_str(&format!(
            "; the lowest time was {} per operation, by {}",
            format::time_ns(time.median),
            first.name()
        ));
    }
    sentence.push('.');
    Verdict {
        sentence,
        notes: Vec::new(),
        confidence: "no comparison",
    }
}

fn compared(
    workload: &Workload<'_>,
    baseline: &Row<'_>,
    ranking: &[&Row<'_>],
    blocks: usize,
) -> Verdict {
    let few = blocks < BLOCKS_FOR_INTERVAL;
    let rivals: Vec<&Row<'_>> = ranking
        .iter()
        .copied()
        .filter(|row| !row.is_baseline)
        .collect();
    let fastest = rivals
        .iter()
        .copied()
        .find(|row| row.standing() == Standing::Faster);
    let mut notes = Vec::new();
    let sentence = match fastest {
        Some(best) => {
            notes.extend(rivals_as_good(best, &rivals));
            notes.extend(without_own(best, baseline, &rivals));
            faster_sentence(workload, baseline, best, few)
        }
        None => none_faster_sentence(workload, baseline, &rivals),
    };
    notes.extend(leaner_note(fastest.unwrap_or(baseline), ranking));
    notes.insert(0, how_sure(fastest, baseline, blocks));
    let confidence = match (few, fastest) {
        (true, _) => "few blocks",
        (false, Some(_)) => "sure",
        (false, None) if rivals.iter().all(|row| row.standing() == Standing::Slower) => "sure",
        (false, None) => "not distinguishable",
    };
    Verdict {
        sentence,
        notes,
        confidence,
    }
}

fn faster_sentence(
    workload: &Workload<'_>,
    baseline: &Row<'_>,
    best: &Row<'_>,
    few: bool,
) -> String {
    let ratio = best
        .summary
        .ratio_to_baseline
        .expect("a faster row has a ratio");
    let claim = if few { "looks faster:" } else { "is faster:" };
    format!(
        "{}{} {claim} it takes {} {} ({}){}.",
        capitalised_on(workload),
        best.name(),
        time_words(ratio.median),
        baseline.name(),
        interval_words(&ratio),
        memory_clause(best, baseline),
    )
}

fn none_faster_sentence(
    workload: &Workload<'_>,
    baseline: &Row<'_>,
    rivals: &[&Row<'_>],
) -> String {
    let named = |wanted: Standing| -> Vec<&str> {
        rivals
            .iter()
            .filter(|row| row.standing() == wanted)
            .map(|row| row.name())
            .collect()
    };
    let mut parts = Vec::new();
    let same = named(Standing::NotDistinguishable);
    let slower: Vec<String> = rivals
        .iter()
        .filter(|row| row.standing() == Standing::Slower)
        .filter_map(|row| Some((row.name(), row.summary.ratio_to_baseline?)))
        .map(|(name, ratio)| {
            format!(
                "{name} takes {} it ({})",
                time_words(ratio.median),
                interval_words(&ratio)
            )
        })
        .collect();
    let unknown = named(Standing::Unknown);
    if !same.is_empty() {
        parts.push(format!("{} not distinguishable from it", is_are(&same)));
    }
    if !slower.is_empty() {
        parts.push(format::list(&slower));
    }
    if !unknown.is_empty() {
        parts.push(format!("{} without a ratio", is_are(&unknown)));
    }
    let capital = capitalised_on(workload);
    format!(
        "{capital}no allocator was shown to be faster than {}: {}.",
        baseline.name(),
        parts.join("; ")
    )
}

fn is_are(names: &[&str]) -> String {
    format!(
        "{} {}",
        format::list(names),
        if names.len() == 1 { "is" } else { "are" }
    )
}

fn capitalised_on(workload: &Workload<'_>) -> String {
    format!("On {}, ", workload.name)
}

/// Rivals whose interval overlaps the best one's: not told apart by these measurements.
fn rivals_as_good(best: &Row<'_>, rivals: &[&Row<'_>]) -> Option<String> {
    let best_ratio = best.summary.ratio_to_baseline?;
    let close: Vec<&str> = rivals
        .iter()
        .filter(|row| row.name() != best.name())
        .filter(|row| {
            row.summary
                .ratio_to_baseline
                .is_some_and(|ratio| model::overlap(&ratio, &best_ratio))
        })
        .map(|row| row.name())
        .collect();
    if close.is_empty() {
        return None;
    }
    Some(format!(
        "Not told apart from {}: {}; the intervals overlap.",
        best.name(),
        format::list(&close)
    ))
}

/// If the recommended one is ours: who would be in its place without it.
fn without_own(best: &Row<'_>, baseline: &Row<'_>, rivals: &[&Row<'_>]) -> Option<String> {
    if !best.is_own {
        return None;
    }
    let others = rivals.iter().filter(|row| !row.is_own);
    let mut faster = others.filter(|row| row.standing() == Standing::Faster);
    Some(
        match faster
            .next()
            .and_then(|row| Some((row, row.summary.ratio_to_baseline?)))
        {
            Some((next, ratio)) => format!(
                "{} is this project's own. Among the others, {} is faster: {} {} ({}).",
                best.name(),
                next.name(),
                time_words(ratio.median),
                baseline.name(),
                interval_words(&ratio)
            ),
            None => format!(
                "{} is this project's own. Among the others, none was shown to be faster than {}.",
                best.name(),
                baseline.name()
            ),
        },
    )
}

fn how_sure(fastest: Option<&Row<'_>>, baseline: &Row<'_>, blocks: usize) -> String {
    let measured = format!(
        "Measured in {}, side by side",
        format::plural(blocks as u64, "block", "blocks")
    );
    if blocks < BLOCKS_FOR_INTERVAL {
        return format!(
            "{measured}: too few for an interval that holds in 95 of 100 cases ({BLOCKS_FOR_INTERVAL} are needed). \
             Take it as a hint and repeat it with more blocks."
        );
    }
    match fastest {
        Some(_) => format!(
            "{measured}; the 95 % interval excludes equal speed: noise alone is an unlikely cause."
        ),
        None => format!(
            "{measured}; a difference from {} counts only if the 95 % interval excludes 1.",
            baseline.name()
        ),
    }
}

/// Who needs least memory, if it is not the one the sentence is about.
fn leaner_note(chosen: &Row<'_>, ranking: &[&Row<'_>]) -> Option<String> {
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
        (true, ..) => ", the baseline".to_owned(),
        (false, Some(ratio), Standing::Faster | Standing::Slower) => {
            format!(", at {} the baseline", time_words(ratio.median))
        }
        (false, _, Standing::NotDistinguishable) => {
            ", at a time not distinguishable from the baseline's".to_owned()
        }
        _ => String::new(),
    };
    Some(format!(
        "If memory matters more: the leanest is {} with {} at its peak, against {} for {}{time}.",
        leanest.name(),
        format::bytes(peak as f64),
        format::bytes(chosen_peak as f64),
        chosen.name(),
    ))
}

fn memory_clause(row: &Row<'_>, baseline: &Row<'_>) -> String {
    let (Some(ratio), Some(peak), Some(base)) = (
        row.summary.rss_peak_ratio_to_baseline,
        row.summary.rss_peak_bytes,
        baseline.summary.rss_peak_bytes,
    ) else {
        return String::new();
    };
    let sizes = format!(
        "{} instead of {}",
        format::bytes(peak as f64),
        format::bytes(base as f64)
    );
    if !ratio.is_finite() {
        return String::new();
    }
    if (ratio - 1.0).abs() <= MEMORY_TOLERANCE {
        format!(", with about the same memory at its peak ({sizes})")
    } else if ratio < 1.0 {
        format!(
            ", with {} less memory at its peak ({sizes})",
            format::percent(1.0 - ratio)
        )
    } else {
        format!(
            ", but needs {} memory at its peak ({sizes})",
            more_words(ratio)
        )
    }
}

fn more_words(ratio: f64) -> String {
    if ratio < 2.0 {
        format!("{} more", format::percent(ratio - 1.0))
    } else {
        format!("{} times the", trimmed_ratio(ratio))
    }
}

/// A ratio of times in words that need "than" or "of" and a name after them.
pub(crate) fn time_words(ratio: f64) -> String {
    if !ratio.is_finite() {
        return "an unknown share of the time of".to_owned();
    }
    if ratio < 0.9995 {
        format!("{} less time than", format::percent(1.0 - ratio))
    } else if ratio < 1.0005 {
        "the same time as".to_owned()
    } else if ratio < 2.0 {
        format!("{} more time than", format::percent(ratio - 1.0))
    } else {
        format!("{} times the time of", trimmed_ratio(ratio))
    }
}

fn trimmed_ratio(ratio: f64) -> String {
    if ratio < 99.5 {
        format!("{ratio:.1}")
    } else {
        format::ratio(ratio)
    }
}

/// The interval in the same words as its median.
fn interval_words(ratio: &Estimate) -> String {
    let (low, high) = (ratio.low, ratio.high);
    if high < 1.0 {
        let (from, to) = (format::percent(1.0 - high), format::percent(1.0 - low));
        format!("95 % interval: {from} to {to} less")
    } else if low > 1.0 && ratio.median < 2.0 {
        let (from, to) = (format::percent(low - 1.0), format::percent(high - 1.0));
        format!("95 % interval: {from} to {to} more")
    } else {
        format!(
            "95 % interval: {} to {} times",
            format::ratio(low),
            format::ratio(high)
        )
    }
}

/// One sentence per subject over many workloads: on how many it was faster, slower, or neither.
pub(crate) fn tally(workloads: &[Workload<'_>], subject: &str) -> Option<String> {
    let (mut faster, mut slower, mut same, mut failed) = (0u64, 0u64, 0u64, 0u64);
    for row in workloads
        .iter()
        .flat_map(|workload| &workload.rows)
        .filter(|row| row.name() == subject)
    {
        if row.is_floor || row.is_baseline {
            return None;
        }
        match (row.is_ok(), row.standing()) {
            (false, _) => failed += 1,
            (true, Standing::Faster) => faster += 1,
            (true, Standing::Slower) => slower += 1,
            (true, Standing::NotDistinguishable) => same += 1,
            (true, Standing::Unknown) => {}
        }
    }
    let mut parts = vec![format!("faster on {faster}"), format!("slower on {slower}")];
    if same > 0 {
        parts.push(format!("not distinguishable on {same}"));
    }
    if failed > 0 {
        parts.push(format!("without a result on {failed}"));
    }
    Some(format::list(&parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_become_words() {
        assert_eq!(time_words(0.77), "23 % less time than");
        assert_eq!(time_words(1.05), "5.0 % more time than");
        assert_eq!(time_words(1.0001), "the same time as");
        assert_eq!(time_words(3.0), "3.0 times the time of");
        assert_eq!(time_words(f64::NAN), "an unknown share of the time of");
    }

    #[test]
    fn intervals_keep_their_side() {
        let words = |low, median, high| interval_words(&Estimate { median, low, high });
        assert_eq!(words(0.75, 0.77, 0.8), "95 % interval: 20 % to 25 % less");
        assert_eq!(words(1.1, 1.2, 1.3), "95 % interval: 10 % to 30 % more");
        assert_eq!(words(0.9, 1.2, 1.3), "95 % interval: 0.900 to 1.300 times");
        assert_eq!(words(2.0, 3.0, 4.0), "95 % interval: 2.000 to 4.000 times");
    }
}
