//! Two results files -> what changed between them. Pure.
//!
//! Each time is taken relative to the baseline of its own run, block by block, and only these ratios
//! are compared: a machine that was slower on one day was slower for the baseline too, and cancels.
//! Inside one run, two subjects are compared block by block, without the baseline.
//!
//! Nothing that the old file has a result of is left out in silence: what the new file lacks, or what
//! fails in it, closes a gate; what cannot be compared is a note. How differences are judged stands in
//! `judge`; what the two files must have in common, in `checks`; what becomes a row, in `rows`.

#![forbid(unsafe_code)]

mod checks;
mod judge;
mod rows;

use serde::Serialize;

use super::noise::difference;
use super::pairs::Heap;
use super::results::{Estimate, Results, Status, SubjectKind, SubjectRecord, Verdict};
use crate::error::{Error, Result};

/// With fewer blocks on either side there is no 95 % interval: that of a median needs six.
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
    /// Compare in spite of another version, build or environment of the baseline.
    pub other_baseline: bool,
    /// What the new file does not have at all is no loss.
    pub allow_missing: bool,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Name of the subject that ratios refer to in both files.
    pub baseline: String,
    /// Whether both files hold the same run, so that two subjects are compared block by block.
    pub same_run: bool,
    /// One row per workload, subject and heap, in the order of the new file.
    pub rows: Vec<Change>,
    /// Differences judged, for which the verdicts are corrected.
    pub comparisons: usize,
    /// Blocks on each side with which every row could be judged.
    pub blocks_needed: usize,
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
    /// Set if the old file has a time and the new one has none: all that follows is then absent.
    pub loss: Option<Loss>,
    /// Median of the ratio to the baseline in the old file.
    pub old_ratio: Option<f64>,
    /// The same in the new file.
    pub new_ratio: Option<f64>,
    /// Blocks in the old file and in the new one.
    pub blocks: (usize, usize),
    /// New ÷ old: above 1 is slower now.
    pub change: Option<f64>,
    /// Its 95 % interval; `None` with fewer than [`BLOCKS_MIN`] blocks on a side.
    pub interval: Option<Range>,
    /// What the single blocks show at the least and at the most; `None` with one block on a side.
    pub extremes: Option<Range>,
    /// The same as `change` of the baseline's twin: what no change at all looks like.
    pub noise_floor: Option<Estimate>,
    /// Probability of such a difference if nothing changed, before the correction for the number of
    /// comparisons; `None` if so few blocks could not be called different whatever they show.
    pub p_value: Option<f64>,
    /// Faster or slower than it was; unknown if it could not be judged.
    pub verdict: Verdict,
    /// Peak RSS, relative to the baseline's, new ÷ old. Not judged.
    pub rss_peak_change: Option<f64>,
}

/// Two ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Range {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Why there is no result any more.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Loss {
    /// It failed.
    Failed {
        /// How.
        status: Status,
        /// Why.
        reason: Option<String>,
    },
    /// No time of it is in the file.
    NotMeasured,
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

impl From<Heap> for HeapName {
    fn from(heap: Heap) -> Self {
        match heap {
            Heap::Fresh => Self::Fresh,
            Heap::Used => Self::Used,
        }
    }
}

/// What a gate does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing is slower by more than the limit.
    Passes,
    /// Something is, or has no result any more.
    Fails,
    /// Nothing fails, but most rows have too few blocks for any verdict: that nothing was found means
    /// nothing.
    Undecided,
}

impl Comparison {
    /// What a gate with this limit, a share, does.
    pub fn outcome(&self, limit: f64) -> Outcome {
        let measured = self.rows.iter().filter(|row| row.loss.is_none()).count();
        match () {
            () if self.rows.iter().any(|row| row.fails(limit)) => Outcome::Fails,
            () if 2 * self.unjudged() > measured => Outcome::Undecided,
            () => Outcome::Passes,
        }
    }

    /// Rows with times in both files, and too few blocks for any verdict.
    pub fn unjudged(&self) -> usize {
        let unknown = |row: &&Change| row.loss.is_none() && row.verdict == Verdict::Unknown;
        self.rows.iter().filter(unknown).count()
    }
}

impl Change {
    /// Whether a gate with this limit, a share, has to close: the subject is called slower and its
    /// median is above the limit, or it seems slower and cannot be judged, or it has no result any
    /// more.
    pub fn fails(&self, limit: f64) -> bool {
        let is_above = self.change.is_some_and(|change| change > 1.0 + limit);
        self.loss.is_some()
            || (self.verdict == Verdict::Slower && is_above)
            || self.seems_slower(limit)
    }

    /// Whether it cannot be judged, and all that it shows lies above the limit and the noise floor:
    /// its interval or, with too few blocks for one, every block. To let that pass would let a doubled
    /// time pass.
    pub fn seems_slower(&self, limit: f64) -> bool {
        let shown = self.interval.or(self.extremes);
        self.loss.is_none()
            && self.verdict == Verdict::Unknown
            && shown.is_some_and(|range| range.low > 1.0 + limit.max(self.noise_share()))
    }

    /// Whether it was judged and not called slower, though its own interval, uncorrected, lies above the
    /// limit and the noise floor: a reader should know, a gate stays open.
    pub fn is_close(&self, limit: f64) -> bool {
        let low = self.interval.map(|range| range.low);
        self.verdict == Verdict::NotDistinguishable
            && low.is_some_and(|low| low > 1.0 + limit.max(self.noise_share()))
    }

    /// The noise floor as a share; 0 if there is none.
    fn noise_share(&self) -> f64 {
        self.noise_floor.map_or(0.0, |floor| {
            difference(floor.low).max(difference(floor.high))
        })
    }

    fn lost(workload: &str, names: (&str, &str), heap: Heap, loss: Loss) -> Self {
        Self {
            workload: workload.to_owned(),
            old_subject: names.0.to_owned(),
            new_subject: names.1.to_owned(),
            heap: heap.into(),
            loss: Some(loss),
            old_ratio: None,
            new_ratio: None,
            blocks: (0, 0),
            change: None,
            interval: None,
            extremes: None,
            noise_floor: None,
            p_value: None,
            verdict: Verdict::Unknown,
            rss_peak_change: None,
        }
    }
}

/// Compares two files; bootstrap settings are the new file's.
///
/// # Errors
///
/// The files cannot be compared: another baseline, machine, setting or workload of the same name, runs
/// that they share in part, or nothing in common. The message says which, and what to do.
pub fn compare(old: &Results, new: &Results, selection: &Selection) -> Result<Comparison> {
    let same_run = old.runs == new.runs;
    let mut notes = Vec::new();
    checks::settings(old, new)?;
    if !same_run {
        checks::runs(old, new)?;
        if !selection.across_machines {
            checks::machines(old, new)?;
        }
        checks::baseline(old, new, selection.other_baseline, &mut notes)?;
        checks::tools(old, new, &mut notes);
    }
    let workloads = checks::workloads(old, new, &mut notes)?;
    let subjects = subject_pairs(old, new, selection)?;
    if !same_run {
        checks::subjects(old, new, &subjects, &mut notes);
    }
    let pair = rows::Pair {
        old,
        new,
        same_run,
        allow_missing: selection.allow_missing,
    };
    let mut rows = Vec::new();
    for workload in &workloads {
        pair.add_rows(workload, &subjects, &mut rows, &mut notes);
    }
    if rows.is_empty() {
        return Err(Error::usage(
            "there is nothing to compare: no subject has a time on the same workload in both files",
        ));
    }
    let comparisons = judge::judge(&mut rows, same_run);
    let measured = rows.iter().filter(|row| row.loss.is_none());
    let has_floor = measured.clone().any(|row| row.noise_floor.is_some());
    let count = measured.count();
    if !has_floor && count > 0 {
        notes.push(
            "No noise floor: the baseline's twin is not in both files, or in too few blocks; verdicts \
             rest on the blocks alone."
                .to_owned(),
        );
    }
    if !same_run {
        notes.push(run_to_run(old, new));
    }
    Ok(Comparison {
        baseline: new.settings.baseline.clone(),
        same_run,
        rows,
        comparisons,
        blocks_needed: judge::blocks_needed(count, same_run).max(BLOCKS_MIN),
        notes,
    })
}

/// What a comparison of two files cannot see.
fn run_to_run(old: &Results, new: &Results) -> String {
    let sides = match (old.runs.len(), new.runs.len()) {
        (1, 1) => "Each side is one run".to_owned(),
        (before, now) => format!(
            "The blocks of {before} old and {now} new runs count as if each side were one run"
        ),
    };
    format!(
        "{sides}: what changes from run to run for one subject and not for the baseline is taken for a \
         change. The noise floor covers the baseline alone. Before a decision that matters, measure \
         both once more."
    )
}

/// Which subject of the old file stands beside which of the new one: the two that were asked for, or
/// each under its own name, whether it is in both files or not.
fn subject_pairs(
    old: &Results,
    new: &Results,
    selection: &Selection,
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
    let of = |results: &Results| -> Vec<String> {
        let compared = results.subjects.iter().filter(is_compared);
        compared.map(|subject| subject.name.clone()).collect()
    };
    let (before, mut all) = (of(old), of(new));
    if !before.iter().any(|name| all.contains(name)) {
        return Err(Error::usage(format!(
            "the files have no subject in common beside the baseline: {} in the old one, {} in the new one",
            names(old),
            names(new)
        )));
    }
    let lost = before.into_iter().filter(|name| !has(new, name));
    let lost: Vec<String> = lost.collect();
    all.extend(lost);
    Ok(all.into_iter().map(|name| (name.clone(), name)).collect())
}
