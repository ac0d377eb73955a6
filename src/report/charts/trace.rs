//! What a trace is like: sizes, lifetimes, live bytes. Three small charts that stand side by side
//! on a desk and below one another on a telephone, so each has one form only.

#![forbid(unsafe_code)]

use super::axis::{Scale, byte_ticks, decimal_ticks};
use super::canvas::{Anchor, Canvas, Heading, Picture, SMALL, text_width};
use super::{Chart, Drawn, THIRD, lines, palette};
use crate::error::Result;
use crate::report::format;
use crate::trace::profile::{LivePoint, Profile};

const PLOT: f64 = 170.0;

/// One column of a histogram.
struct Column {
    /// Upper end of its class, as the axis shows it.
    label: String,
    count: u64,
}

pub(super) fn draw(name: &str, profile: &Profile) -> Result<Vec<Chart>> {
    Ok(vec![
        sizes(name, profile, &[THIRD])?,
        lifetimes(name, profile, &[THIRD])?,
        live_bytes(name, &profile.live_curve)?,
    ])
}

/// Requests by size, in one form or in a wide and a narrow one.
pub(super) fn sizes(name: &str, profile: &Profile, widths: &[f64]) -> Result<Chart> {
    let buckets = profile.sizes.iter();
    let columns = buckets.map(|bucket| Column {
        label: format::axis_bytes(bucket.high_bytes as f64),
        count: bucket.count,
    });
    let heading = Heading {
        title: "Sizes asked for".to_owned(),
        subtitle: "Share of requests up to this size (and above the one before).".to_owned(),
    };
    histogram(
        "sizes",
        name,
        &heading,
        &columns.collect::<Vec<_>>(),
        widths,
    )
}

/// Freed blocks by lifetime, likewise.
pub(super) fn lifetimes(name: &str, profile: &Profile, widths: &[f64]) -> Result<Chart> {
    let buckets = profile.lifetimes.iter();
    let columns = buckets.map(|bucket| Column {
        label: format::axis_rounded(bucket.high_events as f64),
        count: bucket.count,
    });
    let heading = Heading {
        title: "Lifetimes".to_owned(),
        subtitle: "Share of freed blocks that lived up to so many events.".to_owned(),
    };
    histogram(
        "lifetimes",
        name,
        &heading,
        &columns.collect::<Vec<_>>(),
        widths,
    )
}

fn histogram(
    file: &'static str,
    workload: &str,
    heading: &Heading,
    columns: &[Column],
    widths: &[f64],
) -> Result<Chart> {
    let total: u64 = columns
        .iter()
        .map(|column| column.count)
        .fold(0, u64::saturating_add);
    if total == 0 {
        return Ok(Chart::Absent(format!(
            "{}: the trace has none.",
            heading.title
        )));
    }
    let share = |column: &Column| column.count as f64 / total as f64;
    let most = columns
        .iter()
        .max_by_key(|column| column.count)
        .map_or("", |column| column.label.as_str());
    let label = format!(
        "{} of {workload}, a histogram; most common: up to {most}",
        heading.title
    );
    let picture = |width: f64| histogram_picture(heading, columns, share, width);
    Ok(Chart::Drawn(Drawn {
        file: file.to_owned(),
        label,
        caption: String::new(),
        wide: picture(widths[0])?,
        narrow: widths.get(1).map(|&width| picture(width)).transpose()?,
    }))
}

fn histogram_picture(
    heading: &Heading,
    columns: &[Column],
    share: impl Fn(&Column) -> f64,
    width: f64,
) -> Result<Picture> {
    let top = heading.height(width) + 8.0;
    let bottom = top + PLOT;
    let (left, right) = (40.0, width - 6.0);
    Canvas::draw(width, bottom + 28.0, |canvas| {
        canvas.heading(heading, width);
        let high = columns.iter().map(&share).fold(0.0, f64::max) * 1.05;
        let y = Scale::from_zero(high, bottom, top);
        for tick in decimal_ticks(high, 4) {
            canvas.line(
                &[(left, y.at(tick)), (right, y.at(tick))],
                palette::GRID,
                1.0,
            );
            let label = format!("{} %", format::axis_number(tick * 100.0));
            canvas.text(
                &label,
                (left - 6.0, y.at(tick)),
                Anchor::Right,
                SMALL,
                palette::MUTED,
            );
        }
        let step = (right - left) / columns.len() as f64;
        let gap = (step * 0.15).min(2.0);
        let mut free_from = f64::MIN;
        for (n, column) in columns.iter().enumerate() {
            let x = left + step * n as f64;
            let height = if column.count > 0 {
                (bottom - y.at(share(column))).max(1.0)
            } else {
                0.0
            };
            if height > 0.0 {
                canvas.rectangle(
                    (x + gap, bottom - height),
                    (x + step - gap, bottom),
                    palette::NEUTRAL,
                );
            }
            let half = text_width(&column.label, SMALL) / 2.0;
            let center = x + step / 2.0;
            if center - half >= free_from && center + half <= width {
                canvas.text(
                    &column.label,
                    (center, bottom + 15.0),
                    Anchor::Middle,
                    SMALL,
                    palette::MUTED,
                );
                free_from = center + half + 8.0;
            }
        }
        canvas.line(&[(left, bottom), (right, bottom)], palette::AXIS, 1.0);
    })
}

fn live_bytes(workload: &str, curve: &[LivePoint]) -> Result<Chart> {
    let heading = Heading {
        title: "Live bytes".to_owned(),
        subtitle: "Asked for and not yet freed, after so many events.".to_owned(),
    };
    let points: Vec<(f64, f64)> = curve
        .iter()
        .map(|point| (point.event as f64, point.live_bytes as f64))
        .collect();
    let peak = points.iter().map(|point| point.1).fold(0.0, f64::max);
    if points.len() < 2 || peak == 0.0 {
        return Ok(Chart::Absent(
            "Live bytes: too few events for a curve.".to_owned(),
        ));
    }
    let points = lines::decimated(points);
    let top = heading.height(THIRD) + 8.0;
    let bottom = top + PLOT;
    let wide = Canvas::draw(THIRD, bottom + 28.0, |canvas| {
        canvas.heading(&heading, THIRD);
        let y = Scale::from_zero(peak * 1.05, bottom, top);
        let ticks = byte_ticks(peak * 1.05, 4);
        let left = ticks
            .iter()
            .map(|&tick| text_width(&format::axis_bytes(tick), SMALL))
            .fold(20.0, f64::max)
            + 10.0;
        let x = Scale::from_zero(points[points.len() - 1].0, left, THIRD - 16.0);
        for tick in ticks {
            canvas.line(
                &[(left, y.at(tick)), (x.end, y.at(tick))],
                palette::GRID,
                1.0,
            );
            canvas.text(
                &format::axis_bytes(tick),
                (left - 6.0, y.at(tick)),
                Anchor::Right,
                SMALL,
                palette::MUTED,
            );
        }
        let mut area: Vec<(f64, f64)> = points
            .iter()
            .map(|&(px, py)| (x.at(px), y.at(py)))
            .collect();
        canvas.area(
            &[
                &[(area[0].0, bottom)],
                &area[..],
                &[(area[area.len() - 1].0, bottom)],
            ]
            .concat(),
            palette::SHADE,
        );
        area.dedup();
        canvas.line(&area, palette::NEUTRAL, 1.5);
        canvas.line(&[(left, bottom), (x.end, bottom)], palette::AXIS, 1.0);
        for tick in decimal_ticks(x.high, 3) {
            let label = format::axis_number(tick);
            canvas.text(
                &label,
                (x.at(tick), bottom + 15.0),
                Anchor::Middle,
                SMALL,
                palette::MUTED,
            );
        }
    })?;
    let label = format!(
        "Live bytes over the events of {workload}; the peak is {}",
        format::bytes(peak)
    );
    Ok(Chart::Drawn(Drawn {
        file: "live-bytes".to_owned(),
        label,
        caption: String::new(),
        wide,
        narrow: None,
    }))
}
