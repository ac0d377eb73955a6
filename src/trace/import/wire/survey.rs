//! The first walk through a file: where its chunks are, when each thread wrote last, and what of the
//! file cannot be used. Nothing is handed on yet.

#![forbid(unsafe_code)]

use rustc_hash::FxHashMap;

use super::super::Request;
use super::Stop;
use super::chunk::{Cursor, Damage, Extent, Step};
use super::header::Header;
use crate::trace::input::ReadAt;
use crate::trace::wire::{CHUNK_HEADER_BYTES, CHUNK_MAGIC, UNIT_BYTES};

/// A chunk with at least one event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    pub(super) extent: Extent,
    /// Number of its first event.
    pub(super) first_sequence: u64,
}

/// A thread's last word.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Last {
    pub(super) sequence: u64,
    /// It told its end, after which it may have written more.
    pub(super) has_ended: bool,
}

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// In the order of their first events.
    pub(super) chunks: Vec<Chunk>,
    pub(super) threads: FxHashMap<u64, Last>,
    /// The greatest number of an event.
    pub(super) last_sequence: u64,
    /// Places that cannot be read; of each chunk the rest is left out.
    pub(super) damages: u64,
    pub(super) first_damage: Option<Damage>,
    /// The file is shorter than its chunks.
    pub(super) is_cut_off: bool,
}

impl Survey {
    /// Walks through a file of `file_bytes` bytes.
    pub(super) fn make(
        file: &dyn ReadAt,
        header: &Header,
        file_bytes: u64,
        stop: &dyn Fn() -> bool,
    ) -> Result<Self, Stop> {
        let unit = UNIT_BYTES as u64;
        // What was handed out; a damaged number says nothing.
        let end = match header.file_bytes {
            bytes if bytes >= unit => file_bytes.min(bytes),
            _ => file_bytes,
        };
        let mut survey = Self::default();
        let mut cursor = None;
        let mut at = unit;
        while at + CHUNK_HEADER_BYTES as u64 <= end {
            if stop() {
                return Err(Stop::Interrupted);
            }
            let mut head = [0; CHUNK_HEADER_BYTES];
            if file.fill_at(&mut head, at)? < head.len() {
                // It shrank since its length was asked for.
                survey.is_cut_off = true;
                break;
            }
            let [magic, units] = [0, 4].map(|offset| {
                let bytes = head[offset..offset + 4].try_into();
                u32::from_le_bytes(bytes.expect("four bytes"))
            });
            if magic != CHUNK_MAGIC || units == 0 {
                if magic != 0 {
                    survey.damage(Damage {
                        offset: at,
                        what: "neither a chunk nor empty",
                    });
                }
                at += unit;
                continue;
            }
            let bytes = u64::from(units) * unit;
            let mark = u64::from_le_bytes(head[8..].try_into().expect("eight bytes"));
            if header.is_void(at, mark) {
                at += bytes;
                continue;
            }
            survey.is_cut_off |= bytes > file_bytes - at;
            let extent = Extent {
                start: at,
                end: (at + bytes).min(file_bytes),
            };
            let cursor = cursor.get_or_insert_with(|| Cursor::new(extent, header.page_log2()));
            survey.walk(extent, cursor, file)?;
            at += bytes;
        }
        survey.chunks.sort_by_key(|chunk| chunk.first_sequence);
        Ok(survey)
    }

    fn damage(&mut self, damage: Damage) {
        self.damages += 1;
        self.first_damage.get_or_insert(damage);
    }

    /// Walks through a chunk.
    fn walk(
        &mut self,
        mut extent: Extent,
        cursor: &mut Cursor,
        file: &dyn ReadAt,
    ) -> Result<(), Stop> {
        cursor.restart(extent);
        let mut first_sequence = None;
        // Most events are of the thread of the one before.
        let mut current: Option<(u64, Last)> = None;
        loop {
            match cursor.step(file)? {
                Step::End => break,
                Step::Damage(damage) => {
                    extent.end = damage.offset;
                    self.damage(damage);
                    break;
                }
                Step::Event(event) => {
                    first_sequence.get_or_insert(event.sequence);
                    if current.is_none_or(|(thread, _)| thread != event.thread) {
                        if let Some((thread, last)) = current {
                            self.thread_wrote(thread, last);
                        }
                        current = Some((event.thread, Last::default()));
                    }
                    let (_, last) = current.as_mut().expect("just set");
                    last.sequence = event.sequence;
                    last.has_ended |= event.request == Request::ThreadEnd;
                }
            }
        }
        if let Some((thread, last)) = current {
            self.thread_wrote(thread, last);
        }
        if let Some(first_sequence) = first_sequence {
            self.chunks.push(Chunk {
                extent,
                first_sequence,
            });
        }
        Ok(())
    }

    fn thread_wrote(&mut self, thread: u64, last: Last) {
        let known = self.threads.entry(thread).or_default();
        known.sequence = known.sequence.max(last.sequence);
        self.last_sequence = self.last_sequence.max(last.sequence);
        known.has_ended |= last.has_ended;
    }
}
