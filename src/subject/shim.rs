//! The preload shims, carried inside the program so that they are at hand wherever it is installed.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::path::Path;

use crate::error::{Error, Result};

/// The page list as a shared object: built by `build.rs` together with this program.
pub const PAGELIST: &[u8] = include_bytes!(env!("MYMALLOC_SHIM_PAGELIST"));

/// Writes a shim beside its destination and renames it into place, executable like any library.
pub fn write(bytes: &[u8], path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let attempt = || -> std::io::Result<()> {
        let mut file = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempfile_in(directory)?;
        file.write_all(bytes)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    attempt().map_err(|source| Error::io(path, "write the shared object to", source))
}
