//! A trace as text for a terminal.

#![forbid(unsafe_code)]

use super::words;
use crate::report::charts::statistics::class_words;
use crate::report::facts;
use crate::report::format;
use crate::report::table::text::{WIDTH_MIN, columns_of, grid, wrap};
use crate::trace::tools::stat::{ClassChurn, Statistics};

/// Rows of tables that could be long.
const ROWS_MAX: usize = 10;

/// Longest bar of a histogram.
const BAR_COLUMNS: usize = 30;

/// Renders a trace within `width` columns, 40 at least.
pub fn render(statistics: &Statistics, width: usize) -> String {
    let profile = &statistics.profile;
    let mut lines = Vec::new();
    let name = format::printable(&statistics.origin.source);
    debug_assert!(width >= WIDTH_MIN);
    lines.extend(wrap(
        &format!("{name}: {}", words::subtitle(statistics)),
        width,
        "  ",
    ));
    lines.extend(wrap(&words::sentence(statistics), width, ""));
    for remark in words::remarks(statistics) {
        lines.extend(wrap(&remark, width, "  "));
    }
    for warning in &statistics.origin.warnings {
        lines.extend(wrap(&format!("warning: {warning}"), width, "  "));
    }
    for note in facts::origin_notes(&statistics.origin) {
        lines.extend(wrap(&format!("note: {note}"), width, "  "));
    }
    section(&mut lines, "Events");
    let events = facts::events(&profile.counts);
    let events: Vec<(String, u64)> = events
        .iter()
        .map(|event| (event.name.to_owned(), event.number))
        .collect();
    histogram(&mut lines, &events, width);
    section(&mut lines, "Sizes asked for, up to");
    let sizes: Vec<(String, u64)> = profile
        .sizes
        .iter()
        .map(|b| (format::axis_bytes(b.high_bytes as f64), b.count))
        .collect();
    histogram(&mut lines, &sizes, width);
    section(
        &mut lines,
        "Lifetimes of freed blocks, up to so many events",
    );
    let lifetimes: Vec<(String, u64)> = profile
        .lifetimes
        .iter()
        .map(|b| (format::axis_rounded(b.high_events as f64), b.count))
        .collect();
    histogram(&mut lines, &lifetimes, width);
    live(&mut lines, statistics, width);
    churn(&mut lines, &statistics.classes, width);
    reallocs(&mut lines, statistics, width);
    threads(&mut lines, statistics, width);
    sites(&mut lines, statistics, width);
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

fn section(lines: &mut Vec<String>, title: &str) {
    lines.push(String::new());
    lines.push(title.to_owned());
}

/// Rows of a name, a count, its share and a bar.
fn histogram(lines: &mut Vec<String>, rows: &[(String, u64)], width: usize) {
    let total: u64 = rows.iter().map(|row| row.1).sum();
    let most = rows.iter().map(|row| row.1).max().unwrap_or(0).max(1);
    if total == 0 {
        lines.push("  none".to_owned());
        return;
    }
    let widest =
        |column: &dyn Fn(&(String, u64)) -> usize| rows.iter().map(column).max().unwrap_or(0);
    let names = widest(&|row| columns_of(&row.0)).min(44);
    let counts = widest(&|row| format::count(row.1).len());
    // Two spaces, the name, two spaces, the count, the share, two spaces.
    let room = width.saturating_sub(names + counts + 15).min(BAR_COLUMNS);
    for (name, count) in rows {
        let share = format::percent(*count as f64 / total as f64);
        let bar = (*count as f64 / most as f64 * room as f64).ceil() as usize;
        let pad = " ".repeat(names.saturating_sub(columns_of(name)));
        let line = format!(
            "  {name}{pad}  {:>counts$} {share:>7}  {}",
            format::count(*count),
            "#".repeat(bar)
        );
        lines.push(line.trim_end().to_owned());
    }
}

/// Live bytes at twelve moments.
fn live(lines: &mut Vec<String>, statistics: &Statistics, width: usize) {
    const MOMENTS: usize = 12;
    let curve = &statistics.profile.live_curve;
    let Some(last) = curve.last() else {
        return;
    };
    section(lines, "Live bytes after so many events");
    let mut moments: Vec<usize> = (1..=MOMENTS)
        .map(|n| {
            let event = u128::from(last.event) * n as u128 / MOMENTS as u128;
            curve.partition_point(|point| u128::from(point.event) < event)
        })
        .map(|place| place.min(curve.len() - 1))
        .collect();
    // The first of the highest, which is the peak.
    let peak = (0..curve.len())
        .rev()
        .max_by_key(|&place| curve[place].live_bytes);
    moments.extend(peak);
    moments.sort_unstable();
    moments.dedup();
    let most = statistics.profile.live_bytes_peak.max(1) as f64;
    let room = width.saturating_sub(34).min(BAR_COLUMNS);
    for place in moments {
        let point = &curve[place];
        let bar = (point.live_bytes as f64 / most * room as f64).ceil() as usize;
        let mark = if Some(place) == peak { " peak" } else { "" };
        let line = format!(
            "  {:>14} {:>10}  {}{mark}",
            format::count(point.event),
            format::bytes(point.live_bytes as f64),
            "#".repeat(bar)
        );
        lines.push(line.trim_end().to_owned());
    }
}

fn table(
    lines: &mut Vec<String>,
    corner: &str,
    headings: &[&str],
    rows: &[(String, Vec<String>)],
    width: usize,
) {
    let headings: Vec<String> = headings
        .iter()
        .map(|heading| (*heading).to_owned())
        .collect();
    let rows = grid(corner, &headings, rows, width - 2);
    lines.extend(rows.into_iter().map(|row| format!("  {row}")));
}

fn churn(lines: &mut Vec<String>, classes: &[ClassChurn], width: usize) {
    let mut largest: Vec<&ClassChurn> = classes.iter().collect();
    largest.sort_by_key(|class| std::cmp::Reverse(class.requested_bytes));
    largest.truncate(ROWS_MAX);
    if largest.is_empty() {
        return;
    }
    section(
        lines,
        "Churn: the size classes (above–up to) that turn over most bytes",
    );
    let rows: Vec<(String, Vec<String>)> = largest
        .iter()
        .map(|class| {
            let cells = vec![
                format::count(class.allocations),
                format::count(class.frees),
                format::bytes(class.requested_bytes as f64),
                format::bytes(class.live_bytes_peak as f64),
                format::count(class.live_blocks_peak),
            ];
            (class_words(class), cells)
        })
        .collect();
    let headings = [
        "allocations",
        "frees",
        "turned over",
        "live, most",
        "blocks",
    ];
    table(lines, "size", &headings, &rows, width);
    let hidden = words::not_listed(classes.len() as u64, ROWS_MAX, "class", "classes");
    lines.extend(hidden.map(|words| format!("  {}", words)));
}

fn reallocs(lines: &mut Vec<String>, statistics: &Statistics, width: usize) {
    let reallocs = &statistics.reallocs;
    if statistics.profile.counts.realloc == 0 {
        return;
    }
    section(lines, "Reallocations");
    lines.extend(words::aligned(&words::reallocs(statistics), width));
    if reallocs.of_blocks == 0 {
        return;
    }
    section(lines, "Reallocations by new size over old");
    let growth = reallocs.growth.iter().filter(|bucket| bucket.count > 0);
    let growth: Vec<(String, u64)> = growth
        .map(|bucket| (words::growth(bucket), bucket.count))
        .collect();
    histogram(lines, &growth, width);
}

fn threads(lines: &mut Vec<String>, statistics: &Statistics, width: usize) {
    if statistics.profile.threads < 2 {
        return;
    }
    section(lines, "Threads, the busiest first");
    let rows: Vec<(String, Vec<String>)> = statistics
        .threads
        .iter()
        .take(ROWS_MAX)
        .map(|thread| {
            let cells = vec![
                format::count(thread.events),
                format::count(thread.allocations),
                format::bytes(thread.requested_bytes as f64),
                format::count(thread.frees),
                format::count(thread.frees_of_others),
            ];
            (thread.thread.to_string(), cells)
        })
        .collect();
    let headings = [
        "events",
        "allocations",
        "bytes",
        "frees",
        "of others' blocks",
    ];
    table(lines, "thread", &headings, &rows, width);
    let threads = u64::from(statistics.profile.threads);
    let hidden = words::not_listed(threads, ROWS_MAX, "thread", "threads");
    lines.extend(hidden.map(|words| format!("  {words}")));
}

fn sites(lines: &mut Vec<String>, statistics: &Statistics, width: usize) {
    if statistics.sites.is_empty() {
        return;
    }
    section(lines, "Call sites with the most bytes");
    for site in statistics.sites.iter().take(ROWS_MAX) {
        let line = format!(
            "{:>10} in {:>11}  {}",
            format::bytes(site.requested_bytes as f64),
            format::count(site.allocations),
            format::printable(&site.name)
        );
        lines.extend(
            wrap(&line, width - 2, "    ")
                .into_iter()
                .map(|line| format!("  {line}")),
        );
    }
    let hidden = words::not_listed(statistics.sites_total, ROWS_MAX, "call site", "call sites");
    lines.extend(hidden.map(|words| format!("  {words}")));
}
