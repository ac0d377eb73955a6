//! Predicted against real ratios: one point per program and subject, and the diagonal that they would
//! lie on if replay predicted reality.

#![forbid(unsafe_code)]

use super::axis::{Scale, decimal_ticks_between, log_ticks};
use super::canvas::{Anchor, Canvas, Heading, Picture, SMALL, text_width};
use super::palette::{self, Ink};
use super::plane::{Area, Axis, axes};
use super::{Chart, Drawn, NARROW, WIDE};
use crate::error::Result;
use crate::measure::fidelity::{Policy, Prediction};
use crate::report::format;

/// Ratios that lie further apart are drawn on logarithmic scales.
const LOG_FROM: f64 = 4.0;
/// Room for a line of names.
const LINE: f64 = 18.0;

struct Point {
    real: f64,
    predicted: f64,
    subject: usize,
    program: usize,
}

/// All that one of the two charts needs.
struct Plane {
    heading: Heading,
    subjects: Vec<String>,
    programs: Vec<String>,
    points: Vec<Point>,
}

/// The chart of time and the chart of peak RSS.
pub(super) fn draw(policy: &Policy, baseline: &str) -> Result<[Chart; 2]> {
    let time = |one: &Prediction| Some((one.real_time.median, one.predicted_time.median));
    let rss = |one: &Prediction| one.real_rss.zip(one.predicted_rss);
    Ok([
        chart(policy, baseline, "CPU time", "fidelity-time", &time)?,
        chart(policy, baseline, "peak RSS", "fidelity-rss", &rss)?,
    ])
}

fn chart(
    policy: &Policy,
    baseline: &str,
    what: &str,
    file: &str,
    of: &dyn Fn(&Prediction) -> Option<(f64, f64)>,
) -> Result<Chart> {
    let mut subjects: Vec<String> = Vec::new();
    let mut points = Vec::new();
    for (program, found) in policy.programs.iter().enumerate() {
        for one in &found.subjects {
            let Some((real, predicted)) = of(one) else {
                continue;
            };
            let known = subjects.iter().position(|name| *name == one.subject);
            let subject = known.unwrap_or_else(|| {
                subjects.push(one.subject.clone());
                subjects.len() - 1
            });
            points.push(Point {
                real,
                predicted,
                subject,
                program,
            });
        }
    }
    if points.is_empty() {
        return Ok(Chart::Absent(format!(
            "No chart of predicted against real {what}: no program has both."
        )));
    }
    let words: Vec<String> = points
        .iter()
        .map(|point| {
            format!(
                "{} under {}: real {}, predicted {}",
                policy.programs[point.program].name,
                subjects[point.subject],
                format::ratio(point.real),
                format::ratio(point.predicted)
            )
        })
        .collect();
    let short = |name: &String| name.strip_prefix("program-").unwrap_or(name).to_owned();
    let plane = Plane {
        heading: Heading {
            title: format!("Predicted against real {what}"),
            subtitle: format!(
                "Ratios to {baseline}: across, of the real programs; upwards, as the replays of their \
                 traces predict. One point per program and allocator; on the line, replay is right."
            ),
        },
        subjects,
        programs: policy.programs.iter().map(|one| short(&one.name)).collect(),
        points,
    };
    Ok(Chart::Drawn(Drawn {
        file: file.to_owned(),
        label: format!("Predicted against real {what}: {}", words.join("; ")),
        caption: String::new(),
        wide: picture(&plane, WIDE, 460.0)?,
        narrow: Some(picture(&plane, NARROW, 330.0)?),
    }))
}

fn picture(plane: &Plane, width: f64, plot: f64) -> Result<Picture> {
    let legend = legend(&plane.subjects, width);
    let top = plane.heading.height(width) + 32.0 + LINE * legend.len() as f64;
    let (bottom, left, right) = (top + plot - 50.0, 60.0, width - 14.0);
    let values = || {
        plane
            .points
            .iter()
            .flat_map(|one| [one.real, one.predicted])
    };
    let low = values().fold(1.0, f64::min);
    let high = values().fold(1.0, f64::max);
    Canvas::draw(width, bottom + 50.0, |canvas| {
        canvas.heading(&plane.heading, width);
        for (row, entries) in legend.iter().enumerate() {
            let y = top - 28.0 - LINE * (legend.len() - row) as f64 + LINE / 2.0;
            for (x, subject) in entries {
                canvas.dot((x + 6.0, y), 5.0, ink(*subject));
                let name = &plane.subjects[*subject];
                canvas.text(name, (x + 16.0, y), Anchor::Left, SMALL, palette::TEXT);
            }
        }
        let scale = |start, end| match high / low > LOG_FROM {
            true => Scale::log(low / 1.1, high * 1.1, start, end),
            false => Scale::around(low, high, start, end),
        };
        let (x, y) = (scale(left, right), scale(bottom, top));
        let ticks = match x.is_log {
            true => log_ticks(x.low, x.high, 7),
            false => decimal_ticks_between(x.low, x.high, if width < 600.0 { 4 } else { 8 }),
        };
        let label = |tick| format!("{}×", format::axis_number(tick));
        let axis = |name, scale| Axis {
            name,
            scale,
            ticks: ticks.clone(),
            label: &label,
        };
        axes(canvas, &axis("real", &x), &axis("predicted", &y));
        let ends = [x.low, x.high].map(|value| (x.at(value), y.at(value)));
        canvas.dashed_line(&ends, palette::AXIS, 1.5, (6, 4));
        let places: Vec<(f64, f64)> = plane
            .points
            .iter()
            .map(|point| (x.at(point.real), y.at(point.predicted)))
            .collect();
        for (point, at) in plane.points.iter().zip(&places) {
            canvas.dot(*at, 5.0, ink(point.subject));
        }
        let mut taken: Vec<Area> = places.iter().map(|at| Area::around(*at, 5.0)).collect();
        for (point, at) in plane.points.iter().zip(&places) {
            // Names of those that are off; near the line they would cover one another.
            if (point.predicted / point.real - 1.0).abs() <= 0.05 {
                continue;
            }
            let name = &plane.programs[point.program];
            let room = Area {
                left,
                right,
                top,
                bottom,
            };
            // Where there is no room, the list under the chart's name has it all the same.
            if let Some((anchor, place, area)) = free_place(*at, name, &room, &taken) {
                canvas.text(name, place, anchor, SMALL, palette::MUTED);
                taken.push(area);
            }
        }
    })
}

/// Where the name of a point can stand: beside it, above it or below it, over nothing else.
fn free_place(
    at: (f64, f64),
    name: &str,
    room: &Area,
    taken: &[Area],
) -> Option<(Anchor, (f64, f64), Area)> {
    let width = text_width(name, SMALL);
    let candidates = [
        (Anchor::Left, (at.0 + 9.0, at.1), 0.0),
        (Anchor::Right, (at.0 - 9.0, at.1), width),
        (Anchor::Middle, (at.0, at.1 - 13.0), width / 2.0),
        (Anchor::Middle, (at.0, at.1 + 13.0), width / 2.0),
    ];
    candidates
        .into_iter()
        .map(|(anchor, place, before)| {
            let area = Area {
                left: place.0 - before,
                right: place.0 - before + width,
                top: place.1 - LINE / 3.0,
                bottom: place.1 + LINE / 3.0,
            };
            (anchor, place, area)
        })
        .find(|(_, _, area)| room.holds(area) && !taken.iter().any(|other| other.overlaps(area)))
}

fn ink(subject: usize) -> Ink {
    palette::series(subject).0
}

/// Places of the subjects' names, line by line.
fn legend(subjects: &[String], width: f64) -> Vec<Vec<(f64, usize)>> {
    let mut lines: Vec<Vec<(f64, usize)>> = vec![Vec::new()];
    let mut x = 4.0;
    for (index, name) in subjects.iter().enumerate() {
        let room = 16.0 + text_width(name, SMALL) + 14.0;
        if x + room > width && x > 4.0 {
            lines.push(Vec::new());
            x = 4.0;
        }
        if let Some(line) = lines.last_mut() {
            line.push((x, index));
        }
        x += room;
    }
    lines
}
