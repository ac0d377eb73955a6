//! The table of results of a workload, and the order of its rows.

#![forbid(unsafe_code)]

use serde::Serialize;

use super::table::{Cell, written};
use crate::measure::results::{Estimate, Verdict};
use crate::report::format;
use crate::report::model::{Row, Workload, reason_words, status_word};
use crate::report::{sure, words};

#[derive(Serialize)]
pub(super) struct RowView {
    pub(super) name: String,
    pub(super) tags: Vec<&'static str>,
    pub(super) ok: bool,
    pub(super) status: &'static str,
    pub(super) reason: String,
    pub(super) cells: Vec<Cell>,
}

#[derive(Serialize)]
pub(super) struct Ranked {
    pub(super) place: usize,
    pub(super) name: String,
    pub(super) own: bool,
    pub(super) ratio: String,
    pub(super) memory: String,
}

const TIME: &str = "Time per operation";
const USED: &str = "Ratio, used heap";
const HARNESS_SHARE: &str = "Harness share";
const FRAGMENTATION: &str = "Fragmentation";
const INSIDE: &str = "Inside blocks";
const RETAINED: &str = "Retained";

/// Headings of the numeric columns, with the short explanation under the table's own words.
const HEADINGS: [&str; 8] = [
    TIME,
    "Ratio to baseline",
    USED,
    HARNESS_SHARE,
    "Peak RSS",
    FRAGMENTATION,
    INSIDE,
    RETAINED,
];

/// The headings that have something to say about this workload.
pub(super) fn headings(workload: &Workload<'_>) -> Vec<&'static str> {
    let shown = HEADINGS
        .into_iter()
        .filter(|heading| is_shown(heading, workload));
    shown
        .map(|heading| match heading {
            TIME if workload.program().is_some() => "CPU time",
            heading => heading,
        })
        .collect()
}

/// Where "null" was not among the subjects, its column would be empty.
fn is_shown(heading: &str, workload: &Workload<'_>) -> bool {
    match heading {
        HARNESS_SHARE => workload.has_harness_share(),
        USED | FRAGMENTATION | INSIDE | RETAINED => workload.program().is_none(),
        _ => true,
    }
}

/// What the table under it cannot say in its cells.
pub(super) fn footnotes(workload: &Workload<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let finished = || workload.rows.iter().filter(|row| row.is_ok());
    if finished().next().is_some() && !workload.has_intervals() {
        let blocks = workload.blocks().unwrap_or(0);
        notes.push(format!("Medians of {}.", words::too_few_words(blocks)));
    }
    if finished().next().is_some() && !workload.has_harness_share() {
        notes.push(
            "No harness share: “null”, which tells what the harness itself costs, was not measured."
                .to_owned(),
        );
    }
    let has_all = |row: &Row<'_>| {
        row.summary
            .harness_share
            .is_some_and(|share| share >= 1.0 && share.is_finite())
    };
    if finished().filter(|row| row.name() != "null").any(has_all) {
        notes.push(
            "Harness share “all of it”: the row took no longer than “null” did, so its time tells nothing \
             about the allocator."
                .to_owned(),
        );
    }
    notes
}

pub(super) fn row_views(workload: &Workload<'_>) -> Vec<RowView> {
    let best = |value: fn(&Row<'_>) -> Option<f64>| -> Option<f64> {
        let rows = workload.rows.iter().filter(|row| row.is_candidate());
        let values: Vec<f64> = rows
            .filter_map(value)
            .filter(|value| value.is_finite())
            .collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        // One value alone, or the same everywhere, is not the best of anything.
        values.iter().any(|&value| value > least).then_some(least)
    };
    let bests: Vec<Option<f64>> = COLUMNS.iter().map(|column| best(column.value)).collect();
    let rows = workload.rows.iter().map(|row| {
        let columns = COLUMNS
            .iter()
            .zip(&bests)
            .zip(HEADINGS)
            .filter(|(_, heading)| is_shown(heading, workload));
        let cells = columns.map(|((column, &best), _)| {
            let mut cell = (column.cell)(row);
            cell.best = cell.text != format::ABSENT
                && column.has_best
                && !row.is_floor
                && best.is_some()
                && (column.value)(row) == best;
            cell
        });
        RowView {
            name: row.name().to_owned(),
            tags: tags(row),
            ok: row.is_ok(),
            status: status_word(row.summary.status),
            reason: row
                .summary
                .reason
                .as_deref()
                .map_or(String::new(), reason_words),
            cells: cells.collect(),
        }
    });
    rows.collect()
}

/// A numeric column: what it shows, and the value whose smallest is best.
struct Column {
    value: fn(&Row<'_>) -> Option<f64>,
    cell: fn(&Row<'_>) -> Cell,
    has_best: bool,
}

const COLUMNS: [Column; HEADINGS.len()] = [
    Column {
        value: |row| row.summary.ns_per_operation.map(|time| time.median),
        cell: |row| estimated(row, row.summary.ns_per_operation, format::time_ns),
        has_best: true,
    },
    Column {
        value: |row| row.summary.ratio_to_baseline.map(|ratio| ratio.median),
        cell: |row| ratio_cell(row, row.summary.ratio_to_baseline, row.summary.verdict),
        has_best: true,
    },
    Column {
        value: |row| {
            row.summary
                .ratio_to_baseline_used_heap
                .map(|ratio| ratio.median)
        },
        cell: |row| {
            ratio_cell(
                row,
                row.summary.ratio_to_baseline_used_heap,
                row.summary.verdict_used_heap,
            )
        },
        has_best: true,
    },
    Column {
        value: |row| row.summary.harness_share,
        cell: |row| plain(row.summary.harness_share, format::share),
        has_best: false,
    },
    Column {
        value: |row| row.summary.rss_peak_bytes.map(|bytes| bytes as f64),
        cell: |row| {
            let mut cell = written(row.rss_words(row.summary.rss_peak_bytes));
            if let Some(ratio) = row.rss_ratio().filter(|_| !row.is_baseline) {
                cell.detail = format!("{}× baseline", format::ratio(ratio));
            }
            cell
        },
        has_best: true,
    },
    Column {
        value: |row| row.fragmentation(),
        cell: |row| {
            let mut cell = plain(row.fragmentation(), format::fragmentation);
            let mean = row.summary.fragmentation_time_weighted;
            if let Some(mean) = mean.filter(|_| row.fragmentation().is_some()) {
                cell.detail = format!("{} on average", format::fragmentation(mean));
            }
            cell
        },
        has_best: true,
    },
    Column {
        value: |row| row.summary.internal_fragmentation,
        cell: |row| plain(row.summary.internal_fragmentation, format::ratio),
        has_best: true,
    },
    Column {
        value: |row| row.summary.rss_retained_bytes.map(|bytes| bytes as f64),
        cell: |row| written(row.rss_words(row.summary.rss_retained_bytes)),
        has_best: true,
    },
];

fn plain(value: Option<f64>, show: fn(f64) -> String) -> Cell {
    Cell {
        text: value.map_or(format::ABSENT.to_owned(), show),
        ..Cell::default()
    }
}

fn estimated(row: &Row<'_>, value: Option<Estimate>, show: fn(f64) -> String) -> Cell {
    match value {
        Some(value) => Cell {
            text: show(value.median),
            detail: if row.has_intervals {
                interval(&show(value.low), &show(value.high))
            } else {
                String::new()
            },
            ..Cell::default()
        },
        None => plain(None, show),
    }
}

/// A ratio with its interval and its verdict; the baseline has none.
fn ratio_cell(row: &Row<'_>, ratio: Option<Estimate>, verdict: Verdict) -> Cell {
    let mut cell = estimated(row, ratio.filter(|_| !row.is_baseline), format::ratio);
    if !row.is_baseline && !row.is_floor && ratio.is_some() {
        cell.verdict = sure::verdict_words(verdict);
    }
    cell
}

/// Both ends, the unit once if it is the same: `16.2 to 16.6 ns`.
pub(super) fn interval(low: &str, high: &str) -> String {
    match (low.split_once(' '), high.split_once(' ')) {
        (Some((number, unit)), Some((_, other))) if unit == other => format!("{number} to {high}"),
        _ => format!("{low} to {high}"),
    }
}

fn tags(row: &Row<'_>) -> Vec<&'static str> {
    let mut tags = Vec::new();
    if row.is_baseline {
        tags.push("baseline");
    }
    if row.is_floor {
        tags.push("floor");
    }
    if row.is_own {
        tags.push("ours");
    }
    tags
}

/// Places by median ratio; a row that is not told apart from the first of the place before shares it.
pub(super) fn ranking(workload: &Workload<'_>, without_own: bool) -> Vec<Ranked> {
    let mut ranked: Vec<Ranked> = Vec::new();
    let mut leader: Option<&Row<'_>> = None;
    for (index, row) in workload.ranking(without_own).into_iter().enumerate() {
        let is_tied =
            row.has_intervals && leader.is_some_and(|leader| !workload.is_told_apart(leader, row));
        let place = match ranked.last() {
            Some(last) if is_tied => last.place,
            _ => {
                leader = Some(row);
                index + 1
            }
        };
        ranked.push(Ranked {
            place,
            name: row.name().to_owned(),
            own: row.is_own,
            ratio: match (
                row.is_baseline,
                row.summary.ratio_to_baseline,
                row.summary.ns_per_operation,
            ) {
                (true, ..) => "1".to_owned(),
                (_, Some(ratio), _) => format::ratio(ratio.median),
                (_, None, Some(time)) => format::time_ns(time.median),
                _ => format::ABSENT.to_owned(),
            },
            memory: row.rss_words(row.summary.rss_peak_bytes),
        });
    }
    ranked
}
