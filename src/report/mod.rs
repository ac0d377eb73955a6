//! Reports: a results file told as sentences, tables, charts, and one self-contained page.
//!
//! ```text
//! results.json -> model (grouped) -> verdict (sentences)
//!                                 -> table (terminal, Markdown, CSV)
//!                                 -> charts (SVG)  -> page (HTML) -> files
//! ```
//!
//! Invariant: nothing here runs or measures anything; every number shown is in the results, or one
//! division away from it. Only `files` touches the disk.

#![forbid(unsafe_code)]

mod bounds;
mod charts;
pub mod compared;
mod facts;
pub mod fidelity;
mod files;
pub mod fitted;
pub(crate) mod format;
mod latency;
mod model;
mod page;
pub mod ranked;
mod samples;
mod sure;
pub mod table;
mod threads;
pub mod trace;
mod verdict;
mod words;

use std::path::{Path, PathBuf};

pub use files::{prepare_directory, read_results, write_results};
pub(crate) use model::status_word;

use crate::error::Result;
use crate::files::write_atomically;
use crate::measure::results::Results;

/// What [`write()`] wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportPaths {
    /// The page.
    pub index: PathBuf,
    /// The charts, each a file of its own.
    pub charts: Vec<PathBuf>,
}

/// Writes `index.html` and `charts/*.svg` into a folder, which is made if need be. Each file is
/// replaced as a whole, the page last; then drawings of an older report leave `charts`. Other files
/// are left alone.
///
/// # Errors
///
/// The folder cannot be made or written, or a chart cannot be drawn. What was there stays.
pub fn write(results: &Results, directory: &Path) -> Result<ReportPaths> {
    let rendered = page::render(results)?;
    let chart_folder = directory.join(files::CHARTS);
    files::create_folder(&chart_folder)?;
    let mut charts = Vec::new();
    for (name, svg) in &rendered.charts {
        let path = chart_folder.join(format!("{name}.svg"));
        write_atomically(&path, svg.as_bytes())?;
        charts.push(path);
    }
    let index = directory.join("index.html");
    write_atomically(&index, rendered.html.as_bytes())?;
    // Last, so that a failure before here leaves an older page whole.
    files::remove_other_charts(&chart_folder, &charts)?;
    Ok(ReportPaths { index, charts })
}

/// The plain sentence at the top of each workload's section, for callers that print it alone.
pub fn sentences(results: &Results) -> Vec<String> {
    let report = model::Report::of(results);
    report
        .workloads
        .iter()
        .map(|workload| verdict::of(workload, results).sentence)
        .collect()
}
