//! What the writers share: short names for live blocks, and the account of what a grammar cannot tell.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::super::{BlockId, Trace};

/// What a grammar could not tell, in words, each with the number of events concerned.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Losses(Vec<(&'static str, u64)>);

impl Losses {
    /// Counts one more.
    pub(super) fn add(&mut self, what: &'static str) {
        self.add_several(what, 1);
    }

    /// Counts `events` more, which may be none.
    pub(super) fn add_several(&mut self, what: &'static str, events: u64) {
        match self.0.iter_mut().find(|(known, _)| *known == what) {
            Some((_, count)) => *count += events,
            None if events > 0 => self.0.push((what, events)),
            None => {}
        }
    }

    /// What was lost, and how often.
    pub fn counts(&self) -> &[(&'static str, u64)] {
        &self.0
    }

    /// Whether the text tells everything that the trace holds.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Names for live blocks: numbers from 1, the lowest free one first.
pub(super) struct Slots {
    of_block: Vec<u32>,
    free: BinaryHeap<Reverse<u32>>,
    used: u32,
}

impl Slots {
    pub(super) fn new(trace: &Trace) -> Self {
        let of_block = Vec::with_capacity(trace.block_count() as usize);
        Self {
            of_block,
            free: BinaryHeap::new(),
            used: 0,
        }
    }

    /// A slot for the next new block.
    pub(super) fn take(&mut self) -> u32 {
        let slot = self.free.pop().map_or_else(
            || {
                self.used += 1;
                self.used
            },
            |Reverse(slot)| slot,
        );
        self.of_block.push(slot);
        slot
    }

    /// The next new block takes over the slot of `old`, if there is an old one.
    pub(super) fn hand_on(&mut self, old: Option<BlockId>) -> (u32, u32) {
        match old {
            Some(old) => {
                let slot = self.of_block[old.0 as usize];
                self.of_block.push(slot);
                (slot, slot)
            }
            None => (0, self.take()),
        }
    }

    /// The slot of a block that ends.
    pub(super) fn give_back(&mut self, block: BlockId) -> u32 {
        let slot = self.of_block[block.0 as usize];
        self.free.push(Reverse(slot));
        slot
    }
}
