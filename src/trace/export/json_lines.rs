//! JSON lines, for scripts and for tools of other people: one object a line, its kind in the key
//! `call`.
//!
//! ```text
//! {"format":"mymalloc-trace","version":1,"units":{"size":"bytes","alignment":"bytes","time":"ns"}}
//! {"call":"malloc","thread":0,"block":0,"size":42,"time":1200,"site":3}
//! {"call":"free","thread":0,"block":0}
//! {"call":"end","events":2,"about":{...}}
//! ```
//! `workloads/formats.md` lists the keys; `tests/native_formats.rs` reads files by that text alone.

use std::io::Write as _;

use super::super::provenance::Provenance;
use super::super::stream::{Batch, Ending};
use super::super::{Event, Operation};
use super::Writer;
use super::logalloc::function_name;
use super::slots::{Losses, decimal};
use crate::error::Result;

const HEAD: &[u8] = b"{\"format\":\"mymalloc-trace\",\"version\":1,\
    \"units\":{\"size\":\"bytes\",\"alignment\":\"bytes\",\"time\":\"ns\"}}\n";

/// Writes JSON lines. See the module text.
#[derive(Default)]
pub(super) struct JsonLines {
    begun: bool,
    events: u64,
    losses: Losses,
}

impl Writer for JsonLines {
    fn take(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<()> {
        self.begin(out);
        for (index, event) in batch.events.iter().enumerate() {
            call(event, out);
            if let Some(&time_ns) = batch.times_ns.get(index) {
                field(b"time", time_ns, out);
            }
            if let Some(site) = batch.sites.get(index) {
                field(b"site", u64::from(site.0), out);
            }
            out.extend_from_slice(b"}\n");
        }
        self.events += batch.events.len() as u64;
        Ok(())
    }

    fn end(&mut self, ending: &Ending, out: &mut Vec<u8>) -> Result<()> {
        self.begin(out);
        let about = Provenance::of(ending).to_json()?;
        let events = self.events;
        writeln!(
            out,
            "{{\"call\":\"end\",\"events\":{events},\"about\":{about}}}"
        )
        .expect("memory takes all");
        Ok(())
    }

    fn losses(&self) -> &Losses {
        &self.losses
    }
}

impl JsonLines {
    fn begin(&mut self, out: &mut Vec<u8>) {
        if !self.begun {
            out.extend_from_slice(HEAD);
            self.begun = true;
        }
    }
}

/// Writes one object without its end.
fn call(event: &Event, out: &mut Vec<u8>) {
    let name = match event.operation {
        Operation::Malloc { .. } => "malloc",
        Operation::Calloc { .. } => "calloc",
        Operation::Realloc { .. } => "realloc",
        Operation::Aligned { function, .. } => function_name(function),
        Operation::Free { .. } | Operation::FreeNull => "free",
        Operation::FreeUnseen => "free_unseen",
        Operation::ThreadStart => "thread_start",
        Operation::ThreadEnd => "thread_end",
        Operation::Mark => "mark",
        Operation::FailedAllocation => "failed_allocation",
    };
    out.extend_from_slice(b"{\"call\":\"");
    out.extend_from_slice(name.as_bytes());
    out.push(b'"');
    field(b"thread", u64::from(event.thread.0), out);
    if let Operation::Realloc { old, .. } = event.operation {
        match old {
            Some(old) => field(b"old", u64::from(old.0), out),
            None => out.extend_from_slice(b",\"old\":null"),
        }
    }
    let block = event.operation.allocates().or(event.operation.releases());
    match block {
        Some(block) => field(b"block", u64::from(block.0), out),
        None if event.operation == Operation::FreeNull => out.extend_from_slice(b",\"block\":null"),
        None => {}
    }
    match event.operation {
        Operation::Malloc { size, .. } | Operation::Realloc { size, .. } => {
            field(b"size", size, out);
        }
        Operation::Calloc { count, size, .. } => {
            field(b"count", u64::from(count), out);
            field(b"size", size, out);
        }
        Operation::Aligned {
            alignment_log2,
            size,
            ..
        } => {
            field(b"alignment", 1 << alignment_log2, out);
            field(b"size", size, out);
        }
        Operation::Free { sized: true, .. } => out.extend_from_slice(b",\"sized\":true"),
        _ => {}
    }
}

fn field(name: &[u8], value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name);
    out.extend_from_slice(b"\":");
    decimal(value, out);
}
