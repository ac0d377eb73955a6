//! What commands with --subjects share.

#![forbid(unsafe_code)]

use super::terminal::complain;
use crate::error::{Error, Result};
use crate::measure::results::{Results, Status};
use crate::report::format::plural;
use crate::report::status_word;
use crate::subject::catalogue::{ALL, Catalogue};

/// Says which allocators "all" did not bring.
pub(super) fn tell_left_out(catalogue: &Catalogue, names: Option<&[String]>) {
    if names.is_some_and(|names| names.iter().any(|name| name == ALL)) {
        for (name, why) in catalogue.left_out() {
            complain(&format!("note: left out: {name}: {why}"));
        }
    }
}

/// Failed rows that are told; the report has them all.
const ROWS_TOLD: usize = 5;

/// For `--require-all`.
///
/// # Errors
/// Some row failed, or there is none.
pub(super) fn require_all(results: &Results) -> Result<()> {
    let rows = &results.summary;
    let failed: Vec<String> = rows
        .iter()
        .filter(|row| row.status != Status::Ok)
        .map(|row| {
            let status = status_word(row.status);
            format!("{} under {} ({status})", row.workload, row.subject)
        })
        .collect();
    let workloads = plural(results.workloads.len() as u64, "workload", "workloads");
    if failed.is_empty() && !rows.is_empty() {
        complain(&format!(
            "All {} rows of {workloads} are ok: nothing was wrong, refused or killed.",
            rows.len()
        ));
        return Ok(());
    }
    let mut told = failed[..failed.len().min(ROWS_TOLD)].join(", ");
    if failed.len() > ROWS_TOLD {
        told.push_str(&format!(", and {} more", failed.len() - ROWS_TOLD));
    }
    Err(Error::Failed(format!(
        "--require-all: {} of {} rows failed: {told}",
        failed.len(),
        rows.len()
    )))
}
