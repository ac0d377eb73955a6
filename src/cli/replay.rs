//! `replay`: traces in, report out.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::terminal::{complain, print, progress_bar};
use crate::error::{Error, Result};
use crate::measure::results::{Results, Status, Touch};
use crate::measure::warnings::unoptimised_warning;
use crate::plan::Blocks;
use crate::report;
use crate::run::experiment::{Experiment, NamedTrace};
use crate::run::interrupt;
use crate::subject::catalogue::Catalogue;
use crate::trace::{self, ReadOptions};
use crate::workload::definition;

/// Replay traces against allocators and write a report
///
/// The format of a trace is found from its content: logalloc text (raw or munged), Android
/// memory_replay, CMU .rep; plain, gzip, zstd or zip.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  replay trace.log
  replay --quick trace.log.zst
  replay --subjects system,mimalloc --blocks 80 a.txt.gz b.rep
  replay --subject mine=./libmine.so --baseline jemalloc trace.log")]
pub(super) struct Arguments {
    /// Trace files
    #[arg(value_name = "TRACE", required = true)]
    traces: Vec<PathBuf>,

    /// Allocators to compare, by name [default: pagelist,system,mimalloc,jemalloc,null,bump]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    subjects: Option<Vec<String>>,

    /// One more allocator: a shared object, preloaded. May be given several times
    #[arg(long, value_name = "NAME=PATH.so")]
    subject: Vec<String>,

    /// The subject that ratios refer to [default: system]
    #[arg(long, value_name = "NAME")]
    baseline: Option<String>,

    /// Blocks of the speed pass; in each, every subject runs once [default: 20; --quick: 6]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    blocks: Option<u32>,

    /// Fewer blocks and a shorter time limit: a first look
    #[arg(long)]
    quick: bool,

    /// What to write into new blocks
    #[arg(long, value_enum, default_value_t = TouchArgument::Page)]
    touch: TouchArgument,

    /// Kill a sample after this many seconds [default: 30; --quick: 5]
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    timeout: Option<Duration>,

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
enum TouchArgument {
    /// Nothing
    None,
    /// One byte in each OS page
    Page,
    /// Every byte
    All,
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

fn parse_seconds(text: &str) -> std::result::Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    if !(0.001..=1e6).contains(&seconds) {
        return Err("must be between 0.001 and 1000000 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
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
    report::prepare_directory(directory)?;
    interrupt::install();
    let traces = read_traces(arguments, names)?;
    let bar = progress_bar();
    let results = experiment.run(traces, &mut |done, all, workload, subject| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        bar.set_message(format!("{subject} on {workload}"));
    });
    bar.finish_and_clear();
    publish(&results?, directory, arguments.format)
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
    let catalogue = Catalogue::load()?;
    let baseline = arguments
        .baseline
        .clone()
        .unwrap_or_else(|| catalogue.default_baseline().to_owned());
    let subjects =
        catalogue.select(arguments.subjects.as_deref(), &arguments.subject, &baseline)?;
    let (blocks, memory, seconds) = if arguments.quick {
        (6, 1, 5)
    } else {
        (20, 3, 30)
    };
    Ok(Experiment {
        subjects,
        baseline,
        blocks: Blocks {
            speed: arguments.blocks.unwrap_or(blocks),
            memory,
        },
        passes_per_sample: 3,
        touch: match arguments.touch {
            TouchArgument::None => Touch::None,
            TouchArgument::Page => Touch::Page,
            TouchArgument::All => Touch::All,
        },
        timeout: arguments.timeout.unwrap_or(Duration::from_secs(seconds)),
        seed: arguments.seed,
        command: command_line(),
    })
}

/// The command line as typed, with the program's name in place of its path.
fn command_line() -> Vec<String> {
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
        let trace = trace::read(path, &options)?;
        let dropped = trace.origin().dropped_lines;
        if dropped > 0 {
            complain(&format!(
                "warning: {}: {dropped} lines dropped",
                path.display()
            ));
        }
        let definition = definition::find_for_trace(path);
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

/// Endings of compressed files, and those of traces under them.
const ENDINGS: [&[&str]; 2] = [&["gz", "zst", "zip"], &["log", "txt", "rep", "trace"]];

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
            print(&format!("\nReport: {}\n", paths.index.display()))?;
        }
        other => {
            print(&match other {
                Format::Json => json(results),
                Format::Csv => report::table::csv(results),
                _ => report::table::markdown(results),
            })?;
            for warning in &results.warnings {
                complain(&format!("warning: {warning}"));
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

    #[test]
    fn seconds_are_positive_numbers() {
        assert_eq!(parse_seconds("1.5"), Ok(Duration::from_millis(1500)));
        for text in ["0", "-1", "nan", "inf", "ten", ""] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
    }
}
