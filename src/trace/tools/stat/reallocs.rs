//! Reallocations: how blocks grow, and in chains of which length.
//!
//! Whether a block grew in place is not known: it depends on the allocator, and traces hold no
//! addresses. What is known is the most that copying can cost: each old block's bytes, or the new one's
//! if it is smaller.

#![forbid(unsafe_code)]

use serde::Serialize;

use crate::trace::profile::{Classes, Step};
use crate::trace::{Event, Operation};

/// Reallocations of a trace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reallocs {
    /// Of a block.
    pub of_blocks: u64,
    /// Of null: allocations by another name.
    pub of_null: u64,
    /// To a larger size.
    pub grown: u64,
    /// To a smaller size.
    pub shrunk: u64,
    /// To the same size.
    pub unchanged: u64,
    /// By another thread than the one that allocated the block.
    pub cross_thread: u64,
    /// Most bytes that an allocator which never grows in place would copy.
    pub copied_bytes_most: u64,
    /// By new size over old, ascending; all of them.
    pub growth: Vec<GrowthBucket>,
    /// Blocks that were reallocated at least once, followed through all their reallocations.
    pub chains: u64,
    /// Reallocations of the longest.
    pub chain_longest: u64,
    /// Chains by length, ascending.
    pub chain_lengths: Vec<ChainBucket>,
}

/// Reallocations to more than `above` times and at most `up_to` times the old size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct GrowthBucket {
    /// Ratio, exclusive; of the bucket "unchanged" 1, which it equals.
    pub above: f64,
    /// Ratio, inclusive, but for that bucket's predecessor; none for the last.
    pub up_to: Option<f64>,
    /// Reallocations.
    pub count: u64,
}

/// Chains of `low ..= high` reallocations: powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ChainBucket {
    /// Fewest.
    pub low: u64,
    /// Most.
    pub high: u64,
    /// Chains.
    pub count: u64,
}

/// Ends of the buckets of growth, in eighths. The one that ends at 8 holds 1 exactly; its predecessor
/// ends right below it.
const ENDS_EIGHTHS: [u64; 9] = [4, 7, 8, 9, 10, 12, 16, 32, 64];

/// Counts reallocations.
pub(super) struct Counter {
    counts: Reallocs,
    /// One more than the ends: what lies beyond the last.
    growth: [u64; ENDS_EIGHTHS.len() + 1],
    lengths: Classes,
}

impl Default for Counter {
    fn default() -> Self {
        Self {
            counts: Reallocs {
                of_blocks: 0,
                of_null: 0,
                grown: 0,
                shrunk: 0,
                unchanged: 0,
                cross_thread: 0,
                copied_bytes_most: 0,
                growth: Vec::new(),
                chains: 0,
                chain_longest: 0,
                chain_lengths: Vec::new(),
            },
            growth: [0; ENDS_EIGHTHS.len() + 1],
            lengths: Classes::new(),
        }
    }
}

impl Counter {
    #[inline]
    pub(super) fn add(&mut self, event: &Event, step: &Step) {
        let Operation::Realloc { .. } = event.operation else {
            return;
        };
        let counts = &mut self.counts;
        let (Some(old), Some(new)) = (step.ended, step.begun) else {
            counts.of_null += 1;
            return;
        };
        counts.of_blocks += 1;
        counts.cross_thread += u64::from(old.thread != new.thread);
        counts.grown += u64::from(new.bytes > old.bytes);
        counts.shrunk += u64::from(new.bytes < old.bytes);
        counts.unchanged += u64::from(new.bytes == old.bytes);
        let copied = old.bytes.min(new.bytes);
        counts.copied_bytes_most = counts.copied_bytes_most.saturating_add(copied);
        self.growth[growth_bucket(old.bytes, new.bytes)] += 1;
        let length = u64::from(new.links.get()) - 1;
        if length > 1 {
            // The chain was counted as one link shorter.
            self.lengths.remove(length - 1);
        } else {
            counts.chains += 1;
        }
        self.lengths.add(length);
        counts.chain_longest = counts.chain_longest.max(length);
    }

    pub(super) fn finish(self) -> Reallocs {
        let ends = ENDS_EIGHTHS.map(|end| end as f64 / 8.0);
        let growth = self.growth.iter().enumerate().map(|(place, &count)| {
            let above = match place {
                0 => 0.0,
                // The one that holds exactly 1.
                2 => 1.0,
                _ => ends[place - 1],
            };
            GrowthBucket {
                above,
                up_to: match place {
                    // It ends right below 1.
                    1 => Some(1.0),
                    _ => ends.get(place).copied(),
                },
                count,
            }
        });
        Reallocs {
            growth: growth.collect(),
            chain_lengths: self.lengths.buckets(|low, high, count| ChainBucket {
                low,
                high,
                count,
            }),
            ..self.counts
        }
    }
}

/// The bucket of a change of size. From nothing to something is beyond every ratio.
fn growth_bucket(old: u64, new: u64) -> usize {
    if new == old {
        return 2;
    }
    if new < old {
        return usize::from(u128::from(new) * 2 > u128::from(old));
    }
    let (old, new) = (u128::from(old), u128::from(new));
    ENDS_EIGHTHS
        .iter()
        .skip(3)
        .position(|&end| new * 8 <= old * u128::from(end))
        .map_or(ENDS_EIGHTHS.len(), |place| place + 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_of_growth() {
        for (old, new, above, up_to) in [
            (100, 50, 0.0, Some(0.5)),
            (100, 51, 0.5, Some(1.0)),
            (100, 99, 0.5, Some(1.0)),
            (100, 100, 1.0, Some(1.0)),
            (0, 0, 1.0, Some(1.0)),
            (1000, 1001, 1.0, Some(1.125)),
            (800, 900, 1.0, Some(1.125)),
            (100, 150, 1.25, Some(1.5)),
            (100, 200, 1.5, Some(2.0)),
            (100, 400, 2.0, Some(4.0)),
            (100, 800, 4.0, Some(8.0)),
            (100, 801, 8.0, None),
            (0, 1, 8.0, None),
            (u64::MAX / 2, u64::MAX - 1, 1.5, Some(2.0)),
        ] {
            let mut counter = Counter::default();
            counter.growth[growth_bucket(old, new)] += 1;
            let found = counter.finish().growth.into_iter().find(|b| b.count > 0);
            let found = found.expect("it lies somewhere");
            assert_eq!((found.above, found.up_to), (above, up_to), "{old} -> {new}");
        }
    }
}
