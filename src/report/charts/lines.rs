//! Lines with their names at the right end: what the charts of memory and of latency share.

#![forbid(unsafe_code)]

use super::axis::{Scale, spread};
use super::canvas::{Anchor, Canvas, NORMAL, shortened};
use super::palette::{self, Ink};

/// More points than this per line would not be seen.
const POINTS_MAX: usize = 500;

/// A line with its name at the right end.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    pub(super) ink: Ink,
    pub(super) dash: Option<(i32, i32)>,
    pub(super) width: f64,
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

pub(super) fn draw_lines(canvas: &mut Canvas<'_>, lines: &[Line], x: &Scale, y: &Scale) {
    for line in lines {
        let points: Vec<(f64, f64)> = line
            .points
            .iter()
            .map(|&(px, py)| (x.at(px), y.at(py)))
            .collect();
        match line.dash {
            Some(dash) => canvas.dashed_line(&points, line.ink, line.width, dash),
            None => canvas.line(&points, line.ink, line.width),
        }
    }
}

/// Names at the right ends of lines, moved apart.
pub(super) fn draw_labels(
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
