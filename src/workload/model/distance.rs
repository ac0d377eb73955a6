//! How far two traces are from each other: sizes, lifetimes, live bytes over time.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::trace::{EventCounts, Trace};

/// Points at which live bytes are compared.
const POINTS: u64 = 1000;

/// What of a trace is compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// Events by kind.
    pub counts: EventCounts,
    /// Allocations by requested bytes.
    sizes: BTreeMap<u64, u64>,
    /// Ended blocks by lifetime in operations.
    lifetimes: BTreeMap<u64, u64>,
    /// Live bytes after each thousandth of the operations.
    live_bytes: Vec<u64>,
    /// Highest sum of requested bytes.
    pub live_bytes_peak: u64,
    /// Highest number of live blocks.
    pub live_blocks_peak: u64,
    /// Requested bytes of all allocations.
    pub requested_bytes: u64,
    /// Blocks ended by another thread than the one that made them.
    pub cross_thread_frees: u64,
    /// Threads.
    pub threads: u32,
}

impl Shape {
    /// Looks at a trace once.
    pub fn of(trace: &Trace) -> Self {
        let total = trace.counts().operations();
        let mut shape = Self {
            counts: *trace.counts(),
            sizes: BTreeMap::new(),
            lifetimes: BTreeMap::new(),
            live_bytes: Vec::with_capacity(POINTS as usize),
            live_bytes_peak: 0,
            live_blocks_peak: 0,
            requested_bytes: 0,
            cross_thread_frees: 0,
            threads: trace.thread_count(),
        };
        // Birth, thread and bytes of each block.
        let mut births: Vec<(u64, u32, u64)> = Vec::with_capacity(trace.block_count() as usize);
        let (mut done, mut live, mut blocks) = (0u64, 0u64, 0u64);
        for event in trace.events() {
            if !event.operation.is_replayed() {
                continue;
            }
            if let Some(block) = event.operation.releases() {
                let (birth, thread, bytes) = births[block.0 as usize];
                *shape.lifetimes.entry(done - birth).or_default() += 1;
                shape.cross_thread_frees += u64::from(thread != event.thread.0);
                live -= bytes;
                blocks -= 1;
            }
            if event.operation.allocates().is_some() {
                let bytes = event.operation.requested_bytes();
                births.push((done, event.thread.0, bytes));
                *shape.sizes.entry(bytes).or_default() += 1;
                shape.requested_bytes = shape.requested_bytes.saturating_add(bytes);
                live = live.saturating_add(bytes);
                blocks += 1;
            }
            shape.live_bytes_peak = shape.live_bytes_peak.max(live);
            shape.live_blocks_peak = shape.live_blocks_peak.max(blocks);
            done += 1;
            while (shape.live_bytes.len() as u64) < done * POINTS / total {
                shape.live_bytes.push(live);
            }
        }
        shape
    }
}

/// How far a second trace is from a first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distance {
    /// Largest difference of the shares of allocations up to any size (Kolmogorov and Smirnov): 0 for
    /// equal distributions, at most 1.
    pub sizes: f64,
    /// The same for lifetimes in operations.
    pub lifetimes: f64,
    /// Mean difference of the live bytes over the trace, as a share of the first one's peak.
    pub live_bytes: f64,
}

impl Distance {
    /// Of two shapes.
    pub fn between(one: &Shape, other: &Shape) -> Self {
        let differences = one.live_bytes.iter().zip(&other.live_bytes);
        let sum: f64 = differences
            .map(|(one, other)| one.abs_diff(*other) as f64)
            .sum();
        let points = one.live_bytes.len().min(other.live_bytes.len()).max(1);
        Self {
            sizes: kolmogorov_smirnov(&one.sizes, &other.sizes),
            lifetimes: kolmogorov_smirnov(&one.lifetimes, &other.lifetimes),
            live_bytes: sum / points as f64 / one.live_bytes_peak.max(1) as f64,
        }
    }
}

/// Largest difference of two cumulative distributions; 1 if only one of them is empty.
fn kolmogorov_smirnov(one: &BTreeMap<u64, u64>, other: &BTreeMap<u64, u64>) -> f64 {
    let total = |counts: &BTreeMap<u64, u64>| counts.values().sum::<u64>() as f64;
    let (all_one, all_other) = (total(one), total(other));
    if all_one == 0.0 || all_other == 0.0 {
        return f64::from(u8::from(all_one != all_other));
    }
    let mut together: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for (value, count) in one {
        together.entry(*value).or_default().0 += count;
    }
    for (value, count) in other {
        together.entry(*value).or_default().1 += count;
    }
    let (mut sums, mut largest) = ((0u64, 0u64), 0.0f64);
    for (one, other) in together.values() {
        sums = (sums.0 + one, sums.1 + other);
        let difference = sums.0 as f64 / all_one - sums.1 as f64 / all_other;
        largest = largest.max(difference.abs());
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::builder::TraceBuilder;
    use crate::trace::{Origin, ThreadIndex};

    #[test]
    fn distances_of_known_distributions() {
        let counts = |pairs: &[(u64, u64)]| pairs.iter().copied().collect::<BTreeMap<_, _>>();
        let one = counts(&[(8, 1), (16, 3)]);
        assert_eq!(kolmogorov_smirnov(&one, &one), 0.0);
        // Up to 8: 1/4 and 3/4.
        assert_eq!(kolmogorov_smirnov(&one, &counts(&[(8, 3), (16, 1)])), 0.5);
        assert_eq!(kolmogorov_smirnov(&one, &counts(&[(4, 5)])), 1.0);
        assert_eq!(kolmogorov_smirnov(&counts(&[]), &counts(&[])), 0.0);
        assert_eq!(kolmogorov_smirnov(&one, &counts(&[])), 1.0);
    }

    #[test]
    fn live_bytes_are_compared_at_equal_shares_of_the_operations() {
        let trace = |sizes: &[u64]| {
            let mut builder = TraceBuilder::new(Origin::generated("t", Vec::new()));
            for &size in sizes {
                builder.malloc(ThreadIndex(0), size);
            }
            Shape::of(&builder.finish())
        };
        // Live after the halves: 100, 200 and 50, 200; the peak is 200.
        let one = trace(&[100, 100]);
        let other = trace(&[50, 150]);
        assert_eq!(one.live_bytes.len(), POINTS as usize);
        let distance = Distance::between(&one, &other);
        // Of 1000 points, 500 to 999 of the first half's end: 500 points lie at one operation.
        assert!((distance.live_bytes - 0.125).abs() < 0.001, "{distance:?}");
        assert_eq!((distance.sizes, distance.lifetimes), (0.5, 0.0));
    }
}
