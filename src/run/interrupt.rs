//! Ctrl-C, SIGTERM and SIGHUP: a flag that the parent looks at while it waits for a child.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

static SIGNALS: AtomicU32 = AtomicU32::new(0);
/// So many signals end the process at once, wherever it is. A second one often comes by itself: from
/// an impatient user, or from the terminal and a parent both.
const PATIENCE: u32 = 3;

/// From here on a signal sets the flag instead of ending the process; the third one ends it.
pub fn install() {
    // Fails only if a handler is installed already, which is this one.
    let _ = ctrlc::set_handler(|| {
        if SIGNALS.fetch_add(1, Relaxed) + 1 >= PATIENCE {
            for folder in folders().iter() {
                // A child that is about to die may still hold files; their names go.
                let _ = std::fs::remove_dir_all(folder);
            }
            std::process::exit(130);
        }
    });
}

/// Temporary folders in use, to be removed even when no destructor runs.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn folders() -> MutexGuard<'static, Vec<PathBuf>> {
    FOLDERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From here on the folder is removed when signals end the process.
pub(super) fn guard_folder(folder: &Path) {
    folders().push(folder.to_owned());
}

/// The folder's owner removes it by itself.
pub(super) fn release_folder(folder: &Path) {
    folders().retain(|guarded| guarded != folder);
}

/// Whether a signal came.
pub fn requested() -> bool {
    SIGNALS.load(Relaxed) > 0
}
