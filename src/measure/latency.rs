//! Ticks of single operations -> rows of percentiles. Pure.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::results::LatencyRow;

/// What was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `malloc`
    Malloc,
    /// `free`, of null as well
    Free,
    /// `calloc`
    Calloc,
    /// `realloc`
    Realloc,
    /// Any aligned allocation
    Aligned,
}

impl Kind {
    /// As in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malloc => "malloc",
            Self::Free => "free",
            Self::Calloc => "calloc",
            Self::Realloc => "realloc",
            Self::Aligned => "aligned",
        }
    }
}

/// `size_class_bytes` of a row over all sizes.
pub const ALL_SIZES: u64 = u64::MAX;
/// `size_class_bytes` of the sizes above the largest bound: no block is larger than the address space.
pub const LARGEST_CLASS_BYTES: u64 = 1 << 48;
/// Largest sizes of the classes.
pub const SIZE_CLASSES: [u64; 10] = [
    16,
    64,
    256,
    1 << 10,
    4 << 10,
    16 << 10,
    64 << 10,
    256 << 10,
    1 << 20,
    LARGEST_CLASS_BYTES,
];

/// The class of a size.
pub fn size_class_bytes(size: u64) -> u64 {
    SIZE_CLASSES
        .into_iter()
        .find(|bound| size <= *bound)
        .unwrap_or(LARGEST_CLASS_BYTES)
}

/// Three significant digits.
const DIGITS: u8 = 3;
/// Longest time told apart, a quarter of an hour; longer ones are taken for it.
const LONGEST_NS: u64 = 1 << 40;

/// So many calls must lie beyond a percentile above the median, or it is not told: of fewer, chance
/// decides which one it is.
pub const CALLS_BEYOND: u64 = 10;

/// Times of one row.
#[derive(Clone, Debug)]
struct Times {
    histogram: Histogram<u64>,
    /// Exact, whatever the histogram's digits and bounds.
    max_ns: u64,
}

impl Times {
    fn none() -> Self {
        Self {
            histogram: Histogram::new_with_max(LONGEST_NS, DIGITS)
                .expect("bounds that are allowed"),
            max_ns: 0,
        }
    }

    fn record(&mut self, nanoseconds: u64) {
        self.histogram.saturating_record(nanoseconds);
        self.max_ns = self.max_ns.max(nanoseconds);
    }

    fn add(&mut self, other: &Self) {
        self.histogram
            .add(&other.histogram)
            .expect("of the same bounds");
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    fn row(&self, kind: Kind, class: u64, other_thread: bool) -> LatencyRow {
        // A value stands for all that share its three digits; the slowest is not exceeded.
        let at = |quantile| self.histogram.value_at_quantile(quantile).min(self.max_ns);
        let count = self.histogram.len();
        let beyond = |parts: u64| {
            let quantile = 1.0 - 1.0 / parts as f64;
            (count / parts >= CALLS_BEYOND).then(|| at(quantile))
        };
        LatencyRow {
            operation: kind.name().to_owned(),
            size_class_bytes: class,
            other_thread,
            count,
            p50_ns: at(0.5),
            p90_ns: beyond(10),
            p99_ns: beyond(100),
            p99_9_ns: beyond(1000),
            p99_99_ns: beyond(10_000),
            max_ns: self.max_ns,
        }
    }
}

/// Times by kind, size class and same or other thread.
#[derive(Debug)]
pub struct Latencies {
    nanoseconds_per_tick: f64,
    cost_ticks: u64,
    /// Without the rows over all sizes, which are sums.
    times: BTreeMap<(Kind, u64, bool), Times>,
}

impl Latencies {
    /// None yet. `hertz` are ticks per second; `cost_ticks`, the clock's own cost, is subtracted.
    pub fn new(hertz: f64, cost_ticks: u64) -> Self {
        Self {
            nanoseconds_per_tick: if hertz > 0.0 { 1e9 / hertz } else { 0.0 },
            cost_ticks,
            times: BTreeMap::new(),
        }
    }

    /// Nanoseconds of a time taken, the clock's cost subtracted. A call that was over sooner than the
    /// median of two readings with nothing between them took 0.
    pub fn nanoseconds(&self, ticks: u64) -> u64 {
        (ticks.saturating_sub(self.cost_ticks) as f64 * self.nanoseconds_per_tick).round() as u64
    }

    /// One more operation. `size` is what was requested, or the freed block's; `other_thread` tells
    /// whether another thread had allocated the block that is freed or reallocated.
    pub fn record(&mut self, kind: Kind, size: u64, other_thread: bool, ticks: u64) {
        let nanoseconds = self.nanoseconds(ticks);
        self.times
            .entry((kind, size_class_bytes(size), other_thread))
            .or_insert_with(Times::none)
            .record(nanoseconds);
    }

    /// A row for each kind of operation, size class and thread that occurred, and for each kind and
    /// thread one over all sizes, whose class is [`ALL_SIZES`].
    pub fn rows(&self) -> Vec<LatencyRow> {
        let mut sums: BTreeMap<(Kind, bool), Times> = BTreeMap::new();
        for ((kind, _, other_thread), times) in &self.times {
            sums.entry((*kind, *other_thread))
                .or_insert_with(Times::none)
                .add(times);
        }
        let sums = sums
            .iter()
            .map(|((kind, other_thread), sum)| sum.row(*kind, ALL_SIZES, *other_thread));
        self.times
            .iter()
            .map(|((kind, class, other_thread), times)| times.row(*kind, *class, *other_thread))
            .chain(sums)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn classes_have_their_bounds() {
        for (size, class) in [(0, 16), (16, 16), (17, 64), (1 << 20, 1 << 20)] {
            assert_eq!(size_class_bytes(size), class);
        }
        assert_eq!(size_class_bytes((1 << 20) + 1), LARGEST_CLASS_BYTES);
        assert_eq!(size_class_bytes(u64::MAX), LARGEST_CLASS_BYTES);
    }

    #[test]
    fn the_clock_is_calibrated_and_its_cost_subtracted() {
        // Two ticks per nanosecond.
        let mut latencies = Latencies::new(2e9, 40);
        latencies.record(Kind::Malloc, 8, false, 240);
        latencies.record(Kind::Malloc, 8, false, 10);
        latencies.record(Kind::Free, 8, true, 140);
        let rows = latencies.rows();
        let find = |operation: &str, class| {
            rows.iter()
                .find(|row| row.operation == operation && row.size_class_bytes == class)
                .expect("a row")
        };
        assert_eq!(find("malloc", 16).max_ns, 100);
        assert_eq!(find("malloc", 16).p50_ns, 0);
        assert_eq!(find("free", ALL_SIZES).p50_ns, 50);
        assert!(find("free", 16).other_thread);
        assert_eq!(rows.len(), 4);
    }

    #[test]
    fn percentiles_need_ten_calls_beyond() {
        let known = |count: u64| {
            let mut latencies = Latencies::new(1e9, 0);
            for call in 0..count {
                latencies.record(Kind::Free, 8, false, call);
            }
            let row = latencies.rows().pop().expect("the sum");
            [row.p90_ns, row.p99_ns, row.p99_9_ns, row.p99_99_ns].map(|time| time.is_some())
        };
        assert_eq!(known(99), [false; 4]);
        assert_eq!(known(100), [true, false, false, false]);
        assert_eq!(known(999), [true, false, false, false]);
        assert_eq!(known(1000), [true, true, false, false]);
        assert_eq!(known(10_000), [true, true, true, false]);
        assert_eq!(known(99_999), [true, true, true, false]);
        assert_eq!(known(100_000), [true; 4]);
    }

    /// The slowest call stands in the list of the slowest with its exact time: the rows agree.
    #[test]
    fn the_slowest_is_exact_however_long() {
        let mut latencies = Latencies::new(3e9, 30);
        for ticks in [1_000, 7_000_000_031, u64::from(u32::MAX) + 12_345, 1 << 52] {
            latencies.record(Kind::Malloc, 8, false, ticks);
            for row in latencies.rows() {
                assert_eq!(row.max_ns, latencies.nanoseconds(ticks).max(row.max_ns));
                assert!(row.max_ns >= latencies.nanoseconds(ticks));
            }
        }
    }

    proptest! {
        #[test]
        fn percentiles_agree_with_sorting(
            times in prop::collection::vec((0u64..10_000_000, 0u64..5000), 1..3000),
        ) {
            let mut latencies = Latencies::new(1e9, 0);
            for (nanoseconds, size) in &times {
                latencies.record(Kind::Calloc, *size, false, *nanoseconds);
            }
            let rows = latencies.rows();
            let all = rows.last().expect("the sum");
            prop_assert_eq!(all.size_class_bytes, ALL_SIZES);
            prop_assert_eq!(all.count, times.len() as u64);
            let parts: u64 = rows[..rows.len() - 1].iter().map(|row| row.count).sum();
            prop_assert_eq!(parts, all.count);
            let mut sorted: Vec<u64> = times.iter().map(|(nanoseconds, _)| *nanoseconds).collect();
            sorted.sort_unstable();
            let percentiles = [(0.5, Some(all.p50_ns)), (0.9, all.p90_ns), (0.99, all.p99_ns)];
            for (quantile, found) in percentiles {
                let Some(found) = found else { continue };
                // At a whole rank either neighbour is right: the product is rounded.
                let rank = quantile * sorted.len() as f64;
                let low = sorted[(rank - 1e-6).ceil().max(1.0) as usize - 1] as f64;
                let high = sorted[((rank + 1e-6).ceil() as usize).clamp(1, sorted.len()) - 1] as f64;
                prop_assert!(found as f64 >= low - low / 1000.0 - 1.0);
                prop_assert!(found as f64 <= high + high / 1000.0 + 1.0);
            }
            prop_assert_eq!(all.max_ns, sorted[sorted.len() - 1]);
        }
    }
}
