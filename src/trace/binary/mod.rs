//! The native binary format, `.trace`: a trace without loss in about a third of a byte to one byte per
//! event, written and read as it comes, checked piece by piece, and entered at any chunk.
//!
//! # File
//! All numbers are little-endian.
//!
//! ```text
//! file    := MAGIC 8 bytes, version u32 = 1, zero u32, chunk..., "META", "INDX", "ENDS"
//! section := tag 4 bytes, bytes u32, check u32, body       (each chunk, and the three at the end)
//! ```
//! `bytes` is the length of the body, `check` the CRC-32 (IEEE) of tag, `bytes` and body.
//!
//! | tag | body |
//! |---|---|
//! | `CHNK` | up to 2^20 consecutive events: below |
//! | `META` | length u32 of the JSON object that follows, compressed by zstd: notes, warnings, how it was recorded, names of call sites |
//! | `INDX` | per chunk 32 bytes: its place in the file u64, first event u64, first block u32, live blocks before it u32, time of its first event u64 (2^64 - 1 if there are none) |
//! | `ENDS` | place of `INDX` u64, events u64, blocks u32, zero u32: the last 36 bytes of the file |
//!
//! A file that was cut off lacks the last sections. Its chunks are whole without them: each is read
//! with what it holds itself and the number of blocks before it.
//!
//! # Chunk
//! ```text
//! body   := first event u64, first block u32, events u32, live blocks before u32, columns u32, column...
//! column := id u32, raw bytes u32, stored bytes u32, then as many bytes: one zstd frame,
//!           or the raw bytes themselves where both lengths are equal
//! ```
//! Columns come in ascending order of their ids; an empty one is left out.
//!
//! | id | column | entries |
//! |---|---|---|
//! | 0 | threads of the chunk, by first appearance | nine LEB128 numbers each: thread, events, blocks, extra bytes of its sizes, victims, extra bytes of those, calloc counts, extra bytes of those, aligned allocations; a tenth, extra bytes of its call sites, if there is column 17 |
//! | 1, 2 | numbers: threads of the runs, as places in column 0 | one per run of events of one thread |
//! | 3, 4 | numbers: lengths of the runs | likewise |
//! | 5 | kinds, a byte each | one per event |
//! | 6 | sizes that occur, the most frequent first | LEB128 |
//! | 7, 8 | numbers: sizes, as places in column 6 | one per block |
//! | 9, 10 | numbers: victims | one per block freed or reallocated |
//! | 11, 12 | numbers: counts of calloc | one per calloc |
//! | 13 | function * 48 + log2 of the alignment, a byte each; functions are memalign, posix_memalign, aligned_alloc, valloc, pvalloc from 0 | one per aligned allocation |
//! | 14, 15 | numbers: times, as zigzag differences to the event before, from 0, modulo 2^64 | one per event, or none |
//! | 16 | call sites that occur, the most frequent first | LEB128 |
//! | 17, 18 | numbers: call sites, as places in column 16 | one per event, or none |
//!
//! Columns 5 to 13, 17 and 18 hold the entries of the first thread of column 0, then those of the
//! second, and so on: what one thread does is far more regular than the interleaving of all. Times
//! stand in the order of events.
//!
//! A pair of columns holds *numbers*: in the first a byte `m` for each, in the second what follows it.
//!
//! | `m` | number |
//! |---|---|
//! | 0 to 223 | `m` |
//! | 224 to 247 | 224 + (`m` - 224) * 256 + the next extra byte |
//! | 248 to 254 | the next `m` - 246 extra bytes |
//!
//! Blocks are numbered in the order of allocation and never written. A block that is freed or
//! reallocated, a *victim*, is the shortest of three numbers, and the kind says which:
//!
//! | victim | number |
//! |---|---|
//! | own | blocks that the thread has allocated in this chunk since this one |
//! | near | zigzag difference to the thread's last victim in this chunk (at first: the chunk's first block) |
//! | old | blocks that all threads have allocated since this one |
//!
//! | kind | event | kind | event |
//! |---|---|---|---|
//! | 0 | malloc | 10, 11, 12 | realloc of an own, near, old block |
//! | 1, 2, 3 | free of an own, near, old block | 13 | free(NULL) |
//! | 4, 5, 6 | the same by a caller that told the size | 14 | free of a block from before the recording |
//! | 7 | calloc | 15, 16 | thread starts, ends |
//! | 8 | aligned allocation | 17 | mark |
//! | 9 | realloc of null | 18 | allocation that had failed |
//!
//! zigzag(d) is 2d, or -2d - 1 for negative d.

#![forbid(unsafe_code)]

mod decode;
mod encode;
mod layout;
mod numbers;
mod reader;
mod section;
mod seek;
#[cfg(test)]
mod tests;
mod writer;

pub(in crate::trace) use reader::{read, recognises};
pub use seek::{ChunkPlace, Chunks};
pub use writer::BinaryWriter;

/// Level of compression: a higher one takes many times longer for a few per cent.
pub const ZSTD_LEVEL: i32 = 9;
