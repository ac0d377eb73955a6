//! No tool overwrites what it reads.

#![forbid(unsafe_code)]

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::error::{Error, Result};

/// Refuses an output that is one of the inputs, under whatever name.
///
/// # Errors
/// It is.
pub(super) fn refuse(inputs: &[impl AsRef<Path>], output: &Path) -> Result<()> {
    let identity = |data: Metadata| data.is_file().then(|| (data.dev(), data.ino()));
    let of = |path: &Path| std::fs::metadata(path).ok().and_then(identity);
    let Some(there) = of(output) else {
        return Ok(());
    };
    match inputs
        .iter()
        .find(|input| of(input.as_ref()) == Some(there))
    {
        Some(input) => Err(Error::usage(format!(
            "{}: this is the trace to read ({}), and would be replaced; name another file to write",
            output.display(),
            input.as_ref().display()
        ))),
        None => Ok(()),
    }
}
