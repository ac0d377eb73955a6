//! The colours of charts, in light and in dark. Charts are drawn with the light colour; a style
//! sheet that names each light colour recolours them where the reader prefers dark.
//!
//! Series colours start from the Okabe-Ito set, which colour-blind readers can tell apart, darkened
//! until they reach 3:1 against the background. Text is never in a series colour.

#![forbid(unsafe_code)]

use plotters::style::RGBColor;

/// A colour in both themes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ink {
    pub(crate) light: u32,
    pub(crate) dark: u32,
}

const fn ink(light: u32, dark: u32) -> Ink {
    Ink { light, dark }
}

pub(crate) const BACKGROUND: Ink = ink(0xFFFFFF, 0x16191D);
pub(crate) const TEXT: Ink = ink(0x1B1F24, 0xE8EAED);
pub(crate) const MUTED: Ink = ink(0x5A626B, 0xA3ABB5);
/// Grid lines: must not compete with data.
pub(crate) const GRID: Ink = ink(0xE3E6EA, 0x2C3138);
/// Axis lines and the line of equality.
pub(crate) const AXIS: Ink = ink(0x8D959F, 0x6F7781);
/// What is no subject: live bytes, floor rows.
pub(crate) const NEUTRAL: Ink = ink(0x7C848E, 0x8C949E);
/// Areas behind marks.
pub(crate) const SHADE: Ink = ink(0xEEF1F4, 0x22272D);
/// Rows without a result.
pub(crate) const FAILED: Ink = ink(0xA3281E, 0xFF9A8F);

const SERIES: [Ink; 8] = [
    ink(0x0072B2, 0x56B4E9),
    ink(0xC85400, 0xFF8F57),
    ink(0x008562, 0x2CC79A),
    ink(0xA9548A, 0xE59ACB),
    ink(0x96700A, 0xF0C04A),
    ink(0x5F54C0, 0xA8A0FF),
    ink(0x3F7C8C, 0x8AD3E3),
    ink(0x6B6F12, 0xDDE26A),
];

/// How a subject looks in every chart: colours repeat after eight, dashes tell the rounds apart.
pub(crate) fn series(index: usize) -> (Ink, Option<(i32, i32)>) {
    let dash = match index / SERIES.len() {
        0 => None,
        1 => Some((9, 5)),
        _ => Some((3, 4)),
    };
    (SERIES[index % SERIES.len()], dash)
}

impl Ink {
    pub(crate) fn rgb(self) -> RGBColor {
        let [_, r, g, b] = self.light.to_be_bytes();
        RGBColor(r, g, b)
    }
}

fn all() -> impl Iterator<Item = Ink> {
    [BACKGROUND, TEXT, MUTED, GRID, AXIS, NEUTRAL, SHADE, FAILED]
        .into_iter()
        .chain(SERIES)
}

/// Rules that turn each light colour into its dark one, below `scope` (a selector with a space
/// after it, or empty).
pub(crate) fn dark_rules(scope: &str) -> String {
    let mut css = String::new();
    for Ink { light, dark } in all() {
        css.push_str(&format!(
            "{scope}[fill=\"#{light:06X}\"]{{fill:#{dark:06X}}}{scope}[stroke=\"#{light:06X}\"]{{stroke:#{dark:06X}}}"
        ));
    }
    css
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Contrast as WCAG 2 defines it.
    fn contrast(a: u32, b: u32) -> f64 {
        let luminance = |color: u32| {
            let [_, r, g, b] = color.to_be_bytes();
            let linear = |v: u8| {
                let v = f64::from(v) / 255.0;
                if v <= 0.04045 {
                    v / 12.92
                } else {
                    ((v + 0.055) / 1.055).powf(2.4)
                }
            };
            0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
        };
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn text_reaches_aa_in_both_themes() {
        for text in [TEXT, MUTED, FAILED] {
            for ground in [BACKGROUND, SHADE] {
                assert!(
                    contrast(text.light, ground.light) >= 4.5,
                    "{text:x?} on {ground:x?} light"
                );
                assert!(
                    contrast(text.dark, ground.dark) >= 4.5,
                    "{text:x?} on {ground:x?} dark"
                );
            }
        }
    }

    #[test]
    fn marks_stand_out_in_both_themes() {
        for mark in SERIES.into_iter().chain([NEUTRAL]) {
            assert!(
                contrast(mark.light, BACKGROUND.light) >= 3.0,
                "{mark:x?} light"
            );
            assert!(
                contrast(mark.dark, BACKGROUND.dark) >= 3.0,
                "{mark:x?} dark"
            );
        }
    }

    #[test]
    fn each_light_colour_has_one_dark_colour() {
        let mut seen = std::collections::HashSet::new();
        assert!(all().all(|ink| seen.insert(ink.light)));
    }

    #[test]
    fn rules_name_every_colour() {
        let css = dark_rules(".chart ");
        assert!(all().all(|ink| css.contains(&format!(".chart [fill=\"#{:06X}\"]", ink.light))));
    }
}
