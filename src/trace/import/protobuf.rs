//! Clayton Knittel's trace of protocol buffers: one message `Tracefile` that repeats `TraceLine`.
//!
//! The file may be longer than memory, so the outer message is taken apart here, field by field,
//! and each line is decoded by itself.

use std::ops::ControlFlow;

use prost::Message;

use super::fault::{Fault, SIZE_BYTES_MAX};
use super::records::{At, Bytes, Naming, Records, block};
use super::scan::Parse;
use super::{ReadOptions, Record, Request};
use crate::error::{Error, Result};
use crate::trace::input::Lines;
use crate::trace::stream::{Ending, EventSink};
use crate::trace::{AlignedFunction, Format};

/// A line has four numbers at most; the rest is for fields that a later version may add.
const LINE_BYTES_MAX: usize = 1024;

/// The fields of `Tracefile`.
const LINES: u64 = 1;
const ALLOCATIONS_MAX: u64 = 2;

/// `TraceLine`: one call. Ids number blocks from 0 and are used again; a missing id is null.
#[derive(Clone, PartialEq, Message)]
struct TraceLine {
    #[prost(oneof = "Call", tags = "1, 2, 3, 4")]
    call: Option<Call>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Call {
    #[prost(message, tag = "1")]
    Malloc(Malloc),
    #[prost(message, tag = "2")]
    Free(Free),
    #[prost(message, tag = "3")]
    Realloc(Realloc),
    #[prost(message, tag = "4")]
    Calloc(Calloc),
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Malloc {
    #[prost(uint64, optional, tag = "1")]
    result_id: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    input_size: Option<u64>,
    /// Of an allocation that asked for one.
    #[prost(uint64, optional, tag = "3")]
    input_alignment: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Free {
    #[prost(uint64, optional, tag = "1")]
    input_id: Option<u64>,
    /// Of a free that told the size.
    #[prost(uint64, optional, tag = "2")]
    input_size_hint: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    input_alignment_hint: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Realloc {
    #[prost(uint64, optional, tag = "1")]
    result_id: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    input_id: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    input_size: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Calloc {
    #[prost(uint64, optional, tag = "1")]
    result_id: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    input_nmemb: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    input_size: Option<u64>,
}

/// A block's key: its id and one more, since 0 stands for null.
fn key(id: Option<u64>) -> Parse<u64> {
    id.map_or(Ok(0), |id| {
        id.checked_add(1).ok_or("a block number below 2^64 - 1")
    })
}

/// What a line asks.
fn parse(line: &[u8]) -> Parse<Request> {
    let line = TraceLine::decode(line).map_err(|_| "a call as a protocol buffer")?;
    let call = line.call.ok_or("a malloc, free, realloc or calloc")?;
    Ok(match call {
        Call::Malloc(call) => {
            let (size, result) = (call.input_size.unwrap_or(0), key(call.result_id)?);
            match call.input_alignment {
                None => Request::Malloc { size, result },
                Some(alignment) => Request::Aligned {
                    function: AlignedFunction::AlignedAlloc,
                    alignment,
                    size,
                    result,
                },
            }
        }
        Call::Free(call) => Request::Free {
            pointer: key(call.input_id)?,
            sized: call.input_size_hint.is_some(),
        },
        Call::Realloc(call) => Request::Realloc {
            old: key(call.input_id)?,
            size: call.input_size.unwrap_or(0),
            result: key(call.result_id)?,
        },
        Call::Calloc(call) => Request::Calloc {
            count: call.input_nmemb.unwrap_or(0),
            size: call.input_size.unwrap_or(0),
            result: key(call.result_id)?,
        },
    })
}

/// Whether a file is of this format, which has no magic: it begins with a line, and what is in
/// sight are lines whose messages fill them exactly.
pub(super) fn recognises(head: &[u8]) -> bool {
    let mut rest = head;
    let mut lines = 0;
    while let Some((&tag, behind)) = rest.split_first() {
        rest = behind;
        match tag {
            0x0a => {
                let Some((&length, behind)) = rest.split_first() else {
                    break;
                };
                let Some((line, behind)) = behind.split_at_checked(usize::from(length)) else {
                    // The line is cut off by the end of the head, or the file is.
                    return lines > 0 && length < 0x80;
                };
                let filled = match *line {
                    [0x0a | 0x12 | 0x1a | 0x22, length, ref call @ ..] => {
                        usize::from(length) == call.len()
                    }
                    _ => false,
                };
                if !filled || !plausible(line) {
                    return false;
                }
                lines += 1;
                rest = behind;
            }
            0x10 => {
                let end = rest.iter().position(|&byte| byte < 0x80);
                match end {
                    Some(end) if end < 10 => rest = &rest[end + 1..],
                    None if rest.len() < 10 => break,
                    _ => return false,
                }
            }
            _ => return false,
        }
    }
    lines > 0
}

fn plausible(line: &[u8]) -> bool {
    match parse(line) {
        Ok(
            Request::Malloc { size, .. }
            | Request::Aligned { size, .. }
            | Request::Realloc { size, .. }
            | Request::Calloc { size, .. },
        ) => size <= SIZE_BYTES_MAX,
        Ok(_) => true,
        Err(_) => false,
    }
}

/// Reads the file.
pub(super) fn read(
    lines: &mut Lines,
    options: &ReadOptions,
    sink: &mut dyn EventSink,
) -> Result<Ending> {
    let bytes = Bytes::new(lines);
    let naming = Naming {
        numbered: true,
        pointer: block,
    };
    let mut records = Records::new(bytes.path(), options, Format::Protobuf, naming, sink);
    records.note(
        "this format has no threads, and aligned_alloc stands for every function that allocates \
         with an alignment",
    );
    let mut reader = Reader {
        bytes,
        line: Vec::new(),
        ids: 0,
        announced: None,
    };
    loop {
        match reader.field(&mut records) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => break,
            Err(damage) => {
                records.saves(damage)?;
                return records.finish();
            }
        }
    }
    match reader.announced {
        Some(announced) if announced < reader.ids => records.contradiction(format!(
            "the file announces {announced} blocks at a time and uses the block number {}: it is \
             altered",
            reader.ids - 1
        ))?,
        Some(_) => {}
        None => records.warn(
            "the number of blocks at the end of the file is missing: it may be truncated"
                .to_owned(),
        ),
    }
    records.finish()
}

struct Reader<'l, 's> {
    bytes: Bytes<'l, 's>,
    line: Vec<u8>,
    /// One more than the highest block number.
    ids: u64,
    /// How many blocks live at a time, as the file says.
    announced: Option<u64>,
}

impl Reader<'_, '_> {
    /// Reads one field of the file.
    fn field(&mut self, records: &mut Records) -> Result<ControlFlow<()>> {
        let at = self.bytes.begin();
        let Some(tag) = self.varint(at)? else {
            return Ok(ControlFlow::Break(()));
        };
        let (field, wire_type) = (tag >> 3, tag & 7);
        match wire_type {
            0 => {
                let value = self.whole_varint(at)?;
                if field == ALLOCATIONS_MAX {
                    self.announced = Some(value);
                }
            }
            1 => self.skip(at, 8)?,
            2 => {
                let length = self.whole_varint(at)?;
                if field != LINES {
                    self.skip(at, length)?;
                } else if length > LINE_BYTES_MAX as u64 {
                    self.skip(at, length)?;
                    records.refuse(Fault::Syntax("a line of at most 1024 bytes"), at, &[])?;
                } else {
                    self.line(records, at, length as usize)?;
                }
            }
            5 => self.skip(at, 4)?,
            _ => return Err(self.damaged(at, "no field of a protocol buffer begins here")),
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Reads and takes one line.
    fn line(&mut self, records: &mut Records, at: At, length: usize) -> Result<()> {
        self.line.resize(length, 0);
        let filled = self.bytes.fill(&mut self.line)?;
        if filled < length {
            return Err(self.bytes.cut(at, filled, length));
        }
        match parse(&self.line) {
            Ok(request) => {
                if records.take(&Record::of(request), at)? {
                    self.ids = self.ids.max(request.result().unwrap_or(0));
                }
                Ok(())
            }
            Err(expected) => records.refuse(Fault::Syntax(expected), at, &self.line),
        }
    }

    /// Passes over `length` bytes.
    fn skip(&mut self, at: At, mut length: u64) -> Result<()> {
        let mut passed = [0; 512];
        while length > 0 {
            let piece = length.min(passed.len() as u64) as usize;
            if self.bytes.fill(&mut passed[..piece])? < piece {
                return Err(self.damaged(at, "the file ends inside a field: it is truncated"));
            }
            length -= piece as u64;
        }
        Ok(())
    }

    fn whole_varint(&mut self, at: At) -> Result<u64> {
        let number = self.varint(at)?;
        number.ok_or_else(|| self.damaged(at, "the file ends inside a field: it is truncated"))
    }

    /// A number of seven bits a byte, the lowest first; none at the end of the file.
    fn varint(&mut self, at: At) -> Result<Option<u64>> {
        let mut encoded = [0; 10];
        for length in 0..encoded.len() {
            if self.bytes.fill(&mut encoded[length..=length])? == 0 {
                if length == 0 {
                    return Ok(None);
                }
                break;
            }
            if encoded[length] < 0x80 {
                return match prost::encoding::decode_varint(&mut &encoded[..=length]) {
                    Ok(number) => Ok(Some(number)),
                    Err(_) => Err(self.damaged(at, "a number of the field is above 2^64")),
                };
            }
        }
        Err(self.damaged(at, "a number of the field has no end"))
    }

    fn damaged(&self, at: At, message: &str) -> Error {
        let message = format!("byte {} (record {}): {message}", at.offset, at.number);
        Error::file(self.bytes.path(), message)
    }
}
