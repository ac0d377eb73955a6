//! What a trace is like: counts, sizes, lifetimes, live bytes over time. Pure.

use serde::{Deserialize, Serialize};

use super::{EventCounts, Trace};

/// What a trace is like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Events by kind.
    pub counts: EventCounts,
    /// Threads that appear.
    pub threads: u32,
    /// Most threads between their first and last event at once.
    pub threads_alive_peak: u32,
    /// Blocks freed or reallocated by another thread than the one that allocated them.
    pub cross_thread_frees: u64,
    /// Sum of all requested bytes.
    pub requested_bytes: u64,
    /// Highest sum of requested bytes of live blocks.
    pub live_bytes_peak: u64,
    /// Highest number of live blocks.
    pub live_blocks_peak: u64,
    /// Blocks never freed.
    pub live_blocks_end: u64,
    /// Requested bytes of those.
    pub live_bytes_end: u64,
    /// Largest single request.
    pub largest_bytes: u64,
    /// Requests by size, ascending, classes without requests included between the first and last.
    pub sizes: Vec<SizeBucket>,
    /// Freed blocks by lifetime, ascending, likewise without gaps.
    pub lifetimes: Vec<LifetimeBucket>,
    /// Live bytes over the trace: at most 512 points, ascending, the peak among them.
    pub live_curve: Vec<LivePoint>,
}

/// Requests of `low_bytes ..= high_bytes`: powers of two (0, 1, 2, 3-4, 5-8, ...).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SizeBucket {
    /// Smallest size of the class.
    pub low_bytes: u64,
    /// Largest size of the class.
    pub high_bytes: u64,
    /// Requests.
    pub count: u64,
}

/// Blocks freed after `low_events ..= high_events` further events of the trace: powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LifetimeBucket {
    /// Shortest lifetime of the class.
    pub low_events: u64,
    /// Longest lifetime of the class.
    pub high_events: u64,
    /// Blocks.
    pub count: u64,
}

/// Live bytes after some event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LivePoint {
    /// Number of events so far.
    pub event: u64,
    /// Requested and not yet freed.
    pub live_bytes: u64,
    /// Live blocks.
    pub live_blocks: u64,
}

impl Profile {
    /// Measures a trace: one pass over its events, one word of memory per block.
    pub fn of(trace: &Trace) -> Self {
        let _ = trace;
        unimplemented!()
    }
}
