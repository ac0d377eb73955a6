//! The folder of a report while it is written: one process at a time.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::{Error, Result};
use crate::report;

/// A folder that no other run of this program writes to while this lives.
///
/// The lock is on the folder itself: no file is left behind, and the kernel lifts it when the process
/// ends, however it ends.
#[derive(Debug)]
pub(super) struct Claim {
    _folder: Option<File>,
}

/// Makes the folder of a report to come, and claims it until the report is written.
///
/// # Errors
/// It cannot be made or written to, or another run has claimed it.
pub(super) fn claim(directory: &Path) -> Result<Claim> {
    report::prepare_directory(directory)?;
    // Who may write into a folder need not be allowed to read it: then nothing is known of others.
    let Ok(folder) = File::open(directory) else {
        return Ok(Claim { _folder: None });
    };
    match folder.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Error::file(
            directory,
            "another run is writing its report to this folder; wait for it, or choose another --out",
        )),
        // A file system without locks on folders says nothing of others either.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Claim {
            _folder: Some(folder),
        }),
    }
}
