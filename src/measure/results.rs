//! `results.json`: everything a run produced. `run` fills it, `report` reads it, nothing else passes
//! between them.
//!
//! Units stand last in each name: `_ns` nanoseconds, `_bytes` bytes. An absent optional field is
//! written as `null`. Unknown fields are refused when reading, so that a file of another schema
//! version is recognised by its `schema_version` and never misread.

#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

use super::environment::Environment;
use crate::trace::Origin;
use crate::trace::profile::Profile;

/// Version of the layout below; raised with every change of meaning.
pub const SCHEMA_VERSION: u32 = 1;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// [`SCHEMA_VERSION`] of the program that wrote the file.
    pub schema_version: u32,
    /// The program that measured.
    pub tool: Tool,
    /// When the run began, RFC 3339 in UTC.
    pub started: String,
    /// Wall time of the whole run.
    pub elapsed_ns: u64,
    /// The command line as typed.
    pub command: Vec<String>,
    /// How it was measured.
    pub settings: Settings,
    /// Where it was measured.
    pub environment: Environment,
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
}

/// How it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Blocks of the speed pass: in each, every subject runs once, in random order.
    pub speed_blocks: u32,
    /// Blocks of the memory pass.
    pub memory_blocks: u32,
    /// Replays of the trace inside one speed sample; the first is on a fresh heap.
    pub passes_per_sample: u32,
    /// What replay writes into new blocks.
    pub touch: Touch,
    /// Order in which threads were replayed; "serial": recorded order on one thread.
    pub order: String,
    /// After how long a sample's processes are killed.
    pub timeout_seconds: f64,
    /// Name of the subject that ratios refer to.
    pub baseline: String,
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

/// One trace, and what it is like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadRecord {
    /// Short name, unique in the file.
    pub name: String,
    /// One or two sentences: what it is and what it stands for; from its definition, or empty.
    pub description: String,
    /// Known bias, from its definition, or empty.
    pub bias: String,
    /// The file it was read from.
    pub origin: Origin,
    /// Counts, sizes, lifetimes, live bytes over time.
    pub profile: Profile,
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
    /// Version as the allocator itself or its build id tells it.
    pub version: Option<String>,
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
    /// The allocator returned null, or memory that is misaligned, overlaps, or lost its content.
    Wrong,
    /// Not measured: it could not be loaded, or did not serve the calls.
    Refused,
}

/// One child process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
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
    /// Page faults without input or output, of the whole child.
    pub minor_faults: u64,
    /// Page faults with input or output, of the whole child.
    pub major_faults: u64,
    /// Context switches forced on the whole child.
    pub involuntary_switches: u64,
}

/// Which object served each function of the allocator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Path of the object that serves `malloc`, as the dynamic linker tells it.
    pub path: String,
    /// Functions checked to be in that same object.
    pub functions: Vec<String>,
}

/// Timings of one child, in nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpeedSample {
    /// Time of each replay of the whole trace, in order; the first on a fresh heap. The blocks left
    /// at the end of the trace are freed between them, outside the time.
    pub passes_ns: Vec<u64>,
}

/// Memory of one child. RSS here is the allocator's alone: private anonymous memory that was not
/// there before its first call, plus, for a preloaded allocator, what its start took. What a linked
/// allocator's static constructors take, some ten KiB, is charged to none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemorySample {
    /// Memory the allocator held before the first operation (preloaded subjects; 0 for others).
    pub rss_start_bytes: u64,
    /// Highest RSS at any sample.
    pub rss_peak_bytes: u64,
    /// RSS after every block was freed.
    pub rss_retained_bytes: u64,
    /// Highest sum of requested bytes.
    pub live_bytes_peak: u64,
    /// Sum of usable bytes when the live bytes were at their peak.
    pub usable_bytes_peak: u64,
    /// The curve, by operation number, ascending.
    pub curve: Vec<MemoryPoint>,
}

/// Memory at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryPoint {
    /// Operations performed so far.
    pub operation: u64,
    /// Requested and not yet freed.
    pub live_bytes: u64,
    /// Live bytes rounded up to what the allocator really gave.
    pub usable_bytes: u64,
    /// The allocator's RSS.
    pub rss_bytes: u64,
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
    /// Time per operation of the first replay in each process: a fresh heap.
    pub ns_per_operation: Option<Estimate>,
    /// Time per operation of the later replays: a used heap. `None` if there were none.
    pub ns_per_operation_used_heap: Option<Estimate>,
    /// Per-block ratio of time to the baseline's, first replay. Below 1 is faster.
    pub ratio_to_baseline: Option<Estimate>,
    /// The same for the later replays.
    pub ratio_to_baseline_used_heap: Option<Estimate>,
    /// `null`'s time as a share of this row's: the part that the harness may account for, at most.
    pub harness_share: Option<f64>,
    /// Median of the samples' highest RSS.
    pub rss_peak_bytes: Option<u64>,
    /// Peak RSS divided by the baseline's. Below 1 is leaner.
    pub rss_peak_ratio_to_baseline: Option<f64>,
    /// Highest sum of requested bytes.
    pub live_bytes_peak: Option<u64>,
    /// Peak RSS divided by peak live bytes.
    pub fragmentation_at_peak: Option<f64>,
    /// Sum of RSS over the trace divided by the sum of live bytes, both weighted by operations.
    pub fragmentation_time_weighted: Option<f64>,
    /// Usable bytes at the peak of live bytes, divided by these: fragmentation inside blocks.
    pub internal_fragmentation: Option<f64>,
    /// Median RSS after every block was freed.
    pub rss_retained_bytes: Option<u64>,
}
