//! The `.rep` grammar of the malloc laboratory at Carnegie Mellon University.
//!
//! ```text
//! a ID BYTES     r ID BYTES     f ID            (f -1 frees null)
//! ```
//! under a header of whole numbers, each on a line: suggested heap, blocks, operations, weight; or
//! weight, blocks, operations, largest size; or blocks and operations alone. In both long forms the
//! second and third number are blocks and operations, so the two need not be told apart.
//!
//! The course defines `r ID 0` as a free; `r` of an id not seen before is a realloc of null, of
//! whatever size.

use super::grammar::{Closing, LineGrammar, LineParser};
use super::intake::Rules;
use super::scan::{Parse, Scan};
use super::{Record, Request};
use crate::trace::{Format, plural};

/// The grammar.
pub(super) static GRAMMAR: LineGrammar = LineGrammar {
    name: ".rep",
    example: "a 0 512",
    by_hand: true,
    made_with: "",
    recognises,
    processes: false,
    foreign_lines: false,
    late_frees: false,
    notes: &["this grammar has no threads, no alignments and no calloc"],
    parser: |_| Box::new(Parser::default()),
};

#[derive(Default)]
struct Parser {
    header: Header,
}

impl LineParser for Parser {
    fn line(&mut self, text: &[u8], _: u64, out: &mut Vec<Record>) -> Parse<()> {
        if !self.header.takes(text)? {
            out.push(Record::of(parse(text)?));
        }
        Ok(())
    }

    fn rules(&self) -> Rules {
        Rules {
            unknown_realloc_allocates: true,
            ..Rules::default()
        }
    }

    fn name(&self, pointer: u64) -> String {
        format!("block {}", pointer - 1)
    }

    fn format(&self) -> Format {
        Format::Rep
    }

    /// Whether the file holds what its header announces.
    fn finish(&mut self, closing: &mut Closing) {
        let found = Promise {
            blocks: closing.pointers,
            operations: closing.records,
        };
        let Some(promise) = self.header.promise().filter(|&promise| promise != found) else {
            return;
        };
        closing.broken = Some(format!(
            "the header announces {} and {}, the file has {} and {}: it is truncated or altered",
            plural(promise.blocks, "block"),
            plural(promise.operations, "operation"),
            found.blocks,
            found.operations
        ));
    }
}

/// What the header promises of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Promise {
    /// Different block ids.
    blocks: u64,
    /// Operations.
    operations: u64,
}

/// The numbers of the header, as they come.
#[derive(Default)]
struct Header {
    numbers: Vec<u64>,
    ended: bool,
}

impl Header {
    /// Takes a line if it belongs to the header.
    #[inline]
    fn takes(&mut self, text: &[u8]) -> Parse<bool> {
        if self.ended {
            return Ok(false);
        }
        if !text[0].is_ascii_digit() {
            self.ended = true;
            return match self.numbers.len() {
                2 | 4 => Ok(false),
                _ => Err("a header of two or four numbers before the first operation"),
            };
        }
        let mut scan = Scan::new(text);
        let number = scan.decimal("a number")?;
        scan.end("one number on each line of the header")?;
        if self.numbers.len() == 4 {
            return Err("an operation: the header has four numbers at most");
        }
        self.numbers.push(number);
        Ok(true)
    }

    /// What it promises, if it is one of the known forms.
    fn promise(&self) -> Option<Promise> {
        match *self.numbers {
            [blocks, operations] | [_, blocks, operations, _] => {
                Some(Promise { blocks, operations })
            }
            _ => None,
        }
    }
}

/// Whether a line looks like one of this grammar, right or wrong.
/// A lone number can only begin a file.
fn recognises(text: &[u8], first: bool) -> bool {
    let mut scan = Scan::new(text);
    if scan.at_digit() {
        return first && scan.decimal("").is_ok() && scan.end("").is_ok();
    }
    matches!(scan.word(), b"a" | b"r" | b"f")
        && scan.skip(b' ')
        && (scan.at_digit() || scan.peek() == Some(b'-'))
}

/// Parses one operation.
#[inline]
fn parse(text: &[u8]) -> Parse<Request> {
    let mut scan = Scan::new(text);
    let request = match scan.word() {
        b"a" => {
            let result = block(&mut scan)?;
            Request::Malloc {
                size: size(&mut scan)?,
                result,
            }
        }
        b"r" => {
            let old = block(&mut scan)?;
            let size = size(&mut scan)?;
            let result = if size == 0 { 0 } else { old };
            Request::Realloc { old, size, result }
        }
        b"f" if scan.skip_all(b" -1") => Request::Free {
            pointer: 0,
            sized: false,
        },
        b"f" => Request::Free {
            pointer: block(&mut scan)?,
            sized: false,
        },
        _ => return Err("a, r or f"),
    };
    scan.end("the end of the line")?;
    Ok(request)
}

/// A block's key: its id and one more, since 0 stands for null.
#[inline]
fn block(scan: &mut Scan) -> Parse<u64> {
    scan.expect(b' ', "a blank and a block number")?;
    let id = scan.decimal("a block number")?;
    id.checked_add(1).ok_or("a block number below 2^64 - 1")
}

#[inline]
fn size(scan: &mut Scan) -> Parse<u64> {
    scan.expect(b' ', "a blank and a size")?;
    scan.decimal("a size, a decimal number")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promise(lines: &[&str]) -> Parse<Option<Promise>> {
        let mut header = Header::default();
        for line in lines {
            assert!(header.takes(line.as_bytes())?);
        }
        assert!(!header.takes(b"a 0 1")?);
        Ok(header.promise())
    }

    #[test]
    fn the_three_headers() {
        let expected = Ok(Some(Promise {
            blocks: 6,
            operations: 12,
        }));
        assert_eq!(promise(&["20000", "6", "12", "1"]), expected);
        assert_eq!(promise(&["1", "6", "12", "20000"]), expected);
        assert_eq!(promise(&["6", "12"]), expected);
        assert!(promise(&["6"]).is_err());
        assert!(promise(&["6", "12", "1"]).is_err());
        assert!(promise(&["6", "12", "1", "1", "1"]).is_err());
        assert!(promise(&["6 12"]).is_err());
    }

    #[test]
    fn operations() {
        let request = |line: &str| parse(line.as_bytes());
        let free = |pointer| Request::Free {
            pointer,
            sized: false,
        };
        assert_eq!(
            request("a 0 512"),
            Ok(Request::Malloc {
                size: 512,
                result: 1
            })
        );
        assert_eq!(
            request("r 3 64"),
            Ok(Request::Realloc {
                old: 4,
                size: 64,
                result: 4
            })
        );
        assert_eq!(
            request("r 3 0"),
            Ok(Request::Realloc {
                old: 4,
                size: 0,
                result: 0
            })
        );
        assert_eq!(request("f 3"), Ok(free(4)));
        assert_eq!(request("f -1"), Ok(free(0)));
        assert_eq!(request("f -2"), Err("a block number"));
        assert_eq!(request("f 3 4"), Err("the end of the line"));
        assert_eq!(request("x 3 4"), Err("a, r or f"));
    }
}
