//! Two traces side by side, as text for a terminal.

#![forbid(unsafe_code)]

use crate::report::format;
use crate::report::table::text::{columns_of, wrap};
use crate::trace::tools::diff::{ClassRow, Difference, Unit};

/// Renders a difference within `width` columns.
pub fn text(difference: &Difference, width: usize) -> String {
    let mut lines = Vec::new();
    for (letter, name) in [("A", &difference.first), ("B", &difference.second)] {
        lines.extend(wrap(
            &format!("{letter}: {}", format::printable(name)),
            width,
            "   ",
        ));
    }
    lines.push(String::new());
    lines.push(line("", "A", "B", "B / A"));
    for row in &difference.rows {
        let shown = |value: Option<f64>| {
            value.map_or(format::ABSENT.to_owned(), |v| value_words(v, row.unit))
        };
        let ratio = row.ratio.map_or(format::ABSENT.to_owned(), format::ratio);
        lines.push(line(
            row.what,
            &shown(row.first),
            &shown(row.second),
            &ratio,
        ));
    }
    let sizes = |class: &ClassRow| format::axis_bytes(class.high as f64);
    let lifetimes = |class: &ClassRow| format::axis_rounded(class.high as f64);
    classes(
        &mut lines,
        "Sizes asked for, up to",
        &difference.sizes,
        difference.sizes_distance,
        &sizes,
    );
    classes(
        &mut lines,
        "Lifetimes of freed blocks, up to so many events",
        &difference.lifetimes,
        difference.lifetimes_distance,
        &lifetimes,
    );
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

fn value_words(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Count => format::count(value as u64),
        Unit::Bytes => format::bytes(value),
        Unit::Nanoseconds => format::time_ns(value),
        Unit::Share => format::percent(value),
    }
}

fn line(name: &str, first: &str, second: &str, ratio: &str) -> String {
    // Longest name, and numbers of 15 digits with their commas.
    let pad = |text: &str, columns: usize| " ".repeat(columns.saturating_sub(columns_of(text)));
    format!(
        "  {name}{}{}{first}{}{second}{}{ratio}",
        pad(name, 25),
        pad(first, 19),
        pad(second, 19),
        pad(ratio, 9)
    )
}

fn classes(
    lines: &mut Vec<String>,
    title: &str,
    classes: &[ClassRow],
    distance: f64,
    name: &dyn Fn(&ClassRow) -> String,
) {
    if classes.is_empty() {
        return;
    }
    lines.push(String::new());
    lines.push(format!(
        "{title} (different: {})",
        format::percent(distance)
    ));
    for class in classes {
        let ratio = match class.first > 0.0 {
            true => format::ratio(class.second / class.first),
            false => format::ABSENT.to_owned(),
        };
        lines.push(line(
            &name(class),
            &format::percent(class.first),
            &format::percent(class.second),
            &ratio,
        ));
    }
}
