//! Is a change one.
//!
//! Between two files the blocks of one have nothing to do with those of the other: the rank-sum test.
//! Inside one run both subjects ran in the same blocks, and what a block does to both cancels: the
//! signed-rank test on the ratios of each block.
//!
//! All rows of a comparison are one family: a gate asks whether *anything* became slower, so it shall
//! close wrongly in at most [`ERROR_RATE`] of the comparisons without a change, however many rows they
//! have. Smaller families, one per heap or per subject, would close it wrongly that often each.
//! What keeps the family small is that only rows count which could be called different at all. So few
//! blocks as six on either side have no smaller p-value than 2/924, whatever they show; with more than
//! 23 such rows, none can pass the correction (Tarone, A Modified Bonferroni Method for Discrete Data,
//! 1990). These rows are not "not distinguishable": they are not judged, and that is said.

#![forbid(unsafe_code)]

use super::{Change, Range};
use crate::measure::results::{Estimate, Verdict};
use crate::measure::summary::verdict;
use crate::statistics::groups::rank_sum_p;
use crate::statistics::median;
use crate::statistics::signed_rank::{ERROR_RATE, fewest_blocks, holm, signed_rank_p};

/// What is known of one change.
pub(super) enum Evidence {
    /// New ÷ old in each block of one run.
    Paired(Vec<f64>),
    /// Ratios to the baseline in the blocks of each file.
    Independent {
        /// Of the old file.
        before: Vec<f64>,
        /// Of the new file.
        after: Vec<f64>,
    },
}

impl Evidence {
    /// Blocks on each side.
    pub(super) fn counts(&self) -> (usize, usize) {
        match self {
            Self::Paired(ratios) => (ratios.len(), ratios.len()),
            Self::Independent { before, after } => (before.len(), after.len()),
        }
    }

    pub(super) fn median(&self) -> Option<f64> {
        match self {
            Self::Paired(ratios) => median(ratios),
            Self::Independent { before, after } => Some(median(after)? / median(before)?),
        }
    }

    /// What the blocks show at the least and at the most; one block shows nothing.
    pub(super) fn extremes(&self) -> Option<Range> {
        let ends = |values: &[f64]| {
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            (low, values.iter().copied().fold(0.0, f64::max))
        };
        let (before, after) = self.counts();
        (before.min(after) >= 2).then(|| match self {
            Self::Paired(ratios) => {
                let (low, high) = ends(ratios);
                Range { low, high }
            }
            Self::Independent { before, after } => {
                let ((old_low, old_high), (low, high)) = (ends(before), ends(after));
                Range {
                    low: low / old_high,
                    high: high / old_low,
                }
            }
        })
    }

    pub(super) fn p_value(&self) -> f64 {
        match self {
            Self::Paired(ratios) => {
                let logarithms: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
                signed_rank_p(&logarithms)
            }
            Self::Independent { before, after } => rank_sum_p(after, before),
        }
    }
}

/// The smallest p-value that so many blocks can have.
fn reach((before, after): (usize, usize), same_run: bool) -> f64 {
    if same_run {
        return 2.0 * 0.5f64.powf(before.min(after) as f64);
    }
    // 2 ÷ (n + m over n), factor by factor.
    let orders = (1..=after).map(|at| (before + at) as f64 / at as f64);
    2.0 / orders.product::<f64>()
}

/// Blocks on each side, with which each of so many rows can be judged.
pub(super) fn blocks_needed(rows: usize, same_run: bool) -> usize {
    if same_run {
        return fewest_blocks(rows, ERROR_RATE) as usize;
    }
    let level = ERROR_RATE / rows.max(1) as f64;
    (1..)
        .find(|&blocks| reach((blocks, blocks), same_run) <= level)
        .expect("the p-values fall without end")
}

/// Which rows belong to the family: those whose reach is within the level that the family's own size
/// leaves (Tarone). The data take no part in it, so the correction over the rest stays exact.
fn family(reaches: &[f64]) -> Vec<bool> {
    let within = |count: usize| {
        let level = ERROR_RATE / count as f64;
        reaches.iter().filter(|reach| **reach <= level).count()
    };
    let count = (1..=reaches.len().max(1)).find(|&count| within(count) <= count);
    let level = ERROR_RATE / count.unwrap_or(1) as f64;
    reaches.iter().map(|reach| *reach <= level).collect()
}

/// Gives the verdicts, corrected for the number of rows in the family (Holm); returns that number.
/// Other rows lose their p-value. As in a summary, the interval that is shown must exclude 1, and the
/// median be further from it than the noise floor.
pub(super) fn judge(rows: &mut [Change], same_run: bool) -> usize {
    let measured: Vec<usize> = (0..rows.len())
        .filter(|&at| rows[at].loss.is_none())
        .collect();
    let reaches: Vec<f64> = measured
        .iter()
        .map(|&at| match rows[at].interval {
            Some(_) => reach(rows[at].blocks, same_run),
            None => 1.0,
        })
        .collect();
    let mut judged = Vec::new();
    for (&at, belongs) in measured.iter().zip(family(&reaches)) {
        if belongs {
            judged.push(at);
        } else {
            rows[at].p_value = None;
        }
    }
    let raw: Vec<f64> = judged.iter().filter_map(|&at| rows[at].p_value).collect();
    for (&at, differs) in judged.iter().zip(holm(&raw, ERROR_RATE)) {
        let row = &mut rows[at];
        let estimate = row
            .change
            .zip(row.interval)
            .map(|(median, range)| Estimate {
                median,
                low: range.low,
                high: range.high,
            });
        row.verdict = estimate.map_or(Verdict::Unknown, |estimate| {
            verdict(estimate, differs, row.noise_share())
        });
    }
    judged.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reaches_are_what_the_tests_say_of_sets_apart() {
        for (before, after) in [(6, 6), (3, 9), (20, 12)] {
            let low: Vec<f64> = (0..before).map(|n| 1.0 + n as f64 / 100.0).collect();
            let high: Vec<f64> = (0..after).map(|n| 2.0 + n as f64 / 100.0).collect();
            let evidence = Evidence::Independent {
                before: low,
                after: high,
            };
            let reach = reach((before, after), false);
            assert!((evidence.p_value() / reach - 1.0).abs() < 1e-9);
        }
        let paired = Evidence::Paired(vec![1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7]);
        assert_eq!(paired.p_value(), reach((7, 7), true));
    }

    #[test]
    fn the_needed_blocks_are_the_fewest_that_do() {
        for same_run in [false, true] {
            for rows in [1, 4, 23, 24, 48, 500] {
                let blocks = blocks_needed(rows, same_run);
                let all = |blocks| family(&vec![reach((blocks, blocks), same_run); rows]);
                assert_eq!(all(blocks), vec![true; rows], "{rows}");
                assert_eq!(all(blocks - 1), vec![false; rows], "{rows}");
            }
        }
        assert_eq!((blocks_needed(23, false), blocks_needed(24, false)), (6, 7));
    }

    #[test]
    fn rows_that_cannot_be_judged_cost_the_others_nothing() {
        // One row of many blocks among forty of six: it alone is the family.
        let mut reaches = vec![2.0 / 924.0; 40];
        reaches.push(1e-9);
        let family = family(&reaches);
        assert_eq!(family.iter().filter(|belongs| **belongs).count(), 1);
        assert!(family[40]);
    }

    #[test]
    fn few_blocks_have_extremes_and_one_has_none() {
        let of = |before: &[f64], after: &[f64]| {
            Evidence::Independent {
                before: before.to_vec(),
                after: after.to_vec(),
            }
            .extremes()
        };
        let range = of(&[1.0, 2.0], &[4.0, 6.0]).expect("two blocks");
        assert_eq!((range.low, range.high), (2.0, 6.0));
        assert_eq!(of(&[1.0], &[4.0, 6.0]), None);
    }
}
