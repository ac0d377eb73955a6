//! Results -> one line per allocator over all workloads. Pure.
//!
//! Each workload counts the same, whatever its length: the geometric mean of its ratios. Allocators
//! are compared only on workloads on which all of the ranked ones finished; where one failed is said
//! beside it. Places and the front come from comparing all pairs: see `standing`.

#![forbid(unsafe_code)]

mod standing;

use serde::Serialize;

use super::noise::difference;
use super::pairs::{self, Heap};
use super::results::{Results, Status, SubjectKind, SubjectRecord};
use crate::statistics::{Interval, geometric_mean};
use standing::{BLOCKS_MIN, Times, Told};

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
    /// The ranked allocators, the least mean time first.
    pub rows: Vec<Ranked>,
    /// Noise floor: how far the baseline's twin is from the baseline over the same workloads, by the
    /// farther end of its interval, as a share. `None` without a twin, or with too few blocks.
    pub noise_floor: Option<f64>,
    /// Why there are no places and no front, if so.
    pub unplaced: Option<String>,
    /// Allocators that finished fewer than half of the workloads, or failed on more than a quarter:
    /// with them, there would be too few that all finished.
    pub unranked: Vec<Unranked>,
}

/// One allocator over the common workloads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ranked {
    /// From 1; allocators share a place if they are not told apart from its first. `None` if there are
    /// too few blocks to tell any apart.
    pub place: Option<usize>,
    /// The allocator.
    pub subject: String,
    /// Whether it is this project's own.
    pub is_own: bool,
    /// Geometric mean of its time ratios to the baseline on a fresh heap.
    pub time_to_baseline: f64,
    /// Its 95 % interval; `None` if a workload has fewer than six blocks.
    pub time_interval: Option<TimeInterval>,
    /// Geometric mean of its time, on each workload relative to the fastest ranked allocator there.
    pub time_to_best: f64,
    /// Geometric mean of its peak RSS, relative to the baseline's; `None` without a workload for it.
    pub rss_to_baseline: Option<f64>,
    /// The same, relative to the leanest ranked allocator on each workload.
    pub rss_to_best: Option<f64>,
    /// Whether no other ranked allocator is told to be faster at no more than 2 % more memory; `None`
    /// without memory or places.
    pub is_on_front: Option<bool>,
    /// Where it failed.
    pub failures: Vec<Failure>,
}

/// Ends of a 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TimeInterval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
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
    /// Its own times.
    times: Times,
    /// Their ratios to the baseline's, block by block, of each run.
    ratios: Vec<Vec<f64>>,
    rss: Option<f64>,
}

impl Cell {
    fn time(&self) -> f64 {
        let mean = geometric_mean(std::slice::from_ref(&self.ratios), 1, 0);
        mean.map_or(f64::NAN, |mean| mean.median)
    }

    /// Whether every run has the blocks that an interval needs.
    fn has_interval(&self) -> bool {
        self.ratios.iter().all(|ratios| ratios.len() >= BLOCKS_MIN)
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
    let (ranked, unranked): (Vec<&str>, Vec<&str>) = subjects.iter().partition(|name| {
        let failed = failures(results, name).len();
        finished(name) > 0 && 2 * finished(name) >= rankable && 4 * failed <= rankable
    });
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
    let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
    let noise_floor = noise_floor(results, &names);
    let mut rows: Vec<(usize, Ranked)> = ranked
        .iter()
        .enumerate()
        .filter_map(|(at, subject)| Some((at, row(results, subject, at, &table, &with_memory)?)))
        .collect();
    rows.sort_by(|(_, a), (_, b)| a.time_to_baseline.total_cmp(&b.time_to_baseline));
    let times: Vec<Vec<Times>> = table
        .iter()
        .map(|(_, cells)| cells.iter().map(|cell| cell.times.clone()).collect())
        .collect();
    let floor = noise_floor.unwrap_or(0.0);
    let unplaced = match standing::tell(&times, floor, results.settings.seed) {
        Ok(told) => {
            give_places(&mut rows, &told);
            mark_front(&mut rows, &told);
            None
        }
        Err(why) => Some(why),
    };
    let rows = rows.into_iter().map(|(_, row)| row).collect();
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
        noise_floor,
        unplaced,
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
    let own_times = times(subject);
    let ratios = pairs::ratios_by_run(&own_times, &times(baseline));
    let ratios: Vec<Vec<f64>> = ratios.into_values().collect();
    (!ratios.is_empty()).then_some(Cell {
        times: own_times,
        ratios,
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
        .map(|(_, cells)| cells[at].ratios.clone())
        .collect();
    let time = geometric_mean(&groups, settings.bootstrap_resamples, settings.seed)?;
    let has_interval = table.iter().all(|(_, cells)| cells[at].has_interval());
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
        place: None,
        subject: subject.to_owned(),
        is_own: is_own(results, subject),
        time_to_baseline: time.median,
        time_interval: has_interval.then_some(TimeInterval {
            low: time.low,
            high: time.high,
        }),
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

/// How far the twin is from the baseline over these workloads, as far as it finished them.
fn noise_floor(results: &Results, workloads: &[&str]) -> Option<f64> {
    let twin = results.settings.baseline_twin.as_deref()?;
    let cells = workloads
        .iter()
        .filter_map(|workload| cell(results, workload, twin));
    let cells: Vec<Cell> = cells.collect();
    let has_interval = cells.iter().all(Cell::has_interval);
    let groups: Vec<Vec<Vec<f64>>> = cells.into_iter().map(|cell| cell.ratios).collect();
    let settings = &results.settings;
    let Interval { low, high, .. } =
        geometric_mean(&groups, settings.bootstrap_resamples, settings.seed)?;
    has_interval.then(|| difference(low).max(difference(high)))
}

/// So much more memory is no disadvantage: peak RSS has no interval, and differs by as much for no
/// reason of the allocator's.
const MEMORY_TOLERANCE: f64 = 1.02;

/// Pareto's front: who is beaten by nobody. To beat takes a verdict in time, and memory that is not
/// more by over 2 %.
fn mark_front(rows: &mut [(usize, Ranked)], told: &Told) {
    let points: Vec<Option<(usize, f64)>> = rows
        .iter()
        .map(|(at, row)| Some((*at, row.rss_to_baseline?)))
        .collect();
    for ((_, row), own) in rows.iter_mut().zip(&points) {
        row.is_on_front = own.map(|(at, rss)| {
            !points.iter().flatten().any(|&(other, other_rss)| {
                told.is_faster(other, at) && other_rss <= rss * MEMORY_TOLERANCE
            })
        });
    }
}

/// Gives places to rows sorted by time; each stands beside its number among the ranked.
fn give_places(rows: &mut [(usize, Ranked)], told: &Told) {
    let order: Vec<usize> = rows.iter().map(|(at, _)| *at).collect();
    for ((_, row), place) in rows.iter_mut().zip(told.places(&order)) {
        row.place = Some(place);
    }
}
