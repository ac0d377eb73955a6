//! What stands below the results of a workload: memory, threads, single samples.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::table::{Table, TableRow, optional, row_name, written};
use crate::measure::memory::allowed_difference_bytes;
use crate::measure::pairs::Heap;
use crate::measure::results::{
    Estimate, MemorySample, Pass, ProgramMemory, ProgramSample, WorkloadKind,
};
use crate::report::model::{Row, Workload};
use crate::report::samples;
use crate::report::{bounds, format};
use crate::statistics::median;

/// `mmap 41, munmap 12`; the most frequent first.
pub(super) fn calls_words(calls: &BTreeMap<String, u64>) -> String {
    if calls.is_empty() {
        return "none".to_owned();
    }
    let mut calls: Vec<(&String, &u64)> = calls.iter().collect();
    calls.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let words: Vec<String> = calls
        .iter()
        .map(|(name, count)| format!("{name} {}", format::count(**count)))
        .collect();
    words.join(", ")
}

/// Memory in numbers; `None` where none was measured.
pub(super) fn memory(workload: &Workload<'_>) -> Option<Table> {
    let rows: Vec<(&Row<'_>, &MemorySample)> = workload
        .rows
        .iter()
        .filter(|row| row.is_ok())
        .filter_map(|row| Some((row, row.memory?)))
        .collect();
    rows.first()?;
    let bytes = |row: &Row<'_>, value: Option<u64>| written(row.rss_words(value));
    let mut lines: Vec<TableRow> = rows
        .iter()
        .map(|(row, memory)| {
            let drift = row.summary.drift.filter(|drift| drift.is_finite());
            TableRow {
                name: row_name(row),
                cells: vec![
                    bytes(row, row.summary.rss_peak_bytes),
                    bytes(row, Some(memory.rss_peak_between_calls_bytes)),
                    bytes(row, row.summary.rss_mean_bytes),
                    optional(drift, format::ratio),
                    bytes(row, row.summary.rss_retained_bytes),
                    bytes(row, memory.rss_retained_100ms_bytes),
                    bytes(row, row.summary.rss_retained_1s_bytes),
                    written(format::count(
                        memory.replay_minor_faults + memory.replay_major_faults,
                    )),
                    written(
                        memory
                            .system_calls
                            .as_ref()
                            .map_or(format::ABSENT.to_owned(), calls_words),
                    ),
                ],
            }
        })
        .collect();
    for (bytes, name) in bounds::of_memory(workload) {
        let mut cells = vec![written(format::bytes(bytes))];
        cells.resize_with(9, || written(format::ABSENT));
        lines.push(TableRow {
            name: format!("({name})"),
            cells,
        });
    }
    Some(Table {
        title: format!("Memory on {}", workload.name),
        corner: "Subject",
        headings: [
            "Peak RSS",
            "between calls",
            "Mean RSS",
            "Drift",
            "Retained, at once",
            "after 0.1\u{a0}s",
            "after 1\u{a0}s",
            "Page faults",
            "System calls",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows: lines,
    })
}

const MEMORY_NOTES: [&str; 2] = [
    "Peak RSS: at any moment, inside calls too; between calls: at the samples that the lines are made of. Mean: weighted \
     by time. Drift: RSS at equal live bytes, rising or falling alike, late against early; 1.1 is a tenth more. Retained: \
     still held after everything was freed. In brackets: no allocators.",
    "Page faults and system calls are counted from the allocator's first call to the end of the replay, draining not \
     included; the faults of writing into the blocks are among them. What a preloaded allocator did when the process \
     began is in its RSS only. System calls are those inside the allocator's functions: not those of its own threads, \
     nor at the start and end of threads.",
];

const KERNEL_NOTE: &str = "The threads of this workload are its own: nobody can look between their operations. So there are no \
     parts and no system calls, and pages of the C library's heap that the start of the process touched are not in its RSS.";

/// What must be known beside the table of memory: its words, and what was found that is not in it.
pub(super) fn memory_notes(workload: &Workload<'_>) -> Vec<String> {
    let memories: Vec<(&Row<'_>, &MemorySample)> = workload
        .rows
        .iter()
        .filter(|row| row.is_ok())
        .filter_map(|row| Some((row, row.memory?)))
        .collect();
    let mut notes = Vec::new();
    if !memories.is_empty() {
        notes.extend(MEMORY_NOTES.map(str::to_owned));
    }
    let is_kernel = workload
        .record
        .is_some_and(|record| record.kind == WorkloadKind::Threads);
    if is_kernel && !memories.is_empty() {
        notes.push(KERNEL_NOTE.to_owned());
    }
    let list = |words: Vec<String>, sentence: &dyn Fn(String) -> String| {
        (!words.is_empty()).then(|| sentence(format::list(&words)))
    };
    let bytes = |bytes: u64| format::bytes(bytes as f64);
    let unseen = memories
        .iter()
        .filter(|(_, memory)| !memory.is_peak_of_every_moment)
        .map(|(row, _)| row.name().to_owned());
    notes.extend(list(unseen.collect(), &|names| {
        format!("The kernel did not tell the peak inside calls, so that both peaks are the same: {names}.")
    }));
    let kinds = memories.iter().flat_map(|(row, memory)| {
        [
            (memory.shared_bytes_at_peak, "shared memory"),
            (memory.huge_bytes_at_peak, "pages of hugetlbfs"),
            (memory.swapped_bytes_at_peak, "in swap"),
        ]
        .into_iter()
        .filter(|(held, _)| *held > 0)
        .map(move |(held, kind)| format!("{} {} {kind}", row.name(), bytes(held)))
    });
    notes.extend(list(kinds.collect(), &|words| {
        format!("In the peaks, besides private memory: {words}.")
    }));
    let off = memories.iter().filter_map(|(row, memory)| {
        let off = memory.counter_difference_bytes?;
        let is_far = off > allowed_difference_bytes(memory.rss_peak_bytes);
        is_far.then(|| format!("{} {}", row.name(), bytes(off)))
    });
    notes.extend(list(off.collect(), &|words| {
        format!(
            "The kernel's counters, from which curve and peak are, were off from an exact look at each page, as those \
             of Linux 6.2 to 6.16 can be: {words}. Parts and retained memory are exact."
        )
    }));
    let hidden = workload
        .rows
        .iter()
        .filter_map(|row| Some(format!("{}: {}", row.name(), row.unmeasurable?)));
    notes.extend(hidden.map(|words| format!("Not measurable: {words}.")));
    notes
}

/// CPU time, which is compared, and wall time with its own verdict beside it, of replays on several
/// threads; how much of each the harness needs, and the waiting.
pub(super) fn threads(workload: &Workload<'_>) -> Option<Table> {
    workload.record?.threaded?;
    let time = |estimate: Option<Estimate>| {
        optional(estimate, |estimate| format::time_ns(estimate.median))
    };
    let rows = workload.rows.iter().filter(|row| row.is_ok());
    let rows = rows.map(|row| TableRow {
        name: row_name(row),
        cells: vec![
            time(row.summary.ns_per_operation),
            optional(row.summary.harness_share, format::percent),
            time(row.summary.wall_ns_per_operation),
            optional(row.summary.wall_ratio_to_baseline, |ratio| {
                format::ratio(ratio.median)
            }),
            written(crate::report::threads::wall_words(row)),
            optional(row.summary.wall_harness_share, format::percent),
            optional(row.summary.waiting_share, format::percent),
        ],
    });
    Some(Table {
        title: format!("CPU and wall time on {}", workload.name),
        corner: "Subject",
        headings: [
            "CPU time per operation",
            "of it null\u{2019}s",
            "Wall time per operation",
            "Wall ratio",
            "By wall time",
            "of it null\u{2019}s",
            "Share of time waiting",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows: rows.collect(),
    })
}

/// A real program under each subject.
pub(super) fn program(workload: &Workload<'_>) -> Option<Table> {
    workload.program()?;
    let rows = workload.rows.iter().filter(|row| row.is_ok());
    let rows = rows.map(|row| {
        let of_pass = |pass: Pass| {
            let samples = row.samples.iter().filter(move |sample| sample.pass == pass);
            samples.filter_map(|sample| sample.program.as_ref())
        };
        let timed: Vec<&ProgramSample> = of_pass(Pass::Program).collect();
        let looked: Vec<ProgramMemory> = of_pass(Pass::Memory)
            .filter_map(|sample| sample.memory)
            .collect();
        let time = |value: fn(&ProgramSample) -> u64| {
            let values: Vec<f64> = timed.iter().map(|sample| value(sample) as f64).collect();
            optional(median(&values), format::time_ns)
        };
        let memory = |value: fn(&ProgramMemory) -> u64| {
            let values: Vec<f64> = looked.iter().map(|memory| value(memory) as f64).collect();
            // 0 is what the kernel did not tell.
            optional(median(&values).filter(|bytes| *bytes > 0.0), format::bytes)
        };
        TableRow {
            name: row_name(row),
            cells: vec![
                time(|sample| sample.wall_ns),
                time(|sample| sample.user_ns),
                time(|sample| sample.system_ns),
                written(format::count(timed.len() as u64)),
                memory(|memory| memory.rss_peak_bytes),
                memory(|memory| memory.rss_sum_peak_bytes),
                memory(|memory| memory.rss_largest_bytes),
                optional(
                    looked.iter().map(|memory| memory.processes_peak).max(),
                    |count| format::count(count.into()),
                ),
            ],
        }
    });
    Some(Table {
        title: format!("Time and memory of {}", workload.name),
        corner: "Subject",
        headings: [
            "Wall time",
            "User time",
            "System time",
            "Timed runs",
            "Peak memory",
            "Its processes together, as sampled",
            "Its largest process, by the kernel",
            "Processes at once",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows: rows.collect(),
    })
}

/// More outliers than this are counted, not listed.
const OUTLIERS_MAX: usize = 40;

/// Outliers on either heap with what happened during them; `None` if there are none.
pub(super) fn outliers(workload: &Workload<'_>) -> Option<Table> {
    let mut rows = Vec::new();
    for row in workload.rows.iter().chain(&workload.twin) {
        for heap in Heap::ALL {
            let far = samples::timed(row, heap).into_iter();
            rows.extend(
                far.filter(|timed| timed.is_outlier)
                    .map(|timed| outlier(row, heap, &timed)),
            );
        }
    }
    let title = match rows.len().saturating_sub(OUTLIERS_MAX) {
        0 => format!("Outliers on {}", workload.name),
        more => format!(
            "Outliers on {}: the first {OUTLIERS_MAX}, and {} more in results.json",
            workload.name,
            format::count(more as u64)
        ),
    };
    rows.truncate(OUTLIERS_MAX);
    (!rows.is_empty()).then(|| Table {
        title,
        corner: "Subject",
        headings: [
            "Heap",
            "Block",
            "Time per operation",
            "To its median",
            "Page faults",
            "Forced switches",
            "Own switches",
            "Steal time, whole sample",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows,
    })
}

fn outlier(row: &Row<'_>, heap: Heap, timed: &samples::Timed<'_>) -> TableRow {
    let sample = timed.sample;
    let operations = sample.operations.max(1) as f64;
    let usage = samples::usage(sample, heap);
    let name = match heap {
        Heap::Fresh => "fresh",
        Heap::Used => "used",
    };
    TableRow {
        name: row_name(row),
        cells: vec![
            written(name.to_owned()),
            written(format::count(u64::from(sample.block) + 1)),
            written(format::time_ns(timed.time_ns / operations)),
            written(format!("{}×", format::ratio(timed.relative))),
            written(format::count(usage.minor_faults + usage.major_faults)),
            written(format::count(usage.involuntary_switches)),
            written(format::count(usage.voluntary_switches)),
            optional(sample.steal_ns, |ns| format::time_ns(ns as f64)),
        ],
    }
}
