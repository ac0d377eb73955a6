//! Two results files -> what changed between them. Pure.
//!
//! Each time is taken relative to the baseline of its own run, block by block, and only these ratios
//! are compared: a machine that was slower on one day was slower for the baseline too, and cancels.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use serde::Serialize;

use super::noise::difference;
use super::pairs::{self, Heap};
use super::results::{
    Estimate, Results, Status, SubjectKind, SubjectRecord, Verdict, WorkloadRecord,
};
use super::summary::verdict;
use crate::error::{Error, Result};
use crate::statistics::groups::{bootstrap_quotient, rank_sum_p};
use crate::statistics::signed_rank::{ERROR_RATE, holm};

/// Fewer blocks on either side are not judged: no test of so few could tell anything.
pub const BLOCKS_MIN: usize = 6;

/// What to compare.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The only subject of the old file; all of them if `None`.
    pub old_subject: Option<String>,
    /// The only subject of the new file; all of them if `None`.
    pub new_subject: Option<String>,
    /// Compare in spite of different machines.
    pub across_machines: bool,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Name of the subject that ratios refer to in both files.
    pub baseline: String,
    /// One row per workload, subject and heap, in the order of the new file.
    pub rows: Vec<Change>,
    /// Differences judged, for which the verdicts are corrected.
    pub comparisons: usize,
    /// Sentences on what is not among the rows, and on what limits them.
    pub notes: Vec<String>,
}

/// One workload under one subject, in both files.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The workload.
    pub workload: String,
    /// The subject in the old file.
    pub old_subject: String,
    /// The subject in the new file.
    pub new_subject: String,
    /// Which of the times: `fresh` the first replay of each process, `used` the later ones.
    pub heap: HeapName,
    /// How it ended in the new file.
    pub status: Status,
    /// Why, if not `ok`.
    pub reason: Option<String>,
    /// Median of the ratio to the baseline in the old file.
    pub old_ratio: Option<f64>,
    /// The same in the new file.
    pub new_ratio: Option<f64>,
    /// Blocks in the old file and in the new one.
    pub blocks: (usize, usize),
    /// New ratio ÷ old ratio: above 1 is slower now.
    pub change: Option<Estimate>,
    /// The same of the baseline's twin: what no change at all looks like.
    pub noise_floor: Option<Estimate>,
    /// Probability of such a difference if nothing changed, before the correction for the number of
    /// comparisons.
    pub p_value: Option<f64>,
    /// Faster or slower than it was.
    pub verdict: Verdict,
    /// Peak RSS, relative to the baseline's, new ÷ old. Not judged.
    pub rss_peak_change: Option<f64>,
}

/// [`Heap`] as written in JSON and tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeapName {
    /// [`Heap::Fresh`]
    Fresh,
    /// [`Heap::Used`]
    Used,
}

impl Change {
    /// Whether a gate with this limit, a share, has to close: the subject is called slower and its
    /// median is above the limit, or it no longer finishes.
    pub fn fails(&self, limit: f64) -> bool {
        let is_above = self
            .change
            .is_some_and(|change| change.median > 1.0 + limit);
        self.status != Status::Ok || (self.verdict == Verdict::Slower && is_above)
    }
}

/// Compares two files; bootstrap settings are the new file's.
///
/// # Errors
///
/// The files cannot be compared: other baseline, machine, settings or trace, nothing in common, or
/// too few blocks for any verdict. The message says which, and what to do.
pub fn compare(old: &Results, new: &Results, selection: &Selection) -> Result<Comparison> {
    check_settings(old, new)?;
    if !selection.across_machines {
        check_machines(old, new)?;
    }
    let mut notes = Vec::new();
    let workloads = common_workloads(old, new, &mut notes)?;
    let subjects = subject_pairs(old, new, selection, &mut notes)?;
    let mut rows = Vec::new();
    for workload in &workloads {
        for (old_subject, new_subject) in &subjects {
            for heap in Heap::ALL {
                let names = (old_subject.as_str(), new_subject.as_str());
                rows.extend(change(old, new, workload, names, heap, &mut notes));
            }
        }
    }
    if rows.is_empty() {
        return Err(Error::usage(
            "there is nothing to compare: no subject has a time on the same workload in both files",
        ));
    }
    if rows.iter().any(|row| row.change.is_some())
        && rows
            .iter()
            .all(|row| row.p_value.is_none() && row.status == Status::Ok)
    {
        return Err(Error::usage(format!(
            "too few blocks for any verdict: each side needs at least {BLOCKS_MIN}; measure with more blocks"
        )));
    }
    let comparisons = judge(&mut rows);
    if rows.iter().all(|row| row.noise_floor.is_none()) {
        notes.push(
            "No noise floor: the baseline's twin is not in both files; verdicts rest on the blocks alone."
                .to_owned(),
        );
    }
    Ok(Comparison {
        baseline: new.settings.baseline.clone(),
        rows,
        comparisons,
        notes,
    })
}

fn change(
    old: &Results,
    new: &Results,
    workload: &str,
    (old_subject, new_subject): (&str, &str),
    heap: Heap,
    notes: &mut Vec<String>,
) -> Option<Change> {
    let old_status = status(old, workload, old_subject)?;
    let (status, reason) = status(new, workload, new_subject)?;
    if old_status.0 != Status::Ok {
        if heap == Heap::Fresh {
            notes.push(format!(
                "{workload}, {old_subject}: had no result in the old file; nothing to compare with."
            ));
        }
        return None;
    }
    let before = ratios(old, workload, old_subject, heap);
    let after = if status == Status::Ok {
        ratios(new, workload, new_subject, heap)
    } else {
        Vec::new()
    };
    let has_failed = status != Status::Ok;
    // A failure is one row, and so is a workload without a used heap.
    if (has_failed && heap == Heap::Used)
        || (!has_failed && (before.is_empty() || after.is_empty()))
    {
        return None;
    }
    let change = quotient(&after, &before, new);
    let is_judged = before.len().min(after.len()) >= BLOCKS_MIN && change.is_some();
    let twins = twin(old).zip(twin(new));
    let noise_floor = twins.and_then(|(old_twin, new_twin)| {
        let (before, after) = (
            ratios(old, workload, old_twin, heap),
            ratios(new, workload, new_twin, heap),
        );
        quotient(&after, &before, new).filter(|_| before.len().min(after.len()) >= BLOCKS_MIN)
    });
    let median = crate::statistics::median;
    Some(Change {
        workload: workload.to_owned(),
        old_subject: old_subject.to_owned(),
        new_subject: new_subject.to_owned(),
        heap: match heap {
            Heap::Fresh => HeapName::Fresh,
            Heap::Used => HeapName::Used,
        },
        status,
        reason,
        old_ratio: median(&before),
        new_ratio: median(&after),
        blocks: (before.len(), after.len()),
        change,
        noise_floor,
        p_value: is_judged.then(|| rank_sum_p(&after, &before)),
        verdict: Verdict::Unknown,
        rss_peak_change: rss_ratio(new, workload, new_subject)
            .zip(rss_ratio(old, workload, old_subject))
            .map(|(after, before)| after / before)
            .filter(|change| change.is_finite()),
    })
}

fn quotient(after: &[f64], before: &[f64], new: &Results) -> Option<Estimate> {
    let settings = &new.settings;
    let interval = bootstrap_quotient(after, before, settings.bootstrap_resamples, settings.seed)?;
    Some(Estimate {
        median: interval.median,
        low: interval.low,
        high: interval.high,
    })
}

/// Corrects the probabilities and gives the verdicts; returns how many there were.
fn judge(rows: &mut [Change]) -> usize {
    let judged: Vec<usize> = (0..rows.len())
        .filter(|&at| rows[at].p_value.is_some())
        .collect();
    let raw: Vec<f64> = judged.iter().filter_map(|&at| rows[at].p_value).collect();
    for (&at, differs) in judged.iter().zip(holm(&raw, ERROR_RATE)) {
        let floor = rows[at].noise_floor.map_or(0.0, |floor| {
            difference(floor.low).max(difference(floor.high))
        });
        let change = rows[at].change;
        rows[at].verdict =
            change.map_or(Verdict::Unknown, |change| verdict(change, differs, floor));
    }
    judged.len()
}

/// Per-block ratios to the baseline; none if the baseline failed.
fn ratios(results: &Results, workload: &str, subject: &str, heap: Heap) -> Vec<f64> {
    let baseline = results.settings.baseline.as_str();
    if status(results, workload, baseline).is_none_or(|(status, _)| status != Status::Ok) {
        return Vec::new();
    }
    let times = |subject| pairs::times(&results.samples, workload, subject, heap);
    pairs::ratios(&times(subject), &times(baseline))
}

/// How a row ended; `None` if it was not measured.
fn status(results: &Results, workload: &str, subject: &str) -> Option<(Status, Option<String>)> {
    let row = results
        .summary
        .iter()
        .find(|row| row.workload == workload && row.subject == subject)?;
    Some((row.status, row.reason.clone()))
}

fn rss_ratio(results: &Results, workload: &str, subject: &str) -> Option<f64> {
    results
        .summary
        .iter()
        .find(|row| row.workload == workload && row.subject == subject)?
        .rss_peak_ratio_to_baseline
        .filter(|ratio| *ratio > 0.0)
}

fn twin(results: &Results) -> Option<&str> {
    results.settings.baseline_twin.as_deref()
}

fn check_settings(old: &Results, new: &Results) -> Result<()> {
    let (a, b) = (&old.settings, &new.settings);
    if a.baseline != b.baseline {
        return Err(Error::usage(format!(
            "the files have different baselines ({} and {}): ratios to them cannot be compared; \
             measure one again with --baseline {}",
            a.baseline, b.baseline, a.baseline
        )));
    }
    let mut differences = Vec::new();
    if a.touch != b.touch {
        differences.push(format!("touch ({:?} and {:?})", a.touch, b.touch).to_lowercase());
    }
    if a.passes_per_sample != b.passes_per_sample {
        differences.push(format!(
            "replays per sample ({} and {})",
            a.passes_per_sample, b.passes_per_sample
        ));
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::usage(format!(
        "the files were measured with different settings: {}; measure one again with the other's",
        differences.join(", ")
    )))
}

/// What the machines of a file are, as far as times depend on it.
fn machines(results: &Results) -> BTreeSet<Vec<(&'static str, String)>> {
    let known = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
    let facts = results.runs.iter().map(|run| {
        let environment = &run.environment;
        vec![
            ("processor", known(&environment.cpu)),
            ("processors", environment.cpus.to_string()),
            ("kernel", known(&environment.kernel)),
            ("C library", known(&environment.libc)),
            (
                "transparent huge pages",
                known(&environment.transparent_huge_pages),
            ),
        ]
    });
    facts.collect()
}

fn check_machines(old: &Results, new: &Results) -> Result<()> {
    let (before, after) = (machines(old), machines(new));
    if before == after {
        return Ok(());
    }
    let told = |machines: &BTreeSet<Vec<(&'static str, String)>>, at: usize| -> String {
        let values: BTreeSet<&str> = machines.iter().map(|facts| facts[at].1.as_str()).collect();
        values.into_iter().collect::<Vec<_>>().join(" and ")
    };
    let names = before.iter().next().map_or(&[][..], Vec::as_slice);
    let differences: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(at, (name, _))| (name, told(&before, at), told(&after, at)))
        .filter(|(_, before, after)| before != after)
        .map(|(name, before, after)| format!("{name}: {before} before, {after} now"))
        .collect();
    Err(Error::usage(format!(
        "the files are from different machines ({}); measure both on one, or add --across-machines and \
         trust the ratios less",
        differences.join("; ")
    )))
}

fn common_workloads(old: &Results, new: &Results, notes: &mut Vec<String>) -> Result<Vec<String>> {
    let record = |results: &'_ Results, name: &str| -> Option<WorkloadRecord> {
        results
            .workloads
            .iter()
            .find(|record| record.name == name)
            .cloned()
    };
    let mut common = Vec::new();
    for after in &new.workloads {
        match record(old, &after.name) {
            Some(before) => {
                check_workload(&before, after)?;
                common.push(after.name.clone());
            }
            None => notes.push(format!("{}: only in the new file.", after.name)),
        }
    }
    for before in &old.workloads {
        if record(new, &before.name).is_none() {
            notes.push(format!("{}: only in the old file.", before.name));
        }
    }
    if common.is_empty() {
        let names = |results: &Results| {
            let names: Vec<&str> = results
                .workloads
                .iter()
                .map(|record| record.name.as_str())
                .collect();
            names.join(", ")
        };
        return Err(Error::usage(format!(
            "the files have no workload in common: {} in the old one, {} in the new one",
            names(old),
            names(new)
        )));
    }
    Ok(common)
}

/// Whether both files replayed the same thing in the same way.
fn check_workload(before: &WorkloadRecord, after: &WorkloadRecord) -> Result<()> {
    let differs = |what: &str| {
        Err(Error::usage(format!(
            "{}: {what}; measure one of them again",
            after.name
        )))
    };
    if before.kind != after.kind {
        return differs("the same name stands for another kind of workload in each file");
    }
    if before.order != after.order {
        let name = |record: &WorkloadRecord| record.order.map_or("none", |order| order.name());
        return differs(&format!(
            "replayed in order {} before and {} now",
            name(before),
            name(after)
        ));
    }
    if let (Some(a), Some(b)) = (&before.origin, &after.origin)
        && a.sha256 != b.sha256
    {
        return differs(&format!(
            "the traces differ (SHA-256 {:.12} before and {:.12} now)",
            a.sha256, b.sha256
        ));
    }
    let counts = |record: &WorkloadRecord| record.profile.as_ref().map(|profile| profile.counts);
    if counts(before) != counts(after) {
        return differs("the traces hold different operations");
    }
    if let (Some(a), Some(b)) = (&before.program, &after.program)
        && (&a.command, &a.version) != (&b.command, &b.version)
    {
        return differs("the program's command or version differs");
    }
    Ok(())
}

/// Which subject of the old file stands beside which of the new one.
fn subject_pairs(
    old: &Results,
    new: &Results,
    selection: &Selection,
    notes: &mut Vec<String>,
) -> Result<Vec<(String, String)>> {
    let has =
        |results: &Results, name: &str| results.subjects.iter().any(|subject| subject.name == name);
    let names = |results: &Results| {
        let names: Vec<&str> = results
            .subjects
            .iter()
            .map(|subject| subject.name.as_str())
            .collect();
        names.join(", ")
    };
    if let Some((one, other)) = match (&selection.old_subject, &selection.new_subject) {
        (None, None) => None,
        (Some(one), Some(other)) => Some((one, other)),
        (Some(name), None) | (None, Some(name)) => Some((name, name)),
    } {
        for (results, name, which) in [(old, one, "old"), (new, other, "new")] {
            if !has(results, name) {
                return Err(Error::usage(format!(
                    "the {which} file has no subject {name}; it has {}",
                    names(results)
                )));
            }
        }
        return Ok(vec![(one.clone(), other.clone())]);
    }
    let is_compared = |subject: &&SubjectRecord| {
        subject.kind != SubjectKind::Floor
            && subject.twin_of.is_none()
            && subject.name != new.settings.baseline
    };
    let mut pairs = Vec::new();
    for subject in new.subjects.iter().filter(is_compared) {
        if has(old, &subject.name) {
            pairs.push((subject.name.clone(), subject.name.clone()));
        } else {
            notes.push(format!("{}: only in the new file.", subject.name));
        }
    }
    for subject in old.subjects.iter().filter(is_compared) {
        if !has(new, &subject.name) {
            notes.push(format!("{}: only in the old file.", subject.name));
        }
    }
    if pairs.is_empty() {
        return Err(Error::usage(format!(
            "the files have no subject in common beside the baseline: {} in the old one, {} in the new one",
            names(old),
            names(new)
        )));
    }
    Ok(pairs)
}
