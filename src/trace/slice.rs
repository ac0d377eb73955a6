//! Cuts a piece out of a trace.

#![forbid(unsafe_code)]

use super::builder::TraceBuilder;
use super::{BlockId, Event, Operation, ThreadIndex, Trace};

/// The `count` events from number `first` on (from 0), as a valid trace of its own.
///
/// What the piece frees or reallocates but did not allocate is left out: those frees, and a
/// reallocation of such a block becomes one of null. Threads are numbered anew. A piece that is cut
/// behind the end of the trace is shorter, or empty.
pub fn slice(trace: &Trace, first: usize, count: usize) -> Trace {
    let first = first.min(trace.events().len());
    let last = first.saturating_add(count).min(trace.events().len());
    let mut origin = trace.origin().clone();
    origin
        .notes
        .push(format!("events {first} to {last} of a longer trace"));
    let mut copy = Copy {
        builder: TraceBuilder::new(origin),
        // The piece's blocks have consecutive numbers, starting at the first it allocates.
        first_block: None,
        blocks: Vec::new(),
        threads: vec![None; trace.thread_count() as usize],
        threads_seen: 0,
    };
    for (index, event) in trace.events()[first..last].iter().enumerate() {
        if copy.event(event)
            && let Some(times_ns) = trace.times_ns()
        {
            copy.builder.stamp(times_ns[first + index]);
        }
    }
    copy.builder.finish()
}

struct Copy {
    builder: TraceBuilder,
    first_block: Option<u32>,
    blocks: Vec<BlockId>,
    threads: Vec<Option<ThreadIndex>>,
    threads_seen: u32,
}

impl Copy {
    /// Copies one event. Returns whether there was something to copy.
    fn event(&mut self, event: &Event) -> bool {
        let operation = event.operation;
        let released = operation.releases();
        let kept = released.and_then(|block| self.block(block));
        if matches!(operation, Operation::Free { .. }) && kept.is_none() {
            return false;
        }
        let thread = self.thread(event.thread);
        let builder = &mut self.builder;
        let new = match operation {
            Operation::Malloc { size, .. } => Some(builder.malloc(thread, size)),
            Operation::Calloc { count, size, .. } => Some(builder.calloc(thread, count, size)),
            Operation::Aligned {
                alignment_log2,
                function,
                size,
                ..
            } => Some(builder.aligned(thread, function, alignment_log2, size)),
            Operation::Realloc { size, .. } => Some(builder.realloc(thread, kept, size)),
            Operation::Free { sized, .. } => {
                if let Some(block) = kept {
                    builder.free(thread, block, sized);
                }
                None
            }
            Operation::FreeNull => {
                builder.free_null(thread);
                None
            }
            Operation::FreeUnseen => {
                builder.free_unseen(thread);
                None
            }
            Operation::ThreadStart => {
                builder.thread_start(thread);
                None
            }
            Operation::ThreadEnd => {
                builder.thread_end(thread);
                None
            }
            Operation::Mark => {
                builder.mark(thread);
                None
            }
            Operation::FailedAllocation => {
                builder.failed_allocation(thread);
                None
            }
        };
        if let (Some(old), Some(new)) = (operation.allocates(), new) {
            self.first_block.get_or_insert(old.0);
            self.blocks.push(new);
        }
        true
    }

    /// The new number of a block, if the piece allocated it.
    fn block(&self, block: BlockId) -> Option<BlockId> {
        let place = block.0.checked_sub(self.first_block?)?;
        self.blocks.get(place as usize).copied()
    }

    fn thread(&mut self, thread: ThreadIndex) -> ThreadIndex {
        *self.threads[thread.0 as usize].get_or_insert_with(|| {
            self.threads_seen += 1;
            ThreadIndex(self.threads_seen - 1)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trace::testing;

    proptest! {
        #[test]
        fn a_piece_drops_only_frees_of_foreign_blocks(
            trace in testing::traces(100),
            first in 0_usize..110,
            count in 0_usize..110,
        ) {
            let piece = slice(&trace, first, count);
            let events: Vec<_> = trace.events().iter().skip(first).take(count).collect();
            let own: Vec<_> = events.iter().filter_map(|e| e.operation.allocates()).collect();
            let foreign = |e: &&&Event| match e.operation {
                Operation::Free { block, .. } => !own.contains(&block),
                _ => false,
            };
            let dropped = events.iter().filter(foreign).count();
            prop_assert_eq!(piece.events().len(), events.len() - dropped);
            prop_assert_eq!(piece.block_count() as usize, own.len());
        }

        #[test]
        fn the_whole_is_a_piece_too(trace in testing::traces(100)) {
            let piece = slice(&trace, 0, usize::MAX);
            prop_assert_eq!(piece.events(), trace.events());
        }
    }
}
