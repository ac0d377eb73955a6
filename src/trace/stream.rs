//! Events on their way from a reader to whoever takes them: a trace in memory, a file in another
//! format, a statistic. Handed on in batches, so that a trace of any length passes in bounded memory.

#![forbid(unsafe_code)]

use super::{BlockId, Event, EventCounts, Operation, Origin, SiteId, ThreadIndex, Trace};
use crate::error::Result;

/// Events of a batch that readers make: enough to hide the call, few enough for the cache.
pub const BATCH_EVENTS: usize = 4096;

/// Consecutive events of a trace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The events, in recorded order.
    pub events: Vec<Event>,
    /// Moment of each event in nanoseconds; empty if the recording has none.
    pub times_ns: Vec<u64>,
    /// Call site of each event; empty if the recording has none.
    pub sites: Vec<SiteId>,
}

impl Batch {
    /// Forgets the events and keeps the memory.
    pub fn clear(&mut self) {
        self.events.clear();
        self.times_ns.clear();
        self.sites.clear();
    }
}

/// Takes the events of a trace, batch by batch.
///
/// Whoever hands them on guarantees what [`super::Trace`] guarantees: blocks are numbered without
/// gaps in the order of their allocation, and released at most once, after it.
pub trait EventSink {
    /// Takes the next events.
    ///
    /// # Errors
    /// They cannot be kept (a full disk, a trace too long for memory).
    fn take(&mut self, batch: &Batch) -> Result<()>;
}

/// What is known of a trace once all its events were handed on.
#[derive(Clone, PartialEq, Debug)]
pub struct Ending {
    /// Where it came from.
    pub origin: Origin,
    /// Name of each [`SiteId`]; empty if the recording has no call sites.
    pub site_names: Vec<String>,
}

/// Hands the events of a trace in memory to a sink.
///
/// # Errors
/// Those of the sink.
pub fn feed(trace: &Trace, sink: &mut dyn EventSink) -> Result<()> {
    let mut batch = Batch::default();
    for first in (0..trace.events().len()).step_by(BATCH_EVENTS) {
        let last = trace.events().len().min(first + BATCH_EVENTS);
        batch.clear();
        batch.events.extend_from_slice(&trace.events()[first..last]);
        if let Some(times_ns) = trace.times_ns() {
            batch.times_ns.extend_from_slice(&times_ns[first..last]);
        }
        if let Some(sites) = trace.sites() {
            batch.sites.extend_from_slice(&sites[first..last]);
        }
        sink.take(&batch)?;
    }
    Ok(())
}

/// Numbers blocks and collects events into batches for a sink.
pub struct Emitter<'s> {
    sink: &'s mut dyn EventSink,
    batch: Batch,
    counts: EventCounts,
    /// Sum of the counts.
    pushed: u64,
    blocks: u32,
    /// Stamps are no longer taken: some events have none.
    timeless: bool,
}

impl<'s> Emitter<'s> {
    /// Nothing handed on yet.
    pub fn new(sink: &'s mut dyn EventSink) -> Self {
        Self {
            sink,
            batch: Batch::default(),
            counts: EventCounts::default(),
            pushed: 0,
            blocks: 0,
            timeless: false,
        }
    }

    /// Events so far, by kind.
    pub fn counts(&self) -> &EventCounts {
        &self.counts
    }

    /// Whether the next event still fits: block numbers are 32 bits wide, and so are the numbers of
    /// events in memory.
    pub fn is_full(&self) -> bool {
        self.pushed >= u64::from(u32::MAX) - 1
    }

    /// Whether so many more events still fit.
    pub fn has_room_for(&self, events: u64) -> bool {
        self.pushed.saturating_add(events) < u64::from(u32::MAX)
    }

    /// The number of the next block. The event that allocates it must be pushed next.
    pub fn new_block(&mut self) -> BlockId {
        let block = BlockId(self.blocks);
        self.blocks += 1;
        block
    }

    /// Adds an event.
    ///
    /// # Panics
    /// The trace is full: see [`Emitter::is_full`].
    #[inline]
    pub fn push(&mut self, thread: ThreadIndex, operation: Operation) {
        assert!(!self.is_full(), "a trace holds at most 2^32 - 2 events");
        self.counts.add(&operation);
        self.pushed += 1;
        self.batch.events.push(Event { thread, operation });
    }

    /// Gives the events pushed since the last stamp a time stamp: one, none or several.
    #[inline]
    pub fn stamp(&mut self, time_ns: u64) {
        if !self.timeless {
            self.batch.times_ns.resize(self.batch.events.len(), time_ns);
        }
    }

    /// Gives the events pushed since the last site a call site. All events get one, or none does.
    #[inline]
    pub fn site(&mut self, site: SiteId) {
        self.batch.sites.resize(self.batch.events.len(), site);
    }

    /// Takes no more stamps, since some events have none.
    pub fn drop_times(&mut self) {
        self.timeless = true;
        self.batch.times_ns.clear();
    }

    /// Hands on what has been collected, if it is enough.
    ///
    /// # Errors
    /// Those of the sink.
    #[inline]
    pub fn flush_full(&mut self) -> Result<()> {
        if self.batch.events.len() < BATCH_EVENTS {
            return Ok(());
        }
        self.flush()
    }

    /// Hands on what has been collected.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn flush(&mut self) -> Result<()> {
        if !self.batch.events.is_empty() {
            self.sink.take(&self.batch)?;
            self.batch.clear();
        }
        Ok(())
    }
}
