//! The results as text: for a terminal, as Markdown, as CSV.

#![forbid(unsafe_code)]

use super::format;
use super::model::{Report, Row, Workload, status_word};
use super::verdict;
use crate::measure::results::{Estimate, Results};

/// Narrower than this no column is readable; tables are then as wide as this.
const WIDTH_MIN: usize = 40;
/// Longest subject name that keeps its place in the first column; a longer one gets its own line.
const NAME_MAX: usize = 14;

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
    let mut heading = workload.name.to_owned();
    if let Some(record) = workload.record {
        heading.push_str(&format!(
            ": {}, {} live at the peak",
            format::plural(
                record.profile.counts.operations(),
                "operation",
                "operations"
            ),
            format::bytes(record.profile.live_bytes_peak as f64)
        ));
    }
    lines.extend(wrap(&heading, width, "  "));
    lines.push(String::new());
    table_lines(workload, width, lines);
    lines.push(String::new());
    let verdict = verdict::of(workload, results);
    lines.extend(wrap(&verdict.sentence, width, ""));
    for note in &verdict.notes {
        lines.extend(wrap(note, width, ""));
    }
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
        .collect()
}

const COLUMNS: [Column; 6] = [
    Column {
        heading: |_| "time/op",
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
    let names = rows.iter().map(|(name, _)| columns_of(name));
    let name_width = names
        .filter(|&name| name <= NAME_MAX)
        .max()
        .unwrap_or(0)
        .max("subject".len());
    let headings: Vec<String> = columns
        .iter()
        .map(|(heading, _)| (*heading).to_owned())
        .collect();
    let widths = column_widths(&headings, &rows, width - name_width);
    if !rows.is_empty() {
        lines.push(table_line("subject", name_width, &headings, &widths));
    }
    for (name, cells) in &rows {
        if columns_of(name) > name_width {
            lines.extend(wrap(name, width, "  "));
            lines.push(table_line("", name_width, cells, &widths));
        } else {
            lines.push(table_line(name, name_width, cells, &widths));
        }
    }
    if !rows.is_empty() && !workload.has_harness_share() {
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

/// The widths of as many columns as fit into `room`, each with one space before it.
fn column_widths(headings: &[String], rows: &[(String, Vec<String>)], room: usize) -> Vec<usize> {
    let mut widths = Vec::new();
    let mut used = 0;
    for (index, heading) in headings.iter().enumerate() {
        let cells = rows.iter().map(|(_, cells)| columns_of(&cells[index]));
        let width = cells.max().unwrap_or(0).max(columns_of(heading));
        if used + width + 1 > room {
            break;
        }
        used += width + 1;
        widths.push(width);
    }
    // Two spaces between columns where the terminal is wide enough.
    if used + widths.len() <= room {
        widths.iter_mut().for_each(|width| *width += 1);
    }
    widths
}

fn table_line(name: &str, name_width: usize, cells: &[String], widths: &[usize]) -> String {
    let mut line = name.to_owned();
    line.extend(std::iter::repeat_n(
        ' ',
        name_width.saturating_sub(columns_of(name)),
    ));
    for (cell, width) in cells.iter().zip(widths) {
        line.extend(std::iter::repeat_n(
            ' ',
            1 + width.saturating_sub(columns_of(cell)),
        ));
        line.push_str(cell);
    }
    line.trim_end().to_owned()
}

fn marked_name(row: &Row<'_>) -> String {
    let name = format::printable(row.name());
    if row.is_floor {
        format!("({name})")
    } else {
        name
    }
}

/// Columns a terminal gives a character: two for the wide scripts and pictures, else one.
fn columns_of_char(c: char) -> usize {
    if matches!(c, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f000}'..='\u{3fffd}')
    {
        2
    } else {
        1
    }
}

fn columns_of(text: &str) -> usize {
    text.chars().map(columns_of_char).sum()
}

/// Breaks text at spaces, and inside words that are longer than a line; never drops any of it.
pub(crate) fn wrap(text: &str, width: usize, indent: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    let mut line_is_empty = true;
    for word in format::printable(text)
        .split(' ')
        .filter(|word| !word.is_empty())
    {
        if !line_is_empty && columns_of(&line) + 1 + columns_of(word) > width {
            lines.push(std::mem::replace(&mut line, indent.to_owned()));
            line_is_empty = true;
        }
        if !line_is_empty {
            line.push(' ');
        }
        for c in word.chars() {
            if columns_of(&line) + columns_of_char(c) > width {
                lines.push(std::mem::replace(&mut line, indent.to_owned()));
            }
            line.push(c);
        }
        line_is_empty = false;
    }
    lines.push(line);
    lines
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
        text.push_str("| subject | status | time per operation | ratio to baseline | floor share | peak RSS | fragmentation | retained |\n");
        text.push_str("|---|---|--:|--:|--:|--:|--:|--:|\n");
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
    }
    text
}

/// Text that stays inside its cell and is not taken for markup.
fn markdown_cell(text: &str) -> String {
    let mut out = String::new();
    for c in format::printable(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// The summary as CSV (RFC 4180), one line per workload and subject; absent values are empty, and so are
/// the ends of intervals that too few blocks stand behind.
pub fn csv(results: &Results) -> String {
    let mut text = String::from(
        "workload,subject,status,reason,operations,ns_per_operation,ns_per_operation_low,ns_per_operation_high,\
         ratio_to_baseline,ratio_to_baseline_low,ratio_to_baseline_high,\
         ratio_to_baseline_used_heap,ratio_to_baseline_used_heap_low,ratio_to_baseline_used_heap_high,\
         harness_share,rss_peak_bytes,live_bytes_peak,fragmentation_at_peak,fragmentation_time_weighted,\
         internal_fragmentation,rss_retained_bytes\r\n",
    );
    let report = Report::of(results);
    for row in report.workloads.iter().flat_map(|workload| &workload.rows) {
        let has_intervals = row.has_intervals;
        let row = row.summary;
        let mut cells = vec![
            csv_cell(&row.workload),
            csv_cell(&row.subject),
            status_word(row.status).replace(' ', "_"),
            csv_cell(row.reason.as_deref().unwrap_or("")),
            row.operations.to_string(),
        ];
        for estimate in [
            row.ns_per_operation,
            row.ratio_to_baseline,
            row.ratio_to_baseline_used_heap,
        ] {
            match estimate {
                Some(e) if !has_intervals => {
                    cells.extend([e.median.to_string(), String::new(), String::new()]);
                }
                Some(e) => {
                    cells.extend([e.median.to_string(), e.low.to_string(), e.high.to_string()])
                }
                None => cells.extend([const { String::new() }; 3]),
            }
        }
        let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
        let bytes = |value: Option<u64>| value.map_or(String::new(), |value| value.to_string());
        cells.extend([
            number(row.harness_share),
            bytes(row.rss_peak_bytes),
            bytes(row.live_bytes_peak),
            number(row.fragmentation_at_peak),
            number(row.fragmentation_time_weighted),
            number(row.internal_fragmentation),
            bytes(row.rss_retained_bytes),
        ]);
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    text
}

fn csv_cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapping_keeps_every_character_and_the_width() {
        let lines = wrap("one two three abcdefghijklmnop", 9, "  ");
        assert_eq!(
            lines,
            ["one two", "  three", "  abcdefg", "  hijklmn", "  op"]
        );
        assert_eq!(wrap("", 9, ""), [""]);
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(columns_of("日本a"), 5);
        assert_eq!(wrap("日本日本日本", 5, ""), ["日本", "日本", "日本"]);
    }

    #[test]
    fn cells_stay_cells() {
        assert_eq!(csv_cell("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(markdown_cell("a|b\n<c>"), "a\\|b &lt;c&gt;");
    }
}
