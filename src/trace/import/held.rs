//! Records that stand too early in the file, held back until their turn.
//!
//! Recorders that number a call when it begins, or a `realloc` when it ends, write an allocation of
//! an address before the release that made room for it, if the two calls ran at the same time. Such
//! an allocation waits for the release, and whatever its thread does next waits behind it.

use std::collections::{BTreeSet, VecDeque};

use rustc_hash::FxHashMap;

use super::{Record, Request};
use crate::trace::plural;

/// Records held at a time. Calls that overlap are few; more means that the release never comes.
const HELD_MAX: usize = 1 << 16;

/// Threads that wait at a time. As many would have to be inside the allocator at once.
const THREADS_MAX: usize = 1 << 10;

/// Takes records in their turn, each with its place in the file.
pub(super) trait Judge {
    /// A place in the file; later ones are greater.
    type At: Copy + Ord;
    /// Why reading ends.
    type Error;

    /// Whether a pointer names a live block.
    fn is_live(&self, pointer: u64) -> bool;

    /// Takes a record, or judges it. Returns whether it was taken.
    fn take(&mut self, record: &Record, at: Self::At) -> Result<bool, Self::Error>;
}

/// The records that wait, and their places.
pub(super) struct Held<At> {
    /// What each waiting thread does, in its order; the first record is the one that waits.
    queues: FxHashMap<u64, VecDeque<(Record, At)>>,
    /// The first record's place of each queue, and its thread.
    firsts: BTreeSet<(At, u64)>,
    /// The threads that wait for an address to be released, in order.
    waiting: FxHashMap<u64, VecDeque<u64>>,
    /// Records in all queues.
    held: usize,
    /// Allocations that had to wait.
    delayed: u64,
}

impl<At: Copy + Ord> Held<At> {
    pub(super) fn new() -> Self {
        Self {
            queues: FxHashMap::default(),
            firsts: BTreeSet::new(),
            waiting: FxHashMap::default(),
            held: 0,
            delayed: 0,
        }
    }

    /// Takes a record now or later.
    #[inline]
    pub(super) fn take<J: Judge<At = At>>(
        &mut self,
        records: &mut J,
        record: &Record,
        at: At,
    ) -> Result<(), J::Error> {
        if self.held == 0 && waits_for(record, records).is_none() {
            records.take(record, at)?;
            return Ok(());
        }
        self.take_slowly(records, record, at)
    }

    fn take_slowly<J: Judge<At = At>>(
        &mut self,
        records: &mut J,
        record: &Record,
        at: At,
    ) -> Result<(), J::Error> {
        while self.held >= HELD_MAX || self.queues.len() >= THREADS_MAX {
            self.force_first(records)?;
        }
        let thread = thread_of(record);
        if self.queues.contains_key(&thread) {
            self.push(thread, record, at);
            return Ok(());
        }
        if let Some(pointer) = waits_for(record, records) {
            self.delayed += 1;
            self.push(thread, record, at);
            self.firsts.insert((at, thread));
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
    fn released<J: Judge<At = At>>(
        &mut self,
        records: &mut J,
        mut pointers: Vec<u64>,
    ) -> Result<(), J::Error> {
        while let Some(pointer) = pointers.pop() {
            if records.is_live(pointer) {
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

    /// A thread, whose first record no longer waits, goes on until it has to wait again.
    fn go_on<J: Judge<At = At>>(
        &mut self,
        records: &mut J,
        thread: u64,
        released: &mut Vec<u64>,
    ) -> Result<(), J::Error> {
        let first = self.queues.get(&thread).and_then(|queue| queue.front());
        if let Some(&(_, at)) = first {
            self.firsts.remove(&(at, thread));
        }
        while let Some(queue) = self.queues.get_mut(&thread) {
            let Some(&(record, at)) = queue.front() else {
                self.queues.remove(&thread);
                break;
            };
            if let Some(pointer) = waits_for(&record, records) {
                self.firsts.insert((at, thread));
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
    fn force_first<J: Judge<At = At>>(&mut self, records: &mut J) -> Result<(), J::Error> {
        let Some((_, thread)) = self.firsts.pop_first() else {
            return Ok(());
        };
        let queue = self.queues.get_mut(&thread).expect("it waits");
        let (record, at) = queue.pop_front().expect("its first record waits");
        self.held -= 1;
        if let Some(pointer) = record.request.result()
            && let Some(threads) = self.waiting.get_mut(&pointer)
            && let Some(place) = threads.iter().position(|&waiting| waiting == thread)
        {
            threads.remove(place);
            if threads.is_empty() {
                self.waiting.remove(&pointer);
            }
        }
        let mut released = Vec::new();
        if records.take(&record, at)? {
            released.extend(released_by(&record));
        }
        self.go_on(records, thread, &mut released)?;
        self.released(records, released)
    }

    /// The file has ended. Tells what had to be put in order.
    pub(super) fn finish<J: Judge<At = At>>(
        &mut self,
        records: &mut J,
    ) -> Result<Option<String>, J::Error> {
        while self.held > 0 {
            self.force_first(records)?;
        }
        Ok((self.delayed > 0).then(|| {
            format!(
                "allocations written before the release that made room for them were moved behind \
                 it ({})",
                plural(self.delayed, "record")
            )
        }))
    }
}

fn thread_of(record: &Record) -> u64 {
    record.thread.unwrap_or(0)
}

/// The address that must be released before the record can be taken.
#[inline]
fn waits_for(record: &Record, records: &impl Judge) -> Option<u64> {
    let result = record.request.result()?;
    match record.request {
        Request::Realloc { old, .. } if old == result => None,
        _ => records.is_live(result).then_some(result),
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
