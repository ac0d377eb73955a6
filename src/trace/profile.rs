//! What a trace is like: counts, sizes, lifetimes, live bytes over time. Pure.

#![forbid(unsafe_code)]

mod classes;
mod curve;
mod spans;

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use curve::Curve;
use spans::alive_peak;

pub(super) use classes::{CLASSES, Classes, class_bounds, class_of};
pub(super) use spans::spans_at;

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

#[cfg(test)]
mod tests;
