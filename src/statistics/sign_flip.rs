//! Do two subjects differ over several workloads: the sign-flip test on the mean of their means.
//!
//! In a block the subjects run in random order. If two of them are no different, their two times could
//! as well have been exchanged, so the logarithm of their ratio is as likely to have the one sign as
//! the other. Each way to choose the signs is then as likely as the one that was seen, and the share of
//! those with a statistic as large is an exact p-value (Fisher, The Design of Experiments, 1935, 21).
//!
//! The statistic is the mean over workloads (and over the runs of each) of the mean logarithm, divided
//! by its standard error *inside* them. So each workload counts the same, however long or noisy; and
//! that one allocator is faster here and the other there is no noise.

#![forbid(unsafe_code)]

use rand::RngExt as _;
use rand::SeedableRng as _;
use rand_pcg::Pcg64Mcg;

/// Up to this many blocks over all workloads every choice of signs is tried; of more, a sample.
const EXACT_MAX: usize = 13;
/// Fewest choices in a sample.
const CHOICES_MIN: usize = 10_000;
/// Values further from zero than so many times the usual distance count as if they were there: one
/// disturbed block shall not hide what all others show. The signs take no part in it, so the test
/// stays exact.
const REACH: f64 = 5.0;
/// Blocks whose part of the sum is looked up at once.
const CHUNK: usize = 8;

/// Outcome of [`sign_flip`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignFlip {
    /// Two-sided p-value of two subjects being the same.
    pub p_value: f64,
    /// The mean over workloads of the mean logarithm; its sign says who takes less time.
    pub mean: f64,
}

/// The logarithms of one run of a workload, ready for any choice of their signs.
struct Stratum {
    /// Its part of the mean over all.
    weight: f64,
    count: f64,
    squares: f64,
    /// For each chunk of values, its sum under each choice of signs: bit n set is value n as it is.
    sums: Vec<Vec<f64>>,
}

impl Stratum {
    fn of(values: &[f64], weight: f64) -> Self {
        let mut sizes: Vec<f64> = values.iter().map(|value| value.abs()).collect();
        sizes.sort_unstable_by(f64::total_cmp);
        let usual = sizes[sizes.len() / 2];
        let reach = if usual > 0.0 {
            REACH * usual
        } else {
            f64::INFINITY
        };
        let values: Vec<f64> = values
            .iter()
            .map(|value| value.clamp(-reach, reach))
            .collect();
        let sum = |chunk: &[f64], signs: usize| -> f64 {
            let signed = chunk.iter().enumerate();
            let signed =
                signed.map(|(at, value)| if signs >> at & 1 == 1 { *value } else { -value });
            signed.sum()
        };
        Self {
            weight,
            count: values.len() as f64,
            squares: values.iter().map(|value| value * value).sum(),
            sums: values
                .chunks(CHUNK)
                .map(|chunk| {
                    (0..1 << chunk.len())
                        .map(|signs| sum(chunk, signs))
                        .collect()
                })
                .collect(),
        }
    }

    /// Mean, and the square of its standard error, under the signs that `next` gives chunk by chunk.
    fn mean(&self, mut next: impl FnMut(usize) -> usize) -> (f64, f64) {
        let sum: f64 = self.sums.iter().map(|sums| sums[next(sums.len())]).sum();
        let spread = self.squares - sum * sum / self.count;
        // What is left of rounding is no spread.
        let spread = if spread > 1e-12 * self.squares {
            spread
        } else {
            0.0
        };
        (sum / self.count, spread / (self.count * (self.count - 1.0)))
    }
}

/// Tests whether two subjects are the same: `workloads` holds, for each and for each of its runs, the
/// logarithms of the ratio of their times in its blocks, at least two. `choices` of signs are tried at
/// least, if there are so many: no p-value is below its inverse. It is 1 if a run has fewer than two
/// blocks, or there is none.
pub fn sign_flip(workloads: &[Vec<Vec<f64>>], choices: usize, seed: u64) -> SignFlip {
    let is_sound =
        |runs: &Vec<Vec<f64>>| !runs.is_empty() && runs.iter().all(|values| values.len() >= 2);
    if workloads.is_empty() || !workloads.iter().all(is_sound) {
        return SignFlip {
            p_value: 1.0,
            mean: 0.0,
        };
    }
    let of = |runs: &'_ Vec<Vec<f64>>| -> Vec<Stratum> {
        let weight = 1.0 / (workloads.len() * runs.len()) as f64;
        runs.iter()
            .map(|values| Stratum::of(values, weight))
            .collect()
    };
    let strata: Vec<Stratum> = workloads.iter().flat_map(of).collect();
    let blocks: usize = workloads.iter().flatten().map(Vec::len).sum();
    let means = strata
        .iter()
        .map(|one| one.weight * one.mean(|ways| ways - 1).0);
    SignFlip {
        mean: means.sum(),
        p_value: if blocks <= EXACT_MAX {
            exact_p(&strata, blocks)
        } else {
            sampled_p(&strata, choices.max(CHOICES_MIN), seed)
        },
    }
}

/// Whether a statistic is as large as the one that was seen; equal but for rounding is.
fn is_as_large(strata: &[Stratum]) -> impl Fn(f64) -> bool + use<> {
    let seen = statistic(strata, |ways| ways - 1);
    move |statistic| statistic >= seen * (1.0 - 1e-9)
}

fn exact_p(strata: &[Stratum], blocks: usize) -> f64 {
    let (all, is_as_large) = (1usize << blocks, is_as_large(strata));
    let large = (0..all).filter(|signs| {
        let mut rest = *signs;
        is_as_large(statistic(strata, |ways| {
            let own = rest % ways;
            rest /= ways;
            own
        }))
    });
    large.count() as f64 / all as f64
}

fn sampled_p(strata: &[Stratum], choices: usize, seed: u64) -> f64 {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let is_as_large = is_as_large(strata);
    let large = (1..choices)
        .filter(|_| is_as_large(statistic(strata, |ways| random.random_range(0..ways))))
        .count();
    // The choice that was seen is one of them.
    (large + 1) as f64 / choices as f64
}

/// The smallest p-value that so many blocks over all workloads can have.
pub fn smallest_p(blocks: usize, choices: usize) -> f64 {
    if blocks <= EXACT_MAX {
        2.0 / (1u64 << blocks) as f64
    } else {
        1.0 / choices.max(CHOICES_MIN) as f64
    }
}

fn statistic(strata: &[Stratum], mut next: impl FnMut(usize) -> usize) -> f64 {
    let (mut sum, mut variance) = (0.0, 0.0);
    for stratum in strata {
        let (mean, own) = stratum.mean(&mut next);
        sum += stratum.weight * mean;
        variance += stratum.weight.powi(2) * own;
    }
    if sum == 0.0 {
        0.0
    } else {
        sum.abs() / variance.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign_flip_p(workloads: &[Vec<f64>], choices: usize, seed: u64) -> f64 {
        let alone: Vec<Vec<Vec<f64>>> = workloads.iter().map(|one| vec![one.clone()]).collect();
        sign_flip(&alone, choices, seed).p_value
    }

    fn noise(random: &mut Pcg64Mcg) -> f64 {
        // Laplace: heavy tails, and as often above as below.
        let size = -(1.0 - random.random::<f64>()).ln();
        if random.random::<bool>() { size } else { -size }
    }

    #[test]
    fn p_values_of_known_sets() {
        // All on one side: two of the choices are as extreme.
        let six = vec![vec![0.1, 0.2, 0.3, 0.15, 0.25, 0.12]];
        assert_eq!(sign_flip_p(&six, 0, 1), 2.0 / 64.0);
        assert_eq!(smallest_p(6, 0), 2.0 / 64.0);
        // The same without any spread.
        assert_eq!(sign_flip_p(&[vec![0.1; 6]], 0, 1), 2.0 / 64.0);
        assert_eq!(sign_flip_p(&[vec![0.0; 6]], 0, 1), 1.0);
        assert_eq!(sign_flip_p(&[vec![0.1, -0.1, 0.1, -0.1]], 0, 1), 1.0);
        for unsound in [vec![], vec![vec![]], vec![vec![0.1]]] {
            assert_eq!(sign_flip_p(&unsound, 0, 1), 1.0);
        }
        // Faster here and as much slower there is no difference, and no noise either.
        let mut random = Pcg64Mcg::seed_from_u64(2);
        let mut set = |centre: f64| -> Vec<f64> {
            (0..20)
                .map(|_| centre + 0.01 * noise(&mut random))
                .collect()
        };
        let (here, there) = (set(-0.5), set(0.5));
        assert!(sign_flip_p(&[here.clone(), there], 0, 1) > 0.05);
        let there = set(0.46);
        assert!(sign_flip_p(&[here, there], 0, 1) < 0.001);
    }

    #[test]
    fn one_disturbed_block_hides_little() {
        let mut values: Vec<f64> = (0..20)
            .map(|n| 0.03 + 0.01 * f64::from(n % 5 - 2))
            .collect();
        let calm = sign_flip_p(&[values.clone()], 0, 1);
        values[7] = -1.6;
        let disturbed = sign_flip_p(&[values], 0, 1);
        assert!(calm < 0.001 && disturbed < 0.05, "{calm} {disturbed}");
    }

    #[test]
    fn equal_subjects_are_called_different_5_times_in_100() {
        let mut random = Pcg64Mcg::seed_from_u64(5);
        for (workloads, blocks) in [(1, 8), (1, 20), (5, 6)] {
            let called = (0..300)
                .filter(|trial| {
                    let drawn: Vec<Vec<f64>> = (0..workloads)
                        .map(|at| {
                            // Workloads are not equally noisy.
                            let scale = f64::from(1 + 9 * at);
                            (0..blocks).map(|_| scale * noise(&mut random)).collect()
                        })
                        .collect();
                    sign_flip_p(&drawn, 0, *trial) <= 0.05
                })
                .count();
            // 15 expected; three standard deviations of the count are 11.
            assert!(
                (4..=26).contains(&called),
                "{workloads} x {blocks}: {called} of 300"
            );
        }
    }
}
