//! What valgrind prints under `--trace-malloc=yes`, among its other messages and the program's output.
//!
//! ```text
//! --PID-- malloc(SIZE) = PTR                          --PID-- free(PTR)
//! --PID-- calloc(COUNT,SIZE) = PTR                    --PID-- realloc(PTR,SIZE) = PTR
//! --PID-- memalign(al ALIGNMENT, size SIZE) = PTR     --PID-- realloc(0x0,SIZE)malloc(SIZE) = PTR
//! --PID-- _Znwm(SIZE) = PTR                           --PID-- realloc(PTR,0)free(PTR)
//! --PID-- _ZdlPvm(PTR)                                --PID--  = 0
//! ```
//! and so on for the other C++ operators, where aligned ones have `size SIZE, al ALIGNMENT`. With
//! `--time-stamp=yes` a time stands before PID. A message follows directly upon output of the program
//! that has no line end. Newer versions print posix_memalign and aligned_alloc by name, but not what
//! they return.

use super::grammar::{Closing, LineGrammar, LineParser};
use super::intake::Rules;
use super::operators::{Operator, operator};
use super::scan::{Parse, Scan, find};
use super::{Record, Request};
use crate::trace::{AlignedFunction, Format, plural};

/// The grammar.
pub(super) static GRAMMAR: LineGrammar = LineGrammar {
    name: "valgrind --trace-malloc",
    example: "--9947-- malloc(42) = 0x4A40040",
    by_hand: false,
    made_with: "valgrind --trace-malloc=yes --log-file=FILE PROGRAM",
    recognises: |text, _| message(text, b"--").is_some() || message(text, b"==").is_some(),
    processes: true,
    foreign_lines: true,
    late_frees: false,
    notes: &[
        "valgrind has no thread numbers: it runs one thread at a time",
        "valgrind writes memalign for posix_memalign, aligned_alloc and valloc; C++ operators were \
         taken as malloc, aligned_alloc and free",
        "what is freed at the very end, mostly null, valgrind freed itself, unless it ran with \
         --run-libc-freeres=no --run-cxx-freeres=no",
    ],
    parser: |options| {
        Box::new(Parser {
            process_chosen: options.process.is_some(),
            lost: 0,
        })
    },
};

struct Parser {
    process_chosen: bool,
    /// Allocations whose pointer is not shown.
    lost: u64,
}

impl LineParser for Parser {
    fn line(&mut self, text: &[u8], _: u64, out: &mut Vec<Record>) -> Parse<()> {
        let Some((process, calls)) = find_message(text) else {
            return Ok(());
        };
        let mut scan = Scan::new(calls);
        // A realloc may be followed by the malloc or free that does its work: one call, not two.
        while let Some(request) = self.call(&mut scan)? {
            out.push(Record {
                process: Some(process),
                ..Record::of(request)
            });
        }
        Ok(())
    }

    /// A child that was forked frees what its parent allocated.
    fn rules(&self) -> Rules {
        Rules {
            unseen_frees: self.process_chosen,
            unseen_calls: self.lost > 0,
            ..Rules::default()
        }
    }

    fn format(&self) -> Format {
        Format::Valgrind
    }

    fn finish(&mut self, closing: &mut Closing) {
        if self.lost > 0 {
            let blocks = plural(self.lost, "block");
            closing.warnings.push(format!(
                "{blocks} of posix_memalign or aligned_alloc lost: this valgrind does not print \
                 their pointers"
            ));
        }
    }
}

impl Parser {
    /// The next call on the line that is an operation; none at the line's end.
    fn call(&mut self, scan: &mut Scan) -> Parse<Option<Request>> {
        while !scan.rest().is_empty() {
            let function = scan.word();
            let arguments = Arguments::parse(scan)?;
            let request = match function {
                b"malloc" => {
                    let size = arguments.size()?;
                    let result = result(scan)?;
                    Request::Malloc { size, result }
                }
                b"calloc" => {
                    let (count, size) = (arguments.at(0)?, arguments.at(1)?);
                    let result = result(scan)?;
                    Request::Calloc {
                        count,
                        size,
                        result,
                    }
                }
                b"realloc" => realloc(&arguments, scan)?,
                b"free" | b"cfree" => Request::Free {
                    pointer: arguments.at(0)?,
                    sized: false,
                },
                b"memalign" => {
                    let result = result(scan)?;
                    aligned(AlignedFunction::Memalign, &arguments, result)?
                }
                b"posix_memalign" | b"aligned_alloc" if !scan.rest().starts_with(b" = ") => {
                    self.lost += 1;
                    continue;
                }
                b"posix_memalign" | b"aligned_alloc" => {
                    let result = result(scan)?;
                    aligned(AlignedFunction::Memalign, &arguments, result)?
                }
                b"malloc_usable_size" => {
                    if scan.skip_all(b" = ") {
                        scan.decimal("the usable size")?;
                    }
                    continue;
                }
                _ => match operator(function).ok_or(FUNCTIONS)? {
                    Operator::New { aligned: true } => {
                        let result = result(scan)?;
                        aligned(AlignedFunction::AlignedAlloc, &arguments, result)?
                    }
                    Operator::New { aligned: false } => Request::Malloc {
                        size: arguments.size()?,
                        result: result(scan)?,
                    },
                    Operator::Delete { sized } => Request::Free {
                        pointer: arguments.at(0)?,
                        sized,
                    },
                },
            };
            return Ok(Some(request));
        }
        Ok(None)
    }
}

const FUNCTIONS: &str = "malloc, calloc, realloc, free, memalign or a C++ operator";

fn realloc(arguments: &Arguments, scan: &mut Scan) -> Parse<Request> {
    let (old, size) = (arguments.at(0)?, arguments.at(1)?);
    let result = if scan.skip_all(b"free(") {
        // Its result, which is null, comes on a line of its own.
        scan.address("a pointer, 0x…")?;
        scan.expect(b')', "')' behind the pointer")?;
        0
    } else {
        if scan.skip_all(b"malloc(") {
            scan.decimal("a size, a decimal number")?;
            scan.expect(b')', "')' behind the size")?;
        }
        result(scan)?
    };
    Ok(Request::Realloc { old, size, result })
}

fn aligned(function: AlignedFunction, arguments: &Arguments, result: u64) -> Parse<Request> {
    Ok(Request::Aligned {
        function,
        alignment: arguments.alignment()?,
        size: arguments.size()?,
        result,
    })
}

fn result(scan: &mut Scan) -> Parse<u64> {
    scan.expect(b' ', "' = ' and the pointer returned")?;
    if !scan.skip_all(b"= ") {
        return Err("' = ' and the pointer returned");
    }
    let result = scan.number("the pointer returned, 0x…")?;
    scan.end("the end of the line behind the pointer returned")?;
    Ok(result)
}

/// The arguments of a call, of which some have names.
#[derive(Default)]
struct Arguments {
    values: [Option<u64>; 3],
    size: Option<u64>,
    alignment: Option<u64>,
}

impl Arguments {
    /// Up to the closing parenthesis.
    fn parse(scan: &mut Scan) -> Parse<Self> {
        scan.expect(b'(', "'(' behind the function's name")?;
        let mut arguments = Self::default();
        for at in 0.. {
            if at > 0 && !scan.skip(b',') || scan.rest().first() == Some(&b')') {
                break;
            }
            scan.blanks();
            let name = if scan.at_digit() {
                &b""[..]
            } else {
                scan.word()
            };
            scan.blanks();
            let value = scan.number("an argument")?;
            match name {
                b"al" | b"alignment" => arguments.alignment = Some(value),
                b"size" => arguments.size = Some(value),
                _ => {}
            }
            *arguments
                .values
                .get_mut(at)
                .ok_or("at most three arguments")? = Some(value);
        }
        scan.expect(b')', "')' behind the arguments")?;
        Ok(arguments)
    }

    fn at(&self, index: usize) -> Parse<u64> {
        self.values[index].ok_or("another argument before ')'")
    }

    /// By its name, or the only one.
    fn size(&self) -> Parse<u64> {
        self.size.map_or_else(|| self.at(0), Ok)
    }

    fn alignment(&self) -> Parse<u64> {
        self.alignment.ok_or("an alignment, 'al' and a number")
    }
}

/// The calls on a line, and the process that made them: at the start, or behind what the program
/// wrote without a line end. None if valgrind says something else, or nothing.
fn find_message(text: &[u8]) -> Option<(u64, &[u8])> {
    if text.starts_with(b"==") || text.starts_with(b"**") {
        return None;
    }
    let mut rest = text;
    while let Some(at) = find(rest, b"--") {
        if let Some((process, calls)) = message(&rest[at..], b"--")
            && is_call(calls)
        {
            return Some((process, calls));
        }
        rest = &rest[at + 1..];
    }
    None
}

/// What a message says and whose it is: `--PID-- …` or `--TIME PID-- …`.
fn message<'t>(text: &'t [u8], mark: &[u8]) -> Option<(u64, &'t [u8])> {
    let mut scan = Scan::new(text.strip_prefix(mark)?);
    let before = scan;
    if scan.token().contains(&b':') {
        scan.blanks();
    } else {
        scan = before;
    }
    let process = scan.decimal("").ok()?;
    if !scan.skip_all(mark) {
        return None;
    }
    // Nothing may stand behind it: the blank was taken off the line's end.
    (scan.skip(b' ') || scan.rest().is_empty()).then(|| (process, scan.rest()))
}

fn is_call(text: &[u8]) -> bool {
    let mut scan = Scan::new(text);
    let function = scan.word();
    let known = matches!(
        function,
        b"malloc"
            | b"calloc"
            | b"realloc"
            | b"free"
            | b"cfree"
            | b"memalign"
            | b"posix_memalign"
            | b"aligned_alloc"
            | b"malloc_usable_size"
    );
    (known || operator(function).is_some()) && scan.skip(b'(')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(line: &str) -> Parse<(Vec<Request>, u64)> {
        let mut parser = Parser {
            process_chosen: false,
            lost: 0,
        };
        let mut out = Vec::new();
        parser.line(line.as_bytes(), 1, &mut out)?;
        assert!(out.iter().all(|record| record.process == Some(7)));
        Ok((
            out.iter().map(|record| record.request).collect(),
            parser.lost,
        ))
    }

    #[test]
    fn calls_within_calls_and_calls_that_lose_their_pointer() {
        let malloc = Request::Malloc {
            size: 8,
            result: 0x10,
        };
        let realloc = |old, size, result| Request::Realloc { old, size, result };
        for (line, expected, lost) in [
            ("--7-- malloc(8) = 0x10", vec![malloc], 0),
            ("--00:00:00:01.234 7-- malloc(8) = 0x10", vec![malloc], 0),
            ("output --8-- --7-- malloc(8) = 0x10", vec![malloc], 0),
            (
                "--7-- realloc(0x0,8)malloc(8) = 0x10",
                vec![realloc(0, 8, 0x10)],
                0,
            ),
            (
                "--7-- realloc(0x10,0)free(0x10)",
                vec![realloc(0x10, 0, 0)],
                0,
            ),
            (
                "--7-- aligned_alloc(al 64, size 8)malloc(8) = 0x10",
                vec![malloc],
                1,
            ),
            ("--7-- posix_memalign(al 64, size 8)", vec![], 1),
            ("--7-- malloc_usable_size(0x10) = 24", vec![], 0),
            ("--7--  = 0", vec![], 0),
            ("--7-- Reading syms from /bin/ls(1)", vec![], 0),
            ("--7--", vec![], 0),
            ("==7== malloc(8) = 0x10", vec![], 0),
            ("a -- b", vec![], 0),
        ] {
            assert_eq!(requests(line), Ok((expected, lost)), "{line}");
        }
    }

    #[test]
    fn alignments_stand_in_either_order() {
        let aligned = |function, size| Request::Aligned {
            function,
            alignment: 64,
            size,
            result: 0x40,
        };
        let one = |line| requests(line).map(|(requests, _)| requests);
        assert_eq!(
            one("--7-- memalign(al 64, size 8) = 0x40"),
            Ok(vec![aligned(AlignedFunction::Memalign, 8)])
        );
        assert_eq!(
            one("--7-- _ZnwmSt11align_val_t(size 128, al 64) = 0x40"),
            Ok(vec![aligned(AlignedFunction::AlignedAlloc, 128)])
        );
    }

    #[test]
    fn every_part_is_asked_for() {
        for (line, expected) in [
            ("--7-- malloc(8", "')' behind the arguments"),
            ("--7-- malloc() = 0x10", "another argument before ')'"),
            ("--7-- malloc(8)", "' = ' and the pointer returned"),
            ("--7-- malloc(8) = x", "the pointer returned, 0x…"),
            (
                "--7-- malloc(8) = 0x10 free(0x10)",
                "the end of the line behind the pointer returned",
            ),
            ("--7-- calloc(8) = 0x10", "another argument before ')'"),
            (
                "--7-- memalign(8, 8) = 0x10",
                "an alignment, 'al' and a number",
            ),
            ("--7-- free(0x10)oops(1)", FUNCTIONS),
            ("--7-- calloc(1,2,3,4) = 0x10", "at most three arguments"),
        ] {
            assert_eq!(requests(line).err(), Some(expected), "{line}");
        }
    }
}
