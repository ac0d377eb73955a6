//! Android `memory_replay` text.

use super::super::stream::Batch;
use super::super::{AlignedFunction, Event, Operation};
use super::Writer;
use super::slots::{Losses, Slots, decimal};
use crate::error::Result;

/// Writes `memory_replay` lines; starts of threads, marks, frees of unseen blocks and call sites are
/// what the grammar cannot tell.
#[derive(Default)]
pub(super) struct Android {
    slots: Slots,
    losses: Losses,
}

impl Writer for Android {
    fn take(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<()> {
        self.losses
            .add_several("call sites", batch.sites.len() as u64);
        for (index, event) in batch.events.iter().enumerate() {
            let untold = match event.operation {
                Operation::Mark => Some("marks"),
                Operation::ThreadStart => Some("starts of threads"),
                Operation::FreeUnseen => Some("frees of blocks from before the recording"),
                _ => None,
            };
            if let Some(what) = untold {
                self.losses.add(what);
                continue;
            }
            self.call(event, out);
            if let Some(&time_ns) = batch.times_ns.get(index) {
                let stamps = match event.operation {
                    Operation::ThreadEnd => 1,
                    _ => 2,
                };
                for _ in 0..stamps {
                    out.push(b' ');
                    decimal(time_ns, out);
                }
            }
            out.push(b'\n');
        }
        Ok(())
    }

    fn losses(&self) -> &Losses {
        &self.losses
    }
}

impl Android {
    fn call(&mut self, event: &Event, out: &mut Vec<u8>) {
        decimal(u64::from(event.thread.0) + 1, out);
        out.extend_from_slice(b": ");
        match event.operation {
            Operation::Malloc { block, size } => {
                out.extend_from_slice(b"malloc ");
                address(self.slots.take(block), out);
                number(size, out);
            }
            Operation::Calloc { block, count, size } => {
                out.extend_from_slice(b"calloc ");
                address(self.slots.take(block), out);
                number(u64::from(count), out);
                number(size, out);
            }
            Operation::Aligned {
                block,
                alignment_log2,
                function,
                size,
            } => {
                if function != AlignedFunction::Memalign {
                    let what = "names of functions that allocate with an alignment";
                    self.losses.add(what);
                }
                out.extend_from_slice(b"memalign ");
                address(self.slots.take(block), out);
                number(1 << alignment_log2, out);
                number(size, out);
            }
            Operation::Realloc { old, block, size } => {
                let (old, new) = self.slots.hand_on(old, block);
                out.extend_from_slice(b"realloc ");
                address(new, out);
                out.push(b' ');
                address(old, out);
                number(size, out);
            }
            Operation::Free { block, sized } => {
                if sized {
                    self.losses.add("sizes given to free");
                }
                out.extend_from_slice(b"free ");
                address(self.slots.give_back(block), out);
            }
            Operation::FreeNull => out.extend_from_slice(b"free 0x0"),
            Operation::ThreadEnd => out.extend_from_slice(b"thread_done 0x0"),
            // Its size is not known; any will do beside a null pointer.
            Operation::FailedAllocation => {
                let what = "sizes of allocations that failed while recording";
                self.losses.add(what);
                out.extend_from_slice(b"malloc 0x0 0");
            }
            Operation::FreeUnseen | Operation::ThreadStart | Operation::Mark => {
                unreachable!("left out by the caller")
            }
        }
    }
}

/// Addresses are the slots times 16, as allocators align them.
fn address(slot: u32, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"0x");
    if slot == 0 {
        return out.push(b'0');
    }
    for place in (0..slot.ilog2() / 4 + 1).rev() {
        out.push(DIGITS[(slot >> (4 * place) & 15) as usize]);
    }
    out.push(b'0');
}

fn number(number: u64, out: &mut Vec<u8>) {
    out.push(b' ');
    decimal(number, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_sixteen_times_the_slot() {
        for slot in [0, 1, 15, 16, 0x1234, u32::MAX] {
            let mut out = Vec::new();
            address(slot, &mut out);
            assert_eq!(out, format!("{:#x}", u64::from(slot) * 16).into_bytes());
        }
    }
}
