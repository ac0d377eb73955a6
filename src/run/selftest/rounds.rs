//! The workload of the self-test: rounds that are alike to the instruction.

use super::WORKLOAD;
use crate::trace::builder::TraceBuilder;
use crate::trace::{Origin, ThreadIndex, Trace};
use crate::workload::random::Random;

/// Pairs of free and malloc in a round: so many that what a busy loop costs at its ends does not count.
const PAIRS_PER_ROUND: usize = 4096;
/// Live blocks.
const LIVE_BLOCKS: usize = 64;
/// Live blocks of one size class. With those that the end of a round puts back, 64 over 24 classes, they
/// are never more than the seven of a class that glibc keeps for a thread at hand.
const BLOCKS_PER_CLASS: usize = 4;
/// Size classes of glibc that are used: 16 bytes apart, the first of 24 bytes.
pub(super) const CLASSES: usize = 24;
/// Bytes of the block that `realloc` leaves as it is: in a class of its own.
const KEPT_BYTES: u64 = 24 + 16 * CLASSES as u64;

/// So many equal rounds: a realloc that changes nothing, then in random order blocks that are freed and others
/// allocated; the last pairs put the live blocks' sizes back to what they were at the start.
pub(super) fn trace(rounds: usize) -> Trace {
    let mut builder = TraceBuilder::new(Origin::generated(WORKLOAD, Vec::new()));
    let thread = ThreadIndex(0);
    let bytes = |class: usize| 24 + 16 * class as u64;
    let start = |slot: usize| slot % CLASSES;
    let mut blocks: Vec<_> = (0..LIVE_BLOCKS)
        .map(|slot| builder.malloc(thread, bytes(start(slot))))
        .collect();
    let mut kept = builder.malloc(thread, KEPT_BYTES);
    for _ in 0..rounds {
        kept = builder.realloc(thread, Some(kept), KEPT_BYTES);
        // The same numbers in every round.
        let mut random = Random::new(1);
        let mut classes: Vec<usize> = (0..LIVE_BLOCKS).map(start).collect();
        let mut live = [0; CLASSES];
        classes.iter().for_each(|class| live[*class] += 1);
        for pair in 0..PAIRS_PER_ROUND {
            let left = PAIRS_PER_ROUND - pair;
            let (slot, class) = if left <= LIVE_BLOCKS {
                (LIVE_BLOCKS - left, start(LIVE_BLOCKS - left))
            } else {
                let class = random.index(CLASSES);
                let full = live[class] == BLOCKS_PER_CLASS;
                let slot = random.index(LIVE_BLOCKS);
                (slot, if full { classes[slot] } else { class })
            };
            live[classes[slot]] -= 1;
            live[class] += 1;
            classes[slot] = class;
            builder.free(thread, blocks[slot], false);
            blocks[slot] = builder.malloc(thread, bytes(class));
        }
    }
    blocks.push(kept);
    blocks
        .into_iter()
        .for_each(|block| builder.free(thread, block, false));
    builder.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::trace::Operation;

    #[test]
    fn rounds_are_alike_and_never_overflow_the_lists() {
        let counts = |rounds| {
            let counts = *trace(rounds).counts();
            (counts.malloc, counts.free)
        };
        let (one, two, three) = (counts(1), counts(2), counts(3));
        assert_eq!(three.0 - two.0, two.0 - one.0);
        assert_eq!(three.1 - two.1, PAIRS_PER_ROUND as u64);
        // glibc keeps seven free blocks of a class for a thread: more were never live.
        let (mut sizes, mut live) = (BTreeMap::new(), BTreeMap::new());
        for event in trace(3).events() {
            match event.operation {
                Operation::Malloc { block, size } => {
                    sizes.insert(block.0, size);
                    let count = live.entry(size).or_insert(0);
                    *count += 1;
                    assert!(*count <= 7, "{count} live blocks of {size} bytes");
                }
                Operation::Free { block, .. } => {
                    if let Some(size) = sizes.get(&block.0) {
                        *live.entry(*size).or_insert(0) -= 1;
                    }
                }
                _ => {}
            }
        }
        assert!(live.len() > CLASSES, "{live:?}");
    }
}
