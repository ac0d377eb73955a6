//! The native binary format, `.trace`: a trace without loss in about a third of a byte to one byte per
//! event, written and read as it comes, checked piece by piece, and entered at any chunk.
//!
//! `workloads/formats.md` describes it to the byte; `tests/native_formats.rs` decodes files by that text
//! alone. What follows is why it is so.
//!
//! - **Chunks of columns.** A chunk holds up to 2^20 events, so memory is bounded and a cut file loses one
//!   chunk; within it each kind of number stands in a column of its own, which zstd packs far better than
//!   records.
//! - **A thread at a time.** What one thread does is far more regular than the interleaving of all, so the
//!   columns hold one thread's entries after another's, and two small columns tell the interleaving.
//! - **Ranks for sizes and call sites.** The common ones become one byte.
//! - **Victims by distance.** A freed block is told by how many blocks ago its thread allocated it, or how
//!   far it lies from the thread's last victim, or how many blocks ago anyone allocated it: the shortest.
//!   Stacks, queues and sweeps all become runs of equal bytes.
//! - **Main and extra bytes.** Numbers have one byte each in one column and the rest in another, so that
//!   the bytes which tell something stand close together.

#![forbid(unsafe_code)]

mod decode;
mod encode;
mod lane;
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
