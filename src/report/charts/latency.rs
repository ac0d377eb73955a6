//! Latency percentiles, one chart per kind of operation: the tail that a mean hides.

#![forbid(unsafe_code)]

use super::axis::{Scale, log_ticks};
use super::canvas::{Anchor, Canvas, Heading, NORMAL, Picture, SMALL, text_width};
use super::lines::{Line, draw_labels, draw_lines};
use super::{Chart, Drawn, NARROW, WIDE, palette};
use crate::error::Result;
use crate::measure::results::LatencyRow;
use crate::report::format;
use crate::report::latency::{self, Operation, PERCENTILES, percentiles};
use crate::report::model::Workload;
use crate::statistics::median;

/// One chart per kind of operation that was measured; none if no latency was.
pub(super) fn draw(workload: &Workload<'_>) -> Result<Vec<Chart>> {
    latency::operations(workload)
        .iter()
        .map(|operation| of_operation(workload, operation))
        .collect()
}

fn of_operation(workload: &Workload<'_>, operation: &Operation) -> Result<Chart> {
    let step_ns = latency::step_ns(workload);
    let measured = || {
        let rows = workload.rows.iter();
        rows.filter_map(|row| Some((row, latency::row(row, operation)?)))
    };
    // Percentiles that nobody has are no places of the axis.
    let columns: Vec<usize> = (0..PERCENTILES.len())
        .filter(|&at| measured().any(|(_, latency)| percentiles(latency)[at].is_some()))
        .collect();
    let lines: Vec<Line> = measured()
        .map(|(row, latency)| {
            let points = points(latency, &columns, step_ns);
            let (ink, dash) = if row.is_floor {
                (palette::NEUTRAL, Some((3, 4)))
            } else {
                palette::series(row.color)
            };
            Line {
                name: row.name().to_owned(),
                points,
                ink,
                dash,
                width: 2.0,
            }
        })
        .collect();
    let words: Vec<String> = lines
        .iter()
        .map(|line| {
            let at = |n: usize| format::time_ns(line.points[n].1);
            let last = line.points.len() - 1;
            format!("{} {} at p50, {} at most", line.name, at(0), at(last))
        })
        .collect();
    let name = operation.words();
    let heading = Heading {
        title: format!("Latency of {name} on {}", workload.name),
        subtitle: format!(
            "Time of a single call by percentile, less {} for the clock itself: lower is better. \
             Logarithmic scale; grey dashes are bounds, no allocators.",
            clock_cost(workload)
        ),
    };
    let other = if operation.other_thread {
        "-other-thread"
    } else {
        ""
    };
    Ok(Chart::Drawn(Drawn {
        file: format!("latency-{}{other}", file_word(&operation.name)),
        label: format!(
            "Line chart of latency percentiles of {name} on {}: {}",
            workload.name,
            words.join("; ")
        ),
        // It stands once, above all of these charts.
        caption: String::new(),
        wide: picture(&heading, &columns, &lines, WIDE, 360.0)?,
        narrow: Some(picture(&heading, &columns, &lines, NARROW, 320.0)?),
    }))
}

fn clock_cost(workload: &Workload<'_>) -> String {
    let samples = workload.rows.iter().flat_map(latency::samples);
    let costs: Vec<f64> = samples
        .map(|sample| sample.clock_cost_ns)
        .filter(|cost| cost.is_finite())
        .collect();
    median(&costs).map_or("the cost".to_owned(), format::time_ns)
}

/// A name that is safe in a file name, whatever stands in the file.
fn file_word(name: &str) -> String {
    let safe = name.chars().filter(char::is_ascii_alphanumeric);
    safe.take(20).collect::<String>().to_lowercase()
}

/// The percentiles that there are, at their places among the columns. Below the clock's step nothing is told apart, and a logarithm needs more than 0.
fn points(row: &LatencyRow, columns: &[usize], step_ns: u64) -> Vec<(f64, f64)> {
    let times = percentiles(row);
    columns
        .iter()
        .enumerate()
        .filter_map(|(at, column)| Some((at as f64, times[*column]?.max(step_ns) as f64)))
        .collect()
}

fn picture(
    heading: &Heading,
    columns: &[usize],
    lines: &[Line],
    width: f64,
    plot: f64,
) -> Result<Picture> {
    let top = heading.height(width) + 8.0;
    let bottom = top + plot - 60.0;
    let is_narrow = width < 600.0;
    let names = lines
        .iter()
        .map(|line| text_width(&line.name, NORMAL))
        .fold(60.0, f64::max);
    let label_room = names.min(if is_narrow { 92.0 } else { 170.0 });
    let (left, right) = (58.0, width - label_room - 34.0);
    let values = || {
        lines
            .iter()
            .flat_map(|line| &line.points)
            .map(|point| point.1)
    };
    let low = values().fold(f64::INFINITY, f64::min) / 1.3;
    let high = values().fold(0.0, f64::max) * 1.3;
    Canvas::draw(width, bottom + 34.0, |canvas| {
        canvas.heading(heading, width);
        let y = Scale::log(low, high, bottom, top);
        let x = Scale::from_zero(columns.len().saturating_sub(1) as f64, left + 10.0, right);
        for tick in log_ticks(y.low, y.high, 8) {
            canvas.line(
                &[(left, y.at(tick)), (right, y.at(tick))],
                palette::GRID,
                1.0,
            );
            canvas.text(
                &format::axis_time(tick),
                (left - 8.0, y.at(tick)),
                Anchor::Right,
                SMALL,
                palette::MUTED,
            );
        }
        let mut free_from = f64::MIN;
        for (at, column) in columns.iter().enumerate() {
            let (name, middle) = (PERCENTILES[*column], x.at(at as f64));
            canvas.line(
                &[(middle, bottom), (middle, bottom + 5.0)],
                palette::AXIS,
                1.0,
            );
            let half = text_width(name, SMALL) / 2.0;
            if middle - half >= free_from {
                canvas.text(
                    name,
                    (middle, bottom + 15.0),
                    Anchor::Middle,
                    SMALL,
                    palette::MUTED,
                );
                free_from = middle + half + 3.0;
            }
        }
        canvas.line(&[(left, bottom), (right, bottom)], palette::AXIS, 1.0);
        draw_lines(canvas, lines, &x, &y);
        // What was measured; between the dots the lines only lead the eye.
        for line in lines {
            for point in &line.points {
                canvas.dot((x.at(point.0), y.at(point.1)), 2.5, line.ink);
            }
        }
        draw_labels(canvas, lines, &x, &y, (top, bottom), label_room);
    })
}
