//! What a recording tells of itself: the header that our recorder writes.

#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

/// How a trace was recorded. All of it stands in the trace's file and in reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// Version of this project that recorded it.
    pub recorder: String,
    /// The program's file.
    pub program: String,
    /// Its arguments, without its name.
    pub arguments: Vec<String>,
    /// Number of the process.
    pub process: u32,
    /// Number of the process that forked it; 0 if it was the first.
    pub parent: u32,
    /// When it began, RFC 3339.
    pub began: String,
    /// From its beginning to its end.
    pub wall_ns: u64,
    /// How it ended, in words: "exit code 0", "killed by signal 9 (SIGKILL)", "still running".
    pub ended: String,
    /// The object that served the calls: path, and build id or version where it tells one.
    pub allocator: String,
    /// Version of the C library, as it tells it.
    pub c_library: String,
    /// Bytes of an OS page.
    pub page_bytes: u64,
    /// Calls that the recorder saw but did not keep, because it was switched off, a limit was reached
    /// or the disk was full. 0 in a whole recording.
    pub unrecorded_calls: u64,
    /// Events that were written and could not be read again. 0 unless the file was damaged.
    pub lost_events: u64,
    /// Calls of `malloc_usable_size`, which are no events.
    pub usable_size_calls: u64,
    /// Why recording stopped before the program ended, if it did.
    pub stopped: Option<String>,
    /// What recording an operation cost on this machine, measured before the run by a loop with and
    /// without the recorder, in picoseconds of CPU time.
    pub overhead_ps_per_operation: Option<u64>,
    /// CPU time of the program under the recorder, user and system.
    pub cpu_ns: Option<u64>,
    /// How much of its large blocks the program touched, by size, ascending. Empty if that was not asked
    /// for, or there were none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub touched: Vec<TouchedBlocks>,
}

/// Large blocks of about one size, and how much of them the program touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TouchedBlocks {
    /// The smallest size, in bytes. The largest is below that of the next class: there are four to each
    /// doubling, from 16 KiB on.
    pub from_bytes: u64,
    /// OS pages that lay in such blocks, of all blocks together.
    pub pages: u64,
    /// Those of them that the program touched before the block's end.
    pub touched_pages: u64,
}
