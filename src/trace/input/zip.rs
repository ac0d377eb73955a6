//! The one file of a zip archive.

#![forbid(unsafe_code)]

use std::io::{BufReader, Read};
use std::path::Path;

use zip::{CompressionMethod, ZipArchive};

use super::tap::ReadSeek;
use crate::error::{Error, Result};

/// Opens the one file of an archive and gives it to `body`.
pub(super) fn with_entry<T>(
    path: &Path,
    file: Box<dyn ReadSeek + '_>,
    body: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<T> {
    let damaged = |error| {
        Error::file(
            path,
            format!("the zip archive is truncated, damaged or unsupported: {error}"),
        )
    };
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    let mut files = Vec::new();
    let mut method = CompressionMethod::Stored;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(damaged)?;
        if !entry.is_dir() {
            let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
            files.push((index, name));
            method = entry.compression();
        }
    }
    let [(index, _)] = files.as_slice() else {
        return Err(Error::file(path, not_one_file(&files)));
    };
    if !matches!(
        method,
        CompressionMethod::Stored | CompressionMethod::Deflated
    ) {
        let message = format!(
            "unsupported compression method in the zip archive ({method}): unpack it, or pack it \
             with deflate"
        );
        return Err(Error::file(path, message));
    }
    let mut entry = archive.by_index(*index).map_err(damaged)?;
    body(&mut entry)
}

fn not_one_file(files: &[(usize, String)]) -> String {
    if files.is_empty() {
        return "the zip archive holds no file".to_owned();
    }
    let mut names: Vec<String> = files
        .iter()
        .take(5)
        .map(|(_, name)| name.escape_debug().to_string())
        .collect();
    if files.len() > names.len() {
        names.push("...".to_owned());
    }
    format!(
        "the zip archive holds {} files ({}), it must hold one: unpack the one you mean",
        files.len(),
        names.join(", ")
    )
}
