//! Standard output and error. A reader that went away (`| head`) is no reason to fail.

use std::io::{ErrorKind, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

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
    let style = ProgressStyle::with_template("{bar:10} {percent:>3} %  {wide_msg}")
        .expect("a valid template");
    bar.set_style(style);
    bar
}

/// Steps of the whole bar.
const PROGRESS_STEPS: u64 = 1000;

/// Shows how far a run is, and how long it may still take.
pub(super) fn show(bar: &ProgressBar, progress: &Progress<'_>) {
    bar.set_position((progress.done * PROGRESS_STEPS as f64) as u64);
    bar.set_message(message(progress));
}

/// What matters least stands last: a narrow terminal cuts it.
fn message(progress: &Progress<'_>) -> String {
    let moment = &progress.moment;
    let left = progress
        .left
        .map_or(String::new(), |left| format!("{} left  ", clock(left)));
    let number = match progress.workloads {
        1 => String::new(),
        count => format!("{}/{count} ", progress.number + 1),
    };
    format!(
        "{left}{number}{}: {} {}, {}",
        moment.workload,
        moment.pass.name(),
        moment.block + 1,
        moment.subject
    )
}

/// As a clock shows it: 1:23:45, or 2:05 below an hour.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::results::Pass;
    use crate::run::engine::Moment;

    #[test]
    fn the_time_left_comes_first() {
        let progress = Progress {
            moment: Moment {
                workload: "synthetic-vectors-constant",
                subject: "jemalloc",
                pass: Pass::Speed,
                block: 11,
                spent: Duration::from_secs(9),
                left: Some(Duration::from_secs(9)),
            },
            number: 8,
            workloads: 28,
            done: 0.5,
            left: Some(Duration::from_secs_f64(3599.6)),
        };
        let text = message(&progress);
        let expected = "1:00:00 left  9/28 synthetic-vectors-constant: speed 12, jemalloc";
        assert_eq!(text, expected);
        let single = Progress {
            number: 0,
            workloads: 1,
            left: None,
            ..progress
        };
        assert_eq!(
            message(&single),
            "synthetic-vectors-constant: speed 12, jemalloc"
        );
        assert_eq!(clock(Duration::from_secs(125)), "2:05");
    }
}
