//! Estimates from few, noisy samples. Pure; imports nothing of the project.
//!
//! Intervals are percentile bootstrap intervals of the median (Efron 1979), which assume nothing of
//! the distribution: times are skewed and have outliers. With few samples they are too narrow (at 20
//! they hold the true median in some 93 of 100 cases), so they are widened, where need be, to the
//! exact interval between two order statistics (Conover, Practical Nonparametric Statistics, 3.2).

#![forbid(unsafe_code)]

pub mod groups;
pub mod rank_correlation;
pub mod sign_flip;
pub mod signed_rank;

use rand::RngExt as _;
use rand::SeedableRng as _;
use rand_pcg::Pcg64Mcg;

/// A median with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The sample median.
    pub median: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end of the 95 % interval.
    pub high: f64,
}

/// Median: the mean of the two middle values for an even count. `None` for no values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    median_of_mut(&mut sorted)
}

/// The median, found by partial sorting in place.
fn median_of_mut(values: &mut [f64]) -> Option<f64> {
    let (middle, odd) = (values.len() / 2, values.len() % 2 == 1);
    if values.is_empty() {
        return None;
    }
    let (below, &mut upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if odd {
        return Some(upper);
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some(f64::midpoint(lower, upper))
}

/// Median with a bootstrap 95 % interval from `resamples` resamples drawn from `seed`. `None` for no
/// values. With one value the interval has no width: the caller must say how few samples there were.
pub fn bootstrap_median(values: &[f64], resamples: u32, seed: u64) -> Option<Interval> {
    let centre = median(values)?;
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let mut resample = vec![0.0; values.len()];
    let mut medians: Vec<f64> = (0..resamples.max(1))
        .map(|_| {
            for slot in &mut resample {
                *slot = values[random.random_range(0..values.len())];
            }
            median_of_mut(&mut resample).expect("as many values as the input")
        })
        .collect();
    medians.sort_unstable_by(f64::total_cmp);
    let (exact_low, exact_high) = order_statistics(values);
    Some(Interval {
        median: centre,
        low: quantile_sorted(&medians, 0.025).min(exact_low),
        high: quantile_sorted(&medians, 0.975).max(exact_high),
    })
}

/// Median with its exact 95 % interval between two order statistics: the inner part of what
/// [`bootstrap_median`] gives, at the price of one sort. `None` for no values.
pub fn exact_median(values: &[f64]) -> Option<Interval> {
    let centre = median(values)?;
    let (low, high) = order_statistics(values);
    Some(Interval {
        median: centre,
        low,
        high,
    })
}

/// Geometric mean over workloads, with its 95 % interval, of what [`combined_median`] is for each:
/// blocks are resampled inside each run of each workload, so it says how well the mean of *these* is
/// known, not what others would show. With few blocks that interval is too narrow, so it is widened,
/// where need be, to what the runs' exact intervals add up to as independent errors (Zou & Donner 2008,
/// in logarithms). `workloads` holds, for each, the ratios of each run's blocks.
/// `None` if there are no workloads, one without ratios, or a ratio that is no positive number.
pub fn geometric_mean(workloads: &[Vec<Vec<f64>>], resamples: u32, seed: u64) -> Option<Interval> {
    let sound = |runs: &Vec<Vec<f64>>| {
        let mut all = runs.iter().flatten();
        !runs.is_empty()
            && runs.iter().all(|ratios| !ratios.is_empty())
            && all.all(|ratio| ratio.is_finite() && *ratio > 0.0)
    };
    if workloads.is_empty() || !workloads.iter().all(sound) {
        return None;
    }
    let mean = |of: &mut dyn FnMut(&[f64]) -> f64| {
        let sum: f64 = workloads
            .iter()
            .map(|runs| runs.iter().map(|one| of(one).ln()).sum::<f64>() / runs.len() as f64)
            .sum();
        (sum / workloads.len() as f64).exp()
    };
    let centre = mean(&mut |ratios| median(ratios).unwrap_or(1.0));
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let mut resample = Vec::new();
    let mut means: Vec<f64> = (0..resamples.max(1))
        .map(|_| {
            mean(&mut |ratios| {
                let drawn = (0..ratios.len()).map(|_| ratios[random.random_range(0..ratios.len())]);
                resample.clear();
                resample.extend(drawn);
                median_of_mut(&mut resample).unwrap_or(1.0)
            })
        })
        .collect();
    means.sort_unstable_by(f64::total_cmp);
    let error = |end: fn(&Interval) -> f64| {
        let squares = workloads.iter().flat_map(|runs| {
            let count = (workloads.len() * runs.len()) as f64;
            runs.iter().filter_map(move |ratios| {
                let interval = exact_median(ratios)?;
                Some(((end(&interval) / interval.median).ln() / count).powi(2))
            })
        });
        squares.sum::<f64>().sqrt()
    };
    Some(Interval {
        median: centre,
        low: quantile_sorted(&means, 0.025).min(centre * (-error(|one| one.low)).exp()),
        high: quantile_sorted(&means, 0.975).max(centre * error(|one| one.high).exp()),
    })
}

/// The ratios of several runs as one: the geometric mean of the runs' medians, each run counting the
/// same whatever its blocks, with its 95 % interval. Of one run, [`bootstrap_median`].
///
/// Blocks are resampled inside each run, and the interval is widened, as in [`geometric_mean`]. So it
/// holds for *these* machines; what another would show, two or three cannot tell, and
/// where they differ by more than their own intervals it has to be said apart.
pub fn combined_median(runs: &[Vec<f64>], resamples: u32, seed: u64) -> Option<Interval> {
    if let [ratios] = runs {
        return bootstrap_median(ratios, resamples, seed);
    }
    geometric_mean(std::slice::from_ref(&runs.to_vec()), resamples, seed)
}

/// Times outside these limits are outliers: further from the median than five times the median
/// distance from it (five MAD: of normal noise, 7 in 10,000 values), and than 0.1 % of it. `None` for
/// no values.
pub fn outlier_limits(values: &[f64]) -> Option<(f64, f64)> {
    let centre = median(values)?;
    let distances: Vec<f64> = values.iter().map(|value| (value - centre).abs()).collect();
    let reach = (5.0 * median(&distances)?).max(0.001 * centre.abs());
    Some((centre - reach, centre + reach))
}

/// The narrowest pair of order statistics, equally far from both ends, that has the true median
/// between it in at least 95 of 100 cases, whatever the distribution. Below six values there is
/// none, and the two extremes must do.
fn order_statistics(values: &[f64]) -> (f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let count = sorted.len();
    // The number of values below the true median is binomial(count, 1/2). Cut off as many at each
    // end as leave at most 2.5 % outside.
    // By logarithms, since 2^-count is no f64 above a thousand values.
    let mut ln_probability = -(count as f64) * std::f64::consts::LN_2;
    let (mut outside, mut cut) = (0.0, 0);
    while cut < count / 2 {
        outside += ln_probability.exp();
        if outside > 0.025 {
            break;
        }
        cut += 1;
        ln_probability += ((count - cut + 1) as f64 / cut as f64).ln();
    }
    let first = cut.saturating_sub(1);
    (sorted[first], sorted[count - 1 - first])
}

/// Quantile by linear interpolation between order statistics (Hyndman & Fan 1996, type 7).
fn quantile_sorted(sorted: &[f64], quantile: f64) -> f64 {
    let position = quantile * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = position.ceil() as usize;
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn medians_of_small_sets() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[3.0, 1.0]), Some(2.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    /// Trials, of 2000, in which the interval of so many values held the true median.
    fn coverage(count: usize) -> usize {
        let mut random = Pcg64Mcg::seed_from_u64(7);
        let trials = 2000;
        (0..trials)
            .filter(|trial| {
                // Exponential distribution: skewed, as times are. Its median is ln 2.
                let values: Vec<f64> = (0..count)
                    .map(|_| -(1.0 - random.random::<f64>()).ln())
                    .collect();
                let interval = bootstrap_median(&values, 300, *trial).expect("some values");
                interval.low <= std::f64::consts::LN_2 && std::f64::consts::LN_2 <= interval.high
            })
            .count()
    }

    #[test]
    fn interval_covers_the_true_median_at_least_19_times_in_20() {
        for count in [6, 7, 8, 10, 20, 31] {
            let covered = coverage(count);
            // 1900 expected at least; three standard deviations of the count are 29.
            assert!(
                (1871..=1996).contains(&covered),
                "{count} values: {covered} of 2000"
            );
        }
    }

    #[test]
    fn order_statistics_of_known_tables() {
        // Ranks from Conover's table for 95 %.
        for (count, rank) in [(6, 1), (9, 2), (10, 2), (15, 4), (20, 6), (25, 8)] {
            let values: Vec<f64> = (1..=count).map(f64::from).collect();
            let expected = (f64::from(rank), f64::from(count + 1 - rank));
            assert_eq!(order_statistics(&values), expected, "{count} values");
        }
        // 5000 ± 1.96 · √10000 / 2
        let values: Vec<f64> = (1..=10_000).map(f64::from).collect();
        assert_eq!(order_statistics(&values), (4902.0, 5099.0));
    }

    #[test]
    fn geometric_means_of_known_ratios() {
        let mean = |workloads: &[Vec<f64>]| {
            let alone: Vec<Vec<Vec<f64>>> = workloads.iter().map(|one| vec![one.clone()]).collect();
            geometric_mean(&alone, 100, 1)
        };
        let known = mean(&[vec![2.0; 5], vec![0.5; 9], vec![8.0]]).expect("sound");
        assert!((known.median - 2.0).abs() < 1e-12);
        assert!((known.high - known.low).abs() < 1e-12);
        for unsound in [
            vec![],
            vec![vec![]],
            vec![vec![0.0]],
            vec![vec![1.0], vec![f64::NAN]],
        ] {
            assert_eq!(mean(&unsound), None);
        }
    }

    #[test]
    fn the_interval_of_a_geometric_mean_covers_it() {
        let mut random = Pcg64Mcg::seed_from_u64(11);
        for (workloads, blocks) in [(1, 6), (1, 8), (3, 6), (5, 8), (5, 20), (20, 8), (1, 20)] {
            let covered = (0..1000)
                .filter(|trial| {
                    // Ratios of exponential noise: skewed, with a median of 1.
                    let drawn: Vec<Vec<Vec<f64>>> = (0..workloads)
                        .map(|_| {
                            let noise =
                                || (1.0 - random.random::<f64>()).ln() / -std::f64::consts::LN_2;
                            let ratios = std::iter::repeat_with(noise).take(blocks);
                            vec![ratios.map(f64::sqrt).collect()]
                        })
                        .collect();
                    let mean = geometric_mean(&drawn, 300, *trial).expect("sound");
                    mean.low <= 1.0 && 1.0 <= mean.high
                })
                .count();
            // Three standard deviations below 950 of 1000 are 929.
            assert!(covered >= 929, "{workloads} x {blocks}: {covered} of 1000");
        }
    }

    #[test]
    fn runs_count_the_same_whatever_their_blocks() {
        let combined = |runs: &[Vec<f64>]| combined_median(runs, 200, 1);
        let two = combined(&[vec![0.8; 30], vec![1.25; 8]]).expect("sound");
        assert!((two.median - 1.0).abs() < 1e-12, "{two:?}");
        assert_eq!(combined(&[]), None);
        assert_eq!(combined(&[vec![1.0], vec![]]), None);
        let one = vec![1.0, 1.1, 1.3, 0.9, 1.2, 1.05, 0.97];
        assert_eq!(
            combined(std::slice::from_ref(&one)),
            bootstrap_median(&one, 200, 1)
        );
    }

    #[test]
    fn the_interval_of_combined_runs_covers_the_mean_of_their_medians() {
        let mut random = Pcg64Mcg::seed_from_u64(5);
        for blocks in [[8, 8], [30, 10], [20, 20]] {
            let covered = (0..1000)
                .filter(|trial| {
                    // Skewed noise on two machines with the true ratios 0.8 and 1.25: their mean is 1.
                    let runs: Vec<Vec<f64>> = [0.8, 1.25]
                        .into_iter()
                        .zip(blocks)
                        .map(|(truth, blocks)| {
                            let noise = || -(1.0 - random.random::<f64>()).log2();
                            let ratios = std::iter::repeat_with(noise).take(blocks);
                            ratios.map(|noise| truth * noise.sqrt()).collect()
                        })
                        .collect();
                    let mean = combined_median(&runs, 300, *trial).expect("sound");
                    mean.low <= 1.0 && 1.0 <= mean.high
                })
                .count();
            assert!(covered >= 930, "{blocks:?}: {covered} of 1000");
        }
    }

    #[test]
    fn outliers_are_far_from_the_rest() {
        let limits = outlier_limits(&[10.0, 11.0, 12.0, 13.0, 50.0]).expect("values");
        assert_eq!(limits, (7.0, 17.0));
        let (low, high) = outlier_limits(&[1000.0; 4]).expect("values");
        assert_eq!((low, high), (999.0, 1001.0));
        assert_eq!(outlier_limits(&[]), None);
    }

    proptest! {
        #[test]
        fn median_halves_the_values(values in prop::collection::vec(-1e9..1e9f64, 1..60)) {
            let middle = median(&values).expect("not empty");
            let below = values.iter().filter(|v| **v <= middle).count();
            let above = values.iter().filter(|v| **v >= middle).count();
            prop_assert!(below * 2 >= values.len() && above * 2 >= values.len());
        }

        #[test]
        fn interval_contains_the_median_and_repeats(
            values in prop::collection::vec(0.1..1e6f64, 1..40), seed: u64,
        ) {
            let one = bootstrap_median(&values, 200, seed).expect("not empty");
            prop_assert!(one.low <= one.median && one.median <= one.high);
            prop_assert_eq!(one, bootstrap_median(&values, 200, seed).expect("not empty"));
        }
    }
}
