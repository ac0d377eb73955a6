//! `results.json`: everything a run produced. `run` fills it, `report` reads it, nothing else passes
//! between them.
//!
//! Units stand last in each name: `_ns` nanoseconds, `_bytes` bytes. An absent optional field is
//! written as `null`. Unknown fields are refused when reading, so that a file of another schema
//! version is recognised by its `schema_version` and never misread.

#![forbid(unsafe_code)]

mod latency;
mod memory;
mod rows;
mod workload;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::latency::{LatencyClock, LatencyRow, LatencySample, WorstOperation};
pub use self::memory::{MemoryParts, MemoryPoint, MemorySample};
pub use self::rows::{RunRow, SummaryRow};
pub use self::workload::{
    Order, ProgramRecord, ThreadedRecord, Window, WorkloadKind, WorkloadRecord,
};
use super::environment::Environment;
use crate::statistics::Interval;

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
    /// A byte in each cache line of blocks of up to an OS page, as programs fill small objects; larger
    /// blocks as [`Touch::Page`].
    Line,
    /// As the recorded program did, as far as the trace tells: blocks of up to an OS page as
    /// [`Touch::Line`]; of larger ones as many pages as the program touched of blocks of that size, or
    /// all. The first byte is read before a block is freed.
    Used,
    /// As [`Touch::Used`], and other memory between the calls (eight lines of 1 MiB, in turn), so that the
    /// allocator finds the caches as a program that works leaves them. In the speed pass; in the others as
    /// [`Touch::Used`].
    Busy,
    /// Every byte.
    All,
}

impl Touch {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Page => "page",
            Self::Line => "line",
            Self::Used => "used",
            Self::Busy => "busy",
            Self::All => "all",
        }
    }

    /// Whether it writes to every page of every block, whatever the trace tells: the memory that a replay
    /// takes is then at least what its blocks take up.
    pub fn reaches_every_page(self) -> bool {
        match self {
            Self::Page | Self::Line | Self::All => true,
            Self::None | Self::Used | Self::Busy => false,
        }
    }

    /// The inverse of [`Touch::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::None,
            Self::Page,
            Self::Line,
            Self::Used,
            Self::Busy,
            Self::All,
        ]
        .into_iter()
        .find(|touch| touch.name() == name)
    }
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
    /// hand-over is not in it. This and what follows is empty for a serial replay, but for
    /// `process_cpu_ns`.
    pub cpu_ns: Vec<u64>,
    /// CPU time of the threads at the hand-over, likewise: waiting, waking, making and joining
    /// threads, pacing.
    pub hand_over_cpu_ns: Vec<u64>,
    /// CPU time of the whole process, likewise: both of the above, what the allocator and the system
    /// do when threads begin and end, and threads that an allocator has of its own. Of a serial
    /// replay, CPU time of the process at its operations; empty where it was not taken.
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

impl Results {
    /// The first run: the only one, unless files were merged.
    ///
    /// # Panics
    /// If there is none; a file without one is refused when read.
    pub fn first_run(&self) -> &Run {
        self.runs.first().expect("results have at least one run")
    }
}
