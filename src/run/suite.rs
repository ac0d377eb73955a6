//! A suite: definitions and subjects in, [`Results`] out, through a journal.

use std::path::Path;

use super::engine::{Cell, Sampler};
use super::execute::{Conditions, Prepared, Replays};
use super::experiment::{Experiment, Ready, Tell, prepare, tool};
use super::journal::{Journal, Plan};
use super::programs::{self, Limits};
use super::request::Work;
use super::session::Session;
use crate::error::Result;
use crate::measure::environment::Environment;
use crate::measure::results::{Order, Pass, Results, Sample, Status, WorkloadKind, WorkloadRecord};
use crate::subject::Subject;
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
    let recalled_ns = journal.recalled_ns();
    let ready = |definition: &Definition| ready(experiment, definition, &session);
    let workloads = definitions.iter().map(ready);
    let mut results = experiment.measure(&session, workloads, &mut journal, progress)?;
    if let Some(run) = results.runs.first_mut() {
        run.started.clone_from(&journal.started);
        run.elapsed_ns = run.elapsed_ns.saturating_add(recalled_ns);
        run.environment.load_average_start = journal.environment.load_average_start;
    }
    if journal.resumptions > 0 {
        results.warnings.push(format!(
            "The suite was interrupted and resumed ({}): one block of a workload may have been \
             measured at two times.",
            match journal.resumptions {
                1 => "once".to_owned(),
                times => format!("{times} times"),
            }
        ));
    }
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
    let workload = |definition: &Definition| Ok((definition.name.clone(), digest(definition)?));
    let (mut settings, subjects) = experiment.described(session);
    // Its default is what the machine has free at the moment; it decides nothing that is measured.
    settings.memory_limit_bytes = None;
    Ok(Plan {
        tool: tool(),
        settings,
        shard,
        workloads: definitions.iter().map(workload).collect::<Result<_>>()?,
        subjects,
    })
}

/// Reads or generates what a definition says, and says how its samples are taken.
fn ready<'a>(
    experiment: &Experiment,
    definition: &Definition,
    session: &'a Session,
) -> Result<Ready<'a>> {
    if definition.kind == Kind::Program {
        return program(experiment, definition);
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
    })
}

fn program<'a>(experiment: &Experiment, definition: &Definition) -> Result<Ready<'a>> {
    let program = RealProgram::of(definition)?;
    let Conditions { timeout, .. } = experiment.conditions();
    Ok(Ready {
        record: WorkloadRecord {
            program: Some(programs::record(&program)?),
            ..described(definition)
        },
        sampler: Box::new(Programs {
            name: definition.name.clone(),
            program,
            limits: Limits {
                timeout,
                memory_limit_bytes: experiment.memory_limit_bytes,
            },
        }),
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

/// Takes the samples of a real program.
struct Programs {
    name: String,
    program: RealProgram,
    limits: Limits,
}

impl Sampler for Programs {
    fn workload(&self) -> &str {
        &self.name
    }

    fn timed_pass(&self) -> Pass {
        Pass::Program
    }

    fn has(&self, pass: Pass, subject: &Subject) -> bool {
        pass == Pass::Program && programs::can_run(subject)
    }

    fn take(&mut self, cell: &Cell<'_>) -> Result<Sample> {
        let outcome = programs::run(
            &self.program,
            cell.subject,
            &self.limits,
            cell.environment_bytes,
        )?;
        let mut sample = Sample::untaken(&self.name, &cell.subject.name, cell.pass, cell.block);
        sample.position = cell.position;
        sample.status = outcome.status;
        sample.reason = outcome.reason;
        sample.receipt = outcome.receipt;
        sample.program = outcome.program;
        if let Some(found) = outcome.found {
            sample.minor_faults = found.minor_faults;
            sample.major_faults = found.major_faults;
            sample.involuntary_switches = found.involuntary_switches;
            sample.voluntary_switches = found.voluntary_switches;
        }
        debug_assert!(sample.status == Status::Ok || sample.reason.is_some());
        Ok(sample)
    }
}
