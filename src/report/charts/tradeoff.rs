//! Time against memory: one point per allocator, lower left is better. On one workload in their own
//! units, over many as ratios to the baseline.

#![forbid(unsafe_code)]

mod plane;

use self::plane::{Plane, Point, picture};
use super::canvas::Heading;
use super::palette;
use super::{Chart, Drawn, NARROW, WIDE};
use crate::error::Result;
use crate::measure::rank::Ranking;
use crate::measure::results::Estimate;
use crate::report::model::{Report, Row, Workload};
use crate::report::{bounds, format};

/// The chart of one workload.
pub(super) fn draw(workload: &Workload<'_>) -> Result<Chart> {
    let points: Vec<Point> = workload
        .rows
        .iter()
        .filter(|row| row.is_candidate())
        .filter_map(point)
        .collect();
    if points.is_empty() {
        return Ok(Chart::Absent(
            "No chart of time against memory: no allocator has both a time and a memory measurement.".to_owned(),
        ));
    }
    let words: Vec<String> = points
        .iter()
        .map(|point| {
            format!(
                "{} {} and {}",
                point.name,
                format::time_ns(point.time.median),
                format::bytes(point.memory)
            )
        })
        .collect();
    let interval = if workload.has_intervals() {
        ", with the 95 % interval of its time"
    } else {
        ""
    };
    let base = workload
        .baseline_row()
        .and_then(|row| row.summary.ns_per_operation);
    let noise = workload
        .noise()
        .zip(base)
        .map(|(noise, base)| (noise.low * base.median, noise.high * base.median));
    let band = if noise.is_some() {
        " Shaded: the noise floor, what the baseline differs from itself by."
    } else {
        ""
    };
    let time_bound = bounds::time_ns(workload).map(|time| (time, bounds::TIME_BOUND));
    let live = bounds::of_memory(workload);
    let caption = if workload.program().is_some() {
        "No lower bounds: bump cannot serve a real program, and what is live in one is not known."
            .to_owned()
    } else {
        bound_words(time_bound, &live, format::time_ns, format::bytes)
    };
    let plane = Plane {
        heading: Heading {
            title: format!("Time against memory on {}", workload.name),
            subtitle: format!(
                "One point per allocator{interval}: lower left is better.{band} The axes need not start at zero."
            ),
        },
        points,
        x_name: "peak RSS",
        y_name: if workload.program().is_some() {
            "CPU time"
        } else {
            "time per operation"
        },
        x_label: format::axis_bytes,
        y_label: format::axis_time,
        is_in_bytes: true,
        memory_bounds: live,
        time_bound,
        noise,
        front: Vec::new(),
    };
    Ok(Chart::Drawn(Drawn {
        file: "time-memory".to_owned(),
        label: format!(
            "{} against peak RSS on {}: {}",
            plane.y_name,
            workload.name,
            words.join("; ")
        ),
        caption,
        wide: picture(&plane, WIDE, 380.0)?,
        narrow: Some(picture(&plane, NARROW, 320.0)?),
    }))
}

/// The chart over many workloads: geometric means, and the front.
pub(super) fn pareto(report: &Report<'_>, ranking: &Ranking) -> Result<Option<Chart>> {
    let color = |name: &str| {
        let mut rows = report.workloads.iter().flat_map(|workload| &workload.rows);
        rows.find(|row| row.name() == name)
            .map_or(0, |row| row.color)
    };
    let points: Vec<Point> = ranking
        .rows
        .iter()
        .filter_map(|row| {
            Some(Point {
                name: row.subject.clone(),
                memory: row.rss_to_baseline?,
                time: Estimate {
                    median: row.time_to_baseline,
                    low: row
                        .time_interval
                        .map_or(row.time_to_baseline, |ends| ends.low),
                    high: row
                        .time_interval
                        .map_or(row.time_to_baseline, |ends| ends.high),
                },
                has_interval: row.time_interval.is_some(),
                ink: palette::series(color(&row.subject)).0,
            })
        })
        .collect();
    if points.len() < 2 {
        return Ok(None);
    }
    let mut front: Vec<(f64, f64)> = ranking
        .rows
        .iter()
        .filter(|row| row.is_on_front == Some(true))
        .filter_map(|row| Some((row.rss_to_baseline?, row.time_to_baseline)))
        .collect();
    front.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Who is on the front for not being told apart from a faster and leaner one is no corner.
    let mut least = f64::INFINITY;
    front.retain(|&(_, time)| {
        let is_corner = time < least;
        least = least.min(time);
        is_corner
    });
    let words: Vec<String> = points
        .iter()
        .map(|point| {
            format!(
                "{} time {}, memory {}",
                point.name,
                format::ratio(point.time.median),
                format::ratio(point.memory)
            )
        })
        .collect();
    let bounds = bounds::of_ranking(report, ranking);
    let time_bound = bounds.time.map(|time| (time, bounds::TIME_BOUND));
    let ratio = |value: f64| format!("{}×", format::ratio(value));
    let caption = bound_words(time_bound, &bounds.memory, ratio, ratio);
    let plane = Plane {
        heading: Heading {
            title: "Time against memory, over the workloads".to_owned(),
            subtitle: format!(
                "Geometric means relative to {}, {}lower left is better. The grey steps \
                 join the least times for so much memory.",
                ranking.baseline,
                if points.iter().any(|point| point.has_interval) {
                    "with the 95 % interval of time: "
                } else {
                    ""
                }
            ),
        },
        points,
        x_name: "peak RSS, relative",
        y_name: "time, relative",
        x_label: |value| format!("{}×", format::axis_number(value)),
        y_label: |value| format!("{}×", format::axis_number(value)),
        is_in_bytes: false,
        memory_bounds: bounds.memory,
        time_bound,
        noise: None,
        front,
    };
    Ok(Some(Chart::Drawn(Drawn {
        file: "front".to_owned(),
        label: format!(
            "Time against peak RSS over the workloads: {}",
            words.join("; ")
        ),
        caption,
        wide: picture(&plane, WIDE, 380.0)?,
        narrow: Some(picture(&plane, NARROW, 320.0)?),
    })))
}

fn point(row: &Row<'_>) -> Option<Point> {
    let time = row.summary.ns_per_operation?;
    let memory = row.summary.rss_peak_bytes? as f64;
    let is_whole = [time.low, time.median, time.high]
        .iter()
        .all(|value| value.is_finite() && *value > 0.0);
    is_whole.then(|| Point {
        name: row.name().to_owned(),
        memory,
        time,
        has_interval: row.has_intervals,
        ink: palette::series(row.color).0,
    })
}

/// The bounds in words, and which of them are missing.
fn bound_words(
    time: Option<(f64, &str)>,
    memory: &[(f64, &str)],
    time_words: impl Fn(f64) -> String,
    memory_words: impl Fn(f64) -> String,
) -> String {
    let mut sentences = vec![match time {
        Some((time, name)) => format!("Time, {name}: {}.", time_words(time)),
        None => "Time has no lower bound here: bump was not measured on a used heap.".to_owned(),
    }];
    if memory.is_empty() {
        sentences.push("Memory has none: it was not measured.".to_owned());
    }
    for (bytes, name) in memory {
        let explained = match *name {
            bounds::PAGES_REFERENCE => format!(" ({})", bounds::PAGES_WORDS),
            _ => String::new(),
        };
        sentences.push(format!(
            "Memory, {name}: {}{explained}.",
            memory_words(*bytes)
        ));
    }
    sentences.join(" ")
}
