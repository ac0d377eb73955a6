//! Standard output and error. A reader that went away (`| head`) is no reason to fail.

use std::io::{ErrorKind, Write as _};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::{Error, Result};
use crate::run::experiment::Progress;

/// Writes text to standard output.
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::Failed(format!(
            "cannot write to standard output: {error}"
        ))),
        _ => Ok(()),
    }
}

/// Writes a line to standard error.
pub(super) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A progress bar, shown only on a terminal; [`show`] moves it.
pub(super) fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(PROGRESS_STEPS), ProgressDrawTarget::stderr());
    let style =
        ProgressStyle::with_template("{bar:20} {percent} %  {wide_msg}").expect("a valid template");
    bar.set_style(style);
    bar
}

/// Steps of the whole bar.
const PROGRESS_STEPS: u64 = 1000;

/// Shows how far a run is, and how long it may still take.
pub(super) fn show(bar: &ProgressBar, progress: &Progress<'_>) {
    let moment = &progress.moment;
    bar.set_position((progress.done * PROGRESS_STEPS as f64) as u64);
    let left = progress.left.map_or(String::new(), |left| {
        format!("{} left, ", HumanDuration(left))
    });
    bar.set_message(format!(
        "{left}{} on {}, {} block {}",
        moment.subject,
        moment.workload,
        moment.pass.name(),
        moment.block + 1
    ));
}
