//! A ranking over workloads as text: for a terminal, as Markdown, as JSON.

#![forbid(unsafe_code)]

use super::format;
use super::model::{reason_words, status_word};
use super::table::interval;
use super::table::text::{WIDTH_MIN, grid, markdown_cell, markdown_grid, wrap};
use crate::error::{Error, Result};
use crate::measure::rank::{Failure, Ranked, Ranking, TimeInterval};
use crate::measure::results::Estimate;

/// Rankings for a terminal, no line wider than `width` columns.
pub fn render(rankings: &[Ranking], width: usize) -> String {
    let width = width.max(WIDTH_MIN);
    let mut lines = Vec::new();
    for ranking in rankings {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.extend(wrap(&title(ranking), width, "  "));
        lines.extend(wrap(&basis(ranking), width, ""));
        lines.extend(wrap(&certainty(ranking), width, ""));
        if !ranking.rows.is_empty() {
            lines.push(String::new());
        }
        lines.extend(grid("allocator", &headings(ranking), &rows(ranking), width));
        for words in failures(ranking) {
            lines.extend(wrap(&words, width, "  "));
        }
        if let Some(words) = front_words(ranking) {
            lines.extend(wrap(&words, width, "  "));
        }
    }
    lines.join("\n") + "\n"
}

/// Rankings as Markdown.
pub fn markdown(rankings: &[Ranking]) -> String {
    let mut text = String::new();
    for ranking in rankings {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!(
            "### {}\n\n{} {}\n",
            markdown_cell(&title(ranking)),
            markdown_cell(&basis(ranking)),
            markdown_cell(&certainty(ranking))
        ));
        if !ranking.rows.is_empty() {
            text.push('\n');
            let table = markdown_grid("allocator", &headings(ranking), &rows(ranking));
            text.push_str(&table);
        }
        for words in failures(ranking).into_iter().chain(front_words(ranking)) {
            text.push_str(&format!("\n- {}", markdown_cell(&words)));
        }
        text.push('\n');
    }
    text
}

/// Rankings as JSON.
///
/// # Errors
///
/// They cannot be written as JSON.
pub fn json(rankings: &[Ranking]) -> Result<String> {
    serde_json::to_string_pretty(rankings)
        .map(|text| text + "\n")
        .map_err(|error| Error::Failed(format!("cannot write the ranking as JSON: {error}")))
}

fn title(ranking: &Ranking) -> String {
    if ranking.without_own {
        "Without this project's own allocators".to_owned()
    } else {
        "All allocators".to_owned()
    }
}

/// What the numbers are the mean of.
pub(crate) fn basis(ranking: &Ranking) -> String {
    if ranking.rows.is_empty() {
        return format!(
            "No workload of {} has a time of every allocator and of {}: there is nothing to rank.",
            ranking.workloads, ranking.baseline
        );
    }
    let memory = ranking.workloads_memory.len();
    let memory = if memory == ranking.workloads_time.len() {
        String::new()
    } else if memory == 0 {
        " None of these has a peak RSS of every one.".to_owned()
    } else {
        format!(" Memory over the {memory} of these with a peak RSS of every one.")
    };
    format!(
        "Geometric means over the {} of {} on which every ranked allocator finished: time on a fresh heap \
         and peak RSS, relative to {}, and to the best ranked allocator of each workload.{memory}",
        ranking.workloads_time.len(),
        format::plural(ranking.workloads as u64, "workload", "workloads"),
        ranking.baseline,
    )
}

/// What places mean, or why there are none.
pub(crate) fn certainty(ranking: &Ranking) -> String {
    if ranking.rows.is_empty() {
        return String::new();
    }
    if let Some(why) = &ranking.unplaced {
        return format!(
            "No places and no front: {}. Measure with more blocks.",
            reason_words(why)
        );
    }
    let floor = match ranking.noise_floor {
        Some(floor) => format!(
            "and by more than the noise floor of {}",
            format::percent(floor)
        ),
        None => {
            "but without a noise floor: the baseline's second run is missing, or has too few blocks"
                .to_owned()
        }
    };
    format!(
        "A place differs where the times of the same blocks do, after correction for all pairs, {floor}."
    )
}

fn headings(ranking: &Ranking) -> Vec<String> {
    let base: String = ranking.baseline.chars().take(10).collect();
    let has_intervals = ranking.rows.iter().any(|row| row.time_interval.is_some());
    let interval = if has_intervals { ", 95 %" } else { "" };
    vec![
        "place".to_owned(),
        format!("time ÷ {base}{interval}"),
        "÷ best".to_owned(),
        format!("RSS ÷ {base}"),
        "÷ best".to_owned(),
        "front".to_owned(),
    ]
}

fn rows(ranking: &Ranking) -> Vec<(String, Vec<String>)> {
    let number = |value: Option<f64>| value.map_or(format::ABSENT.to_owned(), format::ratio);
    ranking
        .rows
        .iter()
        .map(|row| {
            let mark = if row.failures.is_empty() { "" } else { " *" };
            let time = if row.subject == ranking.baseline {
                "1".to_owned()
            } else {
                time_words(row)
            };
            let cells = vec![
                row.place
                    .map_or(format::ABSENT.to_owned(), |place| place.to_string()),
                time,
                format::ratio(row.time_to_best),
                number(row.rss_to_baseline),
                number(row.rss_to_best),
                match row.is_on_front {
                    Some(true) => "yes",
                    Some(false) => "no",
                    None => format::ABSENT,
                }
                .to_owned(),
            ];
            (format!("{}{mark}", format::printable(&row.subject)), cells)
        })
        .collect()
}

/// The mean time, with its interval if there is one.
fn time_words(row: &Ranked) -> String {
    let median = row.time_to_baseline;
    row.time_interval.map_or_else(
        || format::ratio(median),
        |TimeInterval { low, high }| interval(&Estimate { median, low, high }),
    )
}

/// Who failed where: nobody is dropped in silence.
pub(crate) fn failures(ranking: &Ranking) -> Vec<String> {
    // What failed for all alike (a program that no allocator can be preloaded into) is told once.
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for row in ranking.rows.iter().filter(|row| !row.failures.is_empty()) {
        let words = failure_words(&row.failures);
        match groups.iter_mut().find(|(told, _)| *told == words) {
            Some((_, subjects)) => subjects.push(&row.subject),
            None => groups.push((words, vec![&row.subject])),
        }
    }
    let ranked = groups
        .into_iter()
        .map(|(words, subjects)| format!("* {}: {words}.", format::list(&subjects)));
    let unranked = ranking.unranked.iter().map(|row| {
        let failed = if row.failures.is_empty() {
            "the others were not measured".to_owned()
        } else {
            failure_words(&row.failures)
        };
        format!(
            "Not ranked: {}, with a time on {} of {}; {failed}.",
            row.subject, row.finished, ranking.workloads
        )
    });
    ranked.chain(unranked).collect()
}

/// More workloads than this are counted, not named.
const NAMED_MAX: usize = 3;

fn failure_words(failures: &[Failure]) -> String {
    let named: Vec<String> = failures
        .iter()
        .take(NAMED_MAX)
        .map(|failure| match &failure.reason {
            Some(reason) => format!(
                "{} on {} ({})",
                status_word(failure.status),
                failure.workload,
                reason_words(reason)
            ),
            None => format!("{} on {}", status_word(failure.status), failure.workload),
        })
        .collect();
    let more = failures.len().saturating_sub(NAMED_MAX);
    if more == 0 {
        named.join("; ")
    } else {
        format!("{}; and on {more} more", named.join("; "))
    }
}

/// Who is beaten by nobody.
pub(crate) fn front_words(ranking: &Ranking) -> Option<String> {
    let front: Vec<&str> = ranking
        .rows
        .iter()
        .filter(|row| row.is_on_front == Some(true))
        .map(|row| row.subject.as_str())
        .collect();
    (!front.is_empty()).then(|| {
        format!(
            "On the front, where no other is told to be faster for as little memory (within 2 %): {}.",
            format::list(&front)
        )
    })
}
