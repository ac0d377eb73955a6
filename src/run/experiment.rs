//! A whole comparison: traces and subjects in, [`Results`] out.

use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::engine::{Engine, Keeper, Moment, Sampler};
use super::execute::{Conditions, Prepared, Replays, elapsed_ns};
use super::receipt::OWN_FILE;
use super::session::Session;
use crate::error::Result;
use crate::measure::disturbance::Watch;
use crate::measure::environment::Environment;
use crate::measure::results::{
    Order, Results, Run, SCHEMA_VERSION, Settings, SubjectRecord, ThreadedRecord, Tool, Touch,
    WorkloadKind, WorkloadRecord,
};
use crate::measure::{summary, warnings};
use crate::plan::Blocks;
use crate::replay::program::Program;
use crate::replay::threaded::ThreadedProgram;
use crate::subject::{Subject, libc_version, object_file};
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
    /// Name of the baseline. It is timed a second time under another name: the ratio of the two is
    /// the noise floor.
    pub baseline: String,
    /// How often.
    pub blocks: Blocks,
    /// Replays inside one speed sample.
    pub passes_per_sample: u32,
    /// What is written into new blocks.
    pub touch: Touch,
    /// In which order the operations of several threads are replayed; `None`: [`Order::Threads`]
    /// for traces of several threads, otherwise [`Order::Serial`].
    pub order: Option<Order>,
    /// Time limit of one child.
    pub timeout: Duration,
    /// Memory limit of one child and all it starts; `None` for none.
    pub memory_limit_bytes: Option<u64>,
    /// Whether each memory sample waits a second to see what is retained then.
    pub settle: bool,
    /// Seed of every random choice.
    pub seed: u64,
    /// The command line, to be repeated from the report.
    pub command: Vec<String>,
}

/// A workload whose turn has come.
pub struct Ready<'a> {
    /// What results say of it.
    pub record: WorkloadRecord,
    /// Takes its samples.
    pub sampler: Box<dyn Sampler + 'a>,
    /// How many blocks, if not as many as the experiment says.
    pub blocks: Option<Blocks>,
}

/// Where a run stands, before a sample.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Workload, subject, pass and block of the sample.
    pub moment: Moment<'a>,
    /// Number of the workload, from 0.
    pub number: usize,
    /// How many workloads there are.
    pub workloads: usize,
    /// Estimate of the share of the run that is done, from 0 to 1.
    pub done: f64,
    /// Estimate of the time left; `None` before there is anything to go by.
    pub left: Option<Duration>,
}

/// What is told of each sample before it is taken.
pub type Tell<'a> = dyn FnMut(&Progress<'_>) + 'a;

impl Experiment {
    /// Replays every trace against every subject.
    pub fn run(&self, traces: Vec<NamedTrace>, progress: &mut Tell<'_>) -> Result<Results> {
        let session = Session::new()?;
        let ready = |named: NamedTrace| {
            let (prepared, threaded) = prepare(&session, &named.name, &named.trace, self.order)?;
            Ok(Ready {
                record: record(named, prepared.order, threaded),
                sampler: Box::new(Replays::new(&session, prepared, self.conditions())),
                blocks: None,
            })
        };
        self.measure(&session, traces.into_iter().map(ready), &mut (), progress)
    }

    /// Measures workload after workload. Each is made ready when its turn comes, and dropped after.
    pub fn measure<'a>(
        &self,
        session: &Session,
        workloads: impl ExactSizeIterator<Item = Result<Ready<'a>>>,
        keeper: &mut dyn Keeper,
        progress: &mut Tell<'_>,
    ) -> Result<Results> {
        let (start, started) = (Instant::now(), jiff::Timestamp::now());
        let mut environment = Environment::capture(libc_version(), page_size_bytes());
        let watch = Watch::start();
        let (subjects, twin) = self.with_twin();
        let engine = Engine {
            subjects: &subjects,
            baseline: &self.baseline,
            twin: twin.as_deref(),
            blocks: self.blocks,
            seed: self.seed,
            resamples: BOOTSTRAP_RESAMPLES,
        };
        let count = workloads.len();
        let (mut records, mut samples, mut stops) = (Vec::new(), Vec::new(), Vec::new());
        let mut before = Duration::ZERO;
        for (number, ready) in workloads.enumerate() {
            let mut ready = ready?;
            let mut spent = Duration::ZERO;
            let mut tell = |moment: &Moment<'_>| {
                spent = moment.spent;
                progress(&estimate(moment, before, number, count));
            };
            let engine = Engine {
                blocks: ready.blocks.unwrap_or(engine.blocks),
                ..engine
            };
            let measured = engine.measure(&mut *ready.sampler, keeper, &mut tell)?;
            before += spent;
            records.push(ready.record);
            let run = measured.samples.last().map_or(keeper.run(), |one| one.run);
            samples.extend(measured.samples);
            stops.push((run, measured.stop));
        }
        environment.finish(&watch);
        let mut runs = keeper.runs(Run {
            tool: tool(),
            started: started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            resumed: Vec::new(),
            elapsed_ns: elapsed_ns(start),
            command: self.command.clone(),
            environment,
            stops: Vec::new(),
        });
        for (run, stop) in stops {
            // In the run in which it ended.
            runs[run as usize].stops.push(stop);
        }
        let mut results = Results {
            schema_version: SCHEMA_VERSION,
            settings: self.settings(engine.twin),
            runs,
            workloads: records,
            subjects: self.records(session, &subjects),
            samples,
            summary: Vec::new(),
            warnings: Vec::new(),
        };
        results.summary = summary::of(&results);
        results.warnings = warnings::of(&results);
        Ok(results)
    }

    /// What is the same for all samples that are replays.
    pub fn conditions(&self) -> Conditions {
        Conditions {
            touch: self.touch,
            passes: self.passes_per_sample,
            timeout: self.timeout,
            memory_limit_bytes: self.memory_limit_bytes,
            settle: self.settle,
        }
    }

    /// The settings and subjects as results will name them.
    pub fn described(&self, session: &Session) -> (Settings, Vec<SubjectRecord>) {
        let (subjects, twin) = self.with_twin();
        (
            self.settings(twin.as_deref()),
            self.records(session, &subjects),
        )
    }

    /// The subjects with the baseline once more at the end, and its name there.
    fn with_twin(&self) -> (Vec<Subject>, Option<String>) {
        let mut subjects = self.subjects.clone();
        let baseline = subjects.iter().find(|one| one.name == self.baseline);
        let twin = baseline.cloned().map(|mut twin| {
            let taken = |name: &str| subjects.iter().any(|one| one.name == name);
            while taken(&twin.name) {
                twin.name += "-again";
            }
            twin
        });
        let name = twin.as_ref().map(|twin| twin.name.clone());
        subjects.extend(twin);
        (subjects, name)
    }

    fn records(&self, session: &Session, subjects: &[Subject]) -> Vec<SubjectRecord> {
        let record = |subject: &Subject| {
            let twin = !self.subjects.iter().any(|one| one.name == subject.name);
            SubjectRecord {
                twin_of: twin.then(|| self.baseline.clone()),
                ..session.record(subject)
            }
        };
        subjects.iter().map(record).collect()
    }

    fn settings(&self, twin: Option<&str>) -> Settings {
        let rule = &self.blocks.speed;
        Settings {
            speed_blocks_min: rule.blocks_min,
            speed_blocks_max: rule.blocks_max,
            memory_blocks: self.blocks.memory,
            latency_blocks: self.blocks.latency,
            precision: rule.precision,
            budget_seconds: rule.budget.map(|budget| budget.as_secs_f64()),
            passes_per_sample: self.passes_per_sample,
            touch: self.touch,
            order: self.order,
            timeout_seconds: self.timeout.as_secs_f64(),
            memory_limit_bytes: self.memory_limit_bytes,
            baseline: self.baseline.clone(),
            baseline_twin: twin.map(str::to_owned),
            seed: self.seed,
            bootstrap_resamples: BOOTSTRAP_RESAMPLES,
        }
    }
}

/// The moment in a workload as one in the whole run: workloads to come are taken to be like those so
/// far. `before` is the time of the workloads that are done.
fn estimate<'a>(
    moment: &Moment<'a>,
    before: Duration,
    number: usize,
    workloads: usize,
) -> Progress<'a> {
    let left = moment.left.map(|left| {
        let each = (before + moment.spent + left).div_f64(number as f64 + 1.0);
        left + each.mul_f64((workloads - number - 1) as f64)
    });
    let spent = (before + moment.spent).as_secs_f64();
    Progress {
        moment: *moment,
        number,
        workloads,
        done: match left {
            Some(left) => spent / (spent + left.as_secs_f64()).max(f64::MIN_POSITIVE),
            None => number as f64 / workloads as f64,
        },
        left,
    }
}

/// Compiles a trace for the order asked for, or the one that fits it.
pub(super) fn prepare(
    session: &Session,
    name: &str,
    trace: &Trace,
    order: Option<Order>,
) -> Result<(Prepared, Option<ThreadedRecord>)> {
    let order = order.unwrap_or(match trace.thread_count() {
        0 | 1 => Order::Serial,
        _ => Order::Threads,
    });
    let (work, threaded) = match order {
        Order::Serial => (session.save(Program::compile(trace)?)?, None),
        Order::Threads | Order::Strict | Order::Paced => {
            let program = ThreadedProgram::compile(trace, order)?;
            let threaded = program.record();
            (session.save_threaded(program)?, Some(threaded))
        }
    };
    let prepared = Prepared {
        name: name.to_owned(),
        work,
        order,
        operations: trace.counts().operations(),
    };
    Ok((prepared, threaded))
}

pub(super) fn record(
    named: NamedTrace,
    order: Order,
    threaded: Option<ThreadedRecord>,
) -> WorkloadRecord {
    WorkloadRecord {
        kind: WorkloadKind::Trace,
        tags: Vec::new(),
        profile: Some(Profile::of(&named.trace)),
        origin: Some(named.trace.origin().clone()),
        order: Some(order),
        threaded,
        program: None,
        name: named.name,
        description: named.description,
        bias: named.bias,
    }
}

/// This program, as results files name it.
pub fn tool() -> Tool {
    static BUILD: OnceLock<Option<String>> = OnceLock::new();
    let own_build = || object_file::build(Path::new(OWN_FILE));
    Tool {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        opt_level: env!("MYMALLOC_OPT_LEVEL").to_owned(),
        rustc: env!("MYMALLOC_RUSTC").to_owned(),
        build: BUILD.get_or_init(own_build).clone(),
    }
}

/// Bytes of an OS page.
pub fn page_size_bytes() -> u64 {
    // SAFETY: takes and returns numbers.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}
