//! What is tested, and whether what a run called is right.

use std::time::Duration;

use super::COPIES;
use crate::error::{Error, Result};
use crate::measure::noise;
use crate::measure::pairs::Heap;
use crate::measure::results::{Estimate, Results, Status, Verdict};
use crate::plan::Rule;
use crate::statistics::signed_rank::{ERROR_RATE, fewest_blocks};

/// What is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// No difference, in quick runs.
    Same,
    /// 5 % slower, in default runs.
    Five,
    /// 2 % slower, known to ±0.5 %.
    Two,
}

impl Case {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Same, Self::Five, Self::Two];

    /// By how much the subject is slower, as a share.
    pub fn share(self) -> f64 {
        match self {
            Self::Same => 0.0,
            Self::Five => 0.05,
            Self::Two => 0.02,
        }
    }

    /// Of so many runs, in how many the verdict must be right.
    pub fn bar(self, runs: u32) -> u32 {
        match self {
            Self::Same => runs,
            // Nine of ten.
            Self::Five | Self::Two => runs - runs / 10,
        }
    }

    /// Of so many runs, in how many the interval must hold the true ratio. An interval of 95 % misses
    /// one time in twenty by its nature: the bar is what intervals that keep that promise reach in at
    /// least 98 of 100 self-tests.
    pub fn bar_for_intervals(self, runs: u32) -> u32 {
        match self {
            // Several intervals a run; what counts there is that no verdict follows from them.
            Self::Same => 0,
            Self::Five | Self::Two => binomial_bound(runs, 0.95, 0.02),
        }
    }

    pub(super) fn rule(self) -> Rule {
        match self {
            Self::Same => Rule::fixed(fewest_blocks(2 * COPIES.len(), ERROR_RATE).max(8)),
            Self::Five => Rule {
                blocks_min: 10,
                blocks_max: 10_000,
                precision: Some(0.015),
                budget: Some(Duration::from_secs(120)),
                comparisons: 2,
            },
            Self::Two => Rule {
                precision: Some(0.005),
                budget: None,
                ..Self::Five.rule()
            },
        }
    }
}

/// What one run called.
#[derive(Clone, Copy, Debug)]
pub struct Called {
    /// The verdict that is the furthest from the right one; on a fresh heap.
    pub verdict: Verdict,
    /// The ratio on a fresh heap; of the subject that differs most where nothing shall.
    pub ratio: Estimate,
    /// The true ratio.
    pub truth: f64,
    /// Blocks that were run.
    pub blocks: u32,
    /// The noise floor on a fresh heap.
    pub noise_floor: Option<f64>,
    /// Whether the verdicts are right.
    pub right: bool,
    /// Whether the interval holds the true ratio.
    pub holds: bool,
}

/// The most that so many trials reach with at least probability 1 − `error`, each a success with
/// probability `success`.
fn binomial_bound(trials: u32, success: f64, error: f64) -> u32 {
    // Summed from no success up; each term follows from the one before.
    let odds = success / (1.0 - success);
    let mut term = (1.0 - success).powi(trials.cast_signed());
    let mut below = 0.0;
    for successes in 0..trials {
        below += term;
        if below > error {
            return successes;
        }
        term *= odds * f64::from(trials - successes) / f64::from(successes + 1);
    }
    trials
}

/// What a run's results call the subjects.
pub(super) fn called(
    results: &Results,
    case: Case,
    truth: f64,
    names: &[String],
) -> Result<Called> {
    let wanted = match case {
        Case::Same => Verdict::NotDistinguishable,
        Case::Five | Case::Two => Verdict::Slower,
    };
    let mut worst: Option<Called> = None;
    let twin = results.settings.baseline_twin.as_deref();
    let floors = noise::floors(&results.summary, twin);
    for row in results
        .summary
        .iter()
        .filter(|row| names.contains(&row.subject))
    {
        let ratio = row.ratio_to_baseline.filter(|_| row.status == Status::Ok);
        let ratio = ratio.ok_or_else(|| {
            let reason = row.reason.as_deref().unwrap_or("it has no ratio");
            Error::Failed(format!("{} failed: {reason}", row.subject))
        })?;
        let holds = ratio.low <= truth && truth <= ratio.high;
        let right = match case {
            Case::Same => row.verdict == wanted && row.verdict_used_heap == wanted,
            Case::Five | Case::Two => row.verdict == wanted,
        };
        let one = Called {
            verdict: match case {
                Case::Same if row.verdict == wanted => row.verdict_used_heap,
                _ => row.verdict,
            },
            ratio,
            truth,
            blocks: row.blocks,
            noise_floor: floors.get(&(row.workload.clone(), Heap::Fresh)).copied(),
            right,
            holds,
        };
        let off = |called: &Called| noise::difference(called.ratio.median / truth);
        worst = match worst {
            Some(worst) if (worst.right, -off(&worst)) <= (right, -off(&one)) => Some(worst),
            _ => Some(one),
        };
    }
    worst.ok_or_else(|| Error::Failed("nothing was compared".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_nine_in_ten() {
        assert_eq!(Case::Five.bar(10), 9);
        assert_eq!(Case::Two.bar(1), 1);
        assert_eq!(Case::Same.bar(10), 10);
    }

    #[test]
    fn intervals_may_miss_as_often_as_they_say() {
        // Of 10: 7 or fewer hold in 1.15 % of self-tests, 8 or fewer in 8.6 %.
        assert_eq!(binomial_bound(10, 0.95, 0.02), 8);
        assert_eq!(binomial_bound(10, 0.95, 0.01), 7);
        assert_eq!(binomial_bound(1, 0.95, 0.02), 0);
        assert_eq!(binomial_bound(100, 0.95, 0.02), 90);
        assert_eq!(Case::Two.bar_for_intervals(10), 8);
    }
}
