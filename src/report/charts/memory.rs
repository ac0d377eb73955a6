//! Memory over the trace: what the program had asked for, and what each allocator held.

#![forbid(unsafe_code)]

use super::axis::{Scale, byte_ticks, decimal_ticks, spread};
use super::canvas::{Anchor, Canvas, Heading, NORMAL, Picture, SMALL, shortened, text_width};
use super::palette::{self, Ink};
use super::{Chart, Drawn, NARROW, WIDE};
use crate::error::Result;
use crate::measure::results::MemorySample;
use crate::report::format;
use crate::report::model::{Row, Workload};

/// More points than this per line would not be seen.
const POINTS_MAX: usize = 500;

/// A line with its name at the right end.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
    ink: Ink,
    dash: Option<(i32, i32)>,
    width: f64,
}

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
        subtitle: "RSS of each allocator after so many operations, and the live bytes that the program had asked \
                   for (grey area): lower is better."
            .to_owned(),
    };
    Ok(Chart::Drawn(Drawn {
        file: "memory",
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

/// Fewer points of the same shape: of each run, the lowest and the highest stay.
pub(super) fn decimated(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if points.len() <= POINTS_MAX {
        return points;
    }
    let run = (2 * points.len()).div_ceil(POINTS_MAX);
    let mut out = Vec::with_capacity(POINTS_MAX + 2);
    out.push(points[0]);
    for chunk in points.chunks(run) {
        let low = chunk.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1));
        let high = chunk.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
        if let (Some(low), Some(high)) = (low, high) {
            out.extend(if low.0 <= high.0 {
                [low, high]
            } else {
                [high, low]
            });
        }
    }
    out.extend(points.last());
    out.dedup();
    out
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

fn draw_lines(canvas: &mut Canvas<'_>, lines: &[Line], x: &Scale, y: &Scale) {
    for (n, line) in lines.iter().enumerate() {
        let points: Vec<(f64, f64)> = line
            .points
            .iter()
            .map(|&(px, py)| (x.at(px), y.at(py)))
            .collect();
        if n == 0 {
            // The first line is the live bytes: an area, so that it cannot be taken for an allocator.
            let mut area = vec![(points[0].0, y.start)];
            area.extend(&points);
            area.push((points[points.len() - 1].0, y.start));
            canvas.area(&area, palette::SHADE);
        }
        match line.dash {
            Some(dash) => canvas.dashed_line(&points, line.ink, line.width, dash),
            None => canvas.line(&points, line.ink, line.width),
        }
    }
}

fn draw_labels(
    canvas: &mut Canvas<'_>,
    lines: &[Line],
    x: &Scale,
    y: &Scale,
    range: (f64, f64),
    room: f64,
) {
    let ends: Vec<(f64, f64)> = lines
        .iter()
        .map(|line| line.points[line.points.len() - 1])
        .map(|(px, py)| (x.at(px), y.at(py)))
        .collect();
    let wishes: Vec<f64> = ends.iter().map(|end| end.1).collect();
    let placed = spread(&wishes, 17.0, range.0 + 6.0, range.1 - 4.0);
    for ((line, end), label_y) in lines.iter().zip(&ends).zip(placed) {
        let start = x.end + 22.0;
        canvas.line(
            &[
                *end,
                (x.end + 6.0, end.1),
                (start - 6.0, label_y),
                (start, label_y),
            ],
            line.ink,
            1.5,
        );
        canvas.text(
            &shortened(&line.name, NORMAL, room),
            (start + 6.0, label_y),
            Anchor::Left,
            NORMAL,
            palette::TEXT,
        );
    }
}

fn caption(workload: &Workload<'_>, drawn: &[&Row<'_>], huge_pages: Option<&str>) -> String {
    let mut sentences = Vec::new();
    let missing: Vec<&str> = workload
        .rows
        .iter()
        .filter(|row| !row.is_floor && !drawn.iter().any(|other| other.name() == row.name()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_extremes_and_both_ends() {
        let mut points: Vec<(f64, f64)> = (0..10_000)
            .map(|n| (f64::from(n), f64::from(n % 7)))
            .collect();
        points[5432].1 = 1e6;
        points[777].1 = -3.0;
        let thin = decimated(points.clone());
        assert!(thin.len() <= 2 * POINTS_MAX, "{}", thin.len());
        assert!(thin.contains(&points[5432]) && thin.contains(&points[777]));
        assert_eq!((thin[0], thin[thin.len() - 1]), (points[0], points[9999]));
        assert!(thin.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    }
}
