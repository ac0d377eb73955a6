//! How far the numbers can be trusted, in sentences: the noise floor, what ended the measurement,
//! outliers, corrections. The same in the terminal and on the page.

#![forbid(unsafe_code)]

use super::facts::Fact;
use super::format;
use super::model::{Report, Row, Workload};
use crate::measure::results::{Estimate, Stop, StopReason, Verdict};

/// A ratio with its interval: `0.998 (0.991–1.006)`.
pub(crate) fn ratio_with_interval(ratio: &Estimate) -> String {
    format!(
        "{} ({}–{})",
        format::ratio(ratio.median),
        format::ratio(ratio.low),
        format::ratio(ratio.high)
    )
}

/// A verdict as it stands in a table; empty where nothing was judged.
pub(crate) fn verdict_words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Faster => "faster",
        Verdict::Slower => "slower",
        Verdict::NotDistinguishable => "not distinguishable",
        Verdict::Unknown => "",
    }
}

/// The same for a narrow column.
pub(crate) fn verdict_short(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::NotDistinguishable => "n.d.",
        Verdict::Unknown => format::ABSENT,
        other => verdict_words(other),
    }
}

/// What the baseline differed from itself by, or why that is not known.
pub(crate) fn noise_words(workload: &Workload<'_>) -> String {
    let twin = match (&workload.twin, workload.noise()) {
        (_, Some(noise)) => {
            return format!("the same allocator twice: {}", ratio_with_interval(&noise));
        }
        (Some(twin), None) => twin,
        (None, None) => {
            return "not measured: the baseline did not run a second time".to_owned();
        }
    };
    match (twin.failure(), twin.summary.ratio_to_baseline) {
        (Some(failure), _) => format!("none: the baseline's second run failed ({failure})"),
        (None, Some(ratio)) => format!(
            "the same allocator twice: {}; {}",
            format::ratio(ratio.median),
            super::words::too_few_words(twin.speed_samples)
        ),
        (None, None) => "none: the baseline's second run has no ratio".to_owned(),
    }
}

/// What ended a measurement, and what would narrow its intervals.
pub(crate) fn stop_words(stop: &Stop) -> String {
    let blocks = format::plural(stop.blocks.into(), "block", "blocks");
    let width = stop.widest_half_width.filter(|width| width.is_finite());
    let widest = width.map_or(String::new(), |width| {
        format!("; the widest interval is ±{}", format::percent(width))
    });
    match stop.reason {
        StopReason::Precision => format!("precision reached after {blocks}{widest}"),
        StopReason::Budget => format!(
            "time budget used after {blocks}{widest}. For narrower ones give it more time: --budget 10m"
        ),
        StopReason::Blocks => format!("{blocks}, as asked for{widest}"),
        StopReason::NothingToCompare => {
            format!("no two subjects were left to compare after {blocks}")
        }
    }
}

/// Samples far from the others, if there are any.
pub(crate) fn outlier_words(workload: &Workload<'_>) -> Option<String> {
    let all: u64 = rows(workload).map(|row| row.speed_samples as u64).sum();
    let outliers: u64 = rows(workload)
        .map(|row| u64::from(row.summary.outliers))
        .sum();
    (all > 0).then(|| {
        if outliers == 0 {
            format!("none among {}", format::plural(all, "sample", "samples"))
        } else {
            format!(
                "{} of {}; all are kept, and count",
                format::count(outliers),
                format::plural(all, "sample", "samples")
            )
        }
    })
}

fn rows<'w, 'a>(workload: &'w Workload<'a>) -> impl Iterator<Item = &'w Row<'a>> {
    workload.rows.iter().filter(|row| row.is_ok())
}

/// Everything of one workload, by name.
pub(crate) fn facts(workload: &Workload<'_>) -> Vec<Fact> {
    let mut facts = vec![Fact::new("Noise floor", noise_words(workload))];
    for (run, stop) in &workload.stops {
        let name = if workload.stops.len() > 1 {
            format!("What ended it, {}", run.started)
        } else {
            "What ended it".to_owned()
        };
        facts.push(Fact::new(name, stop_words(stop)));
    }
    facts.extend(runs_facts(workload));
    facts.extend(outlier_words(workload).map(|words| Fact::new("Outliers", words)));
    let share = rows(workload)
        .filter(|row| !row.is_floor)
        .filter_map(|row| Some((row.summary.harness_share?, row.name())))
        .filter(|(share, _)| share.is_finite())
        .max_by(|a, b| a.0.total_cmp(&b.0));
    if let Some((share, name)) = share {
        facts.push(Fact::new(
            "Largest harness share",
            format!("{} ({name})", format::share(share)),
        ));
    }
    facts
}

/// What each run found, if several measured it.
fn runs_facts(workload: &Workload<'_>) -> Vec<Fact> {
    let mut facts = Vec::new();
    for row in rows(workload).filter(|row| !row.is_baseline && !row.is_floor) {
        let each: Vec<String> = row
            .summary
            .by_run
            .iter()
            .filter_map(|one| {
                let ratio = ratio_with_interval(&one.ratio_to_baseline?);
                let blocks = format::plural(one.blocks.into(), "block", "blocks");
                let time = one.ns_per_operation.map_or(String::new(), |time| {
                    format!(", {} per operation", format::time_ns(time.median))
                });
                let run = workload.run_name(one.run);
                Some(format!("{ratio} in {blocks}{time} ({run})"))
            })
            .collect();
        if !each.is_empty() {
            facts.push(Fact::new(
                format!("Run by run, {}", row.name()),
                each.join("; "),
            ));
        }
    }
    if let Some(words) = several_runs(workload) {
        facts.insert(0, Fact::new("Several runs", words));
    }
    facts
}

/// What several runs share and what not; `None` if there was one.
pub(crate) fn several_runs(workload: &Workload<'_>) -> Option<String> {
    let first = rows(workload).find_map(|row| row.summary.by_run.first())?;
    Some(format!(
        "ratios are the geometric mean of the runs' medians; times and memory are those of the first run \
         alone ({})",
        workload.run_name(first.run)
    ))
}

/// How verdicts were reached, for the whole file.
pub(crate) fn correction_words(report: &Report<'_>) -> String {
    let judged = report
        .workloads
        .iter()
        .flat_map(|workload| &workload.rows)
        .filter(|row| row.is_ok() && !row.is_baseline)
        .flat_map(|row| [row.summary.verdict, row.summary.verdict_used_heap])
        .filter(|verdict| *verdict != Verdict::Unknown)
        .count();
    format!(
        "A difference is called one only if it holds after correction for all comparisons of this \
         report ({} with a verdict) and is larger than the noise floor. Every sample counts; none is dropped.",
        format::count(judged as u64)
    )
}
