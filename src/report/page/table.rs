//! Tables of the page: rows of cells, the best of a column emphasised.

#![forbid(unsafe_code)]

use serde::Serialize;

use crate::report::format;
use crate::report::model::Row;

/// A cell of numbers: emphasised if it is the best of its column.
#[derive(Serialize, Default)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) detail: String,
    /// "faster", "slower", "not distinguishable", or empty.
    pub(super) verdict: &'static str,
    pub(super) best: bool,
}

/// One line, its name on the left.
#[derive(Serialize)]
pub(super) struct TableRow {
    pub(super) name: String,
    pub(super) cells: Vec<Cell>,
}

/// A table that needs nothing but itself.
#[derive(Serialize)]
pub(super) struct Table {
    /// What it shows, for those who cannot see it, and as its title where it is folded away.
    pub(super) title: String,
    /// Over the names.
    pub(super) corner: &'static str,
    pub(super) headings: Vec<String>,
    pub(super) rows: Vec<TableRow>,
}

pub(super) fn written(text: impl Into<String>) -> Cell {
    Cell {
        text: text.into(),
        ..Cell::default()
    }
}

/// A name as it stands in a table: bounds, which are no allocators, in brackets.
pub(super) fn row_name(row: &Row<'_>) -> String {
    if row.is_floor {
        format!("({})", row.name())
    } else {
        row.name().to_owned()
    }
}

/// A column of optional values shown by one function; emphasises the least among allocators.
pub(super) fn optional<T>(value: Option<T>, show: impl Fn(T) -> String) -> Cell {
    written(value.map_or(format::ABSENT.to_owned(), show))
}
