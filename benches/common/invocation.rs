//! The command line, as far as criterion does not tell it: which mode, which cells, how many samples.

use std::time::Duration;

use criterion::Criterion;
use mymalloc::error::{Error, Result};
use regex::Regex;

/// Options of criterion that take a value as the next word.
const VALUED: [&str; 20] = [
    "-c",
    "--color",
    "--colour",
    "-s",
    "--save-baseline",
    "-b",
    "--baseline",
    "--baseline-lenient",
    "--load-baseline",
    "--format",
    "--sample-size",
    "--warm-up-time",
    "--measurement-time",
    "--nresamples",
    "--noise-threshold",
    "--confidence-level",
    "--significance-level",
    "--profile-time",
    "--plotting-backend",
    "--output-format",
];
/// What is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Names are printed.
    List,
    /// Each cell runs once; nothing is kept.
    Try,
    /// Cells are measured and reported.
    Measure,
}

/// See the module text.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    pub(crate) mode: Mode,
    pub(crate) quick: bool,
    /// `--sample-size`, if given.
    samples: Option<usize>,
    filter: Filter,
}

#[derive(Clone, Debug)]
enum Filter {
    All,
    None,
    Exactly(String),
    Matching(Regex),
}

impl Invocation {
    /// Reads the words after the program's name. Words that only criterion knows are left to it.
    pub(crate) fn of(words: impl Iterator<Item = String>) -> Result<Self> {
        let (mut bench, mut test, mut list, mut quick) = (false, false, false, false);
        let (mut exact, mut ignored, mut passive) = (false, false, false);
        let mut samples = None;
        let mut text = None;
        let mut words = words.peekable();
        while let Some(word) = words.next() {
            let (name, mut value) = match word.split_once('=') {
                Some((name, value)) if name.starts_with('-') => (name, Some(value.to_owned())),
                _ => (word.as_str(), None),
            };
            if value.is_none() && VALUED.contains(&name) {
                value = words.next();
            }
            match name {
                "--bench" => bench = true,
                "--test" => test = true,
                "--list" => list = true,
                "--quick" => quick = true,
                "--exact" => exact = true,
                "--ignored" => ignored = true,
                // Nothing is measured: old samples are compared, or a profiler looks on.
                "--load-baseline" | "--profile-time" => passive = true,
                "--sample-size" => samples = value.and_then(|digits| digits.parse().ok()),
                _ if !name.starts_with('-') => text = Some(word),
                _ => {}
            }
        }
        let filter = match text {
            _ if ignored => Filter::None,
            None => Filter::All,
            Some(text) if exact => Filter::Exactly(text),
            Some(text) => Filter::Matching(Regex::new(&text).map_err(|error| {
                Error::usage(format!(
                    "the filter {text:?} is no regular expression: {error}"
                ))
            })?),
        };
        let mode = if list {
            Mode::List
        } else if test || !bench || passive {
            Mode::Try
        } else {
            Mode::Measure
        };
        Ok(Self {
            mode,
            quick,
            samples,
            filter,
        })
    }

    /// Whether the filter lets a cell through; the same rule as criterion's.
    pub(crate) fn wants(&self, workload: &str, subject: &str) -> bool {
        let id = format!("{workload}/{subject}");
        match &self.filter {
            Filter::All => true,
            Filter::None => false,
            Filter::Exactly(text) => id == *text,
            Filter::Matching(regex) => regex.is_match(&id),
        }
    }

    /// Criterion with the times that keep the whole run within its limits (15 minutes, 3 if quick,
    /// for some 80 cells); options on the command line override them.
    pub(crate) fn criterion(&self) -> Criterion {
        let measurement = if self.quick { 400 } else { 4000 };
        Criterion::default()
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_millis(measurement))
            .nresamples(10_000)
    }

    /// Samples of a cell whose pass takes that long. The slowest get the fewest that criterion
    /// allows, or they alone would take minutes.
    pub(crate) fn sample_size(&self, pass: Duration) -> usize {
        match self.samples {
            Some(samples) => samples.max(10),
            None if pass > Duration::from_millis(200) => 10,
            None => 20,
        }
    }

    /// After how long a single pass is too slow to be repeated at all.
    pub(crate) fn probe_timeout(&self) -> Duration {
        Duration::from_millis(if self.quick { 1000 } else { 2000 })
    }
}
