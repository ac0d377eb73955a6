//! `record`: runs a program and writes what it asks of its allocator as a trace.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::terminal::{complain, folded};
use crate::error::{Error, Result};
use crate::record::{self, Observer, Order, Outcome, Recorded};
use crate::report::format::{bytes, count, percent, plural, shell_word, time_ns};

/// Record a program: run it, and write what it asks of its allocator as a trace
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mymalloc record -o py.trace -- python3 script.py
  mymalloc record --follow-children -- redis-server --port 7777
  mymalloc record --signal -o server.trace -- server
                               then, to begin and to end: kill -USR2 PID

The program runs as it always does: its output is its own, and Ctrl-C reaches
it. The exit status is the program's (128 and the signal's number if one ended
it), or 1 if the recording is not whole.
With --follow-children the traces of its children stand beside FILE, with the
process's number in their names: app.trace, app.1234.trace.
What cannot be recorded is refused: static, 32-bit and set-uid programs, and
those with an allocator of their own.")]
pub(super) struct Arguments {
    /// The trace; .log, .log.zst and the like are text [default: PROGRAM.trace, a new file]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Stop recording a process when its raw recording, of 8 to 16 bytes an operation, has this size;
    /// the trace is far smaller
    #[arg(long, value_name = "SIZE", default_value = "2G", value_parser = parse_size)]
    max_size: u64,

    /// Record the processes that the program starts, each in a file of its own, and wait for them
    #[arg(long)]
    follow_children: bool,

    /// Begin switched off: SIGUSR2 switches recording on, and off again
    #[arg(long)]
    signal: bool,

    /// Record the moment of every call
    #[arg(long)]
    timestamps: bool,

    /// Record where in the program every call stands
    #[arg(long)]
    call_sites: bool,

    /// Tell how much of its large blocks (from 16 KiB) the program touches, by size. For that their pages
    /// are given back to the system when a block begins, and looked at when it ends: the program takes
    /// more page faults than it does otherwise
    #[arg(long)]
    touched: bool,

    /// Let the program use this allocator, instead of its own
    #[arg(long, value_name = "PATH.so")]
    allocator: Option<PathBuf>,

    /// The program and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "PROGRAM"
    )]
    command: Vec<OsString>,
}

/// A file smaller than this holds nothing.
const SIZE_MIN_BYTES: u64 = 1 << 20;

fn parse_size(text: &str) -> std::result::Result<u64, String> {
    let bytes = parse_size::Config::new()
        .with_binary()
        .parse_size(text)
        .map_err(|error| format!("{error}; expected a size such as 512M or 2G"))?;
    match bytes {
        ..SIZE_MIN_BYTES => Err("must be at least 1M".to_owned()),
        _ => Ok(bytes),
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let (program, rest) = arguments.command.split_first().expect("required by clap");
    check_program(program)?;
    let outcome = record::run(
        &Order {
            program: program.clone(),
            arguments: rest.to_vec(),
            file: arguments.output.clone(),
            max_bytes: arguments.max_size,
            follow_children: arguments.follow_children,
            signal: arguments.signal,
            times: arguments.timestamps,
            sites: arguments.call_sites,
            touched: arguments.touched,
            allocator: arguments.allocator.clone(),
        },
        &mut Teller,
    )?;
    // Standard output is the program's.
    let summary = summary(&outcome);
    if !summary.is_empty() {
        complain(summary.trim_end());
    }
    for remark in &outcome.remarks {
        complain(&folded(&format!("note: {remark}")));
    }
    for failure in &outcome.failures {
        complain(&format!("error: {failure}"));
    }
    let code = match (outcome.exit_code, outcome.failures.is_empty()) {
        (0, false) => 1,
        (code, _) => code,
    };
    Ok(ExitCode::from(code))
}

/// All words from the program's name on are the program's, so that a mistyped option comes here.
fn check_program(program: &OsStr) -> Result<()> {
    if !program.as_encoded_bytes().starts_with(b"-") {
        return Ok(());
    }
    let shown = program.to_string_lossy();
    Err(Error::usage(format!(
        "{shown} is no option of record (mymalloc record --help), nor the name of a program: one that \
         begins with - is given as ./{shown}"
    )))
}

struct Teller;

impl Observer for Teller {
    fn tell(&mut self, line: &str) {
        complain(&format!("record: {line}"));
    }
}

/// So many traces are told one by one.
const FILES_TOLD: usize = 12;

/// What was recorded, in lines of at most 80 columns but for names.
fn summary(outcome: &Outcome) -> String {
    let mut text = String::new();
    for recorded in outcome.recorded.iter().take(FILES_TOLD) {
        text.push_str(&line(recorded));
    }
    let untold = outcome.recorded.len().saturating_sub(FILES_TOLD);
    if untold > 0 {
        let untold = plural(untold as u64, "trace", "traces");
        text.push_str(&format!("and {untold} of further processes\n"));
    }
    let Some(main) = outcome.recorded.first() else {
        return text;
    };
    let recording = &main.recording;
    text.push_str(&format!("  {}", recording.ended));
    if recording.unrecorded_calls == 0 && recording.lost_events == 0 {
        text.push_str(", nothing lost");
    } else {
        text.push_str(&format!(
            ", {} not recorded, {} lost",
            plural(recording.unrecorded_calls, "call", "calls"),
            plural(recording.lost_events, "event", "events")
        ));
    }
    text.push('\n');
    text.push_str(&overhead(main, outcome));
    // Those of `stopped` are told as errors; those of other processes stand in their files.
    let told = main.warnings.iter();
    for warning in told.filter(|warning| !warning.starts_with("recording stopped")) {
        text.push_str(&folded(&format!("  {warning}")));
        text.push('\n');
    }
    let file = shell_word(&main.path.to_string_lossy());
    text.push_str(&format!("next: mymalloc replay {file}\n"));
    text
}

/// `py.trace: 1,234 operations, 3 threads, 12 KiB (0.4 bytes an operation)`
fn line(recorded: &Recorded) -> String {
    let operations = recorded.counts.operations();
    let total = recorded.counts.total().max(1);
    format!(
        "{}: {}, {}, {} ({:.2} bytes per event)\n",
        recorded.path.display(),
        match operations {
            1 => "1 operation".to_owned(),
            operations => format!("{} operations", count(operations)),
        },
        plural(recorded.threads.into(), "thread", "threads"),
        bytes(recorded.file_bytes as f64),
        recorded.file_bytes as f64 / total as f64
    )
}

fn overhead(main: &Recorded, outcome: &Outcome) -> String {
    let Some(picoseconds) = main.recording.overhead_ps_per_operation else {
        return String::new();
    };
    let all = outcome.recorded.iter();
    let operations: u64 = all.map(|recorded| recorded.counts.operations()).sum();
    let spent_ns = operations as f64 * picoseconds as f64 / 1000.0;
    let cpu_ns = outcome.cpu.as_nanos() as f64;
    let mut text = format!(
        "  recording cost {} per operation",
        time_ns(picoseconds as f64 / 1000.0)
    );
    if spent_ns < cpu_ns {
        text.push_str(&format!(
            ": {} of {} CPU ({})",
            time_ns(spent_ns),
            time_ns(cpu_ns),
            percent(spent_ns / cpu_ns)
        ));
    }
    text.push('\n');
    let copying_ns = outcome.copying_cpu.as_nanos() as f64;
    if copying_ns > COPYING_TOLD * cpu_ns {
        text.push_str(&format!(
            "  beside it, mymalloc took {} CPU to copy what was recorded\n",
            time_ns(copying_ns)
        ));
    }
    text
}

/// Part of the program's CPU time from which on copying is told.
const COPYING_TOLD: f64 = 0.01;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistyped_options_are_no_programs() {
        for program in ["ls", "./-odd", ""] {
            assert!(check_program(OsStr::new(program)).is_ok(), "{program}");
        }
        let error = check_program(OsStr::new("--time")).expect_err("an option");
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().starts_with("--time is no option"));
    }
}
