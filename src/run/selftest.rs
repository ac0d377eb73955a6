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

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::execute::{Prepared, Replays};
use super::experiment::{Experiment, Progress, Ready};
use super::request::Request;
use super::session::Session;
use super::steps;
use crate::error::{Error, Result};
use crate::measure::noise;
use crate::measure::pairs::Heap;
use crate::measure::results::{
    Estimate, Order, Pass, Results, Status, Touch, Verdict, WorkloadKind, WorkloadRecord,
};
use crate::plan::{Blocks, Rule};
use crate::replay::program::{Program, ProgramView};
use crate::replay::serial::Replayer;
use crate::replay::speed;
use crate::statistics::median;
use crate::statistics::signed_rank::{ERROR_RATE, fewest_blocks};
use crate::subject::functions::Functions;
use crate::subject::linked::Linked;
use crate::subject::slowed::{self, INSTRUCTIONS_PER_ITERATION, Iterations};
use crate::subject::version::VersionSource;
use crate::subject::{Access, Subject};
use crate::trace::builder::TraceBuilder;
use crate::trace::{Origin, ThreadIndex, Trace};
use crate::workload::random::Random;

/// Samples of the C library, each with times of both loops, from which the mix follows.
pub const CALIBRATION_TURNS: usize = 25;
/// Rounds of the workload that is measured: tens of milliseconds.
const ROUNDS: usize = 400;
/// Pairs of free and malloc in a round: so many that what a busy loop costs at its ends does not count.
const PAIRS_PER_ROUND: usize = 4096;
/// Live blocks.
const LIVE_BLOCKS: usize = 64;
/// Live blocks of one size class. With those that the end of a round puts back, 64 over 24 classes, they
/// are never more than the seven of a class that glibc keeps for a thread at hand.
const BLOCKS_PER_CLASS: usize = 4;
/// Size classes of glibc that are used: 16 bytes apart, the first of 24 bytes.
const CLASSES: usize = 24;
/// Bytes of the block that `realloc` leaves as it is: in a class of its own.
const KEPT_BYTES: u64 = 24 + 16 * CLASSES as u64;
/// The mix of the loops is right if its time is the wanted share to this share of it.
const MIX_ERROR: f64 = 0.02;
/// Instructions around the two busy loops: two calls, two tests, two loads of the iterations.
const CALL_INSTRUCTIONS_MAX: u64 = 40;
/// Replays before the one whose instructions are counted.
const SETTLING_PASSES: usize = 8;
/// Replays inside one sample.
const PASSES: u32 = 3;
/// Name of the workload, and of the subject that is the C library's malloc.
const WORKLOAD: &str = "selftest";
const BASELINE: &str = "system";

/// What is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// No difference, in quick runs.
    Same,
    /// 5 % slower, in default runs.
    Five,
    /// 2 % slower, known to ±0.5 %.
    Two,
}

impl Case {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Same, Self::Five, Self::Two];

    /// By how much the subject is slower, as a share.
    pub fn share(self) -> f64 {
        match self {
            Self::Same => 0.0,
            Self::Five => 0.05,
            Self::Two => 0.02,
        }
    }

    /// Of so many runs, in how many the verdict must be right.
    pub fn bar(self, runs: u32) -> u32 {
        match self {
            Self::Same => runs,
            // Nine of ten.
            Self::Five | Self::Two => runs - runs / 10,
        }
    }

    /// Of so many runs, in how many the interval must hold the true ratio. An interval of 95 % misses
    /// one time in twenty by its nature: the bar is what intervals that keep that promise reach in at
    /// least 98 of 100 self-tests.
    pub fn bar_for_intervals(self, runs: u32) -> u32 {
        match self {
            // Several intervals a run; what counts there is that no verdict follows from them.
            Self::Same => 0,
            Self::Five | Self::Two => binomial_bound(runs, 0.95, 0.02),
        }
    }

    fn rule(self) -> Rule {
        match self {
            Self::Same => Rule::fixed(fewest_blocks(2 * COPIES.len(), ERROR_RATE).max(8)),
            Self::Five => Rule {
                blocks_min: 10,
                blocks_max: 10_000,
                precision: Some(0.015),
                budget: Some(Duration::from_secs(120)),
                comparisons: 2,
            },
            Self::Two => Rule {
                precision: Some(0.005),
                budget: None,
                ..Self::Five.rule()
            },
        }
    }
}

/// Names of the C library's malloc beside the baseline, where nothing differs.
const COPIES: [&str; 3] = ["system-b", "system-c", "system-d"];

/// What one run called.
#[derive(Clone, Copy, Debug)]
pub struct Called {
    /// The verdict that is the furthest from the right one; on a fresh heap.
    pub verdict: Verdict,
    /// The ratio on a fresh heap; of the subject that differs most where nothing shall.
    pub ratio: Estimate,
    /// The true ratio.
    pub truth: f64,
    /// Blocks that were run.
    pub blocks: u32,
    /// The noise floor on a fresh heap.
    pub noise_floor: Option<f64>,
    /// Whether the verdicts are right.
    pub right: bool,
    /// Whether the interval holds the true ratio.
    pub holds: bool,
}

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

/// The most that so many trials reach with at least probability 1 − `error`, each a success with
/// probability `success`.
fn binomial_bound(trials: u32, success: f64, error: f64) -> u32 {
    // Summed from no success up; each term follows from the one before.
    let odds = success / (1.0 - success);
    let mut term = (1.0 - success).powi(trials.cast_signed());
    let mut below = 0.0;
    for successes in 0..trials {
        below += term;
        if below > error {
            return successes;
        }
        term *= odds * f64::from(trials - successes) / f64::from(successes + 1);
    }
    trials
}

/// What a run's results call the subjects.
fn called(results: &Results, case: Case, truth: f64, names: &[String]) -> Result<Called> {
    let wanted = match case {
        Case::Same => Verdict::NotDistinguishable,
        Case::Five | Case::Two => Verdict::Slower,
    };
    let mut worst: Option<Called> = None;
    let twin = results.settings.baseline_twin.as_deref();
    let floors = noise::floors(&results.summary, twin);
    for row in results
        .summary
        .iter()
        .filter(|row| names.contains(&row.subject))
    {
        let ratio = row.ratio_to_baseline.filter(|_| row.status == Status::Ok);
        let ratio = ratio.ok_or_else(|| {
            let reason = row.reason.as_deref().unwrap_or("it has no ratio");
            Error::Failed(format!("{} failed: {reason}", row.subject))
        })?;
        let holds = ratio.low <= truth && truth <= ratio.high;
        let right = match case {
            Case::Same => row.verdict == wanted && row.verdict_used_heap == wanted,
            Case::Five | Case::Two => row.verdict == wanted,
        };
        let one = Called {
            verdict: match case {
                Case::Same if row.verdict == wanted => row.verdict_used_heap,
                _ => row.verdict,
            },
            ratio,
            truth,
            blocks: row.blocks,
            noise_floor: floors.get(&(row.workload.clone(), Heap::Fresh)).copied(),
            right,
            holds,
        };
        let off = |called: &Called| noise::difference(called.ratio.median / truth);
        worst = match worst {
            Some(worst) if (worst.right, -off(&worst)) <= (right, -off(&one)) => Some(worst),
            _ => Some(one),
        };
    }
    worst.ok_or_else(|| Error::Failed("nothing was compared".to_owned()))
}

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

/// So many equal rounds: a realloc that changes nothing, then in random order blocks that are freed and others
/// allocated; the last pairs put the live blocks' sizes back to what they were at the start.
fn trace(rounds: usize) -> Trace {
    let mut builder = TraceBuilder::new(Origin::generated(WORKLOAD, Vec::new()));
    let thread = ThreadIndex(0);
    let bytes = |class: usize| 24 + 16 * class as u64;
    let start = |slot: usize| slot % CLASSES;
    let mut blocks: Vec<_> = (0..LIVE_BLOCKS)
        .map(|slot| builder.malloc(thread, bytes(start(slot))))
        .collect();
    let mut kept = builder.malloc(thread, KEPT_BYTES);
    for _ in 0..rounds {
        kept = builder.realloc(thread, Some(kept), KEPT_BYTES);
        // The same numbers in every round.
        let mut random = Random::new(1);
        let mut classes: Vec<usize> = (0..LIVE_BLOCKS).map(start).collect();
        let mut live = [0; CLASSES];
        classes.iter().for_each(|class| live[*class] += 1);
        for pair in 0..PAIRS_PER_ROUND {
            let left = PAIRS_PER_ROUND - pair;
            let (slot, class) = if left <= LIVE_BLOCKS {
                (LIVE_BLOCKS - left, start(LIVE_BLOCKS - left))
            } else {
                let class = random.index(CLASSES);
                let full = live[class] == BLOCKS_PER_CLASS;
                let slot = random.index(LIVE_BLOCKS);
                (slot, if full { classes[slot] } else { class })
            };
            live[classes[slot]] -= 1;
            live[class] += 1;
            classes[slot] = class;
            builder.free(thread, blocks[slot], false);
            blocks[slot] = builder.malloc(thread, bytes(class));
        }
    }
    blocks.push(kept);
    blocks
        .into_iter()
        .for_each(|block| builder.free(thread, block, false));
    builder.finish()
}

/// Counts the instructions of a round of the replay, as samples perform it, by difference.
fn instructions_per_round(functions: Functions) -> Result<u64> {
    let unable = || {
        Error::Failed(
            "instructions cannot be counted here: that is written for x86-64 only".to_owned(),
        )
    };
    let mut counts = Vec::new();
    for rounds in [1, 2] {
        let count = with_replayer(rounds, functions, |replayer| {
            let _held = hold_free_blocks();
            // Until every block lies where the rounds will find it again: after two or three passes.
            for _ in 0..SETTLING_PASSES {
                speed::timed_pass(replayer, Touch::Page).ok()?;
            }
            // No clock inside: reading it takes more instructions when it is being set meanwhile.
            let mut failed = false;
            let count = steps::count(|| {
                failed = speed::untimed_replay(replayer, Touch::Page).is_err();
            });
            let drained = replayer.drain(&mut speed::TouchNone).is_ok();
            count.filter(|_| !failed && drained)
        })?;
        counts.push(count.ok_or_else(unable)?);
    }
    Ok(counts[1] - counts[0])
}

/// Takes every free block of the round's sizes, and keeps them until it is dropped. What this process
/// freed before would else fill the thread's free lists, and a round that overflows them takes other
/// paths than its neighbours.
fn hold_free_blocks() -> Vec<Vec<u8>> {
    /// More than there ever are.
    const EACH: usize = 1024;
    // From the largest down: what is left over from splitting a larger block is taken later.
    let sizes = (0..=CLASSES).rev().map(|class| 24 + 16 * class);
    sizes
        .flat_map(|bytes| (0..EACH).map(move |_| Vec::with_capacity(bytes)))
        .collect()
}

/// Makes a replayer of so many rounds and lends it.
fn with_replayer<R>(
    rounds: usize,
    functions: Functions,
    work: impl FnOnce(&mut Replayer<'_>) -> R,
) -> Result<R> {
    let program = Program::compile(&trace(rounds))?;
    let folder = tempfile::tempdir()
        .map_err(|source| Error::io(std::env::temp_dir(), "make a folder in", source))?;
    let path = folder.path().join("program");
    program.save(&path)?;
    let bytes = std::fs::read(&path).map_err(|source| Error::io(&path, "read", source))?;
    // Views want the alignment that mapped files have.
    let mut aligned = vec![0_u64; bytes.len().div_ceil(8)];
    aligned
        .iter_mut()
        .zip(bytes.chunks(8))
        .for_each(|(word, chunk)| {
            let mut eight = [0; 8];
            eight[..chunk.len()].copy_from_slice(chunk);
            *word = u64::from_ne_bytes(eight);
        });
    // SAFETY: the words are initialised and at least as many bytes as the file.
    let bytes = unsafe { std::slice::from_raw_parts(aligned.as_ptr().cast(), bytes.len()) };
    let view = ProgramView::new(bytes)
        .ok_or_else(|| Error::Failed("the compiled trace is damaged".to_owned()))?;
    let mut table = vec![core::ptr::null_mut(); view.slots as usize];
    // SAFETY: the functions are the C library's, realloc slowed at most; the program was compiled from
    // a trace, whose builder lets each block be released once.
    let mut replayer = unsafe { Replayer::new(view, &mut table, functions) };
    Ok(work(&mut replayer))
}

fn time_ns(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::trace::Operation;
    use std::process::Command;

    /// Under callgrind, this test is the work: so many rounds, so slowed.
    const WORK: &str = "MYMALLOC_TEST_ROUNDS";
    /// Instead of a number of rounds: count them here.
    const STEPS: &str = "steps";
    const TEST: &str = "run::selftest::tests::counts_agree_with_callgrind";

    /// In a process of its own, as other tests' threads share this one's free blocks.
    fn rounds_by_steps(iterations: Iterations) -> u64 {
        let output = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", TEST, "--nocapture"])
            .env(WORK, STEPS)
            .env(slowed::VARIABLE, iterations.to_text())
            .output()
            .expect("this test starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let count = text.lines().find_map(|line| line.split_once(STEPS));
        let count = count.and_then(|(_, count)| count.trim().parse().ok());
        count.unwrap_or_else(|| panic!("the count is told: {output:?}"))
    }

    /// Callgrind counts between the start and the end of this function.
    #[inline(never)]
    #[unsafe(no_mangle)]
    extern "C" fn mymalloc_selftest_collected(replayer: &mut Replayer<'_>) {
        speed::untimed_replay(replayer, Touch::Page).expect("the C library's malloc works");
    }

    fn rounds_under_callgrind(rounds: usize, iterations: Iterations) -> u64 {
        let folder = tempfile::tempdir().expect("a folder");
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg("--toggle-collect=mymalloc_selftest_collected")
            .arg(std::env::current_exe().expect("this test"))
            .args(["--exact", TEST])
            .env(WORK, rounds.to_string())
            .env(slowed::VARIABLE, iterations.to_text())
            .current_dir(folder.path())
            .output()
            .expect("valgrind starts");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}");
        let collected = text.lines().find_map(|line| line.split_once("Collected :"));
        let count = collected.and_then(|(_, count)| count.trim().parse().ok());
        count.unwrap_or_else(|| panic!("callgrind tells what it collected: {text}"))
    }

    #[test]
    fn counts_agree_with_callgrind() {
        if let Ok(rounds) = std::env::var(WORK) {
            if rounds == STEPS {
                let count = instructions_per_round(slowed::functions()).expect("counted");
                println!("{STEPS} {count}");
                return;
            }
            let rounds = rounds.parse().expect("a number");
            with_replayer(rounds, slowed::functions(), |replayer| {
                let _held = hold_free_blocks();
                for _ in 0..SETTLING_PASSES {
                    speed::timed_pass(replayer, Touch::Page).expect("the C library's malloc works");
                }
                mymalloc_selftest_collected(replayer);
            })
            .expect("prepared");
            return;
        }
        if Command::new("valgrind").arg("--version").output().is_err() {
            eprintln!("skipped: there is no valgrind");
            return;
        }
        let per_round = |iterations| {
            let collected = [1, 2].map(|rounds| rounds_under_callgrind(rounds, iterations));
            collected[1] - collected[0]
        };
        let slower = Iterations {
            fast: 500,
            slow: 50,
        };
        let none = Iterations { fast: 0, slow: 0 };
        let by_callgrind = [none, slower].map(per_round);
        let by_steps = [none, slower].map(rounds_by_steps);
        assert_eq!(by_steps[1] - by_steps[0], by_callgrind[1] - by_callgrind[0]);
        // Valgrind offers another processor's functions for memset and the like.
        let quotient = by_steps[0] as f64 / by_callgrind[0] as f64;
        assert!(
            (quotient - 1.0).abs() < 0.01,
            "{by_steps:?}, callgrind {by_callgrind:?}"
        );
    }

    #[test]
    fn rounds_are_alike_and_never_overflow_the_lists() {
        let counts = |rounds| {
            let counts = *trace(rounds).counts();
            (counts.malloc, counts.free)
        };
        let (one, two, three) = (counts(1), counts(2), counts(3));
        assert_eq!(three.0 - two.0, two.0 - one.0);
        assert_eq!(three.1 - two.1, PAIRS_PER_ROUND as u64);
        // glibc keeps seven free blocks of a class for a thread: more were never live.
        let (mut sizes, mut live) = (BTreeMap::new(), BTreeMap::new());
        for event in trace(3).events() {
            match event.operation {
                Operation::Malloc { block, size } => {
                    sizes.insert(block.0, size);
                    let count = live.entry(size).or_insert(0);
                    *count += 1;
                    assert!(*count <= 7, "{count} live blocks of {size} bytes");
                }
                Operation::Free { block, .. } => {
                    if let Some(size) = sizes.get(&block.0) {
                        *live.entry(*size).or_insert(0) -= 1;
                    }
                }
                _ => {}
            }
        }
        assert!(live.len() > CLASSES, "{live:?}");
    }

    #[test]
    fn bars_are_nine_in_ten() {
        assert_eq!(Case::Five.bar(10), 9);
        assert_eq!(Case::Two.bar(1), 1);
        assert_eq!(Case::Same.bar(10), 10);
    }

    #[test]
    fn intervals_may_miss_as_often_as_they_say() {
        // Of 10: 7 or fewer hold in 1.15 % of self-tests, 8 or fewer in 8.6 %.
        assert_eq!(binomial_bound(10, 0.95, 0.02), 8);
        assert_eq!(binomial_bound(10, 0.95, 0.01), 7);
        assert_eq!(binomial_bound(1, 0.95, 0.02), 0);
        assert_eq!(binomial_bound(100, 0.95, 0.02), 90);
        assert_eq!(Case::Two.bar_for_intervals(10), 8);
    }
}
