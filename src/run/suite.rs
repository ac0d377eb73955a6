//! A suite: definitions and subjects in, [`Results`] out, through a journal.

use std::path::Path;

use super::execute::{Conditions, Prepared, Replays};
use super::experiment::{Experiment, Ready, Tell, prepare, tool};
use super::journal::{Journal, Plan, PlannedWorkload};
use super::programs::{self, Limits, Programs};
use super::request::Work;
use super::session::Session;
use crate::error::Result;
use crate::measure::environment::Environment;
use crate::measure::results::{Order, Results, WorkloadKind, WorkloadRecord};
use crate::trace::profile::Profile;
use crate::workload::definition::{Definition, Kind};
use crate::workload::digest::digest;
use crate::workload::program::RealProgram;
use crate::workload::source::Source;

/// What to do with a journal that is there, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Begin; a journal that is there is an error.
    New,
    /// Continue the journal.
    Resume,
    /// Throw a journal away that is there, and begin.
    Fresh,
}

/// Measures the workloads of these definitions. Every finished sample goes to the journal, which is
/// left to the caller to remove when the results are written.
///
/// # Errors
/// A definition or its data cannot be used, the journal does not fit, the user interrupted, or the
/// harness failed. What was measured until then is in the journal.
pub fn run(
    experiment: &Experiment,
    definitions: &[Definition],
    shard: Option<String>,
    journal: (&Path, Start),
    progress: &mut Tell<'_>,
) -> Result<(Results, Journal)> {
    let session = Session::new()?;
    let plan = plan(experiment, &session, definitions, shard)?;
    let mut journal = open(journal.0, journal.1, &plan)?;
    let ready = |definition: &Definition| ready(experiment, definition, &session);
    let workloads = definitions.iter().map(ready);
    let results = experiment.measure(&session, workloads, &mut journal, progress)?;
    Ok((results, journal))
}

fn open(path: &Path, start: Start, plan: &Plan) -> Result<Journal> {
    let environment = Environment::capture(
        crate::subject::libc_version(),
        super::experiment::page_size_bytes(),
    );
    match start {
        Start::Resume => Journal::resume(path, plan, &environment),
        Start::New => Journal::create(path, plan, &environment),
        Start::Fresh => {
            Journal::discard(path)?;
            Journal::create(path, plan, &environment)
        }
    }
}

fn plan(
    experiment: &Experiment,
    session: &Session,
    definitions: &[Definition],
    shard: Option<String>,
) -> Result<Plan> {
    let (mut settings, subjects) = experiment.described(session);
    // Its default is what the machine has free at the moment; it decides nothing that is measured.
    settings.memory_limit_bytes = None;
    let planned = |one: &Definition| Ok((one.name.clone(), planned(one)?));
    Ok(Plan {
        tool: tool(),
        settings,
        shard,
        workloads: definitions.iter().map(planned).collect::<Result<_>>()?,
        subjects,
    })
}

/// Checks all of a definition: a mistake in the last one must not show after hours.
fn planned(definition: &Definition) -> Result<PlannedWorkload> {
    let program = match definition.kind {
        Kind::Program => Some(programs::record(&RealProgram::of(definition)?)?),
        _ => {
            Source::of(definition)?;
            None
        }
    };
    Ok(PlannedWorkload {
        sha256: digest(definition)?,
        program,
    })
}

/// Reads or generates what a definition says, and says how its samples are taken.
fn ready<'a>(
    experiment: &Experiment,
    definition: &Definition,
    session: &'a Session,
) -> Result<Ready<'a>> {
    if definition.kind == Kind::Program {
        return program(experiment, definition, session);
    }
    let source = Source::of(definition)?;
    let trace = source.trace(&definition.name)?;
    let (prepared, threaded) = match source {
        Source::Threads(kernel) => {
            let prepared = Prepared {
                name: definition.name.clone(),
                work: Work::Kernel(kernel),
                order: Order::Serial,
                operations: kernel.operations(),
            };
            (prepared, None)
        }
        _ => prepare(session, &definition.name, &trace, experiment.order)?,
    };
    let record = WorkloadRecord {
        origin: Some(trace.origin().clone()),
        profile: Some(Profile::of(&trace)),
        order: (definition.kind != Kind::Threads).then_some(prepared.order),
        threaded,
        ..described(definition)
    };
    Ok(Ready {
        record,
        sampler: Box::new(Replays::new(session, prepared, experiment.conditions())),
        blocks: None,
    })
}

pub(super) fn program<'a>(
    experiment: &Experiment,
    definition: &Definition,
    session: &'a Session,
) -> Result<Ready<'a>> {
    let program = RealProgram::of(definition)?;
    let Conditions { timeout, .. } = experiment.conditions();
    Ok(Ready {
        record: WorkloadRecord {
            program: Some(programs::record(&program)?),
            ..described(definition)
        },
        sampler: Box::new(Programs::new(
            session,
            &definition.name,
            program,
            Limits {
                timeout,
                memory_limit_bytes: experiment.memory_limit_bytes,
            },
        )),
        blocks: None,
    })
}

/// What a definition says of itself.
fn described(definition: &Definition) -> WorkloadRecord {
    WorkloadRecord {
        name: definition.name.clone(),
        kind: match definition.kind {
            Kind::Trace => WorkloadKind::Trace,
            Kind::Synthetic => WorkloadKind::Synthetic,
            Kind::Fleet => WorkloadKind::Fleet,
            Kind::Model => WorkloadKind::Model,
            Kind::Threads => WorkloadKind::Threads,
            Kind::Program => WorkloadKind::Program,
        },
        tags: definition.tags.clone(),
        description: definition.description.clone(),
        bias: definition.bias.clone(),
        origin: None,
        profile: None,
        order: None,
        threaded: None,
        program: None,
    }
}
