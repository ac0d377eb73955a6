//! Quantities over the events of a trace: live bytes, and threads.

#![forbid(unsafe_code)]

use crate::error::Result;
use crate::report::charts::axis::{Scale, byte_ticks, decimal_ticks};
use crate::report::charts::canvas::{Anchor, Canvas, Heading, Picture, SMALL, text_width};
use crate::report::charts::{Chart, Drawn, NARROW, WIDE, lines, palette};
use crate::report::format;
use crate::trace::profile::Profile;
use crate::trace::tools::stat::ThreadsPoint;

/// Heights of the plots, in the wide and in the narrow form.
const PLOT: f64 = 220.0;
const PLOT_NARROW: f64 = 170.0;

/// Round numbers up to a value, and how to write one.
type Axis = (fn(f64, usize) -> Vec<f64>, fn(f64) -> String);

/// What is drawn over the events.
struct Curve {
    heading: Heading,
    points: Vec<(f64, f64)>,
    ticks: fn(f64, usize) -> Vec<f64>,
    tick_label: fn(f64) -> String,
    /// The highest point, and what to write at it.
    peak: ((f64, f64), String),
}

pub(super) fn live_bytes(name: &str, profile: &Profile) -> Result<Chart> {
    let points: Vec<(f64, f64)> = profile
        .live_curve
        .iter()
        .map(|point| (point.event as f64, point.live_bytes as f64))
        .collect();
    let words = format!("peak {}", format::bytes(profile.live_bytes_peak as f64));
    let label = format!("Live bytes over the events of {name}; {words}");
    let heading = Heading {
        title: "Live bytes".to_owned(),
        subtitle: "Asked for and not yet freed, after so many events.".to_owned(),
    };
    draw(
        "live-bytes",
        heading,
        points,
        words,
        label,
        (byte_ticks, format::axis_bytes),
    )
}

pub(super) fn threads(name: &str, curve: &[ThreadsPoint]) -> Result<Chart> {
    let points: Vec<(f64, f64)> = curve
        .iter()
        .map(|point| (point.event as f64, f64::from(point.threads)))
        .collect();
    let most = points.iter().map(|point| point.1).fold(0.0, f64::max);
    let words = format!("{most:.0} threads");
    let label = format!("Threads over the events of {name}; at most {words}");
    let heading = Heading {
        title: "Threads".to_owned(),
        subtitle: "Between their first and their last event, after so many events. When a thread began and ended, not \
                   every recording tells."
            .to_owned(),
    };
    // Threads come whole.
    let ticks = |high: f64, wanted: usize| {
        let mut ticks = decimal_ticks(high, wanted);
        ticks.retain(|tick| tick.fract() == 0.0);
        ticks
    };
    draw(
        "threads",
        heading,
        points,
        words,
        label,
        (ticks, format::axis_number),
    )
}

fn draw(
    file: &str,
    heading: Heading,
    points: Vec<(f64, f64)>,
    peak_words: String,
    label: String,
    (ticks, tick_label): Axis,
) -> Result<Chart> {
    let peak = points.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
    let Some(peak) = peak.filter(|peak| points.len() > 1 && peak.1 > 0.0) else {
        return Ok(Chart::Absent(format!(
            "{}: too few events for a curve.",
            heading.title
        )));
    };
    let curve = Curve {
        heading,
        points: lines::decimated(points),
        ticks,
        tick_label,
        peak: (peak, peak_words),
    };
    Ok(Chart::Drawn(Drawn {
        file: file.to_owned(),
        label,
        caption: String::new(),
        wide: curve.picture(WIDE, PLOT)?,
        narrow: Some(curve.picture(NARROW, PLOT_NARROW)?),
    }))
}

impl Curve {
    fn picture(&self, width: f64, plot: f64) -> Result<Picture> {
        // The words at the peak stand above it.
        let top = self.heading.height(width) + 22.0;
        let bottom = top + plot;
        Canvas::draw(width, bottom + 28.0, |canvas| {
            canvas.heading(&self.heading, width);
            let high = self.peak.0.1 * 1.05;
            let y = Scale::from_zero(high, bottom, top);
            let ticks = (self.ticks)(high, 4);
            let widths = ticks
                .iter()
                .map(|&tick| text_width(&(self.tick_label)(tick), SMALL));
            let left = widths.fold(20.0, f64::max) + 10.0;
            let x = Scale::from_zero(self.points[self.points.len() - 1].0, left, width - 18.0);
            for tick in ticks {
                let at = y.at(tick);
                canvas.line(&[(left, at), (x.end, at)], palette::GRID, 1.0);
                let label = (self.tick_label)(tick);
                canvas.text(
                    &label,
                    (left - 6.0, at),
                    Anchor::Right,
                    SMALL,
                    palette::MUTED,
                );
            }
            self.area(canvas, &x, &y, bottom);
            canvas.line(&[(left, bottom), (x.end, bottom)], palette::AXIS, 1.0);
            for tick in decimal_ticks(x.high, if width < WIDE { 3 } else { 8 }) {
                let label = format::axis_number(tick);
                let half = text_width(&label, SMALL) / 2.0;
                let center = x.at(tick).min(width - half);
                canvas.text(
                    &label,
                    (center, bottom + 15.0),
                    Anchor::Middle,
                    SMALL,
                    palette::MUTED,
                );
            }
            self.mark_peak(canvas, &x, &y);
        })
    }

    fn area(&self, canvas: &mut Canvas<'_>, x: &Scale, y: &Scale, bottom: f64) {
        let mut line: Vec<(f64, f64)> = self
            .points
            .iter()
            .map(|&(px, py)| (x.at(px), y.at(py)))
            .collect();
        // The curve begins with nothing.
        line.insert(0, (x.start, line[0].1));
        let last = line[line.len() - 1].0;
        let area = [&[(x.start, bottom)], &line[..], &[(last, bottom)]].concat();
        canvas.area(&area, palette::SHADE);
        line.dedup();
        canvas.line(&line, palette::series(0).0, 1.5);
    }

    fn mark_peak(&self, canvas: &mut Canvas<'_>, x: &Scale, y: &Scale) {
        let ((event, value), words) = &self.peak;
        let at = (x.at(*event), y.at(*value));
        canvas.dot(at, 3.5, palette::series(0).0);
        let half = text_width(words, SMALL) / 2.0;
        let center =
            at.0.clamp(x.start + half, (x.end - half).max(x.start + half));
        canvas.text(
            words,
            (center, at.1 - 13.0),
            Anchor::Middle,
            SMALL,
            palette::TEXT,
        );
    }
}
