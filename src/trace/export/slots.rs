//! What the writers share: short names for live blocks, and the account of what a format cannot tell.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

use super::super::BlockId;

/// What a format could not tell, in words, each with the number of events concerned.
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

    /// Whether the file tells everything that the trace holds.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Names for live blocks: numbers from 1, the lowest free one first.
#[derive(Default)]
pub(super) struct Slots {
    of_block: FxHashMap<u32, u32>,
    free: BinaryHeap<Reverse<u32>>,
    used: u32,
}

impl Slots {
    /// A slot for a new block.
    pub(super) fn take(&mut self, block: BlockId) -> u32 {
        let slot = self.free.pop().map_or_else(
            || {
                self.used += 1;
                self.used
            },
            |Reverse(slot)| slot,
        );
        self.of_block.insert(block.0, slot);
        slot
    }

    /// A new block takes over the slot of `old`, if there is an old one.
    pub(super) fn hand_on(&mut self, old: Option<BlockId>, block: BlockId) -> (u32, u32) {
        match old {
            Some(old) => {
                let slot = self.end(old);
                self.of_block.insert(block.0, slot);
                (slot, slot)
            }
            None => (0, self.take(block)),
        }
    }

    /// The slot of a block that ends.
    pub(super) fn give_back(&mut self, block: BlockId) -> u32 {
        let slot = self.end(block);
        self.free.push(Reverse(slot));
        slot
    }

    fn end(&mut self, block: BlockId) -> u32 {
        let slot = self.of_block.remove(&block.0);
        slot.expect("whoever hands on events sees to it that a block lives before it ends")
    }
}

/// Appends a decimal number: what nearly all text of a trace is made of.
#[inline]
pub(super) fn decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_std_does() {
        for number in [0, 7, 10, 99, 100, 1 << 32, u64::MAX] {
            let mut out = b"x".to_vec();
            decimal(number, &mut out);
            assert_eq!(out, format!("x{number}").into_bytes());
        }
    }
}
