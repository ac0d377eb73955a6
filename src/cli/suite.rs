//! `suite`: a selection of the bundled workloads against a selection of subjects.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use wildmatch::WildMatch;

use super::amounts::{parse_memory_limit, parse_seconds, parse_share, parse_time};
use super::effort::comparisons;
use super::output_folder;
use super::replay::{OrderArgument, TouchArgument, command_line};
use super::subjects::{require_all, tell_left_out};
use super::terminal::{complain, print, progress_bar, show};
use crate::error::{Error, Result};
use crate::measure::environment::default_memory_limit_bytes;
use crate::measure::results::{Results, Status};
use crate::measure::warnings::unoptimised_warning;
use crate::plan::{Blocks, Rule};
use crate::report;
use crate::run::experiment::Experiment;
use crate::run::interrupt;
use crate::run::suite::{self, Start};
use crate::statistics::signed_rank::{ERROR_RATE, fewest_blocks};
use crate::subject::catalogue::Catalogue;
use crate::subject::object_file;
use crate::subject::{Access, Subject};
use crate::workload::definition::{self, Definition, Kind};
use crate::workload::program::RealProgram;

// Headings of `--help`.
const WORKLOADS: &str = "Workloads";
const ALLOCATORS: &str = "Allocators";
const MEASURING: &str = "Measuring";
const JOURNAL: &str = "Report and journal";

/// Run the bundled workloads against allocators and write a report
///
/// Recorded traces, generated ones, kernels with threads, and real programs. Each finished sample is
/// kept in a journal in the folder of the report, from which --resume continues after an
/// interruption, a kill or a power failure. What was measured is not measured again, but for the block
/// that was cut short. On another machine a new run begins, whose ratios are its own.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mymalloc suite --list
  mymalloc suite --quick
  mymalloc suite --kind program --subjects system,jemalloc-debian
  mymalloc suite --name 'threads-*,systemui' --budget 2m
  mymalloc suite --name 'threads-*,systemui' --budget 2m --resume
  mymalloc suite --shard 2/4 --out shard-2
  mymalloc report shard-*/results.json        (when all shards are done)

Filters are joined by \"and\", the words of one filter by \"or\". A shard is every
n-th of the chosen workloads in the order of their names, whatever the machine;
a workload is never divided, since ratios hold on one machine only.")]
pub(super) struct Arguments {
    /// Only workloads of these names; * and ? stand for any letters
    #[arg(long, help_heading = WORKLOADS, value_name = "GLOB,...", value_delimiter = ',')]
    name: Vec<String>,

    /// Only workloads with one of these tags; * and ? as well
    #[arg(long, help_heading = WORKLOADS, value_name = "TAG,...", value_delimiter = ',')]
    tag: Vec<String>,

    /// Only workloads of these kinds
    #[arg(long, help_heading = WORKLOADS, value_name = "KIND,...", value_delimiter = ',')]
    kind: Vec<KindArgument>,

    /// Show the chosen workloads, and what is missing for them, and measure nothing
    #[arg(long, help_heading = WORKLOADS)]
    list: bool,

    /// Only this part of the chosen workloads, of so many: 2/4
    #[arg(long, help_heading = WORKLOADS, value_name = "I/N")]
    shard: Option<Shard>,

    /// Folder of definitions [default: the bundled ones]
    #[arg(long, help_heading = WORKLOADS, value_name = "DIR")]
    definitions: Option<PathBuf>,

    /// Allocators to compare, by name, or all [default: mymalloc,pagelist,system,mimalloc,jemalloc,null,bump; if there
    /// are real programs among the workloads, the preloadable ones that are installed too]
    #[arg(long, help_heading = ALLOCATORS, value_name = "NAME,...", value_delimiter = ',')]
    subjects: Option<Vec<String>>,

    /// One more allocator: a shared object, preloaded. May be given several times
    #[arg(long, help_heading = ALLOCATORS, value_name = "NAME=PATH.so")]
    subject: Vec<String>,

    /// More allocators, in the form of workloads/subjects.toml: with settings, and how to learn the
    /// version. An entry takes the place of a known one of its name
    #[arg(long, help_heading = ALLOCATORS, value_name = "FILE")]
    subjects_file: Option<PathBuf>,

    /// The subject that ratios refer to [default: system]
    #[arg(long, help_heading = ALLOCATORS, value_name = "NAME")]
    baseline: Option<String>,

    /// A first look in under three minutes: workloads with the tag "quick" unless others are chosen,
    /// few blocks, short limits
    #[arg(long, help_heading = MEASURING)]
    quick: bool,

    /// Exactly so many blocks for each workload, whatever they show
    #[arg(long, help_heading = MEASURING, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    #[arg(conflicts_with_all = ["precision", "budget"])]
    blocks: Option<u32>,

    /// Enough blocks when every ratio's 95 % interval is within this of it, e.g. 1% or 0.01, and no
    /// difference that they show is unsettled [default: 1.5%]
    #[arg(long, help_heading = MEASURING, value_name = "SHARE", value_parser = parse_share)]
    precision: Option<f64>,

    /// Stop adding blocks to a workload after this time, e.g. 90s, 20m, 1h30m. It holds for each
    /// workload, is looked at after each block, and the fewest blocks that allow a verdict are always
    /// run: it can be overrun [default: 60s; --quick: 7s]
    #[arg(long, help_heading = MEASURING, value_name = "TIME", value_parser = parse_time)]
    budget: Option<Duration>,

    /// Blocks of the latency pass, in which every call is timed by itself; 0 for none
    /// [default: 3; --quick: 1]
    #[arg(long, help_heading = MEASURING, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000))]
    latency_blocks: Option<u32>,

    /// What to write into new blocks
    #[arg(long, help_heading = MEASURING, value_enum, default_value_t = TouchArgument::Page)]
    touch: TouchArgument,

    /// In which order the operations of several threads are replayed [default: threads]
    #[arg(long, help_heading = MEASURING, value_enum)]
    order: Option<OrderArgument>,

    /// Kill a sample after this many seconds [default: 60; --quick: 3]
    #[arg(long, help_heading = MEASURING, value_name = "SECONDS", value_parser = parse_seconds)]
    timeout: Option<Duration>,

    /// Kill a sample when it and all it started have this much resident, as in 512M or 2G (of 1024)
    /// [default: half of the memory available]
    #[arg(long, help_heading = MEASURING, value_name = "SIZE", value_parser = parse_memory_limit)]
    memory_limit: Option<u64>,

    /// Exit code 1 unless every allocator did every workload: none wrong, refused, crashed or killed
    #[arg(long, help_heading = MEASURING)]
    require_all: bool,

    /// Seed of every random choice
    #[arg(long, help_heading = MEASURING, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Folder for the report and the journal
    #[arg(long, help_heading = JOURNAL, value_name = "DIR", default_value = "reports/suite")]
    out: PathBuf,

    /// Continue an interrupted suite. All options that bear on what is measured must be the same
    #[arg(long, help_heading = JOURNAL, conflicts_with = "fresh")]
    resume: bool,

    /// Throw away what an interrupted suite has left
    #[arg(long, help_heading = JOURNAL)]
    fresh: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KindArgument {
    /// Recorded traces
    Trace,
    /// Generated patterns
    Synthetic,
    /// Generated from the profile of a fleet
    Fleet,
    /// Generated by models that were fitted to recordings
    Model,
    /// Kernels with threads
    Threads,
    /// Real programs
    Program,
}

impl KindArgument {
    fn is(self, kind: Kind) -> bool {
        let own = match self {
            Self::Trace => Kind::Trace,
            Self::Synthetic => Kind::Synthetic,
            Self::Fleet => Kind::Fleet,
            Self::Model => Kind::Model,
            Self::Threads => Kind::Threads,
            Self::Program => Kind::Program,
        };
        own == kind
    }
}

/// A part of the workloads: `number` of `count`, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shard {
    number: usize,
    count: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parts = text
            .split_once('/')
            .and_then(|(number, count)| Some((number.parse().ok()?, count.parse().ok()?)));
        match parts {
            Some((number, count)) if (1..=count).contains(&number) => Ok(Self { number, count }),
            _ => Err("expected I/N with I from 1 to N, such as 2/4".to_owned()),
        }
    }
}

impl Shard {
    /// Its part of a list: every `count`-th.
    fn of<T>(self, all: Vec<T>) -> Vec<T> {
        all.into_iter()
            .skip(self.number - 1)
            .step_by(self.count)
            .collect()
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let chosen = choose(arguments)?;
    // Which allocators and how many blocks hang on all workloads, so that the shards agree.
    let experiment = experiment(arguments, &chosen);
    let definitions = part(arguments, chosen)?;
    if arguments.list {
        return print(&list(&definitions));
    }
    if let Some(warning) = unoptimised_warning() {
        complain(&format!("WARNING: {warning}"));
    }
    let experiment = experiment?;
    let _claim = output_folder::claim(&arguments.out)?;
    interrupt::install();
    let start = match (arguments.resume, arguments.fresh) {
        (true, _) => Start::Resume,
        (_, true) => Start::Fresh,
        _ => Start::New,
    };
    let shard = arguments
        .shard
        .map(|shard| format!("{}/{}", shard.number, shard.count));
    let path = arguments.out.join("journal.jsonl");
    let bar = progress_bar();
    let done = suite::run(
        &experiment,
        &definitions,
        shard,
        (&path, start),
        &mut |progress| show(&bar, progress),
    );
    bar.finish_and_clear();
    let (results, journal) = match done {
        Err(Error::Interrupted) if path.exists() => {
            return Err(Error::Stopped(format!(
                "interrupted; what was measured is in {}: continue with --resume",
                path.display()
            )));
        }
        other => other?,
    };
    report::write_results(&results, &arguments.out.join("results.json"))?;
    journal.remove()?;
    publish(&results, &arguments.out)?;
    match arguments.require_all {
        true => require_all(&results),
        false => Ok(()),
    }
}

/// The chosen workloads, by name.
fn choose(arguments: &Arguments) -> Result<Vec<Definition>> {
    let folder = match &arguments.definitions {
        Some(folder) if folder.is_dir() => folder.clone(),
        Some(folder) => {
            return Err(Error::usage(format!(
                "{}: no such folder",
                folder.display()
            )));
        }
        None => definition::bundled_folder().ok_or_else(|| {
            Error::usage(
                "there is no workloads/definitions here or above; run it in a checkout, or name \
                 the folder with --definitions DIR",
            )
        })?,
    };
    let all = definition::load_all(&folder)?;
    let quick = arguments.quick
        && arguments.name.is_empty()
        && arguments.tag.is_empty()
        && arguments.kind.is_empty();
    let tags = if quick {
        vec!["quick".to_owned()]
    } else {
        arguments.tag.clone()
    };
    for pattern in &arguments.name {
        require(pattern, "--name", all.iter().map(|one| &one.name))?;
    }
    for pattern in &arguments.tag {
        require(pattern, "--tag", all.iter().flat_map(|one| &one.tags))?;
    }
    let fits = |patterns: &[String], words: &[&str]| {
        let mut patterns = patterns.iter().map(|pattern| WildMatch::new(pattern));
        patterns.len() == 0 || patterns.any(|one| words.iter().any(|word| one.matches(word)))
    };
    let chosen: Vec<Definition> = all
        .into_iter()
        .filter(|one| fits(&arguments.name, &[&one.name]))
        .filter(|one| {
            fits(
                &tags,
                &one.tags.iter().map(String::as_str).collect::<Vec<_>>(),
            )
        })
        .filter(|one| {
            arguments.kind.is_empty() || arguments.kind.iter().any(|kind| kind.is(one.kind))
        })
        .collect();
    if chosen.is_empty() {
        return Err(Error::usage(
            "no workload fits all filters; see them all with `mymalloc suite --list`",
        ));
    }
    Ok(chosen)
}

/// Those of them that this shard is to measure.
fn part(arguments: &Arguments, chosen: Vec<Definition>) -> Result<Vec<Definition>> {
    let Some(shard) = arguments.shard else {
        return Ok(chosen);
    };
    let count = chosen.len();
    let part = shard.of(chosen);
    if part.is_empty() {
        return Err(Error::usage(format!(
            "--shard {}/{}: only {count} workloads are chosen, so this part has none",
            shard.number, shard.count
        )));
    }
    Ok(part)
}

/// A pattern that fits nothing is a mistake.
fn require<'a>(pattern: &str, option: &str, words: impl Iterator<Item = &'a String>) -> Result<()> {
    let matcher = WildMatch::new(pattern);
    let mut words: Vec<&str> = words.map(String::as_str).collect();
    if words.iter().any(|word| matcher.matches(word)) {
        return Ok(());
    }
    words.sort_unstable();
    words.dedup();
    Err(Error::usage(format!(
        "{option} {pattern:?} fits none of: {}",
        words.join(", ")
    )))
}

/// Half the width of intervals when none is asked for, as a share.
const PRECISION: f64 = 0.015;
/// Blocks of each workload, at least as many as allow a verdict, and at most.
const BLOCKS_MIN: u32 = 20;
const BLOCKS_MAX: u32 = 1000;
const QUICK_BLOCKS_MIN: u32 = 8;
const QUICK_BLOCKS_MAX: u32 = 20;

/// What is to be done for all the chosen workloads.
fn experiment(arguments: &Arguments, definitions: &[Definition]) -> Result<Experiment> {
    let catalogue = Catalogue::load_with(arguments.subjects_file.as_deref())?;
    let baseline = arguments
        .baseline
        .clone()
        .unwrap_or_else(|| catalogue.default_baseline().to_owned());
    let mut subjects =
        catalogue.select(arguments.subjects.as_deref(), &arguments.subject, &baseline)?;
    tell_left_out(&catalogue, arguments.subjects.as_deref());
    let has_programs = definitions.iter().any(|one| one.kind == Kind::Program);
    if arguments.subjects.is_none() && has_programs {
        subjects.extend(installed(&catalogue, &subjects));
    }
    let quick = arguments.quick;
    let seconds =
        |quick_seconds, seconds| Duration::from_secs(if quick { quick_seconds } else { seconds });
    let programs = definitions.iter().filter(|one| one.kind == Kind::Program);
    let programs = programs.count();
    let replays = definitions.len() - programs;
    let comparisons = comparisons(&subjects, &baseline, replays, programs);
    let fewest = fewest_blocks(comparisons, ERROR_RATE);
    let speed = match arguments.blocks {
        Some(blocks) => Rule::fixed(blocks),
        None => Rule {
            blocks_min: fewest.max(if quick { QUICK_BLOCKS_MIN } else { BLOCKS_MIN }),
            blocks_max: if quick { QUICK_BLOCKS_MAX } else { BLOCKS_MAX },
            precision: Some(arguments.precision.unwrap_or(PRECISION)),
            budget: Some(arguments.budget.unwrap_or(seconds(7, 60))),
            comparisons,
        },
    };
    Ok(Experiment {
        subjects,
        baseline,
        blocks: Blocks {
            speed,
            memory: if quick { 1 } else { 3 },
            latency: arguments
                .latency_blocks
                .unwrap_or(if quick { 1 } else { 3 }),
        },
        passes_per_sample: if quick { 2 } else { 3 },
        touch: arguments.touch.into(),
        order: arguments.order.map(Into::into),
        timeout: arguments.timeout.unwrap_or(seconds(3, 60)),
        memory_limit_bytes: arguments.memory_limit.or_else(default_memory_limit_bytes),
        settle: !quick,
        seed: arguments.seed,
        command: command_line(),
    })
}

/// Known shared objects that are there and not chosen yet: real programs can be run under these only.
/// As they come: an allocator under other settings is a row for who asks for it by name.
pub(super) fn installed(catalogue: &Catalogue, chosen: &[Subject]) -> Vec<Subject> {
    let usable = |subject: &&Subject| match &subject.access {
        Access::Preloaded(path) => object_file::check_allocator(path).is_ok(),
        _ => false,
    };
    let is_new = |subject: &&Subject| !chosen.iter().any(|one| one.name == subject.name);
    let known = catalogue.subjects().iter();
    let as_it_comes = |subject: &&Subject| subject.environment.is_empty();
    let fitting = known.filter(is_new).filter(as_it_comes).filter(usable);
    fitting.cloned().collect()
}

/// One line per workload: name, kind, what it is, and what keeps it from running here.
fn list(definitions: &[Definition]) -> String {
    let width = definitions
        .iter()
        .map(|one| one.name.len())
        .max()
        .unwrap_or(0);
    let line = |one: &Definition| {
        let missing = RealProgram::of(one)
            .ok()
            .and_then(|program| program.missing());
        let missing = missing.map_or(String::new(), |why| format!("\n{:width$}  ! {why}", ""));
        let (name, kind) = (&one.name, one.kind.name());
        format!(
            "{name:width$}  {kind:9}  {}{missing}\n",
            one.tags.join(", ")
        )
    };
    definitions.iter().map(line).collect()
}

fn publish(results: &Results, directory: &Path) -> Result<()> {
    let paths = report::write(results, directory)?;
    print(&report::table::render(results, 80))?;
    print(&format!("\nReport: {}\n", paths.index.display()))?;
    if results.summary.iter().all(|row| row.status != Status::Ok) {
        return Err(Error::Failed(
            "no subject completed any workload; see the report".to_owned(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_divide_the_workloads() {
        let all: Vec<u32> = (0..10).collect();
        let mut together: Vec<u32> = (1..=4)
            .flat_map(|number| Shard { number, count: 4 }.of(all.clone()))
            .collect();
        together.sort_unstable();
        assert_eq!(together, all);
        assert_eq!(
            "2/4".parse(),
            Ok(Shard {
                number: 2,
                count: 4
            })
        );
        for text in ["0/4", "5/4", "1/0", "1", "a/b", "-1/4", ""] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
