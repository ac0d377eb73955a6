//! `trace speed`: how small the binary format makes a trace, and how fast it is read.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use super::input::Reading;
use crate::cli::terminal::print;
use crate::error::{Error, Result};
use crate::report::format;
use crate::run::interrupt;
use crate::run::usage::cpu_time;
use crate::statistics::median;
use crate::trace::stream::{Batch, EventSink};
use crate::trace::{Format, OutputFormat, ReadOptions, export, read_into};

/// Say how small the binary format makes a trace, and how fast it is read, on one core
///
/// The median of millions of events per second of processor time, which other programs disturb little;
/// the median and the best per second on the wall. Each trace is read as often as fits into the time given, at least five times, from its first byte to
/// its last: checksums, decompression, decoding, and the SHA-256 that every report names. A trace in
/// another format is converted first, into the folder for temporary files.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  mymalloc trace speed workloads/traces/*.trace")]
pub(super) struct Arguments {
    /// The traces to read
    #[arg(value_name = "TRACE", required = true)]
    inputs: Vec<PathBuf>,

    /// Seconds for each
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = crate::cli::amounts::parse_seconds)]
    seconds: Duration,

    #[command(flatten)]
    reading: Reading,
}

/// Fewer say nothing of how far they scatter.
const READS_MIN: usize = 5;

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    print(&row(&[
        "trace",
        "events",
        "bytes",
        "bytes/event",
        "M/s of CPU",
        "M/s, all",
        "best",
    ]))?;
    for input in &arguments.inputs {
        let told = speed(input, &arguments.reading.options(), arguments.seconds)?;
        print(&told.row(input))?;
    }
    Ok(())
}

/// What was found of one trace.
struct Speed {
    events: u64,
    bytes: u64,
    /// Of each time it was read: events per second of processor time, and on the wall.
    per_cpu_s: Vec<f64>,
    per_s: Vec<f64>,
}

fn speed(input: &Path, options: &ReadOptions, time: Duration) -> Result<Speed> {
    let mut count = Count(0);
    let ending = read_into(input, options, &mut count)?;
    let folder =
        tempfile::tempdir().map_err(|error| Error::io(std::env::temp_dir(), "write", error))?;
    let is_binary = ending.origin.format == Format::Binary && ending.origin.compression.is_empty();
    let path = if is_binary {
        input.to_owned()
    } else {
        let path = folder.path().join("converted.trace");
        let mut sink = export::create(&path, OutputFormat::Binary)?;
        let ending = read_into(input, options, &mut sink)?;
        sink.finish(&ending)?;
        path
    };
    let unread = |error| Error::io(&path, "read", error);
    let bytes = std::fs::metadata(&path).map_err(unread)?.len();
    let quiet = ReadOptions {
        interrupted: Some(interrupt::requested),
        ..ReadOptions::default()
    };
    let begin = Instant::now();
    let (mut per_cpu_s, mut per_s) = (Vec::new(), Vec::new());
    while per_s.len() < READS_MIN || begin.elapsed() < time {
        let mut found = Count(0);
        let (cpu, start) = (cpu_time(), Instant::now());
        read_into(&path, &quiet, &mut found)?;
        let (took, cpu) = (start.elapsed(), cpu_time() - cpu);
        if found.0 != count.0 {
            let what = format!("{} events, and {} when it was read again", count.0, found.0);
            return Err(Error::file(&path, what));
        }
        per_s.push(found.0 as f64 / took.as_secs_f64());
        // A short one may take less than the clock can tell.
        per_cpu_s.push(found.0 as f64 / cpu.as_secs_f64().max(1e-6));
    }
    Ok(Speed {
        events: count.0,
        bytes,
        per_cpu_s,
        per_s,
    })
}

impl Speed {
    fn row(&self, input: &Path) -> String {
        let name = input
            .file_name()
            .unwrap_or(input.as_os_str())
            .to_string_lossy();
        let millions = |rate: f64| format!("{:.1}", rate / 1e6);
        let middle = |rates: &[f64]| millions(median(rates).expect("it was read"));
        let best = self.per_s.iter().copied().fold(0.0, f64::max);
        row(&[
            &format::printable(&name),
            &format::count(self.events),
            &format::count(self.bytes),
            &format!("{:.3}", self.bytes as f64 / self.events as f64),
            &middle(&self.per_cpu_s),
            &middle(&self.per_s),
            &millions(best),
        ])
    }
}

fn row(cells: &[&str; 7]) -> String {
    let [name, events, bytes, each, per_cpu_s, per_s, best] = cells;
    format!("{name:<24} {events:>11} {bytes:>11} {each:>11} {per_cpu_s:>10} {per_s:>8} {best:>7}\n")
}

/// Counts events and does nothing else.
struct Count(u64);

impl EventSink for Count {
    fn take(&mut self, batch: &Batch) -> Result<()> {
        self.0 += batch.events.len() as u64;
        Ok(())
    }
}
