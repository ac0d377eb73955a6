//! The log of the GNU C library's `mtrace(3)`.
//!
//! ```text
//! = Start                          @ WHERE - PTR             (a free)
//! @ WHERE + PTR SIZE               @ WHERE < OLD             (a realloc: two lines in a row)
//! @ WHERE ! PTR SIZE               @ WHERE > NEW SIZE
//! = End                            (`!` is a realloc that failed)
//! ```
//! `@ WHERE` may be missing. It holds a file's name, with whatever blanks and colons the name has, so
//! a line is read from its end. SIZE is `0x…`, or `0`; PTR is `0x…`, or `(nil)`.

use super::grammar::{Closing, LineGrammar, LineParser};
use super::intake::Rules;
use super::scan::{Parse, Scan};
use super::{Record, Request};
use crate::trace::Format;

/// The grammar.
pub(super) static GRAMMAR: LineGrammar = LineGrammar {
    name: "mtrace",
    example: "@ ./demo:[0x123c] + 0x55de864544a0 0x2a",
    by_hand: false,
    made_with: "LD_PRELOAD=libc_malloc_debug.so.0 MALLOC_TRACE=FILE PROGRAM",
    recognises: |text, _| matches!(text, b"= Start" | b"= End") || parts(text).is_ok(),
    processes: false,
    foreign_lines: false,
    late_frees: false,
    notes: &[
        "mtrace has no thread numbers",
        "mtrace writes calloc and every aligned allocation as malloc, and no free of null",
    ],
    parser: |_| Box::new(Parser::default()),
};

#[derive(Default)]
struct Parser {
    /// The old pointer of a realloc whose second line is still to come, and the first one's number.
    reallocating: Option<(u64, u64)>,
}

impl LineParser for Parser {
    fn line(&mut self, text: &[u8], number: u64, out: &mut Vec<Record>) -> Parse<()> {
        let reallocating = self.reallocating.take();
        if matches!(text, b"= Start" | b"= End") {
            return match reallocating {
                None => Ok(()),
                Some(_) => Err(SECOND_HALF),
            };
        }
        let Parts {
            sign,
            pointer,
            size,
        } = parts(text)?;
        if sign != b'>' && reallocating.is_some() {
            return Err(SECOND_HALF);
        }
        let request = match sign {
            b'+' => Request::Malloc {
                size,
                result: pointer,
            },
            b'-' => Request::Free {
                pointer,
                sized: false,
            },
            b'<' => {
                self.reallocating = Some((pointer, number));
                return Ok(());
            }
            b'>' => Request::Realloc {
                old: reallocating.ok_or(FIRST_HALF)?.0,
                size,
                result: pointer,
            },
            _ => Request::Realloc {
                old: pointer,
                size,
                result: 0,
            },
        };
        out.push(Record::of(request));
        Ok(())
    }

    /// A program calls `mtrace` when it is under way.
    fn rules(&self) -> Rules {
        Rules::in_mid_life()
    }

    fn format(&self) -> Format {
        Format::Mtrace
    }

    fn finish(&mut self, closing: &mut Closing) {
        if let Some((_, line)) = self.reallocating {
            closing.broken = Some(format!(
                "the log ends inside the realloc that begins on line {line}: it is truncated"
            ));
        }
    }
}

const FIRST_HALF: &str = "a line with '<' and the old pointer before the one with '>'";
const SECOND_HALF: &str = "'>', the second half of the realloc that the line before began";

/// What stands at the end of a line.
struct Parts {
    sign: u8,
    pointer: u64,
    /// 0 where the line has none.
    size: u64,
}

fn parts(text: &[u8]) -> Parse<Parts> {
    const EXPECTED: &str = "+, -, <, > or ! and a pointer at the end of the line";
    let mut last = text.rsplitn(4, |&byte| byte == b' ');
    let mut next = || last.next().unwrap_or_default();
    let (first, second, third, before) = (next(), next(), next(), next());
    if let [sign @ (b'-' | b'<')] = second {
        let length = text.len() - first.len() - 1;
        where_called(text[..length - 1].trim_ascii_end())?;
        return Ok(Parts {
            sign: *sign,
            pointer: whole(first, |scan| scan.address("a pointer, 0x…"))?,
            size: 0,
        });
    }
    let [sign @ (b'+' | b'>' | b'!')] = third else {
        return Err(EXPECTED);
    };
    where_called(before)?;
    Ok(Parts {
        sign: *sign,
        pointer: whole(second, |scan| scan.address("a pointer, 0x…"))?,
        size: whole(first, |scan| scan.number("a size, 0x…"))?,
    })
}

/// What stands before the sign is nothing, or begins with `@`.
fn where_called(text: &[u8]) -> Parse<()> {
    if text.is_empty() || text.starts_with(b"@ ") {
        Ok(())
    } else {
        Err("'@' and the caller, or the sign, at the start of the line")
    }
}

fn whole(text: &[u8], parse: impl FnOnce(&mut Scan) -> Parse<u64>) -> Parse<u64> {
    let mut scan = Scan::new(text);
    let value = parse(&mut scan)?;
    scan.end("a number and nothing behind it")?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(lines: &[&str]) -> Parse<Vec<Request>> {
        let mut parser = Parser::default();
        let mut out = Vec::new();
        for (line, number) in lines.iter().zip(1..) {
            parser.line(line.as_bytes(), number, &mut out)?;
        }
        Ok(out.iter().map(|record| record.request).collect())
    }

    #[test]
    fn names_with_blanks_colons_and_signs() {
        let expected = Ok(vec![Request::Malloc {
            size: 42,
            result: 0x10,
        }]);
        for line in [
            "+ 0x10 0x2a",
            "@ ./demo:[0x123c] + 0x10 0x2a",
            "@ /a - b/c + d:e f:(main+4f)[0x1] + 0x10 0x2a",
            "@ [0x7f00] + 0x10 0x2a",
        ] {
            assert_eq!(requests(&[line]), expected, "{line}");
        }
        let free = |pointer| Request::Free {
            pointer,
            sized: false,
        };
        assert_eq!(requests(&["@ a + b - 0x10"]), Ok(vec![free(0x10)]));
        assert_eq!(requests(&["- (nil)"]), Ok(vec![free(0)]));
    }

    #[test]
    fn a_realloc_is_two_lines() {
        let realloc = Request::Realloc {
            old: 0x10,
            size: 0,
            result: 0x20,
        };
        assert_eq!(requests(&["@ a < 0x10", "@ a > 0x20 0"]), Ok(vec![realloc]));
        assert_eq!(requests(&["@ a > 0x20 0x1"]), Err(FIRST_HALF));
        assert_eq!(requests(&["< 0x10", "- 0x10"]), Err(SECOND_HALF));
        assert_eq!(requests(&["< 0x10", "= End"]), Err(SECOND_HALF));
    }

    #[test]
    fn every_part_is_asked_for() {
        for (line, expected) in [
            ("x", "+, -, <, > or ! and a pointer at the end of the line"),
            (
                "@ a ? 0x1",
                "+, -, <, > or ! and a pointer at the end of the line",
            ),
            ("@ a + 1 0x1", "a pointer, 0x…"),
            ("@ a + 0x1 y", "a size, 0x…"),
            ("@ a - 0x1y", "a number and nothing behind it"),
            (
                "a - 0x1",
                "'@' and the caller, or the sign, at the start of the line",
            ),
        ] {
            assert_eq!(requests(&[line]), Err(expected), "{line}");
        }
    }
}
