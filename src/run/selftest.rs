//! Does the measuring tell differences that are there, and none where there is none?
//!
//! - *same*: the C library's malloc under several names; nothing may be called faster or slower.
//! - *five*, *two*: the C library's malloc against itself made 5 % or 2 % slower
//!   ([`crate::subject::slowed`]); it must be called slower, and the interval must hold the true ratio.
//!
//! ## The true ratio
//! The workload repeats one round of `malloc`, `free` and a single `realloc`; the slowed subject runs a
//! busy loop before each `realloc`, and differs in nothing else. Instructions of a round are counted one
//! by one ([`super::steps`]), for the C library and for the slowed subject; the true ratio is the
//! quotient of the two counts. Both are taken as differences of a longer and a shorter replay, which
//! removes what is not a round, and blocks stay so few that each is served from the same list of free
//! blocks every time: rounds are alike to the instruction, and the count has no error worth naming.
//!
//! Instructions are not time. So that a share of the instructions is the same share of the time, the
//! busy loop must take as long per instruction as the round does. It is mixed from a fast and a slow
//! loop of equally many instructions; the mix follows from times of both, taken turn by turn with
//! samples of the C library, whose own time it shall be the share of. The medians of
//! [`CALIBRATION_TURNS`] turns know that time to some 2 %, and so the ratio of times equals that of
//! instructions to some 2 % of the difference: 0.001 at 5 %, 0.0004 at 2 %, a fraction of the intervals.
//! A round is a hundred thousand cycles long: leaving a busy loop costs some hundred, which with rounds
//! of a quarter of that showed as 0.004 on each ratio.

mod counting;
mod rounds;
mod verdict;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use self::counting::instructions_per_round;
use self::rounds::trace;
use self::verdict::called;
pub use self::verdict::{Called, Case};

use super::execute::{Prepared, Replays};
use super::experiment::{Experiment, Progress, Ready};
use super::request::Request;
use super::session::Session;
use crate::error::{Error, Result};
use crate::measure::results::{Order, Pass, Touch, WorkloadKind, WorkloadRecord};
use crate::plan::Blocks;
use crate::replay::program::Program;
use crate::statistics::median;
use crate::subject::functions::Functions;
use crate::subject::linked::Linked;
use crate::subject::slowed::{self, INSTRUCTIONS_PER_ITERATION, Iterations};
use crate::subject::version::VersionSource;
use crate::subject::{Access, Subject};
use crate::trace::Trace;

/// Samples of the C library, each with times of both loops, from which the mix follows.
pub const CALIBRATION_TURNS: usize = 25;
/// Rounds of the workload that is measured: tens of milliseconds.
const ROUNDS: usize = 400;
/// The mix of the loops is right if its time is the wanted share to this share of it.
const MIX_ERROR: f64 = 0.02;
/// Instructions around the two busy loops: two calls, two tests, two loads of the iterations.
const CALL_INSTRUCTIONS_MAX: u64 = 40;
/// Replays inside one sample.
const PASSES: u32 = 3;
/// Name of the workload, and of the subject that is the C library's malloc.
const WORKLOAD: &str = "selftest";
const BASELINE: &str = "system";

/// Names of the C library's malloc beside the baseline, where nothing differs.
const COPIES: [&str; 3] = ["system-b", "system-c", "system-d"];

/// A workload and a busy loop that fit one another and this machine.
pub struct Selftest {
    session: Session,
    prepared: Prepared,
    record: WorkloadRecord,
    /// Instructions of a round.
    instructions: u64,
    /// Time of one iteration of the fast and of the slow loop, as a share of a round.
    fast_share: f64,
    slow_share: f64,
}

impl Selftest {
    /// Prepares the workload, counts and calibrates. To be called while the process has one thread,
    /// as children have when they replay.
    pub fn new(progress: &mut dyn FnMut(usize)) -> Result<Self> {
        let system = Functions::resolved().map_err(|name| {
            Error::Failed(format!("the C library has no {}", name.to_string_lossy()))
        })?;
        let instructions = instructions_per_round(system)?;
        let session = Session::new()?;
        let trace = trace(ROUNDS);
        let program = Program::compile(&trace)?;
        let prepared = Prepared {
            name: WORKLOAD.to_owned(),
            operations: program.operations(),
            work: session.save(program)?,
            order: Order::Serial,
        };
        let mut selftest = Self {
            record: record(&trace),
            session,
            prepared,
            instructions,
            fast_share: 0.0,
            slow_share: 0.0,
        };
        selftest.calibrate(progress)?;
        Ok(selftest)
    }

    /// Instructions of a round with the C library's malloc.
    pub fn instructions(&self) -> u64 {
        self.instructions
    }

    /// Times both loops turn by turn with samples of the C library.
    fn calibrate(&mut self, progress: &mut dyn FnMut(usize)) -> Result<()> {
        const FAST: u64 = 4_000_000;
        const SLOW: u64 = 400_000;
        let system = subject(BASELINE, Access::System);
        let (mut fast, mut slow) = (Vec::new(), Vec::new());
        for turn in 0..CALIBRATION_TURNS {
            progress(turn);
            let outcome = self.session.take(&Request {
                work: self.prepared.work.clone(),
                subject: &system,
                pass: Pass::Speed,
                touch: Touch::Page,
                order: Order::Serial,
                passes: 1,
                timeout: TIMEOUT,
                memory_limit_bytes: None,
                settle: false,
                environment_bytes: 997 * turn % 8192,
            })?;
            let passes_ns = outcome
                .speed
                .map(|speed| speed.passes_ns)
                .unwrap_or_default();
            let [pass_ns] = passes_ns[..] else {
                let reason = outcome.reason.unwrap_or_default();
                return Err(Error::Failed(format!(
                    "the C library's malloc failed: {reason}"
                )));
            };
            let round_ns = pass_ns as f64 / ROUNDS as f64;
            fast.push(time_ns(|| slowed::fast_loop(FAST)) / FAST as f64 / round_ns);
            slow.push(time_ns(|| slowed::slow_loop(SLOW)) / SLOW as f64 / round_ns);
        }
        self.fast_share = median(&fast).unwrap_or(0.0);
        self.slow_share = median(&slow).unwrap_or(0.0);
        Ok(())
    }

    /// Iterations whose instructions, and whose time, are this share of a round's; none for no share.
    ///
    /// # Errors
    /// No mix of the two loops takes as long per instruction as the round does.
    pub fn iterations(&self, share: f64) -> Result<Iterations> {
        let all = share * self.instructions as f64 / INSTRUCTIONS_PER_ITERATION as f64;
        let slow = (share - all * self.fast_share) / (self.slow_share - self.fast_share);
        let slow = slow.clamp(0.0, all).round();
        let iterations = Iterations {
            fast: (all.round() - slow) as u64,
            slow: slow as u64,
        };
        let time_share = self.time_share(iterations);
        if (time_share - share).abs() > MIX_ERROR * share {
            return Err(Error::Failed(format!(
                "no mix of the busy loops takes as long per instruction as the workload: {:.4} of its \
                 time at {share:.4} of its instructions. Other work on the machine while the loops \
                 were timed may be why: run it again",
                time_share
            )));
        }
        Ok(iterations)
    }

    /// The time of these iterations as a share of a round's, by the calibration.
    pub fn time_share(&self, iterations: Iterations) -> f64 {
        iterations.fast as f64 * self.fast_share + iterations.slow as f64 * self.slow_share
    }

    /// The true ratio with so many iterations: counted.
    ///
    /// # Errors
    /// The slowed round differs from the other by more than the iterations and the call of them.
    pub fn truth(&self, iterations: Iterations) -> Result<f64> {
        let slowed = instructions_per_round(slowed::slowed(iterations))?;
        let busy = INSTRUCTIONS_PER_ITERATION * (iterations.fast + iterations.slow);
        let around = slowed.checked_sub(self.instructions + busy);
        if around.is_none_or(|around| around > CALL_INSTRUCTIONS_MAX) {
            return Err(Error::Failed(format!(
                "rounds differ: {} instructions, and {slowed} with {busy} more of a busy loop",
                self.instructions
            )));
        }
        Ok(slowed as f64 / self.instructions as f64)
    }

    /// One run. Runs with different numbers draw different orders and offsets.
    pub fn run(
        &self,
        case: Case,
        truth: f64,
        number: u32,
        progress: &mut dyn FnMut(&Progress<'_>),
    ) -> Result<Called> {
        let mut subjects = vec![subject(BASELINE, Access::System)];
        let others: Vec<Subject> = match case {
            Case::Same => COPIES.map(|name| subject(name, Access::System)).into(),
            Case::Five | Case::Two => vec![self.slower(self.iterations(case.share())?)],
        };
        let names: Vec<String> = others.iter().map(|other| other.name.clone()).collect();
        subjects.extend(others);
        let experiment = Experiment {
            subjects,
            baseline: BASELINE.to_owned(),
            blocks: Blocks {
                speed: case.rule(),
                memory: 0,
                latency: 0,
            },
            passes_per_sample: PASSES,
            touch: Touch::Page,
            order: Some(Order::Serial),
            timeout: TIMEOUT,
            memory_limit_bytes: None,
            settle: false,
            seed: u64::from(number) + 1,
            command: Vec::new(),
        };
        let ready = Ready {
            record: self.record.clone(),
            sampler: Box::new(Replays::new(
                &self.session,
                self.prepared.clone(),
                experiment.conditions(),
            )),
            blocks: None,
        };
        let workloads = [Ok(ready)];
        let results =
            experiment.measure(&self.session, workloads.into_iter(), &mut (), progress)?;
        called(&results, case, truth, &names)
    }

    fn slower(&self, iterations: Iterations) -> Subject {
        Subject {
            environment: BTreeMap::from([(slowed::VARIABLE.to_owned(), iterations.to_text())]),
            ..subject("slowed", Access::Linked(Linked::Slowed))
        }
    }
}

const TIMEOUT: Duration = Duration::from_secs(30);

fn subject(name: &str, access: Access) -> Subject {
    Subject {
        name: name.to_owned(),
        description: String::new(),
        access,
        environment: BTreeMap::new(),
        version: VersionSource::Probe,
    }
}

fn record(trace: &Trace) -> WorkloadRecord {
    WorkloadRecord {
        name: WORKLOAD.to_owned(),
        kind: WorkloadKind::Synthetic,
        tags: Vec::new(),
        description: String::new(),
        bias: String::new(),
        origin: Some(trace.origin().clone()),
        profile: None,
        order: Some(Order::Serial),
        threaded: None,
        program: None,
    }
}

fn time_ns(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64
}
