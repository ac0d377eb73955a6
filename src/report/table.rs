//! The results as text: for a terminal and as Markdown. Below it: CSV, and text of a known width.

#![forbid(unsafe_code)]

mod csv;
pub(crate) mod text;

pub use csv::csv;

use super::format;
use super::latency;
use super::model::{Report, Row, Workload, status_word};
use super::sure;
use super::verdict;
use crate::measure::results::{Estimate, Results, Verdict};
use text::{WIDTH_MIN, grid, markdown_cell, wrap};

/// The results for a terminal, no line wider than `width` columns (but at least 40 are used).
/// Columns that do not fit are left out, from the right; reasons and sentences are wrapped.
pub fn render(results: &Results, width: usize) -> String {
    let width = width.max(WIDTH_MIN);
    let report = Report::of(results);
    let mut lines = Vec::new();
    for workload in &report.workloads {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        workload_lines(workload, results, width, &mut lines);
    }
    if report.workloads.is_empty() {
        lines.push("Nothing was measured.".to_owned());
    }
    for warning in &results.warnings {
        lines.push(String::new());
        lines.extend(wrap(&format!("warning: {warning}"), width, "  "));
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

fn workload_lines(
    workload: &Workload<'_>,
    results: &Results,
    width: usize,
    lines: &mut Vec<String>,
) {
    lines.extend(wrap(&heading(workload), width, "  "));
    lines.push(String::new());
    table_lines(workload, width, lines);
    latency_lines(workload, results, width, lines);
    lines.push(String::new());
    let verdict = verdict::of(workload, results);
    lines.extend(wrap(&verdict.sentence, width, ""));
    for note in &verdict.notes {
        lines.extend(wrap(note, width, ""));
    }
    for fact in sure_lines(workload) {
        lines.extend(wrap(&fact, width, "  "));
    }
}

fn heading(workload: &Workload<'_>) -> String {
    let mut heading = workload.name.to_owned();
    if let Some(profile) = workload.record.and_then(|record| record.profile.as_ref()) {
        heading.push_str(&format!(
            ": {}, {} live at the peak",
            format::plural(profile.counts.operations(), "operation", "operations"),
            format::bytes(profile.live_bytes_peak as f64)
        ));
    }
    if let Some(program) = workload.program() {
        heading.push_str(&format!(": {}", super::facts::command(program)));
    }
    if let Some(words) = super::threads::phrase(workload) {
        heading.push_str(&format!("; {words}"));
    }
    heading
}

/// How sure: what stands below every table.
fn sure_lines(workload: &Workload<'_>) -> Vec<String> {
    let mut lines = vec![format!("Noise floor: {}.", sure::noise_words(workload))];
    lines.extend(sure::several_runs(workload).map(|words| format!("Several runs: {words}.")));
    for (_, stop) in &workload.stops {
        lines.push(format!("What ended it: {}.", sure::stop_words(stop)));
    }
    lines.extend(super::threads::sentences(workload));
    let has_undecided = workload
        .rows
        .iter()
        .any(|row| row.standing() == Verdict::NotDistinguishable && !row.is_baseline);
    if has_undecided {
        lines.push("n.d.: not distinguishable from the baseline by this run.".to_owned());
    }
    lines
}

/// One column after the name: its heading, its cell, and how wide it is at least.
struct Column {
    heading: fn(&Workload<'_>) -> &'static str,
    cell: fn(&Row<'_>) -> String,
}

/// The column that is left out where "null" was not among the subjects.
const HARNESS_SHARE: &str = "floor";

/// A column: its heading, and a row's text in it.
type NamedCell = (&'static str, fn(&Row<'_>) -> String);

/// The columns that have something to say about this workload.
fn columns(workload: &Workload<'_>) -> Vec<NamedCell> {
    COLUMNS
        .iter()
        .map(|column| ((column.heading)(workload), column.cell))
        .filter(|&(heading, _)| heading != HARNESS_SHARE || workload.has_harness_share())
        .filter(|&(_, cell)| {
            let mut finished = workload.rows.iter().filter(|row| row.is_ok());
            workload.program().is_none() || finished.any(|row| cell(row) != format::ABSENT)
        })
        .collect()
}

const COLUMNS: [Column; 8] = [
    Column {
        heading: |workload| {
            let is_threaded = workload
                .record
                .is_some_and(|record| record.threaded.is_some());
            match (workload.program().is_some(), is_threaded) {
                (true, _) => "CPU time",
                (false, true) => "CPU/op",
                (false, false) => "time/op",
            }
        },
        cell: |row| estimate_median(row.summary.ns_per_operation, format::time_ns),
    },
    Column {
        heading: |workload| {
            if workload.has_intervals() {
                "ratio, 95 % interval"
            } else {
                "ratio"
            }
        },
        cell: ratio_cell,
    },
    Column {
        heading: |_| "verdict",
        cell: |row| {
            if row.is_baseline || row.is_floor {
                return String::new();
            }
            sure::verdict_short(row.standing()).to_owned()
        },
    },
    Column {
        heading: |_| HARNESS_SHARE,
        cell: |row| {
            row.summary
                .harness_share
                .map_or(format::ABSENT.to_owned(), format::share)
        },
    },
    Column {
        heading: |_| "peak RSS",
        cell: |row| row.rss_words(row.summary.rss_peak_bytes),
    },
    Column {
        heading: |_| "frag",
        cell: |row| {
            row.fragmentation()
                .map_or(format::ABSENT.to_owned(), format::fragmentation)
        },
    },
    Column {
        heading: |_| "retained",
        cell: |row| row.rss_words(row.summary.rss_retained_bytes),
    },
    Column {
        heading: |_| "wall",
        cell: |row| estimate_median(row.summary.wall_ns, format::time_ns),
    },
];

fn estimate_median(estimate: Option<Estimate>, show: fn(f64) -> String) -> String {
    estimate.map_or(format::ABSENT.to_owned(), |estimate| show(estimate.median))
}

fn ratio_cell(row: &Row<'_>) -> String {
    if row.is_baseline {
        return "baseline".to_owned();
    }
    row.summary
        .ratio_to_baseline
        .map_or(format::ABSENT.to_owned(), |ratio| {
            if row.has_intervals {
                interval(&ratio)
            } else {
                format::ratio(ratio.median)
            }
        })
}

/// `0.812 [0.794, 0.838]`
pub(crate) fn interval(ratio: &Estimate) -> String {
    format!(
        "{} [{}, {}]",
        format::ratio(ratio.median),
        format::ratio(ratio.low),
        format::ratio(ratio.high)
    )
}

fn table_lines(workload: &Workload<'_>, width: usize, lines: &mut Vec<String>) {
    let columns = columns(workload);
    let rows: Vec<(String, Vec<String>)> = workload
        .rows
        .iter()
        .filter(|row| row.is_ok())
        .map(|row| {
            (
                marked_name(row),
                columns.iter().map(|(_, cell)| cell(row)).collect(),
            )
        })
        .collect();
    let headings: Vec<String> = columns
        .iter()
        .map(|(heading, _)| (*heading).to_owned())
        .collect();
    lines.extend(grid("subject", &headings, &rows, width));
    if !rows.is_empty() && !workload.has_harness_share() && workload.program().is_none() {
        lines.extend(wrap(
            "No floor column: null, which tells what the harness itself costs, was not measured.",
            width,
            "  ",
        ));
    }
    for row in workload.rows.iter().filter(|row| !row.is_ok()) {
        let failure = row.failure().unwrap_or_default();
        lines.extend(wrap(
            &format!("{}  {failure}", marked_name(row)),
            width,
            "    ",
        ));
    }
    if workload.rows.is_empty() {
        lines.push("no subject was measured".to_owned());
    }
}

/// Kinds of operation that a terminal has room for.
const OPERATIONS_MAX: usize = 3;

/// The tail of the commonest kinds of operation, if latencies were measured; the page has them all.
fn latency_lines(
    workload: &Workload<'_>,
    results: &Results,
    width: usize,
    lines: &mut Vec<String>,
) {
    if let Some(reason) = latency::absent(workload, results) {
        lines.push(String::new());
        lines.extend(wrap(reason, width, "  "));
    }
    let mut operations = latency::operations(workload);
    operations.truncate(OPERATIONS_MAX);
    if operations.is_empty() {
        return;
    }
    let mut headings = Vec::new();
    for operation in &operations {
        let whose = if operation.other_thread {
            "other’s "
        } else {
            ""
        };
        headings.push(format!("{whose}{} p99", operation.name));
        headings.push("max".to_owned());
    }
    let step_ns = latency::step_ns(workload);
    let cells = |row: &Row<'_>| {
        let figures = operations.iter().flat_map(|operation| {
            let known = latency::row(row, operation);
            [
                known.and_then(|latency| latency.p99_ns),
                known.map(|latency| latency.max_ns),
            ]
        });
        figures
            .map(|ns| latency::time_or_absent(ns, step_ns))
            .collect()
    };
    let measured = |row: &&Row<'_>| !row.summary.latency.is_empty();
    let rows: Vec<(String, Vec<String>)> = workload
        .rows
        .iter()
        .filter(measured)
        .map(|row| (marked_name(row), cells(row)))
        .collect();
    lines.push(String::new());
    lines.extend(grid("latency", &headings, &rows, width));
}

fn marked_name(row: &Row<'_>) -> String {
    let name = format::printable(row.name());
    if row.is_floor {
        format!("({name})")
    } else {
        name
    }
}

/// The summary as one Markdown table per workload.
pub fn markdown(results: &Results) -> String {
    let report = Report::of(results);
    let mut text = String::new();
    for workload in &report.workloads {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("### {}\n\n", markdown_cell(workload.name)));
        text.push_str(&format!(
            "{}\n\n",
            markdown_cell(&verdict::of(workload, results).sentence)
        ));
        text.push_str("| subject | status |");
        for column in &COLUMNS {
            text.push_str(&format!(" {} |", (column.heading)(workload)));
        }
        text.push_str("\n|---|---|");
        text.push_str(&"--:|".repeat(COLUMNS.len()));
        text.push('\n');
        for row in &workload.rows {
            let status = row
                .failure()
                .unwrap_or_else(|| status_word(row.summary.status).to_owned());
            text.push_str(&format!(
                "| {} | {} |",
                markdown_cell(&marked_name(row)),
                markdown_cell(&status)
            ));
            for column in &COLUMNS {
                let cell = (column.cell)(row);
                text.push_str(&format!(" {} |", markdown_cell(&cell)));
            }
            text.push('\n');
        }
        text.push('\n');
        for line in sure_lines(workload) {
            text.push_str(&format!("- {}\n", markdown_cell(&line)));
        }
    }
    text
}
