//! `results.json`: everything a run produced. `run` fills it, `report` reads it, nothing else passes
//! between them.
//!
//! Units stand last in each name: `_ns` nanoseconds, `_bytes` bytes. An absent optional field is
//! written as `null`. Unknown fields are refused when reading, so that a file of another schema
//! version is recognised by its `schema_version` and never misread.

#![forbid(unsafe_code)]

mod latency;
mod memory;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::latency::{LatencyClock, LatencyRow, LatencySample, WorstOperation};
pub use self::memory::{MemoryParts, MemoryPoint, MemorySample};
use super::environment::Environment;
use super::pairs::Heap;
use crate::statistics::Interval;
use crate::trace::Origin;
use crate::trace::profile::Profile;

/// Version of the layout below; raised with every change of meaning.
pub const SCHEMA_VERSION: u32 = 2;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// [`SCHEMA_VERSION`] of the program that wrote the file.
    pub schema_version: u32,
    /// How it was measured.
    pub settings: Settings,
    /// The runs whose samples these are, at least one: several when files were merged. Ratios are
    /// taken inside a run, and so inside a machine.
    pub runs: Vec<Run>,
    /// What was replayed.
    pub workloads: Vec<WorkloadRecord>,
    /// What was compared, in the order asked for.
    pub subjects: Vec<SubjectRecord>,
    /// Every raw sample, in the order in which they were taken.
    pub samples: Vec<Sample>,
    /// One row per workload and subject, computed from `samples`.
    pub summary: Vec<SummaryRow>,
    /// What a reader must know before believing the numbers, each with what to do about it.
    pub warnings: Vec<String>,
}

/// One invocation on one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The program that measured.
    pub tool: Tool,
    /// When the run began, RFC 3339 in UTC.
    pub started: String,
    /// When it was continued after interruptions, if it was. No block spans one.
    #[serde(default)]
    pub resumed: Vec<String>,
    /// Wall time of the whole run.
    pub elapsed_ns: u64,
    /// The command line as typed.
    pub command: Vec<String>,
    /// Where it was measured.
    pub environment: Environment,
    /// Why no more blocks were added, workload by workload.
    pub stops: Vec<Stop>,
}

/// Why no more blocks of a workload's speed pass were run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// The workload.
    pub workload: String,
    /// What ended it.
    pub reason: StopReason,
    /// Speed blocks that were run.
    pub blocks: u32,
    /// Half the width of the widest interval of a ratio, as a share of the ratio; `None` if there
    /// were too few blocks for one.
    pub widest_half_width: Option<f64>,
}

/// What ended the adding of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// Every ratio's interval was as narrow as asked for, and every difference that they show was
    /// settled.
    Precision,
    /// The time budget was used.
    Budget,
    /// As many blocks were run as were asked for at most.
    Blocks,
    /// No two subjects were left to compare.
    NothingToCompare,
}

/// The program that measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// "mymalloc"
    pub name: String,
    /// Version from Cargo.toml.
    pub version: String,
    /// Optimisation level it was built with, as cargo names it: "0" to "3", "s", "z".
    pub opt_level: String,
    /// Compiler that built it.
    pub rustc: String,
    /// Build id of its file, or the SHA-256 if it has none: tells two builds of one version apart.
    pub build: Option<String>,
}

/// How it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Blocks of the speed pass that are always run; in each, every subject runs once, in random
    /// order.
    pub speed_blocks_min: u32,
    /// Blocks after which none are added, whatever the precision.
    pub speed_blocks_max: u32,
    /// Blocks of the memory pass.
    pub memory_blocks: u32,
    /// Blocks of the latency pass.
    pub latency_blocks: u32,
    /// Half the width, as a share of the ratio, that every interval shall have before no more blocks
    /// are added; `None` if the number of blocks was given.
    pub precision: Option<f64>,
    /// Time after which no more blocks are added, for each workload; `None` for no limit. It is looked
    /// at after each block, and `speed_blocks_min` blocks are always run: it can be overrun.
    pub budget_seconds: Option<f64>,
    /// Replays of the trace inside one speed sample; the first is on a fresh heap.
    pub passes_per_sample: u32,
    /// What replay writes into new blocks.
    pub touch: Touch,
    /// Order asked for; `None`: [`Order::Threads`] for traces of several threads, otherwise
    /// [`Order::Serial`]. Each workload says what it was.
    pub order: Option<Order>,
    /// After how long a sample's processes are killed.
    pub timeout_seconds: f64,
    /// Memory at which a sample's processes are killed.
    pub memory_limit_bytes: Option<u64>,
    /// Name of the subject that ratios refer to.
    pub baseline: String,
    /// Name under which the baseline runs a second time: its ratio is the noise floor.
    pub baseline_twin: Option<String>,
    /// Seed of every random choice.
    pub seed: u64,
    /// Number of resamples of the bootstrap.
    pub bootstrap_resamples: u32,
}

/// What replay writes into a block it was given, as the recorded program would have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Touch {
    /// Nothing.
    None,
    /// A byte in each OS page, the first and the last byte among them.
    Page,
    /// Every byte.
    All,
}

/// In which order the operations of several threads are replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The recorded total order, on one thread.
    Serial,
    /// The recorded threads, each in its own order; one waits for another only where a block changes
    /// hands, where a thread starts or ends, and so as not to run further ahead of the recorded order
    /// than [`ThreadedRecord::window`].
    Threads,
    /// The recorded total order, on the recorded threads.
    Strict,
    /// As [`Order::Threads`], and no operation before its recorded time.
    Paced,
}

impl Order {
    /// As on the command line and in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Serial => "serial",
            Self::Threads => "threads",
            Self::Strict => "strict",
            Self::Paced => "paced",
        }
    }

    /// The inverse of [`Order::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Serial, Self::Threads, Self::Strict, Self::Paced]
            .into_iter()
            .find(|order| order.name() == name)
    }
}

/// What a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkloadKind {
    /// A recorded trace.
    Trace,
    /// A generated trace.
    Synthetic,
    /// A trace generated from the profile of a fleet.
    Fleet,
    /// A kernel with threads of its own.
    Threads,
    /// A real program.
    Program,
}

/// How a trace was made into a program for several threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThreadedRecord {
    /// Threads replayed.
    pub threads: u32,
    /// Most of them alive at once.
    pub threads_alive_peak: u32,
    /// Places where a thread must wait for another's operation: a block that changes hands, or a
    /// thread's start or end.
    pub edges: u64,
    /// Blocks freed or reallocated by another thread than allocated them.
    pub cross_thread_frees: u64,
    /// How far threads may run ahead of each other; `None` in the order `strict`, in which they do
    /// not.
    pub window: Option<Window>,
    /// Places where a thread must wait for that reason alone; not among `edges`.
    pub window_edges: u64,
}

/// How far one thread of a replay may run ahead of another: the lead is within both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Operations of the recorded total order.
    pub operations: u32,
    /// Bytes allocated or freed by them. By no more do the live bytes of the replay differ from
    /// recorded ones.
    pub bytes: u64,
}

/// A real program that was run under each subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramRecord {
    /// The command, word by word.
    pub command: Vec<String>,
    /// How to install what it needs.
    pub setup: String,
    /// The program's own word for its version.
    pub version: Option<String>,
    /// Builds of the commands that it consists of, by name, where they are installed: build ids, or
    /// SHA-256 of files that have none.
    #[serde(default)]
    pub executables: BTreeMap<String, String>,
    /// SHA-256 over its command and the files that it is given.
    pub files_sha256: String,
}

/// One workload, and what it is like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadRecord {
    /// Short name, unique in the file.
    pub name: String,
    /// What it is.
    pub kind: WorkloadKind,
    /// Words to select by, from its definition.
    pub tags: Vec<String>,
    /// One or two sentences: what it is and what it stands for; from its definition, or empty.
    pub description: String,
    /// Known bias, from its definition, or empty.
    pub bias: String,
    /// The file it was read from, or the generator; `None` for a real program.
    pub origin: Option<Origin>,
    /// Counts, sizes, lifetimes, live bytes over time; `None` for a real program.
    pub profile: Option<Profile>,
    /// Order in which it was replayed; `None` for kernels and programs, which have their own.
    pub order: Option<Order>,
    /// The threads of the replay, unless it was [`Order::Serial`].
    pub threaded: Option<ThreadedRecord>,
    /// The real program, if it is one.
    pub program: Option<ProgramRecord>,
}

/// One allocator under test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectRecord {
    /// Short name, unique in the file.
    pub name: String,
    /// What it is, one sentence.
    pub description: String,
    /// How it is reached.
    pub kind: SubjectKind,
    /// Absolute path of the preloaded object, if it is one.
    pub path: Option<String>,
    /// Version as the allocator itself tells it.
    pub version: Option<String>,
    /// Build id of its object, or the SHA-256 of the file if it has none.
    pub build: Option<String>,
    /// Environment variables set for it.
    pub environment: BTreeMap<String, String>,
    /// If this is the baseline a second time, the baseline's name.
    pub twin_of: Option<String>,
    /// Whether it is this project's own, by its code and not by its name: reports rank without it too.
    pub is_own: bool,
}

/// How a subject is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjectKind {
    /// Linked into the program under names of its own.
    Linked,
    /// The C library's malloc.
    System,
    /// A shared object, preloaded.
    Preloaded,
    /// No allocator: the harness's own cost (`null`), or allocation without bookkeeping and reuse
    /// (`bump`: its first replay takes a page fault for each new page; its later ones, over memory
    /// that is there already, are a lower bound).
    Floor,
}

/// What a sample was taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pass {
    /// Alignment, overlap and contents are checked; nothing is timed.
    Verify,
    /// Timed; nothing else happens.
    Speed,
    /// RSS is sampled; nothing is timed.
    Memory,
    /// Each operation is timed by itself.
    Latency,
    /// A real program is run: its time and its memory.
    Program,
}

impl Pass {
    /// As in the file and on the child's command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Speed => "speed",
            Self::Memory => "memory",
            Self::Latency => "latency",
            Self::Program => "program",
        }
    }

    /// The inverse of [`Pass::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::Verify,
            Self::Speed,
            Self::Memory,
            Self::Latency,
            Self::Program,
        ]
        .into_iter()
        .find(|pass| pass.name() == name)
    }
}

/// How a sample, or a whole row, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Every operation was performed.
    Ok,
    /// The process died of a signal or ended early.
    Crashed,
    /// Killed at the time limit.
    TimedOut,
    /// Killed at the memory limit.
    OutOfMemory,
    /// The allocator returned null, or memory that is misaligned, overlaps, or lost its content.
    Wrong,
    /// Not measured: it could not be loaded, or did not serve the calls.
    Refused,
}

/// One child process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Index of its run in [`Results::runs`].
    pub run: u32,
    /// Workload replayed.
    pub workload: String,
    /// Subject that served it.
    pub subject: String,
    /// What the sample was taken for.
    pub pass: Pass,
    /// Block of the pass, from 0.
    pub block: u32,
    /// Position inside the block, from 0.
    pub position: u32,
    /// How it ended.
    pub status: Status,
    /// Why, if it did not end `ok`.
    pub reason: Option<String>,
    /// Operations performed in each pass over the trace; equals the trace's count when `ok`.
    pub operations: u64,
    /// Which object served the calls, as the child itself found.
    pub receipt: Option<Receipt>,
    /// Timings, in the speed pass.
    pub speed: Option<SpeedSample>,
    /// Memory, in the memory pass.
    pub memory: Option<MemorySample>,
    /// Latencies, in the latency pass.
    pub latency: Option<LatencySample>,
    /// Time and memory of a real program.
    pub program: Option<ProgramSample>,
    /// Page faults without input or output, of the whole child.
    pub minor_faults: u64,
    /// Page faults with input or output, of the whole child.
    pub major_faults: u64,
    /// Context switches forced on the whole child.
    pub involuntary_switches: u64,
    /// Context switches of the whole child when it waited.
    pub voluntary_switches: u64,
    /// Time that the machine's host took from its processors meanwhile, over all of them and in steps
    /// of 10 ms; `None` if unknown.
    pub steal_ns: Option<u64>,
    /// Wall time that taking the sample took, with the start and the end of its processes; `None` if
    /// unknown.
    pub elapsed_ns: Option<u64>,
}

/// Which object served each function of the allocator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Path of the object that serves `malloc`, as the dynamic linker tells it.
    pub path: String,
    /// Build id of that object, or the SHA-256 of the file if it has none.
    pub build: Option<String>,
    /// Version where the library tells one.
    pub version: Option<String>,
    /// Functions checked to be in that same object.
    pub functions: Vec<String>,
}

/// Timings of one child, in nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpeedSample {
    /// Time of each replay of the whole trace, in order; the first on a fresh heap. The blocks left
    /// at the end of the trace are freed between them, outside the time.
    pub passes_ns: Vec<u64>,
    /// What the system did in each replay, and in freeing the blocks left at its end.
    pub usage: Vec<ReplayUsage>,
    /// CPU time of the threads at their operations in each replay, summed over the threads: the
    /// hand-over is not in it. This and what follows is empty for a serial replay.
    pub cpu_ns: Vec<u64>,
    /// CPU time of the threads at the hand-over, likewise: waiting, waking, making and joining
    /// threads, pacing.
    pub hand_over_cpu_ns: Vec<u64>,
    /// CPU time of the whole process, likewise: both of the above, what the allocator and the system
    /// do when threads begin and end, and threads that an allocator has of its own.
    pub process_cpu_ns: Vec<u64>,
    /// Time the threads spent waiting for one another, likewise.
    pub waiting_ns: Vec<u64>,
    /// Time the threads slept until the recorded time of an operation, likewise; 0 unless the order
    /// is [`Order::Paced`].
    pub pacing_ns: Vec<u64>,
    /// How much later than recorded operations began in each replay, on the average; 0 unless paced.
    pub lateness_mean_ns: Vec<u64>,
    /// The latest of them.
    pub lateness_max_ns: Vec<u64>,
    /// Wall time that the threads were alive in each, summed over the threads: what the waiting is a
    /// share of.
    pub alive_ns: Vec<u64>,
}

/// What the system did for a child in one replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayUsage {
    /// Page faults without input or output.
    pub minor_faults: u64,
    /// Page faults with input or output.
    pub major_faults: u64,
    /// Context switches forced on it.
    pub involuntary_switches: u64,
    /// Context switches when it waited.
    pub voluntary_switches: u64,
}

impl SpeedSample {
    /// The times that are compared, replay by replay: CPU time at the operations where there are
    /// several threads, since their wall time is the hand-over's as well; otherwise wall time.
    pub fn compared_ns(&self) -> &[u64] {
        match self.cpu_ns.is_empty() {
            true => &self.passes_ns,
            false => &self.cpu_ns,
        }
    }

    /// Wall time of the first replay, of those on several threads.
    pub fn threaded_wall_ns(&self) -> Option<u64> {
        let wall_ns = self.passes_ns.first().copied();
        wall_ns.filter(|_| !self.cpu_ns.is_empty())
    }
}

/// One run of a real program: the whole tree of its processes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramSample {
    /// Wall time.
    pub wall_ns: u64,
    /// CPU time in user mode.
    pub user_ns: u64,
    /// CPU time in the kernel.
    pub system_ns: u64,
    /// SHA-256 of what it wrote.
    pub output_sha256: String,
    /// Memory, in the memory pass: its looks disturb the times of that run.
    pub memory: Option<ProgramMemory>,
}

/// Memory of a real program: the whole tree of its processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramMemory {
    /// The larger of the two below: the tree held at least so much at one moment.
    pub rss_peak_bytes: u64,
    /// Highest sum of the RSS of its processes at one look: private memory, and shared memory in
    /// proportion (PSS). What comes and goes between two looks is missing.
    pub rss_sum_peak_bytes: u64,
    /// Peak RSS of the largest single process, which the kernel counts without looks (`ru_maxrss`):
    /// shared memory counted in full. 0 if unknown.
    pub rss_largest_bytes: u64,
    /// Most processes at one look.
    pub processes_peak: u32,
    /// Times at which memory was looked at.
    pub looks: u64,
}

/// A median with its bootstrap 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// Median.
    pub median: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// How a subject's time compares with the baseline's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It takes less time.
    Faster,
    /// It takes more time.
    Slower,
    /// The difference, if any, is smaller than this run can tell.
    NotDistinguishable,
    /// Not judged: no ratio, too few blocks for any verdict, no noise floor, or runs that contradict
    /// one another.
    Unknown,
}

/// What one of several runs shows of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRow {
    /// Index of the run in the file.
    pub run: u32,
    /// Blocks in which its time was taken.
    pub blocks: u32,
    /// Time per operation, first replay.
    pub ns_per_operation: Option<Estimate>,
    /// Per-block ratio of time to the baseline's, first replay.
    pub ratio_to_baseline: Option<Estimate>,
    /// The same for the later replays.
    pub ratio_to_baseline_used_heap: Option<Estimate>,
    /// Median of the samples' highest RSS.
    pub rss_peak_bytes: Option<u64>,
}

/// One workload under one subject, summed up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SummaryRow {
    /// Workload replayed.
    pub workload: String,
    /// Subject that served it.
    pub subject: String,
    /// Worst status of its samples.
    pub status: Status,
    /// Why, if not `ok`.
    pub reason: Option<String>,
    /// Operations of one replay, all performed; of the trace if the row is not `ok`.
    pub operations: u64,
    /// Blocks in which its time was taken.
    pub blocks: u32,
    /// What each run shows, if several measured it; otherwise empty. The ratios of this row are then
    /// the geometric means of the runs' own; times and memory are those of the first run alone, since
    /// those of two machines have no common middle.
    pub by_run: Vec<RunRow>,
    /// Time per operation of the first replay in each process: a fresh heap. Wall time of a serial
    /// replay; CPU time at the operations of one on several threads, where the wall time is the
    /// hand-over's as well. For a real program, CPU time of the whole run.
    pub ns_per_operation: Option<Estimate>,
    /// Time per operation of the later replays: a used heap. `None` if there were none.
    pub ns_per_operation_used_heap: Option<Estimate>,
    /// Wall time per operation, of replays on several threads; first replay.
    pub wall_ns_per_operation: Option<Estimate>,
    /// Wall time of the whole run of a real program.
    pub wall_ns: Option<Estimate>,
    /// Share of the threads' time spent waiting for one another, in replays on several threads;
    /// first replay, the median of the samples.
    pub waiting_share: Option<f64>,
    /// Per-block ratio of time to the baseline's, first replay. Below 1 is faster.
    pub ratio_to_baseline: Option<Estimate>,
    /// The same for the later replays.
    pub ratio_to_baseline_used_heap: Option<Estimate>,
    /// How it compares with the baseline on a fresh heap: corrected for the number of comparisons in
    /// the file, and never within the noise floor.
    pub verdict: Verdict,
    /// The same on a used heap.
    pub verdict_used_heap: Verdict,
    /// Per-block ratio of wall time to the baseline's, of replays on several threads; first replay.
    pub wall_ratio_to_baseline: Option<Estimate>,
    /// How the wall time compares with the baseline's. `unknown` also where it is no measure of an
    /// allocator: in the order `paced`, and where `null` needs more than half of it.
    pub wall_verdict: Verdict,
    /// `null`'s wall time as a share of this row's, of replays on several threads.
    pub wall_harness_share: Option<f64>,
    /// How much later than recorded operations began, in the order `paced`: the median of the
    /// samples' means, in nanoseconds.
    pub lateness_mean_ns: Option<f64>,
    /// Samples of the speed pass whose time is far from the others'.
    pub outliers: u32,
    /// `null`'s time as a share of this row's: the part that the harness may account for, at most.
    pub harness_share: Option<f64>,
    /// Median of the samples' highest RSS.
    pub rss_peak_bytes: Option<u64>,
    /// Peak RSS divided by the baseline's. Below 1 is leaner. `None` also where the peaks of live bytes
    /// differ by more than 5 % of the baseline's peak RSS: threads came in another order.
    pub rss_peak_ratio_to_baseline: Option<f64>,
    /// Highest sum of requested bytes.
    pub live_bytes_peak: Option<u64>,
    /// Peak RSS divided by peak live bytes.
    pub fragmentation_at_peak: Option<f64>,
    /// Sum of RSS over the trace divided by the sum of live bytes, both weighted by time.
    pub fragmentation_time_weighted: Option<f64>,
    /// Usable bytes at the peak of live bytes, divided by these: fragmentation inside blocks.
    pub internal_fragmentation: Option<f64>,
    /// Median of the samples' mean RSS.
    pub rss_mean_bytes: Option<u64>,
    /// Median RSS after every block was freed.
    pub rss_retained_bytes: Option<u64>,
    /// Median RSS 1 s after every block was freed.
    pub rss_retained_1s_bytes: Option<u64>,
    /// Median drift.
    pub drift: Option<f64>,
    /// Latencies of the latency pass over all sizes, one row per operation and same or other
    /// thread: each percentile the median of the samples', counts and maxima over all of them.
    pub latency: Vec<LatencyRow>,
}

impl From<Interval> for Estimate {
    fn from(Interval { median, low, high }: Interval) -> Self {
        Self { median, low, high }
    }
}

impl Sample {
    /// A sample that ended well and shows nothing yet.
    pub fn untaken(workload: &str, subject: &str, pass: Pass, block: u32) -> Self {
        Self {
            run: 0,
            workload: workload.to_owned(),
            subject: subject.to_owned(),
            pass,
            block,
            position: 0,
            status: Status::Ok,
            reason: None,
            operations: 0,
            receipt: None,
            speed: None,
            memory: None,
            latency: None,
            program: None,
            minor_faults: 0,
            major_faults: 0,
            involuntary_switches: 0,
            voluntary_switches: 0,
            steal_ns: None,
            elapsed_ns: None,
        }
    }
}

impl RunRow {
    /// Its ratio on a heap.
    pub fn ratio(&self, heap: Heap) -> Option<Estimate> {
        match heap {
            Heap::Fresh => self.ratio_to_baseline,
            Heap::Used => self.ratio_to_baseline_used_heap,
        }
    }
}

impl SummaryRow {
    /// Its ratio on a heap.
    pub fn ratio(&self, heap: Heap) -> Option<Estimate> {
        match heap {
            Heap::Fresh => self.ratio_to_baseline,
            Heap::Used => self.ratio_to_baseline_used_heap,
        }
    }

    /// A row without any figure.
    pub fn unmeasured(workload: &str, subject: &str, operations: u64) -> Self {
        Self {
            workload: workload.to_owned(),
            subject: subject.to_owned(),
            status: Status::Ok,
            reason: None,
            operations,
            blocks: 0,
            by_run: Vec::new(),
            ns_per_operation: None,
            ns_per_operation_used_heap: None,
            wall_ns_per_operation: None,
            wall_ns: None,
            waiting_share: None,
            ratio_to_baseline: None,
            ratio_to_baseline_used_heap: None,
            verdict: Verdict::Unknown,
            verdict_used_heap: Verdict::Unknown,
            wall_ratio_to_baseline: None,
            wall_verdict: Verdict::Unknown,
            wall_harness_share: None,
            lateness_mean_ns: None,
            outliers: 0,
            harness_share: None,
            rss_peak_bytes: None,
            rss_peak_ratio_to_baseline: None,
            live_bytes_peak: None,
            fragmentation_at_peak: None,
            fragmentation_time_weighted: None,
            internal_fragmentation: None,
            rss_mean_bytes: None,
            rss_retained_bytes: None,
            rss_retained_1s_bytes: None,
            drift: None,
            latency: Vec::new(),
        }
    }
}

impl Results {
    /// The first run: the only one, unless files were merged.
    ///
    /// # Panics
    /// If there is none; a file without one is refused when read.
    pub fn first_run(&self) -> &Run {
        self.runs.first().expect("results have at least one run")
    }
}
