//! heaptrack's files, as recorded (`heaptrack --raw`) and as its interpreter leaves them.
//!
//! A line is a letter and numbers, hexadecimal without `0x`. Strings are their length, a blank and
//! their bytes; before file version 3 they run to the blank or the end of the line.
//!
//! ```text
//! v PROGRAM_VERSION FILE_VERSION     X COMMAND LINE     I PAGE_BYTES PAGES     S SUPPRESSION
//! A (attached)     c MILLISECONDS     R RSS_PAGES     # COMMENT
//! raw:          x EXECUTABLE     m PATH BASE {OFFSET BYTES} ("m 1 -" forgets all, path "x" is EXECUTABLE)
//!               t ADDRESS PARENT     + SIZE TRACE POINTER     - POINTER
//! interpreted:  s STRING     i ADDRESS MODULE [FUNCTION [FILE LINE]]...     t INSTRUCTION PARENT
//!               a SIZE TRACE     + ALLOCATION     - ALLOCATION
//! ```
//! Strings, instructions and traces are numbered from 1 and 0 is none; allocations from 0. Before
//! file version 1, interpreted files have the raw forms of `+` and `-`.
//!
//! heaptrack writes a `realloc` as a free and an allocation, which programs also do one after the
//! other, so the two cannot be told apart and stay a free and a malloc.

mod fields;
mod modules;
mod sites;

use super::fault::Fault;
use super::grammar::{Closing, LineGrammar, LineParser};
use super::intake::Rules;
use super::scan::Parse;
use super::{Record, Request};
use crate::trace::{Format, SiteId};

use fields::Fields;
use modules::Modules;
use sites::{Place, Sites};

/// The newest file version.
const VERSION_MAX: u64 = 3;

/// heaptrack's own version 1.2.0, which had none of the file: it was file version 1.
const PROGRAM_OF_VERSION_1: u64 = 0x01_0200;

/// Entries of a table (instructions, traces). The largest programs have some ten million; without
/// a limit a small compressed file could fill the memory.
const ENTRIES_MAX: usize = 1 << 26;

/// Pairs of a size and a trace.
const CLASSES_MAX: usize = 1 << 25;

/// Bytes of all strings.
const STRING_BYTES_MAX: usize = 1 << 29;

/// The grammar of both.
pub(super) static GRAMMAR: LineGrammar = LineGrammar {
    name: "heaptrack",
    example: "v 10400 3",
    by_hand: false,
    made_with: "heaptrack PROGRAM",
    recognises: |text, _| version(text).is_ok(),
    processes: false,
    foreign_lines: false,
    late_frees: false,
    notes: &[
        "heaptrack knows neither threads nor alignments; a calloc is a malloc, and a realloc is a \
         free and a malloc",
        "heaptrack does not see memalign, pvalloc, allocations that failed and frees of null",
        "heaptrack tells the time every 10 ms only: no event has a time stamp",
    ],
    parser: |_| Box::new(Parser::default()),
};

/// Which of the two a file is; told by the first line that only one of them has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Raw,
    Interpreted,
}

#[derive(Default)]
struct Parser {
    kind: Option<Kind>,
    /// Of the file; the newest until a line says otherwise.
    version: Option<u64>,
    modules: Modules,
    sites: Sites,
    strings: Vec<Box<str>>,
    string_bytes: usize,
    /// The place of each instruction (interpreted).
    instructions: Vec<Place>,
    /// The place of each call stack's innermost known frame.
    traces: Vec<Place>,
    classes: Classes,
    /// The last line was one that heaptrack ends a file with.
    ended: bool,
}

impl LineParser for Parser {
    fn line(&mut self, text: &[u8], _: u64, out: &mut Vec<Record>) -> Parse<()> {
        let (letter, rest) = (text[0], text.get(1..).unwrap_or_default());
        self.ended = matches!(letter, b'c' | b'R' | b'#');
        if !rest.is_empty() && rest[0] != b' ' && letter != b'#' {
            return Err("a letter and a blank");
        }
        let mut fields = Fields::new(rest.get(1..).unwrap_or_default());
        match letter {
            b'+' => self.allocation(fields, out)?,
            b'-' => self.free(fields, out)?,
            b't' => self.trace(fields)?,
            b'a' => {
                self.is(Kind::Interpreted)?;
                let size = fields.number("a size")?;
                let trace = fields.number("a call stack")?;
                fields.end()?;
                let site = self.place_of(trace)?.site();
                self.classes.add(size, site)?;
            }
            b'i' => self.instruction(fields)?,
            b's' => {
                self.is(Kind::Interpreted)?;
                let string = match self.sized() {
                    true => fields.sized_to_end()?,
                    false => fields.rest(),
                };
                self.add_string(string)?;
            }
            b'm' => self.module(fields)?,
            b'x' => {
                self.is(Kind::Raw)?;
                let path = match self.sized() {
                    true => fields.sized_to_end()?,
                    false => fields.rest(),
                };
                self.modules.set_executable(path);
            }
            b'v' => {
                let version = version(text)?;
                if version > VERSION_MAX {
                    return Err("a file version of at most 3");
                }
                self.version = Some(version);
            }
            b'c' | b'R' => {
                fields.number("a number")?;
                fields.end()?;
            }
            b'I' => {
                fields.number("the bytes of a page")?;
                fields.number("a number of pages")?;
                fields.end()?;
            }
            b'X' | b'S' | b'A' | b'#' => {}
            _ => return Err("one of the letters v x X I S A m s i t a + - c R #"),
        }
        Ok(())
    }

    /// Names of functions may be longer than any call; their numbers must go on.
    fn overlong(&mut self, head: &[u8], _: u64, _: &mut Vec<Record>) -> Result<(), Fault> {
        match head {
            [b's', b' ', rest @ ..] => {
                let mut fields = Fields::new(rest);
                if self.sized() {
                    fields.number("a length").map_err(Fault::Syntax)?;
                }
                let shortened = [fields.rest(), b"..."].concat();
                self.add_string(&shortened).map_err(Fault::Syntax)
            }
            // Of these nothing is kept, or no more than names.
            [b'X' | b'S' | b'#' | b'm' | b'x', ..] => Ok(()),
            _ => Err(Fault::Overlong),
        }
    }

    fn rules(&self) -> Rules {
        Rules {
            unseen_frees: true,
            unseen_calls: true,
            sited: true,
            ..Rules::default()
        }
    }

    fn format(&self) -> Format {
        match self.kind {
            Some(Kind::Interpreted) => Format::HeaptrackInterpreted,
            _ => Format::HeaptrackRaw,
        }
    }

    fn finish(&mut self, closing: &mut Closing) {
        if !self.classes.is_empty() {
            closing.notes.push(
                "an interpreted file names no blocks: a free was taken to be of the youngest block \
                 of its size and call stack"
                    .to_owned(),
            );
        }
        if !self.ended {
            closing.warnings.push(
                "the file does not end as heaptrack ends one: the program was killed, or the file \
                 is truncated"
                    .to_owned(),
            );
        }
        if self.sites.is_full() {
            closing.notes.push(
                "the file has more call sites than are told apart (2^20, or 256 MiB of names)"
                    .to_owned(),
            );
        }
        closing.site_names = self.sites.take_names();
    }
}

/// The file version of a `v` line.
fn version(text: &[u8]) -> Parse<u64> {
    let text = text.strip_prefix(b"v ").ok_or("v and two versions")?;
    let mut fields = Fields::new(text);
    let program = fields.number("heaptrack's version")?;
    let file = match fields.is_empty() {
        true if program == PROGRAM_OF_VERSION_1 => 1,
        true => 0,
        false => fields.number("the file's version")?,
    };
    fields.end()?;
    Ok(file)
}

impl Parser {
    /// Whether strings have their length before them.
    fn sized(&self) -> bool {
        self.version.unwrap_or(VERSION_MAX) >= 3
    }

    /// The line is of this kind; so must be the file.
    fn is(&mut self, kind: Kind) -> Parse<()> {
        match *self.kind.get_or_insert(kind) {
            found if found == kind => Ok(()),
            Kind::Raw => Err("a line of a raw recording: x, m, t, + or -"),
            Kind::Interpreted => Err("a line of an interpreted recording: s, i, t, a, + or -"),
        }
    }

    /// Whether `+` and `-` name a pair of size and call stack, not a block.
    fn by_class(&self) -> bool {
        self.kind == Some(Kind::Interpreted) && self.version.unwrap_or(VERSION_MAX) >= 1
    }

    fn allocation(&mut self, mut fields: Fields, out: &mut Vec<Record>) -> Parse<()> {
        if self.by_class() {
            let class = fields.number("an allocation")?;
            fields.end()?;
            let (size, site, block) = self.classes.allocate(class)?;
            out.push(record(
                Request::Malloc {
                    size,
                    result: block,
                },
                site,
            ));
            return Ok(());
        }
        let size = fields.number("a size")?;
        let trace = fields.number("a call stack")?;
        let pointer = fields.number("a pointer")?;
        fields.end()?;
        let site = self.place_of(trace)?.site();
        out.push(record(
            Request::Malloc {
                size,
                result: pointer,
            },
            site,
        ));
        Ok(())
    }

    fn free(&mut self, mut fields: Fields, out: &mut Vec<Record>) -> Parse<()> {
        let number = fields.number("what is freed")?;
        fields.end()?;
        let pointer = match self.by_class() {
            true => self.classes.free(number)?,
            false => number,
        };
        let request = Request::Free {
            pointer,
            sized: false,
        };
        out.push(record(request, SiteId(0)));
        Ok(())
    }

    fn trace(&mut self, mut fields: Fields) -> Parse<()> {
        let innermost = fields.number("an address or instruction")?;
        let parent = fields.number("the number of a call stack")?;
        fields.end()?;
        let outer = self.place_of(parent)?;
        let own = match self.kind {
            Some(Kind::Interpreted) => entry(&self.instructions, innermost)
                .ok_or("an instruction that stands before this line")?,
            _ => {
                self.is(Kind::Raw)?;
                match self.modules.find(innermost) {
                    Some(frame) => {
                        let passed = frame.is_of_cxx_library();
                        self.sites.place(&frame.name(), passed)
                    }
                    None => Place::UNKNOWN,
                }
            }
        };
        add(&mut self.traces, own.within(outer))
    }

    fn instruction(&mut self, mut fields: Fields) -> Parse<()> {
        self.is(Kind::Interpreted)?;
        let address = fields.number("an address")?;
        let module = fields.number("a module")?;
        // The innermost of the functions that are inlined into each other comes first.
        let function = match fields.is_empty() {
            true => 0,
            false => fields.number("a function")?,
        };
        while !fields.is_empty() {
            fields.number("a function, a file or a line")?;
        }
        let string = |number: u64| match number {
            0 => Ok(None),
            _ => usize::try_from(number - 1)
                .ok()
                .and_then(|index| self.strings.get(index))
                .map(Some)
                .ok_or("a string that stands before this line"),
        };
        let place = match (string(function)?, string(module)?) {
            (Some(function), _) => {
                let passed = sites::is_operator_new(function);
                self.sites.place(function, passed)
            }
            (None, Some(module)) => {
                let module = modules::file_name(module);
                self.sites
                    .place(&format!("{module} at {address:#x}"), false)
            }
            (None, None) => Place::UNKNOWN,
        };
        add(&mut self.instructions, place)
    }

    fn module(&mut self, mut fields: Fields) -> Parse<()> {
        self.is(Kind::Raw)?;
        let path = match self.sized() {
            true => fields.sized()?,
            false => fields.before_numbers(),
        };
        if path == b"-" {
            self.modules.clear();
            return Ok(());
        }
        let base = fields.number("the address of the module")?;
        let module = self.modules.add(path, base)?;
        while !fields.is_empty() {
            let offset = fields.number("the offset of a segment")?;
            let bytes = fields.number("the bytes of a segment")?;
            self.modules.add_segment(module, offset, bytes)?;
        }
        Ok(())
    }

    fn add_string(&mut self, string: &[u8]) -> Parse<()> {
        self.string_bytes += string.len() + size_of::<Box<str>>();
        if self.string_bytes > STRING_BYTES_MAX {
            return Err("at most 512 MiB of strings");
        }
        self.strings
            .push(String::from_utf8_lossy(string).into_owned().into());
        Ok(())
    }

    /// The place of a call stack, by its number.
    fn place_of(&self, trace: u64) -> Parse<Place> {
        entry(&self.traces, trace).ok_or("a call stack that stands before this line")
    }
}

fn record(request: Request, site: SiteId) -> Record {
    Record {
        site,
        ..Record::of(request)
    }
}

/// The entry of a table whose numbers begin with 1; 0 is unknown.
fn entry(table: &[Place], number: u64) -> Option<Place> {
    match number {
        0 => Some(Place::UNKNOWN),
        _ => table.get(usize::try_from(number - 1).ok()?).copied(),
    }
}

fn add(table: &mut Vec<Place>, place: Place) -> Parse<()> {
    if table.len() == ENTRIES_MAX {
        return Err("at most 2^26 call stacks and as many instructions");
    }
    table.push(place);
    Ok(())
}

/// The pairs of size and call stack of an interpreted file, and the live blocks of each, the
/// youngest first. Numbers of dead blocks are used again, so that what was freed costs nothing.
#[derive(Default)]
struct Classes {
    sizes: Vec<u64>,
    sites: Vec<SiteId>,
    /// The youngest live block; 0 if none.
    youngest: Vec<u32>,
    /// Of each block: the next older one of its class if live, the next dead one if dead.
    next: Vec<u32>,
    /// A dead block; 0 if none.
    dead: u32,
}

impl Classes {
    fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    fn add(&mut self, size: u64, site: SiteId) -> Parse<()> {
        if self.sizes.len() == CLASSES_MAX {
            return Err("at most 2^25 pairs of a size and a call stack");
        }
        self.sizes.push(size);
        self.sites.push(site);
        self.youngest.push(0);
        Ok(())
    }

    fn index(&self, class: u64) -> Parse<usize> {
        usize::try_from(class)
            .ok()
            .filter(|&index| index < self.sizes.len())
            .ok_or("an allocation that an 'a' line above describes")
    }

    /// A new block of a class: its size, its call site, its number.
    fn allocate(&mut self, class: u64) -> Parse<(u64, SiteId, u64)> {
        let index = self.index(class)?;
        let block = if self.dead == 0 {
            let block = u32::try_from(self.next.len() + 1).map_err(|_| "fewer live blocks")?;
            self.next.push(0);
            block
        } else {
            let block = self.dead;
            self.dead = self.next[block as usize - 1];
            block
        };
        self.next[block as usize - 1] = self.youngest[index];
        self.youngest[index] = block;
        Ok((self.sizes[index], self.sites[index], u64::from(block)))
    }

    /// Ends the youngest block of a class. Returns its number.
    fn free(&mut self, class: u64) -> Parse<u64> {
        let index = self.index(class)?;
        let block = self.youngest[index];
        if block == 0 {
            return Err("an allocation of which a block is live");
        }
        let next = &mut self.next[block as usize - 1];
        self.youngest[index] = *next;
        *next = self.dead;
        self.dead = block;
        Ok(u64::from(block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_youngest_block_of_a_class_is_freed_and_its_number_used_again() {
        let mut classes = Classes::default();
        classes.add(10, SiteId(1)).unwrap();
        classes.add(20, SiteId(2)).unwrap();
        assert_eq!(classes.allocate(0), Ok((10, SiteId(1), 1)));
        assert_eq!(classes.allocate(1), Ok((20, SiteId(2), 2)));
        assert_eq!(classes.allocate(0), Ok((10, SiteId(1), 3)));
        assert_eq!(classes.free(0), Ok(3));
        assert_eq!(classes.free(0), Ok(1));
        assert_eq!(
            classes.free(0),
            Err("an allocation of which a block is live")
        );
        assert_eq!(classes.allocate(1), Ok((20, SiteId(2), 1)));
        assert_eq!(classes.free(1), Ok(1));
        assert_eq!(classes.free(1), Ok(2));
        assert!(classes.allocate(2).is_err());
        assert_eq!(classes.next.len(), 3);
    }

    #[test]
    fn versions() {
        assert_eq!(version(b"v 10400 3"), Ok(3));
        assert_eq!(version(b"v 10000"), Ok(0));
        assert_eq!(version(b"v 10200"), Ok(1));
        assert!(version(b"v x").is_err());
        assert!(version(b"v 10400 3 4").is_err());
        assert!(version(b"version 3").is_err());
    }
}
