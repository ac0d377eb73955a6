//! The native text: logalloc's lines with slot numbers, and what they cannot tell in lines of our own.
//! `import/native` reads it and holds its grammar.

use super::super::provenance::Provenance;
use super::super::stream::{Batch, Ending};
use super::super::{AlignedFunction, Event, Operation};
use super::Writer;
use super::logalloc::{self, PAGE_LOG2, function_name, slot, two_sizes};
use super::slots::{Losses, Slots, decimal};
use crate::error::Result;
use crate::trace::import::native::{HEAD, META, META_PIECE_BYTES};

/// Writes the native text. See the module text.
#[derive(Default)]
pub(super) struct Text {
    begun: bool,
    events: u64,
    slots: Slots,
    losses: Losses,
}

impl Writer for Text {
    fn take(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<()> {
        self.begin(out);
        for (index, event) in batch.events.iter().enumerate() {
            self.call(event, out);
            if let Some(&time_ns) = batch.times_ns.get(index) {
                out.extend_from_slice(b" t=");
                decimal(time_ns, out);
            }
            if let Some(site) = batch.sites.get(index) {
                out.extend_from_slice(b" s=");
                decimal(u64::from(site.0), out);
            }
            out.push(b'\n');
        }
        self.events += batch.events.len() as u64;
        Ok(())
    }

    fn end(&mut self, ending: &Ending, out: &mut Vec<u8>) -> Result<()> {
        self.begin(out);
        let json = Provenance::of(ending).to_json()?;
        let mut rest = json.as_str();
        while !rest.is_empty() {
            let mut end = rest.len().min(META_PIECE_BYTES);
            while !rest.is_char_boundary(end) {
                end -= 1;
            }
            let (piece, behind) = rest.split_at(end);
            out.extend_from_slice(META);
            out.extend_from_slice(piece.as_bytes());
            out.push(b'\n');
            rest = behind;
        }
        out.extend_from_slice(b"# end ");
        decimal(self.events, out);
        out.push(b'\n');
        Ok(())
    }

    fn losses(&self) -> &Losses {
        &self.losses
    }
}

impl Text {
    fn begin(&mut self, out: &mut Vec<u8>) {
        if !self.begun {
            out.extend_from_slice(HEAD);
            out.extend_from_slice(b"1\n");
            self.begun = true;
        }
    }

    /// Writes one line without its end.
    fn call(&mut self, event: &Event, out: &mut Vec<u8>) {
        let thread = |out: &mut Vec<u8>| {
            out.extend_from_slice(b"1 ");
            decimal(u64::from(event.thread.0) + 1, out);
            out.push(b' ');
        };
        match event.operation {
            Operation::FreeUnseen => {
                thread(out);
                out.extend_from_slice(b"free_unseen()");
            }
            Operation::ThreadStart => {
                thread(out);
                out.extend_from_slice(b"thread_start()");
            }
            Operation::ThreadEnd => {
                thread(out);
                out.extend_from_slice(b"thread_end()");
            }
            Operation::Free { block, sized: true } => {
                thread(out);
                out.extend_from_slice(b"free_sized(#");
                decimal(u64::from(self.slots.give_back(block)), out);
                out.push(b')');
            }
            Operation::Aligned {
                block,
                alignment_log2,
                function: function @ (AlignedFunction::Valloc | AlignedFunction::Pvalloc),
                size,
            } if alignment_log2 != PAGE_LOG2 => {
                thread(out);
                let name = function_name(function).as_bytes();
                two_sizes(name, 1 << alignment_log2, size, out);
                slot(self.slots.take(block), out);
            }
            _ => logalloc::call(event, &mut self.slots, out),
        }
    }
}
