//! Runs the program as if nobody were between it and the user: its standard streams are untouched, and
//! signals reach it.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use super::system::{self, End, Signals};

/// How long it takes at most until new files are looked for: first soon, then less and less often.
const TICK_MIN: Duration = Duration::from_millis(1);
const TICK_MAX: Duration = Duration::from_millis(100);

/// How the program ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finished {
    pub(super) end: End,
    pub(super) wall: Duration,
}

/// Lets a command begin with the signals that the user left to this process.
pub(super) fn with_signals_of_user(command: &mut Command, signals: Signals) {
    // SAFETY: between fork and exec only one function is called, which is async-signal-safe.
    unsafe { command.pre_exec(move || signals.restore()) };
}

/// Runs the program to its end. `tick` is called with its number, at once and then again and again.
///
/// # Errors
/// The system cannot start it.
pub(super) fn run(
    mut command: Command,
    signals: Signals,
    mut tick: impl FnMut(u32),
) -> std::io::Result<Finished> {
    with_signals_of_user(&mut command, signals);
    let began = Instant::now();
    let process = command.spawn()?.id();
    let mut within = TICK_MIN;
    loop {
        tick(process);
        if let Some(end) = system::reap(process)? {
            return Ok(Finished {
                end,
                wall: began.elapsed(),
            });
        }
        // What the terminal sends, it sends to the program as well; what another process sends was
        // meant for the program.
        if let Some(signal) = signals.next(within)
            && signal.number != libc::SIGCHLD
            && signal.is_sent
        {
            system::send(process, signal.number);
        }
        within = TICK_MAX.min(within * 2);
    }
}
