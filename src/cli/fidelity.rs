//! `fidelity`: does replay predict reality?

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::amounts::{parse_memory_limit, parse_seconds};
use super::output_folder;
use super::replay::{TouchArgument, command_line};
use super::suite::installed;
use super::terminal::{complain, print, progress_bar, show};
use crate::error::{Error, Result};
use crate::measure::environment::default_memory_limit_bytes;
use crate::measure::fidelity;
use crate::measure::results::Touch;
use crate::measure::warnings::unoptimised_warning;
use crate::plan::{Blocks, Rule};
use crate::report;
use crate::run::experiment::Experiment;
use crate::run::fidelity::{Recorded, limits, run as measure};
use crate::run::interrupt;
use crate::run::programs::{can_run, recording};
use crate::subject::catalogue::Catalogue;
use crate::subject::{Access, Subject};
use crate::trace::ReadOptions;
use crate::workload::definition::{self, Definition, Kind};
use crate::workload::program::RealProgram;

/// Compare real programs with the replays of their traces
///
/// Each program is recorded, run under each allocator, and its trace replayed under the same ones. What
/// the replay predicts of the program's time and peak memory is held against what the program shows:
/// rank correlation, errors, a chart, and what explains the misses.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mymalloc fidelity
  mymalloc fidelity --programs program-python,program-sqlite --blocks 20
  mymalloc fidelity --traces recorded --touch used,busy,page
  mymalloc fidelity --programs program-perl --trace program-perl=perl.trace

Predicted CPU time: the program's under the baseline, plus the replay's under the allocator, less the
replay's under the baseline, plus what starting its processes costs more; peak RSS likewise.")]
pub(super) struct Arguments {
    /// Programs, by the names of their definitions [default: all that are installed]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    programs: Vec<String>,

    /// Folder of definitions [default: the bundled ones]
    #[arg(long, value_name = "DIR")]
    definitions: Option<PathBuf>,

    /// A trace of a program that was recorded before, in place of recording it. May be given several
    /// times, for its processes
    #[arg(long, value_name = "NAME=FILE")]
    trace: Vec<String>,

    /// Folder to keep recorded traces in, one folder for each program; what is there is not recorded
    /// again [default: they are not kept]
    #[arg(long, value_name = "DIR")]
    traces: Option<PathBuf>,

    /// Allocators, by name [default: system and the preloadable ones that are installed]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    subjects: Option<Vec<String>>,

    /// One more allocator: a shared object, preloaded. May be given several times
    #[arg(long, value_name = "NAME=PATH.so")]
    subject: Vec<String>,

    /// More allocators, in the form of workloads/subjects.toml
    #[arg(long, value_name = "FILE")]
    subjects_file: Option<PathBuf>,

    /// The subject that predictions start from [default: system]
    #[arg(long, value_name = "NAME")]
    baseline: Option<String>,

    /// Blocks: in each, every program and every replay runs once under every allocator
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    blocks: u32,

    /// Blocks of the memory pass
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    memory_blocks: u32,

    /// What replays do with their blocks; of several the errors of each are told
    #[arg(
        long,
        value_enum,
        value_name = "POLICY,...",
        value_delimiter = ',',
        default_value = "used"
    )]
    touch: Vec<TouchArgument>,

    /// Kill a sample after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds, default_value = "60")]
    timeout: Duration,

    /// Kill a sample when it and all it started have this much resident, as in 512M or 2G (of 1024)
    /// [default: half of the memory available]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory_limit)]
    memory_limit: Option<u64>,

    /// Seed of every random choice
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Folder for the report
    #[arg(long, value_name = "DIR", default_value = "reports/fidelity")]
    out: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let programs = programs(arguments)?;
    let experiment = experiment(arguments)?;
    let given = given(arguments, &programs)?;
    if let Some(warning) = unoptimised_warning() {
        complain(&format!("WARNING: {warning}"));
    }
    let _claim = output_folder::claim(&arguments.out)?;
    interrupt::install();
    let kept = match &arguments.traces {
        Some(folder) => Folder::Kept(folder.clone()),
        None => Folder::Temporary(
            tempfile::tempdir()
                .map_err(|source| Error::io(std::env::temp_dir(), "make a folder in", source))?,
        ),
    };
    let mut recorded = Vec::new();
    for (definition, traces) in programs.into_iter().zip(given) {
        let traces = match traces.is_empty() {
            false => Ok(traces),
            true => record(&experiment, &definition, kept.path()),
        };
        match traces {
            Ok(traces) => recorded.push(Recorded { definition, traces }),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            // The others are worth comparing all the same.
            Err(error) => complain(&format!("warning: {error}; it is left out")),
        }
    }
    if recorded.is_empty() {
        return Err(Error::Failed("no program could be recorded".to_owned()));
    }
    let mut touches: Vec<Touch> = Vec::new();
    for touch in arguments.touch.iter().map(|touch| Touch::from(*touch)) {
        if !touches.contains(&touch) {
            touches.push(touch);
        }
    }
    let options = ReadOptions {
        interrupted: Some(interrupt::requested),
        ..ReadOptions::default()
    };
    let bar = progress_bar();
    let measured = measure(
        &experiment,
        &recorded,
        &touches,
        &options,
        &mut |progress| {
            show(&bar, progress);
        },
    );
    bar.finish_and_clear();
    let (results, links, start_up) = measured?;
    report::write_results(&results, &arguments.out.join("results.json"))?;
    let compared = fidelity::of(&results, &links, Some(&start_up));
    let paths = report::fidelity::write(&compared, &results, &arguments.out)?;
    print(&report::fidelity::render(&compared, &results, 80))?;
    for warning in &results.warnings {
        complain(&format!("warning: {warning}"));
    }
    print(&format!("\nReport: {}\n", paths.index.display()))?;
    if compared
        .policies
        .iter()
        .all(|policy| policy.programs.is_empty())
    {
        return Err(Error::Failed(
            "no program finished with its replay; see the report".to_owned(),
        ));
    }
    Ok(())
}

/// Where traces go.
enum Folder {
    Kept(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }
}

/// The chosen programs that can be run here.
fn programs(arguments: &Arguments) -> Result<Vec<Definition>> {
    let folder = match &arguments.definitions {
        Some(folder) => folder.clone(),
        None => definition::bundled_folder().ok_or_else(|| {
            Error::usage(
                "there is no workloads/definitions here or above; run it in a checkout, or name \
                 the folder with --definitions DIR",
            )
        })?,
    };
    let mut all = definition::load_all(&folder)?;
    all.retain(|one| one.kind == Kind::Program);
    let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
    for name in &arguments.programs {
        if !names.contains(&name.as_str()) {
            return Err(Error::usage(format!(
                "--programs {name}: no such program; known: {}",
                names.join(", ")
            )));
        }
    }
    let mut chosen = Vec::new();
    for one in all {
        let is_chosen = arguments.programs.contains(&one.name);
        if !is_chosen && !arguments.programs.is_empty() {
            continue;
        }
        match RealProgram::of(&one)?.missing() {
            None => chosen.push(one),
            Some(reason) if is_chosen => {
                return Err(Error::Failed(format!("{}: {reason}", one.name)));
            }
            Some(reason) => complain(&format!("warning: {}: {reason}; it is left out", one.name)),
        }
    }
    if chosen.is_empty() {
        return Err(Error::usage(format!(
            "{}: no program that is installed here",
            folder.display()
        )));
    }
    Ok(chosen)
}

/// The traces that were given, program by program.
fn given(arguments: &Arguments, programs: &[Definition]) -> Result<Vec<Vec<PathBuf>>> {
    let mut given = vec![Vec::new(); programs.len()];
    for word in &arguments.trace {
        let (name, file) = word
            .split_once('=')
            .ok_or_else(|| Error::usage(format!("--trace {word}: expected NAME=FILE")))?;
        let place = programs.iter().position(|one| one.name == name);
        let place = place.ok_or_else(|| {
            Error::usage(format!("--trace {word}: {name} is not among the programs"))
        })?;
        let path = PathBuf::from(file);
        if !path.is_file() {
            return Err(Error::usage(format!("--trace {word}: no such file")));
        }
        given[place].push(path);
    }
    Ok(given)
}

/// Records a program, unless its traces are there.
fn record(experiment: &Experiment, definition: &Definition, kept: &Path) -> Result<Vec<PathBuf>> {
    let folder = kept.join(&definition.name);
    if folder.is_dir() {
        let traces = recording::traces_in(&folder)?;
        if !traces.is_empty() {
            return Ok(traces);
        }
    }
    complain(&format!("recording {}", definition.name));
    let baseline = experiment
        .subjects
        .iter()
        .find(|one| one.name == experiment.baseline);
    let baseline =
        baseline.ok_or_else(|| Error::usage("the baseline is not among the subjects"))?;
    let program = RealProgram::of(definition)?;
    recording::record(
        &definition.name,
        &program,
        baseline,
        &limits(experiment),
        &folder,
    )
}

fn experiment(arguments: &Arguments) -> Result<Experiment> {
    let catalogue = Catalogue::load_with(arguments.subjects_file.as_deref())?;
    let baseline = arguments
        .baseline
        .clone()
        .unwrap_or_else(|| catalogue.default_baseline().to_owned());
    let alone = [baseline.clone()];
    let chosen = arguments.subjects.as_deref().unwrap_or(&alone);
    let mut subjects = catalogue.select(Some(chosen), &arguments.subject, &baseline)?;
    if arguments.subjects.is_none() {
        subjects.extend(installed(&catalogue, &subjects));
    }
    if let Some(linked) = subjects.iter().find(|one| !can_run(one)) {
        return Err(Error::usage(format!(
            "{}: it is linked into this program and cannot serve another; choose preloadable ones, or \
             system",
            linked.name
        )));
    }
    let absent = |subject: &&Subject| match &subject.access {
        Access::Preloaded(path) => !path.is_file(),
        _ => false,
    };
    if let Some(absent) = subjects.iter().find(absent) {
        return Err(Error::usage(format!(
            "{}: it is not installed",
            absent.name
        )));
    }
    Ok(Experiment {
        subjects,
        baseline,
        blocks: Blocks {
            speed: Rule::fixed(arguments.blocks),
            memory: arguments.memory_blocks,
            latency: 0,
        },
        passes_per_sample: 1,
        touch: arguments
            .touch
            .first()
            .copied()
            .map_or(Touch::Used, Touch::from),
        order: None,
        timeout: arguments.timeout,
        memory_limit_bytes: arguments.memory_limit.or_else(default_memory_limit_bytes),
        settle: false,
        seed: arguments.seed,
        command: command_line(),
    })
}
