//! Ctrl-C, SIGTERM and SIGHUP: a flag that the parent looks at while it waits for a child.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From here on a signal sets the flag instead of ending the process; a second one ends it.
pub fn install() {
    // Fails only if a handler is installed already, which is this one.
    let _ = ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Relaxed) {
            std::process::exit(130);
        }
    });
}

/// Whether a signal came.
pub fn requested() -> bool {
    INTERRUPTED.load(Relaxed)
}
