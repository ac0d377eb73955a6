//! CMU `.rep` text, with the header of two lines.

use rustc_hash::FxHashMap;

use super::super::stream::Batch;
use super::super::{BlockId, Event, Operation};
use super::Writer;
use super::slots::{Losses, decimal};
use crate::error::Result;

/// Writes a trace as that of one thread, without alignments.
#[derive(Default)]
pub(super) struct Rep {
    /// The id of each live block. A reallocated block keeps its id; ids are not used again.
    ids: FxHashMap<u32, u32>,
    ids_used: u32,
    operations: u64,
    losses: Losses,
}

impl Writer for Rep {
    fn take(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<()> {
        self.losses
            .add_several("time stamps", batch.times_ns.len() as u64);
        self.losses
            .add_several("call sites", batch.sites.len() as u64);
        for event in &batch.events {
            if event.thread.0 > 0 {
                self.losses.add("events on further threads");
            }
            self.operations += u64::from(event.operation.is_replayed());
            self.event(event, out);
        }
        Ok(())
    }

    fn has_header(&self) -> bool {
        true
    }

    fn header(&self) -> Vec<u8> {
        format!("{}\n{}\n", self.ids_used, self.operations).into_bytes()
    }

    fn losses(&self) -> &Losses {
        &self.losses
    }
}

impl Rep {
    fn event(&mut self, event: &Event, out: &mut Vec<u8>) {
        match event.operation {
            Operation::Malloc { block, size } => {
                let id = self.fresh(block);
                line(b"a ", id, Some(size), out);
            }
            Operation::Calloc { block, .. } => {
                self.losses.add("calls of calloc, written as malloc");
                let id = self.fresh(block);
                line(b"a ", id, Some(event.operation.requested_bytes()), out);
            }
            Operation::Aligned { block, size, .. } => {
                self.losses.add("alignments");
                let id = self.fresh(block);
                line(b"a ", id, Some(size), out);
            }
            Operation::Realloc {
                old: None,
                block,
                size,
            } => {
                let id = self.fresh(block);
                line(b"r ", id, Some(size), out);
            }
            Operation::Realloc {
                old: Some(old),
                block,
                size,
            } => {
                // `r ID 0` would be read as a free.
                if size == 0 {
                    let what = "reallocations to no bytes, written as one byte";
                    self.losses.add(what);
                }
                let id = self.end(old);
                self.ids.insert(block.0, id);
                line(b"r ", id, Some(size.max(1)), out);
            }
            Operation::Free { block, sized } => {
                if sized {
                    self.losses.add("sizes given to free");
                }
                line(b"f ", self.end(block), None, out);
            }
            Operation::FreeNull => out.extend_from_slice(b"f -1\n"),
            Operation::FreeUnseen => {
                let what = "frees of blocks from before the recording";
                self.losses.add(what);
            }
            Operation::ThreadStart => self.losses.add("starts of threads"),
            Operation::ThreadEnd => self.losses.add("ends of threads"),
            Operation::Mark => self.losses.add("marks"),
            Operation::FailedAllocation => {
                self.losses.add("allocations that failed while recording");
            }
        }
    }

    fn fresh(&mut self, block: BlockId) -> u32 {
        self.ids.insert(block.0, self.ids_used);
        self.ids_used += 1;
        self.ids_used - 1
    }

    fn end(&mut self, block: BlockId) -> u32 {
        let id = self.ids.remove(&block.0);
        id.expect("whoever hands on events sees to it that a block lives before it ends")
    }
}

fn line(call: &[u8], id: u32, size: Option<u64>, out: &mut Vec<u8>) {
    out.extend_from_slice(call);
    decimal(u64::from(id), out);
    if let Some(size) = size {
        out.push(b' ');
        decimal(size, out);
    }
    out.push(b'\n');
}
