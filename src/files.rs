//! Files are written beside their destination and renamed, so that a reader sees the old file or the
//! new one, never half of one.

#![forbid(unsafe_code)]

use std::fs::Permissions;
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::error::{Error, Result};

/// Mode of a plain file; the umask still applies.
pub const PLAIN_MODE: u32 = 0o666;
/// Mode of a library, as linkers make it.
const LIBRARY_MODE: u32 = 0o777;

/// Replaces a file as a whole.
///
/// # Errors
///
/// The folder is missing or cannot be written, or the disk is full; the old file is then left.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    replace(path, PLAIN_MODE, |file| file.write_all(content))
}

/// The same for a shared object, which is made executable.
///
/// # Errors
///
/// As [`write_atomically`].
pub fn write_library(path: &Path, content: &[u8]) -> Result<()> {
    replace(path, LIBRARY_MODE, |file| file.write_all(content))
}

/// The same for content that is written piece by piece.
///
/// # Errors
///
/// As [`write_atomically`], and whatever `fill` fails with.
pub fn replace(
    path: &Path,
    mode: u32,
    fill: impl FnOnce(&mut BufWriter<&std::fs::File>) -> std::io::Result<()>,
) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let attempt = || -> std::io::Result<()> {
        let file = tempfile::Builder::new()
            .prefix(".partial-")
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(folder)?;
        let mut out = BufWriter::new(file.as_file());
        fill(&mut out)?;
        out.flush()?;
        drop(out);
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    attempt().map_err(|source| Error::io(path, "write", source))
}
