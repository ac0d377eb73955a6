//! `diff`: two traces side by side, with ratios.

#![forbid(unsafe_code)]

use serde::Serialize;

use super::stat::Statistics;
use crate::trace::profile::Profile;

/// What the numbers of a row count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Nanoseconds.
    Nanoseconds,
    /// Parts of a whole, 0 to 1.
    Share,
}

/// One quantity in both traces.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What it is, in words.
    pub what: &'static str,
    /// What the numbers count.
    pub unit: Unit,
    /// In the first trace; none where it has no such thing.
    pub first: Option<f64>,
    /// In the second.
    pub second: Option<f64>,
    /// Second over first; none where one is missing or the first is 0.
    pub ratio: Option<f64>,
}

/// A class of a histogram in both traces.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClassRow {
    /// Smallest value of the class.
    pub low: u64,
    /// Largest value of the class.
    pub high: u64,
    /// Share in the first trace, 0 to 1.
    pub first: f64,
    /// Share in the second.
    pub second: f64,
}

/// Two traces side by side.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// The first trace, as named by the user.
    pub first: String,
    /// The second.
    pub second: String,
    /// Quantity by quantity.
    pub rows: Vec<Row>,
    /// Requests by size, in bytes.
    pub sizes: Vec<ClassRow>,
    /// Share of requests that would have to change class to make the sizes equal, 0 to 1.
    pub sizes_distance: f64,
    /// Freed blocks by lifetime, in events.
    pub lifetimes: Vec<ClassRow>,
    /// The same for lifetimes.
    pub lifetimes_distance: f64,
}

/// Puts two traces side by side.
pub fn diff(first: &Statistics, second: &Statistics) -> Difference {
    let sizes = classes(&sizes_of(first), &sizes_of(second));
    let lifetimes = classes(&lifetimes_of(first), &lifetimes_of(second));
    Difference {
        first: first.origin.source.clone(),
        second: second.origin.source.clone(),
        rows: rows(first, second),
        sizes_distance: distance(&sizes),
        sizes,
        lifetimes_distance: distance(&lifetimes),
        lifetimes,
    }
}

type Quantity = (&'static str, Unit, fn(&Statistics) -> Option<f64>);

const QUANTITIES: [Quantity; 29] = {
    use Unit::{Bytes, Count, Nanoseconds, Share};
    [
        ("events", Count, |s| number(s.profile.counts.total())),
        ("operations", Count, |s| {
            number(s.profile.counts.operations())
        }),
        ("malloc", Count, |s| number(s.profile.counts.malloc)),
        ("calloc", Count, |s| number(s.profile.counts.calloc)),
        ("realloc", Count, |s| number(s.profile.counts.realloc)),
        ("aligned", Count, |s| number(s.profile.counts.aligned)),
        ("free", Count, |s| number(s.profile.counts.free)),
        ("free(NULL)", Count, |s| number(s.profile.counts.free_null)),
        ("frees of unseen blocks", Count, |s| {
            number(s.profile.counts.free_unseen)
        }),
        ("failed allocations", Count, |s| {
            number(s.profile.counts.failed_allocation)
        }),
        ("duration", Nanoseconds, |s| {
            s.duration_ns.map(|ns| ns as f64)
        }),
        ("threads", Count, |s| number(u64::from(s.profile.threads))),
        ("threads at once", Count, |s| {
            number(u64::from(s.profile.threads_alive_peak))
        }),
        ("cross-thread frees", Count, |s| {
            number(s.profile.cross_thread_frees)
        }),
        ("share of frees", Share, |s| {
            share(s.profile.cross_thread_frees, freed(&s.profile))
        }),
        ("requested", Bytes, |s| number(s.profile.requested_bytes)),
        ("mean size", Bytes, |s| {
            share(s.profile.requested_bytes, allocated(&s.profile))
        }),
        ("median size, up to", Bytes, |s| {
            percentile(&sizes_of(s), 0.5)
        }),
        ("99th percentile, up to", Bytes, |s| {
            percentile(&sizes_of(s), 0.99)
        }),
        ("largest", Bytes, |s| number(s.profile.largest_bytes)),
        ("live bytes at the peak", Bytes, |s| {
            number(s.profile.live_bytes_peak)
        }),
        ("live blocks at the peak", Count, |s| {
            number(s.profile.live_blocks_peak)
        }),
        ("never freed, bytes", Bytes, |s| {
            number(s.profile.live_bytes_end)
        }),
        ("never freed, blocks", Count, |s| {
            number(s.profile.live_blocks_end)
        }),
        ("median lifetime, up to", Count, |s| {
            percentile(&lifetimes_of(s), 0.5)
        }),
        ("99th percentile, up to", Count, |s| {
            percentile(&lifetimes_of(s), 0.99)
        }),
        ("reallocations that grow", Count, |s| {
            number(s.reallocs.grown)
        }),
        ("longest realloc chain", Count, |s| {
            number(s.reallocs.chain_longest)
        }),
        ("call sites", Count, |s| {
            Some(s.sites_total).filter(|&n| n > 0).map(|n| n as f64)
        }),
    ]
};

fn number(value: u64) -> Option<f64> {
    Some(value as f64)
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Blocks allocated.
fn allocated(profile: &Profile) -> u64 {
    profile.sizes.iter().map(|bucket| bucket.count).sum()
}

/// Blocks freed, by `realloc` too.
fn freed(profile: &Profile) -> u64 {
    profile.lifetimes.iter().map(|bucket| bucket.count).sum()
}

fn rows(first: &Statistics, second: &Statistics) -> Vec<Row> {
    QUANTITIES
        .iter()
        .map(|&(what, unit, of)| {
            let (first, second) = (of(first), of(second));
            let ratio = first
                .zip(second)
                .filter(|&(first, _)| first > 0.0)
                .map(|(first, second)| second / first);
            Row {
                what,
                unit,
                first,
                second,
                ratio,
            }
        })
        .filter(|row| row.first.unwrap_or(0.0) != 0.0 || row.second.unwrap_or(0.0) != 0.0)
        .collect()
}

/// A histogram: lowest and highest value of each class, and how many.
type Histogram = Vec<(u64, u64, u64)>;

fn sizes_of(statistics: &Statistics) -> Histogram {
    let buckets = statistics.profile.sizes.iter();
    buckets
        .map(|b| (b.low_bytes, b.high_bytes, b.count))
        .collect()
}

fn lifetimes_of(statistics: &Statistics) -> Histogram {
    let buckets = statistics.profile.lifetimes.iter();
    buckets
        .map(|b| (b.low_events, b.high_events, b.count))
        .collect()
}

/// The highest value of the class that holds a percentile, `part` from 0 to 1.
fn percentile(histogram: &Histogram, part: f64) -> Option<f64> {
    let total: u64 = histogram.iter().map(|class| class.2).sum();
    let wanted = (part * total as f64).ceil() as u64;
    let mut below = 0;
    let class = histogram.iter().find(|class| {
        below += class.2;
        total > 0 && below >= wanted
    })?;
    Some(class.1 as f64)
}

/// All classes that either has, ascending.
fn classes(first: &Histogram, second: &Histogram) -> Vec<ClassRow> {
    let total = |histogram: &Histogram| histogram.iter().map(|class| class.2).sum::<u64>().max(1);
    let (first_total, second_total) = (total(first) as f64, total(second) as f64);
    let mut rows: Vec<ClassRow> = Vec::new();
    for &(low, high, count) in first {
        rows.push(ClassRow {
            low,
            high,
            first: count as f64 / first_total,
            second: 0.0,
        });
    }
    for &(low, high, count) in second {
        let share = count as f64 / second_total;
        match rows.binary_search_by_key(&low, |row| row.low) {
            Ok(place) => rows[place].second = share,
            Err(place) => rows.insert(
                place,
                ClassRow {
                    low,
                    high,
                    first: 0.0,
                    second: share,
                },
            ),
        }
    }
    rows
}

/// Half the sum of absolute differences: 0 if equal, 1 if they have no class in common.
fn distance(rows: &[ClassRow]) -> f64 {
    rows.iter()
        .map(|row| (row.first - row.second).abs())
        .sum::<f64>()
        / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::builder::TraceBuilder;
    use crate::trace::stream::Ending;
    use crate::trace::tools::stat::Statistician;
    use crate::trace::{ThreadIndex, Trace, testing};

    fn statistics(trace: &Trace) -> Statistics {
        let mut statistician = Statistician::default();
        testing::feed(trace, 100, &mut statistician);
        statistician.finish(Ending {
            origin: testing::origin(),
            site_names: Vec::new(),
        })
    }

    fn sizes(sizes: &[u64]) -> Statistics {
        let mut builder = TraceBuilder::new(testing::origin());
        for &size in sizes {
            let block = builder.malloc(ThreadIndex(0), size);
            builder.free(ThreadIndex(0), block, false);
        }
        statistics(&builder.finish())
    }

    fn row<'d>(difference: &'d Difference, what: &str) -> &'d Row {
        let mut rows = difference.rows.iter();
        rows.find(|row| row.what == what).expect("the row exists")
    }

    #[test]
    fn a_trace_does_not_differ_from_itself() {
        let one = statistics(&testing::sawtooth(5000, 77));
        let difference = diff(&one, &one);
        assert!(difference.rows.iter().all(|row| row.first == row.second));
        assert!(difference.rows.iter().all(|row| row.ratio == Some(1.0)));
        assert_eq!(
            (difference.sizes_distance, difference.lifetimes_distance),
            (0.0, 0.0)
        );
    }

    #[test]
    fn ratios_are_second_over_first() {
        let difference = diff(&sizes(&[10, 10, 1000, 1000]), &sizes(&[10, 10, 10, 30]));
        assert_eq!(row(&difference, "malloc").ratio, Some(1.0));
        assert_eq!(row(&difference, "largest").ratio, Some(30.0 / 1000.0));
        assert_eq!(row(&difference, "mean size").first, Some(505.0));
        assert_eq!(row(&difference, "median size, up to").first, Some(16.0));
        assert_eq!(
            row(&difference, "99th percentile, up to").second,
            Some(32.0)
        );
        // Two of four are in another class.
        assert_eq!(difference.sizes_distance, 0.5);
        assert_eq!(difference.lifetimes_distance, 0.0);
        assert_eq!(difference.sizes.first().map(|class| class.first), Some(0.5));
    }

    #[test]
    fn what_neither_has_is_no_row() {
        let difference = diff(&sizes(&[1]), &sizes(&[2]));
        assert!(
            difference
                .rows
                .iter()
                .all(|row| row.what != "calloc" && row.what != "duration")
        );
        let nothing = diff(&sizes(&[]), &sizes(&[2]));
        assert_eq!(row(&nothing, "events").ratio, None);
        assert_eq!(row(&nothing, "mean size").first, None);
    }
}
