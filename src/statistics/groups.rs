//! Two sets of samples: the quotient of their medians, and whether they differ at all.

#![forbid(unsafe_code)]

use rand::RngExt as _;
use rand::SeedableRng as _;
use rand_pcg::Pcg64Mcg;

use super::signed_rank::{complementary_error, double_ranks};
use super::{Interval, bootstrap_median, median_of_mut, quantile_sorted};

/// Up to this many values in both sets together, [`rank_sum_p`] counts the orders one by one.
const EXACT_MAX: usize = 60;

/// Median of `new` ÷ median of `old`, with a bootstrap 95 % interval over both sets. With few values
/// that interval is too narrow, so it is widened, where need be, to what the intervals of the two
/// medians add up to (Zou & Donner 2008, in logarithms). `None` if a set is empty or a median or an
/// end of an interval is not positive.
pub fn bootstrap_quotient(new: &[f64], old: &[f64], resamples: u32, seed: u64) -> Option<Interval> {
    let above = bootstrap_median(new, resamples, seed)?;
    let below = bootstrap_median(old, resamples, seed.wrapping_add(1))?;
    if !(above.low > 0.0 && below.low > 0.0) {
        return None;
    }
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let mut quotients: Vec<f64> = (0..resamples.max(1))
        .map(|_| resampled_median(new, &mut random) / resampled_median(old, &mut random))
        .collect();
    quotients.sort_unstable_by(f64::total_cmp);
    let median = above.median / below.median;
    let part = |a: f64, b: f64| (a / b).ln().powi(2);
    let down = (part(above.median, above.low) + part(below.high, below.median)).sqrt();
    let up = (part(above.high, above.median) + part(below.median, below.low)).sqrt();
    Some(Interval {
        median,
        low: quantile_sorted(&quotients, 0.025).min(median * (-down).exp()),
        high: quantile_sorted(&quotients, 0.975).max(median * up.exp()),
    })
}

fn resampled_median(values: &[f64], random: &mut Pcg64Mcg) -> f64 {
    let mut resample: Vec<f64> = values
        .iter()
        .map(|_| values[random.random_range(0..values.len())])
        .collect();
    median_of_mut(&mut resample).expect("as many values as the input")
}

/// Probability, if two sets were drawn from the same distribution, that their ranks differ at least
/// as much as they do (Wilcoxon's rank-sum test, two-sided; ties share their mean rank). The values are
/// positive. Exact for
/// up to sixty values; a normal approximation above. 1 if a set is empty.
pub fn rank_sum_p(one: &[f64], other: &[f64]) -> f64 {
    let total = one.len() + other.len();
    if one.is_empty() || other.is_empty() {
        return 1.0;
    }
    let doubled = doubled_ranks(one, other);
    let own: usize = doubled[..one.len()].iter().sum();
    let expected = one.len() * (total + 1);
    let distance = own.abs_diff(expected);
    if total <= EXACT_MAX {
        exact_p(&doubled, one.len(), expected, distance)
    } else {
        normal_p(&doubled, one.len(), distance)
    }
}

/// Twice the rank of each value among all, the first set's first.
fn doubled_ranks(one: &[f64], other: &[f64]) -> Vec<usize> {
    let values: Vec<f64> = one.iter().chain(other).copied().collect();
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let sorted: Vec<f64> = order.iter().map(|&at| values[at]).collect();
    let mut ranks = vec![0; values.len()];
    for (&at, rank) in order.iter().zip(double_ranks(&sorted)) {
        ranks[at] = rank as usize;
    }
    ranks
}

/// Share of all choices of `count` ranks whose sum is at least as far from the expected one.
fn exact_p(doubled: &[usize], count: usize, expected: usize, distance: usize) -> f64 {
    let high: usize = doubled.iter().sum();
    // ways[k][s]: in how many ways k of the ranks seen so far add up to s, as a share of all.
    let mut ways = vec![vec![0.0f64; high + 1]; count + 1];
    ways[0][0] = 1.0;
    for &rank in doubled {
        for chosen in (1..=count).rev() {
            let (fewer, more) = ways.split_at_mut(chosen);
            for sum in rank..=high {
                more[0][sum] += fewer[chosen - 1][sum - rank];
            }
        }
    }
    let all: f64 = ways[count].iter().sum();
    let far = ways[count]
        .iter()
        .enumerate()
        .filter(|(sum, _)| sum.abs_diff(expected) >= distance);
    (far.map(|(_, ways)| ways).sum::<f64>() / all).min(1.0)
}

fn normal_p(doubled: &[usize], count: usize, distance: usize) -> f64 {
    let total = doubled.len() as f64;
    let (own, other) = (count as f64, total - count as f64);
    let mean = (total + 1.0) / 2.0;
    // The variance of the ranks as they are, ties included.
    let spread: f64 = doubled
        .iter()
        .map(|&rank| (rank as f64 / 2.0 - mean).powi(2))
        .sum();
    let variance = own * other * spread / (total * (total - 1.0));
    if variance <= 0.0 {
        return 1.0;
    }
    let z = ((distance as f64 / 2.0 - 0.5).max(0.0)) / variance.sqrt();
    complementary_error(z / std::f64::consts::SQRT_2).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skewed(count: usize, scale: f64, random: &mut Pcg64Mcg) -> Vec<f64> {
        (0..count)
            .map(|_| scale * (1.0 + 0.1 * -(1.0 - random.random::<f64>()).ln()))
            .collect()
    }

    #[test]
    fn the_interval_of_a_quotient_holds_the_truth_at_least_19_times_in_20() {
        let mut random = Pcg64Mcg::seed_from_u64(3);
        for count in [6, 10, 20] {
            let covered = (0..1000)
                .filter(|trial| {
                    let new = skewed(count, 1.05, &mut random);
                    let old = skewed(count, 1.0, &mut random);
                    let interval = bootstrap_quotient(&new, &old, 200, *trial).expect("values");
                    interval.low <= 1.05 && 1.05 <= interval.high
                })
                .count();
            // 950 expected at least; three standard deviations of the count are 21.
            assert!(covered >= 929, "{count} values: {covered} of 1000");
        }
    }

    #[test]
    fn rank_sums_of_known_tables() {
        // All of one set above the other: 2 of (n over k) orders are as extreme.
        let low: Vec<f64> = (0..6).map(f64::from).collect();
        let high: Vec<f64> = (10..16).map(f64::from).collect();
        assert!((rank_sum_p(&low, &high) - 2.0 / 924.0).abs() < 1e-12);
        assert_eq!(rank_sum_p(&low, &low), 1.0);
        assert_eq!(rank_sum_p(&[], &low), 1.0);
        // Critical value for 10 and 10 values at 5 %: a rank sum of 78 is within it, 79 is not.
        let with_sum = |sum: i32| {
            let mut ranks: Vec<i32> = (1..=10).collect();
            let mut at = 9;
            while ranks.iter().sum::<i32>() < sum {
                ranks[at] += 1;
                if ranks[at] == 11 + at as i32 {
                    at -= 1;
                }
            }
            let other = (1..=20).filter(|rank| !ranks.contains(rank));
            let other: Vec<f64> = other.map(f64::from).collect();
            let own: Vec<f64> = ranks.iter().copied().map(f64::from).collect();
            rank_sum_p(&own, &other)
        };
        assert!(with_sum(78) <= 0.05 && with_sum(79) > 0.05);
    }

    #[test]
    fn the_approximation_agrees_with_the_count() {
        let mut random = Pcg64Mcg::seed_from_u64(11);
        for shift in [1.0, 1.02, 1.05] {
            let (one, other) = (skewed(30, 1.0, &mut random), skewed(30, shift, &mut random));
            let ranks = doubled_ranks(&one, &other);
            let own: usize = ranks[..30].iter().sum();
            let distance = own.abs_diff(30 * 61);
            let (exact, normal) = (
                exact_p(&ranks, 30, 30 * 61, distance),
                normal_p(&ranks, 30, distance),
            );
            assert!((exact - normal).abs() < 0.01, "{exact} and {normal}");
        }
    }

    #[test]
    fn equal_sets_are_called_different_5_times_in_100() {
        let mut random = Pcg64Mcg::seed_from_u64(5);
        for count in [10, 40] {
            let called = (0..1000)
                .filter(|_| {
                    let (one, other) = (
                        skewed(count, 1.0, &mut random),
                        skewed(count, 1.0, &mut random),
                    );
                    rank_sum_p(&one, &other) < 0.05
                })
                .count();
            assert!((25..=71).contains(&called), "{count} values: {called}");
        }
    }
}
