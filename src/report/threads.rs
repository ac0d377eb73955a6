//! What a report says of replays on several threads. The same in the terminal and on the page.

#![forbid(unsafe_code)]

use super::facts::Fact;
use super::format;
use super::model::{Row, Workload};
use super::sure::verdict_words;
use crate::measure::results::{Order, SummaryRow, ThreadedRecord, Verdict};

/// The threads of a replay on several, in one phrase.
pub(crate) fn phrase(workload: &Workload<'_>) -> Option<String> {
    let threaded = workload.record?.threaded?;
    Some(format!(
        "{} replayed, at most {} alive at once",
        format::plural(threaded.threads.into(), "thread", "threads"),
        threaded.threads_alive_peak
    ))
}

/// What stands below a table, in sentences; empty for a replay on one thread.
pub(crate) fn sentences(workload: &Workload<'_>) -> Vec<String> {
    if !is_threaded(workload) {
        return Vec::new();
    }
    let mut sentences = vec![COMPARED.to_owned()];
    let walls: Vec<String> = judged_rows(workload)
        .filter_map(|row| {
            let ratio = row.summary.wall_ratio_to_baseline?;
            Some(format!(
                "{} {} ({})",
                row.name(),
                format::ratio(ratio.median),
                wall_words(row)
            ))
        })
        .collect();
    if !walls.is_empty() {
        sentences.push(format!("By wall time: {}.", walls.join(", ")));
    }
    sentences.extend(
        [
            waiting_words(workload),
            harness_words(workload),
            lateness_words(workload),
            live_words(workload),
        ]
        .into_iter()
        .flatten()
        .map(|words| format!("{words}.")),
    );
    sentences
}

const COMPARED: &str = "Compared is the CPU time of the threads at their operations, without what the \
                        hand-over between them takes.";

fn is_threaded(workload: &Workload<'_>) -> bool {
    workload
        .record
        .is_some_and(|record| record.threaded.is_some())
}

/// Subjects whose wall time is compared with the baseline's.
fn judged_rows<'w, 'r>(workload: &'w Workload<'r>) -> impl Iterator<Item = &'w Row<'r>> {
    let rows = workload.rows.iter();
    rows.filter(|row| row.is_ok() && row.is_candidate() && !row.is_baseline)
}

/// The verdict on wall time, or why there is none.
pub(crate) fn wall_words(row: &Row<'_>) -> &'static str {
    let summary = row.summary;
    match summary.wall_verdict {
        Verdict::Unknown if summary.lateness_mean_ns.is_some() => "the recording's own pace",
        Verdict::Unknown if summary.wall_harness_share.is_some_and(|share| share > 0.5) => {
            "mostly the harness's"
        }
        Verdict::Unknown => "not judged",
        verdict => verdict_words(verdict),
    }
}

/// The least and the greatest of a share over the allocators.
fn range(workload: &Workload<'_>, of: fn(&SummaryRow) -> Option<f64>) -> Option<String> {
    let mut shares: Vec<f64> = workload
        .rows
        .iter()
        .filter(|row| row.is_candidate())
        .filter_map(|row| of(row.summary))
        .filter(|share| share.is_finite())
        .collect();
    shares.sort_by(f64::total_cmp);
    Some(format!(
        "{} to {}",
        format::percent(*shares.first()?),
        format::percent(*shares.last()?)
    ))
}

/// How much of the threads' time was spent waiting.
fn waiting_words(workload: &Workload<'_>) -> Option<String> {
    let range = range(workload, |row| row.waiting_share)?;
    Some(format!(
        "Threads waited for one another for {range} of the time they were alive"
    ))
}

/// How much of the times the harness accounts for, as `null` shows.
fn harness_words(workload: &Workload<'_>) -> Option<String> {
    let cpu = range(workload, |row| row.harness_share)?;
    let wall = range(workload, |row| row.wall_harness_share)?;
    Some(format!(
        "null, which does nothing, needs {cpu} of the CPU time compared and {wall} of the wall time"
    ))
}

fn lateness_words(workload: &Workload<'_>) -> Option<String> {
    let rows = workload.rows.iter().filter(|row| row.is_candidate());
    let means = rows.filter_map(|row| row.summary.lateness_mean_ns);
    let worst = means.fold(None, |worst: Option<f64>, mean| {
        Some(worst.map_or(mean, |worst| worst.max(mean)))
    })?;
    Some(format!(
        "Operations began {} later than recorded on the average, at worst",
        format::time_ns(worst)
    ))
}

/// Recorded and replayed peak of live bytes, and why they differ.
fn live_words(workload: &Workload<'_>) -> Option<String> {
    let record = workload.record?;
    let (threaded, recorded) = (record.threaded?, record.profile.as_ref()?.live_bytes_peak);
    let peaks: Vec<u64> = workload
        .rows
        .iter()
        .filter_map(|row| row.summary.live_bytes_peak)
        .collect();
    let (least, most) = (peaks.iter().min()?, peaks.iter().max()?);
    let words = format!(
        "Live bytes were {} at the peak as recorded, {} to {} as replayed",
        format::bytes(recorded as f64),
        format::bytes(*least as f64),
        format::bytes(*most as f64)
    );
    Some(match threaded.window {
        Some(window) if (*least, *most) != (recorded, recorded) => format!(
            "{words}: threads run ahead of each other by up to {} operations or {}",
            format::count(window.operations.into()),
            format::bytes(window.bytes as f64)
        ),
        _ => words,
    })
}

/// What threads did in the replay, and what they waited for.
pub(crate) fn facts(workload: &Workload<'_>) -> Vec<Fact> {
    let Some(record) = workload.record else {
        return Vec::new();
    };
    let Some(threaded) = record.threaded else {
        return Vec::new();
    };
    let order = record.order.map_or("its own", order_words);
    let mut facts = vec![
        Fact::new("Order", order),
        Fact::new(
            "Threads replayed",
            format!(
                "{}, at most {} alive at once",
                format::count(threaded.threads.into()),
                threaded.threads_alive_peak
            ),
        ),
        Fact::new("Edges", edge_words(&threaded)),
        Fact::new(
            "Cross-thread frees",
            format!(
                "{}: blocks freed or reallocated by another thread than allocated them",
                format::count(threaded.cross_thread_frees)
            ),
        ),
        Fact::new("Compared", COMPARED),
    ];
    let more = [
        ("Waiting", waiting_words(workload)),
        ("Harness", harness_words(workload)),
        ("Lateness", lateness_words(workload)),
        ("Live bytes", live_words(workload)),
    ];
    facts.extend(
        more.into_iter()
            .filter_map(|(name, words)| Some(Fact::new(name, words?))),
    );
    facts
}

fn edge_words(threaded: &ThreadedRecord) -> String {
    let edges = format!(
        "{}: places where a thread waits for another's operation",
        format::count(threaded.edges)
    );
    match threaded.window {
        Some(window) => format!(
            "{edges}; and {} of the harness's own, so that no thread runs ahead of another by more \
             than {} operations or {} allocated or freed",
            format::count(threaded.window_edges),
            format::count(window.operations.into()),
            format::bytes(window.bytes as f64)
        ),
        None => edges,
    }
}

/// An order of replay.
pub(crate) fn order_words(order: Order) -> &'static str {
    match order {
        Order::Serial => "serial: threads replayed in recorded order on one thread",
        Order::Threads => {
            "threads: a thread waits for another where a block changes hands, and so as not to run far ahead"
        }
        Order::Strict => "strict: the recorded total order on the recorded threads",
        Order::Paced => "paced: threads, and no operation before its recorded time",
    }
}
