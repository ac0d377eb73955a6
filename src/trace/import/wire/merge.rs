//! The events of all chunks in the order of their sequence numbers.
//!
//! Chunks are merged, not threads: within a chunk the numbers only grow, whoever used it, so one cursor
//! for each chunk that has begun and not ended is enough.

#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::chunk::{Cursor, Recorded, Step};
use super::survey::Chunk;
use crate::trace::input::ReadAt;

/// Merges chunks.
pub(super) struct Merge<'f> {
    file: &'f dyn ReadAt,
    page_log2: u8,
    /// Not yet begun, in the order of their first events.
    waiting: std::vec::IntoIter<Chunk>,
    /// Begun and not ended: the number of the next event, and where its cursor is.
    active: BinaryHeap<Reverse<(u64, usize)>>,
    cursors: Vec<(Cursor, Option<Recorded>)>,
    /// Cursors that have ended, to be used again.
    idle: Vec<usize>,
}

impl<'f> Merge<'f> {
    /// `chunks` are in the order of their first events.
    pub(super) fn new(file: &'f dyn ReadAt, chunks: Vec<Chunk>, page_log2: u8) -> Self {
        Self {
            file,
            page_log2,
            waiting: chunks.into_iter(),
            active: BinaryHeap::new(),
            cursors: Vec::new(),
            idle: Vec::new(),
        }
    }

    /// The event with the next greater number; none at the end.
    ///
    /// # Errors
    /// The file cannot be read.
    #[inline]
    pub(super) fn next(&mut self) -> std::io::Result<Option<Recorded>> {
        self.begin_chunks()?;
        let Some(mut top) = self.active.peek_mut() else {
            return Ok(None);
        };
        let (cursor, head) = &mut self.cursors[top.0.1];
        let event = head.take();
        match cursor.step(self.file)? {
            Step::Event(next) => {
                *head = Some(next);
                // Told only by an effective change, so that the heap is not sifted for nothing.
                top.0.0 = next.sequence;
            }
            // A damage was told by the survey, and the rest of the chunk cut off.
            Step::End | Step::Damage(_) => {
                let Reverse((_, index)) = std::collections::binary_heap::PeekMut::pop(top);
                self.idle.push(index);
            }
        }
        Ok(event)
    }

    /// Opens the chunks whose first event comes next.
    #[inline]
    fn begin_chunks(&mut self) -> std::io::Result<()> {
        while let Some(&chunk) = self.waiting.as_slice().first()
            && self
                .active
                .peek()
                .is_none_or(|&Reverse((next, _))| chunk.first_sequence <= next)
        {
            self.waiting.next();
            let index = match self.idle.pop() {
                Some(index) => {
                    self.cursors[index].0.restart(chunk.extent);
                    index
                }
                None => {
                    let cursor = Cursor::new(chunk.extent, self.page_log2);
                    self.cursors.push((cursor, None));
                    self.cursors.len() - 1
                }
            };
            let (cursor, head) = &mut self.cursors[index];
            if let Step::Event(event) = cursor.step(self.file)? {
                *head = Some(event);
                self.active.push(Reverse((event.sequence, index)));
            } else {
                // It shrank since the survey, which tells of it as of missing numbers.
                self.idle.push(index);
            }
        }
        Ok(())
    }
}
