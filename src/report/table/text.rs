//! Text of a known width: wrapping, and columns for a terminal and for Markdown.

#![forbid(unsafe_code)]

use crate::report::format;

/// Narrower than this no column is readable; tables are then as wide as this.
pub(crate) const WIDTH_MIN: usize = 40;
/// Longest name that keeps its place in the first column; a longer one gets its own line.
const NAME_MAX: usize = 16;

/// A table: a name on the left, cells right-aligned beside it. Columns that do not fit are left out,
/// from the right.
pub(crate) fn grid(
    corner: &str,
    headings: &[String],
    rows: &[(String, Vec<String>)],
    width: usize,
) -> Vec<String> {
    let mut lines = Vec::new();
    if rows.is_empty() {
        return lines;
    }
    let names = rows.iter().map(|(name, _)| columns_of(name));
    let name_width = names
        .filter(|&name| name <= NAME_MAX)
        .max()
        .unwrap_or(0)
        .max(columns_of(corner));
    let widths = column_widths(headings, rows, width - name_width);
    lines.push(table_line(corner, name_width, headings, &widths));
    for (name, cells) in rows {
        if columns_of(name) > name_width {
            lines.extend(wrap(name, width, "  "));
            lines.push(table_line("", name_width, cells, &widths));
        } else {
            lines.push(table_line(name, name_width, cells, &widths));
        }
    }
    lines
}

/// The same as Markdown.
pub(crate) fn markdown_grid(
    corner: &str,
    headings: &[String],
    rows: &[(String, Vec<String>)],
) -> String {
    let mut text = format!("| {corner} |");
    for heading in headings {
        text.push_str(&format!(" {heading} |"));
    }
    text.push_str("\n|---|");
    text.push_str(&"--:|".repeat(headings.len()));
    text.push('\n');
    for (name, cells) in rows {
        text.push_str(&format!("| {} |", markdown_cell(name)));
        for cell in cells {
            text.push_str(&format!(" {} |", markdown_cell(cell)));
        }
        text.push('\n');
    }
    text
}

/// The widths of as many columns as fit into `room`, each with one space before it.
fn column_widths(headings: &[String], rows: &[(String, Vec<String>)], room: usize) -> Vec<usize> {
    let mut widths = Vec::new();
    let mut used = 0;
    for (index, heading) in headings.iter().enumerate() {
        let cells = rows.iter().map(|(_, cells)| columns_of(&cells[index]));
        let width = cells.max().unwrap_or(0).max(columns_of(heading));
        if used + width + 1 > room {
            break;
        }
        used += width + 1;
        widths.push(width);
    }
    // Two spaces between columns where the terminal is wide enough.
    if used + widths.len() <= room {
        widths.iter_mut().for_each(|width| *width += 1);
    }
    widths
}

fn table_line(name: &str, name_width: usize, cells: &[String], widths: &[usize]) -> String {
    let mut line = name.to_owned();
    line.extend(std::iter::repeat_n(
        ' ',
        name_width.saturating_sub(columns_of(name)),
    ));
    for (cell, width) in cells.iter().zip(widths) {
        line.extend(std::iter::repeat_n(
            ' ',
            1 + width.saturating_sub(columns_of(cell)),
        ));
        line.push_str(cell);
    }
    line.trim_end().to_owned()
}

/// Columns a terminal gives a character: two for the wide scripts and pictures, else one.
fn columns_of_char(c: char) -> usize {
    if matches!(c, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f000}'..='\u{3fffd}')
    {
        2
    } else {
        1
    }
}

pub(crate) fn columns_of(text: &str) -> usize {
    text.chars().map(columns_of_char).sum()
}

/// Breaks text at spaces, and inside words that are longer than a line; never drops any of it.
pub(crate) fn wrap(text: &str, width: usize, indent: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    let mut line_is_empty = true;
    for word in format::printable(text)
        .split(' ')
        .filter(|word| !word.is_empty())
    {
        if !line_is_empty && columns_of(&line) + 1 + columns_of(word) > width {
            lines.push(std::mem::replace(&mut line, indent.to_owned()));
            line_is_empty = true;
        }
        if !line_is_empty {
            line.push(' ');
        }
        for c in word.chars() {
            if columns_of(&line) + columns_of_char(c) > width {
                lines.push(std::mem::replace(&mut line, indent.to_owned()));
            }
            line.push(c);
        }
        line_is_empty = false;
    }
    lines.push(line);
    lines
}

/// Text that stays inside its cell and is not taken for markup.
pub(crate) fn markdown_cell(text: &str) -> String {
    let mut out = String::new();
    for c in format::printable(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapping_keeps_every_character_and_the_width() {
        let lines = wrap("one two three abcdefghijklmnop", 9, "  ");
        assert_eq!(
            lines,
            ["one two", "  three", "  abcdefg", "  hijklmn", "  op"]
        );
        assert_eq!(wrap("", 9, ""), [""]);
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(columns_of("日本a"), 5);
        assert_eq!(wrap("日本日本日本", 5, ""), ["日本", "日本", "日本"]);
    }

    #[test]
    fn cells_stay_cells() {
        assert_eq!(markdown_cell("a|b\n<c>"), "a\\|b &lt;c&gt;");
    }
}
