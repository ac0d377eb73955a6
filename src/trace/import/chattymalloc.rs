//! The text that chattymalloc's parser writes of its trace (`chattyparser.py --txt`).
//!
//! ```text
//! TID: FUNCTION RESULT SIZE MORE DURATION          TID: free PTR SIZE SIZE DURATION
//! ```
//! MORE is calloc's count, an alignment, or realloc's old pointer (`0x…`). DURATION is written as in
//! `2us:31ns`.

use super::grammar::{LineGrammar, LineParser};
use super::intake::Rules;
use super::scan::{Parse, Scan};
use super::{Record, Request};
use crate::trace::{AlignedFunction, Format};

/// The grammar.
pub(super) static GRAMMAR: LineGrammar = LineGrammar {
    name: "chattymalloc",
    example: "9669: malloc 0x55b14d3562a0 100 0 250ns",
    by_hand: false,
    made_with: "chattyparser.py --txt chattymalloc.trace",
    recognises: |text, _| {
        let mut scan = Scan::new(text);
        scan.decimal("").is_ok() && scan.skip_all(b": ") && text.ends_with(b"ns")
    },
    processes: false,
    foreign_lines: false,
    // A realloc is written when it has ended, and another thread may have got the old block.
    late_frees: true,
    notes: &["chattymalloc has the durations of the calls, which are not kept, and no time stamps"],
    parser: |_| Box::new(Parser),
};

const FUNCTIONS: &str = "malloc, calloc, realloc, free, memalign, posix_memalign, aligned_alloc, \
                         valloc, pvalloc or thread_termination";

/// As in glibc on nearly all machines.
const PAGE_BYTES: u64 = 4096;

struct Parser;

impl LineParser for Parser {
    fn line(&mut self, text: &[u8], _: u64, out: &mut Vec<Record>) -> Parse<()> {
        let mut scan = Scan::new(text);
        let thread = scan.decimal("a thread number")?;
        scan.expect(b':', "':' behind the thread number")?;
        scan.expect(b' ', "a blank and a function")?;
        let function = scan.word();
        scan.expect(b' ', "a blank and a pointer")?;
        let pointer = scan.address("a pointer, 0x…")?;
        scan.expect(b' ', "a blank and a size")?;
        let size = scan.decimal("a size, a decimal number")?;
        scan.expect(b' ', "a blank and a third argument")?;
        let more = scan.number("a number")?;
        duration(&mut scan)?;
        let Some(request) = request(function, pointer, size, more)? else {
            return Ok(());
        };
        out.push(Record {
            thread: Some(thread),
            ..Record::of(request)
        });
        Ok(())
    }

    /// The tool may begin its file twice, which loses what came before.
    fn rules(&self) -> Rules {
        Rules::in_mid_life()
    }

    fn format(&self) -> Format {
        Format::ChattymallocText
    }
}

/// None for an entry that was never filled in.
fn request(function: &[u8], result: u64, size: u64, more: u64) -> Parse<Option<Request>> {
    let aligned = |function, alignment| Request::Aligned {
        function,
        alignment,
        size,
        result,
    };
    Ok(Some(match function {
        b"malloc" => Request::Malloc { size, result },
        b"calloc" => Request::Calloc {
            count: more,
            size,
            result,
        },
        b"realloc" => Request::Realloc {
            old: more,
            size,
            result,
        },
        b"free" => Request::Free {
            pointer: result,
            sized: false,
        },
        b"memalign" => aligned(AlignedFunction::Memalign, more),
        b"posix_memalign" => aligned(AlignedFunction::PosixMemalign, more),
        b"aligned_alloc" => aligned(AlignedFunction::AlignedAlloc, more),
        b"valloc" => aligned(AlignedFunction::Valloc, PAGE_BYTES),
        b"pvalloc" => aligned(AlignedFunction::Pvalloc, PAGE_BYTES),
        b"thread_termination" => Request::ThreadEnd,
        b"uninitialized" => return Ok(None),
        _ => return Err(FUNCTIONS),
    }))
}

/// `1s:20us:300ns`, of which the first parts may be missing; older versions write none.
fn duration(scan: &mut Scan) -> Parse<()> {
    const EXPECTED: &str = "the call's duration, as in 2us:31ns";
    if scan.rest().is_empty() {
        return Ok(());
    }
    scan.expect(b' ', EXPECTED)?;
    for unit in [&b"s:"[..], b"us:", b"ns"] {
        let before = *scan;
        scan.decimal(EXPECTED)?;
        if !scan.skip_all(unit) {
            *scan = before;
        }
    }
    scan.end(EXPECTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, good) in [
            ("", true),
            (" 5ns", true),
            (" 2us:31ns", true),
            (" 1s:2us:31ns", true),
            (" 5", false),
            (" 5us", false),
            (" 5ns6", false),
            (" ns", false),
        ] {
            assert_eq!(
                duration(&mut Scan::new(text.as_bytes())).is_ok(),
                good,
                "{text}"
            );
        }
    }
}
