//! The log of the Rust crates tracing-allocator and tralloc.
//!
//! ```text
//! TIME A ADDRESS SIZE          TIME D ADDRESS SIZE
//! ```
//! A is an allocation, D a deallocation, which tells the size as well. All numbers have 16
//! hexadecimal digits; TIME counts nanoseconds from an unknown moment.

use super::grammar::{Closing, LineGrammar, LineParser};
use super::intake::Rules;
use super::scan::{Parse, Scan};
use super::{Record, Request};
use crate::trace::{Format, plural};

/// The grammar.
pub(super) static GRAMMAR: LineGrammar = LineGrammar {
    name: "tracing-allocator",
    example: "00029801ACDA259B A 00007FB780500000 000000000000000C",
    by_hand: false,
    made_with: "",
    recognises: |text, _| {
        let mut scan = Scan::new(text);
        digits(&mut scan, "").is_ok() && matches!(scan.rest(), [b' ', b'A' | b'D', b' ', ..])
    },
    processes: false,
    foreign_lines: true,
    late_frees: false,
    notes: &[
        "tracing-allocator has no thread numbers and no alignments; it writes a reallocation as an \
         allocation and a deallocation",
    ],
    parser: |_| Box::new(Parser::default()),
};

#[derive(Default)]
struct Parser {
    /// Lines of the program's own.
    foreign: u64,
}

impl LineParser for Parser {
    fn line(&mut self, text: &[u8], _: u64, out: &mut Vec<Record>) -> Parse<()> {
        if !(GRAMMAR.recognises)(text, false) {
            self.foreign += 1;
            return Ok(());
        }
        let mut scan = Scan::new(text);
        let time_ns = digits(&mut scan, "the time, 16 hexadecimal digits")?;
        let allocates = scan.skip_all(b" A ");
        if !allocates && !scan.skip_all(b" D ") {
            return Err("A or D");
        }
        let pointer = digits(&mut scan, "an address, 16 hexadecimal digits")?;
        scan.expect(b' ', "a blank and a size")?;
        let size = digits(&mut scan, "a size, 16 hexadecimal digits")?;
        scan.end("the end of the line")?;
        let request = if allocates {
            Request::Malloc {
                size,
                result: pointer,
            }
        } else {
            Request::Free {
                pointer,
                sized: true,
            }
        };
        out.push(Record {
            time_ns: Some(time_ns),
            ..Record::of(request)
        });
        Ok(())
    }

    /// It is switched on when the program is under way.
    fn rules(&self) -> Rules {
        Rules::in_mid_life()
    }

    fn format(&self) -> Format {
        Format::Tralloc
    }

    fn finish(&mut self, closing: &mut Closing) {
        if self.foreign > 0 {
            let lines = plural(self.foreign, "line");
            closing
                .notes
                .push(format!("{lines} of the program's own were skipped"));
        }
    }
}

fn digits(scan: &mut Scan, expected: &'static str) -> Parse<u64> {
    let before = scan.rest().len();
    let value = scan.hexadecimal(expected)?;
    match before - scan.rest().len() {
        16 => Ok(value),
        _ => Err(expected),
    }
}
