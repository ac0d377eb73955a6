//! The native text format: Mozilla's logalloc grammar with slot numbers, which others read and
//! write too. [`super::super::read`] reads it like any other grammar.

use std::io::{self, Write};

use super::super::{AlignedFunction, Event, Operation, Trace};
use super::slots::{Losses, Slots};

/// Writes a trace, and returns what the grammar cannot tell: starts and ends of threads, sizes given
/// to free and of failed allocations, time stamps, and alignments of `valloc` and `pvalloc` other than 4096.
///
/// # Errors
/// Those of `out`.
pub(super) fn write(trace: &Trace, out: &mut impl Write) -> io::Result<Losses> {
    let mut losses = Losses::default();
    let stamps = trace.times_ns().map_or(0, <[u64]>::len);
    losses.add_several("time stamps", stamps as u64);
    let mut slots = Slots::new(trace);
    for Event { thread, operation } in trace.events() {
        match operation {
            Operation::FreeUnseen => losses.add("frees of blocks from before the recording"),
            Operation::ThreadStart => losses.add("starts of threads"),
            Operation::ThreadEnd => losses.add("ends of threads"),
            _ => {
                write!(out, "1 {} ", thread.0 + 1)?;
                call(operation, &mut slots, &mut losses, out)?;
            }
        }
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
        Operation::Malloc { size, .. } => writeln!(out, "malloc({size})=#{}", slots.take()),
        Operation::Calloc { count, size, .. } => {
            writeln!(out, "calloc({count},{size})=#{}", slots.take())
        }
        Operation::Aligned {
            alignment_log2,
            function,
            size,
            ..
        } => {
            let alignment = 1_u64 << alignment_log2;
            let name = function_name(function);
            let slot = slots.take();
            if matches!(function, AlignedFunction::Valloc | AlignedFunction::Pvalloc) {
                if alignment != 4096 {
                    losses.add("alignments of valloc and pvalloc other than 4096");
                }
                return writeln!(out, "{name}({size})=#{slot}");
            }
            writeln!(out, "{name}({alignment},{size})=#{slot}")
        }
        Operation::Realloc { old, size, .. } => {
            let (old, new) = slots.hand_on(old);
            writeln!(out, "realloc(#{old},{size})=#{new}")
        }
        Operation::Free { block, sized } => {
            if sized {
                losses.add("sizes given to free");
            }
            writeln!(out, "free(#{})", slots.give_back(block))
        }
        Operation::FreeNull => writeln!(out, "free(#0)"),
        Operation::Mark => writeln!(out, "jemalloc_stats()"),
        // Its size is not known; any will do beside a null pointer.
        Operation::FailedAllocation => {
            losses.add("sizes of allocations that failed while recording");
            writeln!(out, "malloc(0)=#0")
        }
        Operation::FreeUnseen | Operation::ThreadStart | Operation::ThreadEnd => Ok(()),
    }
}

fn function_name(function: AlignedFunction) -> &'static str {
    match function {
        AlignedFunction::Memalign => "memalign",
        AlignedFunction::PosixMemalign => "posix_memalign",
        AlignedFunction::AlignedAlloc => "aligned_alloc",
        AlignedFunction::Valloc => "valloc",
        AlignedFunction::Pvalloc => "pvalloc",
    }
}
