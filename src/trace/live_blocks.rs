//! Which blocks of a trace are live, while it passes.

#![forbid(unsafe_code)]

use super::BlockId;

/// Which blocks are live. Blocks are numbered in the order of their allocation, so all below
/// [`LiveBlocks::allocated`] that are not known to be dead are live: allocating costs next to nothing,
/// and releasing sets a bit. A trace may allocate billions: runs of blocks that are all dead cost two
/// bytes in a thousand blocks.
#[derive(Clone, Debug, Default)]
pub struct LiveBlocks {
    /// [`RUN_BLOCKS`] blocks each; none where all are dead.
    runs: Vec<Option<Box<Run>>>,
    /// Blocks that have been allocated.
    allocated: u32,
    /// Blocks that have been released.
    released: u32,
}

#[derive(Clone, Debug)]
struct Run {
    /// One bit per block, set where it is dead.
    dead: [u64; RUN_BLOCKS / 64],
    /// Bits that are not set: blocks that are live, or not yet allocated.
    left: u32,
}

const RUN_BLOCKS: usize = 4096;

impl LiveBlocks {
    /// No live block, `allocated` dead ones: where a reader begins in the middle of a trace.
    pub fn after(allocated: u32) -> Self {
        let (last, dead) = (
            allocated as usize / RUN_BLOCKS,
            allocated as usize % RUN_BLOCKS,
        );
        let mut runs = vec![None; last];
        if dead > 0 {
            let mut run = Run::new();
            for place in 0..dead {
                run.dead[place / 64] |= 1 << (place % 64);
            }
            run.left -= dead as u32;
            runs.push(Some(run));
        }
        Self {
            runs,
            allocated,
            released: allocated,
        }
    }

    /// The next block begins; blocks are numbered without gaps.
    #[inline(always)]
    pub fn allocate(&mut self) -> BlockId {
        let block = self.allocated;
        if (block as usize).is_multiple_of(RUN_BLOCKS) {
            self.runs.push(Some(Run::new()));
        }
        self.allocated += 1;
        BlockId(block)
    }

    /// The block ends. Returns whether it was live.
    #[inline(always)]
    pub fn release(&mut self, block: BlockId) -> bool {
        let (index, word, bit) = place(block.0);
        if block.0 >= self.allocated {
            return false;
        }
        let Some(Some(run)) = self.runs.get_mut(index) else {
            return false;
        };
        let word = &mut run.dead[word];
        if *word & bit != 0 {
            return false;
        }
        *word |= bit;
        self.released += 1;
        run.left -= 1;
        if run.left == 0 {
            self.runs[index] = None;
        }
        true
    }

    /// Whether it has been allocated and not yet released.
    pub fn contains(&self, block: BlockId) -> bool {
        let (run, word, bit) = place(block.0);
        block.0 < self.allocated
            && matches!(self.runs.get(run), Some(Some(run)) if run.dead[word] & bit == 0)
    }

    /// Blocks that have been allocated, live or not.
    #[inline(always)]
    pub fn allocated(&self) -> u32 {
        self.allocated
    }

    /// Blocks that are live.
    pub fn live(&self) -> u32 {
        self.allocated - self.released
    }
}

impl Run {
    fn new() -> Box<Self> {
        Box::new(Self {
            dead: [0; RUN_BLOCKS / 64],
            left: RUN_BLOCKS as u32,
        })
    }
}

#[inline(always)]
fn place(block: u32) -> (usize, usize, u64) {
    let block = block as usize;
    let word = block % RUN_BLOCKS / 64;
    (block / RUN_BLOCKS, word, 1 << (block % 64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn live_blocks_equal_a_set(
            dead in 0_u32..9000,
            steps in proptest::collection::vec((any::<bool>(), 0_u32..18_000), 0..9000),
        ) {
            let mut live = LiveBlocks::after(dead);
            let mut set = std::collections::BTreeSet::new();
            for (allocate, block) in steps {
                if allocate {
                    let block = live.allocate();
                    prop_assert!(set.insert(block.0));
                } else {
                    prop_assert_eq!(live.release(BlockId(block)), set.remove(&block));
                }
                prop_assert_eq!(live.contains(BlockId(block)), set.contains(&block));
                prop_assert_eq!(live.live() as usize, set.len());
            }
            prop_assert!(set.iter().all(|&block| block >= dead));
        }
    }

    #[test]
    fn dead_runs_keep_no_bits() {
        let mut live = LiveBlocks::default();
        for _ in 0..1_000_000 {
            let block = live.allocate();
            assert!(live.release(block));
        }
        let kept = live.runs.iter().flatten().count();
        assert_eq!(kept, 1, "the run that the next block begins in");
        assert_eq!(live.allocated(), 1_000_000);
        assert_eq!(live.live(), 0);
    }
}
