//! Horizontal bars, one per subject, with its name, its value in words, and the reason where there
//! is no bar: the frame that the throughput and the fragmentation chart share.

#![forbid(unsafe_code)]

use super::axis::Scale;
use super::canvas::{Anchor, Canvas, Heading, NORMAL, SMALL, shortened, text_width, wrapped};
use super::palette::{self, Ink};

/// One line of the chart.
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) content: Content,
}

/// What stands beside the name.
pub(crate) enum Content {
    /// Parts that follow one another from zero, as end values; an interval; the words at the end.
    Value {
        parts: Vec<Part>,
        interval: Option<(f64, f64)>,
        words: String,
    },
    /// The reason why there is no bar.
    Reason(String),
    /// A heading between groups of bars.
    Group,
}

/// One part of a bar, from the end of the part before it.
pub(crate) struct Part {
    pub(crate) end: f64,
    pub(crate) ink: Ink,
    pub(crate) is_pale: bool,
}

/// All that a bar chart needs.
pub(crate) struct BarChart {
    pub(crate) heading: Heading,
    pub(crate) bars: Vec<Bar>,
    pub(crate) high: f64,
    pub(crate) ticks: Vec<f64>,
    pub(crate) tick_label: fn(f64) -> String,
    /// Values that bars are to be held against, with their names.
    pub(crate) marks: Vec<(f64, &'static str)>,
}

/// Where names, bars and words lie; below `NARROW` the words stand above the bar.
struct Layout {
    width: f64,
    left: f64,
    right: f64,
    is_narrow: bool,
}

const NARROW: f64 = 600.0;
const BAR: f64 = 18.0;
/// Height of the name of a mark.
const MARK_LINE: f64 = 16.0;
const REASON_LINES_MAX: usize = 3;

impl BarChart {
    fn layout(&self, width: f64) -> Layout {
        if width < NARROW {
            return Layout {
                width,
                left: 4.0,
                right: width - 12.0,
                is_narrow: true,
            };
        }
        let named = self
            .bars
            .iter()
            .filter(|bar| !matches!(bar.content, Content::Group));
        let names = named
            .map(|bar| text_width(&bar.name, NORMAL))
            .fold(60.0, f64::max);
        let words = self.bars.iter().map(|bar| match &bar.content {
            Content::Value { words, .. } => text_width(words, NORMAL),
            _ => 0.0,
        });
        let words = words.fold(80.0, f64::max).min(width * 0.36);
        Layout {
            width,
            left: names.min(180.0) + 20.0,
            right: width - words - 24.0,
            is_narrow: false,
        }
    }

    fn height_of(&self, bar: &Bar, layout: &Layout) -> f64 {
        match (&bar.content, layout.is_narrow) {
            (Content::Group, _) => 30.0,
            (Content::Value { .. }, false) => 32.0,
            (Content::Value { .. }, true) => 48.0,
            (Content::Reason(reason), _) => {
                let lines = reason_lines(reason, layout).len() as f64;
                (if layout.is_narrow { 28.0 } else { 15.0 }) + lines * 17.0
            }
        }
    }

    /// Draws it at this width, as high as it needs to be.
    pub(crate) fn draw(&self, width: f64) -> crate::error::Result<super::canvas::Picture> {
        let layout = self.layout(width);
        let top = self.heading.height(width) + 6.0 + MARK_LINE * self.marks.len() as f64;
        let rows: f64 = self
            .bars
            .iter()
            .map(|bar| self.height_of(bar, &layout))
            .sum();
        let bottom = top + rows;
        Canvas::draw(width, bottom + 34.0, |canvas| {
            canvas.heading(&self.heading, width);
            let scale = Scale::from_zero(self.high, layout.left, layout.right);
            self.axis(canvas, &scale, top, bottom);
            let mut y = top;
            for bar in &self.bars {
                self.bar(canvas, bar, &layout, &scale, y);
                y += self.height_of(bar, &layout);
            }
        })
    }

    fn axis(&self, canvas: &mut Canvas<'_>, scale: &Scale, top: f64, bottom: f64) {
        let mut free_from = f64::MIN;
        for &tick in &self.ticks {
            let x = scale.at(tick);
            canvas.line(&[(x, top), (x, bottom)], palette::GRID, 1.0);
            let label = (self.tick_label)(tick);
            let half = text_width(&label, SMALL) / 2.0;
            let center = x.max(half + 2.0).min(scale.end.max(x) + 12.0 - half);
            if center - half >= free_from {
                canvas.text(
                    &label,
                    (center, bottom + 14.0),
                    Anchor::Middle,
                    SMALL,
                    palette::MUTED,
                );
                free_from = center + half + 8.0;
            }
        }
        canvas.line(
            &[(scale.at(0.0), top), (scale.at(0.0), bottom)],
            palette::AXIS,
            1.0,
        );
        // One below the other: they often lie close together.
        for (n, &(value, name)) in self.marks.iter().enumerate() {
            let x = scale.at(value);
            let y = top - 12.0 - MARK_LINE * (self.marks.len() - 1 - n) as f64;
            let points = [(x, y + 8.0), (x, bottom)];
            match n {
                0 => canvas.line(&points, palette::AXIS, 1.5),
                _ => canvas.dashed_line(&points, palette::AXIS, 1.5, (4, 4)),
            }
            let half = text_width(name, SMALL) / 2.0;
            let center = x.clamp(half + 2.0, (scale.end + 10.0 - half).max(half + 2.0));
            // The line of the mark before may run behind the name.
            canvas.rectangle(
                (center - half - 2.0, y - 7.0),
                (center + half + 2.0, y + 7.0),
                palette::BACKGROUND,
            );
            canvas.text(name, (center, y), Anchor::Middle, SMALL, palette::MUTED);
        }
    }

    fn bar(&self, canvas: &mut Canvas<'_>, bar: &Bar, layout: &Layout, scale: &Scale, y: f64) {
        let name_room = if layout.is_narrow {
            layout.width * 0.45
        } else {
            layout.left - 14.0
        };
        let name = shortened(&bar.name, NORMAL, name_room);
        match &bar.content {
            Content::Group => {
                canvas.rectangle(
                    (0.0, y + 8.0),
                    (layout.width, y + 26.0),
                    palette::BACKGROUND,
                );
                let group = shortened(&bar.name, SMALL, layout.width - 8.0);
                canvas.text(&group, (4.0, y + 17.0), Anchor::Left, SMALL, palette::MUTED);
            }
            Content::Reason(reason) => {
                let lines = reason_lines(reason, layout);
                let (x, first) = if layout.is_narrow {
                    (layout.left, y + 31.0)
                } else {
                    (layout.left + 8.0, y + 16.0)
                };
                let ground = (x - 4.0, first - 10.0);
                canvas.rectangle(
                    ground,
                    (layout.width, first + 17.0 * lines.len() as f64 - 7.0),
                    palette::BACKGROUND,
                );
                let name_y = if layout.is_narrow { y + 12.0 } else { y + 16.0 };
                canvas.text(&name, (4.0, name_y), Anchor::Left, NORMAL, palette::TEXT);
                for (n, line) in lines.iter().enumerate() {
                    canvas.text(
                        line,
                        (x, first + 17.0 * n as f64),
                        Anchor::Left,
                        SMALL,
                        palette::FAILED,
                    );
                }
            }
            Content::Value {
                parts,
                interval,
                words,
            } => {
                let bar_top = if layout.is_narrow { y + 24.0 } else { y + 7.0 };
                let end = self.parts(canvas, parts, *interval, scale, bar_top);
                if layout.is_narrow {
                    canvas.rectangle(
                        (0.0, y + 3.0),
                        (layout.width, y + 21.0),
                        palette::BACKGROUND,
                    );
                    canvas.text(&name, (4.0, y + 12.0), Anchor::Left, NORMAL, palette::TEXT);
                    let room = layout.width - text_width(&name, NORMAL) - 24.0;
                    let words = shortened(words, SMALL, room);
                    canvas.text(
                        &words,
                        (layout.width - 4.0, y + 12.0),
                        Anchor::Right,
                        SMALL,
                        palette::TEXT,
                    );
                } else {
                    canvas.text(&name, (4.0, y + 16.0), Anchor::Left, NORMAL, palette::TEXT);
                    let words = shortened(words, NORMAL, layout.width - end - 12.0);
                    let ground = (end + 6.0, y + 7.0);
                    canvas.rectangle(
                        ground,
                        (end + 14.0 + text_width(&words, NORMAL), y + 25.0),
                        palette::BACKGROUND,
                    );
                    canvas.text(
                        &words,
                        (end + 10.0, y + 16.0),
                        Anchor::Left,
                        NORMAL,
                        palette::TEXT,
                    );
                }
            }
        }
    }

    /// Draws the parts and the interval; returns where the bar, or its interval, ends.
    fn parts(
        &self,
        canvas: &mut Canvas<'_>,
        parts: &[Part],
        interval: Option<(f64, f64)>,
        scale: &Scale,
        top: f64,
    ) -> f64 {
        let mut from = scale.at(0.0);
        for part in parts {
            let to = scale.at(part.end).max(from);
            let corners = ((from, top), (to, top + BAR));
            if part.is_pale {
                canvas.pale_rectangle(corners.0, corners.1, part.ink);
            } else {
                canvas.rectangle(corners.0, corners.1, part.ink);
            }
            from = to;
        }
        let is_cut = parts.last().is_some_and(|part| part.end > self.high);
        if is_cut {
            // A gap near the end says that the bar goes on beyond the chart.
            let gap = from - 16.0;
            let slant = [
                (gap, top + BAR + 1.0),
                (gap + 5.0, top - 1.0),
                (gap + 9.0, top - 1.0),
                (gap + 4.0, top + BAR + 1.0),
            ];
            canvas.area(&slant, palette::BACKGROUND);
            return from;
        }
        if let Some((low, high)) = interval {
            let middle = top + BAR / 2.0;
            canvas.interval(
                (scale.at(low), middle),
                (scale.at(high), middle),
                palette::TEXT,
            );
            from = from.max(scale.at(high));
        }
        from
    }
}

fn reason_lines(reason: &str, layout: &Layout) -> Vec<String> {
    let room = layout.width - layout.left - 16.0;
    let mut lines = wrapped(reason, SMALL, room);
    if lines.len() > REASON_LINES_MAX {
        lines.truncate(REASON_LINES_MAX);
        if let Some(last) = lines.last_mut() {
            *last = format!(
                "{}…",
                shortened(last, SMALL, room - 14.0).trim_end_matches('…')
            );
        }
    }
    lines
}
