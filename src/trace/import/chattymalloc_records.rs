//! chattymalloc's own file: an array of packed records of 45 bytes, little-endian. (Its tools write
//! a text from it, which is another grammar.)
//!
//! | bytes | field |
//! |---|---|
//! | 0..16 | how long the call took: seconds, nanoseconds |
//! | 16..24 | the block returned, or freed |
//! | 24..32 | size |
//! | 32..40 | count (calloc), alignment, or the block given (realloc) |
//! | 40..44 | thread |
//! | 44 | function, see [`parse`] |
//!
//! The file grows by a million records at a time and is cut to length when the program ends, so that
//! of a program that was killed unused records, all zero, stand at the end. The tool may begin its
//! file twice, which leaves such records at the beginning, too, and frees whose allocations are
//! lost. A `realloc` is written when it has ended, so another thread's allocation of the old address
//! may stand before it: [`Held`] puts that right.

use super::fault::{Fault, SIZE_BYTES_MAX};
use super::held::Held;
use super::records::{Bytes, Naming, Records, address, by, free, u32_at, u64_at};
use super::scan::Parse;
use super::{ReadOptions, Record, Request};
use crate::error::Result;
use crate::trace::input::Lines;
use crate::trace::stream::{Ending, EventSink};
use crate::trace::{AlignedFunction, Format};

const RECORD_BYTES: usize = 45;
const FUNCTION: usize = 44;

/// valloc and pvalloc align to an OS page, whose size the file does not tell.
const OS_PAGE_BYTES: u64 = 4096;

/// What a record asks; none for an unused one.
fn parse(bytes: &[u8]) -> Parse<Option<Record>> {
    let [nanoseconds, pointer, size, argument] = [8, 16, 24, 32].map(|at| u64_at(bytes, at));
    if nanoseconds >= 1_000_000_000 {
        return Err("a duration of less than 10^9 nanoseconds beside its seconds");
    }
    let thread = i32::from_le_bytes(u32_at(bytes, 40).to_le_bytes());
    let aligned = |function, alignment| Request::Aligned {
        function,
        alignment,
        size,
        result: pointer,
    };
    let request = match bytes[FUNCTION] {
        0 if bytes.iter().all(|&byte| byte == 0) => return Ok(None),
        1 => Request::Malloc {
            size,
            result: pointer,
        },
        2 => free(pointer),
        3 => Request::Realloc {
            old: argument,
            size,
            result: pointer,
        },
        4 => Request::Calloc {
            count: argument,
            size,
            result: pointer,
        },
        5 => aligned(AlignedFunction::Memalign, argument),
        6 => aligned(AlignedFunction::PosixMemalign, argument),
        7 => aligned(AlignedFunction::Valloc, OS_PAGE_BYTES),
        8 => aligned(AlignedFunction::Pvalloc, OS_PAGE_BYTES),
        9 => aligned(AlignedFunction::AlignedAlloc, argument),
        10 => Request::ThreadEnd,
        _ => return Err("a function from 1 to 10, or an unused record, all zeros"),
    };
    let thread = u64::try_from(thread)
        .ok()
        .filter(|&thread| thread > 0)
        .ok_or("a thread number above 0")?;
    Ok(Some(by(thread, request)))
}

/// Whether a file is of this format, which has no magic: every record in sight is one, and one is
/// used.
pub(super) fn recognises(head: &[u8]) -> bool {
    let mut records = head.chunks_exact(RECORD_BYTES);
    let used = records.clone().any(|record| record[FUNCTION] != 0);
    used && records.all(|bytes| {
        let [seconds, pointer, size, argument] =
            [0, 16, 24, 32].map(|offset| u64_at(bytes, offset));
        parse(bytes).is_ok()
            && seconds < 1 << 20
            && pointer < 1 << 56
            && size <= SIZE_BYTES_MAX
            && argument < 1 << 56
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
    let mut records = Records::new(bytes.path(), options, Format::Chattymalloc, naming, sink);
    records.note(
        "this format does not tell whether posix_memalign failed, and knows durations, not times; \
         alignments of valloc and pvalloc were taken as 4096 bytes",
    );
    records.intake.rules.unseen_frees = true;
    let mut held = Held::new();
    while let Some((bytes, at)) = records.next::<RECORD_BYTES>(&mut bytes)? {
        match parse(&bytes) {
            Ok(None) => {}
            Ok(Some(record)) => held.take(&mut records, &record, at)?,
            Err(expected) => records.refuse(Fault::Syntax(expected), at, &bytes)?,
        }
    }
    if let Some(note) = held.finish(&mut records)? {
        records.note(note);
    }
    records.finish()
}
