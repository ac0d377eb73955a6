//! Draws a plane of time against memory: points, axes, bounds, the front.

#![forbid(unsafe_code)]

use crate::error::Result;
use crate::measure::results::Estimate;
use crate::report::charts::axis::{Scale, byte_ticks_between, decimal_ticks_between, log_ticks};
use crate::report::charts::canvas::{
    Anchor, Canvas, Heading, NORMAL, Picture, SMALL, shortened, text_width,
};
use crate::report::charts::palette::{self, Ink};
use crate::report::charts::plane::{Area, Axis, axes};

/// Ranges wider than this are drawn on logarithmic scales.
const LOG_FROM: f64 = 12.0;
/// A bound further below the points than this is told in words: drawn, it would press them together.
const BOUND_REACH: f64 = 2.5;

pub(super) struct Point {
    pub(super) name: String,
    pub(super) memory: f64,
    pub(super) time: Estimate,
    pub(super) has_interval: bool,
    pub(super) ink: Ink,
}

/// All that one such chart needs.
pub(super) struct Plane {
    pub(super) heading: Heading,
    pub(super) points: Vec<Point>,
    /// Names of the axes.
    pub(super) x_name: &'static str,
    pub(super) y_name: &'static str,
    pub(super) x_label: fn(f64) -> String,
    pub(super) y_label: fn(f64) -> String,
    /// Whether the ticks of memory are powers of two.
    pub(super) is_in_bytes: bool,
    /// Lower bounds of memory and of time, with their names.
    pub(super) memory_bounds: Vec<(f64, &'static str)>,
    pub(super) time_bound: Option<(f64, &'static str)>,
    /// Times that are not told apart from the baseline's: the noise floor.
    pub(super) noise: Option<(f64, f64)>,
    /// Corners of the front, from the fastest to the leanest.
    pub(super) front: Vec<(f64, f64)>,
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

/// The values with those bounds that lie near enough to be drawn.
fn with_bounds(values: &[f64], bounds: impl Iterator<Item = f64>) -> Vec<f64> {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let near = bounds.filter(|bound| bound * BOUND_REACH > low);
    values.iter().copied().chain(near).collect()
}

pub(super) fn picture(plane: &Plane, width: f64, plot: f64) -> Result<Picture> {
    let points = &plane.points;
    let top = plane.heading.height(width) + 30.0;
    let bottom = top + plot - 60.0;
    let is_narrow = width < 600.0;
    let (left, right) = (66.0, width - 14.0);
    Canvas::draw(width, bottom + 50.0, |canvas| {
        canvas.heading(&plane.heading, width);
        let memories: Vec<f64> = points.iter().map(|point| point.memory).collect();
        let times: Vec<f64> = points
            .iter()
            .flat_map(|point| match point.has_interval {
                true => vec![point.time.low, point.time.median, point.time.high],
                false => vec![point.time.median],
            })
            .collect();
        let memory_bounds = plane.memory_bounds.iter().map(|bound| bound.0);
        let x = scale(&with_bounds(&memories, memory_bounds), left, right);
        let time_bounds = plane.time_bound.iter().map(|bound| bound.0);
        let y = scale(&with_bounds(&times, time_bounds), bottom, top);
        if let Some((low, high)) = plane.noise {
            canvas.rectangle((left, y.at(high)), (right, y.at(low)), palette::SHADE);
        }
        draw_axes(canvas, plane, &x, &y, if is_narrow { 3 } else { 6 });
        let mut taken = bounds(canvas, plane, &x, &y);
        front(canvas, plane, &x, &y);
        canvas.text(
            "↙ better",
            (left + 8.0, bottom - 12.0),
            Anchor::Left,
            SMALL,
            palette::MUTED,
        );
        taken.push(Area {
            left,
            right: left + 70.0,
            top: bottom - 22.0,
            bottom,
        });
        for point in points {
            let (px, py) = (x.at(point.memory), y.at(point.time.median));
            if point.has_interval {
                let ends = [point.time.low, point.time.high].map(|time| (px, y.at(time)));
                canvas.interval(ends[0], ends[1], point.ink);
            }
            canvas.dot((px, py), 5.5, point.ink);
            taken.push(Area::around((px, py), 7.0));
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

/// Dashed lines at the bounds that lie within the chart; returns what their names take up.
fn bounds(canvas: &mut Canvas<'_>, plane: &Plane, x: &Scale, y: &Scale) -> Vec<Area> {
    let mut taken = Vec::new();
    if let Some((time, name)) = plane.time_bound.filter(|bound| bound.0 >= y.low) {
        let at = y.at(time);
        canvas.dashed_line(&[(x.start, at), (x.end, at)], palette::NEUTRAL, 1.5, (4, 4));
        let width = text_width(name, SMALL);
        canvas.text(
            name,
            (x.end, at - 9.0),
            Anchor::Right,
            SMALL,
            palette::MUTED,
        );
        taken.push(Area {
            left: x.end - width,
            right: x.end,
            top: at - 18.0,
            bottom: at,
        });
    }
    // They often lie close together: the names stand below one another, before the lines.
    let drawn = || {
        let bounds = plane.memory_bounds.iter().enumerate();
        bounds.filter(|(_, bound)| bound.0 >= x.low)
    };
    for (n, (memory, _)) in drawn() {
        let at = x.at(*memory);
        let dash = if n == 0 { (4, 4) } else { (2, 4) };
        canvas.dashed_line(&[(at, y.start), (at, y.end)], palette::NEUTRAL, 1.5, dash);
    }
    for (n, (memory, name)) in drawn() {
        let (at, middle) = (x.at(*memory), y.end + 8.0 + 16.0 * n as f64);
        let width = text_width(name, SMALL);
        let left = (at + 6.0).min(x.end - width);
        canvas.rectangle(
            (left - 2.0, middle - 7.0),
            (left + width + 2.0, middle + 7.0),
            palette::BACKGROUND,
        );
        canvas.text(name, (left, middle), Anchor::Left, SMALL, palette::MUTED);
        taken.push(Area {
            left: left - 6.0,
            right: left + width,
            top: middle - 8.0,
            bottom: middle + 8.0,
        });
    }
    taken
}

/// The front as steps: what lies right of and above them is beaten.
fn front(canvas: &mut Canvas<'_>, plane: &Plane, x: &Scale, y: &Scale) {
    let mut steps: Vec<(f64, f64)> = Vec::new();
    for &(memory, time) in &plane.front {
        let corner = (x.at(memory), y.at(time));
        match steps.last() {
            Some(&(_, above)) => steps.push((corner.0, above)),
            None => steps.push((corner.0, y.end)),
        }
        steps.push(corner);
    }
    if let Some(&(_, last)) = steps.last() {
        steps.push((x.end, last));
        canvas.line(&steps, palette::AXIS, 1.5);
    }
}

fn draw_axes(canvas: &mut Canvas<'_>, plane: &Plane, x: &Scale, y: &Scale, wanted: usize) {
    let times = match y.is_log {
        true => log_ticks(y.low, y.high, 7),
        false => decimal_ticks_between(y.low, y.high, 5),
    };
    let memories = match (plane.is_in_bytes, x.is_log) {
        (true, true) => log_byte_ticks(x, wanted),
        (true, false) => byte_ticks_between(x.low, x.high, wanted),
        (false, true) => log_ticks(x.low, x.high, wanted),
        (false, false) => decimal_ticks_between(x.low, x.high, wanted),
    };
    axes(
        canvas,
        &Axis {
            name: plane.x_name,
            scale: x,
            ticks: memories,
            label: &plane.x_label,
        },
        &Axis {
            name: plane.y_name,
            scale: y,
            ticks: times,
            label: &plane.y_label,
        },
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
    // The steps of a front may run behind the name.
    canvas.rectangle(
        (area.left - 2.0, area.top + 1.0),
        (area.right + 2.0, area.bottom - 1.0),
        palette::BACKGROUND,
    );
    canvas.text(
        &name,
        (area.left, middle),
        Anchor::Left,
        NORMAL,
        palette::TEXT,
    );
    taken.push(area);
}
