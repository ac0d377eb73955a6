//! Estimates from few, noisy samples. Pure; imports nothing of the project.
//!
//! Intervals are percentile bootstrap intervals of the median (Efron 1979), which assume nothing of
//! the distribution: times are skewed and have outliers. With few samples they are too narrow (at 20
//! they hold the true median in some 93 of 100 cases), so they are widened, where need be, to the
//! exact interval between two order statistics (Conover, Practical Nonparametric Statistics, 3.2).

#![forbid(unsafe_code)]

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

/// The narrowest pair of order statistics, equally far from both ends, that has the true median
/// between it in at least 95 of 100 cases, whatever the distribution. Below six values there is
/// none, and the two extremes must do.
fn order_statistics(values: &[f64]) -> (f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let count = sorted.len();
    // The number of values below the true median is binomial(count, 1/2). Cut off as many at each
    // end as leave at most 2.5 % outside.
    let mut probability = 0.5f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let (mut outside, mut cut) = (0.0, 0);
    while cut < count / 2 {
        outside += probability;
        if outside > 0.025 {
            break;
        }
        cut += 1;
        probability *= (count - cut + 1) as f64 / cut as f64;
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
