//! Ticks of single operations -> rows of percentiles. Pure.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::results::LatencyRow;

/// What was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
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

impl Call {
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

/// Histograms by call, size class and same or other thread.
#[derive(Debug)]
pub struct Latencies {
    nanoseconds_per_tick: f64,
    cost_ticks: u64,
    /// Without the rows over all sizes, which are sums.
    histograms: BTreeMap<(Call, u64, bool), Histogram<u64>>,
}

impl Latencies {
    /// None yet. `hertz` are ticks per second; `cost_ticks`, the clock's own cost, is subtracted.
    pub fn new(hertz: f64, cost_ticks: u64) -> Self {
        Self {
            nanoseconds_per_tick: if hertz > 0.0 { 1e9 / hertz } else { 0.0 },
            cost_ticks,
            histograms: BTreeMap::new(),
        }
    }

    /// Nanoseconds of a time taken, the clock's cost subtracted.
    pub fn nanoseconds(&self, ticks: u64) -> u64 {
        (ticks.saturating_sub(self.cost_ticks) as f64 * self.nanoseconds_per_tick).round() as u64
    }

    /// One more operation. `size` is what was requested, or the freed block's; `other_thread` tells
    /// whether another thread had allocated the block that is freed or reallocated.
    pub fn record(&mut self, call: Call, size: u64, other_thread: bool, ticks: u64) {
        let nanoseconds = self.nanoseconds(ticks);
        self.histograms
            .entry((call, size_class_bytes(size), other_thread))
            .or_insert_with(|| {
                Histogram::new_with_max(LONGEST_NS, DIGITS).expect("bounds that are allowed")
            })
            .saturating_record(nanoseconds);
    }

    /// A row for each kind of operation, size class and thread that occurred, and for each kind and
    /// thread one over all sizes, whose class is [`ALL_SIZES`].
    pub fn rows(&self) -> Vec<LatencyRow> {
        let mut all: BTreeMap<(Call, bool), Histogram<u64>> = BTreeMap::new();
        for ((call, _, other_thread), histogram) in &self.histograms {
            all.entry((*call, *other_thread))
                .and_modify(|sum| sum.add(histogram).expect("sums grow"))
                .or_insert_with(|| histogram.clone());
        }
        let sums = all
            .iter()
            .map(|((call, other_thread), sum)| row(*call, ALL_SIZES, *other_thread, sum));
        self.histograms
            .iter()
            .map(|((call, class, other_thread), histogram)| {
                row(*call, *class, *other_thread, histogram)
            })
            .chain(sums)
            .collect()
    }
}

fn row(call: Call, class: u64, other_thread: bool, histogram: &Histogram<u64>) -> LatencyRow {
    // A value stands for all that share its three digits; the slowest is not exceeded.
    let at = |quantile| histogram.value_at_quantile(quantile).min(histogram.max());
    LatencyRow {
        operation: call.name().to_owned(),
        size_class_bytes: class,
        other_thread,
        count: histogram.len(),
        p50_ns: at(0.5),
        p90_ns: at(0.9),
        p99_ns: at(0.99),
        p99_9_ns: at(0.999),
        p99_99_ns: at(0.9999),
        max_ns: histogram.max(),
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
        latencies.record(Call::Malloc, 8, false, 240);
        latencies.record(Call::Malloc, 8, false, 10);
        latencies.record(Call::Free, 8, true, 140);
        let rows = latencies.rows();
        let find = |operation: &str, class| {
            rows.iter()
                .find(|row| row.operation == operation && row.size_class_bytes == class)
                .expect("a row")
        };
        assert_eq!(find("malloc", 16).max_ns, 100);
        assert_eq!(find("malloc", 16).p50_ns, 0);
        assert_eq!(find("free", ALL_SIZES).p99_99_ns, 50);
        assert!(find("free", 16).other_thread);
        assert_eq!(rows.len(), 4);
    }

    proptest! {
        #[test]
        fn percentiles_agree_with_sorting(
            times in prop::collection::vec((0u64..10_000_000, 0u64..5000), 1..300),
        ) {
            let mut latencies = Latencies::new(1e9, 0);
            for (nanoseconds, size) in &times {
                latencies.record(Call::Calloc, *size, false, *nanoseconds);
            }
            let rows = latencies.rows();
            let all = rows.last().expect("the sum");
            prop_assert_eq!(all.size_class_bytes, ALL_SIZES);
            prop_assert_eq!(all.count, times.len() as u64);
            let parts: u64 = rows[..rows.len() - 1].iter().map(|row| row.count).sum();
            prop_assert_eq!(parts, all.count);
            let mut sorted: Vec<u64> = times.iter().map(|(nanoseconds, _)| *nanoseconds).collect();
            sorted.sort_unstable();
            for (quantile, found) in [(0.5, all.p50_ns), (0.9, all.p90_ns), (0.99, all.p99_ns)] {
                // At a whole rank either neighbour is right: the product is rounded.
                let rank = quantile * sorted.len() as f64;
                let low = sorted[(rank - 1e-6).ceil().max(1.0) as usize - 1] as f64;
                let high = sorted[((rank + 1e-6).ceil() as usize).clamp(1, sorted.len()) - 1] as f64;
                prop_assert!(found as f64 >= low - low / 1000.0 - 1.0);
                prop_assert!(found as f64 <= high + high / 1000.0 + 1.0);
            }
            let slowest = sorted[sorted.len() - 1] as f64;
            prop_assert!((all.max_ns as f64 - slowest).abs() <= slowest / 1000.0 + 1.0);
        }
    }
}
