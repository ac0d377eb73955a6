//! The files of a report, and reading results back with errors that say what to do.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::measure::results::{Results, SCHEMA_VERSION};

/// Where the charts of a report lie, inside its folder.
pub(crate) const CHARTS: &str = "charts";

/// Removes drawings that an older report left in a folder of charts. Only files that end in `.svg`
/// go; folders, links and anything else are somebody's.
pub(crate) fn remove_other_charts(folder: &Path, kept: &[PathBuf]) -> Result<()> {
    let entries = std::fs::read_dir(folder).map_err(|source| Error::io(folder, "read", source))?;
    for entry in entries {
        let entry = entry.map_err(|source| Error::io(folder, "read", source))?;
        let path = entry.path();
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        let is_drawing = path.extension().is_some_and(|ending| ending == "svg");
        if is_file && is_drawing && !kept.contains(&path) {
            std::fs::remove_file(&path).map_err(|source| Error::io(&path, "remove", source))?;
        }
    }
    Ok(())
}

/// Makes a folder and those above it.
pub(crate) fn create_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|source| Error::io(path, "create", source))
}

/// Makes the folder of a report to come, and tries it out, so that a long measurement does not end
/// in an error that could have been told at its start.
///
/// # Errors
///
/// The folder cannot be made, or no file can be made in it, or its `charts` is not a folder.
pub fn prepare_directory(path: &Path) -> Result<()> {
    create_folder(path)?;
    let charts = path.join(CHARTS);
    let is_taken = std::fs::symlink_metadata(&charts).is_ok();
    if is_taken && !charts.is_dir() {
        return Err(Error::file(
            charts,
            "the report's charts go here, but this is not a folder; move it away",
        ));
    }
    tempfile::Builder::new()
        .prefix(".partial-")
        .tempfile_in(path)
        .map(drop)
        .map_err(|source| Error::io(path, "write into", source))
}

/// Writes a results file: one line per sample would be unreadable, so it is indented JSON.
///
/// # Errors
///
/// The folder does not exist or cannot be written, or the disk is full; the old file is then left.
pub fn write_results(results: &Results, path: &Path) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(results).map_err(|error| {
        Error::file(path, format!("cannot write these results as JSON: {error}"))
    })?;
    text.push(b'\n');
    write_atomically(path, &text)
}

/// Reads a results file that [`write_results`] of this schema version wrote.
///
/// # Errors
///
/// The file is missing, is not JSON or cut short (with its line), is of another schema version, or
/// does not follow the schema (with its line).
pub fn read_results(path: &Path) -> Result<Results> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::file(
                path,
                "no such file; a results file is called results.json and is written by `replay`",
            ));
        }
        Err(error) if error.kind() == std::io::ErrorKind::IsADirectory => {
            return Err(Error::file(
                path,
                "this is a folder; name the results.json inside it",
            ));
        }
        Err(error) => return Err(Error::io(path, "read", error)),
    };
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::file(
            path,
            "the file is empty; expected a results file (JSON)",
        ));
    }
    let version: VersionOnly =
        serde_json::from_slice(&text).map_err(|error| located(path, &error))?;
    match version.schema_version {
        Some(SCHEMA_VERSION) => {}
        Some(other) => {
            return Err(Error::file(
                path,
                format!(
                    "results of schema version {other}; this program reads version {SCHEMA_VERSION}: \
                     draw the report with the program that measured, or measure again"
                ),
            ));
        }
        None => {
            return Err(Error::file(
                path,
                "not a results file: it is JSON, but has no schema_version",
            ));
        }
    }
    let results: Results = serde_json::from_slice(&text).map_err(|error| located(path, &error))?;
    if results.runs.is_empty() {
        return Err(Error::file(
            path,
            "not a whole results file: it names no run",
        ));
    }
    Ok(results)
}

/// Only what tells which schema the rest follows.
#[derive(serde::Deserialize)]
struct VersionOnly {
    schema_version: Option<u32>,
}

fn located(path: &Path, error: &serde_json::Error) -> Error {
    use serde_json::error::Category;
    let line = error.line().max(1) as u64;
    match error.classify() {
        Category::Eof => Error::line(
            path,
            line,
            "the file ends in the middle: it was cut short; copy or measure it again",
        ),
        Category::Syntax => Error::line(
            path,
            line,
            format!("not a results file: this is not JSON ({error})"),
        ),
        Category::Data | Category::Io => Error::line(
            path,
            line,
            format!("not a results file of schema version {SCHEMA_VERSION}: {error}"),
        ),
    }
}
