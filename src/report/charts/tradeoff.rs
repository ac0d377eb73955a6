//! Time against memory: one point per allocator, lower left is better.

#![forbid(unsafe_code)]

use super::axis::{Scale, byte_ticks_between, decimal_ticks_between, log_ticks};
use super::canvas::{Anchor, Canvas, Heading, NORMAL, Picture, SMALL, shortened, text_width};
use super::palette::{self, Ink};
use super::{Chart, Drawn, NARROW, WIDE};
use crate::error::Result;
use crate::measure::results::Estimate;
use crate::report::format;
use crate::report::model::{Row, Workload};

/// Ranges wider than this are drawn on logarithmic scales.
const LOG_FROM: f64 = 12.0;

struct Point {
    name: String,
    memory: f64,
    time: Estimate,
    has_interval: bool,
    ink: Ink,
}

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
    let subtitle = format!(
        "One point per allocator{interval}: lower left is better. The axes need not start at zero."
    );
    let heading = Heading {
        title: format!("Time against memory on {}", workload.name),
        subtitle,
    };
    Ok(Chart::Drawn(Drawn {
        file: "time-memory",
        label: format!(
            "Time per operation against peak RSS on {}: {}",
            workload.name,
            words.join("; ")
        ),
        caption: String::new(),
        wide: picture(&heading, &points, WIDE, 380.0)?,
        narrow: Some(picture(&heading, &points, NARROW, 320.0)?),
    }))
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

fn scale(values: &[f64], start: f64, end: f64) -> Scale {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(0.0, f64::max);
    if low > 0.0 && high / low > LOG_FROM {
        Scale::log(low / 1.4, high * 1.4, start, end)
    } else {
        // Points that lie close together would be one heap in a corner of a chart from zero.
        Scale::around(low, high, start, end)
    }
}

fn picture(heading: &Heading, points: &[Point], width: f64, plot: f64) -> Result<Picture> {
    let top = heading.height(width) + 30.0;
    let bottom = top + plot - 60.0;
    let is_narrow = width < 600.0;
    let (left, right) = (66.0, width - 14.0);
    Canvas::draw(width, bottom + 50.0, |canvas| {
        canvas.heading(heading, width);
        let memories: Vec<f64> = points.iter().map(|point| point.memory).collect();
        let times: Vec<f64> = points
            .iter()
            .flat_map(|point| match point.has_interval {
                true => vec![point.time.low, point.time.median, point.time.high],
                false => vec![point.time.median],
            })
            .collect();
        let x = scale(&memories, left, right);
        let y = scale(&times, bottom, top);
        axes(canvas, &x, &y, if is_narrow { 3 } else { 6 });
        canvas.text(
            "↙ better",
            (left + 8.0, bottom - 12.0),
            Anchor::Left,
            SMALL,
            palette::MUTED,
        );
        let mut taken = vec![Area {
            left,
            right: left + 70.0,
            top: bottom - 22.0,
            bottom,
        }];
        for point in points {
            let (px, py) = (x.at(point.memory), y.at(point.time.median));
            if point.has_interval {
                let ends = [point.time.low, point.time.high].map(|time| (px, y.at(time)));
                canvas.interval(ends[0], ends[1], point.ink);
            }
            canvas.dot((px, py), 5.5, point.ink);
            taken.push(Area {
                left: px - 7.0,
                right: px + 7.0,
                top: py - 7.0,
                bottom: py + 7.0,
            });
        }
        let frame = Area {
            left,
            right,
            top: top - 4.0,
            bottom,
        };
        for point in points {
            label(
                canvas,
                point,
                (x.at(point.memory), y.at(point.time.median)),
                &frame,
                &mut taken,
            );
        }
    })
}

fn axes(canvas: &mut Canvas<'_>, x: &Scale, y: &Scale, wanted: usize) {
    let time_ticks = if y.is_log {
        log_ticks(y.low, y.high, 7)
    } else {
        decimal_ticks_between(y.low, y.high, 5)
    };
    for tick in time_ticks {
        canvas.line(
            &[(x.start, y.at(tick)), (x.end, y.at(tick))],
            palette::GRID,
            1.0,
        );
        let label = format::axis_time(tick);
        canvas.text(
            &label,
            (x.start - 8.0, y.at(tick)),
            Anchor::Right,
            SMALL,
            palette::MUTED,
        );
    }
    let memory_ticks = if x.is_log {
        log_byte_ticks(x, wanted)
    } else {
        byte_ticks_between(x.low, x.high, wanted)
    };
    for tick in memory_ticks {
        canvas.line(
            &[(x.at(tick), y.start), (x.at(tick), y.end)],
            palette::GRID,
            1.0,
        );
        let label = format::axis_bytes(tick);
        let center = x
            .at(tick)
            .min(x.end + 10.0 - text_width(&label, SMALL) / 2.0);
        canvas.text(
            &label,
            (center, y.start + 15.0),
            Anchor::Middle,
            SMALL,
            palette::MUTED,
        );
    }
    canvas.line(
        &[(x.start, y.end), (x.start, y.start), (x.end, y.start)],
        palette::AXIS,
        1.0,
    );
    let scaled = |name: &str, scale: &Scale| {
        if scale.is_log {
            format!("{name} (logarithmic)")
        } else {
            name.to_owned()
        }
    };
    canvas.text(
        &scaled("time per operation", y),
        (4.0, y.end - 16.0),
        Anchor::Left,
        SMALL,
        palette::MUTED,
    );
    canvas.text(
        &scaled("peak RSS", x),
        (x.end, y.start + 34.0),
        Anchor::Right,
        SMALL,
        palette::MUTED,
    );
}

/// Powers of two of bytes, thinned to about `wanted`.
fn log_byte_ticks(x: &Scale, wanted: usize) -> Vec<f64> {
    let (first, last) = (x.low.log2().ceil() as i32, x.high.log2().floor() as i32);
    let every = ((last - first + 1).max(1) as usize).div_ceil(wanted).max(1);
    (first..=last)
        .step_by(every)
        .map(|power| 2f64.powi(power))
        .collect()
}

#[derive(Clone, Copy)]
struct Area {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Area {
    fn overlaps(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }

    fn holds(&self, other: &Self) -> bool {
        self.left <= other.left
            && other.right <= self.right
            && self.top <= other.top
            && other.bottom <= self.bottom
    }
}

/// Writes a point's name at the nearest free place around it, with a thread to it if it is far.
fn label(
    canvas: &mut Canvas<'_>,
    point: &Point,
    at: (f64, f64),
    frame: &Area,
    taken: &mut Vec<Area>,
) {
    let name = shortened(&point.name, NORMAL, 150.0);
    let width = text_width(&name, NORMAL);
    let place = |dx: f64, dy: f64| -> Area {
        let left = if dx >= 0.0 {
            at.0 + dx
        } else {
            at.0 + dx - width
        };
        Area {
            left,
            right: left + width,
            top: at.1 + dy - 8.0,
            bottom: at.1 + dy + 8.0,
        }
    };
    let above = |dy: f64| Area {
        left: at.0 - width / 2.0,
        right: at.0 + width / 2.0,
        top: at.1 + dy - 8.0,
        bottom: at.1 + dy + 8.0,
    };
    let mut places = vec![place(12.0, 0.0), place(-12.0, 0.0)];
    for step in 1..12 {
        let dy = f64::from(step) * 9.0;
        places.extend([
            place(12.0, -dy),
            place(12.0, dy),
            place(-12.0, -dy),
            place(-12.0, dy),
        ]);
        if step > 1 {
            places.extend([above(-dy), above(dy)]);
        }
    }
    let is_free =
        |area: &&Area| frame.holds(area) && !taken.iter().any(|other| other.overlaps(area));
    let area = places.iter().find(is_free).copied().unwrap_or(places[0]);
    let middle = (area.top + area.bottom) / 2.0;
    if (middle - at.1).abs() > 14.0 {
        let end = if area.left > at.0 {
            area.left - 3.0
        } else {
            area.right.min(at.0) + 3.0
        };
        canvas.line(&[at, (end, middle)], point.ink, 1.0);
    }
    canvas.text(
        &name,
        (area.left, middle),
        Anchor::Left,
        NORMAL,
        palette::TEXT,
    );
    taken.push(area);
}
