//! A sheet to draw on: plotters' SVG backend with coordinates in CSS pixels, text that can be
//! measured, and colours that have a dark twin.
//!
//! plotters places whole pixels only, so everything is drawn four times as large and scaled back by
//! the `viewBox`; without a font library it cannot measure text, so widths are estimated from the
//! proportions of common sans-serif faces, on the generous side.

#![forbid(unsafe_code)]

use plotters::coord::Shift;
use plotters::element::{DashedPathElement, Drawable, PointCollection};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontDesc, FontFamily, FontStyle};

use super::palette::{self, Ink};
use crate::error::{Error, Result};
use crate::report::format;

const SCALE: f64 = 4.0;
/// plotters divides font sizes by this when it writes SVG.
const FONT_SCALE: f64 = 1.24;
/// Written by plotters on each text, and taken out again: the root element names the fonts once.
const FONT_MARK: &str = "sans-serif";
const FONTS: &str = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', Arial, sans-serif";

/// Sizes of text.
pub(crate) const SMALL: f64 = 12.0;
pub(crate) const NORMAL: f64 = 13.5;
pub(crate) const TITLE: f64 = 16.0;

/// Part of the width that long lines may fill by the estimate: some faces are wider than it.
const ROOM: f64 = 0.93;

/// How much wider than the estimate bold letters are.
pub(crate) const BOLD: f64 = 1.12;

/// A finished drawing.
pub(crate) struct Picture {
    width: f64,
    height: f64,
    body: String,
}

impl Picture {
    /// For a page that brings the style sheet itself.
    pub(crate) fn inline(&self, label: &str, class: &str) -> String {
        format!(
            "<svg class=\"{class}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n{}</svg>",
            self.width * SCALE,
            self.height * SCALE,
            escape(label),
            self.body
        )
    }

    /// For a file of its own: with title, fonts and both themes.
    pub(crate) fn standalone(&self, label: &str) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" viewBox=\"0 0 {} {}\" role=\"img\" \
             font-family=\"{FONTS}\">\n<title>{}</title>\n<style>@media (prefers-color-scheme: dark){{{}}}</style>\n{}</svg>\n",
            self.width,
            self.height,
            self.width * SCALE,
            self.height * SCALE,
            escape(label),
            palette::dark_rules(""),
            self.body
        )
    }
}

/// Text for XML, in element or attribute.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in format::printable(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Where a text's own anchor point lies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anchor {
    Left,
    Middle,
    Right,
}

/// A sheet being drawn on. Errors of the backend are kept and told by [`Canvas::draw`].
pub(crate) struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
    error: Option<String>,
}

impl<'s> Canvas<'s> {
    /// Draws on an empty sheet of this size.
    pub(crate) fn draw(
        width: f64,
        height: f64,
        paint: impl FnOnce(&mut Canvas<'_>),
    ) -> Result<Picture> {
        let mut text = String::new();
        let size = ((width * SCALE) as u32, (height * SCALE) as u32);
        let mut canvas = Canvas {
            area: SVGBackend::with_string(&mut text, size).into_drawing_area(),
            error: None,
        };
        canvas.rectangle((0.0, 0.0), (width, height), palette::BACKGROUND);
        paint(&mut canvas);
        let presented = canvas.area.present().err().map(|error| error.to_string());
        let error = canvas.error.take().or(presented);
        drop(canvas);
        if let Some(error) = error {
            return Err(Error::Failed(format!("cannot draw a chart: {error}")));
        }
        let body = text.split_once(">\n").map_or("", |(_, rest)| rest);
        let body = body.rsplit_once("</svg>").map_or(body, |(body, _)| body);
        let body = body
            .replace(&format!(" font-family=\"{FONT_MARK}\""), "")
            .replace(" opacity=\"1\"", "")
            .replace(" stroke=\"none\"", "");
        Ok(Picture {
            width,
            height,
            body,
        })
    }

    fn put<E>(&mut self, element: &E)
    where
        for<'b> &'b E: PointCollection<'b, (i32, i32)>,
        E: Drawable<SVGBackend<'s>>,
    {
        if let Err(error) = self.area.draw(element) {
            self.error.get_or_insert_with(|| error.to_string());
        }
    }

    pub(crate) fn rectangle(&mut self, from: (f64, f64), to: (f64, f64), ink: Ink) {
        self.put(&Rectangle::new(
            [scaled(from), scaled(to)],
            ink.rgb().filled(),
        ));
    }

    /// A rectangle through which the background shows.
    pub(crate) fn pale_rectangle(&mut self, from: (f64, f64), to: (f64, f64), ink: Ink) {
        self.shaded_rectangle(from, to, ink, 0.4);
    }

    /// The same, as opaque as told, 0 to 1.
    pub(crate) fn shaded_rectangle(
        &mut self,
        from: (f64, f64),
        to: (f64, f64),
        ink: Ink,
        opacity: f64,
    ) {
        self.put(&Rectangle::new(
            [scaled(from), scaled(to)],
            ink.rgb().mix(opacity).filled(),
        ));
    }

    pub(crate) fn line(&mut self, points: &[(f64, f64)], ink: Ink, width: f64) {
        let style = ink.rgb().stroke_width((width * SCALE).round() as u32);
        self.put(&PathElement::new(thinned(points), style));
    }

    pub(crate) fn dashed_line(
        &mut self,
        points: &[(f64, f64)],
        ink: Ink,
        width: f64,
        dash: (i32, i32),
    ) {
        let style = ink.rgb().stroke_width((width * SCALE).round() as u32);
        let (on, off) = (
            (f64::from(dash.0) * SCALE) as i32,
            (f64::from(dash.1) * SCALE) as i32,
        );
        self.put(&DashedPathElement::new(thinned(points), on, off, style));
    }

    pub(crate) fn area(&mut self, points: &[(f64, f64)], ink: Ink) {
        self.put(&Polygon::new(thinned(points), ink.rgb().filled()));
    }

    pub(crate) fn dot(&mut self, at: (f64, f64), radius: f64, ink: Ink) {
        self.put(&Circle::new(
            scaled(at),
            (radius * SCALE) as i32,
            ink.rgb().filled(),
        ));
    }

    /// One line of text, its vertical middle at `at`.
    pub(crate) fn text(&mut self, text: &str, at: (f64, f64), anchor: Anchor, size: f64, ink: Ink) {
        self.styled_text(text, at, anchor, size, ink, FontStyle::Normal);
    }

    pub(crate) fn bold_text(
        &mut self,
        text: &str,
        at: (f64, f64),
        anchor: Anchor,
        size: f64,
        ink: Ink,
    ) {
        self.styled_text(text, at, anchor, size, ink, FontStyle::Bold);
    }

    fn styled_text(
        &mut self,
        text: &str,
        at: (f64, f64),
        anchor: Anchor,
        size: f64,
        ink: Ink,
        style: FontStyle,
    ) {
        let horizontal = match anchor {
            Anchor::Left => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::Right => HPos::Right,
        };
        let font = FontDesc::new(
            FontFamily::Name(FONT_MARK),
            size * SCALE * FONT_SCALE,
            style,
        );
        let color = ink.rgb();
        let style = TextStyle::from(font)
            .color(&color)
            .pos(Pos::new(horizontal, VPos::Center));
        self.put(&Text::new(format::printable(text), scaled(at), style));
    }

    /// A vertical error bar or, across, a horizontal one: the interval of a value.
    pub(crate) fn interval(&mut self, from: (f64, f64), to: (f64, f64), ink: Ink) {
        let (cap_x, cap_y) = if from.1 == to.1 {
            (0.0, 4.0)
        } else {
            (4.0, 0.0)
        };
        self.line(&[from, to], ink, 1.5);
        for (x, y) in [from, to] {
            self.line(&[(x - cap_x, y - cap_y), (x + cap_x, y + cap_y)], ink, 1.5);
        }
    }

    /// Title and the line below it that gives unit and direction; returns the height used.
    pub(crate) fn heading(&mut self, heading: &Heading, width: f64) -> f64 {
        let mut y = 14.0;
        for line in heading.title_lines(width) {
            self.bold_text(&line, (4.0, y), Anchor::Left, TITLE, palette::TEXT);
            y += 21.0;
        }
        for line in wrapped(&heading.subtitle, SMALL, (width - 8.0) * ROOM) {
            self.text(&line, (4.0, y), Anchor::Left, SMALL, palette::MUTED);
            y += 17.0;
        }
        y
    }
}

/// What a chart shows, and in which unit, and which way is better.
pub(crate) struct Heading {
    pub(crate) title: String,
    pub(crate) subtitle: String,
}

impl Heading {
    fn title_lines(&self, width: f64) -> Vec<String> {
        wrapped(&self.title, TITLE * BOLD, width - 8.0)
    }

    /// Height that [`Canvas::heading`] will use.
    pub(crate) fn height(&self, width: f64) -> f64 {
        let titles = self.title_lines(width).len() as f64;
        let subtitles = wrapped(&self.subtitle, SMALL, (width - 8.0) * ROOM).len() as f64;
        14.0 + titles * 21.0 + subtitles * 17.0
    }
}

fn scaled((x, y): (f64, f64)) -> (i32, i32) {
    // A cast from an out-of-range or undefined value saturates; the backend then draws outside.
    ((x * SCALE).round() as i32, (y * SCALE).round() as i32)
}

/// Points in device units without those that fall on their predecessor.
fn thinned(points: &[(f64, f64)]) -> Vec<(i32, i32)> {
    let mut out: Vec<(i32, i32)> = points.iter().copied().map(scaled).collect();
    out.dedup();
    if out.len() == 1 {
        out.push(out[0]);
    }
    out
}

/// Estimated width of a line of text.
pub(crate) fn text_width(text: &str, size: f64) -> f64 {
    let em: f64 = text
        .chars()
        .map(|c| match c {
            'i' | 'l' | 'j' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' => 0.29,
            ' ' | 'f' | 't' | 'r' | 'I' | '(' | ')' | '[' | ']' | '/' | '-' => 0.37,
            'm' | 'w' | 'M' | 'W' | '%' | '@' => 0.92,
            '0'..='9' | 'a'..='z' => 0.58,
            'A'..='Z' => 0.70,
            c if (c as u32) < 0x1100 => 0.64,
            _ => 1.05,
        })
        .sum();
    em * size
}

/// The text, or its beginning and an ellipsis, within a width.
pub(crate) fn shortened(text: &str, size: f64, room: f64) -> String {
    if text_width(text, size) <= room {
        return text.to_owned();
    }
    let mut out = String::new();
    for c in text.chars() {
        out.push(c);
        if text_width(&out, size) + text_width("…", size) > room {
            out.pop();
            break;
        }
    }
    format!("{}…", out.trim_end())
}

/// The text in lines within a width, broken at spaces; a longer word is shortened.
pub(crate) fn wrapped(text: &str, size: f64, room: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in format::printable(text).split_whitespace() {
        let word = shortened(word, size, room);
        match lines.last_mut() {
            Some(line) if text_width(&format!("{line} {word}"), size) <= room => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_fits_where_it_was_told_to() {
        let long = "a reason that goes on and on about /some/very/long/path/libsomething.so.1";
        assert!(text_width(&shortened(long, 12.0, 100.0), 12.0) <= 100.0);
        assert!(
            wrapped(long, 12.0, 100.0)
                .iter()
                .all(|line| text_width(line, 12.0) <= 100.0)
        );
        assert_eq!(shortened("short", 12.0, 100.0), "short");
    }

    #[test]
    fn drawings_escape_text_and_keep_both_forms_balanced() {
        let picture = Canvas::draw(100.0, 50.0, |canvas| {
            canvas.text(
                "<script>alert(1)</script>",
                (5.0, 5.0),
                Anchor::Left,
                SMALL,
                palette::TEXT,
            );
        })
        .unwrap();
        for text in [
            picture.inline("<script>", "wide"),
            picture.standalone("<script>"),
        ] {
            assert!(!text.contains("<script"), "{text}");
            assert!(text.contains("&lt;script&gt;"));
            assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
            assert!(text.contains("#1B1F24"));
        }
        assert!(
            picture
                .standalone("x")
                .contains("prefers-color-scheme: dark")
        );
    }
}
