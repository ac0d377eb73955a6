//! What a trace is like: counts, sizes, lifetimes, live bytes over time. Pure.

#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

use super::{BlockId, Event, EventCounts, Trace};

/// What a trace is like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Events by kind.
    pub counts: EventCounts,
    /// Threads that appear.
    pub threads: u32,
    /// Most threads between their first and last event at once. Not how many were alive: a
    /// recording tells neither when a thread began nor, in most grammars, when it ended.
    pub threads_alive_peak: u32,
    /// Blocks freed or reallocated by another thread than the one that allocated them.
    pub cross_thread_frees: u64,
    /// Sum of all requested bytes.
    pub requested_bytes: u64,
    /// Highest sum of requested bytes of live blocks.
    pub live_bytes_peak: u64,
    /// Highest number of live blocks.
    pub live_blocks_peak: u64,
    /// Blocks never freed.
    pub live_blocks_end: u64,
    /// Requested bytes of those.
    pub live_bytes_end: u64,
    /// Largest single request.
    pub largest_bytes: u64,
    /// Requests by size, ascending, classes without requests included between the first and last.
    pub sizes: Vec<SizeBucket>,
    /// Freed blocks by lifetime, ascending, likewise without gaps.
    pub lifetimes: Vec<LifetimeBucket>,
    /// Live bytes over the trace: at most 512 points, ascending, the peak among them.
    pub live_curve: Vec<LivePoint>,
}

/// Requests of `low_bytes ..= high_bytes`: powers of two (0, 1, 2, 3-4, 5-8, ...).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SizeBucket {
    /// Smallest size of the class.
    pub low_bytes: u64,
    /// Largest size of the class.
    pub high_bytes: u64,
    /// Requests.
    pub count: u64,
}

/// Blocks freed after `low_events ..= high_events` further events of the trace: powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LifetimeBucket {
    /// Shortest lifetime of the class.
    pub low_events: u64,
    /// Longest lifetime of the class.
    pub high_events: u64,
    /// Blocks.
    pub count: u64,
}

/// Live bytes after some event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LivePoint {
    /// Number of events so far.
    pub event: u64,
    /// Requested and not yet freed.
    pub live_bytes: u64,
    /// Live blocks.
    pub live_blocks: u64,
}

/// Points of the live curve.
const CURVE_POINTS: usize = 512;

impl Profile {
    /// Measures a trace: one pass over its events, one word of memory per block.
    pub fn of(trace: &Trace) -> Self {
        let mut walk = Walk::new(trace);
        for (index, event) in trace.events().iter().enumerate() {
            walk.step(index as u32, event);
        }
        walk.finish()
    }
}

/// The state of the pass.
struct Walk<'t> {
    trace: &'t Trace,
    /// The event that allocated each block; its thread and size stand there.
    births: Vec<u32>,
    /// First and last event of each thread that has one.
    spans: Vec<Option<(u32, u32)>>,
    cross_thread_frees: u64,
    requested_bytes: u64,
    largest_bytes: u64,
    live: LivePoint,
    peak: LivePoint,
    live_blocks_peak: u64,
    sizes: Classes,
    lifetimes: Classes,
    curve: Vec<LivePoint>,
    /// A point of the curve every so many events.
    stride: u64,
}

impl<'t> Walk<'t> {
    fn new(trace: &'t Trace) -> Self {
        let nothing = LivePoint {
            event: 0,
            live_bytes: 0,
            live_blocks: 0,
        };
        // One place each is kept free for the peak and for the end.
        let stride = (trace.events().len() as u64)
            .div_ceil(CURVE_POINTS as u64 - 2)
            .max(1);
        Self {
            trace,
            births: Vec::with_capacity(trace.block_count() as usize),
            spans: vec![None; trace.thread_count() as usize],
            cross_thread_frees: 0,
            requested_bytes: 0,
            largest_bytes: 0,
            live: nothing,
            peak: nothing,
            live_blocks_peak: 0,
            sizes: Classes::new(),
            lifetimes: Classes::new(),
            curve: Vec::with_capacity(CURVE_POINTS),
            stride,
        }
    }

    fn step(&mut self, index: u32, event: &Event) {
        let span = self.spans[event.thread.0 as usize].get_or_insert((index, index));
        span.1 = index;
        if let Some(block) = event.operation.releases() {
            self.end_block(block, index, event);
        }
        if event.operation.allocates().is_some() {
            // Blocks are numbered in the order in which they are allocated.
            self.births.push(index);
            let bytes = event.operation.requested_bytes();
            self.sizes.add(bytes);
            self.requested_bytes = self.requested_bytes.saturating_add(bytes);
            self.largest_bytes = self.largest_bytes.max(bytes);
            self.live.live_bytes = self.live.live_bytes.saturating_add(bytes);
            self.live.live_blocks += 1;
        }
        self.live.event = u64::from(index) + 1;
        if self.live.live_bytes > self.peak.live_bytes {
            self.peak = self.live;
        }
        self.live_blocks_peak = self.live_blocks_peak.max(self.live.live_blocks);
        if self.live.event.is_multiple_of(self.stride) {
            self.curve.push(self.live);
        }
    }

    fn end_block(&mut self, block: BlockId, index: u32, event: &Event) {
        let birth = self.births[block.0 as usize];
        let allocation = &self.trace.events()[birth as usize];
        self.cross_thread_frees += u64::from(allocation.thread != event.thread);
        self.lifetimes.add(u64::from(index - birth));
        let bytes = allocation.operation.requested_bytes();
        self.live.live_bytes = self.live.live_bytes.saturating_sub(bytes);
        self.live.live_blocks -= 1;
    }

    fn finish(mut self) -> Profile {
        for point in [self.peak, self.live] {
            // An empty trace has neither; a point may have been taken by the stride already.
            if point.event > 0
                && let Err(place) = self.curve.binary_search_by_key(&point.event, |p| p.event)
            {
                self.curve.insert(place, point);
            }
        }
        Profile {
            counts: *self.trace.counts(),
            threads: self.trace.thread_count(),
            threads_alive_peak: alive_peak(&self.spans),
            cross_thread_frees: self.cross_thread_frees,
            requested_bytes: self.requested_bytes,
            live_bytes_peak: self.peak.live_bytes,
            live_blocks_peak: self.live_blocks_peak,
            live_blocks_end: self.live.live_blocks,
            live_bytes_end: self.live.live_bytes,
            largest_bytes: self.largest_bytes,
            sizes: self
                .sizes
                .buckets(|low_bytes, high_bytes, count| SizeBucket {
                    low_bytes,
                    high_bytes,
                    count,
                }),
            lifetimes: self
                .lifetimes
                .buckets(|low_events, high_events, count| LifetimeBucket {
                    low_events,
                    high_events,
                    count,
                }),
            live_curve: self.curve,
        }
    }
}

/// Most spans that cover one event.
fn alive_peak(spans: &[Option<(u32, u32)>]) -> u32 {
    let mut firsts: Vec<u32> = spans.iter().flatten().map(|span| span.0).collect();
    let mut lasts: Vec<u32> = spans.iter().flatten().map(|span| span.1).collect();
    firsts.sort_unstable();
    lasts.sort_unstable();
    let mut peak = 0;
    let mut ended = 0;
    for (begun, &first) in firsts.iter().enumerate() {
        while lasts[ended] < first {
            ended += 1;
        }
        peak = peak.max(begun + 1 - ended);
    }
    u32::try_from(peak).expect("at most as many as there are threads")
}

/// A histogram over powers of two: class 0 holds 0, class 1 holds 1, class k > 1 holds
/// `2^(k-2) + 1 ..= 2^(k-1)`.
struct Classes {
    counts: [u64; 66],
}

impl Classes {
    fn new() -> Self {
        Self { counts: [0; 66] }
    }

    fn add(&mut self, value: u64) {
        let class = match value {
            0 => 0,
            _ => 65 - (value - 1).leading_zeros() as usize,
        };
        self.counts[class] += 1;
    }

    fn buckets<B>(&self, bucket: impl Fn(u64, u64, u64) -> B) -> Vec<B> {
        let used = |count: &u64| *count > 0;
        let Some(first) = self.counts.iter().position(used) else {
            return Vec::new();
        };
        let last = self.counts.iter().rposition(used).unwrap_or(first);
        (first..=last)
            .map(|class| {
                let (low, high) = match class {
                    0 => (0, 0),
                    1 => (1, 1),
                    65 => ((1 << 63) + 1, u64::MAX),
                    _ => ((1 << (class - 2)) + 1, 1 << (class - 1)),
                };
                bucket(low, high, self.counts[class])
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trace::testing;

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

    /// Live blocks after the first `count` events: births and sizes.
    fn live_after(trace: &Trace, count: usize) -> Vec<(BlockId, u64)> {
        let mut live: Vec<(BlockId, u64)> = Vec::new();
        for event in &trace.events()[..count] {
            live.retain(|&(block, _)| Some(block) != event.operation.releases());
            if let Some(block) = event.operation.allocates() {
                live.push((block, event.operation.requested_bytes()));
            }
        }
        live
    }

    fn bytes(live: &[(BlockId, u64)]) -> u64 {
        live.iter().map(|&(_, bytes)| bytes).sum()
    }

    proptest! {
        #[test]
        fn equals_the_naive_computation(trace in testing::traces(120)) {
            let profile = Profile::of(&trace);
            let events = trace.events();
            let curve: Vec<_> = (0..=events.len()).map(|n| live_after(&trace, n)).collect();
            prop_assert_eq!(profile.live_bytes_peak, curve.iter().map(|l| bytes(l)).max().unwrap());
            prop_assert_eq!(
                profile.live_blocks_peak,
                curve.iter().map(|l| l.len() as u64).max().unwrap()
            );
            prop_assert_eq!(profile.live_blocks_end, curve[events.len()].len() as u64);
            prop_assert_eq!(profile.live_bytes_end, bytes(&curve[events.len()]));
            for point in &profile.live_curve {
                let live = &curve[point.event as usize];
                prop_assert_eq!(point.live_bytes, bytes(live));
                prop_assert_eq!(point.live_blocks, live.len() as u64);
            }
            // Fewer events than points: every event has its point.
            let points: Vec<_> = profile.live_curve.iter().map(|p| p.event as usize).collect();
            prop_assert_eq!(points, (1..=events.len()).collect::<Vec<_>>());

            let sizes: Vec<u64> = events
                .iter()
                .filter(|e| e.operation.allocates().is_some())
                .map(|e| e.operation.requested_bytes())
                .collect();
            prop_assert_eq!(profile.requested_bytes, sizes.iter().sum::<u64>());
            prop_assert_eq!(profile.largest_bytes, sizes.iter().copied().max().unwrap_or(0));
            for bucket in &profile.sizes {
                let inside = |s: &&u64| (bucket.low_bytes..=bucket.high_bytes).contains(*s);
                prop_assert_eq!(bucket.count, sizes.iter().filter(inside).count() as u64);
            }
            prop_assert_eq!(profile.sizes.iter().map(|b| b.count).sum::<u64>(), sizes.len() as u64);

            let mut lifetimes = Vec::new();
            let mut cross = 0;
            for (end, event) in events.iter().enumerate() {
                let Some(block) = event.operation.releases() else { continue };
                let birth =
                    events.iter().position(|e| e.operation.allocates() == Some(block)).unwrap();
                lifetimes.push((end - birth) as u64);
                cross += u64::from(events[birth].thread != event.thread);
            }
            prop_assert_eq!(profile.cross_thread_frees, cross);
            for bucket in &profile.lifetimes {
                let inside = |l: &&u64| (bucket.low_events..=bucket.high_events).contains(*l);
                prop_assert_eq!(bucket.count, lifetimes.iter().filter(inside).count() as u64);
            }

            let alive = (0..events.len()).map(|n| {
                (0..trace.thread_count())
                    .filter(|&t| events[..=n].iter().any(|e| e.thread.0 == t))
                    .filter(|&t| events[n..].iter().any(|e| e.thread.0 == t))
                    .count()
            });
            prop_assert_eq!(profile.threads_alive_peak as usize, alive.max().unwrap_or(0));
        }
    }

    #[test]
    fn the_curve_keeps_its_peak_and_its_end() {
        let trace = testing::sawtooth(5000, 1777);
        let profile = Profile::of(&trace);
        assert!(profile.live_curve.len() <= CURVE_POINTS);
        assert!(profile.live_curve.len() > CURVE_POINTS / 2);
        assert!(profile.live_curve.is_sorted_by(|a, b| a.event < b.event));
        let highest = profile
            .live_curve
            .iter()
            .map(|point| point.live_bytes)
            .max();
        assert_eq!(highest, Some(profile.live_bytes_peak));
        assert_eq!(
            profile.live_curve.last().unwrap().event,
            trace.events().len() as u64
        );
    }
}
