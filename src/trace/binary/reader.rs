//! Reads a file from front to back and hands its events on.

use std::io::Read as _;

use super::decode::{Decoder, Failure, header};
use super::lane::Known;
use super::layout::*;
use super::section::{self, Missing, u32_at, u64_at};
use super::seek::ChunkPlace;
use crate::error::{Error, Result};
use crate::trace::import::ReadOptions;
use crate::trace::input::Lines;
use crate::trace::live_blocks::LiveBlocks;
use crate::trace::provenance::Provenance;
use crate::trace::stream::{Batch, Ending, EventSink};
use crate::trace::{Format, Operation, plural};

/// Whether a file is of this format.
pub(in crate::trace) fn recognises(head: &[u8]) -> bool {
    head.starts_with(&MAGIC)
}

/// Reads a file from its first byte on.
pub(in crate::trace) fn read(
    source: &mut Lines,
    options: &ReadOptions,
    sink: &mut dyn EventSink,
) -> Result<Ending> {
    let path = source.path().to_owned();
    let mut sink = Watched {
        sink,
        operations: false,
    };
    let mut file = File {
        source,
        at: 0,
        chunks: 0,
        places: Vec::new(),
        events: 0,
        known: Known {
            unseen_below: 0,
            live: LiveBlocks::default(),
            threads: Some(0),
        },
        json: None,
        index: None,
        body: Vec::new(),
    };
    let whole = file.begin().and_then(|()| file.sections(&mut sink));
    let damage = match whole {
        Ok(()) => None,
        Err(Stop::Error(error)) => return Err(error),
        Err(Stop::Damage(message)) => Some(message),
    };
    let kept = plural(file.events, "event");
    if let Some(message) = &damage
        && (!options.lenient || file.events == 0)
    {
        let advice = match file.events {
            0 => "nothing before it can be read".to_owned(),
            _ => format!("--lenient keeps the {kept} before it"),
        };
        return Err(Error::file(path, format!("{message} ({advice})")));
    }
    if !sink.operations {
        return Err(Error::file(path, "the trace holds no allocator operation"));
    }
    let provenance = match file.json.take() {
        Some(json) => provenance(&json).map_err(|message| Error::file(&path, message)),
        None => Ok(Provenance::default()),
    };
    let (provenance, unknown) = match provenance {
        Ok(provenance) => (provenance, None),
        Err(error) if options.lenient => (Provenance::default(), Some(error.to_string())),
        Err(error) => return Err(error),
    };
    let mut ending = provenance.into_ending(&path, Format::Binary);
    let warnings = &mut ending.origin.warnings;
    warnings.extend(unknown);
    if let Some(message) = damage {
        warnings.push(format!("{message}; the {kept} before it were kept"));
    }
    Ok(ending)
}

/// Whether this reader knows the version that a file's head tells; if not, in words.
pub(super) fn check_version(head: &[u8; FILE_HEADER_BYTES]) -> std::result::Result<(), String> {
    match u32_at(head, 8) {
        VERSION => Ok(()),
        version => Err(format!(
            "version {version} of the binary format, expected {VERSION}"
        )),
    }
}

/// What the file says of its trace.
pub(super) fn provenance(json: &[u8]) -> std::result::Result<Provenance<'static>, String> {
    Provenance::parse(json)
        .map_err(|what| format!("what the file says of its trace cannot be understood: {what}"))
}

/// Sees whether anything is there that an allocator serves.
struct Watched<'s> {
    sink: &'s mut dyn EventSink,
    operations: bool,
}

impl EventSink for Watched<'_> {
    fn take(&mut self, batch: &Batch) -> Result<()> {
        if !self.operations {
            let mut operations = batch.events.iter().map(|event| &event.operation);
            self.operations = operations.any(Operation::is_replayed);
        }
        self.sink.take(batch)
    }
}

/// Why reading stopped.
enum Stop {
    /// The file is not whole: where, and what is wrong.
    Damage(String),
    /// Whatever else, an interrupt or the sink's refusal.
    Error(Error),
}

/// A file on its way.
struct File<'f, 's> {
    source: &'f mut Lines<'s>,
    /// Bytes read.
    at: u64,
    chunks: u64,
    /// The index as it must be: an entry for each chunk.
    places: Vec<u8>,
    /// Events handed on.
    events: u64,
    known: Known,
    json: Option<Vec<u8>>,
    /// Where the index stands.
    index: Option<u64>,
    body: Vec<u8>,
}

impl File<'_, '_> {
    fn begin(&mut self) -> std::result::Result<(), Stop> {
        let mut head = [0; FILE_HEADER_BYTES];
        let count = section::fill(self.source, &mut head).map_err(|error| self.failed(error))?;
        if count < FILE_HEADER_BYTES {
            return Err(self.damage("the file ends in its head"));
        }
        check_version(&head)
            .map_err(|message| Stop::Error(Error::file(self.source.path(), message)))?;
        if u32_at(&head, 12) != 0 {
            return Err(self.damage("the file's head is damaged"));
        }
        self.at = FILE_HEADER_BYTES as u64;
        Ok(())
    }

    /// Reads all sections, in the one order there is.
    fn sections(&mut self, sink: &mut dyn EventSink) -> std::result::Result<(), Stop> {
        let mut decoder = Decoder::new().map_err(|error| self.failed(error))?;
        loop {
            let mut body = std::mem::take(&mut self.body);
            let tag = match section::next(self.source, &mut body) {
                Ok(tag) => tag,
                Err(Missing::Nothing) => return Err(self.damage("the file was cut off here")),
                Err(Missing::Damaged(what)) => return Err(self.damage(what)),
                Err(Missing::Io(error)) => return Err(self.failed(error)),
            };
            match tag {
                TAG_CHUNK if self.json.is_none() => self.chunk(&body, &mut decoder, sink)?,
                TAG_META if self.json.is_none() => {
                    let json = meta(&body).map_err(|what| self.damage(what))?;
                    self.json = Some(json);
                }
                TAG_INDEX if self.json.is_some() && self.index.is_none() => {
                    if body != self.places {
                        return Err(self.damage("the index is not that of this file"));
                    }
                    self.index = Some(self.at);
                }
                TAG_END if self.index.is_some() => {
                    self.end(&body)?;
                    return Ok(());
                }
                _ => return Err(self.damage("a section is missing or stands twice")),
            }
            self.at += (section::HEADER_BYTES + body.len()) as u64;
            self.body = body;
        }
    }

    fn chunk(
        &mut self,
        body: &[u8],
        decoder: &mut Decoder,
        sink: &mut dyn EventSink,
    ) -> std::result::Result<(), Stop> {
        let head = match header(body) {
            Ok(head) => head,
            Err(Failure::Damaged(what)) => return Err(self.damage(what)),
            Err(Failure::Sink(error)) => return Err(Stop::Error(error)),
        };
        let follows =
            head.first_event == self.events && head.first_block == self.known.live.allocated();
        if !follows {
            return Err(self.damage("it does not follow the chunk before it"));
        }
        if head.live_before != self.known.live.live() {
            return Err(
                self.damage("it has another number of live blocks before it than there are")
            );
        }
        match decoder.run(body, &mut self.known, sink, &mut self.events) {
            Ok(()) => {}
            Err(Failure::Damaged(what)) => return Err(self.damage(what)),
            Err(Failure::Sink(error)) => return Err(Stop::Error(error)),
        }
        let place = ChunkPlace {
            offset: self.at,
            first_event: head.first_event,
            first_block: head.first_block,
            live_blocks: head.live_before,
            first_time_ns: decoder.first_time_ns(),
        };
        place.put(&mut self.places);
        self.chunks += 1;
        Ok(())
    }

    /// The last section must tell what was found, and nothing may follow it.
    fn end(&mut self, body: &[u8]) -> std::result::Result<(), Stop> {
        let right = body.len() == END_BYTES
            && Some(u64_at(body, 0)) == self.index
            && u64_at(body, 8) == self.events
            && u32_at(body, 16) == self.known.live.allocated();
        if !right {
            return Err(self.damage("the end of the file is not that of its chunks"));
        }
        self.at += (section::HEADER_BYTES + body.len()) as u64;
        let mut further = [0];
        match self.source.read(&mut further) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.damage("something stands behind the end of the trace")),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn damage(&self, what: &str) -> Stop {
        let at = self.at;
        Stop::Damage(match self.json {
            None => format!("chunk {} at byte {at}: {what}", self.chunks),
            Some(_) => format!("byte {at}: {what}"),
        })
    }

    /// What the source failed with: an interrupt is no damage, a compressed stream that ends early is.
    fn failed(&self, error: std::io::Error) -> Stop {
        match error.downcast::<Error>() {
            Ok(Error::File { message, .. } | Error::Line { message, .. }) => self.damage(&message),
            Ok(error) => Stop::Error(error),
            Err(error) => Stop::Error(Error::io(self.source.path(), "read", error)),
        }
    }
}

/// The JSON object in the body of a `META` section.
pub(super) fn meta(body: &[u8]) -> std::result::Result<Vec<u8>, &'static str> {
    const DAMAGED: &str = "what the file says of its trace cannot be decompressed";
    let Some((length, packed)) = body.split_first_chunk::<4>() else {
        return Err(DAMAGED);
    };
    let length = u32::from_le_bytes(*length) as usize;
    if length > META_BYTES_MAX {
        return Err(DAMAGED);
    }
    let mut json = Vec::new();
    let decoder = zstd::Decoder::new(packed).map_err(|_| DAMAGED)?;
    // One byte more than there may be, to see that there is none.
    let read = decoder.take(length as u64 + 1).read_to_end(&mut json);
    match read {
        Ok(count) if count == length => Ok(json),
        _ => Err(DAMAGED),
    }
}
