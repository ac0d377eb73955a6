//! Two files -> the rows of a comparison, not yet judged.
//!
//! Every workload and subject of the old file becomes rows, a loss, or a note.

#![forbid(unsafe_code)]

use super::judge::Evidence;
use super::{BLOCKS_MIN, Change, Loss, Range};
use crate::measure::pairs::{self, Heap};
use crate::measure::results::{Estimate, Results, Status};
use crate::statistics::groups::bootstrap_quotient;
use crate::statistics::{bootstrap_median, median};

/// Two files, and how their blocks go together.
pub(super) struct Pair<'a> {
    pub(super) old: &'a Results,
    pub(super) new: &'a Results,
    pub(super) same_run: bool,
    pub(super) allow_missing: bool,
}

/// How a workload went under a subject, in one file.
enum State {
    /// It was not measured.
    Absent,
    /// It failed.
    Failed(Status, Option<String>),
    /// It ended well, and was not timed.
    Untimed,
    /// It has a time.
    Timed,
}

impl State {
    fn of(results: &Results, workload: &str, subject: &str) -> Self {
        let mut rows = results.summary.iter();
        let row = rows.find(|row| row.workload == workload && row.subject == subject);
        match row {
            None => Self::Absent,
            Some(row) if row.status != Status::Ok => Self::Failed(row.status, row.reason.clone()),
            Some(_)
                if pairs::times(&results.samples, workload, subject, Heap::Fresh).is_empty() =>
            {
                Self::Untimed
            }
            Some(_) => Self::Timed,
        }
    }
}

impl Pair<'_> {
    /// Rows of a workload: what can be compared, and what was lost. The rest gets a note.
    pub(super) fn add_rows(
        &self,
        workload: &str,
        subjects: &[(String, String)],
        rows: &mut Vec<Change>,
        notes: &mut Vec<String>,
    ) {
        let baseline = self.new.settings.baseline.as_str();
        let has_ratios =
            self.same_run || self.is_timed(workload, (baseline, baseline), rows, notes);
        if let Some(twin) = self.common_twin().filter(|_| !self.same_run) {
            self.is_timed(workload, (twin, twin), rows, notes);
        }
        let mut skipped = Vec::new();
        for (old_subject, new_subject) in subjects {
            let names = (old_subject.as_str(), new_subject.as_str());
            let is_baseline = names == (baseline, baseline);
            // The baseline's own loss was told above.
            if (is_baseline && !self.same_run && !has_ratios)
                || !self.is_timed(workload, names, rows, notes)
            {
                continue;
            }
            if !has_ratios {
                skipped.push(new_subject.as_str());
                continue;
            }
            for heap in Heap::ALL {
                rows.extend(self.change(workload, names, heap));
            }
        }
        if !skipped.is_empty() {
            notes.push(format!(
                "{workload}: there is no time of {baseline}, the baseline, in both files, so these are not \
                 compared: {}.",
                skipped.join(", ")
            ));
        }
    }

    /// Whether both files have a time. If only the old one has, that is a row; anything else that is
    /// in either file gets a note.
    fn is_timed(
        &self,
        workload: &str,
        names: (&str, &str),
        rows: &mut Vec<Change>,
        notes: &mut Vec<String>,
    ) -> bool {
        use State::{Absent, Failed, Timed, Untimed};
        let (before, after) = (
            State::of(self.old, workload, names.0),
            State::of(self.new, workload, names.1),
        );
        let mut lose = |loss| rows.push(Change::lost(workload, names, Heap::Fresh, loss));
        let words = match (before, after) {
            (Timed, Timed) => return true,
            (Absent, Absent) => return false,
            (Timed | Untimed, Failed(status, reason)) => {
                lose(Loss::Failed { status, reason });
                return false;
            }
            (Timed, Absent) if self.allow_missing => "is only in the old file",
            // Of two different allocators, one may be no choice for a workload at all.
            (Timed, Absent) if names.0 != names.1 => "has no time of the second one",
            (Timed, Absent | Untimed) => {
                lose(Loss::NotMeasured);
                return false;
            }
            (Untimed, Absent | Untimed) | (Absent, Untimed) => "has no time in either file",
            (Failed(..), Failed(..)) => "failed in both files",
            (Failed(..), Absent | Untimed) => {
                "failed in the old file and has no time in the new one"
            }
            (Failed(..), Timed) => "failed in the old file; there is nothing to compare with",
            (Absent, Failed(..)) => "is only in the new file, and failed there",
            (Absent | Untimed, Timed) => "has a time only in the new file",
        };
        let name = match names {
            (one, other) if one == other => one.to_owned(),
            (one, other) => format!("{one} → {other}"),
        };
        notes.push(format!("{workload}, {name}: {words}."));
        false
    }

    fn change(&self, workload: &str, names: (&str, &str), heap: Heap) -> Option<Change> {
        let before = ratios(self.old, workload, names.0, heap);
        let after = ratios(self.new, workload, names.1, heap);
        let evidence = self.evidence(workload, names, heap);
        match (evidence.counts(), heap) {
            // Real programs have no used heap, and nothing but times in other blocks than the
            // baseline's leaves a fresh one without a ratio.
            ((0, _), Heap::Used) => return None,
            ((_, 0) | (0, _), _) => {
                return Some(Change::lost(workload, names, heap, Loss::NotMeasured));
            }
            _ => {}
        }
        let blocks = evidence.counts();
        let has_interval = blocks.0.min(blocks.1) >= BLOCKS_MIN;
        let estimate = self.estimate(&evidence);
        let interval = estimate.filter(|_| has_interval).map(|estimate| Range {
            low: estimate.low,
            high: estimate.high,
        });
        Some(Change {
            old_ratio: median(&before),
            new_ratio: median(&after),
            blocks,
            change: evidence.median(),
            interval,
            extremes: evidence.extremes(),
            noise_floor: self.noise_floor(workload, heap),
            p_value: Some(evidence.p_value()),
            rss_peak_change: self.rss_change(workload, names),
            loss: None,
            ..Change::lost(workload, names, heap, Loss::NotMeasured)
        })
    }

    /// What the blocks of both files say of two subjects.
    fn evidence(&self, workload: &str, names: (&str, &str), heap: Heap) -> Evidence {
        if self.same_run {
            let times = |results: &Results, subject: &str| {
                pairs::times(&results.samples, workload, subject, heap)
            };
            let (before, after) = (times(self.old, names.0), times(self.new, names.1));
            Evidence::Paired(pairs::ratios(&after, &before))
        } else {
            Evidence::Independent {
                before: ratios(self.old, workload, names.0, heap),
                after: ratios(self.new, workload, names.1, heap),
            }
        }
    }

    fn estimate(&self, evidence: &Evidence) -> Option<Estimate> {
        let (resamples, seed) = (
            self.new.settings.bootstrap_resamples,
            self.new.settings.seed,
        );
        let interval = match evidence {
            Evidence::Paired(ratios) => bootstrap_median(ratios, resamples, seed),
            Evidence::Independent { before, after } => {
                bootstrap_quotient(after, before, resamples, seed)
            }
        }?;
        Some(Estimate {
            median: interval.median,
            low: interval.low,
            high: interval.high,
        })
    }

    /// The twin's own change between the files or, inside a run, how it differs from the baseline.
    fn noise_floor(&self, workload: &str, heap: Heap) -> Option<Estimate> {
        let names = if self.same_run {
            let baseline = self.new.settings.baseline.as_str();
            (baseline, twin(self.new)?)
        } else {
            (twin(self.old)?, twin(self.new)?)
        };
        let evidence = self.evidence(workload, names, heap);
        let (before, after) = evidence.counts();
        self.estimate(&evidence)
            .filter(|_| before.min(after) >= BLOCKS_MIN)
    }

    fn rss_change(&self, workload: &str, names: (&str, &str)) -> Option<f64> {
        let of = |results: &Results, subject: &str| {
            let mut rows = results.summary.iter();
            let row = rows.find(|row| row.workload == workload && row.subject == subject)?;
            if self.same_run {
                row.rss_peak_bytes.map(|bytes| bytes as f64)
            } else {
                row.rss_peak_ratio_to_baseline
            }
        };
        let (before, after) = (of(self.old, names.0)?, of(self.new, names.1)?);
        Some(after / before).filter(|change| change.is_finite() && *change > 0.0)
    }

    /// The baseline's second name, if it has the same one in both files.
    fn common_twin(&self) -> Option<&str> {
        twin(self.old).filter(|name| twin(self.new) == Some(name))
    }
}

/// Per-block ratios to the baseline; none if the baseline failed.
fn ratios(results: &Results, workload: &str, subject: &str, heap: Heap) -> Vec<f64> {
    let baseline = results.settings.baseline.as_str();
    if !matches!(State::of(results, workload, baseline), State::Timed) {
        return Vec::new();
    }
    let times = |subject| pairs::times(&results.samples, workload, subject, heap);
    pairs::ratios(&times(subject), &times(baseline))
}

fn twin(results: &Results) -> Option<&str> {
    results.settings.baseline_twin.as_deref()
}
