//! `trace filter`: chosen blocks of a trace.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::slice::from_ref;

use clap::{Args, ValueEnum};

use super::input::{Reading, refuse_pipe, tell_origin};
use super::output::Writing;
use super::same_file;
use crate::cli::amounts::parse_bytes;
use crate::error::{Error, Result};
use crate::trace::read_into;
use crate::trace::tools::filter::{
    Choice, Filter, Kind, Lifetime, LifetimeChoice, Lifetimes, SiteChoice,
};
use crate::trace::tools::survey::survey;

/// Keep the blocks for which every condition holds, with everything that happens to them
///
/// A block is chosen by the call that allocates it; its free comes along, whichever thread frees. A
/// realloc from a chosen block to one that is not becomes a free, the other way round a realloc of
/// null.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mymalloc trace filter --thread 0,3 app.log.zst two-threads.log.zst
  mymalloc trace filter --max-size 256 app.log.zst small.log.zst
  mymalloc trace filter --lifetime 1..100 app.log.zst short-lived.log.zst
  mymalloc trace filter --site parse_ --invert app.log.zst without-parser.log.zst")]
pub(super) struct Arguments {
    /// The trace to read
    #[arg(value_name = "TRACE")]
    input: PathBuf,

    /// The file to write; .zst and .gz compress it
    #[arg(value_name = "OUT")]
    output: PathBuf,

    /// Blocks that these threads allocate, numbered as `trace stat` does
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    thread: Vec<u32>,

    /// Blocks of at least so many bytes
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    min_size: Option<u64>,

    /// Blocks of at most so many bytes
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    max_size: Option<u64>,

    /// Blocks that are freed or reallocated after MIN to MAX further events of the trace, both
    /// included, as `trace stat` counts; "MIN.." means those that are never freed as well
    #[arg(long, value_name = "MIN..MAX", value_parser = parse_lifetime)]
    lifetime: Option<Lifetime>,

    /// Blocks of call sites with this text in their name, or of this number
    #[arg(long, value_name = "TEXT")]
    site: Option<String>,

    /// Blocks allocated by these calls; and such calls that make no block
    #[arg(long, value_enum, value_name = "CALL,CALL", value_delimiter = ',')]
    operation: Vec<Call>,

    /// Keep all others instead
    #[arg(long)]
    invert: bool,

    #[command(flatten)]
    writing: Writing,

    #[command(flatten)]
    reading: Reading,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Call {
    Malloc,
    Calloc,
    Realloc,
    /// memalign and its relatives
    Aligned,
    FreeNull,
    /// free of a block from before the recording
    FreeUnseen,
    /// An allocation that failed
    Failed,
    /// A mark of the recording tool
    Mark,
}

impl From<Call> for Kind {
    fn from(call: Call) -> Self {
        match call {
            Call::Malloc => Self::Malloc,
            Call::Calloc => Self::Calloc,
            Call::Realloc => Self::Realloc,
            Call::Aligned => Self::Aligned,
            Call::FreeNull => Self::FreeNull,
            Call::FreeUnseen => Self::FreeUnseen,
            Call::Failed => Self::Failed,
            Call::Mark => Self::Mark,
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let input = &arguments.input;
    same_file::refuse(from_ref(input), &arguments.output)?;
    let choice = choice(arguments)?;
    arguments
        .writing
        .write(from_ref(input), &arguments.output, |sink| {
            let mut filter = Filter::new(sink, choice);
            let ending = read_into(input, &arguments.reading.options(), &mut filter)?;
            tell_origin(input, &ending.origin);
            filter.finish(ending)
        })
}

fn choice(arguments: &Arguments) -> Result<Choice> {
    let threads = &arguments.thread;
    let kinds = &arguments.operation;
    if let (Some(min), Some(max)) = (arguments.min_size, arguments.max_size)
        && min > max
    {
        return Err(Error::usage(format!(
            "no size is at least {min} and at most {max} bytes; exchange --min-size and --max-size"
        )));
    }
    let choice = Choice {
        threads: (!threads.is_empty()).then(|| threads.iter().copied().collect()),
        bytes_min: arguments.min_size,
        bytes_max: arguments.max_size,
        site: arguments
            .site
            .as_ref()
            .map(|text| site(arguments, text))
            .transpose()?,
        lifetimes: arguments
            .lifetime
            .map(|lifetime| lifetimes(arguments, lifetime))
            .transpose()?,
        kinds: (!kinds.is_empty()).then(|| kinds.iter().map(|&call| call.into()).collect()),
        invert: arguments.invert,
    };
    if choice.is_empty() {
        return Err(Error::usage(
            "filter by what? give --thread, --min-size, --max-size, --lifetime, --site or --operation",
        ));
    }
    Ok(choice)
}

/// How long a block lives is known when it ends, so the trace is read once for that.
fn lifetimes(arguments: &Arguments, lifetime: Lifetime) -> Result<LifetimeChoice> {
    refuse_pipe(&arguments.input, "filter --lifetime")?;
    let mut lifetimes = Lifetimes::new(lifetime);
    let options = arguments.reading.options();
    read_into(&arguments.input, &options, &mut lifetimes)?;
    Ok(lifetimes.finish())
}

/// "1..100", "..100", "1000..": events.
fn parse_lifetime(text: &str) -> std::result::Result<Lifetime, String> {
    const EXPECTED: &str =
        "expected a number of events from MIN to MAX, such as 1..100, ..100 or 1000..";
    let (min, max) = text.split_once("..").ok_or(EXPECTED)?;
    if min.is_empty() && max.is_empty() {
        return Err(EXPECTED.to_owned());
    }
    let number = |text: &str| text.parse::<u64>().map_err(|_| EXPECTED.to_owned());
    let min_events = if min.is_empty() { 0 } else { number(min)? };
    let max_events = (!max.is_empty()).then(|| number(max)).transpose()?;
    if max_events.is_some_and(|max| max < min_events) {
        return Err("no number is in this range; exchange MIN and MAX".to_owned());
    }
    Ok(Lifetime {
        min_events,
        max_events,
    })
}

/// The names of call sites are known at the end of a trace, so it is read once for them.
fn site(arguments: &Arguments, text: &str) -> Result<SiteChoice> {
    refuse_pipe(&arguments.input, "filter --site")?;
    let survey = survey(&arguments.input, &arguments.reading.options())?;
    if !survey.has_sites {
        return Err(Error::usage(format!(
            "{}: this trace has no call sites to filter by",
            arguments.input.display()
        )));
    }
    SiteChoice::of(text, &survey.ending.site_names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_ranges() {
        let found = |text| parse_lifetime(text).map(|found| (found.min_events, found.max_events));
        assert_eq!(found("1..100"), Ok((1, Some(100))));
        assert_eq!(found("..100"), Ok((0, Some(100))));
        assert_eq!(found("1000.."), Ok((1000, None)));
        assert_eq!(found("5..5"), Ok((5, Some(5))));
        for text in [
            "", "..", "5", "5..4", "1..x", "-1..5", "1...5", "1..=5", " 1..5",
        ] {
            assert!(found(text).is_err(), "{text}");
        }
    }
}
