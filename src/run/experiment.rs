//! A whole comparison: traces and subjects in, [`Results`] out.

use std::time::{Duration, Instant};

use super::execute::{Conditions, Prepared, execute};
use super::session::Session;
use crate::error::Result;
use crate::measure::environment::Environment;
use crate::measure::results::{Results, SCHEMA_VERSION, Settings, Tool, Touch, WorkloadRecord};
use crate::measure::summary::{Frame, summarise};
use crate::measure::warnings;
use crate::plan::{Blocks, Cell, PlannedSubject, plan};
use crate::replay::program::Program;
use crate::subject::{Subject, libc_version};
use crate::trace::Trace;
use crate::trace::profile::Profile;

/// Resamples of every bootstrap: the interval's ends then repeat to within a tenth of its width.
pub const BOOTSTRAP_RESAMPLES: u32 = 2000;

/// A trace under a name.
#[derive(Clone, Debug)]
pub struct NamedTrace {
    /// Short name, unique in the experiment.
    pub name: String,
    /// What it is, or empty.
    pub description: String,
    /// Known bias, or empty.
    pub bias: String,
    /// The trace.
    pub trace: Trace,
}

/// What is to be compared, and how.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// The subjects, the baseline among them.
    pub subjects: Vec<Subject>,
    /// Name of the baseline.
    pub baseline: String,
    /// How often.
    pub blocks: Blocks,
    /// Replays inside one speed sample.
    pub passes_per_sample: u32,
    /// What is written into new blocks.
    pub touch: Touch,
    /// Time limit of one child.
    pub timeout: Duration,
    /// Seed of every random choice.
    pub seed: u64,
    /// The command line, to be repeated from the report.
    pub command: Vec<String>,
}

impl Experiment {
    /// Replays every trace against every subject. `progress` is told of each sample before it is
    /// taken: how many are done, of how many, the workload's and the subject's name.
    pub fn run(
        &self,
        traces: Vec<NamedTrace>,
        progress: &mut dyn FnMut(usize, usize, &str, &str),
    ) -> Result<Results> {
        let (start, started) = (Instant::now(), jiff::Timestamp::now());
        let mut environment = Environment::capture(libc_version(), page_size_bytes());
        let session = Session::new()?;
        let mut prepared = Vec::new();
        let mut workloads = Vec::new();
        for named in traces {
            prepared.push(prepare(&session, &named)?);
            workloads.push(record(named));
        }
        let cells = plan(prepared.len(), &self.planned(), self.blocks, self.seed);
        let conditions = Conditions {
            touch: self.touch,
            passes: self.passes_per_sample,
            timeout: self.timeout,
            seed: self.seed,
        };
        let mut tell = |done: usize, all: usize, cell: &Cell| {
            progress(
                done,
                all,
                &prepared[cell.workload].name,
                &self.subjects[cell.subject].name,
            );
        };
        let samples = execute(
            &session,
            &cells,
            &prepared,
            &self.subjects,
            &conditions,
            &mut tell,
        )?;
        environment.finish();
        let names: Vec<String> = self
            .subjects
            .iter()
            .map(|subject| subject.name.clone())
            .collect();
        let operations: Vec<(String, u64)> = prepared
            .iter()
            .map(|workload| (workload.name.clone(), workload.operations))
            .collect();
        let harness = self.subjects.iter().find(|subject| subject.is_null());
        let summary = summarise(
            &samples,
            &Frame {
                workloads: &operations,
                subjects: &names,
                baseline: &self.baseline,
                harness: harness.map(|subject| subject.name.as_str()),
                resamples: BOOTSTRAP_RESAMPLES,
                seed: self.seed,
            },
        );
        let mut results = Results {
            schema_version: SCHEMA_VERSION,
            tool: tool(),
            started: started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            elapsed_ns: u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
            command: self.command.clone(),
            settings: self.settings(),
            environment,
            workloads,
            subjects: self.subjects.iter().map(Subject::record).collect(),
            samples,
            summary,
            warnings: Vec::new(),
        };
        results.warnings = warnings::of(&results);
        Ok(results)
    }

    fn planned(&self) -> Vec<PlannedSubject> {
        self.subjects
            .iter()
            .map(|subject| PlannedSubject {
                kind: subject.kind(),
                is_null: subject.is_null(),
            })
            .collect()
    }

    fn settings(&self) -> Settings {
        Settings {
            speed_blocks: self.blocks.speed,
            memory_blocks: self.blocks.memory,
            passes_per_sample: self.passes_per_sample,
            touch: self.touch,
            order: "serial".to_owned(),
            timeout_seconds: self.timeout.as_secs_f64(),
            baseline: self.baseline.clone(),
            seed: self.seed,
            bootstrap_resamples: BOOTSTRAP_RESAMPLES,
        }
    }
}

fn prepare(session: &Session, named: &NamedTrace) -> Result<Prepared> {
    let program = Program::compile(&named.trace)?;
    let operations = program.operations();
    Ok(Prepared {
        name: named.name.clone(),
        work: session.save(program)?,
        operations,
    })
}

fn record(named: NamedTrace) -> WorkloadRecord {
    WorkloadRecord {
        profile: Profile::of(&named.trace),
        origin: named.trace.origin().clone(),
        name: named.name,
        description: named.description,
        bias: named.bias,
    }
}

/// This program, as results files name it.
pub fn tool() -> Tool {
    Tool {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        opt_level: env!("MYMALLOC_OPT_LEVEL").to_owned(),
        rustc: env!("MYMALLOC_RUSTC").to_owned(),
    }
}

/// Bytes of an OS page.
pub fn page_size_bytes() -> u64 {
    // SAFETY: takes and returns numbers.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}
