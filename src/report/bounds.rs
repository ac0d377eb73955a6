//! What no allocator can do better than, and what the charts hold allocators against.

#![forbid(unsafe_code)]

use super::model::{Report, Row, Workload};
use crate::measure::rank::Ranking;
use crate::measure::results::MemorySample;

/// How charts name them.
pub(crate) const TIME_BOUND: &str = "lower bound: bump on a used heap";
pub(crate) const LIVE_BOUND: &str = "lower bound: live bytes";
pub(crate) const PAGES_REFERENCE: &str = "reference: page runs";
/// The same in a sentence.
pub(crate) const PAGES_WORDS: &str = "the live bytes in one run of OS pages per size class, which an allocator that mixes classes can undercut";

/// `bump`'s time per operation over memory that is there already, which is the lower bound of time. On
/// a fresh heap it takes a page fault for each page, since it never uses one again: that is no bound,
/// and where nothing else was measured there is none.
pub(crate) fn time_ns(workload: &Workload<'_>) -> Option<f64> {
    let time = bump(workload)?.summary.ns_per_operation_used_heap?.median;
    (time.is_finite() && time > 0.0).then_some(time)
}

/// The same relative to the baseline's time on a fresh heap.
pub(crate) fn time_ratio(workload: &Workload<'_>) -> Option<f64> {
    let base = workload.baseline_row()?.summary.ns_per_operation?.median;
    let ratio = time_ns(workload)? / base;
    (ratio.is_finite() && ratio > 0.0).then_some(ratio)
}

/// Whether this row is that of `bump`, and has a time.
pub(crate) fn is_bump(row: &Row<'_>) -> bool {
    row.is_floor && row.is_ok() && row.name() == "bump"
}

fn bump<'w, 'a>(workload: &'w Workload<'a>) -> Option<&'w Row<'a>> {
    workload.rows.iter().find(|row| is_bump(row))
}

/// The lower bound of memory: the live bytes at their peak. The lowest of the samples', since threads
/// take another way each time.
pub(crate) fn live_bytes(workload: &Workload<'_>) -> Option<u64> {
    least(workload, |memory| memory.live_bytes_peak)
}

/// A reference for memory: see [`PAGES_WORDS`].
pub(crate) fn page_run_bytes(workload: &Workload<'_>) -> Option<u64> {
    least(workload, |memory| memory.live_page_bytes_peak)
}

fn least(workload: &Workload<'_>, of: fn(&MemorySample) -> u64) -> Option<u64> {
    let rows = workload.rows.iter().filter(|row| row.is_candidate());
    rows.filter_map(|row| row.memory)
        .map(of)
        .filter(|&bytes| bytes > 0)
        .min()
}

/// Both of memory, with their names, where they are known.
pub(crate) fn of_memory(workload: &Workload<'_>) -> Vec<(f64, &'static str)> {
    let live = live_bytes(workload).map(|bytes| (bytes as f64, LIVE_BOUND));
    let pages = page_run_bytes(workload).map(|bytes| (bytes as f64, PAGES_REFERENCE));
    live.into_iter().chain(pages).collect()
}

/// Over the workloads of a ranking, relative to the baseline: geometric means like the ranking's own.
pub(crate) struct OfRanking {
    pub(crate) time: Option<f64>,
    pub(crate) memory: Vec<(f64, &'static str)>,
}

/// `None` for what is not known on every one of the workloads: means over others compare nothing.
pub(crate) fn of_ranking(report: &Report<'_>, ranking: &Ranking) -> OfRanking {
    let mean = |names: &[String], of: &dyn Fn(&Workload<'_>) -> Option<f64>| {
        let workload = |name: &String| report.workloads.iter().find(|w| w.name == *name);
        let ratios: Option<Vec<f64>> = names.iter().map(|name| of(workload(name)?)).collect();
        let ratios = ratios.filter(|ratios| !ratios.is_empty())?;
        let logarithms: f64 = ratios.iter().map(|ratio| ratio.ln()).sum();
        let mean = (logarithms / ratios.len() as f64).exp();
        (mean.is_finite() && mean > 0.0).then_some(mean)
    };
    let relative = |workload: &Workload<'_>, bytes: Option<u64>| {
        let base = workload.baseline_row()?.summary.rss_peak_bytes?;
        (base > 0).then(|| Some(bytes? as f64 / base as f64))?
    };
    let live = mean(&ranking.workloads_memory, &|w| relative(w, live_bytes(w)));
    let pages = mean(&ranking.workloads_memory, &|w| {
        relative(w, page_run_bytes(w))
    });
    OfRanking {
        time: mean(&ranking.workloads_time, &time_ratio),
        memory: live
            .map(|ratio| (ratio, LIVE_BOUND))
            .into_iter()
            .chain(pages.map(|ratio| (ratio, PAGES_REFERENCE)))
            .collect(),
    }
}
