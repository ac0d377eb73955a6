//! Blocks chosen by how long they live, which is known only when they end: a pass of its own over the
//! trace leaves a bit for each of its blocks.

#![forbid(unsafe_code)]

use crate::error::Result;
use crate::trace::BlockId;
use crate::trace::block_table::BlockTable;
use crate::trace::stream::{Batch, EventSink};

/// How long a block lives: the number of further events until it is freed or reallocated, as `stat`
/// counts it. The next event is 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lifetime {
    /// At least so many.
    pub min_events: u64,
    /// At most so many. Without it, blocks that are never freed are meant as well.
    pub max_events: Option<u64>,
}

impl Lifetime {
    fn holds(&self, events: u64) -> bool {
        events >= self.min_events && self.max_events.is_none_or(|max| events <= max)
    }

    pub(super) fn words(&self) -> String {
        let min = self.min_events;
        match self.max_events {
            Some(max) => format!("freed after {min} to {max} further events"),
            None => format!("freed after {min} further events or more, or never"),
        }
    }
}

/// The blocks of a trace that live so long.
#[derive(Clone, Debug)]
pub struct LifetimeChoice {
    pub(super) lifetime: Lifetime,
    blocks: Bits,
}

impl LifetimeChoice {
    /// Whether a block is one of them.
    pub(super) fn holds(&self, block: BlockId) -> bool {
        self.blocks.has(block)
    }
}

/// Finds such blocks in a trace that passes. Memory: an entry per live block, and a bit for each block
/// of the trace.
#[derive(Debug)]
pub struct Lifetimes {
    lifetime: Lifetime,
    /// Number of the event that allocated it.
    births: BlockTable<u64>,
    blocks: Bits,
    events: u64,
}

impl Lifetimes {
    /// No event seen yet.
    pub fn new(lifetime: Lifetime) -> Self {
        Self {
            lifetime,
            births: BlockTable::default(),
            blocks: Bits::default(),
            events: 0,
        }
    }

    /// The choice, once the whole trace has passed.
    pub fn finish(mut self) -> LifetimeChoice {
        if self.lifetime.max_events.is_none() {
            for (block, _) in self.births.iter() {
                self.blocks.set(block);
            }
        }
        LifetimeChoice {
            lifetime: self.lifetime,
            blocks: self.blocks,
        }
    }
}

impl EventSink for Lifetimes {
    fn take(&mut self, batch: &Batch) -> Result<()> {
        for event in &batch.events {
            if let Some(block) = event.operation.releases()
                && let Some(birth) = self.births.remove(block)
                && self.lifetime.holds(self.events - birth)
            {
                self.blocks.set(block);
            }
            if let Some(block) = event.operation.allocates() {
                self.births.insert(block, self.events);
            }
            self.events += 1;
        }
        Ok(())
    }
}

/// A set of blocks.
#[derive(Clone, Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn set(&mut self, block: BlockId) {
        let word = block.0 as usize / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (block.0 % 64);
    }

    fn has(&self, block: BlockId) -> bool {
        let word = self.0.get(block.0 as usize / 64);
        word.is_some_and(|word| word >> (block.0 % 64) & 1 == 1)
    }
}
