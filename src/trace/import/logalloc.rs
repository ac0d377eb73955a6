//! Mozilla's logalloc grammar, raw (addresses) and munged (slots); the munged one is also the
//! native text format.
//!
//! ```text
//! PID [TID] malloc(SIZE)=PTR                      realloc(PTR,SIZE)=PTR     free(PTR)
//! PID [TID] calloc(COUNT,SIZE)=PTR                valloc(SIZE)=PTR          jemalloc_stats()
//! PID [TID] memalign(ALIGNMENT,SIZE)=PTR          posix_memalign(ALIGNMENT,SIZE)=PTR
//! PID [TID] aligned_alloc(ALIGNMENT,SIZE)=PTR     pvalloc(SIZE)=PTR  (ours: other tools lack it)
//! ```
//! PTR is `0x…` in a raw log; in a munged one it is `#N`, and slots are used again. `#0` is null:
//! slots count from 1, so to other tools it is a slot that is never assigned, which means null too.

use super::grammar::{Closing, LineGrammar, LineParser};
use super::intake::Rules;
use super::scan::{Parse, Scan};
use super::{Record, Request};
use crate::trace::{AlignedFunction, Format, SiteId};

/// The grammar.
pub(super) static GRAMMAR: LineGrammar = LineGrammar {
    name: "logalloc",
    example: "1 1 malloc(42)=#1",
    by_hand: true,
    made_with: "",
    recognises: |text, _| recognises(text),
    processes: true,
    foreign_lines: false,
    late_frees: false,
    notes: &[],
    parser: |options| {
        Box::new(Parser {
            lenient: options.lenient,
            ..Parser::default()
        })
    },
};

/// A log has one kind of pointer throughout.
#[derive(Default)]
struct Parser {
    lenient: bool,
    pointers: Pointers,
    /// Some lines name no thread.
    threadless: bool,
}

impl LineParser for Parser {
    #[inline]
    fn line(&mut self, text: &[u8], _: u64, out: &mut Vec<Record>) -> Parse<()> {
        let (record, pointers) = parse(text)?;
        let pointers = self.pointers.with(pointers);
        if pointers.addresses && pointers.slots {
            return Err("pointers to be all addresses (0x…) or all slots (#…)");
        }
        self.pointers = pointers;
        self.threadless |= record.thread.is_none();
        out.push(record);
        Ok(())
    }

    fn rules(&self) -> Rules {
        Rules {
            unknown_slot_is_null: self.lenient && self.pointers.slots,
            ..Rules::default()
        }
    }

    fn unassigned_is_null(&self) -> bool {
        self.pointers.slots
    }

    fn name(&self, pointer: u64) -> String {
        if self.pointers.slots {
            format!("#{pointer}")
        } else {
            format!("{pointer:#x}")
        }
    }

    fn format(&self) -> Format {
        if self.pointers.addresses {
            Format::LogallocRaw
        } else {
            Format::LogallocMunged
        }
    }

    fn finish(&mut self, closing: &mut Closing) {
        if self.threadless {
            let note = "lines without a thread number count as the process's first thread";
            closing.notes.push(note.to_owned());
        }
    }
}

/// Which kinds of pointers were seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Pointers {
    /// `0x…`
    addresses: bool,
    /// `#…`
    slots: bool,
}

impl Pointers {
    #[inline]
    fn with(self, other: Self) -> Self {
        Self {
            addresses: self.addresses || other.addresses,
            slots: self.slots || other.slots,
        }
    }
}

const FUNCTIONS: &str = "malloc, calloc, realloc, free, memalign, posix_memalign, aligned_alloc, \
                         valloc, pvalloc or jemalloc_stats";

/// `valloc` aligns to the pages of the recorded machine; nearly all have 4096 bytes.
const PAGE_BYTES: u64 = 4096;

/// Whether a line looks like one of this grammar, right or wrong: numbers and an opened call.
fn recognises(text: &[u8]) -> bool {
    let mut scan = Scan::new(text);
    if scan.decimal("").is_err() || !scan.skip(b' ') {
        return false;
    }
    if scan.at_digit() && (scan.decimal("").is_err() || !scan.skip(b' ')) {
        return false;
    }
    !scan.word().is_empty() && scan.skip(b'(')
}

/// Parses one line.
#[inline]
fn parse(text: &[u8]) -> Parse<(Record, Pointers)> {
    let mut scan = Scan::new(text);
    let process = scan.decimal("a process number")?;
    scan.expect(b' ', "a blank behind the process number")?;
    let thread = if scan.at_digit() {
        let thread = scan.decimal("a thread number")?;
        scan.expect(b' ', "a blank behind the thread number")?;
        Some(thread)
    } else {
        None
    };
    let function = scan.word();
    scan.expect(b'(', "'(' behind the function's name")?;
    let mut call = Call {
        scan,
        pointers: Pointers::default(),
    };
    let request = call.request(function)?;
    call.scan.end("the end of the line behind the call")?;
    let record = Record {
        process: Some(process),
        thread,
        request,
        time_ns: None,
        site: SiteId(0),
    };
    Ok((record, call.pointers))
}

/// The call's arguments, as far as they are not read yet.
struct Call<'b> {
    scan: Scan<'b>,
    pointers: Pointers,
}

impl Call<'_> {
    fn request(&mut self, function: &[u8]) -> Parse<Request> {
        match function {
            b"malloc" => {
                let size = self.size()?;
                Ok(Request::Malloc {
                    size,
                    result: self.result()?,
                })
            }
            b"free" => {
                let pointer = self.pointer()?;
                self.scan.expect(b')', "')' behind the pointer")?;
                Ok(Request::Free {
                    pointer,
                    sized: false,
                })
            }
            b"realloc" => {
                let old = self.pointer()?;
                let size = self.second()?;
                Ok(Request::Realloc {
                    old,
                    size,
                    result: self.result()?,
                })
            }
            b"calloc" => {
                let count = self.size()?;
                let size = self.second()?;
                Ok(Request::Calloc {
                    count,
                    size,
                    result: self.result()?,
                })
            }
            b"memalign" => self.aligned(AlignedFunction::Memalign),
            b"posix_memalign" => self.aligned(AlignedFunction::PosixMemalign),
            b"aligned_alloc" => self.aligned(AlignedFunction::AlignedAlloc),
            b"valloc" => self.page_aligned(AlignedFunction::Valloc),
            b"pvalloc" => self.page_aligned(AlignedFunction::Pvalloc),
            b"jemalloc_stats" => {
                self.scan.expect(b')', "')'")?;
                Ok(Request::Mark)
            }
            _ => Err(FUNCTIONS),
        }
    }

    fn aligned(&mut self, function: AlignedFunction) -> Parse<Request> {
        let alignment = self.scan.decimal("the alignment, a decimal number")?;
        let size = self.second()?;
        Ok(Request::Aligned {
            function,
            alignment,
            size,
            result: self.result()?,
        })
    }

    fn page_aligned(&mut self, function: AlignedFunction) -> Parse<Request> {
        let size = self.size()?;
        Ok(Request::Aligned {
            function,
            alignment: PAGE_BYTES,
            size,
            result: self.result()?,
        })
    }

    #[inline]
    fn size(&mut self) -> Parse<u64> {
        self.scan.decimal("a size, a decimal number")
    }

    #[inline]
    fn second(&mut self) -> Parse<u64> {
        self.scan.expect(b',', "',' and a second argument")?;
        self.size()
    }

    #[inline]
    fn result(&mut self) -> Parse<u64> {
        self.scan.expect(b')', "')' behind the arguments")?;
        self.scan.expect(b'=', "'=' and the pointer returned")?;
        self.pointer()
    }

    #[inline]
    fn pointer(&mut self) -> Parse<u64> {
        if self.scan.skip(b'#') {
            self.pointers.slots = true;
            return self.scan.decimal("a slot number behind '#'");
        }
        self.pointers.addresses = true;
        self.scan.address("a pointer, 0x… or #…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_and_without_thread() {
        let (raw, pointers) =
            parse(b"18545 18546 realloc(0x7f90495120e0,64)=0x7f9049536680").unwrap();
        assert_eq!((raw.process, raw.thread), (Some(18545), Some(18546)));
        let (old, result) = (0x7f90495120e0, 0x7f9049536680);
        assert_eq!(
            raw.request,
            Request::Realloc {
                old,
                size: 64,
                result
            }
        );
        assert_eq!(
            pointers,
            Pointers {
                addresses: true,
                slots: false
            }
        );
        let (munged, pointers) = parse(b"1 posix_memalign(4096,1024)=#7").unwrap();
        assert_eq!((munged.process, munged.thread), (Some(1), None));
        let function = AlignedFunction::PosixMemalign;
        assert_eq!(
            munged.request,
            Request::Aligned {
                function,
                alignment: 4096,
                size: 1024,
                result: 7
            }
        );
        assert_eq!(
            pointers,
            Pointers {
                addresses: false,
                slots: true
            }
        );
        assert_eq!(
            parse(b"1 1 jemalloc_stats()").unwrap().0.request,
            Request::Mark
        );
    }

    #[test]
    fn every_part_is_asked_for() {
        for (line, expected) in [
            ("x", "a process number"),
            ("1 1 mallco(4)=#1", FUNCTIONS),
            ("1 1 malloc(-1)=#1", "a size, a decimal number"),
            ("1 1 malloc(4)", "'=' and the pointer returned"),
            ("1 1 malloc(4)=1", "a pointer, 0x… or #…"),
            ("1 1 malloc(4,5)=#1", "')' behind the arguments"),
            ("1 1 calloc(4)=#1", "',' and a second argument"),
            ("1 1 free(#1)=#2", "the end of the line behind the call"),
            ("1 1 free", "'(' behind the function's name"),
            ("1 1 free(#1", "')' behind the pointer"),
        ] {
            assert_eq!(parse(line.as_bytes()).err(), Some(expected), "{line}");
        }
    }
}
