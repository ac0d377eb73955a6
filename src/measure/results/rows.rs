//! The rows of the summary, computed from the samples.

#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

use super::{Estimate, LatencyRow, Status, Verdict};
use crate::measure::pairs::Heap;

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
