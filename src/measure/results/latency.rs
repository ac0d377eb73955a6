//! Latencies, as results files hold them.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What single calls are timed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LatencyClock {
    /// The processor's time-stamp counter, which runs at one speed (CPUID: invariant TSC).
    TimeStampCounter,
    /// The kernel's CLOCK_MONOTONIC: slower to read.
    Monotonic,
}

/// Latencies of one child.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencySample {
    /// What was read before and after each call.
    pub clock: LatencyClock,
    /// Its ticks per second, as calibrated.
    pub clock_hertz: f64,
    /// Cost of reading the clock, subtracted from every latency.
    pub clock_cost_ns: f64,
    /// By so much it advances at once: nothing shorter is told apart.
    pub clock_step_ns: f64,
    /// Calls that ended on another processor than they began on; `None` if the clock does not tell.
    pub migrated: Option<u64>,
    /// Calls whose second reading was below the first: they have no latency and are in no row.
    pub backward: u64,
    /// One row for each kind of operation, size class and same or other thread that occurred, and for
    /// each kind and thread one over all sizes.
    pub rows: Vec<LatencyRow>,
    /// The ten slowest operations, the slowest first.
    pub worst: Vec<WorstOperation>,
}

/// Latencies of one kind of operation, in nanoseconds, the clock's cost subtracted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencyRow {
    /// "malloc", "free", "calloc", "realloc", "aligned"
    pub operation: String,
    /// Largest requested size of the row; of the block freed, for free. 2^48 for all sizes above
    /// 1 MiB, and 2^64 - 1 for the row over all sizes.
    pub size_class_bytes: u64,
    /// Whether another thread had allocated the block that is freed or reallocated. Never in a serial
    /// replay, in which one thread does everything.
    pub other_thread: bool,
    /// Operations measured.
    pub count: u64,
    /// Median.
    pub p50_ns: u64,
    /// 90th percentile; this one and those below are `None` unless ten calls at least lie beyond.
    pub p90_ns: Option<u64>,
    /// 99th percentile.
    pub p99_ns: Option<u64>,
    /// 99.9th percentile.
    pub p99_9_ns: Option<u64>,
    /// 99.99th percentile.
    pub p99_99_ns: Option<u64>,
    /// The slowest.
    pub max_ns: u64,
}

/// One slow operation. Latency, page faults and context switches are those of one replay; a second
/// replay, in a process of its own, tells whether the same operation is slow again and which system
/// calls it makes then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorstOperation {
    /// Number of the operation in the trace, from 0.
    pub operation: u64,
    /// The call in words.
    pub call: String,
    /// Its latency.
    pub latency_ns: u64,
    /// Page faults during it.
    pub minor_faults: u64,
    /// Page faults with input or output during it.
    pub major_faults: u64,
    /// Context switches forced on it.
    pub involuntary_switches: u64,
    /// Context switches since it waited, for a lock for instance.
    pub voluntary_switches: u64,
    /// Its latency in the second replay, in which system calls take some microseconds longer; `None`
    /// if that did not come to it.
    pub second_latency_ns: Option<u64>,
    /// System calls made in it, in the second replay; `None` if unknown.
    pub second_system_calls: Option<BTreeMap<String, u64>>,
}
