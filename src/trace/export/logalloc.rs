//! Mozilla's logalloc grammar with slot numbers, as its own tools and others read it.

use super::super::stream::Batch;
use super::super::{AlignedFunction, Event, Operation};
use super::Writer;
use super::slots::{Losses, Slots, decimal};
use crate::error::Result;

/// Writes logalloc lines. The grammar cannot tell starts and ends of threads, frees of unseen
/// blocks, sizes given to free and of failed allocations, time stamps, call sites, and alignments of
/// `valloc` and `pvalloc` other than 4096.
#[derive(Default)]
pub(super) struct Logalloc {
    slots: Slots,
    losses: Losses,
}

impl Writer for Logalloc {
    fn take(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<()> {
        self.losses
            .add_several("time stamps", batch.times_ns.len() as u64);
        self.losses
            .add_several("call sites", batch.sites.len() as u64);
        for event in &batch.events {
            if let Some(what) = untold(&event.operation) {
                self.losses.add(what);
                if !super::OutputFormat::Logalloc.tells(&event.operation) {
                    continue;
                }
            }
            call(event, &mut self.slots, out);
            out.push(b'\n');
        }
        Ok(())
    }

    fn losses(&self) -> &Losses {
        &self.losses
    }
}

/// What of an operation the grammar cannot tell.
fn untold(operation: &Operation) -> Option<&'static str> {
    Some(match *operation {
        Operation::FreeUnseen => "frees of blocks from before the recording",
        Operation::ThreadStart => "starts of threads",
        Operation::ThreadEnd => "ends of threads",
        Operation::Free { sized: true, .. } => "sizes given to free",
        Operation::FailedAllocation => "sizes of allocations that failed while recording",
        Operation::Aligned {
            function: AlignedFunction::Valloc | AlignedFunction::Pvalloc,
            alignment_log2,
            ..
        } if alignment_log2 != PAGE_LOG2 => "alignments of valloc and pvalloc other than 4096",
        _ => return None,
    })
}

/// The alignment that the grammar takes for granted where a call does not name one.
pub(super) const PAGE_LOG2: u8 = 12;

/// Writes one line without its end; of what the grammar cannot tell, as much as it can.
pub(super) fn call(event: &Event, slots: &mut Slots, out: &mut Vec<u8>) {
    out.extend_from_slice(b"1 ");
    decimal(u64::from(event.thread.0) + 1, out);
    out.push(b' ');
    match event.operation {
        Operation::Malloc { block, size } => {
            one_size(b"malloc", size, out);
            slot(slots.take(block), out);
        }
        Operation::Calloc { block, count, size } => {
            two_sizes(b"calloc", u64::from(count), size, out);
            slot(slots.take(block), out);
        }
        Operation::Aligned {
            block,
            alignment_log2,
            function,
            size,
        } => {
            let name = function_name(function).as_bytes();
            match function {
                AlignedFunction::Valloc | AlignedFunction::Pvalloc => one_size(name, size, out),
                _ => two_sizes(name, 1 << alignment_log2, size, out),
            }
            slot(slots.take(block), out);
        }
        Operation::Realloc { old, block, size } => {
            let (old, new) = slots.hand_on(old, block);
            out.extend_from_slice(b"realloc(#");
            decimal(u64::from(old), out);
            out.push(b',');
            decimal(size, out);
            slot(new, out);
        }
        Operation::Free { block, .. } => {
            out.extend_from_slice(b"free(#");
            decimal(u64::from(slots.give_back(block)), out);
            out.push(b')');
        }
        Operation::FreeNull => out.extend_from_slice(b"free(#0)"),
        Operation::Mark => out.extend_from_slice(b"jemalloc_stats()"),
        // Its size is not known; any will do beside a null pointer.
        Operation::FailedAllocation => out.extend_from_slice(b"malloc(0)=#0"),
        Operation::FreeUnseen | Operation::ThreadStart | Operation::ThreadEnd => {
            unreachable!("the grammar has no line for it, and its writers know")
        }
    }
}

fn one_size(name: &[u8], size: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.push(b'(');
    decimal(size, out);
}

pub(super) fn two_sizes(name: &[u8], first: u64, second: u64, out: &mut Vec<u8>) {
    one_size(name, first, out);
    out.push(b',');
    decimal(second, out);
}

pub(super) fn slot(slot: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(b")=#");
    decimal(u64::from(slot), out);
}

pub(super) fn function_name(function: AlignedFunction) -> &'static str {
    match function {
        AlignedFunction::Memalign => "memalign",
        AlignedFunction::PosixMemalign => "posix_memalign",
        AlignedFunction::AlignedAlloc => "aligned_alloc",
        AlignedFunction::Valloc => "valloc",
        AlignedFunction::Pvalloc => "pvalloc",
    }
}
