//! The files of a report: written beside their destination and renamed, so that a reader sees the
//! old file or the new one; read back with errors that say what to do.

#![forbid(unsafe_code)]

use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};
use crate::measure::results::{Results, SCHEMA_VERSION};

/// Replaces a file as a whole.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let refused = |source: std::io::Error| Error::io(path, "write", source);
    let mut file = tempfile::Builder::new()
        .prefix(".partial-")
        .permissions(readable_by_all())
        .tempfile_in(folder)
        .map_err(refused)?;
    file.write_all(content).map_err(refused)?;
    file.as_file().sync_all().map_err(refused)?;
    file.persist(path)
        .map_err(|error| Error::io(path, "write", error.error))?;
    Ok(())
}

/// What a file made without tempfile would have; the umask still applies.
fn readable_by_all() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}

/// Makes a folder and those above it.
pub(crate) fn create_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|source| Error::io(path, "create", source))
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
    serde_json::from_slice(&text).map_err(|error| located(path, &error))
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
