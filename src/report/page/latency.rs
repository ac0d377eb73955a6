//! Latencies of a workload: percentiles by operation and size, and the slowest operations.

#![forbid(unsafe_code)]

use serde::Serialize;

use super::details::calls_words;
use super::table::{Cell, Table, TableRow, row_name, written};
use super::{ChartView, chart_view};
use crate::measure::latency::{ALL_SIZES, LARGEST_CLASS_BYTES, SIZE_CLASSES};
use crate::measure::results::{LatencyRow, WorstOperation};
use crate::report::charts::Chart;
use crate::report::format;
use crate::report::latency::{self, Operation, PERCENTILES, percentiles};
use crate::report::model::{Row, Workload};

/// One kind of operation.
#[derive(Serialize)]
struct OperationView {
    chart: ChartView,
    table: Table,
    /// Title of the same by size class.
    by_size_title: String,
    by_size: Vec<Table>,
}

/// See the module text.
#[derive(Serialize)]
pub(super) struct LatencyView {
    /// What the clock costs, and what was done about it.
    clock: String,
    /// What the percentiles and the bounds are.
    caption: String,
    operations: Vec<OperationView>,
    /// The ten slowest operations of each subject.
    worst: Vec<Table>,
    /// How many of them were slow in a second replay as well.
    recurrence: String,
}

/// `None` where no latency was measured.
pub(super) fn latency(workload: &Workload<'_>, charts: &[Chart]) -> Option<LatencyView> {
    let operations = latency::operations(workload);
    if operations.is_empty() {
        return None;
    }
    let step_ns = latency::step_ns(workload);
    let views = operations
        .iter()
        .zip(charts)
        .map(|(operation, chart)| OperationView {
            chart: chart_view(chart),
            table: percentile_table(workload, operation),
            by_size_title: format!("Latency of {} by size", operation.words()),
            by_size: size_tables(workload, operation),
        });
    Some(LatencyView {
        clock: latency::clock_words(workload),
        caption: latency::caption(workload),
        operations: views.collect(),
        worst: workload
            .rows
            .iter()
            .filter_map(|row| worst_table(row, step_ns))
            .collect(),
        recurrence: recurrence(workload),
    })
}

fn percentile_headings() -> Vec<String> {
    let names = PERCENTILES.iter().map(|name| (*name).to_owned());
    names.chain(["calls".to_owned()]).collect()
}

fn percentile_cells(row: &LatencyRow, step_ns: u64) -> Vec<Cell> {
    let times = percentiles(row).map(|ns| written(latency::time_or_absent(ns, step_ns)));
    times
        .into_iter()
        .chain([written(format::count(row.count))])
        .collect()
}

/// Lines of one table: the least of each column among allocators is emphasised.
fn lines(rows: &[(String, &Row<'_>, &LatencyRow)], step_ns: u64) -> Vec<TableRow> {
    let mut lines: Vec<TableRow> = rows
        .iter()
        .map(|(name, _, latency)| TableRow {
            name: name.clone(),
            cells: percentile_cells(latency, step_ns),
        })
        .collect();
    let candidates: Vec<usize> = (0..rows.len())
        .filter(|&at| rows[at].1.is_candidate())
        .collect();
    for column in 0..PERCENTILES.len() {
        let value = |at: &usize| percentiles(rows[*at].2)[column];
        let least = candidates.iter().filter_map(value).min();
        if candidates.iter().filter_map(value).max() == least {
            continue;
        }
        for at in &candidates {
            lines[*at].cells[column].best = value(at) == least;
        }
    }
    lines
}

fn percentile_table(workload: &Workload<'_>, operation: &Operation) -> Table {
    let rows: Vec<(String, &Row<'_>, &LatencyRow)> = workload
        .rows
        .iter()
        .filter_map(|row| Some((row_name(row), row, latency::row(row, operation)?)))
        .collect();
    Table {
        title: format!("Latency of {}", operation.words()),
        corner: "Subject",
        headings: percentile_headings(),
        rows: lines(&rows, latency::step_ns(workload)),
    }
}

/// One table for each size class.
fn size_tables(workload: &Workload<'_>, operation: &Operation) -> Vec<Table> {
    let mut classes: Vec<u64> = workload
        .rows
        .iter()
        .flat_map(|row| latency::classes(row, operation))
        .map(|latency| latency.size_class_bytes)
        .filter(|class| *class != ALL_SIZES)
        .collect();
    classes.sort_unstable();
    classes.dedup();
    let step_ns = latency::step_ns(workload);
    let of_class = |class: u64| {
        let in_class = |row| {
            let mut own = latency::classes(row, operation);
            own.find(|latency| latency.size_class_bytes == class)
        };
        let rows: Vec<(String, &Row<'_>, &LatencyRow)> = workload
            .rows
            .iter()
            .filter_map(|row| Some((row_name(row), row, in_class(row)?)))
            .collect();
        Table {
            title: class_words(class),
            corner: "Subject",
            headings: percentile_headings(),
            rows: lines(&rows, step_ns),
        }
    };
    classes.into_iter().map(of_class).collect()
}

/// The sizes of a class, which begins where the one below ends: `17–64 B`, `4–16 KiB`.
fn class_words(class: u64) -> String {
    let (kib, mib) = (1 << 10, 1 << 20);
    let below = SIZE_CLASSES.into_iter().filter(|bound| *bound < class);
    let low = below.max();
    let in_unit = |bytes: u64| match bytes {
        ..1024 => (bytes, "B"),
        _ if bytes < mib => (bytes / kib, "KiB"),
        _ => (bytes / mib, "MiB"),
    };
    match low {
        _ if class == LARGEST_CLASS_BYTES => "above 1 MiB".to_owned(),
        None => format!("0–{class} B"),
        Some(low) if class <= kib => format!("{}–{class} B", low + 1),
        Some(low) => match (in_unit(low), in_unit(class)) {
            ((low, one), (high, other)) if one == other => format!("{low}–{high} {one}"),
            ((low, one), (high, other)) => format!("{low} {one}–{high} {other}"),
        },
    }
}

fn worst_table(row: &Row<'_>, step_ns: u64) -> Option<Table> {
    let worst = latency::worst(row);
    let rows: Vec<TableRow> = worst
        .into_iter()
        .map(|operation| worst_line(operation, step_ns))
        .collect();
    (!rows.is_empty()).then(|| Table {
        title: row_name(row),
        corner: "Call",
        headings: [
            "Operation",
            "Latency",
            "Minor faults",
            "Major faults",
            "Forced switches",
            "Waits",
            "In a second replay",
            "System calls then",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows,
    })
}

fn worst_line(operation: &WorstOperation, step_ns: u64) -> TableRow {
    let counts = [
        operation.minor_faults,
        operation.major_faults,
        operation.involuntary_switches,
        operation.voluntary_switches,
    ];
    let mut cells = vec![
        // Operations are counted from 1 in every text.
        written(format::count(operation.operation.saturating_add(1))),
        written(latency::time(operation.latency_ns, step_ns)),
    ];
    cells.extend(counts.map(|count| written(format::count(count))));
    let second = latency::time_or_absent(operation.second_latency_ns, step_ns);
    cells.push(written(match latency::recurred(operation) {
        Some(false) => format!("{second}, not slow again"),
        _ => second,
    }));
    cells.push(written(
        operation
            .second_system_calls
            .as_ref()
            .map_or(format::ABSENT.to_owned(), calls_words),
    ));
    TableRow {
        name: operation.call.clone(),
        cells,
    }
}

/// How many slow operations were slow again, by subject.
fn recurrence(workload: &Workload<'_>) -> String {
    let words = |row: &Row<'_>| {
        let known: Vec<bool> = latency::worst(row)
            .into_iter()
            .filter_map(latency::recurred)
            .collect();
        let again = known.iter().filter(|recurred| **recurred).count();
        (!known.is_empty()).then(|| format!("{} {again} of {}", row_name(row), known.len()))
    };
    let subjects: Vec<String> = workload.rows.iter().filter_map(words).collect();
    match subjects.as_slice() {
        [] => String::new(),
        some => format!("Slow again in the second replay: {}.", some.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_meet_without_gap() {
        let words = SIZE_CLASSES.map(class_words);
        assert_eq!(
            words,
            [
                "0–16 B",
                "17–64 B",
                "65–256 B",
                "257–1024 B",
                "1–4 KiB",
                "4–16 KiB",
                "16–64 KiB",
                "64–256 KiB",
                "256 KiB–1 MiB",
                "above 1 MiB",
            ]
        );
    }
}
