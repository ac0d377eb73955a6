//! The sentence at the top: which allocator, how much faster or slower and leaner than the
//! baseline, and how sure. It never claims more than the interval shows, and never recommends a
//! floor row, which is no allocator.

#![forbid(unsafe_code)]

mod notes;

use super::format;
use super::model::{self, BLOCKS_FOR_INTERVAL, Row, Workload};
use super::words::{
    certainty_words, more_words, own_time_words, shows_difference, takes_words, time_words,
};
use crate::measure::results::{Results, Verdict};

/// Memory differences up to this share are told as "about the same": there is no interval for them.
const MEMORY_TOLERANCE: f64 = 0.02;

/// What to conclude from one workload.
pub(crate) struct Conclusion {
    /// The one plain sentence.
    pub(crate) sentence: String,
    /// What limits it: how sure, who else is as good, who failed.
    pub(crate) notes: Vec<String>,
    /// A word or two for the badge beside it: "sure", "likely, but see the warnings", "mixed",
    /// "not distinguishable", "few blocks", "no verdict", "no comparison".
    pub(crate) confidence: &'static str,
}

/// Judges one workload.
pub(crate) fn of(workload: &Workload<'_>, results: &Results) -> Conclusion {
    let measured = Measured {
        blocks: workload
            .blocks()
            .unwrap_or(results.settings.speed_blocks_max as usize),
        needed: workload.blocks_needed,
        has_twin: results.settings.baseline_twin.is_some(),
        is_noisy: results.warnings.iter().any(|warning| is_of_noise(warning)),
    };
    let mut verdict = match (workload.baseline_row(), workload.ranking(false).as_slice()) {
        (_, []) => nothing_finished(workload),
        (None, ranking) => no_baseline(workload, ranking),
        (Some(baseline), [_]) => Conclusion {
            sentence: format!(
                "Only the baseline, {}, was measured{}: there is nothing to compare it with.",
                baseline.name(),
                of_workload(workload)
            ),
            notes: Vec::new(),
            confidence: "no comparison",
        },
        (Some(baseline), ranking) => compared(workload, baseline, ranking, &measured),
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

fn nothing_finished(workload: &Workload<'_>) -> Conclusion {
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
    Conclusion {
        sentence,
        notes: Vec::new(),
        confidence: "no comparison",
    }
}

fn no_baseline(workload: &Workload<'_>, ranking: &[&Row<'_>]) -> Conclusion {
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
    Conclusion {
        sentence,
        notes: Vec::new(),
        confidence: "no comparison",
    }
}

/// How the times were taken, as far as it limits what may be said.
struct Measured {
    blocks: usize,
    /// Blocks that a verdict needs.
    needed: usize,
    /// Whether the baseline was measured twice. Without, no number of blocks gives a verdict; criterion
    /// measures so, one subject after the other.
    has_twin: bool,
    /// Whether a warning of the run names a source of noise.
    is_noisy: bool,
}

impl Measured {
    fn is_few(&self) -> bool {
        self.blocks < BLOCKS_FOR_INTERVAL
    }

    /// That there are too few blocks for a verdict, if so and if more could give one.
    fn lacking(&self) -> Option<String> {
        let (blocks, needed) = (self.blocks, self.needed);
        (self.has_twin && blocks < needed)
            .then(|| format!("too few blocks for a verdict: {blocks} of {needed}"))
    }
}

/// Warnings are plain sentences in the results; these words are in those about noise.
fn is_of_noise(warning: &str) -> bool {
    let warning = warning.to_lowercase();
    ["load average", "noisy", "intervals are rough"]
        .iter()
        .any(|words| warning.contains(words))
}

fn compared(
    workload: &Workload<'_>,
    baseline: &Row<'_>,
    ranking: &[&Row<'_>],
    measured: &Measured,
) -> Conclusion {
    let rivals: Vec<&Row<'_>> = ranking
        .iter()
        .copied()
        .filter(|row| !row.is_baseline)
        .collect();
    let fastest = rivals.iter().copied().find(|row| row.seems_faster());
    let mut notes = vec![notes::how_sure(fastest, workload, measured)];
    let sentence = match fastest {
        Some(best) => {
            notes.extend(notes::rivals_as_good(workload, best, &rivals));
            notes.extend(notes::without_own(best, baseline, &rivals));
            faster_sentence(workload, baseline, best)
        }
        None if is_unjudged(&rivals) => unjudged_sentence(workload, baseline, &rivals, measured),
        None => none_faster_sentence(workload, baseline, &rivals),
    };
    notes.extend(notes::used_heap(baseline, ranking, fastest));
    notes.extend(fastest.and_then(|best| notes::lighter_and_faster(best, baseline, &rivals)));
    notes.extend(notes::leanest(fastest.unwrap_or(baseline), ranking));
    Conclusion {
        sentence,
        notes,
        confidence: confidence(fastest.is_some(), &rivals, measured),
    }
}

fn confidence(is_any_faster: bool, rivals: &[&Row<'_>], measured: &Measured) -> &'static str {
    let slower = rivals
        .iter()
        .filter(|row| row.standing() == Verdict::Slower)
        .count();
    let is_settled = is_any_faster || slower == rivals.len();
    match (
        measured.is_few() || is_unjudged(rivals),
        is_settled,
        measured.is_noisy,
    ) {
        (true, ..) if is_unjudged(rivals) && measured.lacking().is_none() => "no verdict",
        (true, ..) => "few blocks",
        (false, true, true) => "likely, but see the warnings",
        (false, true, false) => "sure",
        (false, false, _) if 2 * slower > rivals.len() => "mixed",
        (false, false, _) => "not distinguishable",
    }
}

fn faster_sentence(workload: &Workload<'_>, baseline: &Row<'_>, best: &Row<'_>) -> String {
    let ratio = best
        .summary
        .ratio_to_baseline
        .expect("a faster row has a ratio");
    let claim = if best.has_intervals { "is" } else { "looks" };
    format!(
        "On {}, {} {claim} faster{}: it takes {} {} ({}){}.",
        workload.name,
        best.name(),
        heap_words(workload),
        time_words(ratio.median),
        baseline.name(),
        certainty_words(best, &ratio),
        memory_clause(best, baseline),
    )
}

/// Whose time it is: the replay's first, or the whole program's.
fn heap_words(workload: &Workload<'_>) -> &'static str {
    if workload.program().is_some() {
        " (CPU time of the whole program)"
    } else {
        " on a fresh heap"
    }
}

/// Whether there are intervals and not one verdict.
fn is_unjudged(rivals: &[&Row<'_>]) -> bool {
    let has_interval =
        |row: &&Row<'_>| row.has_intervals && row.summary.ratio_to_baseline.is_some();
    rivals.iter().any(has_interval) && rivals.iter().all(|row| row.standing() == Verdict::Unknown)
}

/// Why there is no verdict, and what the nearest interval shows all the same.
fn unjudged_sentence(
    workload: &Workload<'_>,
    baseline: &Row<'_>,
    rivals: &[&Row<'_>],
    measured: &Measured,
) -> String {
    let why = match measured.lacking() {
        Some(words) => words,
        None if !measured.has_twin => {
            "no verdict, since the baseline was measured once and so the noise is unknown"
                .to_owned()
        }
        None => "no verdict, since there is no noise floor".to_owned(),
    };
    let nearest = rivals
        .iter()
        .find_map(|row| Some((*row, row.summary.ratio_to_baseline?)));
    let seen = nearest.map_or(String::new(), |(row, ratio)| {
        format!(
            "; unjudged, {} {}{} ({})",
            row.name(),
            takes_words(row, &ratio, row.standing(), baseline.name()),
            heap_words(workload),
            certainty_words(row, &ratio)
        )
    });
    format!("On {}, {why}{seen}.", workload.name)
}

/// One short sentence: the nearest rival with its ratio, and how many others there are.
fn none_faster_sentence(
    workload: &Workload<'_>,
    baseline: &Row<'_>,
    rivals: &[&Row<'_>],
) -> String {
    let start = format!(
        "On {}, no allocator {} faster than {}{}",
        workload.name,
        if rivals.iter().any(|row| row.has_intervals) {
            "was shown to be"
        } else {
            "looks"
        },
        baseline.name(),
        heap_words(workload)
    );
    let nearest = rivals
        .iter()
        .find_map(|row| Some((*row, row.summary.ratio_to_baseline?)));
    let Some((nearest, ratio)) = nearest else {
        return format!("{start}: there are no ratios to it.");
    };
    let certainty = certainty_words(nearest, &ratio);
    let mut parts = vec![if !shows_difference(nearest, &ratio, nearest.standing()) {
        format!(
            "the nearest, {}, is not distinguishable from it ({certainty})",
            nearest.name()
        )
    } else {
        format!(
            "the nearest, {}, takes {} ({certainty})",
            nearest.name(),
            own_time_words(ratio.median)
        )
    }];
    let others = rivals.iter().filter(|row| row.name() != nearest.name());
    let (mut same, mut slower, mut unjudged, mut unknown) = (0u64, 0u64, 0u64, 0u64);
    for row in others {
        match (row.standing(), row.summary.ratio_to_baseline) {
            (Verdict::NotDistinguishable, _) => same += 1,
            (Verdict::Slower, _) => slower += 1,
            (_, Some(ratio)) if !row.has_intervals && ratio.median > 1.0 => slower += 1,
            (_, Some(_)) if row.has_intervals => unjudged += 1,
            _ => unknown += 1,
        }
    }
    let is_are = |count: u64| {
        format!(
            "{} {}",
            format::plural(count, "other", "others"),
            if count == 1 { "is" } else { "are" }
        )
    };
    if same > 0 {
        parts.push(format!("{} not distinguishable either", is_are(same)));
    }
    if slower > 0 {
        parts.push(format!("{} slower", is_are(slower)));
    }
    if unjudged > 0 {
        parts.push(format!("{} without a verdict", is_are(unjudged)));
    }
    if unknown > 0 {
        parts.push(format!("{} not compared", is_are(unknown)));
    }
    if parts.len() > 1 {
        parts.push("see the table".to_owned());
    }
    format!("{start}: {}.", parts.join("; "))
}

fn memory_clause(row: &Row<'_>, baseline: &Row<'_>) -> String {
    let (Some(ratio), Some(peak), Some(base)) = (
        row.rss_ratio(),
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

/// One sentence per subject over many workloads: on how many it was faster, slower, or neither.
pub(crate) fn tally(workloads: &[Workload<'_>], subject: &str) -> Option<String> {
    let (mut faster, mut slower, mut same) = (0u64, 0u64, 0u64);
    let (mut failed, mut unknown) = (0u64, 0u64);
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
            (true, Verdict::Faster) => faster += 1,
            (true, Verdict::Slower) => slower += 1,
            (true, Verdict::NotDistinguishable) => same += 1,
            (true, Verdict::Unknown) => unknown += 1,
        }
    }
    let mut parts = vec![format!("faster on {faster}"), format!("slower on {slower}")];
    if same > 0 {
        parts.push(format!("not distinguishable on {same}"));
    }
    if unknown > 0 {
        parts.push(format!("without a verdict on {unknown}"));
    }
    if failed > 0 {
        parts.push(format!("without a result on {failed}"));
    }
    Some(format::list(&parts))
}
