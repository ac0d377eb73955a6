//! The text that `trace_dump` writes of a trace of DJ Delorie's malloc (a branch of glibc).
//!
//! ```text
//! 26 out of 26 events captured (I think)
//! threadid     type     path             ptr1             size             ptr2 …
//! 000025c5   malloc -------------- 0000000000000000 000000000000002a 000055b14d3562a0 SIZE2 SIZE3
//! ```
//! All numbers are hexadecimal. PTR1 is what the call was given, PTR2 what it returned, SIZE2 an
//! alignment; of posix_memalign, PTR1 is the error. Older versions have neither SIZE2 nor SIZE3.

use super::grammar::{LineGrammar, LineParser};
use super::intake::Rules;
use super::nested::Nested;
use super::scan::{Parse, Scan};
use super::{Record, Request};
use crate::trace::{AlignedFunction, Format};

/// The grammar.
pub(super) static GRAMMAR: LineGrammar = LineGrammar {
    name: "DJ Delorie's trace_dump",
    example: "000025c5   malloc -------------- 0000000000000000 000000000000002a 000055b14d3562a0",
    by_hand: false,
    made_with: "trace_dump TRACE",
    recognises: |text, _| is_header(text) || is_call(text),
    processes: false,
    foreign_lines: false,
    // A call is numbered when it begins.
    late_frees: true,
    notes: &["this grammar writes the product of calloc's count and size"],
    parser: |_| Box::new(Parser::default()),
};

const TYPES: &str =
    "malloc, calloc, realloc, free, memalign, posix_memalign, valloc, pvalloc or magic";

/// As in glibc on nearly all machines.
const PAGE_BYTES: u64 = 4096;

/// Where in the path the letter R stands.
const REALLOC_PATH: usize = 6;

#[derive(Default)]
struct Parser {
    nested: Nested,
}

impl LineParser for Parser {
    fn line(&mut self, text: &[u8], _: u64, out: &mut Vec<Record>) -> Parse<()> {
        if is_header(text) {
            return Ok(());
        }
        let mut scan = Scan::new(text);
        let thread = scan.hexadecimal("a thread number, hexadecimal")?;
        scan.blanks();
        let kind = scan.word();
        scan.blanks();
        // Which paths the call took inside the allocator; R is a realloc that became a malloc and a
        // free, whose own records follow.
        let divided = scan.token().get(REALLOC_PATH) == Some(&b'R');
        let [given, size, returned] =
            [(); 3].map(|()| field(&mut scan, "three hexadecimal numbers behind the path"));
        let (given, size, returned) = (given?, size?, returned?);
        let alignment = if scan.rest().is_empty() {
            None
        } else {
            let alignment = field(&mut scan, "size2, hexadecimal")?;
            field(&mut scan, "size3, hexadecimal")?;
            Some(alignment)
        };
        scan.end("the end of the line")?;
        if let Some(request) = request(kind, given, size, returned, alignment)?
            && !self.nested.takes(thread, divided, request)
        {
            out.push(Record {
                thread: Some(thread),
                ..Record::of(request)
            });
        }
        Ok(())
    }

    /// The tracer starts when the program does, but not before its libraries; and it can pause.
    fn rules(&self) -> Rules {
        Rules::in_mid_life()
    }

    fn format(&self) -> Format {
        Format::DjDump
    }
}

/// None for a mark of the tracer's own.
fn request(
    kind: &[u8],
    given: u64,
    size: u64,
    result: u64,
    alignment: Option<u64>,
) -> Parse<Option<Request>> {
    let aligned = |function, alignment| Request::Aligned {
        function,
        alignment,
        size,
        result,
    };
    // An older dump does not show the alignment; it is at least that of malloc.
    let alignment = alignment.unwrap_or(16);
    Ok(Some(match kind {
        b"malloc" => Request::Malloc { size, result },
        b"calloc" => Request::Calloc {
            count: 1,
            size,
            result,
        },
        b"free" => Request::Free {
            pointer: given,
            sized: false,
        },
        b"realloc" => Request::Realloc {
            old: given,
            size,
            result,
        },
        b"memalign" => aligned(AlignedFunction::Memalign, alignment),
        b"valloc" => aligned(AlignedFunction::Valloc, PAGE_BYTES),
        b"pvalloc" => aligned(AlignedFunction::Pvalloc, PAGE_BYTES),
        b"posix_memalign" if given == 0 => aligned(AlignedFunction::PosixMemalign, alignment),
        b"posix_memalign" => Request::Malloc { size, result: 0 },
        b"magic" | b"unused" => return Ok(None),
        _ => return Err(TYPES),
    }))
}

fn field(scan: &mut Scan, expected: &'static str) -> Parse<u64> {
    scan.expect(b' ', expected)?;
    scan.blanks();
    scan.hexadecimal(expected)
}

fn is_header(text: &[u8]) -> bool {
    let mut words = text
        .split(|&byte| byte == b' ')
        .filter(|word| !word.is_empty());
    match words.next() {
        Some(b"threadid") => words.next() == Some(b"type") && words.next() == Some(b"path"),
        Some(_) => words.next() == Some(b"out") && words.any(|word| word == b"captured"),
        None => false,
    }
}

/// Eight digits, a word, a path, and a number of sixteen digits.
fn is_call(text: &[u8]) -> bool {
    let mut words = text
        .split(|&byte| byte == b' ')
        .filter(|word| !word.is_empty());
    let hexadecimal = |word: Option<&[u8]>, digits| {
        word.is_some_and(|word| word.len() == digits && word.iter().all(u8::is_ascii_hexdigit))
    };
    hexadecimal(words.next(), 8)
        && words.next().is_some()
        && words
            .next()
            .is_some_and(|path| matches!(path.len(), 7..=14))
        && hexadecimal(words.next(), 16)
}
