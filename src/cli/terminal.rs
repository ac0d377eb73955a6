//! Standard output and error. A reader that went away (`| head`) is no reason to fail.

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::{Error, Result};
use crate::report::table::text::wrap;
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

/// A line for standard error: broken for a terminal, whole for a file that is searched.
pub(super) fn folded(line: &str) -> String {
    if std::io::stderr().is_terminal() {
        fold(line)
    } else {
        line.to_owned()
    }
}

/// Columns of a line on a terminal.
const WIDTH: usize = 80;

/// Breaks a line at spaces. What follows stands under it, a step further in.
fn fold(line: &str) -> String {
    let text = line.trim_start_matches(' ');
    let margin = " ".repeat((line.len() - text.len()).min(WIDTH / 2));
    let lines = wrap(text, WIDTH - margin.len(), "  ");
    let lines: Vec<String> = lines.iter().map(|one| format!("{margin}{one}")).collect();
    lines.join("\n")
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
    fn a_long_line_is_broken_within_eighty_columns_and_loses_no_word() {
        let words = "  the recorder says of logalloc that frees of unknown blocks were dropped ";
        let folded = fold(&words.repeat(4));
        let lines: Vec<&str> = folded.lines().collect();
        assert!(lines.len() > 3);
        assert!(lines.iter().all(|line| line.len() <= WIDTH), "{folded}");
        assert!(lines[0].starts_with("  the"), "{folded}");
        assert!(lines[1..].iter().all(|line| line.starts_with("    ")));
        let of = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(of(&folded), of(&words.repeat(4)));
        assert_eq!(fold("  short"), "  short");
    }

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
