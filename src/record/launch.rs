//! Runs the program as if nobody were between it and the user: its standard streams are untouched, and
//! signals reach it.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use super::system::{self, End, Signals};

/// How often new files are looked for.
const TICK: Duration = Duration::from_millis(100);

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

/// Runs the program to its end. `tick` is called with its number, at once and then every tenth of a
/// second.
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
        if let Some(signal) = signals.next(TICK)
            && signal.number != libc::SIGCHLD
            && signal.is_sent
        {
            system::send(process, signal.number);
        }
    }
}
