//! Real programs and the replays of their traces, measured under the same subjects in one run.
//!
//! Before them comes a program that does nothing but start processes: what it costs to load and set up
//! each allocator, which a program pays once for each process and a replay outside its time.

use std::path::{Path, PathBuf};

use super::execute::{Conditions, Replays};
use super::experiment::{self, Experiment, NamedTrace, Ready, Tell, prepare};
use super::programs::Limits;
use super::scratch::Scratch;
use super::session::Session;
use super::suite;
use crate::error::{Error, Result};
use crate::measure::fidelity::{Link, StartUp};
use crate::measure::results::{Results, Touch};
use crate::plan::{Blocks, Rule};
use crate::trace::{self, ReadOptions};
use crate::workload::definition::{self, Definition};

/// Traces of a program that are replayed at most: the longest.
const REPLAYS: usize = 6;
/// No more are replayed when they hold so much of the program's operations.
const ENOUGH: f64 = 0.98;

/// Blocks of a replay for each of its program.
const REPLAY_BLOCKS: u32 = 3;

/// Name of the program that starts processes.
const START_UP: &str = "start-up";
/// Processes that its shell starts.
const STARTS: usize = 40;
/// SHA-256 of no output.
const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A program and the traces of its processes.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The definition, of kind "program".
    pub definition: Definition,
    /// The traces.
    pub traces: Vec<PathBuf>,
}

/// A workload whose turn comes.
enum Turn<'a> {
    Program(&'a Definition),
    Replay {
        name: String,
        path: &'a PathBuf,
        touch: Touch,
    },
}

/// Measures the programs and the replays of their traces, with each of these touch policies. Each
/// recorded trace is a workload of its own. Returns the results, what belongs together, and which
/// workload tells the cost of starting processes.
///
/// # Errors
/// A trace cannot be read or holds nothing, the user interrupted, or the harness failed.
pub fn run(
    experiment: &Experiment,
    programs: &[Recorded],
    touches: &[Touch],
    options: &ReadOptions,
    progress: &mut Tell<'_>,
) -> Result<(Results, Vec<Link>, StartUp)> {
    let session = Session::new()?;
    let folder = Scratch::new()?;
    let starter = start_up(folder.path())?;
    let (mut turns, mut links) = (vec![Turn::Program(&starter)], Vec::new());
    for recorded in programs {
        let chosen = longest(recorded, options)?;
        turns.push(Turn::Program(&recorded.definition));
        for &touch in touches {
            let mut link = Link {
                program: recorded.definition.name.clone(),
                replays: Vec::new(),
                touch,
                operations: chosen.operations,
                processes: recorded.traces.len(),
                started: started(&recorded.traces),
            };
            for (number, path) in (1..).zip(&chosen.paths) {
                let name = format!("{}/{number}/{}", link.program, touch.name());
                link.replays.push(name.clone());
                turns.push(Turn::Replay { name, path, touch });
            }
            links.push(link);
        }
    }
    let ready = |turn: Turn<'_>| match turn {
        Turn::Program(definition) => suite::program(experiment, definition, &session),
        Turn::Replay { name, path, touch } => {
            let named = NamedTrace {
                description: format!(
                    "Replay of what a process of a real program asked for, touch {}",
                    touch.name()
                ),
                bias: String::new(),
                trace: trace::read(path, options)?,
                name,
            };
            let (prepared, threaded) =
                prepare(&session, &named.name, &named.trace, experiment.order)?;
            let conditions = Conditions {
                touch,
                ..experiment.conditions()
            };
            Ok(Ready {
                record: experiment::record(named, prepared.order, threaded),
                sampler: Box::new(Replays::new(&session, prepared, conditions)),
                blocks: Some(of_replays(experiment.blocks)),
            })
        }
    };
    let workloads = turns.into_iter().map(ready);
    let results = experiment.measure(&session, workloads, &mut (), progress)?;
    let start_up = StartUp {
        workload: START_UP.to_owned(),
        // The shell too.
        started: STARTS + 1,
    };
    Ok((results, links, start_up))
}

/// A replay is far shorter than its program, and its differences are as small against its noise: more
/// blocks of it cost little.
fn of_replays(blocks: Blocks) -> Blocks {
    let many = |count: u32| count.saturating_mul(REPLAY_BLOCKS);
    Blocks {
        speed: Rule {
            blocks_min: many(blocks.speed.blocks_min),
            blocks_max: many(blocks.speed.blocks_max),
            ..blocks.speed
        },
        ..blocks
    }
}

/// The definition of the program that starts processes, written where it can be run from.
fn start_up(folder: &Path) -> Result<Definition> {
    let script = folder.join("start-up.sh");
    let write = |path: &Path, text: String| {
        std::fs::write(path, text).map_err(|source| Error::io(path, "write", source))
    };
    write(
        &script,
        format!("i=0\nwhile [ $i -lt {STARTS} ]; do /bin/true; i=$((i+1)); done\n"),
    )?;
    let path = folder.join(format!("{START_UP}.toml"));
    write(
        &path,
        format!(
            "name = '{START_UP}'\nkind = 'program'\n\
             description = 'A shell starts {STARTS} processes that end at once.'\n\
             stands_for = 'What each process pays for its allocator before it does anything.'\n\
             origin = 'Made by mymalloc fidelity'\nlicence = 'MIT OR Apache-2.0'\n\
             bias = 'The processes are small: tearing down what a large one holds costs more.'\n\
             [program]\ncommand = ['sh', 'start-up.sh']\nfiles = ['start-up.sh']\n\
             setup = 'apt-get install -y coreutils'\n\
             expected_sha256 = '{NOTHING}'\n"
        ),
    )?;
    definition::load(&path)
}

/// Executables that were started, as the names of their traces tell: the recorder puts a number before
/// the ending (`NAME.PID.0.trace`) where a process became another program, and a forked one that stays
/// what it was has a trace too. At least one.
fn started(traces: &[PathBuf]) -> usize {
    let is_forerunner = |path: &&PathBuf| {
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let parts: Vec<&str> = stem.unwrap_or("").rsplitn(3, '.').collect();
        let is_number = |part: &&str| part.parse::<u32>().is_ok();
        parts.len() == 3 && parts[..2].iter().all(is_number)
    };
    let forerunners = traces.iter().filter(is_forerunner).count();
    (traces.len() - forerunners).max(1)
}

/// The traces of a program that are replayed.
struct Longest<'a> {
    paths: Vec<&'a PathBuf>,
    /// Operations of all its traces.
    operations: u64,
}

fn longest<'a>(recorded: &'a Recorded, options: &ReadOptions) -> Result<Longest<'a>> {
    let mut counted = Vec::new();
    for path in &recorded.traces {
        let operations = trace::read(path, options)?.counts().operations();
        counted.push((operations, path));
    }
    counted.sort_by_key(|(operations, path)| (std::cmp::Reverse(*operations), *path));
    let operations: u64 = counted.iter().map(|one| one.0).sum();
    if operations == 0 {
        return Err(Error::Failed(format!(
            "{}: its traces hold no operation",
            recorded.definition.name
        )));
    }
    let (mut held, mut paths) = (0, Vec::new());
    for (count, path) in counted {
        if paths.len() == REPLAYS || held as f64 >= ENOUGH * operations as f64 {
            break;
        }
        held += count;
        paths.push(path);
    }
    Ok(Longest { paths, operations })
}

/// The limits of a program's runs under an experiment.
pub fn limits(experiment: &Experiment) -> Limits {
    Limits {
        timeout: experiment.timeout,
        memory_limit_bytes: experiment.memory_limit_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::program::RealProgram;

    #[test]
    fn a_process_that_became_another_program_counts_once() {
        let traces = |names: &[&str]| -> Vec<PathBuf> { names.iter().map(PathBuf::from).collect() };
        let count = |names: &[&str]| started(&traces(names));
        assert_eq!(count(&["p.trace"]), 1);
        assert_eq!(
            count(&["p.trace", "p.7.0.trace", "p.7.trace", "p.8.trace"]),
            3
        );
        assert_eq!(count(&["p.7.0.trace"]), 1);
        assert_eq!(count(&["some.log"]), 1);
    }

    #[test]
    fn the_starting_program_is_one_that_can_be_run() {
        let folder = Scratch::new().expect("a folder");
        let definition = start_up(folder.path()).expect("sound");
        let program = RealProgram::of(&definition).expect("sound");
        assert_eq!(program.missing(), None);
    }
}
