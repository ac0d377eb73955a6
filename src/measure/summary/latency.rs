//! Latency samples -> the rows of a summary: one per operation, size class and same or other thread.
//! Each percentile is the median of the samples', so that one disturbed replay does not decide the
//! tail; counts are sums, maxima the highest.

use std::collections::BTreeMap;

use crate::measure::results::{LatencyRow, Sample};
use crate::statistics::median;

/// See the module text.
pub(super) fn rows(samples: &[&Sample]) -> Vec<LatencyRow> {
    let mut groups: BTreeMap<(&str, u64, bool), Vec<&LatencyRow>> = BTreeMap::new();
    for row in samples
        .iter()
        .filter_map(|sample| sample.latency.as_ref())
        .flat_map(|latency| &latency.rows)
    {
        let group = groups.entry((&row.operation, row.size_class_bytes, row.other_thread));
        group.or_default().push(row);
    }
    groups
        .into_iter()
        .map(|((operation, size_class_bytes, other_thread), rows)| {
            let of = |value: fn(&LatencyRow) -> Option<u64>| {
                let known = rows.iter().filter_map(|row| value(row));
                let values: Vec<f64> = known.map(|value| value as f64).collect();
                median(&values).map(|value| value.round() as u64)
            };
            LatencyRow {
                operation: operation.to_owned(),
                size_class_bytes,
                other_thread,
                count: rows.iter().map(|row| row.count).sum(),
                p50_ns: of(|row| Some(row.p50_ns)).unwrap_or(0),
                p90_ns: of(|row| row.p90_ns),
                p99_ns: of(|row| row.p99_ns),
                p99_9_ns: of(|row| row.p99_9_ns),
                p99_99_ns: of(|row| row.p99_99_ns),
                max_ns: rows.iter().map(|row| row.max_ns).max().unwrap_or(0),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::latency::{ALL_SIZES, Kind, Latencies};
    use crate::measure::results::{LatencyClock, LatencySample, Pass};

    fn sample(nanoseconds: u64) -> Sample {
        let mut latencies = Latencies::new(1e9, 0);
        // Of 4000 bytes there are too few calls for a percentile.
        for size in std::iter::repeat_n(8, 100).chain([4000]) {
            latencies.record(Kind::Malloc, size, false, nanoseconds);
        }
        Sample {
            latency: Some(LatencySample {
                clock: LatencyClock::TimeStampCounter,
                clock_hertz: 1e9,
                clock_cost_ns: 0.0,
                clock_step_ns: 1.0,
                migrated: Some(0),
                backward: 0,
                rows: latencies.rows(),
                worst: Vec::new(),
            }),
            ..Sample::untaken("w", "s", Pass::Latency, 0)
        }
    }

    #[test]
    fn percentiles_are_medians_and_maxima_are_highest() {
        let samples = [10, 500, 30].map(sample);
        let rows = rows(&samples.iter().collect::<Vec<_>>());
        let [small, large, all] = rows.as_slice() else {
            panic!("one operation, two classes and their sum: {rows:?}");
        };
        assert_eq!((all.count, all.p50_ns, all.p90_ns), (303, 30, Some(30)));
        assert_eq!((all.p99_ns, all.p99_99_ns), (None, None));
        assert_eq!((all.max_ns, all.size_class_bytes), (500, ALL_SIZES));
        assert_eq!((small.count, small.size_class_bytes), (300, 16));
        assert_eq!((large.count, large.p90_ns, large.max_ns), (3, None, 500));
    }
}
