//! `replay`: traces in, report out.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::amounts::{parse_memory_limit, parse_seconds, parse_share, parse_time};
use super::effort::comparisons;
use super::output_folder;
use super::subjects::{require_all, tell_left_out};
use super::terminal::{complain, folded, print, progress_bar, show};
use crate::error::{Error, Result};
use crate::measure::environment::default_memory_limit_bytes;
use crate::measure::noise;
use crate::measure::pairs::Heap;
use crate::measure::results::{Order, Results, Status, StopReason, Touch};
use crate::measure::warnings::unoptimised_warning;
use crate::plan::{Blocks, Rule};
use crate::report;
use crate::run::experiment::{Experiment, NamedTrace};
use crate::run::interrupt;
use crate::statistics::signed_rank::{ERROR_RATE, fewest_blocks};
use crate::subject::Subject;
use crate::subject::catalogue::Catalogue;
use crate::trace::{self, ReadOptions, Trace};
use crate::workload::definition::{self, Definition};
use crate::workload::source::Source;

/// Replay traces against allocators and write a report
///
/// The format of a trace is found from its content: logalloc text (raw or munged), Android
/// memory_replay, CMU .rep, heaptrack, mtrace, valgrind --trace-malloc, ltrace, bcc memleak and more
/// (workloads/formats.md); plain, gzip, zstd or zip.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  replay trace.log
  replay --quick trace.log.zst
  replay --subjects system,mimalloc --precision 0.5% --budget 20m a.txt.gz b.rep
  replay --subject mine=./libmine.so --baseline jemalloc trace.log")]
pub(super) struct Arguments {
    /// Trace files, or definitions of workloads (.toml) that have a trace
    #[arg(value_name = "TRACE", required = true)]
    traces: Vec<PathBuf>,

    /// Allocators to compare, by name, or all [default: mymalloc,pagelist,system,mimalloc,jemalloc,null,bump]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    subjects: Option<Vec<String>>,

    /// One more allocator: a shared object, preloaded. May be given several times
    #[arg(long, value_name = "NAME=PATH.so")]
    subject: Vec<String>,

    /// More allocators, in the form of workloads/subjects.toml: with settings, and how to learn the
    /// version. An entry takes the place of a known one of its name
    #[arg(long, value_name = "FILE")]
    subjects_file: Option<PathBuf>,

    /// The subject that ratios refer to [default: system]
    #[arg(long, value_name = "NAME")]
    baseline: Option<String>,

    /// Add blocks until every ratio's 95 % interval is within this of it, e.g. 1% or 0.01, and no
    /// difference that they show is unsettled
    /// [default: 1.5%]
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    precision: Option<f64>,

    /// Stop adding blocks after this time, over all traces, e.g. 90s, 20m, 1h30m. It is looked at after
    /// each block, and the fewest blocks that allow a verdict are always run: it can be overrun
    /// [default: 2m]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    budget: Option<Duration>,

    /// Run so many blocks, whatever their intervals; in each, every subject runs once
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=100_000),
        conflicts_with_all = ["precision", "budget"],
    )]
    blocks: Option<u32>,

    /// As few blocks as a verdict needs, and a shorter time limit: a first look
    #[arg(long, conflicts_with_all = ["precision", "budget"])]
    quick: bool,

    /// Blocks of the latency pass, in which every call is timed by itself; 0 for none
    /// [default: 3; --quick: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000))]
    latency_blocks: Option<u32>,

    /// What to write into new blocks
    #[arg(long, value_enum, default_value_t = TouchArgument::Page)]
    touch: TouchArgument,

    /// How threads are replayed [default: threads if the trace has several, otherwise serial]
    #[arg(long, value_enum)]
    order: Option<OrderArgument>,

    /// Kill a sample after this many seconds [default: 30; --quick: 5]
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    timeout: Option<Duration>,

    /// Kill a sample when it and all it started have this much resident, as in 512M or 2G (of 1024)
    /// [default: half of the memory available]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory_limit)]
    memory_limit: Option<u64>,

    /// Exit code 1 unless every allocator did every trace: none wrong, refused, crashed or killed
    #[arg(long)]
    require_all: bool,

    /// Seed of every random choice
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Folder for the report [default: reports/<trace>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// What to print on standard output
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,

    /// Drop lines that cannot be understood, and say how many, instead of stopping at the first
    #[arg(long)]
    lenient: bool,

    /// Which process to replay, if a log holds several
    #[arg(long, value_name = "PID")]
    process: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TouchArgument {
    /// Nothing
    None,
    /// One byte in each OS page
    Page,
    /// One byte in each cache line, of blocks up to 4 KiB; in each OS page of larger ones
    Line,
    /// As the recorded program did, as far as the trace tells: small blocks by cache lines, of large
    /// ones as many pages as it touched; each block is read before it is freed
    Used,
    /// As used, and in the speed pass other memory between the calls, as a program that works
    Busy,
    /// Every byte
    All,
}

impl From<TouchArgument> for Touch {
    fn from(touch: TouchArgument) -> Self {
        match touch {
            TouchArgument::None => Self::None,
            TouchArgument::Page => Self::Page,
            TouchArgument::Line => Self::Line,
            TouchArgument::Used => Self::Used,
            TouchArgument::Busy => Self::Busy,
            TouchArgument::All => Self::All,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OrderArgument {
    /// On the recorded threads; they wait only where a block changes hands, and at start and end
    Threads,
    /// All on one thread, in recorded order
    Serial,
    /// On the recorded threads, one operation after the other in recorded order
    Strict,
    /// As threads, and no operation before its recorded time, if the trace has times
    Paced,
}

impl From<OrderArgument> for Order {
    fn from(order: OrderArgument) -> Self {
        match order {
            OrderArgument::Threads => Self::Threads,
            OrderArgument::Serial => Self::Serial,
            OrderArgument::Strict => Self::Strict,
            OrderArgument::Paced => Self::Paced,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table of at most 80 columns
    Table,
    /// The summary as JSON
    Json,
    /// The summary as comma-separated values
    Csv,
    /// The summary as a Markdown table
    Markdown,
}

/// Half the width of intervals when none is asked for, as a share.
const PRECISION: f64 = 0.015;
/// Time for all traces when none is asked for.
const BUDGET: Duration = Duration::from_secs(120);
/// Blocks that a run with a precision has at least: an interval of fewer hangs on single blocks.
const BLOCKS_MIN: u32 = 10;
/// Blocks that a run with a precision has at most.
const BLOCKS_MAX: u32 = 10_000;

/// How many blocks the arguments ask for.
fn rule(arguments: &Arguments, subjects: &[Subject], baseline: &str) -> Rule {
    let comparisons = comparisons(subjects, baseline, arguments.traces.len(), 0);
    let fewest = fewest_blocks(comparisons, ERROR_RATE);
    if let Some(blocks) = arguments.blocks {
        return Rule::fixed(blocks);
    }
    if arguments.quick {
        return Rule::fixed(fewest.max(8));
    }
    let traces = u32::try_from(arguments.traces.len()).unwrap_or(u32::MAX);
    Rule {
        blocks_min: fewest.max(BLOCKS_MIN),
        blocks_max: BLOCKS_MAX,
        precision: Some(arguments.precision.unwrap_or(PRECISION)),
        budget: Some(arguments.budget.unwrap_or(BUDGET) / traces),
        comparisons,
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    if let Some(warning) = unoptimised_warning() {
        complain(&format!("WARNING: {warning}"));
    }
    let experiment = experiment(arguments)?;
    let names = workload_names(&arguments.traces);
    let directory = arguments
        .out
        .clone()
        .unwrap_or_else(|| default_directory(&names));
    let created = missing_folders(&directory);
    let done = measure(arguments, &experiment, &names, &directory);
    if done.is_err() {
        // Only what is empty can be removed: a report that was written stays.
        for folder in created {
            let _ = std::fs::remove_dir(folder);
        }
    }
    done
}

fn measure(
    arguments: &Arguments,
    experiment: &Experiment,
    names: &[String],
    directory: &Path,
) -> Result<()> {
    let _claim = output_folder::claim(directory)?;
    interrupt::install();
    let traces = read_traces(arguments, names)?;
    let bar = progress_bar();
    let results = experiment.run(traces, &mut |progress| show(&bar, progress));
    bar.finish_and_clear();
    let results = results?;
    publish(&results, directory, arguments.format)?;
    match arguments.require_all {
        true => require_all(&results),
        false => Ok(()),
    }
}

/// The folder and those above it that do not exist, the innermost first.
fn missing_folders(directory: &Path) -> Vec<PathBuf> {
    directory
        .ancestors()
        .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists())
        .map(Path::to_owned)
        .collect()
}

fn experiment(arguments: &Arguments) -> Result<Experiment> {
    let catalogue = Catalogue::load_with(arguments.subjects_file.as_deref())?;
    let baseline = arguments
        .baseline
        .clone()
        .unwrap_or_else(|| catalogue.default_baseline().to_owned());
    let subjects =
        catalogue.select(arguments.subjects.as_deref(), &arguments.subject, &baseline)?;
    tell_left_out(&catalogue, arguments.subjects.as_deref());
    let (memory, latency, seconds) = match arguments.quick {
        true => (1, 1, 5),
        false => (3, 3, 30),
    };
    Ok(Experiment {
        blocks: Blocks {
            speed: rule(arguments, &subjects, &baseline),
            memory,
            latency: arguments.latency_blocks.unwrap_or(latency),
        },
        subjects,
        baseline,
        passes_per_sample: 3,
        touch: arguments.touch.into(),
        order: arguments.order.map(Into::into),
        timeout: arguments.timeout.unwrap_or(Duration::from_secs(seconds)),
        memory_limit_bytes: arguments.memory_limit.or_else(default_memory_limit_bytes),
        settle: !arguments.quick,
        seed: arguments.seed,
        command: command_line(),
    })
}

/// The command line as typed, with the program's name in place of its path.
pub(super) fn command_line() -> Vec<String> {
    std::env::args_os()
        .enumerate()
        .map(|(index, word)| match index {
            0 => Path::new(&word)
                .file_name()
                .unwrap_or(&word)
                .to_string_lossy()
                .into_owned(),
            _ => word.to_string_lossy().into_owned(),
        })
        .collect()
}

fn read_traces(arguments: &Arguments, names: &[String]) -> Result<Vec<NamedTrace>> {
    let options = ReadOptions {
        lenient: arguments.lenient,
        process: arguments.process,
        progress: true,
        interrupted: Some(interrupt::requested),
    };
    let mut traces = Vec::new();
    for (path, name) in arguments.traces.iter().zip(names) {
        let (trace, definition) = read(path, name, &options)?;
        let dropped = trace.origin().dropped_lines;
        if dropped > 0 {
            complain(&format!(
                "warning: {}: {dropped} lines dropped",
                path.display()
            ));
        }
        traces.push(NamedTrace {
            name: name.clone(),
            description: definition
                .as_ref()
                .map_or(String::new(), |known| known.description.clone()),
            bias: definition.map_or(String::new(), |known| known.bias),
            trace,
        });
        if interrupt::requested() {
            return Err(Error::Interrupted);
        }
    }
    Ok(traces)
}

/// Reads a trace, or generates that of a definition.
fn read(path: &Path, name: &str, options: &ReadOptions) -> Result<(Trace, Option<Definition>)> {
    if path.extension().is_some_and(|ending| ending == "toml") {
        let definition = definition::load(path)?;
        let trace = Source::of(&definition)?.trace(name)?;
        return Ok((trace, Some(definition)));
    }
    let definition = definition::find_for_trace(path);
    Ok((trace::read(path, options)?, definition))
}

/// Endings of compressed files, and those of traces under them.
const ENDINGS: [&[&str]; 2] = [
    &["gz", "zst", "zip"],
    &["log", "txt", "rep", "trace", "toml"],
];

/// The file's name without the endings that compression and format give it.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut stem: &str = &name;
    for endings in ENDINGS {
        if let Some((before, ending)) = stem.rsplit_once('.')
            && endings.contains(&ending)
        {
            stem = before;
        }
    }
    let stem = stem.trim_matches('.');
    if stem.is_empty() {
        "trace".to_owned()
    } else {
        stem.to_owned()
    }
}

/// The traces' names, made unique by a number.
fn workload_names(paths: &[PathBuf]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for path in paths {
        let stem = stem(path);
        let taken = |name: &String| names.contains(name);
        let name = if taken(&stem) {
            (2..)
                .map(|number| format!("{stem}-{number}"))
                .find(|name| !taken(name))
        } else {
            Some(stem)
        };
        names.push(name.expect("some number is free"));
    }
    names
}

fn default_directory(names: &[String]) -> PathBuf {
    let mut joined = names.join("+");
    if joined.len() > 80 {
        joined = format!("{}-and-{}-more", names[0], names.len() - 1);
    }
    Path::new("reports").join(joined)
}

fn publish(results: &Results, directory: &Path, format: Format) -> Result<()> {
    report::write_results(results, &directory.join("results.json"))?;
    let paths = report::write(results, directory)?;
    match format {
        Format::Table => {
            // Ends with the warnings.
            print(&report::table::render(results, 80))?;
            print(&endings(results))?;
            print(&format!("\nReport: {}\n", paths.index.display()))?;
        }
        other => {
            print(&match other {
                Format::Json => json(results),
                Format::Csv => report::table::csv(results),
                _ => report::table::markdown(results),
            })?;
            for warning in &results.warnings {
                complain(&folded(&format!("warning: {warning}")));
            }
            complain(&format!("Report: {}", paths.index.display()));
        }
    }
    if results.summary.iter().all(|row| row.status != Status::Ok) {
        return Err(Error::Failed(
            "no subject completed; see the report".to_owned(),
        ));
    }
    Ok(())
}

/// What ended the measuring of each workload, and its noise floor.
fn endings(results: &Results) -> String {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let floors = noise::floors(&results.summary, results.settings.baseline_twin.as_deref());
    let mut text = String::from("\n");
    for stop in results.runs.iter().flat_map(|run| &run.stops) {
        let reason = match stop.reason {
            StopReason::Precision => "every ratio is known as well as asked for",
            StopReason::Budget => "the time budget is used",
            StopReason::Blocks => "as many as asked for",
            StopReason::NothingToCompare => "there is nothing to compare",
        };
        text += &format!("{}: {} blocks: {reason}", stop.workload, stop.blocks);
        if let Some(width) = stop.widest_half_width {
            text += &format!(" (±{} at worst)", percent(width));
        }
        let on = |heap: Heap| floors.get(&(stop.workload.clone(), heap)).copied();
        if let Some(fresh) = on(Heap::Fresh) {
            text += &format!(
                ".\n  Noise floor (the baseline against itself): {}",
                percent(fresh)
            );
        }
        if let Some(used) = on(Heap::Used) {
            text += &format!(", on a used heap {}", percent(used));
        }
        text += ".\n";
    }
    text
}

/// The summary rows alone; results.json holds everything.
fn json(results: &Results) -> String {
    let mut text = serde_json::to_string_pretty(&results.summary)
        .expect("numbers, text and options are always JSON");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_are_named_after_their_files() {
        let paths = [
            "a/x.log.zst",
            "b/x.txt",
            "y",
            "..",
            ".hidden.log",
            "app.before.log",
        ];
        assert_eq!(
            workload_names(&paths.map(PathBuf::from)),
            ["x", "x-2", "y", "trace", "hidden", "app.before"]
        );
        assert_eq!(default_directory(&["x".to_owned()]), Path::new("reports/x"));
    }
}
