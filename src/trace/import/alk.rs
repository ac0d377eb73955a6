//! alk's processed trace: an array of 24-byte instructions, little-endian.
//!
//! The first 8 bytes hold the type (lowest 8 bits) and a register, which is the number of a block;
//! two numbers of 8 bytes follow.
//!
//! | type | | |
//! |---|---|---|
//! | 0 malloc | size | |
//! | 1 free | | |
//! | 2 free with a size | size | |
//! | 3 memalign | size | alignment |
//! | 4 realloc | register of the new block | size |
//! | 5 the thread changes | number of the thread | |
//! | 6 the thread ends | | |
//! | 7 time | nanoseconds | processor |
//!
//! The tool writes type 2 for every free, whether or not the program told the size, so it is read
//! as a plain free. Fields that a type does not use may hold anything.

use rustc_hash::FxHashSet;

use super::fault::{Fault, SIZE_BYTES_MAX};
use super::records::{Bytes, Naming, Records, by, free, u64_at};
use super::scan::Parse;
use super::{ReadOptions, Request};
use crate::error::Result;
use crate::trace::input::Lines;
use crate::trace::stream::{Ending, EventSink};
use crate::trace::{AlignedFunction, Format};

const INSTRUCTION_BYTES: usize = 24;

/// Registers that the tool's own player has.
const REGISTERS_MAX: u64 = 1 << 30;

enum Instruction {
    Call(Request),
    Thread(u64),
    Time,
}

/// Parses one instruction. A register's key is one more, since 0 stands for null.
fn parse(bytes: &[u8]) -> Parse<Instruction> {
    let [word, first, second] = [0, 8, 16].map(|offset| u64_at(bytes, offset));
    let (kind, register) = (word & 0xff, word >> 8);
    if register >= REGISTERS_MAX {
        return Err("a register below 2^30");
    }
    let register = register + 1;
    Ok(Instruction::Call(match kind {
        0 => Request::Malloc {
            size: first,
            result: register,
        },
        1 | 2 => free(register),
        3 => Request::Aligned {
            function: AlignedFunction::Memalign,
            alignment: second,
            size: first,
            result: register,
        },
        4 if first >= REGISTERS_MAX => return Err("a new register below 2^30"),
        4 => Request::Realloc {
            old: register,
            size: second,
            result: first + 1,
        },
        5 => return Ok(Instruction::Thread(first)),
        6 => Request::ThreadEnd,
        7 => return Ok(Instruction::Time),
        _ => return Err("an instruction from 0 to 7"),
    }))
}

/// Whether a file is of this format, which has no magic: every instruction in sight is one, and
/// registers are freed only while they hold a block.
pub(super) fn recognises(head: &[u8]) -> bool {
    let mut live = FxHashSet::default();
    let mut calls = 0_u64;
    let plausible = head.chunks_exact(INSTRUCTION_BYTES).all(|bytes| {
        let Ok(Instruction::Call(request)) = parse(bytes) else {
            return parse(bytes).is_ok() && bytes[1..8].iter().all(|&byte| byte == 0);
        };
        calls += 1;
        match request {
            Request::Malloc { size, result } => size <= SIZE_BYTES_MAX && live.insert(result),
            Request::Aligned {
                alignment,
                size,
                result,
                ..
            } => alignment.is_power_of_two() && size <= SIZE_BYTES_MAX && live.insert(result),
            Request::Free { pointer, .. } => live.remove(&pointer),
            Request::Realloc { old, size, result } => {
                size <= SIZE_BYTES_MAX && live.remove(&old) && live.insert(result)
            }
            _ => bytes[1..8].iter().all(|&byte| byte == 0),
        }
    });
    // Zeros alone are a malloc of nothing, and a single instruction may be anything.
    plausible
        && calls > 0
        && head.len() >= 2 * INSTRUCTION_BYTES
        && head.iter().any(|&byte| byte != 0)
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
        pointer: |key| format!("register {}", key - 1),
    };
    let mut records = Records::new(bytes.path(), options, Format::Alk, naming, sink);
    records.note(
        "this format writes memalign for every function that allocates with an alignment, a calloc \
         is a malloc, and whether a free told the size is not known",
    );
    let mut thread = 0;
    let mut timed = false;
    while let Some((bytes, at)) = records.next::<INSTRUCTION_BYTES>(&mut bytes)? {
        match parse(&bytes) {
            Ok(Instruction::Call(request)) => {
                records.take(&by(thread, request), at)?;
            }
            Ok(Instruction::Thread(number)) => thread = number,
            Ok(Instruction::Time) => timed = true,
            Err(expected) => records.refuse(Fault::Syntax(expected), at, &bytes)?,
        }
    }
    if timed {
        records.note("times stand between groups of calls, not at each: none was kept");
    }
    records.finish()
}
