//! Real programs and the replays of their traces, measured under the same subjects in one run.

use std::path::PathBuf;

use super::execute::{Conditions, Replays};
use super::experiment::{self, Experiment, NamedTrace, Ready, Tell, prepare};
use super::programs::Limits;
use super::session::Session;
use super::suite;
use crate::error::{Error, Result};
use crate::measure::fidelity::Link;
use crate::measure::results::{Results, Touch};
use crate::trace::{self, ReadOptions};
use crate::workload::definition::Definition;

/// Traces of a program that are replayed at most: the longest.
const REPLAYS: usize = 6;
/// No more are replayed when they hold so much of the program's operations.
const ENOUGH: f64 = 0.98;

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
/// recorded trace is a workload of its own. Returns the results, and what belongs together.
///
/// # Errors
/// A trace cannot be read or holds nothing, the user interrupted, or the harness failed.
pub fn run(
    experiment: &Experiment,
    programs: &[Recorded],
    touches: &[Touch],
    options: &ReadOptions,
    progress: &mut Tell<'_>,
) -> Result<(Results, Vec<Link>)> {
    let session = Session::new()?;
    let (mut turns, mut links) = (Vec::new(), Vec::new());
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
            })
        }
    };
    let workloads = turns.into_iter().map(ready);
    let results = experiment.measure(&session, workloads, &mut (), progress)?;
    Ok((results, links))
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
