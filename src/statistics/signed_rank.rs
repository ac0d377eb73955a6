//! Is a difference one: Wilcoxon's signed-rank test, and Holm's correction for many of them.
//!
//! In a block the subjects run in random order. If a subject is no different from the baseline, the
//! two times of a block could as well have been exchanged, so the logarithm of their ratio is as
//! likely to have the one sign as the other, whatever the noise is like: skewed, drifting from block
//! to block, with outliers. The distribution of the sum of the ranks of the positive ones then follows
//! from counting, and the p-value is exact. Ranks, not sizes, are summed: one outlier weighs no more
//! than the largest rank.
//!
//! Wilcoxon, Individual Comparisons by Ranking Methods (1945); Holm, A Simple Sequentially Rejective
//! Multiple Test Procedure (1979).

/// The share of files without any true difference in which some difference may be claimed.
pub const ERROR_RATE: f64 = 0.05;

/// Above so many values, the distribution is taken to be normal: by then its tails are lighter than
/// the normal ones, so p-values are too large rather than too small.
const EXACT_LIMIT: usize = 120;

/// Two-sided p-value of the values' being as often above zero as below. Zeroes say nothing and are
/// left out; 1 if nothing is left.
pub fn signed_rank_p(values: &[f64]) -> f64 {
    let mut values: Vec<f64> = values
        .iter()
        .copied()
        .filter(|value| *value != 0.0)
        .collect();
    values.sort_unstable_by(|one, other| one.abs().total_cmp(&other.abs()));
    let ranks = double_ranks(&values);
    let positive: u64 = values
        .iter()
        .zip(&ranks)
        .filter(|(value, _)| **value > 0.0)
        .map(|(_, rank)| rank)
        .sum();
    let total: u64 = ranks.iter().sum();
    let smaller = positive.min(total - positive);
    let tail = if values.len() <= EXACT_LIMIT {
        exact_tail(&ranks, smaller)
    } else {
        normal_tail(&ranks, smaller)
    };
    (2.0 * tail).min(1.0)
}

/// Two-sided p-value of ratios' being as often above 1 as below, by as much.
pub fn ratios_differ_p(ratios: &[f64]) -> f64 {
    let logarithms: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
    signed_rank_p(&logarithms)
}

/// Twice the rank of each value among those sorted by size: ties share the middle of their ranks, and
/// twice that is a whole number.
pub(super) fn double_ranks(sorted: &[f64]) -> Vec<u64> {
    let mut ranks = vec![0; sorted.len()];
    let mut first = 0;
    while first < sorted.len() {
        let size = sorted[first].abs();
        let tied = sorted[first..].partition_point(|value| value.abs() <= size);
        // Ranks first + 1 ..= first + tied.
        let double = (2 * first + tied + 1) as u64;
        ranks[first..first + tied].fill(double);
        first += tied;
    }
    ranks
}

/// Probability that the ranks that fair coins choose have a sum of at most `sum`.
fn exact_tail(ranks: &[u64], sum: u64) -> f64 {
    let sum = sum as usize;
    // probability[s]: of the sum being s, after the ranks so far.
    let mut probability = vec![0.0; sum + 1];
    probability[0] = 1.0;
    for rank in ranks {
        let rank = *rank as usize;
        for at in (0..=sum).rev() {
            let without = probability[at];
            let with = if at >= rank {
                probability[at - rank]
            } else {
                0.0
            };
            probability[at] = 0.5 * (without + with);
        }
    }
    probability.iter().sum()
}

/// The same by the normal distribution of equal mean and variance, half a step further out.
fn normal_tail(ranks: &[u64], sum: u64) -> f64 {
    let total: u64 = ranks.iter().sum();
    let variance: f64 = ranks.iter().map(|rank| (*rank as f64).powi(2)).sum::<f64>() / 4.0;
    let below = total as f64 / 2.0 - sum as f64 - 1.0;
    0.5 * complementary_error(below.max(0.0) / (2.0 * variance).sqrt())
}

/// erfc for x ≥ 0, to a relative error of 1.2e-7 (Press et al., Numerical Recipes, 6.2).
pub(super) fn complementary_error(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let t = 1.0 / (1.0 + 0.5 * x);
    let polynomial = COEFFICIENTS.iter().rev().fold(0.0, |sum, c| sum * t + c);
    t * (-x * x + polynomial).exp()
}

/// Which of these p-values stand for a difference, if among all of them together not one shall be
/// claimed wrongly in more than `error_rate` of the cases. Valid however they hang together.
pub fn holm(p_values: &[f64], error_rate: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_unstable_by(|one, other| p_values[*one].total_cmp(&p_values[*other]));
    let mut differs = vec![false; p_values.len()];
    for (done, index) in order.into_iter().enumerate() {
        if p_values[index] > error_rate / (p_values.len() - done) as f64 {
            break;
        }
        differs[index] = true;
    }
    differs
}

/// The fewest blocks with which any of so many comparisons can be called a difference: with all ratios
/// on one side the p-value is 2 / 2^blocks.
pub fn fewest_blocks(comparisons: usize, error_rate: f64) -> u32 {
    (2.0 * comparisons.max(1) as f64 / error_rate).log2().ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn p_values_of_known_tables() {
        // Sums of ranks that a table of the exact distribution gives, e.g. P(W <= 8 | n = 10) = 0.0244.
        for (count, sum, tail) in [
            (10, 8, 25.0 / 1024.0),
            (8, 3, 5.0 / 256.0),
            (6, 0, 1.0 / 64.0),
        ] {
            let ranks: Vec<u64> = (1..=count).map(|rank| 2 * rank).collect();
            assert!(
                (exact_tail(&ranks, 2 * sum) - tail).abs() < 1e-12,
                "{count} {sum}"
            );
        }
        assert_eq!(signed_rank_p(&[]), 1.0);
        assert_eq!(signed_rank_p(&[0.0, 0.0]), 1.0);
        assert_eq!(signed_rank_p(&[3.0, 1.0, 2.0, 5.0, 4.0, 6.0]), 2.0 / 64.0);
        // One tie: the ranks 1.5, 1.5, 3 give eight sums, of which 0 is one.
        assert_eq!(signed_rank_p(&[-1.0, -1.0, -2.0]), 2.0 / 8.0);
    }

    #[test]
    fn the_normal_tail_joins_the_exact_one() {
        let ranks: Vec<u64> = (1..=EXACT_LIMIT as u64).map(|rank| 2 * rank).collect();
        for sum in [2000, 4000, 5000, 6000, 7000] {
            let (exact, normal) = (exact_tail(&ranks, sum), normal_tail(&ranks, sum));
            assert!(normal >= 0.98 * exact, "{sum}: {normal} for {exact}");
            assert!(
                exact < 1e-5 || normal < 1.1 * exact,
                "{sum}: {normal} for {exact}"
            );
        }
        assert!((complementary_error(1.0) - 0.157_299_207_050_285).abs() < 1e-7);
    }

    #[test]
    fn holm_stops_at_the_first_that_is_too_large() {
        let p = [0.04, 0.012, 0.5, 0.02];
        // 0.012 <= 0.05/4, 0.02 > 0.05/3.
        assert_eq!(holm(&p, 0.05), [false, true, false, false]);
        assert_eq!(holm(&[0.01, 0.011, 0.02, 0.05], 0.05), [true; 4]);
        assert_eq!(holm(&[], 0.05), [false; 0]);
    }

    #[test]
    fn fewest_blocks_allow_a_verdict_and_one_less_does_not() {
        for comparisons in [1, 2, 6, 10, 48, 300] {
            let fewest = fewest_blocks(comparisons, 0.05);
            let best = |blocks: u32| {
                let values: Vec<f64> = (1..=blocks).map(f64::from).collect();
                signed_rank_p(&values)
            };
            let level = 0.05 / comparisons as f64;
            assert!(
                best(fewest) <= level && best(fewest - 1) > level,
                "{comparisons}"
            );
        }
        assert_eq!(fewest_blocks(6, 0.05), 8);
    }

    proptest! {
        #[test]
        fn p_values_are_probabilities_and_know_no_side(
            values in prop::collection::vec(-1e3..1e3f64, 0..150)
        ) {
            let p = signed_rank_p(&values);
            prop_assert!(p > 0.0 && p <= 1.0, "{}", p);
            let mirrored: Vec<f64> = values.iter().map(|value| -value).collect();
            prop_assert!((signed_rank_p(&mirrored) - p).abs() < 1e-9);
        }

        #[test]
        fn holm_never_claims_less_than_bonferroni_nor_more_than_none(
            p in prop::collection::vec(0.0..1.0f64, 0..20)
        ) {
            for (value, differs) in p.iter().zip(holm(&p, 0.05)) {
                prop_assert!(differs || *value > 0.05 / p.len() as f64);
                prop_assert!(!differs || *value <= 0.05);
            }
        }
    }
}
