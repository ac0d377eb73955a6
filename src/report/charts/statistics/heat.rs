//! Sizes against lifetimes: a cell for each pair of classes, the stronger its colour the more blocks.

#![forbid(unsafe_code)]

use crate::error::Result;
use crate::report::charts::axis::Scale;
use crate::report::charts::canvas::{Anchor, Canvas, Heading, Picture, SMALL, text_width};
use crate::report::charts::{Chart, Drawn, NARROW, WIDE, palette};
use crate::report::format;
use crate::trace::tools::stat::SizeLifetime;

/// Heights of a row, in the wide and in the narrow form.
const ROW: f64 = 22.0;
const ROW_NARROW: f64 = 15.0;

/// Faintest shade of a cell that has any block, and strongest.
const FAINTEST: f64 = 0.12;

/// Shares below this are as faint as this.
const SHARE_MIN: f64 = 1e-5;

/// From this shade on, text is in the colour of the background.
const DARK: f64 = 0.85;

/// Cells with less than this share have no number.
const SHARE_TOLD: f64 = 0.005;

/// Positions of the classes: each end is a power of two, or 0.
struct Grid {
    /// Upper ends of the lifetimes, ascending without gaps.
    columns: Vec<u64>,
    /// Upper ends of the sizes, likewise.
    rows: Vec<u64>,
    /// Column, row, share of all freed blocks.
    cells: Vec<(usize, usize, f64)>,
}

pub(super) fn draw(name: &str, cells: &[SizeLifetime]) -> Result<Chart> {
    let total: u64 = cells.iter().map(|cell| cell.blocks).sum();
    if total == 0 {
        return Ok(Chart::Absent(
            "Sizes against lifetimes: no block was freed.".to_owned(),
        ));
    }
    let grid = Grid::of(cells, total);
    let heading = |numbers: &str| Heading {
        title: "Sizes against lifetimes".to_owned(),
        subtitle: format!(
            "Freed blocks: upwards by size, to the right by how many events they lived, each up to the number at its \
             class. The stronger the colour, the more blocks{numbers}."
        ),
    };
    let most = grid.cells.iter().max_by(|a, b| a.2.total_cmp(&b.2));
    let most = most.map_or(String::new(), |&(column, row, share)| {
        format!(
            "; most common: {} of blocks are up to {} and live up to {} events",
            format::percent(share),
            format::bytes(grid.rows[row] as f64),
            format::count(grid.columns[column])
        )
    });
    Ok(Chart::Drawn(Drawn {
        file: "sizes-lifetimes".to_owned(),
        label: format!("Map of sizes against lifetimes of {name}{most}"),
        caption: String::new(),
        wide: grid.picture(&heading("; numbers are shares in percent"), WIDE, ROW)?,
        narrow: Some(grid.picture(&heading(""), NARROW, ROW_NARROW)?),
    }))
}

/// The classes of powers of two from the lowest to the highest that is used.
fn ends(used: impl Iterator<Item = u64> + Clone) -> Vec<u64> {
    let (low, high) = (used.clone().min().unwrap_or(0), used.max().unwrap_or(0));
    let mut ends = vec![low];
    let mut end = low;
    while end < high {
        end = if end == 0 { 1 } else { end.saturating_mul(2) };
        ends.push(end);
    }
    ends
}

impl Grid {
    fn of(cells: &[SizeLifetime], total: u64) -> Self {
        let columns = ends(cells.iter().map(|cell| cell.lifetime_high_events));
        let rows = ends(cells.iter().map(|cell| cell.size_high_bytes));
        let place = |ends: &[u64], end: u64| ends.partition_point(|&other| other < end);
        let cells = cells.iter().map(|cell| {
            (
                place(&columns, cell.lifetime_high_events),
                place(&rows, cell.size_high_bytes),
                cell.blocks as f64 / total as f64,
            )
        });
        let cells = cells.collect();
        Self {
            columns,
            rows,
            cells,
        }
    }

    fn picture(&self, heading: &Heading, width: f64, row: f64) -> Result<Picture> {
        let top = heading.height(width) + 8.0;
        let bottom = top + row * self.rows.len() as f64;
        let labels = self.rows.iter().map(|&end| format::axis_bytes(end as f64));
        let labels: Vec<String> = labels.collect();
        let widths = labels.iter().map(|label| text_width(label, SMALL));
        let left = widths.fold(30.0, f64::max) + 12.0;
        let column = (width - 6.0 - left) / self.columns.len() as f64;
        Canvas::draw(width, bottom + 28.0, |canvas| {
            canvas.heading(heading, width);
            // Every second name where rows are too low for all.
            let every = if row < 17.0 { 2 } else { 1 };
            for (place, label) in labels.iter().enumerate() {
                let y = bottom - row * (place as f64 + 0.5);
                canvas.line(
                    &[(left, y + row / 2.0), (width - 6.0, y + row / 2.0)],
                    palette::GRID,
                    1.0,
                );
                if place.is_multiple_of(every) {
                    canvas.text(label, (left - 6.0, y), Anchor::Right, SMALL, palette::MUTED);
                }
            }
            for &(at, of, share) in &self.cells {
                let from = (left + column * at as f64, bottom - row * (of as f64 + 1.0));
                cell(canvas, from, (column, row), share);
            }
            canvas.line(&[(left, bottom), (width - 6.0, bottom)], palette::AXIS, 1.0);
            let mut free_from = f64::MIN;
            for (place, &end) in self.columns.iter().enumerate() {
                let label = format::axis_rounded(end as f64);
                let half = text_width(&label, SMALL) / 2.0;
                let center = left + column * (place as f64 + 0.5);
                if center - half >= free_from && center + half <= width {
                    canvas.text(
                        &label,
                        (center, bottom + 15.0),
                        Anchor::Middle,
                        SMALL,
                        palette::MUTED,
                    );
                    free_from = center + half + 8.0;
                }
            }
        })
    }
}

/// One cell, with its share in percent where there is room and something to say.
fn cell(canvas: &mut Canvas<'_>, from: (f64, f64), (width, height): (f64, f64), share: f64) {
    let scale = Scale::log(SHARE_MIN, 1.0, FAINTEST, 1.0);
    let shade = scale.at(share.max(SHARE_MIN));
    let gap = 0.75;
    canvas.shaded_rectangle(
        (from.0 + gap, from.1 + gap),
        (from.0 + width - gap, from.1 + height - gap),
        palette::series(0).0,
        shade,
    );
    let percent = share * 100.0;
    let label = if percent < 9.95 {
        format!("{percent:.1}")
    } else {
        format!("{percent:.0}")
    };
    if share >= SHARE_TOLD && height >= 17.0 && text_width(&label, SMALL) + 6.0 <= width {
        let ink = if shade >= DARK {
            palette::BACKGROUND
        } else {
            palette::TEXT
        };
        let middle = (from.0 + width / 2.0, from.1 + height / 2.0);
        canvas.text(&label, middle, Anchor::Middle, SMALL, ink);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_between_the_lowest_and_the_highest_are_all_there() {
        assert_eq!(ends([8, 64, 8].into_iter()), [8, 16, 32, 64]);
        assert_eq!(ends([0, 4].into_iter()), [0, 1, 2, 4]);
        assert_eq!(ends([3, 3].into_iter()), [3]);
        assert_eq!(ends([1 << 63, u64::MAX].into_iter()), [1 << 63, u64::MAX]);
    }
}
