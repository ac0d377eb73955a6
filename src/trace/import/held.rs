//! Records that stand too early in the file, held back until their turn.
//!
//! Recorders that number a call when it begins, or a `realloc` when it ends, write an allocation of
//! an address before the release that made room for it, if the two calls ran at the same time. Such
//! an allocation waits for the release, and whatever its thread does next waits behind it.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::records::{At, Records};
use super::{Record, Request};
use crate::error::Result;
use crate::trace::plural;

/// Records held at a time. Calls that overlap are few; more means that the release never comes.
const HELD_MAX: usize = 1 << 16;

/// The records that wait.
#[derive(Default)]
pub(super) struct Held {
    /// What each waiting thread does, in its order; the first record is the one that waits.
    queues: FxHashMap<u64, VecDeque<(Record, At)>>,
    /// The threads that wait for an address to be released, in order.
    waiting: FxHashMap<u64, VecDeque<u64>>,
    /// Records in all queues.
    held: usize,
    /// Allocations that had to wait.
    delayed: u64,
}

impl Held {
    /// Takes a record now or later.
    #[inline]
    pub(super) fn take(&mut self, records: &mut Records, record: &Record, at: At) -> Result<()> {
        if self.held == 0 && waits_for(record, records).is_none() {
            records.take(record, at)?;
            return Ok(());
        }
        self.take_slowly(records, record, at)
    }

    fn take_slowly(&mut self, records: &mut Records, record: &Record, at: At) -> Result<()> {
        let thread = thread_of(record);
        if self.queues.contains_key(&thread) {
            if self.held == HELD_MAX {
                self.force_first(records)?;
                // Its own thread may have been the one.
                return self.take(records, record, at);
            }
            self.push(thread, record, at);
            return Ok(());
        }
        if let Some(pointer) = waits_for(record, records) {
            self.delayed += 1;
            self.push(thread, record, at);
            self.waiting.entry(pointer).or_default().push_back(thread);
            return Ok(());
        }
        if records.take(record, at)? {
            self.released(records, released_by(record).into_iter().collect())?;
        }
        Ok(())
    }

    fn push(&mut self, thread: u64, record: &Record, at: At) {
        self.held += 1;
        self.queues
            .entry(thread)
            .or_default()
            .push_back((*record, at));
    }

    /// Addresses were released: those who wait for them go on, which may release further ones.
    fn released(&mut self, records: &mut Records, mut pointers: Vec<u64>) -> Result<()> {
        while let Some(pointer) = pointers.pop() {
            if records.intake.is_live(pointer) {
                continue;
            }
            let Some(threads) = self.waiting.get_mut(&pointer) else {
                continue;
            };
            let thread = threads.pop_front();
            if threads.is_empty() {
                self.waiting.remove(&pointer);
            }
            if let Some(thread) = thread {
                self.go_on(records, thread, &mut pointers)?;
            }
        }
        Ok(())
    }

    /// A thread goes on until it has to wait again.
    fn go_on(&mut self, records: &mut Records, thread: u64, released: &mut Vec<u64>) -> Result<()> {
        while let Some(queue) = self.queues.get_mut(&thread) {
            let Some(&(record, at)) = queue.front() else {
                self.queues.remove(&thread);
                break;
            };
            if let Some(pointer) = waits_for(&record, records) {
                self.waiting.entry(pointer).or_default().push_back(thread);
                break;
            }
            queue.pop_front();
            self.held -= 1;
            if records.take(&record, at)? {
                released.extend(released_by(&record));
            }
        }
        Ok(())
    }

    /// The release never comes: the record that has waited longest is judged as it stands.
    fn force_first(&mut self, records: &mut Records) -> Result<()> {
        let first = self
            .queues
            .iter()
            .filter_map(|(&thread, queue)| Some((queue.front()?.1.number, thread)))
            .min();
        let Some((_, thread)) = first else {
            return Ok(());
        };
        let queue = self.queues.get_mut(&thread).expect("it was just found");
        let (record, at) = queue.pop_front().expect("it was just seen");
        self.held -= 1;
        if let Some(pointer) = waits_for(&record, records)
            && let Some(threads) = self.waiting.get_mut(&pointer)
        {
            threads.retain(|&waiting| waiting != thread);
        }
        let mut released = Vec::new();
        if records.take(&record, at)? {
            released.extend(released_by(&record));
        }
        self.go_on(records, thread, &mut released)?;
        self.released(records, released)
    }

    /// The file has ended.
    pub(super) fn finish(mut self, records: &mut Records) -> Result<()> {
        while self.held > 0 {
            self.force_first(records)?;
        }
        if self.delayed > 0 {
            records.note(format!(
                "allocations written before the release that made room for them were moved behind \
                 it ({})",
                plural(self.delayed, "record")
            ));
        }
        Ok(())
    }
}

fn thread_of(record: &Record) -> u64 {
    record.thread.unwrap_or(0)
}

/// The address that must be released before the record can be taken.
#[inline]
fn waits_for(record: &Record, records: &Records) -> Option<u64> {
    let result = record.request.result()?;
    match record.request {
        Request::Realloc { old, .. } if old == result => None,
        _ => records.intake.is_live(result).then_some(result),
    }
}

/// The address that a record releases.
fn released_by(record: &Record) -> Option<u64> {
    match record.request {
        Request::Free { pointer, .. } => Some(pointer),
        // Where the call failed the address is still live, and nobody goes on.
        Request::Realloc { old, .. } => Some(old),
        _ => None,
    }
}
