//! Memory over the trace: what the program had asked for, and what each allocator held.

#![forbid(unsafe_code)]

use super::axis::{Scale, byte_ticks, decimal_ticks};
use super::canvas::{Anchor, Canvas, Heading, NORMAL, Picture, SMALL, text_width};
use super::lines::{Line, decimated, draw_labels, draw_lines};
use super::palette;
use super::{Chart, Drawn, NARROW, WIDE};
use crate::error::Result;
use crate::measure::memory::allowed_difference_bytes;
use crate::measure::results::MemorySample;
use crate::report::model::{Row, Workload};
use crate::report::{bounds, format};

pub(super) fn draw(workload: &Workload<'_>, huge_pages: Option<&str>) -> Result<Chart> {
    // `null` holds nothing and `bump` frees nothing: their memory is no bound, and hides the others.
    let has_curve = |row: &&Row<'_>| {
        row.is_candidate() && row.memory.is_some_and(|memory| memory.curve.len() > 1)
    };
    let rows: Vec<&Row<'_>> = workload.rows.iter().filter(has_curve).collect();
    let Some(first) = rows.first().and_then(|row| row.memory) else {
        return Ok(Chart::Absent(
            "No chart of memory over the trace: no allocator's memory was sampled.".to_owned(),
        ));
    };
    let mut lines = vec![live_line(first)];
    let reference = bounds::page_run_bytes(workload);
    lines.extend(reference.and_then(|bytes| page_line(first, bytes)));
    let dashes = match reference {
        Some(_) => {
            " Grey dashes, a reference for the peak: live bytes in one run of OS pages per size class."
        }
        None => "",
    };
    for row in &rows {
        let Some(memory) = row.memory else { continue };
        let (ink, dash) = palette::series(row.color);
        let points = memory
            .curve
            .iter()
            .map(|point| (point.operation as f64, point.rss_bytes as f64))
            .collect();
        lines.push(Line {
            name: row.name().to_owned(),
            points: decimated(points),
            ink,
            dash,
            width: 2.0,
        });
    }
    let heading = Heading {
        title: format!("Memory over {}", workload.name),
        subtitle: format!(
            "RSS of each allocator after so many operations: lower is better. Grey area, the lower bound: live bytes, \
             which the program had asked for and not freed.{dashes}"
        ),
    };
    Ok(Chart::Drawn(Drawn {
        file: "memory".to_owned(),
        label: label(workload, &rows),
        caption: caption(workload, &rows, huge_pages),
        wide: picture(&heading, &lines, WIDE, 420.0)?,
        narrow: Some(picture(&heading, &lines, NARROW, 340.0)?),
    }))
}

fn live_line(memory: &MemorySample) -> Line {
    let points = memory
        .curve
        .iter()
        .map(|point| (point.operation as f64, point.live_bytes as f64))
        .collect();
    Line {
        name: "live bytes".to_owned(),
        points: decimated(points),
        ink: palette::NEUTRAL,
        dash: None,
        width: 1.5,
    }
}

/// The live bytes at their peak, each size class rounded up to whole OS pages.
fn page_line(memory: &MemorySample, bytes: u64) -> Option<Line> {
    let last = memory.curve.last()?.operation as f64;
    Some(Line {
        name: "page runs".to_owned(),
        points: vec![(0.0, bytes as f64), (last, bytes as f64)],
        ink: palette::NEUTRAL,
        dash: Some((4, 4)),
        width: 1.5,
    })
}

fn picture(heading: &Heading, lines: &[Line], width: f64, plot: f64) -> Result<Picture> {
    let top = heading.height(width) + 8.0;
    let bottom = top + plot - 60.0;
    let highest = |of: fn(&(f64, f64)) -> f64| {
        lines
            .iter()
            .flat_map(|line| &line.points)
            .map(of)
            .fold(0.0, f64::max)
    };
    let (x_high, y_high) = (highest(|point| point.0), highest(|point| point.1) * 1.03);
    let is_narrow = width < 600.0;
    let names = lines
        .iter()
        .map(|line| text_width(&line.name, NORMAL))
        .fold(60.0, f64::max);
    let label_room = names.min(if is_narrow { 92.0 } else { 170.0 });
    let right = width - label_room - 34.0;
    Canvas::draw(width, bottom + 46.0, |canvas| {
        canvas.heading(heading, width);
        let y = Scale::from_zero(y_high, bottom, top);
        let ticks = byte_ticks(y_high, 5);
        let left = ticks
            .iter()
            .map(|&tick| text_width(&format::axis_bytes(tick), SMALL))
            .fold(20.0, f64::max)
            + 12.0;
        let x = Scale::from_zero(x_high, left, right);
        for &tick in &ticks {
            canvas.line(
                &[(left, y.at(tick)), (right, y.at(tick))],
                palette::GRID,
                1.0,
            );
            canvas.text(
                &format::axis_bytes(tick),
                (left - 8.0, y.at(tick)),
                Anchor::Right,
                SMALL,
                palette::MUTED,
            );
        }
        operations_axis(canvas, &x, bottom, if is_narrow { 3 } else { 6 });
        area(canvas, &lines[0], &x, &y);
        draw_lines(canvas, lines, &x, &y);
        draw_labels(canvas, lines, &x, &y, (top, bottom), label_room);
    })
}

/// The axis that counts operations; shared with the live bytes of a trace, which counts events.
pub(super) fn operations_axis(canvas: &mut Canvas<'_>, x: &Scale, bottom: f64, wanted: usize) {
    for tick in decimal_ticks(x.high, wanted) {
        canvas.line(
            &[(x.at(tick), bottom), (x.at(tick), bottom + 5.0)],
            palette::AXIS,
            1.0,
        );
        let label = format::axis_number(tick);
        canvas.text(
            &label,
            (x.at(tick), bottom + 15.0),
            Anchor::Middle,
            SMALL,
            palette::MUTED,
        );
    }
    canvas.line(&[(x.start, bottom), (x.end, bottom)], palette::AXIS, 1.0);
    canvas.text(
        "operations",
        ((x.start + x.end) / 2.0, bottom + 33.0),
        Anchor::Middle,
        SMALL,
        palette::MUTED,
    );
}

/// The live bytes as an area, so that they cannot be taken for an allocator's line.
fn area(canvas: &mut Canvas<'_>, line: &Line, x: &Scale, y: &Scale) {
    let mut area: Vec<(f64, f64)> = line
        .points
        .iter()
        .map(|&(px, py)| (x.at(px), y.at(py)))
        .collect();
    area.insert(0, (area[0].0, y.start));
    area.push((area[area.len() - 1].0, y.start));
    canvas.area(&area, palette::SHADE);
}

fn caption(workload: &Workload<'_>, drawn: &[&Row<'_>], huge_pages: Option<&str>) -> String {
    let mut sentences = Vec::new();
    sentences.extend(
        workload
            .rows
            .iter()
            .filter(|row| !row.is_floor)
            .filter_map(|row| {
                Some(format!(
                    "{}: not measurable, {}.",
                    row.name(),
                    row.unmeasurable?
                ))
            }),
    );
    sentences.extend(inside_calls(drawn));
    let missing: Vec<&str> = workload
        .rows
        .iter()
        .filter(|row| !row.is_floor && row.unmeasurable.is_none())
        .filter(|row| !drawn.iter().any(|other| other.name() == row.name()))
        .map(Row::name)
        .collect();
    if !missing.is_empty() {
        sentences.push(format!(
            "Without a line, because there is no finished memory sample: {}.",
            format::list(&missing)
        ));
    }
    let floors: Vec<&str> = workload
        .rows
        .iter()
        .filter(|row| row.is_floor)
        .map(Row::name)
        .collect();
    if !floors.is_empty() {
        sentences.push(format!(
            "Not drawn: {}, which do not manage memory.",
            format::list(&floors)
        ));
    }
    if let Some(mode @ ("always" | "madvise")) = huge_pages {
        sentences.push(format!(
            "Transparent huge pages are set to “{mode}” on this machine: an allocator that asks for pages of \
             2 MiB is charged whole ones, and its RSS depends on that setting."
        ));
    }
    sentences.join(" ")
}

/// Whose memory was higher at some moment inside a call than any line shows.
fn inside_calls(drawn: &[&Row<'_>]) -> Option<String> {
    let higher: Vec<String> = drawn
        .iter()
        .filter_map(|row| Some((row, row.memory?)))
        .filter(|(_, memory)| {
            let between = memory.rss_peak_between_calls_bytes;
            memory.rss_peak_bytes > between + allowed_difference_bytes(between)
        })
        .map(|(row, memory)| {
            format!(
                "{} {} against {}",
                row.name(),
                format::bytes(memory.rss_peak_bytes as f64),
                format::bytes(memory.rss_peak_between_calls_bytes as f64)
            )
        })
        .collect();
    (!higher.is_empty()).then(|| {
        format!(
            "The lines are from samples between calls; inside a call, as when a reallocation copies, the peak was \
             higher: {}.",
            format::list(&higher)
        )
    })
}

fn label(workload: &Workload<'_>, rows: &[&Row<'_>]) -> String {
    let peaks: Vec<String> = rows
        .iter()
        .filter_map(|row| Some((row.name(), row.memory?)))
        .map(|(name, memory)| {
            format!(
                "{name} peaks at {}",
                format::bytes(memory.rss_peak_bytes as f64)
            )
        })
        .collect();
    format!(
        "Line chart of RSS over the operations of {}: {}",
        workload.name,
        peaks.join("; ")
    )
}
