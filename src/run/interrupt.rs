//! Ctrl-C, SIGTERM and SIGHUP: a flag that the parent looks at while it waits for a child. And the
//! signals as whoever started this process left them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

static SIGNALS: AtomicU32 = AtomicU32::new(0);
/// So many signals end the process at once, wherever it is. A second one often comes by itself: from
/// an impatient user, or from the terminal and a parent both.
const PATIENCE: u32 = 3;

/// From here on a signal sets the flag instead of ending the process; the third one ends it. A signal
/// that is ignored stays so: `nohup` asks for that, and a shell does when it starts a job behind it.
pub fn install() {
    let ignored =
        [libc::SIGINT, libc::SIGTERM, libc::SIGHUP].map(|signal| (signal, is_ignored(signal)));
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
    for (signal, _) in ignored.iter().filter(|(_, ignored)| *ignored) {
        // SAFETY: a valid signal number, and no handler that could run.
        unsafe { libc::signal(*signal, libc::SIG_IGN) };
    }
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: a structure of numbers, for which zeroes are valid.
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    // SAFETY: asks only; the place has room for the answer.
    let known = unsafe { libc::sigaction(signal, core::ptr::null(), &raw mut action) } == 0;
    known && action.sa_sigaction == libc::SIG_IGN
}

/// Children can be waited for from here on: whoever started this process may have had SIGCHLD ignored
/// (`trap '' CHLD`), which is inherited and makes the kernel forget children when they end.
pub(super) fn expect_children() {
    // SAFETY: a valid signal number and the default action.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
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
