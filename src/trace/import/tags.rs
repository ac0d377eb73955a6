//! The plainest grammar of all, of the allocator studies of 2001 and of many a script.
//!
//! ```text
//! Allocate TAG SIZE          Free TAG
//! ```
//! TAG is any word, the block's name while it lives; SIZE is decimal.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::fault::show;
use super::grammar::{LineGrammar, LineParser};
use super::scan::{Parse, Scan};
use super::{Record, Request};
use crate::trace::Format;

/// The grammar.
pub(super) static GRAMMAR: LineGrammar = LineGrammar {
    name: "tags",
    example: "Allocate 7 512",
    by_hand: true,
    made_with: "",
    recognises: |text, _| text.starts_with(b"Allocate ") || text.starts_with(b"Free "),
    processes: false,
    foreign_lines: false,
    late_frees: false,
    notes: &["this grammar has no threads, no alignments, no calloc and no realloc"],
    parser: |_| Box::new(Parser::default()),
};

/// The longest tag. Tags are kept, to be found again.
const TAG_BYTES_MAX: usize = 64;

#[derive(Default)]
struct Parser {
    /// The number of each tag, from 1: 0 stands for null.
    numbers: FxHashMap<Rc<[u8]>, u64>,
    tags: Vec<Rc<[u8]>>,
}

impl LineParser for Parser {
    fn line(&mut self, text: &[u8], _: u64, out: &mut Vec<Record>) -> Parse<()> {
        let mut scan = Scan::new(text);
        let request = match scan.word() {
            b"Allocate" => {
                let tag = tag(&mut scan)?;
                scan.expect(b' ', "a blank and a size")?;
                let size = scan.decimal("a size, a decimal number")?;
                scan.end("the end of the line")?;
                let result = self.number(tag);
                Request::Malloc { size, result }
            }
            b"Free" => {
                let tag = tag(&mut scan)?;
                scan.end("the end of the line")?;
                let pointer = self.number(tag);
                Request::Free {
                    pointer,
                    sized: false,
                }
            }
            _ => return Err("Allocate or Free"),
        };
        out.push(Record::of(request));
        Ok(())
    }

    fn name(&self, pointer: u64) -> String {
        let tag = usize::try_from(pointer - 1)
            .ok()
            .and_then(|n| self.tags.get(n));
        format!(
            "tag {}",
            tag.map_or_else(String::new, |tag| show(tag, false))
        )
    }

    fn format(&self) -> Format {
        Format::Tags
    }
}

impl Parser {
    fn number(&mut self, tag: &[u8]) -> u64 {
        if let Some(&number) = self.numbers.get(tag) {
            return number;
        }
        let tag: Rc<[u8]> = tag.into();
        self.tags.push(tag.clone());
        let number = self.tags.len() as u64;
        self.numbers.insert(tag, number);
        number
    }
}

fn tag<'t>(scan: &mut Scan<'t>) -> Parse<&'t [u8]> {
    scan.expect(b' ', "a blank and a tag")?;
    let tag = scan.token();
    match tag.len() {
        0 => Err("a tag"),
        1..=TAG_BYTES_MAX => Ok(tag),
        _ => Err("a tag of at most 64 bytes"),
    }
}
