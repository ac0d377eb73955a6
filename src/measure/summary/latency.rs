//! Latency samples -> the rows of a summary: over all sizes, one per operation and same or other
//! thread. Each percentile is the median of the samples'; counts are sums, maxima the highest.

use std::collections::BTreeMap;

use crate::measure::latency::ALL_SIZES;
use crate::measure::results::{LatencyRow, Sample};
use crate::statistics::median;

/// See the module text.
pub(super) fn rows(samples: &[&Sample]) -> Vec<LatencyRow> {
    let mut groups: BTreeMap<(&str, bool), Vec<&LatencyRow>> = BTreeMap::new();
    for row in samples
        .iter()
        .filter_map(|sample| sample.latency.as_ref())
        .flat_map(|latency| &latency.rows)
        .filter(|row| row.size_class_bytes == ALL_SIZES)
    {
        let group = groups.entry((&row.operation, row.other_thread));
        group.or_default().push(row);
    }
    groups
        .into_iter()
        .map(|((operation, other_thread), rows)| {
            let of = |value: fn(&LatencyRow) -> u64| {
                let values: Vec<f64> = rows.iter().map(|row| value(row) as f64).collect();
                median(&values).map_or(0, |value| value.round() as u64)
            };
            LatencyRow {
                operation: operation.to_owned(),
                size_class_bytes: ALL_SIZES,
                other_thread,
                count: rows.iter().map(|row| row.count).sum(),
                p50_ns: of(|row| row.p50_ns),
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
    use crate::measure::latency::{Call, Latencies};
    use crate::measure::results::{LatencySample, Pass, Status};

    fn sample(nanoseconds: u64) -> Sample {
        let mut latencies = Latencies::new(1e9, 0);
        for size in [8, 4000] {
            latencies.record(Call::Malloc, size, false, nanoseconds);
        }
        Sample {
            run: 0,
            workload: "w".to_owned(),
            subject: "s".to_owned(),
            pass: Pass::Latency,
            block: 0,
            position: 0,
            status: Status::Ok,
            reason: None,
            operations: 2,
            receipt: None,
            speed: None,
            memory: None,
            latency: Some(LatencySample {
                clock_hertz: 1e9,
                clock_cost_ns: 0.0,
                rows: latencies.rows(),
                worst: Vec::new(),
            }),
            program: None,
            minor_faults: 0,
            major_faults: 0,
            involuntary_switches: 0,
            voluntary_switches: 0,
            steal_ns: None,
            elapsed_ns: None,
        }
    }

    #[test]
    fn percentiles_are_medians_and_maxima_are_highest() {
        let samples = [10, 500, 30].map(sample);
        let rows = rows(&samples.iter().collect::<Vec<_>>());
        let [row] = rows.as_slice() else {
            panic!("one operation, all sizes: {rows:?}");
        };
        assert_eq!((row.count, row.p50_ns, row.p99_99_ns), (6, 30, 30));
        assert_eq!((row.max_ns, row.size_class_bytes), (500, ALL_SIZES));
    }
}
