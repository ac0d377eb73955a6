//! Builds a [`Trace`] and guarantees its invariant: every block is allocated once, before it is
//! released, and released at most once.
//!
//! Readers translate the addresses or slots of their format to blocks and push; generators push
//! directly.

#![forbid(unsafe_code)]

use super::live_blocks::LiveBlocks;
use super::stream::{Batch, Ending, EventSink};
use super::{
    AlignedFunction, BlockId, Event, EventCounts, Operation, Origin, SiteId, ThreadIndex, Trace,
};
use crate::error::{Error, Result};

/// Collects events. See the module text.
#[derive(Debug)]
pub struct TraceBuilder {
    origin: Origin,
    events: Vec<Event>,
    times_ns: Vec<u64>,
    sites: Vec<SiteId>,
    site_names: Vec<String>,
    counts: EventCounts,
    threads: u32,
    live: LiveBlocks,
}

impl TraceBuilder {
    /// Starts an empty trace.
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            events: Vec::new(),
            times_ns: Vec::new(),
            sites: Vec::new(),
            site_names: Vec::new(),
            counts: EventCounts::default(),
            threads: 0,
            live: LiveBlocks::default(),
        }
    }

    /// The origin, to add notes and counts of dropped lines while reading.
    pub fn origin_mut(&mut self) -> &mut Origin {
        &mut self.origin
    }

    /// Events so far, by kind.
    pub fn counts(&self) -> &EventCounts {
        &self.counts
    }

    /// Events so far.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there is no event yet.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Whether the next event still fits: block and event numbers are 32 bits wide.
    pub fn is_full(&self) -> bool {
        self.events.len() >= u32::MAX as usize - 1
    }

    fn push(&mut self, thread: ThreadIndex, operation: Operation) {
        assert!(!self.is_full(), "a trace holds at most 2^32 - 2 events");
        self.threads = self.threads.max(thread.0 + 1);
        self.counts.add(&operation);
        self.events.push(Event { thread, operation });
    }

    fn new_block(&mut self) -> BlockId {
        self.live.allocate()
    }

    fn release(&mut self, block: BlockId) {
        assert!(
            self.live.release(block),
            "block {} released twice: the reader or generator must see to it",
            block.0
        );
    }

    /// Whether a block has been allocated and not yet released.
    pub fn is_live(&self, block: BlockId) -> bool {
        self.live.contains(block)
    }

    /// `malloc(size)`.
    pub fn malloc(&mut self, thread: ThreadIndex, size: u64) -> BlockId {
        let block = self.new_block();
        self.push(thread, Operation::Malloc { block, size });
        block
    }

    /// `calloc(count, size)`.
    pub fn calloc(&mut self, thread: ThreadIndex, count: u32, size: u64) -> BlockId {
        let block = self.new_block();
        self.push(thread, Operation::Calloc { block, count, size });
        block
    }

    /// An aligned allocation; `alignment_log2` below 64.
    pub fn aligned(
        &mut self,
        thread: ThreadIndex,
        function: AlignedFunction,
        alignment_log2: u8,
        size: u64,
    ) -> BlockId {
        assert!(
            alignment_log2 < 64,
            "an alignment is a power of two below 2^64"
        );
        let block = self.new_block();
        self.push(
            thread,
            Operation::Aligned {
                block,
                alignment_log2,
                function,
                size,
            },
        );
        block
    }

    /// `realloc(old, size)`; `old`, if any, must be live, and is gone afterwards.
    pub fn realloc(&mut self, thread: ThreadIndex, old: Option<BlockId>, size: u64) -> BlockId {
        if let Some(old) = old {
            self.release(old);
        }
        let block = self.new_block();
        self.push(thread, Operation::Realloc { old, block, size });
        block
    }

    /// `free(block)`; the block must be live.
    pub fn free(&mut self, thread: ThreadIndex, block: BlockId, sized: bool) {
        self.release(block);
        self.push(thread, Operation::Free { block, sized });
    }

    /// `free(NULL)`.
    pub fn free_null(&mut self, thread: ThreadIndex) {
        self.push(thread, Operation::FreeNull);
    }

    /// `free` of a block that was allocated before the recording began.
    pub fn free_unseen(&mut self, thread: ThreadIndex) {
        self.push(thread, Operation::FreeUnseen);
    }

    /// The thread begins.
    pub fn thread_start(&mut self, thread: ThreadIndex) {
        self.push(thread, Operation::ThreadStart);
    }

    /// The thread ends.
    pub fn thread_end(&mut self, thread: ThreadIndex) {
        self.push(thread, Operation::ThreadEnd);
    }

    /// A mark of the recording tool.
    pub fn mark(&mut self, thread: ThreadIndex) {
        self.push(thread, Operation::Mark);
    }

    /// An allocation that returned null while recording.
    pub fn failed_allocation(&mut self, thread: ThreadIndex) {
        self.push(thread, Operation::FailedAllocation);
    }

    /// Gives the last pushed event a time stamp. Either every event gets one or the trace has none.
    pub fn stamp(&mut self, time_ns: u64) {
        self.times_ns.push(time_ns);
    }

    /// Gives the last pushed event a call site. Either every event gets one or the trace has none.
    pub fn site(&mut self, site: SiteId) {
        self.sites.push(site);
    }

    /// Names the call sites.
    pub fn name_sites(&mut self, names: Vec<String>) {
        self.site_names = names;
    }

    /// Ends a trace that was taken from a reader.
    pub fn finish_as(mut self, ending: Ending) -> Trace {
        self.origin = ending.origin;
        self.site_names = ending.site_names;
        self.finish()
    }

    /// Ends the trace.
    pub fn finish(mut self) -> Trace {
        // Traces live as long as a comparison runs; what doubling left over need not.
        self.events.shrink_to_fit();
        let complete = |stamps: usize| !self.events.is_empty() && stamps == self.events.len();
        let (timed, sited) = (complete(self.times_ns.len()), complete(self.sites.len()));
        Trace {
            origin: self.origin,
            events: self.events,
            times_ns: timed.then_some(self.times_ns),
            sites: sited.then_some(self.sites),
            site_names: self.site_names,
            counts: self.counts,
            threads: self.threads,
            blocks: self.live.allocated(),
        }
    }
}

impl EventSink for TraceBuilder {
    fn take(&mut self, batch: &Batch) -> Result<()> {
        for &Event { thread, operation } in &batch.events {
            if self.is_full() {
                return Err(Error::Failed(
                    "a trace in memory holds at most 2^32 - 2 events; take a slice of it".into(),
                ));
            }
            if let Some(block) = operation.releases() {
                self.release(block);
            }
            if let Some(block) = operation.allocates() {
                let numbered = self.live.allocate();
                assert_eq!(block, numbered, "blocks are numbered without gaps");
            }
            self.push(thread, operation);
        }
        self.times_ns.extend_from_slice(&batch.times_ns);
        self.sites.extend_from_slice(&batch.sites);
        Ok(())
    }
}
