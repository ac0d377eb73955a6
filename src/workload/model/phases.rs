//! Cuts a recording into phases: neighbouring windows are joined, the most alike first, until those
//! that are left differ.
//!
//! Likeness is the Jensen-Shannon divergence (Lin 1991) of the sizes, plus that of the lifetimes, over
//! powers of two, plus that of how many blocks begin and end: 0 for the same distributions, 3 bits for
//! such as have nothing in common. So a stretch in which the heap grows, or is torn down, is a phase.

#![forbid(unsafe_code)]

use std::ops::Range;

use super::PHASE_LIMIT;

/// Classes of a histogram: powers of two, and one for blocks that never end.
const CLASSES: usize = 66;
/// Divergence in bits above which two stretches are two phases.
const DIFFERENT_BITS: f64 = 0.05;

/// Blocks that begin in a stretch of windows.
#[derive(Clone, Debug)]
pub(super) struct Stretch {
    /// Its windows.
    pub(super) windows: Range<u32>,
    sizes: [u64; CLASSES],
    lifetimes: [u64; CLASSES],
    /// Blocks that begin, and that end.
    turnover: [u64; 2],
}

impl Stretch {
    /// A window without blocks yet.
    pub(super) fn new(window: u32) -> Self {
        Self {
            windows: window..window + 1,
            sizes: [0; CLASSES],
            lifetimes: [0; CLASSES],
            turnover: [0; 2],
        }
    }

    /// Adds a block; without a lifetime it never ends.
    pub(super) fn add(&mut self, size_bytes: u64, lifetime: Option<u64>) {
        let class = |value: u64| (u64::BITS - value.leading_zeros()) as usize;
        self.sizes[class(size_bytes)] += 1;
        self.lifetimes[lifetime.map_or(CLASSES - 1, class)] += 1;
        self.turnover[0] += 1;
    }

    /// Counts a block that ends here, wherever it began.
    pub(super) fn add_end(&mut self) {
        self.turnover[1] += 1;
    }

    fn join(&mut self, next: &Self) {
        self.windows.end = next.windows.end;
        for class in 0..CLASSES {
            self.sizes[class] += next.sizes[class];
            self.lifetimes[class] += next.lifetimes[class];
        }
        self.turnover[0] += next.turnover[0];
        self.turnover[1] += next.turnover[1];
    }
}

/// The phases of these windows.
pub(super) fn cut(windows: Vec<Stretch>) -> Vec<Stretch> {
    let mut stretches = windows;
    loop {
        let pairs = stretches.windows(2).enumerate();
        let likest = pairs
            .map(|(at, pair)| (at, divergence_bits(&pair[0], &pair[1])))
            .min_by(|one, other| one.1.total_cmp(&other.1));
        match likest {
            Some((at, bits)) if bits <= DIFFERENT_BITS || stretches.len() > PHASE_LIMIT => {
                let next = stretches.remove(at + 1);
                stretches[at].join(&next);
            }
            _ => return stretches,
        }
    }
}

fn divergence_bits(one: &Stretch, other: &Stretch) -> f64 {
    jensen_shannon_bits(&one.sizes, &other.sizes)
        + jensen_shannon_bits(&one.lifetimes, &other.lifetimes)
        + jensen_shannon_bits(&one.turnover, &other.turnover)
}

/// 0 if one of them is empty: nothing is known to differ.
fn jensen_shannon_bits(one: &[u64], other: &[u64]) -> f64 {
    let total = |counts: &[u64]| counts.iter().sum::<u64>() as f64;
    let (all_one, all_other) = (total(one), total(other));
    if all_one == 0.0 || all_other == 0.0 {
        return 0.0;
    }
    let part = |share: f64, middle: f64| match share > 0.0 {
        true => share * (share / middle).log2(),
        false => 0.0,
    };
    one.iter()
        .zip(other)
        .map(|(one, other)| {
            let (one, other) = (*one as f64 / all_one, *other as f64 / all_other);
            let middle = f64::midpoint(one, other);
            f64::midpoint(part(one, middle), part(other, middle))
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergences_of_known_distributions() {
        assert_eq!(jensen_shannon_bits(&[1, 3], &[2, 6]), 0.0);
        assert_eq!(jensen_shannon_bits(&[5, 0], &[0, 1]), 1.0);
        assert_eq!(jensen_shannon_bits(&[0, 0], &[0, 1]), 0.0);
        // P = (1, 0), Q = (1/2, 1/2): (log2(4/3) + 1/2 log2(2/3) + 1/2 log2(2)) / 2.
        let bits = jensen_shannon_bits(&[4, 0], &[3, 3]);
        assert!((bits - 0.311_278).abs() < 1e-6, "{bits}");
    }

    #[test]
    fn phases_end_where_behaviour_changes() {
        let window = |number: u32, size: u64, lifetime: Option<u64>| {
            let mut stretch = Stretch::new(number);
            (0..100).for_each(|_| stretch.add(size, lifetime));
            stretch
        };
        let windows = (0..30).map(|number| match number {
            0..10 => window(number, 16, None),
            10..12 => window(number, 4000, Some(5)),
            12 => Stretch::new(12),
            _ => window(number, 16, Some(900)),
        });
        let phases: Vec<_> = cut(windows.collect())
            .into_iter()
            .map(|phase| phase.windows)
            .collect();
        // The empty window belongs to what is before or after it.
        assert_eq!(phases.len(), 3, "{phases:?}");
        assert_eq!((phases[0].clone(), phases[2].end), (0..10, 30));
        assert!((12..=13).contains(&phases[1].end), "{phases:?}");
        let mut torn_down = Stretch::new(2);
        (0..100).for_each(|_| torn_down.add_end());
        let grown = [window(0, 16, None), window(1, 16, None), torn_down];
        assert_eq!(cut(grown.to_vec()).len(), 2);
        let all_different = (0..40).map(|number| window(number, 1 << number, None));
        assert_eq!(cut(all_different.collect()).len(), PHASE_LIMIT);
    }
}
