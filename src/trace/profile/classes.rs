//! Classes of powers of two, for sizes and for lifetimes.

#![forbid(unsafe_code)]

/// A histogram over powers of two: class 0 holds 0, class 1 holds 1, class k > 1 holds
/// `2^(k-2) + 1 ..= 2^(k-1)`.
#[derive(Clone, Debug)]
pub(in crate::trace) struct Classes {
    counts: [u64; CLASSES],
}

/// Classes of powers of two.
pub(in crate::trace) const CLASSES: usize = 66;

/// The class of a value.
#[inline]
pub(in crate::trace) fn class_of(value: u64) -> usize {
    match value {
        0 => 0,
        _ => 65 - (value - 1).leading_zeros() as usize,
    }
}

/// Smallest and largest value of a class.
pub(in crate::trace) fn class_bounds(class: usize) -> (u64, u64) {
    match class {
        0 => (0, 0),
        1 => (1, 1),
        65 => ((1 << 63) + 1, u64::MAX),
        _ => ((1 << (class - 2)) + 1, 1 << (class - 1)),
    }
}

impl Classes {
    pub(in crate::trace) fn new() -> Self {
        Self {
            counts: [0; CLASSES],
        }
    }

    #[inline]
    pub(in crate::trace) fn add(&mut self, value: u64) {
        self.counts[class_of(value)] += 1;
    }

    /// Takes back what [`Classes::add`] did.
    pub(in crate::trace) fn remove(&mut self, value: u64) {
        self.counts[class_of(value)] -= 1;
    }

    pub(in crate::trace) fn buckets<B>(&self, bucket: impl Fn(u64, u64, u64) -> B) -> Vec<B> {
        let used = |count: &u64| *count > 0;
        let Some(first) = self.counts.iter().position(used) else {
            return Vec::new();
        };
        let last = self.counts.iter().rposition(used).unwrap_or(first);
        (first..=last)
            .map(|class| {
                let (low, high) = class_bounds(class);
                bucket(low, high, self.counts[class])
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_cover_every_number_once() {
        let mut classes = Classes::new();
        let values = [0, 1, 2, 3, 4, 5, 8, 9, 1 << 47, (1 << 63) + 1, u64::MAX];
        values.iter().for_each(|&value| classes.add(value));
        let buckets = classes.buckets(|low, high, count| (low, high, count));
        assert_eq!(buckets.len(), 66);
        let mut next = 0;
        for (low, high, count) in buckets {
            assert_eq!(low, next);
            let expected = values
                .iter()
                .filter(|&&v| (low..=high).contains(&v))
                .count();
            assert_eq!(count, expected as u64, "{low}..={high}");
            next = high.wrapping_add(1);
        }
        assert_eq!(next, 0, "the last class ends at the largest number");
    }
}
