//! A kernel's operations in one order that its threads might take.

#![forbid(unsafe_code)]

use std::collections::VecDeque;

use super::Kernel;
use crate::trace::builder::TraceBuilder;
use crate::trace::{BlockId, Origin, ThreadIndex, Trace};

pub(super) fn one_order(kernel: &Kernel, name: &str) -> Trace {
    let mut builder = TraceBuilder::new(Origin::generated(
        name,
        vec![format!(
            "kernel with real threads: {kernel}; what is shown of its blocks is one order of the \
             operations, the scheduler chooses another in each run"
        )],
    ));
    match *kernel {
        Kernel::ProducerConsumer { blocks, size, ring } => {
            full_ring(&mut builder, blocks, size, ring);
        }
        Kernel::CrossFree { slots, .. } => turns(&mut builder, kernel, slots),
        Kernel::ThreadCreation {
            threads,
            blocks,
            size,
        } => one_after_the_other(&mut builder, threads, blocks, size),
    }
    builder.finish()
}

/// The producer is always ahead by the whole ring.
fn full_ring(builder: &mut TraceBuilder, blocks: u64, size: u64, ring: u64) {
    let (producer, consumer) = (ThreadIndex(0), ThreadIndex(1));
    let mut waiting = VecDeque::new();
    for _ in 0..blocks {
        if waiting.len() as u64 == ring
            && let Some(oldest) = waiting.pop_front()
        {
            builder.free(consumer, oldest, false);
        }
        waiting.push_back(builder.malloc(producer, size));
    }
    for block in waiting {
        builder.free(consumer, block, false);
    }
}

/// The threads take turns.
fn turns(builder: &mut TraceBuilder, kernel: &Kernel, slots: u64) {
    let [first, second] = kernel.plans();
    let mut held: Vec<Option<BlockId>> = vec![None; slots as usize];
    for pair in first.steps.iter().zip(&second.steps) {
        for (thread, step) in [(ThreadIndex(0), pair.0), (ThreadIndex(1), pair.1)] {
            let block = builder.malloc(thread, u64::from(step.size));
            match held[step.slot as usize].replace(block) {
                Some(found) => builder.free(thread, found, false),
                None => builder.free_null(thread),
            }
        }
    }
}

fn one_after_the_other(builder: &mut TraceBuilder, threads: u64, blocks: u64, size: u64) {
    for thread in 0..threads {
        let thread = ThreadIndex(thread as u32);
        builder.thread_start(thread);
        let own: Vec<BlockId> = (0..blocks).map(|_| builder.malloc(thread, size)).collect();
        for block in own {
            builder.free(thread, block, false);
        }
        builder.thread_end(thread);
    }
}
