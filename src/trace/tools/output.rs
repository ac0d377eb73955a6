//! What the tools that write a trace share: blocks and threads numbered anew, as a sink expects them.

#![forbid(unsafe_code)]

use crate::error::{Error, Result};
use crate::trace::block_table::BlockTable;
use crate::trace::stream::{Batch, Emitter, EventSink};
use crate::trace::{BlockId, Event, EventCounts, Operation, SiteId, ThreadIndex};

/// Moment and call site of an event, where the recording has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extras {
    pub(super) time_ns: Option<u64>,
    pub(super) site: Option<SiteId>,
}

/// The events of a batch with what belongs to each.
pub(super) fn events(batch: &Batch) -> impl Iterator<Item = (Event, Extras)> {
    batch.events.iter().enumerate().map(|(at, event)| {
        let extras = Extras {
            time_ns: batch.times_ns.get(at).copied(),
            site: batch.sites.get(at).copied(),
        };
        (*event, extras)
    })
}

/// The numbers that blocks and threads of one source have in the output.
#[derive(Default)]
pub(super) struct Numbers {
    blocks: BlockTable<BlockId>,
    threads: Vec<Option<ThreadIndex>>,
}

impl Numbers {
    /// Whether a thread of the source has an event in the output.
    pub(super) fn has_thread(&self, thread: ThreadIndex) -> bool {
        matches!(self.threads.get(thread.0 as usize), Some(Some(_)))
    }

    /// Whether a block of the source is live in the output.
    pub(super) fn has_block(&self, block: BlockId) -> bool {
        self.blocks.contains(block)
    }
}

/// A sink behind an emitter, for events of one or several sources.
pub(super) struct Output<'s> {
    emitter: Emitter<'s>,
    threads: u32,
}

impl<'s> Output<'s> {
    pub(super) fn new(sink: &'s mut dyn EventSink) -> Self {
        Self {
            emitter: Emitter::new(sink),
            threads: 0,
        }
    }

    /// Events so far, by kind.
    pub(super) fn counts(&self) -> &EventCounts {
        self.emitter.counts()
    }

    /// Hands on an event of a source. One that frees a block which the output does not have is left
    /// out; a reallocation of such a block becomes one of null. Returns whether it was handed on.
    ///
    /// # Errors
    /// Those of the sink, and a trace that grows too long.
    #[inline]
    pub(super) fn pass(
        &mut self,
        numbers: &mut Numbers,
        event: Event,
        extras: Extras,
    ) -> Result<bool> {
        let operation = event.operation;
        let old = operation
            .releases()
            .and_then(|block| numbers.blocks.remove(block));
        if matches!(operation, Operation::Free { .. }) && old.is_none() {
            return Ok(false);
        }
        if self.emitter.is_full() {
            return Err(Error::Failed(
                "the trace to write would have more than 2^32 - 2 events".to_owned(),
            ));
        }
        let thread = self.thread(numbers, event.thread);
        let new = operation.allocates().map(|block| {
            let new = self.emitter.new_block();
            numbers.blocks.insert(block, new);
            new
        });
        self.emitter.push(thread, renamed(operation, old, new));
        if let Some(time_ns) = extras.time_ns {
            self.emitter.stamp(time_ns);
        }
        if let Some(site) = extras.site {
            self.emitter.site(site);
        }
        self.emitter.flush_full()?;
        Ok(true)
    }

    /// Hands on what is still kept back.
    ///
    /// # Errors
    /// Those of the sink.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.emitter.flush()
    }

    #[inline]
    fn thread(&mut self, numbers: &mut Numbers, thread: ThreadIndex) -> ThreadIndex {
        let place = thread.0 as usize;
        if place >= numbers.threads.len() {
            numbers.threads.resize(place + 1, None);
        }
        *numbers.threads[place].get_or_insert_with(|| {
            self.threads += 1;
            ThreadIndex(self.threads - 1)
        })
    }
}

/// An operation with other numbers for the block it ends and the one it makes.
pub(super) fn renamed(
    operation: Operation,
    released: Option<BlockId>,
    allocated: Option<BlockId>,
) -> Operation {
    match (operation, released, allocated) {
        (Operation::Malloc { size, .. }, _, Some(block)) => Operation::Malloc { block, size },
        (Operation::Calloc { count, size, .. }, _, Some(block)) => {
            Operation::Calloc { block, count, size }
        }
        (
            Operation::Aligned {
                alignment_log2,
                function,
                size,
                ..
            },
            _,
            Some(block),
        ) => Operation::Aligned {
            block,
            alignment_log2,
            function,
            size,
        },
        (Operation::Realloc { size, .. }, old, Some(block)) => {
            Operation::Realloc { old, block, size }
        }
        (Operation::Free { sized, .. }, Some(block), _) => Operation::Free { block, sized },
        (other, _, _) => other,
    }
}
