//! Reports on traces themselves (`trace stat`, `trace validate`, `trace diff`): text for a terminal,
//! and a page.

#![forbid(unsafe_code)]

pub mod difference;
mod text;
pub mod validation;
pub(crate) mod words;

pub use text::render as text;

use super::page;
use crate::error::Result;
use crate::trace::tools::stat::Statistics;

/// One self-contained page with charts.
///
/// # Errors
/// A chart cannot be drawn.
pub fn html(statistics: &Statistics) -> Result<String> {
    page::trace::render(statistics, concat!("mymalloc ", env!("CARGO_PKG_VERSION")))
}
