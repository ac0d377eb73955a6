//! What a trace is like: counts, sizes, lifetimes, live bytes over time. Pure.

#![forbid(unsafe_code)]

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::block_table::BlockTable;
use super::stream::{Batch, EventSink};
use super::{BlockId, Event, EventCounts, SiteId, ThreadIndex, Trace};
use crate::error::Result;

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

/// Points taken by the stride: one place each is kept free for the peak and for the end.
const STRIDE_POINTS: usize = CURVE_POINTS - 2;

impl Profile {
    /// Measures a trace in one pass over its events.
    pub fn of(trace: &Trace) -> Self {
        let mut profiler = Profiler::of_length(trace.events().len() as u64);
        for event in trace.events() {
            profiler.step(event, SiteId::default());
        }
        profiler.finish()
    }
}

/// Measures a trace of any length while it passes. Memory: an entry per live block, and one per
/// thread.
#[derive(Debug)]
pub struct Profiler {
    counts: EventCounts,
    births: BlockTable<Birth>,
    /// First and last event of each thread that has one.
    spans: Vec<Option<(u64, u64)>>,
    cross_thread_frees: u64,
    requested_bytes: u64,
    largest_bytes: u64,
    live: LivePoint,
    peak: LivePoint,
    live_blocks_peak: u64,
    sizes: Classes,
    lifetimes: Classes,
    curve: Curve,
}

/// What is remembered of a live block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Birth {
    /// Number of the event that allocated it.
    pub(super) event: u64,
    /// Requested bytes.
    pub(super) bytes: u64,
    /// Who asked.
    pub(super) thread: ThreadIndex,
    /// Where.
    pub(super) site: SiteId,
    /// Links of its chain of reallocations, the first allocation among them.
    pub(super) links: NonZeroU32,
}

const _: () = assert!(
    size_of::<Option<Birth>>() <= 32,
    "half a cache line per live block"
);

/// What an event did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// Number of the event, from 0.
    pub(super) event: u64,
    /// The block that ended, if one did.
    pub(super) ended: Option<Birth>,
    /// The block that began, if one did.
    pub(super) begun: Option<Birth>,
}

impl Profiler {
    /// Nothing measured yet, of a trace whose length is not known.
    #[expect(clippy::new_without_default, reason = "there are two ways to begin")]
    pub fn new() -> Self {
        Self::with_curve(Curve::adaptive())
    }

    /// Nothing measured yet, of a trace of so many events: the curve gets all its points.
    pub fn of_length(events: u64) -> Self {
        Self::with_curve(Curve::of_length(events))
    }

    fn with_curve(curve: Curve) -> Self {
        let nothing = LivePoint {
            event: 0,
            live_bytes: 0,
            live_blocks: 0,
        };
        Self {
            counts: EventCounts::default(),
            births: BlockTable::default(),
            spans: Vec::new(),
            cross_thread_frees: 0,
            requested_bytes: 0,
            largest_bytes: 0,
            live: nothing,
            peak: nothing,
            live_blocks_peak: 0,
            sizes: Classes::new(),
            lifetimes: Classes::new(),
            curve,
        }
    }

    /// Measures the next event.
    pub(super) fn step(&mut self, event: &Event, site: SiteId) -> Step {
        let index = self.live.event;
        self.counts.add(&event.operation);
        self.live_span(event.thread, index);
        let ended = event
            .operation
            .releases()
            .map(|block| self.end_block(block, index, event.thread));
        let begun = event.operation.allocates().map(|block| {
            let birth = Birth {
                event: index,
                bytes: event.operation.requested_bytes(),
                thread: event.thread,
                site,
                links: ended.map_or(NonZeroU32::MIN, |old| old.links.saturating_add(1)),
            };
            self.begin_block(block, birth);
            birth
        });
        self.live.event += 1;
        if self.live.live_bytes > self.peak.live_bytes {
            self.peak = self.live;
        }
        self.live_blocks_peak = self.live_blocks_peak.max(self.live.live_blocks);
        self.curve.offer(self.live);
        Step {
            event: index,
            ended,
            begun,
        }
    }

    fn live_span(&mut self, thread: ThreadIndex, index: u64) {
        let thread = thread.0 as usize;
        if thread >= self.spans.len() {
            self.spans.resize(thread + 1, None);
        }
        self.spans[thread].get_or_insert((index, index)).1 = index;
    }

    fn begin_block(&mut self, block: BlockId, birth: Birth) {
        self.births.insert(block, birth);
        self.sizes.add(birth.bytes);
        self.requested_bytes = self.requested_bytes.saturating_add(birth.bytes);
        self.largest_bytes = self.largest_bytes.max(birth.bytes);
        self.live.live_bytes = self.live.live_bytes.saturating_add(birth.bytes);
        self.live.live_blocks += 1;
    }

    fn end_block(&mut self, block: BlockId, index: u64, thread: ThreadIndex) -> Birth {
        let birth = self
            .births
            .remove(block)
            .expect("a trace releases live blocks only");
        self.cross_thread_frees += u64::from(birth.thread != thread);
        self.lifetimes.add(index - birth.event);
        self.live.live_bytes = self.live.live_bytes.saturating_sub(birth.bytes);
        self.live.live_blocks -= 1;
        birth
    }

    /// Events so far, by kind.
    pub fn counts(&self) -> &EventCounts {
        &self.counts
    }

    /// First and last event of each thread that has one.
    pub(super) fn spans(&self) -> &[Option<(u64, u64)>] {
        &self.spans
    }

    /// What was measured.
    pub fn finish(self) -> Profile {
        Profile {
            counts: self.counts,
            threads: u32::try_from(self.spans.len()).expect("threads have 32-bit numbers"),
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
            live_curve: self.curve.finish(self.peak, self.live),
        }
    }
}

impl EventSink for Profiler {
    fn take(&mut self, batch: &Batch) -> Result<()> {
        for event in &batch.events {
            self.step(event, SiteId::default());
        }
        Ok(())
    }
}

/// Points of the live bytes, one every so many events.
#[derive(Debug)]
struct Curve {
    points: Vec<LivePoint>,
    stride: u64,
    /// The length is not known: whenever there are too many points, the stride doubles.
    is_adaptive: bool,
}

impl Curve {
    fn of_length(events: u64) -> Self {
        Self {
            points: Vec::with_capacity(CURVE_POINTS),
            stride: events.div_ceil(STRIDE_POINTS as u64).max(1),
            is_adaptive: false,
        }
    }

    fn adaptive() -> Self {
        Self {
            points: Vec::with_capacity(CURVE_POINTS),
            stride: 1,
            is_adaptive: true,
        }
    }

    #[inline]
    fn offer(&mut self, point: LivePoint) {
        if point.event.is_multiple_of(self.stride) {
            self.take(point);
        }
    }

    fn take(&mut self, point: LivePoint) {
        if self.is_adaptive && self.points.len() == STRIDE_POINTS {
            self.stride *= 2;
            let stride = self.stride;
            self.points.retain(|kept| kept.event.is_multiple_of(stride));
            if !point.event.is_multiple_of(stride) {
                return;
            }
        }
        self.points.push(point);
    }

    fn finish(mut self, peak: LivePoint, end: LivePoint) -> Vec<LivePoint> {
        for point in [peak, end] {
            // An empty trace has neither; a point may have been taken by the stride already.
            if point.event > 0
                && let Err(place) = self.points.binary_search_by_key(&point.event, |p| p.event)
            {
                self.points.insert(place, point);
            }
        }
        self.points
    }
}

/// Most spans that cover one event.
fn alive_peak(spans: &[Option<(u64, u64)>]) -> u32 {
    let (firsts, lasts) = sorted_ends(spans);
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

/// How many spans cover each event of `at`.
pub(super) fn spans_at(
    spans: &[Option<(u64, u64)>],
    at: impl IntoIterator<Item = u64>,
) -> Vec<u32> {
    let (firsts, lasts) = sorted_ends(spans);
    at.into_iter()
        .map(|event| {
            let begun = firsts.partition_point(|&first| first <= event);
            let ended = lasts.partition_point(|&last| last < event);
            u32::try_from(begun - ended).expect("at most as many as there are threads")
        })
        .collect()
}

/// The first and the last events, each ascending.
fn sorted_ends(spans: &[Option<(u64, u64)>]) -> (Vec<u64>, Vec<u64>) {
    let mut firsts: Vec<u64> = spans.iter().flatten().map(|span| span.0).collect();
    let mut lasts: Vec<u64> = spans.iter().flatten().map(|span| span.1).collect();
    firsts.sort_unstable();
    lasts.sort_unstable();
    (firsts, lasts)
}

/// A histogram over powers of two: class 0 holds 0, class 1 holds 1, class k > 1 holds
/// `2^(k-2) + 1 ..= 2^(k-1)`.
#[derive(Clone, Debug)]
pub(super) struct Classes {
    counts: [u64; CLASSES],
}

/// Classes of powers of two.
pub(super) const CLASSES: usize = 66;

/// The class of a value.
#[inline]
pub(super) fn class_of(value: u64) -> usize {
    match value {
        0 => 0,
        _ => 65 - (value - 1).leading_zeros() as usize,
    }
}

/// Smallest and largest value of a class.
pub(super) fn class_bounds(class: usize) -> (u64, u64) {
    match class {
        0 => (0, 0),
        1 => (1, 1),
        65 => ((1 << 63) + 1, u64::MAX),
        _ => ((1 << (class - 2)) + 1, 1 << (class - 1)),
    }
}

impl Classes {
    pub(super) fn new() -> Self {
        Self {
            counts: [0; CLASSES],
        }
    }

    #[inline]
    pub(super) fn add(&mut self, value: u64) {
        self.counts[class_of(value)] += 1;
    }

    /// Takes back what [`Classes::add`] did.
    pub(super) fn remove(&mut self, value: u64) {
        self.counts[class_of(value)] -= 1;
    }

    pub(super) fn buckets<B>(&self, bucket: impl Fn(u64, u64, u64) -> B) -> Vec<B> {
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
            let mut streaming = Profiler::new();
            testing::feed(&trace, 7, &mut streaming);
            prop_assert_eq!(&profile, &streaming.finish());
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

    #[test]
    fn a_curve_of_unknown_length_has_as_many_points_as_fit() {
        for events in [1, 509, 510, 511, 1021, 5000, 123_456] {
            let trace = testing::sawtooth(events, 77);
            let mut streaming = Profiler::new();
            testing::feed(&trace, 4096, &mut streaming);
            let (profile, whole) = (streaming.finish(), Profile::of(&trace));
            let points = profile.live_curve.len();
            assert!(points <= CURVE_POINTS, "{events}: {points}");
            assert!(
                points >= events.min(CURVE_POINTS / 2 - 1),
                "{events}: {points}"
            );
            assert!(profile.live_curve.is_sorted_by(|a, b| a.event < b.event));
            let peak = profile
                .live_curve
                .iter()
                .map(|point| point.live_bytes)
                .max();
            assert_eq!(peak, Some(profile.live_bytes_peak));
            assert_eq!(profile.live_bytes_peak, whole.live_bytes_peak);
            assert_eq!(
                profile.live_curve.last().map(|point| point.event),
                Some(events as u64)
            );
        }
    }
}
