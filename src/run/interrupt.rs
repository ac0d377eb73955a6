//! Ctrl-C, SIGTERM and SIGHUP: a flag that the parent looks at while it waits for a child.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

static SIGNALS: AtomicU32 = AtomicU32::new(0);
/// So many signals end the process at once, leaving temporary files behind. A second one often
/// comes by itself: from an impatient user, or from the terminal and a parent both.
const PATIENCE: u32 = 3;

/// From here on a signal sets the flag instead of ending the process; the third one ends it.
pub fn install() {
    // Fails only if a handler is installed already, which is this one.
    let _ = ctrlc::set_handler(|| {
        if SIGNALS.fetch_add(1, Relaxed) + 1 >= PATIENCE {
            std::process::exit(130);
        }
    });
}

/// Whether a signal came.
pub fn requested() -> bool {
    SIGNALS.load(Relaxed) > 0
}
