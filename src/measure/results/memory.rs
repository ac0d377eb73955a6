//! What the memory pass produced.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Memory of one child. RSS here is the allocator's alone: memory that was not there before its first
/// call, plus what it had taken before. It is private anonymous memory, shared memory that is no
/// file's, pages of hugetlbfs, and what of the private memory the kernel has moved to swap. What a
/// linked allocator's static constructors take, some ten KiB, is charged to none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemorySample {
    /// Memory the allocator held before the first operation: of a preloaded one, all that its start
    /// took; of others, the pages that were there and that blocks of the replay came to lie on, as
    /// those of the C library's heap.
    pub rss_start_bytes: u64,
    /// Highest RSS: at any moment, inside calls too, if `is_peak_of_every_moment`; otherwise at any
    /// sample. At any moment it may be too low by what the process read of files since the sample
    /// before, some KiB.
    pub rss_peak_bytes: u64,
    /// Highest RSS at the samples that a replaying thread took between two of its calls; others may
    /// have been inside theirs.
    pub rss_peak_between_calls_bytes: u64,
    /// Whether the kernel let its high-water mark be used.
    pub is_peak_of_every_moment: bool,
    /// Of the highest RSS at any sample: shared memory.
    pub shared_bytes_at_peak: u64,
    /// Of the highest RSS at any sample: pages of hugetlbfs.
    pub huge_bytes_at_peak: u64,
    /// Of the highest RSS at any sample: what was in swap.
    pub swapped_bytes_at_peak: u64,
    /// How far the kernel's counters, which curve and peak are from, were from an exact look at each
    /// page, both at the end of the replay; `None` if that is not possible.
    pub counter_difference_bytes: Option<u64>,
    /// Why the figures here are not the allocator's memory, if so: it must not be compared by them.
    pub unmeasurable: Option<String>,
    /// Mean RSS over the replay, weighted by time: in the order [`super::Order::Paced`] that is the recorded
    /// one, otherwise that of the memory pass, in which sampling takes its time too.
    pub rss_mean_bytes: u64,
    /// RSS right after every block was freed.
    pub rss_retained_bytes: u64,
    /// RSS 0.1 s later, after one more small allocation.
    pub rss_retained_100ms_bytes: Option<u64>,
    /// RSS 1 s later, after one more small allocation.
    pub rss_retained_1s_bytes: Option<u64>,
    /// Highest sum of requested bytes.
    pub live_bytes_peak: u64,
    /// Sum of usable bytes when the live bytes were at their peak.
    pub usable_bytes_peak: u64,
    /// Live bytes at their peak, each size class rounded up to whole OS pages: what an allocator with
    /// one run of pages for each class and no other waste would need. One that mixes classes on its
    /// pages can do with less: the lower bound is `live_bytes_peak`.
    pub live_page_bytes_peak: u64,
    /// How RSS at equal live bytes changed from early to late in the replay, as
    /// [`crate::measure::memory::drift`] defines it: 1.1 is a tenth more. `None` if live bytes never
    /// come back to where they were.
    pub drift: Option<f64>,
    /// What RSS consisted of at its peak between calls, seen in a second replay; the parts add up to
    /// it. `None` where the kernel does not let pages be looked at, and for kernels with threads of
    /// their own.
    pub parts: Option<MemoryParts>,
    /// Page faults from the allocator's first call to the end of the replay, draining not included;
    /// those of the replay's own writing into the blocks among them. What a preloaded allocator did
    /// when the process began is not.
    pub replay_minor_faults: u64,
    /// Those with input or output.
    pub replay_major_faults: u64,
    /// System calls made inside the allocator's functions on the replaying threads, by name, in the
    /// second replay, over the same stretch as the faults; those at the start and end of threads, and
    /// of the allocator's own threads, are not counted. `None` where the kernel does not let them be
    /// counted, and for kernels with threads of their own.
    pub system_calls: Option<BTreeMap<String, u64>>,
    /// The curve, by time, ascending. Operation numbers never fall; points share one where time
    /// passed without an operation being done, and at the end.
    pub curve: Vec<MemoryPoint>,
}

/// What the allocator's memory consists of. All in bytes; the sum of the last four is `rss_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryParts {
    /// Operations performed when this was looked at.
    pub operation: u64,
    /// The allocator's RSS, page by page.
    pub rss_bytes: u64,
    /// The same by the kernel's counters, at the same moment.
    pub counted_bytes: u64,
    /// Requested and not yet freed, as far as resident.
    pub live_bytes: u64,
    /// Usable bytes beyond the requested ones, as far as resident.
    pub internal_bytes: u64,
    /// The rest of the resident OS pages on which a block lies or has lain: free memory and headers
    /// between blocks.
    pub external_bytes: u64,
    /// Resident OS pages on which no block has ever lain: metadata, and pages never used.
    pub metadata_bytes: u64,
}

/// Memory at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryPoint {
    /// Operations performed so far.
    pub operation: u64,
    /// Time since the first operation.
    pub elapsed_ns: u64,
    /// Requested and not yet freed.
    pub live_bytes: u64,
    /// Live bytes rounded up to what the allocator really gave.
    pub usable_bytes: u64,
    /// The allocator's RSS.
    pub rss_bytes: u64,
}
