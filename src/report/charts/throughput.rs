//! Operations per second of each subject, with intervals, and the ratio to the baseline in words.

#![forbid(unsafe_code)]

use super::axis::decimal_ticks;
use super::bars::{Bar, BarChart, Content, Part};
use super::canvas::Heading;
use super::palette::{self, NEUTRAL};
use super::{Chart, Drawn, NARROW, WIDE};
use crate::error::Result;
use crate::measure::results::Estimate;
use crate::report::model::{Row, Workload};
use crate::report::{bounds, format};

const NS_PER_SECOND: f64 = 1e9;

pub(super) fn draw(workload: &Workload<'_>) -> Result<Chart> {
    let measured = |row: &&Row<'_>| row.is_ok() && time(row).is_some();
    if !workload.rows.iter().any(|row| measured(&row)) {
        return Ok(Chart::Absent(
            "No throughput chart: no subject has a time.".to_owned(),
        ));
    }
    if workload.program().is_some() {
        return program(workload);
    }
    let fastest = |floors: bool| {
        let rows = workload
            .rows
            .iter()
            .filter(measured)
            .filter(|row| floors || !row.is_floor);
        rows.filter_map(time)
            .map(|time| rate(time.low.min(time.median)))
            .fold(0.0, f64::max)
    };
    // The floors are several times faster; if they set the scale, no difference could be seen.
    let high = match fastest(false) {
        0.0 => fastest(true),
        allocators => allocators.max(fastest(true).min(allocators * 1.3)) * 1.02,
    };
    let intervals = if workload.has_intervals() {
        "The thin line across a bar's end is the 95 % interval."
    } else {
        "There were too few blocks for intervals; these are medians."
    };
    let chart = BarChart {
        heading: Heading {
            title: format!("Throughput on {}", workload.name),
            subtitle: format!("Operations per second: longer is better. {intervals}"),
        },
        bars: bars(workload),
        high,
        ticks: decimal_ticks(high, 5),
        tick_label: format::axis_rate,
        marks: Vec::new(),
    };
    let label = label(workload);
    Ok(Chart::Drawn(Drawn {
        file: "throughput".to_owned(),
        label,
        caption: caption(workload),
        wide: chart.draw(WIDE)?,
        narrow: Some(chart.draw(NARROW)?),
    }))
}

/// A real program: the time of the whole run, CPU and wall, instead of operations per second.
fn program(workload: &Workload<'_>) -> Result<Chart> {
    let times = workload
        .rows
        .iter()
        .filter_map(|row| row.summary.ns_per_operation);
    let high = times
        .map(|time| time.high.max(time.median))
        .fold(0.0, f64::max)
        * 1.02;
    let bars = workload.rows.iter().map(|row| {
        let content = match (row.failure(), row.summary.ns_per_operation) {
            (Some(failure), _) => Content::Reason(failure),
            (None, None) => Content::Reason("no time was measured".to_owned()),
            (None, Some(time)) => Content::Value {
                parts: vec![Part {
                    end: time.median,
                    ink: palette::series(row.color).0,
                    is_pale: false,
                }],
                interval: row.has_intervals.then_some((time.low, time.high)),
                words: match row.summary.ratio_to_baseline.filter(|_| !row.is_baseline) {
                    Some(ratio) => format!(
                        "{} · {}× {}",
                        format::time_ns(time.median),
                        format::ratio(ratio.median),
                        workload.baseline
                    ),
                    None => format::time_ns(time.median),
                },
            },
        };
        Bar {
            name: row.name().to_owned(),
            content,
        }
    });
    let chart = BarChart {
        heading: Heading {
            title: format!("CPU time of {}", workload.name),
            subtitle:
                "User and system time of the whole run, all its processes: shorter is better."
                    .to_owned(),
        },
        bars: bars.collect(),
        high,
        ticks: decimal_ticks(high, 5),
        tick_label: |value| {
            if value == 0.0 {
                "0".to_owned()
            } else {
                format::axis_time(value)
            }
        },
        marks: Vec::new(),
    };
    Ok(Chart::Drawn(Drawn {
        file: "time".to_owned(),
        label: format!("Bar chart of the CPU time of {}", workload.name),
        caption: "No lower bound: bump never uses memory again, and cannot serve a real program."
            .to_owned(),
        wide: chart.draw(WIDE)?,
        narrow: Some(chart.draw(NARROW)?),
    }))
}

/// What a row's bar shows: the first replay of an allocator, on a fresh heap, and the bound for
/// `bump`, whose first replay is mostly page faults.
fn time(row: &Row<'_>) -> Option<Estimate> {
    match bounds::is_bump(row) {
        true => row.summary.ns_per_operation_used_heap,
        false => row.summary.ns_per_operation,
    }
}

fn caption(workload: &Workload<'_>) -> String {
    let has_bump = workload.rows.iter().any(bounds::is_bump);
    match (has_bump, bounds::time_ns(workload)) {
        (false, _) => "No lower bound: bump was not measured.".to_owned(),
        (true, None) => {
            "No lower bound: it takes a second replay in each sample (--passes), on memory that is \
                         there already."
                .to_owned()
        }
        (true, Some(_)) => String::new(),
    }
}

fn rate(ns: f64) -> f64 {
    if ns > 0.0 { NS_PER_SECOND / ns } else { 0.0 }
}

fn bars(workload: &Workload<'_>) -> Vec<Bar> {
    let (floors, allocators): (Vec<&Row<'_>>, Vec<&Row<'_>>) =
        workload.rows.iter().partition(|row| row.is_floor);
    let mut bars: Vec<Bar> = allocators
        .into_iter()
        .map(|row| bar(row, workload.baseline))
        .collect();
    if !floors.is_empty() {
        bars.push(Bar {
            name: "No allocators: null, what the harness itself costs; bump on a used heap, the lower bound".to_owned(),
            content: Content::Group,
        });
        bars.extend(floors.into_iter().map(|row| bar(row, workload.baseline)));
    }
    bars
}

fn bar(row: &Row<'_>, baseline: &str) -> Bar {
    let content = match (row.failure(), time(row)) {
        (Some(failure), _) => Content::Reason(failure),
        (None, None) => Content::Reason("no time was measured".to_owned()),
        (None, Some(time)) => {
            let ink = if row.is_floor {
                NEUTRAL
            } else {
                palette::series(row.color).0
            };
            Content::Value {
                parts: vec![Part {
                    end: rate(time.median),
                    ink,
                    is_pale: false,
                }],
                interval: row.has_intervals.then(|| (rate(time.high), rate(time.low))),
                words: words(row, &time, baseline),
            }
        }
    };
    Bar {
        name: row.name().to_owned(),
        content,
    }
}

fn words(row: &Row<'_>, time: &Estimate, baseline: &str) -> String {
    let rate = format::rate(rate(time.median));
    match row.summary.ratio_to_baseline {
        // Two kinds of heap: no ratio.
        _ if bounds::is_bump(row) => format!("{rate} · lower bound"),
        _ if row.is_baseline => format!("{rate} · baseline"),
        Some(ratio) => format!(
            "{rate} · {}× the time of {baseline}",
            format::ratio(ratio.median)
        ),
        None => rate,
    }
}

fn label(workload: &Workload<'_>) -> String {
    let rows: Vec<String> = workload
        .rows
        .iter()
        .map(|row| match (row.failure(), time(row)) {
            (None, Some(time)) => format!("{} {}", row.name(), format::rate(rate(time.median))),
            (failure, _) => format!(
                "{} {}",
                row.name(),
                failure.unwrap_or_else(|| "not measured".to_owned())
            ),
        })
        .collect();
    format!(
        "Bar chart of operations per second on {}: {}",
        workload.name,
        rows.join("; ")
    )
}
