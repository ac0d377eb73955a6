//! bytehound's `replay.dat`: numbers of 8 bytes, little-endian (the byte order of the machine that
//! exported it; no other is in use).
//!
//! The number of slots; then operations of four numbers; then a single zero.
//!
//! | operation | | | |
//! |---|---|---|---|
//! | 1, allocate | slot | time in µs | size |
//! | 2, free | slot | time in µs | 0 |
//! | 3, reallocate | slot, before and after | time in µs | size |
//! | 4, a function is called | number of the frame | 0 | 0 |
//! | 5, it returns | 0 | 0 | 0 |

use rustc_hash::FxHashSet;

use super::fault::{Fault, SIZE_BYTES_MAX};
use super::records::{At, Bytes, Naming, Records, free, u64_at};
use super::scan::Parse;
use super::{ReadOptions, Record, Request};
use crate::error::{Error, Result};
use crate::trace::Format;
use crate::trace::input::Lines;
use crate::trace::stream::{Ending, EventSink};

const WORD_BYTES: usize = 8;
const OPERATION_BYTES: usize = 4 * WORD_BYTES;

const ALLOCATE: u64 = 1;
const FREE: u64 = 2;
const REALLOCATE: u64 = 3;
const CALL: u64 = 4;
const RETURN: u64 = 5;

/// What an operation asks; none for a step of the call stack. A slot's key is one more than its
/// number, since 0 stands for null.
fn parse(bytes: &[u8], slots: u64) -> Parse<Option<Record>> {
    let [kind, first, second, third] = [0, 8, 16, 24].map(|offset| u64_at(bytes, offset));
    match kind {
        ALLOCATE | FREE | REALLOCATE if first >= slots => {
            return Err("a slot below the number that the file begins with");
        }
        FREE if third != 0 => return Err("no size with a free"),
        CALL if second != 0 || third != 0 => return Err("a frame and nothing else"),
        RETURN if [first, second, third] != [0; 3] => return Err("zeros behind a return"),
        CALL | RETURN => return Ok(None),
        ALLOCATE | FREE | REALLOCATE => {}
        _ => return Err("an operation from 1 to 5"),
    }
    let slot = first + 1;
    let request = match kind {
        ALLOCATE => Request::Malloc {
            size: third,
            result: slot,
        },
        FREE => free(slot),
        _ => Request::Realloc {
            old: slot,
            size: third,
            result: slot,
        },
    };
    let time_ns = second.checked_mul(1000);
    Ok(Some(Record {
        time_ns: Some(time_ns.ok_or("a time that fits nanoseconds in 64 bits")?),
        ..Record::of(request)
    }))
}

/// Whether a file is of this format, which has no magic: every operation in sight is one, and the
/// slots are used as the exporter uses them.
pub(super) fn recognises(head: &[u8]) -> bool {
    let Some((_, operations)) = head.split_at_checked(WORD_BYTES) else {
        return false;
    };
    let slots = u64_at(head, 0);
    if slots == 0 || slots > u64::from(u32::MAX) {
        return false;
    }
    let mut used = 0;
    let mut live = FxHashSet::default();
    let mut depth = 0_u64;
    let mut rest = operations;
    while rest.len() >= OPERATION_BYTES {
        if u64_at(rest, 0) == 0 {
            // The zero at the end is the last number.
            return false;
        }
        let (bytes, next) = rest.split_at(OPERATION_BYTES);
        rest = next;
        let plausible = match parse(bytes, slots).map(|record| record.map(|one| one.request)) {
            Ok(Some(Request::Malloc { size, result })) => {
                // New slots are numbered one by one.
                let fresh = result <= used + 1;
                used = used.max(result);
                fresh && size <= SIZE_BYTES_MAX && live.insert(result)
            }
            Ok(Some(Request::Free { pointer, .. })) => live.remove(&pointer),
            Ok(Some(Request::Realloc { old, .. })) => live.contains(&old),
            Ok(_) if u64_at(bytes, 0) == CALL => {
                depth += 1;
                true
            }
            Ok(_) => {
                let returns = depth > 0;
                depth = depth.saturating_sub(1);
                returns
            }
            Err(_) => false,
        };
        if !plausible {
            return false;
        }
    }
    match rest {
        // The whole file is in sight.
        [0, 0, 0, 0, 0, 0, 0, 0] => used == slots,
        _ => used > 0,
    }
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
        pointer: |key| format!("slot {}", key - 1),
    };
    let mut records = Records::new(bytes.path(), options, Format::Bytehound, naming, sink);
    records.note(
        "this format has no threads and no alignments, a calloc is a malloc, and call stacks are \
         numbers without names",
    );
    let mut slots = [0; WORD_BYTES];
    let filled = bytes.fill(&mut slots)?;
    debug_assert_eq!(filled, WORD_BYTES, "the format was recognised");
    let slots = u64::from_le_bytes(slots);
    let mut depth = 0_u64;
    loop {
        let (operation, at) = match next(&mut bytes) {
            Ok(Some(next)) => next,
            Ok(None) => break,
            Err(damage) => {
                records.saves(damage)?;
                return records.finish();
            }
        };
        match parse(&operation, slots) {
            Ok(Some(record)) => {
                records.take(&record, at)?;
            }
            Ok(None) if u64_at(&operation, 0) == CALL => depth += 1,
            Ok(None) if depth > 0 => depth -= 1,
            Ok(None) => {
                let fault = Fault::Syntax("no more returns than calls");
                records.refuse(fault, at, &operation)?;
            }
            Err(expected) => records.refuse(Fault::Syntax(expected), at, &operation)?,
        }
    }
    let end = bytes.begin().offset;
    match bytes.fill(&mut [0]) {
        Ok(0) => {}
        Ok(_) => records.contradiction(format!(
            "byte {end}: there are bytes behind the zero at the end"
        ))?,
        Err(damage) => records.saves(damage)?,
    }
    records.finish()
}

/// The next operation; none at the zero that ends the file.
fn next(bytes: &mut Bytes) -> Result<Option<([u8; OPERATION_BYTES], At)>> {
    let at = bytes.begin();
    let mut operation = [0; OPERATION_BYTES];
    let (kind, rest) = operation.split_at_mut(WORD_BYTES);
    let filled = bytes.fill(kind)?;
    if filled == WORD_BYTES && u64_at(kind, 0) == 0 {
        return Ok(None);
    }
    if filled == 0 {
        let message = format!(
            "byte {}: the zero at the end is missing: the file is truncated",
            at.offset
        );
        return Err(Error::file(bytes.path(), message));
    }
    let filled = filled + bytes.fill(rest)?;
    if filled < OPERATION_BYTES {
        return Err(bytes.cut(at, filled, OPERATION_BYTES));
    }
    Ok(Some((operation, at)))
}
