//! DJ Delorie's malloc trace: what his instrumented glibc writes, an array of 64-byte records,
//! little-endian.
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | thread, signed |
//! | 4 | type of the call, see below |
//! | 5..8 | how the call went inside glibc, bit by bit |
//! | 8..16 | `ptr1`: the block given (free, realloc); the error (posix_memalign) |
//! | 16..24 | `ptr2`: the block returned |
//! | 24..32 | size |
//! | 32..40 | `size2`: the alignment (memalign, posix_memalign) |
//! | 40..48 | `size3` |
//! | 48..64 | zero |
//!
//! The file is a mapped buffer: records that were never used are zero. Of a calloc only the product
//! is kept. A record is numbered when its call begins, so an allocation may stand before the free
//! that made room for it: [`Held`] puts that right.

use super::fault::{Fault, SIZE_BYTES_MAX};
use super::held::Held;
use super::nested::Nested;
use super::records::{Bytes, Naming, Records, address, by, free, u32_at, u64_at};
use super::scan::Parse;
use super::{ReadOptions, Request};
use crate::error::Result;
use crate::trace::input::Lines;
use crate::trace::stream::{Ending, EventSink};
use crate::trace::{AlignedFunction, Format};

const RECORD_BYTES: usize = 64;

/// Type of the record that stands first in newer files.
const MAGIC: u8 = 255;
const MAGIC_POINTER: u64 = 0x1234;

/// The bit of "the realloc became a malloc and a free", whose own records follow.
const REALLOC_AS_MALLOC: u32 = 1 << 14;

/// valloc and pvalloc align to an OS page, whose size the file does not tell.
const OS_PAGE_BYTES: u64 = 4096;

/// One record, told apart but not judged.
struct Call {
    thread: u64,
    kind: u8,
    nested: bool,
    pointer_1: u64,
    pointer_2: u64,
    size: u64,
    size_2: u64,
}

impl Call {
    fn of(bytes: &[u8]) -> Self {
        let flags = u32_at(bytes, 4);
        Self {
            thread: u64::from(u32_at(bytes, 0)),
            kind: bytes[4],
            nested: flags & REALLOC_AS_MALLOC != 0,
            pointer_1: u64_at(bytes, 8),
            pointer_2: u64_at(bytes, 16),
            size: u64_at(bytes, 24),
            size_2: u64_at(bytes, 32),
        }
    }

    /// What it asks; none for a record that is no call.
    fn request(&self, bytes: &[u8]) -> Parse<Option<Request>> {
        let &Self {
            pointer_1,
            pointer_2,
            size,
            size_2,
            ..
        } = self;
        let aligned = |function, alignment| Request::Aligned {
            function,
            alignment,
            size,
            result: pointer_2,
        };
        if bytes[48..].iter().any(|&byte| byte != 0) {
            return Err("zeros in the last 16 bytes of the record");
        }
        Ok(Some(match self.kind {
            0 if bytes.iter().all(|&byte| byte == 0) => return Ok(None),
            0 => return Err("an unused record to be all zeros"),
            MAGIC if pointer_1 == MAGIC_POINTER && size == 8 => return Ok(None),
            1 => Request::Malloc {
                size,
                result: pointer_2,
            },
            2 => Request::Calloc {
                count: 1,
                size,
                result: pointer_2,
            },
            3 => free(pointer_1),
            4 => Request::Realloc {
                old: pointer_1,
                size,
                result: pointer_2,
            },
            5 => aligned(AlignedFunction::Memalign, size_2),
            6 => aligned(AlignedFunction::Valloc, OS_PAGE_BYTES),
            7 => aligned(AlignedFunction::Pvalloc, OS_PAGE_BYTES),
            8 if pointer_1 == 0 => aligned(AlignedFunction::PosixMemalign, size_2),
            // It failed, and what stands for a block was never set.
            8 => Request::Malloc { size, result: 0 },
            _ => return Err("a record type (0 to 8, or 255 with 0x1234 and 8)"),
        }))
    }
}

/// Whether a file is of this format: it has no magic of its own if it is old, so every record of
/// the head must be one.
pub(super) fn recognises(head: &[u8]) -> bool {
    let mut records = head.chunks_exact(RECORD_BYTES).peekable();
    let first_is_used = records.peek().is_some_and(|first| first[4] != 0);
    first_is_used
        && records.all(|bytes| {
            let call = Call::of(bytes);
            let pointers = [call.pointer_1, call.pointer_2];
            call.request(bytes).is_ok()
                && pointers.iter().all(|&pointer| pointer < 1 << 56)
                && call.size <= SIZE_BYTES_MAX
                && call.size_2 <= SIZE_BYTES_MAX
        })
}

/// Reads the file.
pub(super) fn read(
    lines: &mut Lines,
    options: &ReadOptions,
    sink: &mut dyn EventSink,
) -> Result<Ending> {
    let mut bytes = Bytes::new(lines);
    let naming = Naming {
        numbered: true,
        pointer: address,
    };
    let mut records = Records::new(bytes.path(), options, Format::DjTrace, naming, sink);
    records.note(
        "this format tells of a calloc the product only; alignments of valloc and pvalloc were \
         taken as 4096 bytes",
    );
    // The tracer starts when the program does, but not before its libraries; and it can pause.
    records.intake.rules.unseen_frees = true;
    let mut held = Held::new();
    let mut nested = Nested::default();
    while let Some((bytes, at)) = records.next::<RECORD_BYTES>(&mut bytes)? {
        let call = Call::of(&bytes);
        match call.request(&bytes) {
            Ok(None) => {}
            Ok(Some(request)) if nested.takes(call.thread, call.nested, request) => {}
            Ok(Some(request)) => {
                held.take(&mut records, &by(call.thread, request), at)?;
            }
            Err(expected) => records.refuse(Fault::Syntax(expected), at, &bytes)?,
        }
    }
    if let Some(note) = held.finish(&mut records)? {
        records.note(note);
    }
    records.finish()
}
