//! Enters a file at any chunk.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::decode::{Decoder, Failure, header};
use super::lane::Known;
use super::layout::*;
use super::reader;
use super::section::{self, HEADER_BYTES, parts, u32_at, u64_at};
use crate::error::{Error, Result};
use crate::trace::input::{ReadAt, ReadFrom};
use crate::trace::live_blocks::LiveBlocks;
use crate::trace::stream::{Ending, EventSink};
use crate::trace::{Format, ReadOptions};

/// Where a chunk stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkPlace {
    /// Its first byte in the file.
    pub offset: u64,
    /// Number of its first event.
    pub first_event: u64,
    /// Blocks allocated before it.
    pub first_block: u32,
    /// Blocks live before it.
    pub live_blocks: u32,
    /// Time of its first event, if the trace has times.
    pub first_time_ns: Option<u64>,
}

impl ChunkPlace {
    /// Appends it as it stands in the index.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.first_event.to_le_bytes());
        out.extend_from_slice(&self.first_block.to_le_bytes());
        out.extend_from_slice(&self.live_blocks.to_le_bytes());
        out.extend_from_slice(&self.first_time_ns.unwrap_or(NO_TIME).to_le_bytes());
    }

    fn of(entry: &[u8]) -> Self {
        Self {
            offset: u64_at(entry, 0),
            first_event: u64_at(entry, 8),
            first_block: u32_at(entry, 16),
            live_blocks: u32_at(entry, 20),
            first_time_ns: Some(u64_at(entry, 24)).filter(|&time| time != NO_TIME),
        }
    }
}

/// The chunks of a file, each of which can be read alone.
pub struct Chunks<'f> {
    path: PathBuf,
    file: Box<dyn ReadAt + 'f>,
    places: Vec<ChunkPlace>,
    events: u64,
    /// Where the chunks end.
    chunks_end: u64,
    decoder: Decoder,
    chunks_read: u64,
    interrupted: Option<fn() -> bool>,
}

impl<'f> Chunks<'f> {
    /// Opens an uncompressed binary file by the index at its end. Of `options`, only whether to give up
    /// matters.
    ///
    /// # Errors
    /// It is no such file, or its end is missing or damaged: then it can be read from its beginning
    /// only.
    pub fn open(path: &Path, options: &ReadOptions) -> Result<Self> {
        let file = File::open(path).map_err(|source| Error::io(path, "read", source))?;
        Self::of(path, Box::new(file), options)
    }

    /// The same for a file that is in memory; `name` is what messages call it.
    ///
    /// # Errors
    /// As [`Chunks::open`].
    pub fn of_bytes(name: &Path, bytes: &'f [u8], options: &ReadOptions) -> Result<Self> {
        Self::of(name, Box::new(bytes), options)
    }

    fn of(path: &Path, file: Box<dyn ReadAt + 'f>, options: &ReadOptions) -> Result<Self> {
        let unreadable = |source| Error::io(path, "read", source);
        let mut head = [0; FILE_HEADER_BYTES];
        let count = file.fill_at(&mut head, 0).map_err(unreadable)?;
        if count < FILE_HEADER_BYTES || !super::recognises(&head) {
            return Err(Error::file(path, "not a trace in the binary format"));
        }
        reader::check_version(&head).map_err(|message| Error::file(path, message))?;
        let endless = || {
            let message = "the index at its end is missing or damaged: read it from the beginning \
                           (mymalloc trace convert --lenient makes a whole file of it)";
            Error::file(path, message)
        };
        let bytes = file.size_bytes().map_err(unreadable)?;
        let end_at = bytes
            .checked_sub((HEADER_BYTES + END_BYTES) as u64)
            .ok_or_else(endless)?;
        let end = read_section(&*file, end_at, TAG_END).ok_or_else(endless)?;
        if end.len() != END_BYTES {
            return Err(endless());
        }
        let (index_at, events) = (u64_at(&end, 0), u64_at(&end, 8));
        let index = read_section(&*file, index_at, TAG_INDEX).ok_or_else(endless)?;
        let entries = index.chunks_exact(INDEX_ENTRY_BYTES);
        let places: Vec<_> = entries.map(ChunkPlace::of).collect();
        let ascending = |pair: &[ChunkPlace]| {
            pair[0].offset < pair[1].offset
                && pair[0].first_event < pair[1].first_event
                && pair[0].first_block <= pair[1].first_block
        };
        let (first, last) = (places.first(), places.last());
        let right = index.len() % INDEX_ENTRY_BYTES == 0
            && index_at < end_at
            && places.windows(2).all(ascending)
            && first.is_none_or(|first| {
                (first.first_event, first.first_block, first.live_blocks) == (0, 0, 0)
            })
            && last.is_none_or(|last| last.offset < index_at && last.first_event < events);
        if !right {
            return Err(endless());
        }
        let chunks_end = match last {
            None => FILE_HEADER_BYTES as u64,
            Some(last) => {
                let bytes = section_bytes(&*file, last.offset, TAG_CHUNK);
                last.offset + bytes.ok_or_else(endless)?
            }
        };
        let decoder = Decoder::new().map_err(unreadable)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            places,
            events,
            chunks_end,
            decoder,
            chunks_read: 0,
            interrupted: options.interrupted,
        })
    }

    /// Events of the whole trace.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The chunks, in order.
    pub fn places(&self) -> &[ChunkPlace] {
        &self.places
    }

    /// Chunks that were decoded so far, each as often as it was.
    pub fn chunks_read(&self) -> u64 {
        self.chunks_read
    }

    /// The chunk that holds an event, by its number from 0.
    pub fn of_event(&self, event: u64) -> Option<usize> {
        if event >= self.events {
            return None;
        }
        let behind = self
            .places
            .partition_point(|place| place.first_event <= event);
        behind.checked_sub(1)
    }

    /// What the file says of its trace. Its checksum is none of the whole file: that was not read.
    ///
    /// # Errors
    /// That section is damaged.
    pub fn ending(&mut self) -> Result<Ending> {
        let damaged = |what: &str| {
            let message = format!("byte {}: {what}", self.chunks_end);
            Error::file(&self.path, message)
        };
        let body = read_section(&*self.file, self.chunks_end, TAG_META)
            .ok_or_else(|| damaged("no section with what is known of the trace begins here"))?;
        let json = reader::meta(&body).map_err(damaged)?;
        let provenance = reader::provenance(&json).map_err(|what| damaged(&what))?;
        Ok(provenance.into_ending(&self.path, Format::Binary))
    }

    /// Hands on the events of consecutive chunks. They are not a trace of their own: their blocks are
    /// numbered from the first chunk's first on, and blocks from before it are released in them, of
    /// which is not known here whether they were live.
    ///
    /// # Errors
    /// A chunk is damaged, or the sink refuses.
    ///
    /// # Panics
    /// There are no such chunks.
    pub fn read(&mut self, chunks: Range<usize>, sink: &mut dyn EventSink) -> Result<()> {
        let Some(first) = self.places[chunks.clone()].first() else {
            return Ok(());
        };
        let mut known = Known {
            unseen_below: first.first_block,
            live: LiveBlocks::after(first.first_block),
            threads: None,
        };
        for chunk in chunks {
            if self.interrupted.is_some_and(|asked| asked()) {
                return Err(Error::Interrupted);
            }
            self.read_one(chunk, &mut known, sink)?;
        }
        Ok(())
    }

    fn read_one(
        &mut self,
        chunk: usize,
        known: &mut Known,
        sink: &mut dyn EventSink,
    ) -> Result<()> {
        let place = self.places[chunk];
        let next_event = match self.places.get(chunk + 1) {
            Some(next) => next.first_event,
            None => self.events,
        };
        let damaged = |what: &str| {
            let message = format!("chunk {chunk} at byte {}: {what}", place.offset);
            Error::file(&self.path, message)
        };
        let body = read_section(&*self.file, place.offset, TAG_CHUNK)
            .ok_or_else(|| damaged("its checksum does not match, or it is cut off"))?;
        let expected = header(&body).is_ok_and(|header| {
            header.first_event == place.first_event
                && header.first_event + u64::from(header.events) == next_event
                && header.first_block == place.first_block
                && header.live_before == place.live_blocks
                && header.first_block == known.live.allocated()
        });
        if !expected {
            return Err(damaged("it is not the one that the index names"));
        }
        self.chunks_read += 1;
        match self.decoder.run(&body, known, sink, &mut 0) {
            Ok(()) => Ok(()),
            Err(Failure::Damaged(what)) => Err(damaged(what)),
            Err(Failure::Sink(error)) => Err(error),
        }
    }
}

/// Length of the section that must stand at `offset`, its head included; the body is not read.
fn section_bytes(file: &dyn ReadAt, offset: u64, expected: [u8; 4]) -> Option<u64> {
    let mut head = [0; HEADER_BYTES];
    if file.fill_at(&mut head, offset).ok()? < HEADER_BYTES {
        return None;
    }
    let (tag, bytes, _) = parts(&head);
    (tag == expected).then_some(HEADER_BYTES as u64 + u64::from(bytes))
}

/// The body of a section that must stand at `offset`.
fn read_section(file: &dyn ReadAt, offset: u64, expected: [u8; 4]) -> Option<Vec<u8>> {
    section_bytes(file, offset, expected)?;
    let mut body = Vec::new();
    let mut source = ReadFrom { file, at: offset };
    let tag = section::next(&mut source, &mut body).ok()?;
    (tag == expected).then_some(body)
}
