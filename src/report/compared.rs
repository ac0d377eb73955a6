//! A comparison of two results files as text: for a terminal, as Markdown, as JSON.

#![forbid(unsafe_code)]

use super::format;
use super::model::{reason_words, status_word};
use super::sure;
use super::table::interval;
use super::table::text::{WIDTH_MIN, grid, markdown_cell, markdown_grid, wrap};
use crate::error::{Error, Result};
use crate::measure::compare::{Change, Comparison, HeapName, Loss, Outcome, Range};
use crate::measure::results::{Estimate, Verdict};

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
        for words in losses(comparison, workload)
            .into_iter()
            .chain(noise_floors(comparison, workload))
        {
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
        for words in losses(comparison, workload)
            .into_iter()
            .chain(noise_floors(comparison, workload))
        {
            text.push_str(&format!("- {}\n", markdown_cell(&words)));
        }
    }
    for note in &comparison.notes {
        text.push_str(&format!("\n{}\n", markdown_cell(note)));
    }
    text
}

/// The comparison as JSON, with what a gate with this limit does.
///
/// # Errors
///
/// It cannot be written as JSON.
pub fn json(comparison: &Comparison, limit: f64) -> Result<String> {
    let outcome = comparison.outcome(limit);
    let value = serde_json::json!({
        "fail_above": limit,
        "outcome": outcome,
        "fails": outcome == Outcome::Fails,
        "comparison": comparison,
    });
    serde_json::to_string_pretty(&value)
        .map(|text| text + "\n")
        .map_err(|error| Error::Failed(format!("cannot write the comparison as JSON: {error}")))
}

fn introduction(comparison: &Comparison) -> String {
    let baseline = &comparison.baseline;
    let what = if comparison.same_run {
        format!(
            "Both files hold the same run: new ÷ old is taken block by block, and above 1 is slower. Old \
             and new are times relative to {baseline}."
        )
    } else {
        format!("Time relative to {baseline} of the same run, new ÷ old: above 1 is slower now.")
    };
    match comparison.comparisons {
        0 => format!("{what} No row can be judged."),
        count => format!(
            "{what} {}, for which the verdicts are corrected.",
            format::plural(count as u64, "comparison", "comparisons")
        ),
    }
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
        .filter(|row| row.loss.is_none())
        .map(|row| {
            let change = match (row.change, row.interval) {
                (Some(median), Some(Range { low, high })) => {
                    interval(&Estimate { median, low, high })
                }
                (change, _) => number(change),
            };
            let cells = vec![
                heap_word(row.heap).to_owned(),
                number(row.old_ratio),
                number(row.new_ratio),
                change,
                match row.verdict {
                    Verdict::Unknown => "unjudged",
                    verdict => sure::verdict_short(verdict),
                }
                .to_owned(),
                number(row.rss_peak_change),
            ];
            (name(row), cells)
        })
        .collect()
}

/// What had a result in the old file and has none in the new one, grouped by what became of it.
fn losses(comparison: &Comparison, workload: &str) -> Vec<String> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for row in of_workload(comparison, workload) {
        let words = match &row.loss {
            None => continue,
            Some(Loss::NotMeasured) => "not measured in the new file".to_owned(),
            Some(Loss::Failed { status, reason }) => {
                let reason = reason.as_deref().map_or(String::new(), reason_words);
                format!("{}: {reason}", status_word(*status))
            }
        };
        match groups.iter_mut().find(|(known, _)| *known == words) {
            Some((_, names)) => names.push(name(row)),
            None => groups.push((words, vec![name(row)])),
        }
    }
    groups
        .into_iter()
        .map(|(words, names)| format!("{}: had a result and is now {words}", format::list(&names)))
        .collect()
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

/// What a gate does and why, in a few sentences.
pub fn conclusion(comparison: &Comparison, limit: f64) -> String {
    let count = |wanted: &dyn Fn(&Change) -> bool| {
        comparison.rows.iter().filter(|row| wanted(row)).count() as u64
    };
    let called = |verdict: Verdict| count(&|row| row.verdict == verdict);
    let lost = count(&|row| row.loss.is_some());
    let failing = count(&|row| row.fails(limit));
    let seeming = count(&|row| row.seems_slower(limit));
    let unjudged = comparison.unjudged() as u64;
    let mut parts = vec![
        format!("{} slower", called(Verdict::Slower)),
        format!("{} faster", called(Verdict::Faster)),
        format!(
            "{} not distinguishable (n.d.)",
            called(Verdict::NotDistinguishable)
        ),
    ];
    if unjudged > 0 {
        parts.push(format!("{unjudged} unjudged"));
    }
    if lost > 0 {
        parts.push(format!("{lost} without a result any more"));
    }
    let outcome = match comparison.outcome(limit) {
        Outcome::Passes => "passes".to_owned(),
        Outcome::Fails => format!("fails on {}", format::plural(failing, "row", "rows")),
        Outcome::Undecided => "is not decided".to_owned(),
    };
    let at = if limit > 0.0 {
        format!(" at a limit of {}", format::percent(limit))
    } else {
        String::new()
    };
    let mut text = format!("The comparison {outcome}{at}: {}.", format::list(&parts));
    if unjudged > 0 {
        text.push(' ');
        text.push_str(&unjudged_words(comparison));
    }
    if seeming > 0 {
        text.push_str(&format!(
            " Of these, {} above the limit with all that {} shows, and {}.",
            format::plural(seeming, "row lies", "rows lie"),
            if seeming == 1 { "it" } else { "each" },
            if seeming == 1 { "fails" } else { "fail" },
        ));
    }
    let undetected = comparison.rows.iter().filter_map(|row| {
        let interval = row.interval?;
        (row.verdict == Verdict::NotDistinguishable).then_some(interval.high)
    });
    let most = undetected.fold(0.0, f64::max);
    if most > 1.0 {
        text.push_str(&format!(
            " What is not distinguishable may still differ: its intervals reach up to {}.",
            format::ratio(most)
        ));
    }
    let close = count(&|row| row.is_close(limit));
    if close > 0 {
        text.push_str(&format!(
            " {} not called slower after the correction, though the row's own interval lies above the \
             limit: more blocks would decide.",
            format::plural(close, "row is", "rows are"),
        ));
    }
    text
}

/// How many rows could not be judged, and with how many blocks they could.
pub fn unjudged_words(comparison: &Comparison) -> String {
    let measured = comparison.rows.iter().filter(|row| row.loss.is_none());
    format!(
        "{} of {} {} too few blocks for any verdict: measure at least {} blocks{} (--blocks {}).",
        comparison.unjudged(),
        format::plural(measured.count() as u64, "row", "rows"),
        if comparison.unjudged() == 1 {
            "has"
        } else {
            "have"
        },
        comparison.blocks_needed,
        if comparison.same_run {
            ""
        } else {
            " on each side"
        },
        comparison.blocks_needed,
    )
}
