//! Random draws for the generators: the same seed gives the same trace on every machine and with
//! every version of the dependencies.
//!
//! PCG's sequence is fixed by its algorithm; what `rand` makes of a sequence (ranges, shuffles) may
//! change between its versions, and `ln` or `exp` differ between C libraries. So only `+`, `*`,
//! comparisons and integer arithmetic are used here, which IEEE 754 fixes to the last bit.

#![forbid(unsafe_code)]

use rand::Rng as _;
use rand::SeedableRng as _;
use rand_pcg::Pcg64Mcg;

/// A seeded source of draws.
#[derive(Clone, Debug)]
pub struct Random(Pcg64Mcg);

impl Random {
    /// The sequence of that seed.
    pub fn new(seed: u64) -> Self {
        Self(Pcg64Mcg::seed_from_u64(seed))
    }

    /// Uniform in `0..limit`; 0 for a limit of 0. The bias of multiplying (at most limit / 2^64)
    /// is far below what any trace could show.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(limit)) >> 64) as u64
    }

    /// The same for an index into `length` elements.
    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// Uniform in `[0, 1)`, a multiple of 2^-53.
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Approximately standard normal: the sum of twelve uniform draws less 6 has mean 0 and
    /// variance 1. Its tails end at 6, which cuts off one draw in five hundred million.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// Exponential with mean 1, by von Neumann's comparison method (1951): the length of a
    /// descending run that begins with `u` is odd with probability e^-u.
    pub fn exponential(&mut self) -> f64 {
        let mut whole = 0.0;
        loop {
            let first = self.unit();
            let mut last = first;
            let mut run = 1u32;
            loop {
                let next = self.unit();
                if next >= last {
                    break;
                }
                last = next;
                run += 1;
            }
            if run % 2 == 1 {
                return whole + first;
            }
            whole += 1.0;
        }
    }

    /// Poisson with the given mean: how many exponential steps fit into it.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        let mut count = 0;
        let mut sum = self.exponential();
        while sum < mean {
            count += 1;
            sum += self.exponential();
        }
        count
    }

    /// Fisher and Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }
}

/// 2 to the power of `x`, for `x` in -1000 ..= 1000, by a polynomial in the fraction: see the module
/// text for why not `f64::exp2`. Exact to some units in the last place.
pub fn exp2(x: f64) -> f64 {
    let whole = x.floor();
    let fraction = (x - whole) * std::f64::consts::LN_2;
    // Taylor's series of e^fraction, fraction below 0.7: the 17th term is below 2^-53.
    let mut sum = 1.0;
    for n in (1..=17u32).rev() {
        sum = 1.0 + sum * fraction / f64::from(n);
    }
    let exponent = (whole as i64).clamp(-1000, 1000) + 1023;
    sum * f64::from_bits((exponent as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and variance of `draws` draws.
    fn moments(draws: u32, mut draw: impl FnMut() -> f64) -> (f64, f64) {
        let values: Vec<f64> = (0..draws).map(|_| draw()).collect();
        let mean = values.iter().sum::<f64>() / f64::from(draws);
        let square = |value: &f64| (value - mean) * (value - mean);
        (
            mean,
            values.iter().map(square).sum::<f64>() / f64::from(draws),
        )
    }

    // The seeds are fixed, so the tests either always pass or always fail; the bounds are five
    // standard errors of a mean, or of a variance, of 100,000 draws.
    #[test]
    fn draws_have_the_moments_of_their_distribution() {
        let mut random = Random::new(7);
        let (mean, variance) = moments(100_000, || random.unit());
        assert!((mean - 0.5).abs() < 0.0046 && (variance - 1.0 / 12.0).abs() < 0.0012);
        let (mean, variance) = moments(100_000, || random.normal());
        assert!(
            mean.abs() < 0.016 && (variance - 1.0).abs() < 0.023,
            "{mean} {variance}"
        );
        let (mean, variance) = moments(100_000, || random.exponential());
        assert!(
            (mean - 1.0).abs() < 0.016 && (variance - 1.0).abs() < 0.045,
            "{mean} {variance}"
        );
        let (mean, variance) = moments(100_000, || random.poisson(3.5) as f64);
        assert!(
            (mean - 3.5).abs() < 0.03 && (variance - 3.5).abs() < 0.085,
            "{mean} {variance}"
        );
        let (mean, _) = moments(100_000, || random.below(1001) as f64);
        assert!((mean - 500.0).abs() < 4.6, "{mean}");
    }

    #[test]
    fn the_sequence_of_a_seed_never_changes() {
        let mut random = Random::new(42);
        let draws: Vec<u64> = (0..4).map(|_| random.below(1_000_000)).collect();
        assert_eq!(draws, GOLDEN);
        assert_eq!(random.below(0), 0);
    }

    /// What this test printed when it was written: a change here changes every generated trace.
    const GOLDEN: [u64; 4] = [573_591, 133_306, 355_935, 225_406];

    #[test]
    fn powers_of_two_are_right() {
        for x in [-30.5, -1.0, 0.0, 0.1, 0.999, 1.0, 12.25, 40.0] {
            let relative = exp2(x) / f64::exp2(x) - 1.0;
            assert!(relative.abs() < 1e-14, "2^{x} is off by {relative}");
        }
    }

    #[test]
    fn a_shuffle_is_a_permutation() {
        let mut items: Vec<u32> = (0..1000).collect();
        Random::new(3).shuffle(&mut items);
        assert!(items.windows(2).any(|pair| pair[0] > pair[1]));
        items.sort_unstable();
        assert!(items.into_iter().eq(0..1000));
    }
}
