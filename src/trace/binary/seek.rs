//! Enters a file at any chunk.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::decode::{Decoder, Failure, Known, header};
use super::layout::*;
use super::section::{self, HEADER_BYTES, parts, u32_at, u64_at};
use crate::error::{Error, Result};
use crate::trace::stream::{EventSink, LiveBlocks};

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

/// The chunks of a file, each of which can be read alone.
pub struct Chunks {
    path: PathBuf,
    file: File,
    places: Vec<ChunkPlace>,
    events: u64,
    decoder: Decoder,
}

impl Chunks {
    /// Opens an uncompressed binary file by the index at its end.
    ///
    /// # Errors
    /// It is no such file, or its end is missing or damaged: then it can be read from its beginning
    /// only.
    pub fn open(path: &Path) -> Result<Self> {
        let unreadable = |source| Error::io(path, "read", source);
        let mut file = File::open(path).map_err(unreadable)?;
        let mut head = [0; FILE_HEADER_BYTES];
        let count = section::fill(&mut file, &mut head).map_err(unreadable)?;
        if count < FILE_HEADER_BYTES || !super::recognises(&head) {
            return Err(Error::file(path, "not a trace in the binary format"));
        }
        let endless = || {
            let message = "the index at its end is missing or damaged: read it from the beginning \
                           (mymalloc trace convert --lenient makes a whole file of it)";
            Error::file(path, message)
        };
        let bytes = file.metadata().map_err(unreadable)?.len();
        let end_at = bytes
            .checked_sub((HEADER_BYTES + END_BYTES) as u64)
            .ok_or_else(endless)?;
        let end = read_section(&mut file, end_at, TAG_END).ok_or_else(endless)?;
        if end.len() != END_BYTES {
            return Err(endless());
        }
        let (index_at, events) = (u64_at(&end, 0), u64_at(&end, 8));
        let index = read_section(&mut file, index_at, TAG_INDEX).ok_or_else(endless)?;
        let places: Vec<_> = index.chunks_exact(INDEX_ENTRY_BYTES).map(place).collect();
        let ascending = |pair: &[ChunkPlace]| {
            pair[0].offset < pair[1].offset && pair[0].first_event < pair[1].first_event
        };
        let right = index.len() % INDEX_ENTRY_BYTES == 0
            && places.windows(2).all(ascending)
            && places
                .last()
                .is_none_or(|last| last.offset < index_at && last.first_event < events);
        if !right {
            return Err(endless());
        }
        let decoder = Decoder::new().map_err(unreadable)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            places,
            events,
            decoder,
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

    /// The first chunk that can hold events of a moment or later, if the trace has times that rise.
    pub fn of_time(&self, time_ns: u64) -> Option<usize> {
        let before = |place: &ChunkPlace| place.first_time_ns.is_some_and(|first| first <= time_ns);
        self.places.first()?.first_time_ns?;
        Some(self.places.partition_point(before).saturating_sub(1))
    }

    /// Hands on the events of one chunk. They are not a trace of their own: their blocks are numbered
    /// from the chunk's first on, and blocks from before it are released in it, of which is not known
    /// here whether they were live.
    ///
    /// # Errors
    /// The chunk is damaged, or the sink refuses.
    ///
    /// # Panics
    /// There is no such chunk.
    pub fn read(&mut self, chunk: usize, sink: &mut dyn EventSink) -> Result<()> {
        let place = self.places[chunk];
        let damaged = |what: &str| {
            let message = format!("chunk {chunk} at byte {}: {what}", place.offset);
            Error::file(&self.path, message)
        };
        let body = read_section(&mut self.file, place.offset, TAG_CHUNK)
            .ok_or_else(|| damaged("its checksum does not match, or it is cut off"))?;
        let known = header(&body).is_ok_and(|header| {
            header.first_event == place.first_event && header.first_block == place.first_block
        });
        if !known {
            return Err(damaged("it is not the one that the index names"));
        }
        let mut known = Known {
            unseen_below: place.first_block,
            live: LiveBlocks::after(place.first_block),
        };
        let mut events = 0;
        match self.decoder.run(&body, &mut known, sink, &mut events) {
            Ok(()) => Ok(()),
            Err(Failure::Damaged(what)) => Err(damaged(what)),
            Err(Failure::Sink(error)) => Err(error),
        }
    }
}

fn place(entry: &[u8]) -> ChunkPlace {
    ChunkPlace {
        offset: u64_at(entry, 0),
        first_event: u64_at(entry, 8),
        first_block: u32_at(entry, 16),
        live_blocks: u32_at(entry, 20),
        first_time_ns: Some(u64_at(entry, 24)).filter(|&time| time != NO_TIME),
    }
}

/// The body of a section that must stand at `offset`.
fn read_section(file: &mut File, offset: u64, expected: [u8; 4]) -> Option<Vec<u8>> {
    file.seek(SeekFrom::Start(offset)).ok()?;
    let mut head = [0; HEADER_BYTES];
    file.read_exact(&mut head).ok()?;
    if parts(&head).0 != expected {
        return None;
    }
    file.seek(SeekFrom::Start(offset)).ok()?;
    let mut body = Vec::new();
    let tag = section::next(file, &mut body).ok()?;
    (tag == expected).then_some(body)
}
