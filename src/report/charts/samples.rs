//! Every speed sample, block by block: what the medians are made of, outliers ringed.

#![forbid(unsafe_code)]

use super::axis::{Scale, decimal_ticks};
use super::canvas::{Anchor, Canvas, Heading, NORMAL, Picture, SMALL, shortened, text_width};
use super::{Chart, Drawn, NARROW, WIDE, palette};
use crate::error::Result;
use crate::measure::pairs::Heap;
use crate::report::format;
use crate::report::model::{Row, Workload};
use crate::report::samples::{self, Timed};

/// Height of one subject's strip.
const STRIP: f64 = 54.0;

/// Absent where there are not even two blocks.
pub(super) fn draw(workload: &Workload<'_>) -> Result<Option<Chart>> {
    let strips: Vec<(&Row<'_>, Vec<Timed<'_>>)> = workload
        .rows
        .iter()
        .chain(&workload.twin)
        .map(|row| (row, samples::timed(row, Heap::Fresh)))
        .filter(|(_, timed)| timed.len() > 1)
        .collect();
    if strips.is_empty() {
        return Ok(None);
    }
    let heading = Heading {
        title: format!("Every sample on {}", workload.name),
        subtitle: "Time of each block’s sample relative to the subject’s own median in that run (the line), in the order of the \
                   blocks. Ringed: outliers, which are kept and count. The scale of each strip is its own."
            .to_owned(),
    };
    let words: Vec<String> = strips
        .iter()
        .map(|(row, timed)| {
            let outliers = timed.iter().filter(|sample| sample.is_outlier).count();
            format!(
                "{} {} samples, {outliers} outliers",
                row.name(),
                timed.len()
            )
        })
        .collect();
    Ok(Some(Chart::Drawn(Drawn {
        file: "samples".to_owned(),
        label: format!(
            "Strips of the time of every sample on {}: {}",
            workload.name,
            words.join("; ")
        ),
        caption: String::new(),
        wide: picture(&heading, &strips, WIDE)?,
        narrow: Some(picture(&heading, &strips, NARROW)?),
    })))
}

fn picture(
    heading: &Heading,
    strips: &[(&Row<'_>, Vec<Timed<'_>>)],
    width: f64,
) -> Result<Picture> {
    let top = heading.height(width) + 8.0;
    let bottom = top + STRIP * strips.len() as f64;
    let names = strips
        .iter()
        .map(|(row, _)| text_width(row.name(), NORMAL))
        .fold(50.0, f64::max);
    let left = names.min(if width < 600.0 { 84.0 } else { 160.0 }) + 20.0;
    let right = width - 66.0;
    let last = strips
        .iter()
        .flat_map(|(_, timed)| timed.iter().map(|sample| sample.place))
        .max()
        .unwrap_or(1)
        .max(1);
    Canvas::draw(width, bottom + 40.0, |canvas| {
        canvas.heading(heading, width);
        let x = Scale::from_zero(last as f64, left, right);
        for (n, (row, timed)) in strips.iter().enumerate() {
            strip(canvas, row, timed, &x, top + STRIP * n as f64, n % 2 == 0);
        }
        for tick in decimal_ticks(last as f64, 6) {
            if tick.fract() == 0.0 {
                canvas.text(
                    &format::axis_number(tick + 1.0),
                    (x.at(tick), bottom + 14.0),
                    Anchor::Middle,
                    SMALL,
                    palette::MUTED,
                );
            }
        }
        canvas.text(
            "block",
            ((left + right) / 2.0, bottom + 31.0),
            Anchor::Middle,
            SMALL,
            palette::MUTED,
        );
    })
}

fn strip(
    canvas: &mut Canvas<'_>,
    row: &Row<'_>,
    timed: &[Timed<'_>],
    x: &Scale,
    top: f64,
    is_shaded: bool,
) {
    let (right, bottom) = (x.end, top + STRIP);
    if is_shaded {
        canvas.rectangle((0.0, top), (right + 66.0, bottom), palette::SHADE);
    }
    let name = shortened(row.name(), NORMAL, x.start - 18.0);
    let middle = (top + bottom) / 2.0;
    canvas.text(&name, (4.0, middle), Anchor::Left, NORMAL, palette::TEXT);
    let reach = timed
        .iter()
        .map(|sample| (sample.relative - 1.0).abs())
        .filter(|reach| reach.is_finite())
        .fold(0.002, f64::max);
    // Symmetric about the median, so that the line is in the middle of each strip.
    let at = |relative: f64| {
        let share = ((relative - 1.0) / reach).clamp(-1.0, 1.0);
        middle - share * (STRIP / 2.0 - 8.0)
    };
    canvas.line(
        &[(x.start - 6.0, middle), (right + 6.0, middle)],
        palette::AXIS,
        1.0,
    );
    let ink = if row.is_floor {
        palette::NEUTRAL
    } else if row.is_baseline {
        palette::TEXT
    } else {
        palette::series(row.color).0
    };
    let points: Vec<(f64, f64)> = timed
        .iter()
        .map(|sample| (x.at(sample.place as f64), at(sample.relative)))
        .collect();
    canvas.line(&points, ink, 1.2);
    for (sample, &point) in timed.iter().zip(&points) {
        if sample.is_outlier {
            canvas.dot(point, 5.5, palette::FAILED);
            canvas.dot(
                point,
                3.5,
                if is_shaded {
                    palette::SHADE
                } else {
                    palette::BACKGROUND
                },
            );
        } else if timed.len() <= 60 {
            canvas.dot(point, 2.2, ink);
        }
    }
    canvas.text(
        &format!("±{}", format::percent(reach)),
        (right + 12.0, top + 12.0),
        Anchor::Left,
        SMALL,
        palette::MUTED,
    );
}
