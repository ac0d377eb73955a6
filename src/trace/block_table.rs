//! What is known of each live block, while a trace of any length passes.
//!
//! Most blocks die young, and blocks are numbered in the order of their birth: so the youngest lie in
//! runs, an array lookup away. A run that has become sparse hands its survivors to a hash map. Each
//! block moves at most once, and memory stays within a few entries per live block.

#![forbid(unsafe_code)]

use rustc_hash::FxHashMap;

use super::BlockId;

/// Blocks of one run.
const RUN_BLOCKS: usize = 4096;

/// A closed run with fewer live blocks than this is given up.
const RUN_LIVE_MIN: usize = RUN_BLOCKS / 4;

/// A value for each live block.
#[derive(Clone, Debug)]
pub(crate) struct BlockTable<T> {
    /// By number of the run; none where it was given up or never begun.
    runs: Vec<Option<Run<T>>>,
    survivors: FxHashMap<u32, T>,
}

#[derive(Clone, Debug)]
struct Run<T> {
    values: Vec<Option<T>>,
    live: usize,
}

impl<T> Default for BlockTable<T> {
    fn default() -> Self {
        Self {
            runs: Vec::new(),
            survivors: FxHashMap::default(),
        }
    }
}

impl<T> BlockTable<T> {
    /// A block begins. Numbers must ascend; gaps are allowed.
    #[inline]
    pub(crate) fn insert(&mut self, block: BlockId, value: T) {
        let (number, place) = place(block);
        if number >= self.runs.len() {
            let closed = self.runs.len().checked_sub(1);
            self.runs.resize_with(number + 1, || None);
            self.runs[number] = Some(Run {
                values: Vec::with_capacity(RUN_BLOCKS),
                live: 0,
            });
            if let Some(closed) = closed {
                self.give_up_if_sparse(closed);
            }
        }
        let run = self.runs[number]
            .as_mut()
            .expect("the last run is never given up");
        assert!(run.values.len() <= place, "blocks are numbered ascending");
        run.values.resize_with(place, || None);
        run.values.push(Some(value));
        run.live += 1;
    }

    /// A block ends. What was known of it; none if it is not live.
    #[inline]
    pub(crate) fn remove(&mut self, block: BlockId) -> Option<T> {
        let (number, place) = place(block);
        let Some(Some(run)) = self.runs.get_mut(number) else {
            return self.survivors.remove(&block.0);
        };
        let value = run.values.get_mut(place)?.take()?;
        run.live -= 1;
        if run.live < RUN_LIVE_MIN {
            self.give_up_if_sparse(number);
        }
        Some(value)
    }

    /// Whether a block is live.
    pub(crate) fn contains(&self, block: BlockId) -> bool {
        let (number, place) = place(block);
        match self.runs.get(number) {
            Some(Some(run)) => matches!(run.values.get(place), Some(Some(_))),
            _ => self.survivors.contains_key(&block.0),
        }
    }

    /// All that are live, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (BlockId, &T)> {
        let in_runs = self.runs.iter().enumerate().flat_map(|(number, run)| {
            let values = run.iter().flat_map(|run| run.values.iter().enumerate());
            values.filter_map(move |(place, value)| {
                let block = u32::try_from(number * RUN_BLOCKS + place);
                Some((
                    BlockId(block.expect("it was made from one")),
                    value.as_ref()?,
                ))
            })
        });
        let others = self
            .survivors
            .iter()
            .map(|(&block, value)| (BlockId(block), value));
        in_runs.chain(others)
    }

    /// The run that still takes blocks stays, however sparse.
    fn give_up_if_sparse(&mut self, number: usize) {
        if number + 1 == self.runs.len() {
            return;
        }
        let Some(run) = self.runs[number].take_if(|run| run.live < RUN_LIVE_MIN) else {
            return;
        };
        for (place, value) in run.values.into_iter().enumerate() {
            if let Some(value) = value {
                let block = u32::try_from(number * RUN_BLOCKS + place);
                self.survivors
                    .insert(block.expect("it was made from one"), value);
            }
        }
    }
}

#[inline]
fn place(block: BlockId) -> (usize, usize) {
    let block = block.0 as usize;
    (block / RUN_BLOCKS, block % RUN_BLOCKS)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn equals_a_map(steps in proptest::collection::vec((0_u8..3, 1_u32..900, any::<u32>()), 0..400)) {
            let mut table = BlockTable::default();
            let mut map = BTreeMap::new();
            let mut next = 0;
            for (kind, gap, pick) in steps {
                match kind {
                    0 => for _ in 0..gap * 4 {
                        table.insert(BlockId(next), pick ^ next);
                        map.insert(next, pick ^ next);
                        next += 1;
                    },
                    1 => next += gap * 8,
                    _ => for n in 0..gap * 4 {
                        let block = pick.wrapping_add(n * 7) % (next + 1);
                        prop_assert_eq!(table.remove(BlockId(block)), map.remove(&block));
                    },
                }
                let picked = pick % (next + 1);
                prop_assert_eq!(table.contains(BlockId(picked)), map.contains_key(&picked));
            }
            let left: BTreeMap<u32, u32> = table.iter().map(|(b, v)| (b.0, *v)).collect();
            prop_assert_eq!(left, map);
        }
    }

    #[test]
    fn dead_blocks_cost_nothing() {
        let mut table = BlockTable::default();
        for block in 0..1_000_000 {
            table.insert(BlockId(block), block);
            if block % 1000 != 0 {
                assert_eq!(table.remove(BlockId(block)), Some(block));
            }
        }
        let kept: usize = table.runs.iter().flatten().count();
        assert_eq!(kept, 1, "only the run that is still open");
        assert_eq!(table.iter().count(), 1000);
    }
}
