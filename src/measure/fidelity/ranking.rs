//! Which subjects reality tells apart, and whether the prediction has them in the same order.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::Agreement;
use crate::measure::pairs::{BlockKey, ratios};
use crate::statistics::exact_median;

/// A subject as the program and the prediction have it.
pub(super) struct Placed {
    /// Real times, block by block.
    pub(super) times: BTreeMap<BlockKey, f64>,
    /// Predicted ratio to the baseline's.
    pub(super) predicted: f64,
}

/// All pairs of these. `noise` is how far the ratio of the baseline to itself is from 1.
pub(super) fn agreement(placed: &[Placed], noise: f64) -> Agreement {
    let mut found = Agreement::default();
    for (number, one) in placed.iter().enumerate() {
        for other in &placed[number + 1..] {
            found.pairs += 1;
            let Some(real) = real_order(one, other, noise) else {
                continue;
            };
            found.told_apart += 1;
            // Equal predictions put neither first.
            if one.predicted.partial_cmp(&other.predicted) == Some(real) {
                found.ordered_right += 1;
            }
        }
    }
    found
}

/// Which of two is really the faster; `None` if that cannot be told.
fn real_order(one: &Placed, other: &Placed, noise: f64) -> Option<std::cmp::Ordering> {
    let ratio = exact_median(&ratios(&one.times, &other.times))?;
    // Of fewer blocks the interval from lowest to highest holds the median less often than in 95 of
    // 100 cases.
    let is_known = one.times.len().min(other.times.len()) >= BLOCKS_MIN;
    let is_apart = (ratio.low > 1.0 || ratio.high < 1.0) && (ratio.median - 1.0).abs() > noise;
    (is_known && is_apart).then(|| ratio.median.total_cmp(&1.0))
}

/// Two to the minus fifth is the chance that all of six blocks lie on one side of the median.
const BLOCKS_MIN: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(times: &[f64], predicted: f64) -> Placed {
        let blocks = (0..).map(|block| (0, block));
        Placed {
            times: blocks.zip(times.iter().copied()).collect(),
            predicted,
        }
    }

    #[test]
    fn only_what_reality_tells_apart_is_judged() {
        let base = placed(&[100.0, 110.0, 101.0, 99.0, 105.0, 100.0, 98.0], 1.0);
        let slow = placed(&[130.0, 140.0, 131.0, 129.0, 135.0, 133.0, 127.0], 1.2);
        // On both sides of the baseline's.
        let alike = placed(&[101.0, 108.0, 102.0, 98.0, 106.0, 99.0, 99.0], 0.7);
        let all = [base, slow, alike];
        let expected = Agreement {
            pairs: 3,
            told_apart: 2,
            ordered_right: 2,
        };
        assert_eq!(agreement(&all, 0.0), expected);
        // Nearer than the baseline is to itself.
        assert_eq!(agreement(&all, 0.4).told_apart, 0);
        let [base, mut slow, _] = all;
        slow.predicted = 0.9;
        let wrong = agreement(&[base, slow], 0.0);
        assert_eq!((wrong.told_apart, wrong.ordered_right), (1, 0));
    }

    #[test]
    fn few_blocks_tell_nothing_apart() {
        let pair = [placed(&[100.0; 5], 1.0), placed(&[200.0; 5], 2.0)];
        assert_eq!(agreement(&pair, 0.0).told_apart, 0);
        let pair = [placed(&[100.0; 6], 1.0), placed(&[200.0; 6], 2.0)];
        assert_eq!(agreement(&pair, 0.0).ordered_right, 1);
    }
}
