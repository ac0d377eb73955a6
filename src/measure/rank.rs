//! Results -> one line per allocator over all workloads. Pure.
//!
//! Each workload counts the same, whatever its length: the geometric mean of its ratios. Allocators
//! are compared only on workloads on which all of the ranked ones finished; where one failed is said
//! beside it.

#![forbid(unsafe_code)]

use serde::Serialize;

use super::pairs::{self, Heap};
use super::results::{Estimate, Results, Status, SubjectKind, SubjectRecord};
use crate::statistics::geometric_mean;

/// Whether a subject is this project's own: it has a stake in its rank, and reports say so.
pub fn is_own(results: &Results, subject: &str) -> bool {
    let record = results.subjects.iter().find(|one| one.name == subject);
    record.is_some_and(|record| record.is_own)
}

/// Allocators in order of their time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ranking {
    /// Name of the subject that ratios refer to.
    pub baseline: String,
    /// Whether this project's own allocators were left out.
    pub without_own: bool,
    /// Workloads in the file.
    pub workloads: usize,
    /// Those with a time of every ranked allocator: what times are the mean of.
    pub workloads_time: Vec<String>,
    /// Those among them with a peak RSS of every ranked allocator: what memory is the mean of.
    pub workloads_memory: Vec<String>,
    /// The ranked allocators, the fastest first.
    pub rows: Vec<Ranked>,
    /// Allocators that finished fewer than half of the workloads.
    pub unranked: Vec<Unranked>,
}

/// One allocator over the common workloads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ranked {
    /// From 1; allocators share a place if their interval overlaps that of its first.
    pub place: usize,
    /// The allocator.
    pub subject: String,
    /// Whether it is this project's own.
    pub is_own: bool,
    /// Geometric mean of its time ratios to the baseline on a fresh heap.
    pub time_to_baseline: Estimate,
    /// Geometric mean of its time, on each workload relative to the fastest ranked allocator there.
    pub time_to_best: f64,
    /// Geometric mean of its peak RSS, relative to the baseline's; `None` without a workload for it.
    pub rss_to_baseline: Option<f64>,
    /// The same, relative to the leanest ranked allocator on each workload.
    pub rss_to_best: Option<f64>,
    /// Whether no other ranked allocator takes less time and less memory; `None` without memory.
    pub is_on_front: Option<bool>,
    /// Where it failed.
    pub failures: Vec<Failure>,
}

/// An allocator that could not be ranked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unranked {
    /// The allocator.
    pub subject: String,
    /// Workloads on which it has a time.
    pub finished: usize,
    /// Where it failed.
    pub failures: Vec<Failure>,
}

/// A workload without a result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failure {
    /// The workload.
    pub workload: String,
    /// How it ended.
    pub status: Status,
    /// Why.
    pub reason: Option<String>,
}

/// What one allocator did on one workload.
struct Cell {
    /// Per-block ratios to the baseline, of each run.
    times: Vec<Vec<f64>>,
    rss: Option<f64>,
}

impl Cell {
    fn time(&self) -> f64 {
        let mean = geometric_mean(std::slice::from_ref(&self.times), 1, 0);
        mean.map_or(f64::NAN, |mean| mean.median)
    }
}

/// Ranks the allocators of a file, with or without this project's own.
pub fn rank(results: &Results, without_own: bool) -> Ranking {
    let is_ranked = |subject: &&SubjectRecord| {
        subject.kind != SubjectKind::Floor
            && subject.twin_of.is_none()
            && !(without_own && subject.is_own)
    };
    let subjects: Vec<&str> = results
        .subjects
        .iter()
        .filter(is_ranked)
        .map(|subject| subject.name.as_str())
        .collect();
    let workloads: Vec<&str> = results
        .workloads
        .iter()
        .map(|workload| workload.name.as_str())
        .collect();
    let finished = |subject: &str| {
        workloads
            .iter()
            .filter(|workload| cell(results, workload, subject).is_some())
            .count()
    };
    // On a workload without the baseline nobody has a ratio: that is nobody's failure to rank.
    let rankable = subjects
        .iter()
        .map(|name| finished(name))
        .max()
        .unwrap_or(0);
    let (ranked, unranked): (Vec<&str>, Vec<&str>) = subjects
        .iter()
        .partition(|name| finished(name) > 0 && 2 * finished(name) >= rankable);
    let table: Vec<(&str, Vec<Cell>)> = workloads
        .iter()
        .filter_map(|workload| {
            let cells: Option<Vec<Cell>> = ranked
                .iter()
                .map(|subject| cell(results, workload, subject))
                .collect();
            Some((*workload, cells?))
        })
        .collect();
    let with_memory: Vec<&(&str, Vec<Cell>)> = table
        .iter()
        .filter(|(_, cells)| cells.iter().all(|cell| cell.rss.is_some()))
        .collect();
    let mut rows: Vec<Ranked> = ranked
        .iter()
        .enumerate()
        .filter_map(|(at, subject)| row(results, subject, at, &table, &with_memory))
        .collect();
    rows.sort_by(|a, b| {
        a.time_to_baseline
            .median
            .total_cmp(&b.time_to_baseline.median)
    });
    mark_front(&mut rows);
    give_places(&mut rows);
    Ranking {
        baseline: results.settings.baseline.clone(),
        without_own,
        workloads: workloads.len(),
        workloads_time: table.iter().map(|(name, _)| (*name).to_owned()).collect(),
        workloads_memory: with_memory
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect(),
        rows,
        unranked: unranked
            .iter()
            .map(|subject| Unranked {
                subject: (*subject).to_owned(),
                finished: finished(subject),
                failures: failures(results, subject),
            })
            .collect(),
    }
}

/// `None` if it was not measured there, failed, or has no ratio.
fn cell(results: &Results, workload: &str, subject: &str) -> Option<Cell> {
    let row = |name: &str| {
        results
            .summary
            .iter()
            .find(|row| row.workload == workload && row.subject == name && row.status == Status::Ok)
    };
    let baseline = results.settings.baseline.as_str();
    let (own, _) = (row(subject)?, row(baseline)?);
    let times = |name| pairs::times(&results.samples, workload, name, Heap::Fresh);
    let times = pairs::ratios_by_run(&times(subject), &times(baseline));
    let times: Vec<Vec<f64>> = times.into_values().collect();
    (!times.is_empty()).then_some(Cell {
        times,
        rss: own
            .rss_peak_ratio_to_baseline
            .filter(|ratio| ratio.is_finite() && *ratio > 0.0),
    })
}

fn row(
    results: &Results,
    subject: &str,
    at: usize,
    table: &[(&str, Vec<Cell>)],
    with_memory: &[&(&str, Vec<Cell>)],
) -> Option<Ranked> {
    let settings = &results.settings;
    let groups: Vec<Vec<Vec<f64>>> = table
        .iter()
        .map(|(_, cells)| cells[at].times.clone())
        .collect();
    let time = geometric_mean(&groups, settings.bootstrap_resamples, settings.seed)?;
    let least = |cells: &[Cell], value: fn(&Cell) -> f64| {
        cells.iter().map(value).fold(f64::INFINITY, f64::min)
    };
    let times: Vec<f64> = table
        .iter()
        .map(|(_, cells)| cells[at].time() / least(cells, Cell::time))
        .collect();
    let rss = |cell: &Cell| cell.rss.unwrap_or(f64::NAN);
    let memory: Vec<f64> = with_memory
        .iter()
        .map(|(_, cells)| rss(&cells[at]))
        .collect();
    let memory_to_best: Vec<f64> = with_memory
        .iter()
        .map(|(_, cells)| rss(&cells[at]) / least(cells, rss))
        .collect();
    Some(Ranked {
        place: 0,
        subject: subject.to_owned(),
        is_own: is_own(results, subject),
        time_to_baseline: Estimate {
            median: time.median,
            low: time.low,
            high: time.high,
        },
        time_to_best: mean(&times)?,
        rss_to_baseline: mean(&memory),
        rss_to_best: mean(&memory_to_best),
        is_on_front: None,
        failures: failures(results, subject),
    })
}

/// The geometric mean of single values.
fn mean(values: &[f64]) -> Option<f64> {
    let alone: Vec<Vec<Vec<f64>>> = values.iter().map(|value| vec![vec![*value]]).collect();
    geometric_mean(&alone, 1, 0).map(|mean| mean.median)
}

fn failures(results: &Results, subject: &str) -> Vec<Failure> {
    let failed = results
        .summary
        .iter()
        .filter(|row| row.subject == subject && row.status != Status::Ok);
    failed
        .map(|row| Failure {
            workload: row.workload.clone(),
            status: row.status,
            reason: row.reason.clone(),
        })
        .collect()
}

/// Pareto's front: who is beaten by nobody in both.
fn mark_front(rows: &mut [Ranked]) {
    let points: Vec<Option<(f64, f64)>> = rows
        .iter()
        .map(|row| Some((row.time_to_baseline.median, row.rss_to_baseline?)))
        .collect();
    for (row, own) in rows.iter_mut().zip(&points) {
        row.is_on_front = own.map(|(time, rss)| {
            !points.iter().flatten().any(|&(other_time, other_rss)| {
                other_time <= time && other_rss <= rss && (other_time < time || other_rss < rss)
            })
        });
    }
}

/// Rows sorted by time; those whose interval overlaps that of the first of a place share it.
fn give_places(rows: &mut [Ranked]) {
    let mut leader: Option<(usize, Estimate)> = None;
    for (at, row) in rows.iter_mut().enumerate() {
        let own = row.time_to_baseline;
        match leader {
            Some((place, first)) if own.low <= first.high => row.place = place,
            _ => {
                row.place = at + 1;
                leader = Some((row.place, own));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranked(subject: &str, time: f64, rss: Option<f64>) -> Ranked {
        Ranked {
            place: 0,
            subject: subject.to_owned(),
            is_own: false,
            time_to_baseline: Estimate {
                median: time,
                low: time * 0.98,
                high: time * 1.02,
            },
            time_to_best: 1.0,
            rss_to_baseline: rss,
            rss_to_best: None,
            is_on_front: None,
            failures: Vec::new(),
        }
    }

    #[test]
    fn the_front_is_those_whom_nobody_beats_in_both() {
        let mut rows = [
            ranked("fast", 0.7, Some(1.4)),
            ranked("middle", 0.8, Some(1.1)),
            ranked("beaten", 0.9, Some(1.2)),
            ranked("lean", 1.0, Some(1.0)),
            ranked("unknown", 0.5, None),
        ];
        mark_front(&mut rows);
        let front: Vec<Option<bool>> = rows.iter().map(|row| row.is_on_front).collect();
        assert_eq!(
            front,
            [Some(true), Some(true), Some(false), Some(true), None]
        );
        // Twins do not beat one another.
        let mut twins = [ranked("a", 1.0, Some(1.0)), ranked("b", 1.0, Some(1.0))];
        mark_front(&mut twins);
        assert!(twins.iter().all(|row| row.is_on_front == Some(true)));
    }

    #[test]
    fn overlapping_intervals_share_a_place() {
        let mut rows = [
            ranked("a", 0.70, None),
            ranked("b", 0.72, None),
            ranked("c", 0.74, None),
            ranked("d", 0.75, None),
        ];
        give_places(&mut rows);
        let places: Vec<usize> = rows.iter().map(|row| row.place).collect();
        assert_eq!(places, [1, 1, 3, 3]);
    }
}
