//! CMU `.rep` text, with the header of two lines.

use std::io::{self, Write};

use super::super::{Event, Operation, Trace};
use super::slots::Losses;

/// Writes a trace as that of one thread, without alignments.
pub(super) fn write(trace: &Trace, out: &mut impl Write) -> io::Result<Losses> {
    let mut losses = Losses::default();
    let counts = trace.counts();
    // Every allocation makes a new id except a realloc, which keeps its old one.
    let kept = trace
        .events()
        .iter()
        .filter(|event| is_realloc_of_block(event))
        .count() as u64;
    let blocks = u64::from(trace.block_count()) - kept;
    writeln!(out, "{blocks}\n{}", counts.operations())?;
    let stamps = trace.times_ns().map_or(0, <[u64]>::len);
    losses.add_several("time stamps", stamps as u64);
    let mut ids: Vec<u32> = Vec::with_capacity(trace.block_count() as usize);
    let mut next = 0;
    let mut fresh = |ids: &mut Vec<u32>| {
        ids.push(next);
        next += 1;
        next - 1
    };
    for Event { thread, operation } in trace.events() {
        if thread.0 > 0 {
            losses.add("events on further threads");
        }
        match *operation {
            Operation::Malloc { size, .. } => writeln!(out, "a {} {size}", fresh(&mut ids))?,
            Operation::Calloc { .. } => {
                losses.add("calls of calloc, written as malloc");
                writeln!(out, "a {} {}", fresh(&mut ids), operation.requested_bytes())?;
            }
            Operation::Aligned { size, .. } => {
                losses.add("alignments");
                writeln!(out, "a {} {size}", fresh(&mut ids))?;
            }
            Operation::Realloc {
                old: None, size, ..
            } => {
                writeln!(out, "r {} {size}", fresh(&mut ids))?;
            }
            Operation::Realloc {
                old: Some(old),
                size,
                ..
            } => {
                // `r ID 0` would be read as a free.
                if size == 0 {
                    losses.add("reallocations to no bytes, written as one byte");
                }
                let id = ids[old.0 as usize];
                ids.push(id);
                writeln!(out, "r {id} {}", size.max(1))?;
            }
            Operation::Free { block, sized } => {
                if sized {
                    losses.add("sizes given to free");
                }
                writeln!(out, "f {}", ids[block.0 as usize])?;
            }
            Operation::FreeNull => writeln!(out, "f -1")?,
            Operation::FreeUnseen => losses.add("frees of blocks from before the recording"),
            Operation::ThreadStart => losses.add("starts of threads"),
            Operation::ThreadEnd => losses.add("ends of threads"),
            Operation::Mark => losses.add("marks"),
            Operation::FailedAllocation => losses.add("allocations that failed while recording"),
        }
    }
    Ok(losses)
}

fn is_realloc_of_block(event: &Event) -> bool {
    matches!(event.operation, Operation::Realloc { old: Some(_), .. })
}
