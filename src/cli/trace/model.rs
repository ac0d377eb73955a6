//! `trace model`: a model fitted to a trace, written as a workload definition.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::cli::replay::command_line;
use crate::cli::terminal::{complain, print, progress_bar, show};
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::measure::environment::default_memory_limit_bytes;
use crate::measure::results::{Results, Touch};
use crate::measure::warnings::unoptimised_warning;
use crate::plan::{Blocks, Rule};
use crate::report::fitted;
use crate::run::experiment::{Experiment, NamedTrace};
use crate::run::interrupt;
use crate::subject::catalogue::Catalogue;
use crate::trace::{self, ReadOptions, Trace};
use crate::workload::model::distance::Shape;
use crate::workload::model::{self, Parameters, Told};

/// Fit a generator to a trace and write it as a workload definition
///
/// The definition holds histograms of sizes, lifetimes and threads, phase by phase, in some tens of
/// KiB: no names, no addresses, no call sites, no times. It can be shared where the trace cannot, and
/// is replayed like any other workload: the same number of calls of each kind, drawn from a seed. Rare
/// sizes are rounded; frequent ones are exact.
///
/// Unless told otherwise, trace and model are then replayed under the same allocators, and the table
/// says how far the model's time and memory are from the trace's.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mymalloc trace model app.trace -o app-model.toml
  mymalloc trace model app.trace -o app-model.toml --subjects system,mimalloc --blocks 40
  mymalloc replay app-model.toml
  mymalloc suite --definitions . --kind model")]
pub(in crate::cli) struct Arguments {
    /// The trace to fit to
    #[arg(value_name = "TRACE")]
    trace: PathBuf,

    /// The definition to write; its name without .toml is the workload's
    #[arg(short, long, value_name = "DEFINITION.toml")]
    output: PathBuf,

    /// Seed that the definition gets
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Replay trace and model and say how far apart they are
    #[arg(
        long,
        value_name = "true|false",
        default_value_t = true,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = clap::ArgAction::Set,
    )]
    check: bool,

    /// Allocators to check with, by name [default: pagelist,system,mimalloc,jemalloc]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    subjects: Option<Vec<String>>,

    /// Blocks of the check; in each, every allocator replays both once
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    blocks: u32,

    /// Drop lines that cannot be understood, and say how many, instead of stopping at the first
    #[arg(long)]
    lenient: bool,

    /// Which process to take, if a log holds several
    #[arg(long, value_name = "PID")]
    process: Option<u64>,
}

/// Allocators that a check takes when none are named.
const SUBJECTS: [&str; 4] = ["pagelist", "system", "mimalloc", "jemalloc"];
/// Time limit of one sample of the check.
const TIMEOUT: Duration = Duration::from_secs(60);

pub(in crate::cli) fn run(arguments: &Arguments) -> Result<()> {
    let name = name(&arguments.output)?;
    let experiment = match arguments.check {
        true => Some(experiment(arguments)?),
        false => None,
    };
    interrupt::install();
    let options = ReadOptions {
        lenient: arguments.lenient,
        process: arguments.process,
        progress: true,
        interrupted: Some(interrupt::requested),
    };
    let trace = trace::read(&arguments.trace, &options)?;
    let dropped = trace.origin().dropped_lines;
    if dropped > 0 {
        let path = arguments.trace.display();
        complain(&format!("warning: {path}: {dropped} lines dropped"));
    }
    let parameters = model::fit(&trace)?;
    let generated = model::generate(&name, &parameters, arguments.seed)?;
    let shapes = [Shape::of(&trace), Shape::of(&generated)];
    let write = |results: Option<&Results>| {
        let told = told(
            &name,
            &trace,
            &parameters,
            fitted::bias(&shapes[0], &shapes[1], results),
        );
        let text = model::definition(&told, &parameters, arguments.seed);
        write_atomically(&arguments.output, text.as_bytes()).map(|()| text.len())
    };
    // Before the check: an interruption must not cost the model.
    let bytes = write(None)?;
    print(&format!(
        "{}: {} KiB, {} phases, {} cells\n\n{}",
        arguments.output.display(),
        bytes.div_ceil(1024),
        parameters.phases.len(),
        parameters.cell_count(),
        fitted::shapes(&shapes[0], &shapes[1], 80),
    ))?;
    let Some(experiment) = experiment else {
        return Ok(());
    };
    if let Some(warning) = unoptimised_warning() {
        complain(&format!("WARNING: {warning}"));
    }
    let results = check(&experiment, trace.clone(), generated)?;
    write(Some(&results))?;
    print(&format!("\n{}", fitted::render(&results, 80)))
}

/// The workload's name: that of the file.
fn name(output: &Path) -> Result<String> {
    let is_toml = output.extension().is_some_and(|ending| ending == "toml");
    let stem = output
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or("");
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if is_toml && !stem.is_empty() && stem.chars().all(legal) {
        return Ok(stem.to_owned());
    }
    Err(Error::usage(format!(
        "{}: the file names the workload: expected lower-case letters, digits, '-' and '_', and .toml",
        output.display()
    )))
}

fn experiment(arguments: &Arguments) -> Result<Experiment> {
    let catalogue = Catalogue::load()?;
    let baseline = catalogue.default_baseline().to_owned();
    let defaults = SUBJECTS.map(str::to_owned);
    let chosen = arguments.subjects.as_deref().unwrap_or(&defaults);
    Ok(Experiment {
        subjects: catalogue.select(Some(chosen), &[], &baseline)?,
        baseline,
        blocks: Blocks {
            speed: Rule::fixed(arguments.blocks),
            memory: 1,
            latency: 0,
        },
        passes_per_sample: 1,
        touch: Touch::Page,
        order: None,
        timeout: TIMEOUT,
        memory_limit_bytes: default_memory_limit_bytes(),
        settle: false,
        seed: arguments.seed,
        command: command_line(),
    })
}

/// Replays both under the same allocators.
fn check(experiment: &Experiment, trace: Trace, generated: Trace) -> Result<Results> {
    let named = |name: &str, trace: Trace| NamedTrace {
        name: name.to_owned(),
        description: String::new(),
        bias: String::new(),
        trace,
    };
    let both = vec![named(fitted::TRACE, trace), named(fitted::MODEL, generated)];
    let bar = progress_bar();
    let results = experiment.run(both, &mut |progress| show(&bar, progress));
    bar.finish_and_clear();
    results
}

fn told(name: &str, trace: &Trace, parameters: &Parameters, bias: String) -> Told {
    let counts = trace.counts();
    let threads = trace.thread_count();
    Told {
        name: name.to_owned(),
        description: format!(
            "A model of a recording of {} operations on {} threads: {} cells in {} phases.",
            counts.operations(),
            threads,
            parameters.cell_count(),
            parameters.phases.len()
        ),
        stands_for: "The program that was recorded, which is not named here.".to_owned(),
        origin: format!(
            "Fitted by {} {}",
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION")
        ),
        bias,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_names_the_workload() {
        assert_eq!(name(Path::new("a/app-1.toml")).expect("legal"), "app-1");
        for wrong in ["app", "App.toml", ".toml", "a b.toml", "app.json", "ä.toml"] {
            let error = name(Path::new(wrong)).expect_err(wrong);
            assert_eq!(error.exit_code(), 2, "{wrong}");
        }
    }
}
