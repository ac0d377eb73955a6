//! The Android Open Source Project's `memory_replay` grammar.
//!
//! ```text
//! TID: malloc PTR SIZE              TID: realloc NEW_PTR OLD_PTR SIZE      TID: free PTR
//! TID: calloc PTR COUNT SIZE        TID: memalign PTR ALIGNMENT SIZE       TID: thread_done 0x0
//! ```
//! PTR is `0x…`, null `0x0`. Newer recordings add the start and the end of each call in
//! nanoseconds, and the end to `thread_done`. Older documentation lacks the blank behind the colon.

use super::grammar::{LineGrammar, LineParser};
use super::scan::{Parse, Scan};
use super::{Record, Request};
use crate::trace::{AlignedFunction, Format, SiteId};

/// The grammar.
pub(super) static GRAMMAR: LineGrammar = LineGrammar {
    name: "Android memory_replay",
    example: "100: malloc 0xb48390a0 48",
    by_hand: true,
    made_with: "",
    recognises: |text, _| recognises(text),
    processes: false,
    foreign_lines: false,
    late_frees: false,
    notes: &["this grammar writes memalign for every function that allocates with an alignment"],
    parser: |_| Box::new(Parser),
};

struct Parser;

impl LineParser for Parser {
    fn line(&mut self, text: &[u8], _: u64, out: &mut Vec<Record>) -> Parse<()> {
        out.push(parse(text)?);
        Ok(())
    }

    fn format(&self) -> Format {
        Format::Android
    }
}

const FUNCTIONS: &str = "malloc, calloc, realloc, memalign, free or thread_done";

/// Whether a line looks like one of this grammar, right or wrong: a number, a colon, a word.
fn recognises(text: &[u8]) -> bool {
    let mut scan = Scan::new(text);
    if scan.decimal("").is_err() || !scan.skip(b':') {
        return false;
    }
    scan.skip(b' ');
    !scan.word().is_empty() && scan.skip(b' ')
}

/// Parses one line.
#[inline]
fn parse(text: &[u8]) -> Parse<Record> {
    let mut scan = Scan::new(text);
    let thread = scan.decimal("a thread number")?;
    scan.expect(b':', "':' behind the thread number")?;
    scan.skip(b' ');
    let function = scan.word();
    let request = request(function, &mut scan)?;
    let time_ns = times(&mut scan, request == Request::ThreadEnd)?;
    scan.end("the end of the line")?;
    Ok(Record {
        process: None,
        thread: Some(thread),
        request,
        time_ns,
        site: SiteId(0),
    })
}

fn request(function: &[u8], scan: &mut Scan) -> Parse<Request> {
    match function {
        b"malloc" => {
            let result = pointer(scan)?;
            Ok(Request::Malloc {
                size: size(scan)?,
                result,
            })
        }
        b"free" => Ok(Request::Free {
            pointer: pointer(scan)?,
            sized: false,
        }),
        b"realloc" => {
            let result = pointer(scan)?;
            let old = pointer(scan)?;
            Ok(Request::Realloc {
                old,
                size: size(scan)?,
                result,
            })
        }
        b"calloc" => {
            let result = pointer(scan)?;
            let count = size(scan)?;
            Ok(Request::Calloc {
                count,
                size: size(scan)?,
                result,
            })
        }
        b"memalign" => {
            let result = pointer(scan)?;
            let alignment = size(scan)?;
            let function = AlignedFunction::Memalign;
            Ok(Request::Aligned {
                function,
                alignment,
                size: size(scan)?,
                result,
            })
        }
        b"thread_done" => {
            pointer(scan)?;
            Ok(Request::ThreadEnd)
        }
        _ => Err(FUNCTIONS),
    }
}

#[inline]
fn pointer(scan: &mut Scan) -> Parse<u64> {
    scan.expect(b' ', "a blank and a pointer")?;
    scan.address("a pointer, 0x…")
}

#[inline]
fn size(scan: &mut Scan) -> Parse<u64> {
    scan.expect(b' ', "a blank and a decimal number")?;
    scan.decimal("a decimal number")
}

/// The moment of the call, if the recording has it: its start, or of a thread's end the only one.
#[inline]
fn times(scan: &mut Scan, single: bool) -> Parse<Option<u64>> {
    if !scan.skip(b' ') {
        return Ok(None);
    }
    let start = scan.decimal("the start time in nanoseconds, or the end of the line")?;
    if !single {
        scan.expect(b' ', "a blank and the end time in nanoseconds")?;
        scan.decimal("the end time in nanoseconds")?;
    }
    Ok(Some(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_new_lines() {
        let line = parse(b"300:realloc 0xb4839100 0xb48390a0 150").unwrap();
        assert_eq!(line.thread, Some(300));
        let (old, result) = (0xb48390a0, 0xb4839100);
        assert_eq!(
            line.request,
            Request::Realloc {
                old,
                size: 150,
                result
            }
        );
        assert_eq!(line.time_ns, None);
        let line = parse(b"200: calloc 0xb48c1100 32 8 1000 1050").unwrap();
        assert_eq!(
            line.request,
            Request::Calloc {
                count: 32,
                size: 8,
                result: 0xb48c1100
            }
        );
        assert_eq!(line.time_ns, Some(1000));
        let line = parse(b"600: thread_done 0x0 77").unwrap();
        assert_eq!((line.request, line.time_ns), (Request::ThreadEnd, Some(77)));
    }

    #[test]
    fn every_part_is_asked_for() {
        for (line, expected) in [
            ("x: free 0x1", "a thread number"),
            ("1 free 0x1", "':' behind the thread number"),
            ("1: frea 0x1", FUNCTIONS),
            ("1: free", "a blank and a pointer"),
            ("1: free 12", "a pointer, 0x…"),
            ("1: malloc 0x1", "a blank and a decimal number"),
            ("1: malloc 0x1 y", "a decimal number"),
            (
                "1: malloc 0x1 4 5",
                "a blank and the end time in nanoseconds",
            ),
            ("1: thread_done 0x0 5 6", "the end of the line"),
        ] {
            assert_eq!(parse(line.as_bytes()).err(), Some(expected), "{line}");
        }
    }
}
