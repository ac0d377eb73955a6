//! The table over all workloads, and the ranking over them.

#![forbid(unsafe_code)]

use serde::Serialize;

use super::results::interval;
use super::{ChartView, chart_view};
use crate::measure::rank::{Ranking, TimeInterval};
use crate::measure::results::{Estimate, Verdict};
use crate::report::charts::Chart;
use crate::report::facts::Fact;
use crate::report::format;
use crate::report::model::{Report, Workload, status_word};
use crate::report::{ranked, verdict, words};

#[derive(Serialize)]
pub(super) struct OverviewCell {
    text: String,
    detail: String,
    class: &'static str,
}

#[derive(Serialize)]
pub(super) struct OverviewRow {
    name: String,
    slug: String,
    cells: Vec<OverviewCell>,
}

#[derive(Serialize)]
pub(super) struct Overview {
    subjects: Vec<String>,
    rows: Vec<OverviewRow>,
    tallies: Vec<Fact>,
    /// Who took the least time over the workloads, and what it costs; empty without a ranking.
    headline: String,
    chart: ChartView,
    rankings: Vec<RankingView>,
    front: Option<ChartView>,
}

/// A ranking with what must be said about it.
#[derive(Serialize)]
struct RankingView {
    title: &'static str,
    basis: String,
    rows: Vec<RankedRow>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct RankedRow {
    place: String,
    own: bool,
    has_failed: bool,
    name: String,
    time: String,
    interval: String,
    time_to_best: String,
    rss: String,
    rss_to_best: String,
    front: &'static str,
}

pub(super) fn overview(
    report: &Report<'_>,
    chart: &Chart,
    rankings: &[Ranking],
    front: Option<&Chart>,
) -> Overview {
    let subjects = report.subject_names();
    let rows = report.workloads.iter().map(|workload| OverviewRow {
        name: workload.name.to_owned(),
        slug: workload.slug.clone(),
        cells: subjects
            .iter()
            .map(|&subject| overview_cell(workload, subject))
            .collect(),
    });
    let tallies = subjects.iter().filter_map(|&subject| {
        Some(Fact::new(
            subject,
            verdict::tally(&report.workloads, subject)?,
        ))
    });
    Overview {
        rows: rows.collect(),
        tallies: tallies.collect(),
        subjects: subjects.iter().map(|&subject| subject.to_owned()).collect(),
        headline: headline(&rankings[0]).unwrap_or_default(),
        chart: chart_view(chart),
        rankings: rankings.iter().map(ranking_view).collect(),
        front: front.map(chart_view),
    }
}

/// The first of the ranking in one sentence; `None` if there is none, or it is the baseline.
fn headline(ranking: &Ranking) -> Option<String> {
    let first = ranking.rows.first()?;
    let basis = format!(
        "Over {} of {}",
        ranking.workloads_time.len(),
        format::plural(ranking.workloads as u64, "workload", "workloads")
    );
    if first.subject == ranking.baseline {
        return Some(format!(
            "{basis}, no allocator takes less time on average than {}.",
            ranking.baseline
        ));
    }
    let tied: Vec<&str> = ranking
        .rows
        .iter()
        .skip(1)
        .filter(|row| row.place == first.place || ranking.unplaced.is_some())
        .map(|row| row.subject.as_str())
        .collect();
    let tied = if tied.is_empty() {
        String::new()
    } else {
        format!(" Not told apart from it: {}.", format::list(&tied))
    };
    let memory = match first.rss_to_baseline {
        Some(ratio) if ratio < 0.98 => {
            format!(
                ", with {} less memory at the peak",
                format::percent(1.0 - ratio)
            )
        }
        Some(ratio) if ratio <= 1.02 => ", with about the same memory at the peak".to_owned(),
        Some(ratio) => format!(
            ", but needs {} memory at the peak",
            words::more_words(ratio)
        ),
        None => String::new(),
    };
    let interval = first.time_interval.map_or(String::new(), |ends| {
        let (median, low, high) = (first.time_to_baseline, ends.low, ends.high);
        format!(
            " ({})",
            words::interval_words(&Estimate { median, low, high })
        )
    });
    // The mean of the first may lie below the baseline's by chance alone.
    let spans_one = |ends: TimeInterval| ends.low <= 1.0 && ends.high >= 1.0;
    let takes = if first.time_interval.is_some_and(spans_one) {
        format!(
            "it is not distinguishable from {} in time",
            ranking.baseline
        )
    } else {
        let words = words::time_words(first.time_to_baseline);
        format!("it takes {words} {}", ranking.baseline)
    };
    Some(format!(
        "{basis}, {} {} the fastest on average: {takes}{interval}{memory}.{tied}",
        first.subject,
        if ranking.unplaced.is_some() || first.time_interval.is_some_and(spans_one) {
            "looks"
        } else {
            "is"
        },
    ))
}

fn ranking_view(ranking: &Ranking) -> RankingView {
    let number = |value: Option<f64>| value.map_or(format::ABSENT.to_owned(), format::ratio);
    let rows = ranking.rows.iter().map(|row| {
        let is_baseline = row.subject == ranking.baseline;
        RankedRow {
            place: row
                .place
                .map_or(format::ABSENT.to_owned(), |place| place.to_string()),
            own: row.is_own,
            has_failed: !row.failures.is_empty(),
            name: row.subject.clone(),
            time: if is_baseline {
                "1".to_owned()
            } else {
                format::ratio(row.time_to_baseline)
            },
            interval: match row.time_interval {
                Some(ends) if !is_baseline => {
                    interval(&format::ratio(ends.low), &format::ratio(ends.high))
                }
                _ => String::new(),
            },
            time_to_best: format::ratio(row.time_to_best),
            rss: number(row.rss_to_baseline),
            rss_to_best: number(row.rss_to_best),
            front: match row.is_on_front {
                Some(true) => "yes",
                Some(false) => "no",
                None => format::ABSENT,
            },
        }
    });
    let mut notes = ranked::failures(ranking);
    notes.extend(ranked::front_words(ranking));
    RankingView {
        title: if ranking.without_own {
            "Without ours"
        } else {
            "All allocators"
        },
        basis: format!("{} {}", ranked::basis(ranking), ranked::certainty(ranking)),
        rows: rows.collect(),
        notes,
    }
}

fn overview_cell(workload: &Workload<'_>, subject: &str) -> OverviewCell {
    let Some(row) = workload.rows.iter().find(|row| row.name() == subject) else {
        return OverviewCell {
            text: format::ABSENT.to_owned(),
            detail: String::new(),
            class: "absent",
        };
    };
    if !row.is_ok() {
        let text = status_word(row.summary.status).to_owned();
        return OverviewCell {
            text,
            detail: String::new(),
            class: "failed",
        };
    }
    if row.is_baseline {
        let time = row
            .summary
            .ns_per_operation
            .map_or(String::new(), |time| format::time_ns(time.median));
        return OverviewCell {
            text: "1".to_owned(),
            detail: time,
            class: "baseline",
        };
    }
    let class = match row.standing() {
        _ if row.is_floor => "floor",
        Verdict::Faster => "faster",
        Verdict::Slower => "slower",
        _ => "same",
    };
    match row.summary.ratio_to_baseline {
        Some(ratio) => OverviewCell {
            text: format::ratio(ratio.median),
            detail: if row.has_intervals {
                interval(&format::ratio(ratio.low), &format::ratio(ratio.high))
            } else {
                String::new()
            },
            class,
        },
        None => OverviewCell {
            text: format::ABSENT.to_owned(),
            detail: String::new(),
            class: "absent",
        },
    }
}
