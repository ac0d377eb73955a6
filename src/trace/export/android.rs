//! Android `memory_replay` text.

use std::io::{self, Write};

use super::super::{AlignedFunction, Event, Operation, Trace};
use super::slots::{Losses, Slots};

/// Addresses are the slots times 16, as allocators align them.
fn address(slot: u32) -> u64 {
    u64::from(slot) * 16
}

/// Writes a trace; starts of threads and marks are what the grammar cannot tell.
pub(super) fn write(trace: &Trace, out: &mut impl Write) -> io::Result<Losses> {
    let mut losses = Losses::default();
    let mut slots = Slots::new(trace);
    for (index, Event { thread, operation }) in trace.events().iter().enumerate() {
        let untold = match operation {
            Operation::Mark => Some("marks"),
            Operation::ThreadStart => Some("starts of threads"),
            Operation::FreeUnseen => Some("frees of blocks from before the recording"),
            _ => None,
        };
        if let Some(what) = untold {
            losses.add(what);
            continue;
        }
        write!(out, "{}: ", thread.0 + 1)?;
        call(operation, &mut slots, &mut losses, out)?;
        if let Some(times_ns) = trace.times_ns() {
            let time_ns = times_ns[index];
            match operation {
                Operation::ThreadEnd => write!(out, " {time_ns}")?,
                _ => write!(out, " {time_ns} {time_ns}")?,
            }
        }
        out.write_all(b"\n")?;
    }
    Ok(losses)
}

fn call(
    operation: &Operation,
    slots: &mut Slots,
    losses: &mut Losses,
    out: &mut impl Write,
) -> io::Result<()> {
    match *operation {
        Operation::Malloc { size, .. } => {
            write!(out, "malloc {:#x} {size}", address(slots.take()))
        }
        Operation::Calloc { count, size, .. } => {
            write!(out, "calloc {:#x} {count} {size}", address(slots.take()))
        }
        Operation::Aligned {
            alignment_log2,
            function,
            size,
            ..
        } => {
            if function != AlignedFunction::Memalign {
                losses.add("names of functions that allocate with an alignment");
            }
            let alignment = 1_u64 << alignment_log2;
            write!(
                out,
                "memalign {:#x} {alignment} {size}",
                address(slots.take())
            )
        }
        Operation::Realloc { old, size, .. } => {
            let (old, new) = slots.hand_on(old);
            write!(
                out,
                "realloc {:#x} {:#x} {size}",
                address(new),
                address(old)
            )
        }
        Operation::Free { block, sized } => {
            if sized {
                losses.add("sizes given to free");
            }
            write!(out, "free {:#x}", address(slots.give_back(block)))
        }
        Operation::FreeNull => out.write_all(b"free 0x0"),
        Operation::ThreadEnd => out.write_all(b"thread_done 0x0"),
        // Its size is not known; any will do beside a null pointer.
        Operation::FailedAllocation => {
            losses.add("sizes of allocations that failed while recording");
            out.write_all(b"malloc 0x0 0")
        }
        Operation::FreeUnseen | Operation::ThreadStart | Operation::Mark => Ok(()),
    }
}
