//! What charts with two scales have in common: their axes, and rectangles in which nothing else stands.

#![forbid(unsafe_code)]

use super::axis::Scale;
use super::canvas::{Anchor, Canvas, SMALL, text_width};
use super::palette;

/// A scale as it is written at the edge of a chart.
pub(super) struct Axis<'a> {
    pub(super) name: &'a str,
    pub(super) scale: &'a Scale,
    pub(super) ticks: Vec<f64>,
    pub(super) label: &'a dyn Fn(f64) -> String,
}

impl Axis<'_> {
    fn full_name(&self) -> String {
        match self.scale.is_log {
            true => format!("{} (logarithmic)", self.name),
            false => self.name.to_owned(),
        }
    }
}

/// The lines of the grid, the ticks' labels, the two edges, and the names: of `y` above it, of `x` below
/// its end.
pub(super) fn axes(canvas: &mut Canvas<'_>, x: &Axis<'_>, y: &Axis<'_>) {
    let (across, up) = (x.scale, y.scale);
    for &tick in &y.ticks {
        let at = up.at(tick);
        canvas.line(&[(across.start, at), (across.end, at)], palette::GRID, 1.0);
        canvas.text(
            &(y.label)(tick),
            (across.start - 8.0, at),
            Anchor::Right,
            SMALL,
            palette::MUTED,
        );
    }
    for &tick in &x.ticks {
        let at = across.at(tick);
        canvas.line(&[(at, up.start), (at, up.end)], palette::GRID, 1.0);
        let label = (x.label)(tick);
        let center = at.min(across.end + 10.0 - text_width(&label, SMALL) / 2.0);
        canvas.text(
            &label,
            (center, up.start + 15.0),
            Anchor::Middle,
            SMALL,
            palette::MUTED,
        );
    }
    canvas.line(
        &[
            (across.start, up.end),
            (across.start, up.start),
            (across.end, up.start),
        ],
        palette::AXIS,
        1.0,
    );
    canvas.text(
        &y.full_name(),
        (4.0, up.end - 16.0),
        Anchor::Left,
        SMALL,
        palette::MUTED,
    );
    canvas.text(
        &x.full_name(),
        (across.end, up.start + 34.0),
        Anchor::Right,
        SMALL,
        palette::MUTED,
    );
}

/// A rectangle on the canvas.
#[derive(Clone, Copy)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
}

impl Area {
    pub(super) fn around(at: (f64, f64), radius: f64) -> Self {
        Self {
            left: at.0 - radius,
            right: at.0 + radius,
            top: at.1 - radius,
            bottom: at.1 + radius,
        }
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }

    pub(super) fn holds(&self, other: &Self) -> bool {
        self.left <= other.left
            && other.right <= self.right
            && self.top <= other.top
            && other.bottom <= self.bottom
    }
}
