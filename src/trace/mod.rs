//! A trace: what a program asked of its allocator, in order. The one intermediate form between the
//! file formats (`import`), the generators (`workload`) and the replay.
//!
//! Blocks are named by [`BlockId`], one number per successful allocation, in the order in which
//! they were allocated; addresses of the recorded run do not survive reading.

#![forbid(unsafe_code)]

pub mod binary;
mod block_table;
pub mod builder;
pub mod export;
pub mod import;
mod input;
pub mod live_blocks;
pub mod profile;
mod provenance;
mod recording;
#[cfg(test)]
mod round_trip;
pub mod stream;
#[cfg(test)]
pub(crate) mod testing;
pub mod tools;
pub mod wire;

pub use export::{FileSink, Losses, OutputFormat, Written, create, write, write_to};
pub use import::{ReadOptions, read, read_bytes, read_into};
pub use recording::{Recording, TouchedBlocks};

use serde::{Deserialize, Serialize};

/// The largest size a request may have: no 64-bit machine offers a program more address space.
pub const SIZE_BYTES_MAX: u64 = 1 << 47;

/// Number of a block: the n-th block the trace allocates (a reallocation makes a new one).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BlockId(pub u32);

/// Number of a thread, from 0, in the order of first appearance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ThreadIndex(pub u32);

/// Number of a call site: where in the program the call stands, as the recording names it. Its name
/// stands in a table; number 0 is "unknown".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SiteId(pub u32);

/// The C function an aligned allocation was asked through.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AlignedFunction {
    /// `memalign`
    Memalign,
    /// `posix_memalign`
    PosixMemalign,
    /// `aligned_alloc`
    AlignedAlloc,
    /// `valloc`
    Valloc,
    /// `pvalloc`
    Pvalloc,
}

/// One request to the allocator, or a mark that is none. Sizes are in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// `malloc(size)`
    Malloc {
        /// The new block.
        block: BlockId,
        /// Requested bytes; may be 0.
        size: u64,
    },
    /// `calloc(count, size)`
    Calloc {
        /// The new block.
        block: BlockId,
        /// Number of elements.
        count: u32,
        /// Bytes of one element.
        size: u64,
    },
    /// `memalign(alignment, size)` and its relatives.
    Aligned {
        /// The new block.
        block: BlockId,
        /// Binary logarithm of the alignment.
        alignment_log2: u8,
        /// Through which function.
        function: AlignedFunction,
        /// Requested bytes.
        size: u64,
    },
    /// `realloc(old, size)` that returned a block; `old` is `None` for a null pointer.
    Realloc {
        /// The block given, which is gone afterwards.
        old: Option<BlockId>,
        /// The block returned, a new number even if the address stayed.
        block: BlockId,
        /// Requested bytes.
        size: u64,
    },
    /// `free(block)`; sized if the caller told the size (C++ sized delete, Rust dealloc).
    Free {
        /// The block given, which is gone afterwards.
        block: BlockId,
        /// Whether the caller passed the size.
        sized: bool,
    },
    /// `free(NULL)`: an operation all the same, and replayed.
    FreeNull,
    /// `free` of a block that was allocated before the recording began. Not replayed: no allocator
    /// can be given a block that it never gave. A `realloc` of such a block is this and a `malloc`.
    FreeUnseen,
    /// The thread began. Not an allocator operation.
    ThreadStart,
    /// The thread ended. Not an allocator operation.
    ThreadEnd,
    /// A statistics call, or another mark of the recording tool. Not an allocator operation.
    Mark,
    /// An allocation that returned null while recording. Kept in the count, not replayed.
    FailedAllocation,
}

impl Operation {
    /// The block this operation makes, if any.
    pub fn allocates(&self) -> Option<BlockId> {
        match *self {
            Self::Malloc { block, .. }
            | Self::Calloc { block, .. }
            | Self::Aligned { block, .. }
            | Self::Realloc { block, .. } => Some(block),
            _ => None,
        }
    }

    /// The block this operation ends, if any.
    pub fn releases(&self) -> Option<BlockId> {
        match *self {
            Self::Realloc { old, .. } => old,
            Self::Free { block, .. } => Some(block),
            _ => None,
        }
    }

    /// Bytes requested by an allocation; 0 for the others. `calloc`'s product saturates.
    pub fn requested_bytes(&self) -> u64 {
        match *self {
            Self::Malloc { size, .. } | Self::Aligned { size, .. } | Self::Realloc { size, .. } => {
                size
            }
            Self::Calloc { count, size, .. } => u64::from(count).saturating_mul(size),
            _ => 0,
        }
    }

    /// Whether replay performs it: a call that an allocator serves.
    pub fn is_replayed(&self) -> bool {
        !matches!(
            self,
            Self::FreeUnseen
                | Self::ThreadStart
                | Self::ThreadEnd
                | Self::Mark
                | Self::FailedAllocation
        )
    }
}

/// One line of a trace: who asked for what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// The thread that asked.
    pub thread: ThreadIndex,
    /// What it asked.
    pub operation: Operation,
}

/// How many events of each kind a trace has. `total()` is the number of events read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct EventCounts {
    /// `malloc`
    pub malloc: u64,
    /// `calloc`
    pub calloc: u64,
    /// `realloc`, of null as well
    pub realloc: u64,
    /// `memalign` and its relatives
    pub aligned: u64,
    /// `free` of a block
    pub free: u64,
    /// `free(NULL)`
    pub free_null: u64,
    /// `free` of a block that was allocated before the recording began: not replayed
    #[serde(default)]
    pub free_unseen: u64,
    /// Thread starts: not an allocator operation
    pub thread_start: u64,
    /// Thread ends: not an allocator operation
    pub thread_end: u64,
    /// Marks of the recording tool: not an allocator operation
    pub mark: u64,
    /// Allocations that had failed while recording: not replayed
    pub failed_allocation: u64,
}

impl EventCounts {
    /// Counts one more operation.
    pub fn add(&mut self, operation: &Operation) {
        let counter = match operation {
            Operation::Malloc { .. } => &mut self.malloc,
            Operation::Calloc { .. } => &mut self.calloc,
            Operation::Realloc { .. } => &mut self.realloc,
            Operation::Aligned { .. } => &mut self.aligned,
            Operation::Free { .. } => &mut self.free,
            Operation::FreeNull => &mut self.free_null,
            Operation::FreeUnseen => &mut self.free_unseen,
            Operation::ThreadStart => &mut self.thread_start,
            Operation::ThreadEnd => &mut self.thread_end,
            Operation::Mark => &mut self.mark,
            Operation::FailedAllocation => &mut self.failed_allocation,
        };
        *counter += 1;
    }

    /// Events that replay performs.
    pub fn operations(&self) -> u64 {
        self.malloc + self.calloc + self.realloc + self.aligned + self.free + self.free_null
    }

    /// All events, replayed or not.
    pub fn total(&self) -> u64 {
        self.operations()
            + self.free_unseen
            + self.thread_start
            + self.thread_end
            + self.mark
            + self.failed_allocation
    }
}

/// The grammar a trace was read from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Mozilla's logalloc log with addresses.
    LogallocRaw,
    /// Mozilla's logalloc log with slot numbers.
    LogallocMunged,
    /// The native text format: the same with lines of our own.
    Text,
    /// The Android Open Source Project's `memory_replay`.
    Android,
    /// CMU malloc lab `.rep`.
    Rep,
    /// The native binary format.
    Binary,
    /// glibc's `mtrace`.
    Mtrace,
    /// Valgrind's `--trace-malloc=yes`.
    Valgrind,
    /// `ltrace`.
    Ltrace,
    /// heaptrack, as recorded.
    HeaptrackRaw,
    /// heaptrack, after its interpreter.
    HeaptrackInterpreted,
    /// bytehound's `replay.dat`.
    Bytehound,
    /// DJ Delorie's malloc trace, one record per call.
    DjTrace,
    /// The text that `trace_dump` makes of it.
    DjDump,
    /// DJ Delorie's malloc workload.
    DjWorkload,
    /// Clayton Knittel's protocol buffers.
    Protobuf,
    /// alk's processed trace.
    Alk,
    /// chattymalloc's records.
    Chattymalloc,
    /// The text that chattymalloc's tools make of them.
    ChattymallocText,
    /// tracing-allocator's log.
    Tralloc,
    /// bcc's `memleak -t`.
    Memleak,
    /// `Allocate TAG SIZE`, `Free TAG`.
    Tags,
    /// What our own recorder writes while a program runs.
    Wire,
    /// Made by a generator of this project.
    Generated,
}

/// Where a trace came from, and what was lost on the way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Origin {
    /// File as named by the user, or the generator's name.
    pub source: String,
    /// Grammar of the file.
    pub format: Format,
    /// Compression of the file, outermost first: "gzip", "zstd", "zip".
    pub compression: Vec<String>,
    /// SHA-256 of the file's bytes as stored, hexadecimal; empty for a generated trace.
    pub sha256: String,
    /// Lines dropped in lenient mode.
    pub dropped_lines: u64,
    /// The first few dropped lines, each as an error would have told it.
    pub dropped_examples: Vec<String>,
    /// What the format cannot tell (alignments, thread ids, ...), in sentences.
    pub notes: Vec<String>,
    /// Signs that the input is truncated or altered, or was read otherwise than it stands, in
    /// sentences: whoever reads the trace's results must see them. Empty in older results.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// How our own recorder made it, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<Recording>,
}

impl Origin {
    /// The origin of a trace that a generator of this project made.
    pub fn generated(name: &str, notes: Vec<String>) -> Self {
        Self {
            source: name.to_owned(),
            format: Format::Generated,
            compression: Vec::new(),
            sha256: String::new(),
            dropped_lines: 0,
            dropped_examples: Vec::new(),
            notes,
            warnings: Vec::new(),
            recording: None,
        }
    }
}

/// A validated sequence of events. Made by [`builder::TraceBuilder`] only, which guarantees that
/// every block is allocated once, before it is released, and released at most once.
#[derive(Clone, PartialEq, Debug)]
pub struct Trace {
    origin: Origin,
    events: Vec<Event>,
    times_ns: Option<Vec<u64>>,
    sites: Option<Vec<SiteId>>,
    site_names: Vec<String>,
    counts: EventCounts,
    threads: u32,
    blocks: u32,
}

impl Trace {
    /// Where it came from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// All events in recorded order.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Time stamp of each event in nanoseconds, if the recording had them; as long as `events`.
    pub fn times_ns(&self) -> Option<&[u64]> {
        self.times_ns.as_deref()
    }

    /// Call site of each event, if the recording had them; as long as `events`.
    pub fn sites(&self) -> Option<&[SiteId]> {
        self.sites.as_deref()
    }

    /// Name of each call site, by number.
    pub fn site_names(&self) -> &[String] {
        &self.site_names
    }

    /// Events by kind.
    pub fn counts(&self) -> &EventCounts {
        &self.counts
    }

    /// Number of threads that appear.
    pub fn thread_count(&self) -> u32 {
        self.threads
    }

    /// What a reader or a file would tell at its end.
    pub fn ending(&self) -> stream::Ending {
        stream::Ending {
            origin: self.origin.clone(),
            site_names: self.site_names.clone(),
        }
    }

    /// Number of blocks allocated; block ids are below it.
    pub fn block_count(&self) -> u32 {
        self.blocks
    }
}

/// A number of things, in words.
pub(crate) fn plural(count: u64, thing: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{s}")
}

const _: () = assert!(size_of::<Event>() <= 32, "an event fits half a cache line");
