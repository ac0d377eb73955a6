//! What every reader and tool guarantees of the events that it hands on.

#![forbid(unsafe_code)]

use crate::error::{Error, Result};
use crate::trace::live_blocks::LiveBlocks;
use crate::trace::stream::{Batch, EventSink};
use crate::trace::{Event, Operation, SIZE_BYTES_MAX, plural};

/// Alignments are at most 2^47, as sizes are.
const ALIGNMENT_LOG2_MAX: u8 = SIZE_BYTES_MAX.trailing_zeros() as u8;

/// Checks events as they pass: threads are numbered in the order of their first events, blocks without
/// gaps in the order of allocation and released once, while they live; no request is larger than
/// [`SIZE_BYTES_MAX`]; all events have a time stamp or none has, and likewise a call site.
#[derive(Debug, Default)]
pub struct Guarantees {
    live: LiveBlocks,
    threads: u32,
    events: u64,
    stamped: u64,
    sited: u64,
}

impl Guarantees {
    /// Nothing has passed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Events so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Events with a time stamp.
    pub fn stamped(&self) -> u64 {
        self.stamped
    }

    /// Events with a call site.
    pub fn sited(&self) -> u64 {
        self.sited
    }

    /// What is wrong once all events have passed, each a sentence.
    pub fn incomplete(&self) -> Vec<String> {
        let parts = [("a time stamp", self.stamped), ("a call site", self.sited)];
        let some = parts.into_iter().filter(|&(_, number)| number != 0);
        let partial = some.filter(|&(_, number)| number != self.events);
        partial
            .map(|(what, number)| {
                let events = plural(self.events, "event");
                format!("{number} of {events} have {what}; all must, or none")
            })
            .collect()
    }

    fn check(&mut self, event: &Event) -> std::result::Result<(), String> {
        if event.thread.0 > self.threads {
            return Err(format!(
                "thread {} appears before thread {}",
                event.thread.0, self.threads
            ));
        }
        self.threads = self.threads.max(event.thread.0 + 1);
        if let Some(block) = event.operation.releases()
            && !self.live.release(block)
        {
            return Err(format!("block {} is released and not live", block.0));
        }
        if let Some(block) = event.operation.allocates()
            && self.live.allocate() != block
        {
            return Err(format!("block {} is out of order", block.0));
        }
        let bytes = event.operation.requested_bytes();
        if bytes > SIZE_BYTES_MAX {
            return Err(format!("a request of {bytes} bytes"));
        }
        match event.operation {
            Operation::Aligned { alignment_log2, .. } if alignment_log2 > ALIGNMENT_LOG2_MAX => {
                Err(format!("an alignment of 2^{alignment_log2} bytes"))
            }
            _ => Ok(()),
        }
    }
}

impl EventSink for Guarantees {
    /// # Errors
    /// An event that breaks a guarantee.
    fn take(&mut self, batch: &Batch) -> Result<()> {
        for event in &batch.events {
            self.check(event)
                .map_err(|fault| Error::Failed(format!("event {}: {fault}", self.events)))?;
            self.events += 1;
        }
        self.stamped += batch.times_ns.len() as u64;
        self.sited += batch.sites.len() as u64;
        Ok(())
    }
}
