//! Events on their way from a reader to whoever takes them: a trace in memory, a file in another
//! format, a statistic. Handed on in batches, so that a trace of any length passes in bounded memory.

#![forbid(unsafe_code)]

use super::{BlockId, Event, EventCounts, Operation, Origin, SiteId, ThreadIndex, Trace};
use crate::error::Result;

/// Events of a batch that readers make, at most: enough to hide the call, few enough for the cache.
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

    /// Takes off the events from number `at` on, with what belongs to them.
    fn split_off(&mut self, at: usize) -> Self {
        // Events at the end may still lack a stamp or a site.
        let (times, sites) = (self.times_ns.len().min(at), self.sites.len().min(at));
        Self {
            events: self.events.split_off(at),
            times_ns: self.times_ns.split_off(times),
            sites: self.sites.split_off(sites),
        }
    }

    fn append(&mut self, other: &mut Self) {
        self.events.append(&mut other.events);
        self.times_ns.append(&mut other.times_ns);
        self.sites.append(&mut other.sites);
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

    /// Gives the events pushed since the last stamp a time stamp: one, none or several. All events get
    /// one, or none does.
    #[inline]
    pub fn stamp(&mut self, time_ns: u64) {
        self.batch.times_ns.resize(self.batch.events.len(), time_ns);
    }

    /// Gives the events pushed since the last site a call site. All events get one, or none does.
    #[inline]
    pub fn site(&mut self, site: SiteId) {
        self.batch.sites.resize(self.batch.events.len(), site);
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
        self.flush_pieces()
    }

    /// Hands on all that fills a batch. A record can make several events, and one that others waited
    /// for thousands.
    fn flush_pieces(&mut self) -> Result<()> {
        while self.batch.events.len() >= BATCH_EVENTS {
            let mut rest = self.batch.split_off(BATCH_EVENTS);
            self.sink.take(&self.batch)?;
            self.batch.clear();
            self.batch.append(&mut rest);
        }
        Ok(())
    }

    /// Hands on what has been collected.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn flush(&mut self) -> Result<()> {
        self.flush_pieces()?;
        if !self.batch.events.is_empty() {
            self.sink.take(&self.batch)?;
            self.batch.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps the batches.
    struct Batches(Vec<Batch>);

    impl EventSink for Batches {
        fn take(&mut self, batch: &Batch) -> Result<()> {
            self.0.push(batch.clone());
            Ok(())
        }
    }

    #[test]
    fn no_batch_is_longer_than_told() {
        let mut batches = Batches(Vec::new());
        let mut emitter = Emitter::new(&mut batches);
        let total = 2 * BATCH_EVENTS + 7;
        for number in 0..total {
            emitter.push(ThreadIndex(0), Operation::Mark);
            emitter.stamp(number as u64);
            emitter.site(SiteId(number as u32));
        }
        emitter.flush_full().unwrap();
        emitter.push(ThreadIndex(0), Operation::Mark);
        emitter.stamp(total as u64);
        emitter.site(SiteId(total as u32));
        emitter.flush().unwrap();
        let lengths: Vec<_> = batches.0.iter().map(|batch| batch.events.len()).collect();
        assert_eq!(lengths, [BATCH_EVENTS, BATCH_EVENTS, 8]);
        let times: Vec<_> = batches.0.iter().flat_map(|batch| &batch.times_ns).collect();
        let sites: Vec<_> = batches.0.iter().flat_map(|batch| &batch.sites).collect();
        assert!(times.iter().copied().copied().eq(0..=total as u64));
        assert!(sites.iter().map(|site| site.0).eq(0..=total as u32));
    }
}
