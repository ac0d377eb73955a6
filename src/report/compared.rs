//! A comparison of two results files as text: for a terminal, as Markdown, as JSON.

#![forbid(unsafe_code)]

use super::format;
use super::model::{reason_words, status_word};
use super::sure;
use super::table::interval;
use super::table::text::{WIDTH_MIN, grid, markdown_cell, markdown_grid, wrap};
use crate::error::{Error, Result};
use crate::measure::compare::{Change, Comparison, HeapName};
use crate::measure::results::{Status, Verdict};

const HEADINGS: [&str; 6] = ["heap", "old", "new", "new ÷ old, 95 %", "verdict", "RSS"];

/// The comparison for a terminal, no line wider than `width` columns. `limit` is the share above
/// which a slower subject fails.
pub fn render(comparison: &Comparison, limit: f64, width: usize) -> String {
    let width = width.max(WIDTH_MIN);
    let headings = HEADINGS.map(str::to_owned);
    let mut lines = wrap(&introduction(comparison), width, "");
    for workload in workloads(comparison) {
        lines.push(String::new());
        lines.extend(wrap(workload, width, "  "));
        let rows = finished(comparison, workload);
        lines.extend(grid("subject", &headings, &rows, width));
        for words in failures(comparison, workload).chain(noise_floors(comparison, workload)) {
            lines.extend(wrap(&words, width, "  "));
        }
    }
    for note in &comparison.notes {
        lines.push(String::new());
        lines.extend(wrap(&format!("note: {note}"), width, "  "));
    }
    lines.push(String::new());
    lines.extend(wrap(&conclusion(comparison, limit), width, ""));
    lines.join("\n") + "\n"
}

/// The comparison as Markdown.
pub fn markdown(comparison: &Comparison, limit: f64) -> String {
    let headings = HEADINGS.map(str::to_owned);
    let mut text = format!(
        "{}\n\n{}\n",
        markdown_cell(&conclusion(comparison, limit)),
        markdown_cell(&introduction(comparison))
    );
    for workload in workloads(comparison) {
        text.push_str(&format!("\n### {}\n\n", markdown_cell(workload)));
        let rows = finished(comparison, workload);
        if !rows.is_empty() {
            text.push_str(&markdown_grid("subject", &headings, &rows));
            text.push('\n');
        }
        for words in failures(comparison, workload).chain(noise_floors(comparison, workload)) {
            text.push_str(&format!("- {}\n", markdown_cell(&words)));
        }
    }
    for note in &comparison.notes {
        text.push_str(&format!("\n{}\n", markdown_cell(note)));
    }
    text
}

/// The comparison as JSON, with whether it fails at this limit.
///
/// # Errors
///
/// It cannot be written as JSON.
pub fn json(comparison: &Comparison, limit: f64) -> Result<String> {
    let failing: Vec<&Change> = comparison
        .rows
        .iter()
        .filter(|row| row.fails(limit))
        .collect();
    let value = serde_json::json!({
        "fail_above": limit,
        "fails": !failing.is_empty(),
        "comparison": comparison,
    });
    serde_json::to_string_pretty(&value)
        .map(|text| text + "\n")
        .map_err(|error| Error::Failed(format!("cannot write the comparison as JSON: {error}")))
}

fn introduction(comparison: &Comparison) -> String {
    format!(
        "Time relative to {} of the same run, new ÷ old: above 1 is slower now. {}, for which the \
         verdicts are corrected.",
        comparison.baseline,
        format::plural(comparison.comparisons as u64, "comparison", "comparisons")
    )
}

fn workloads(comparison: &Comparison) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for row in &comparison.rows {
        if !names.contains(&row.workload.as_str()) {
            names.push(&row.workload);
        }
    }
    names
}

fn name(row: &Change) -> String {
    if row.old_subject == row.new_subject {
        format::printable(&row.new_subject)
    } else {
        format::printable(&format!("{} → {}", row.old_subject, row.new_subject))
    }
}

fn heap_word(heap: HeapName) -> &'static str {
    match heap {
        HeapName::Fresh => "fresh",
        HeapName::Used => "used",
    }
}

fn of_workload<'c>(comparison: &'c Comparison, workload: &str) -> impl Iterator<Item = &'c Change> {
    let workload = workload.to_owned();
    comparison
        .rows
        .iter()
        .filter(move |row| row.workload == workload)
}

fn finished(comparison: &Comparison, workload: &str) -> Vec<(String, Vec<String>)> {
    let number = |value: Option<f64>| value.map_or(format::ABSENT.to_owned(), format::ratio);
    of_workload(comparison, workload)
        .filter(|row| row.status == Status::Ok)
        .map(|row| {
            let cells = vec![
                heap_word(row.heap).to_owned(),
                number(row.old_ratio),
                number(row.new_ratio),
                row.change
                    .map_or(format::ABSENT.to_owned(), |change| interval(&change)),
                sure::verdict_short(row.verdict).to_owned(),
                number(row.rss_peak_change),
            ];
            (name(row), cells)
        })
        .collect()
}

fn failures<'c>(
    comparison: &'c Comparison,
    workload: &str,
) -> impl Iterator<Item = String> + use<'c> {
    of_workload(comparison, workload)
        .filter(|row| row.status != Status::Ok)
        .map(|row| {
            let reason = row.reason.as_deref().map_or(String::new(), reason_words);
            format!(
                "{}: had a result and is now {}: {reason}",
                name(row),
                status_word(row.status)
            )
        })
        .collect::<Vec<_>>()
        .into_iter()
}

fn noise_floors(comparison: &Comparison, workload: &str) -> Vec<String> {
    [HeapName::Fresh, HeapName::Used]
        .into_iter()
        .filter_map(|heap| {
            let mut rows = of_workload(comparison, workload).filter(|row| row.heap == heap);
            let floor = rows.find_map(|row| row.noise_floor)?;
            Some(format!(
                "noise floor, {} heap: {}",
                heap_word(heap),
                interval(&floor)
            ))
        })
        .collect()
}

/// What a gate does, in one sentence.
pub fn conclusion(comparison: &Comparison, limit: f64) -> String {
    let count = |verdict: Verdict| {
        let rows = comparison.rows.iter();
        rows.filter(|row| row.verdict == verdict).count() as u64
    };
    let failed = comparison
        .rows
        .iter()
        .filter(|row| row.status != Status::Ok)
        .count() as u64;
    let failing = comparison
        .rows
        .iter()
        .filter(|row| row.fails(limit))
        .count() as u64;
    let mut parts = vec![
        format!("{} slower", count(Verdict::Slower)),
        format!("{} faster", count(Verdict::Faster)),
        format!(
            "{} not distinguishable (n.d.)",
            count(Verdict::NotDistinguishable)
        ),
    ];
    let unjudged = count(Verdict::Unknown) - failed;
    if unjudged > 0 {
        parts.push(format!("{unjudged} with too few blocks to judge"));
    }
    if failed > 0 {
        parts.push(format!("{failed} without a result any more"));
    }
    let verdict = if failing == 0 {
        "passes".to_owned()
    } else {
        format!("fails on {}", format::plural(failing, "row", "rows"))
    };
    let limit = if limit > 0.0 {
        format!(" at a limit of {}", format::percent(limit))
    } else {
        String::new()
    };
    format!("The comparison {verdict}{limit}: {}.", format::list(&parts))
}
