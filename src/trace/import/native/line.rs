//! One event's line of the native text.

use super::super::fault::SIZE_BYTES_MAX;
use super::super::scan::{Parse, Scan};
use crate::trace::{AlignedFunction, SiteId};

/// A line taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Line {
    pub(super) thread: u64,
    pub(super) call: Call,
    pub(super) time_ns: Option<u64>,
    pub(super) site: Option<SiteId>,
}

/// What a line asks of the allocator. Slot 0 is null.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Call {
    Malloc {
        size: u64,
        slot: u64,
    },
    Calloc {
        count: u32,
        size: u64,
        slot: u64,
    },
    Aligned {
        function: AlignedFunction,
        alignment_log2: u8,
        size: u64,
        slot: u64,
    },
    Realloc {
        old: u64,
        size: u64,
        slot: u64,
    },
    Free {
        slot: u64,
        sized: bool,
    },
    FreeUnseen,
    ThreadStart,
    ThreadEnd,
    Mark,
}

/// The alignment of `valloc(SIZE)`.
const PAGE_BYTES: u64 = 4096;

const FUNCTIONS: &str = "malloc, calloc, realloc, free, free_sized, free_unseen, memalign, \
                         posix_memalign, aligned_alloc, valloc, pvalloc, thread_start, thread_end \
                         or jemalloc_stats";

/// Parses one line.
pub(super) fn parse(text: &[u8]) -> Parse<Line> {
    let mut scan = Scan::new(text);
    scan.decimal("a process number")?;
    scan.expect(b' ', "a blank behind the process number")?;
    let thread = scan.decimal("a thread number")?;
    scan.expect(b' ', "a blank behind the thread number")?;
    let function = scan.word();
    scan.expect(b'(', "'(' behind the function's name")?;
    let call = call(function, &mut scan)?;
    let time_ns = if scan.skip_all(b" t=") {
        Some(scan.decimal("a time in nanoseconds behind t=")?)
    } else {
        None
    };
    let site = if scan.skip_all(b" s=") {
        let number = scan.decimal("the number of a call site behind s=")?;
        let number = u32::try_from(number).map_err(|_| "a call site below 2^32")?;
        Some(SiteId(number))
    } else {
        None
    };
    scan.end("t=TIME, s=SITE or the end of the line behind the call")?;
    Ok(Line {
        thread,
        call,
        time_ns,
        site,
    })
}

fn call(function: &[u8], scan: &mut Scan) -> Parse<Call> {
    Ok(match function {
        b"malloc" => Call::Malloc {
            size: size(scan)?,
            slot: result(scan)?,
        },
        b"free" | b"free_sized" => {
            let slot = slot(scan)?;
            close(scan)?;
            let sized = function == b"free_sized";
            Call::Free { slot, sized }
        }
        b"realloc" => {
            let old = slot(scan)?;
            let size = second(scan)?;
            Call::Realloc {
                old,
                size,
                slot: result(scan)?,
            }
        }
        b"calloc" => {
            let count = size(scan)?;
            let size = second(scan)?;
            sane(count.saturating_mul(size))?;
            let count = u32::try_from(count).map_err(|_| "a count below 2^32")?;
            Call::Calloc {
                count,
                size,
                slot: result(scan)?,
            }
        }
        b"memalign" => aligned(AlignedFunction::Memalign, scan)?,
        b"posix_memalign" => aligned(AlignedFunction::PosixMemalign, scan)?,
        b"aligned_alloc" => aligned(AlignedFunction::AlignedAlloc, scan)?,
        b"valloc" => aligned(AlignedFunction::Valloc, scan)?,
        b"pvalloc" => aligned(AlignedFunction::Pvalloc, scan)?,
        b"free_unseen" => bare(Call::FreeUnseen, scan)?,
        b"thread_start" => bare(Call::ThreadStart, scan)?,
        b"thread_end" => bare(Call::ThreadEnd, scan)?,
        b"jemalloc_stats" => bare(Call::Mark, scan)?,
        _ => return Err(FUNCTIONS),
    })
}

/// `ALIGNMENT,SIZE)=#SLOT`; the alignment of valloc and pvalloc may be left out.
fn aligned(function: AlignedFunction, scan: &mut Scan) -> Parse<Call> {
    let first = scan.decimal("a number")?;
    let (alignment, size) = match function {
        AlignedFunction::Valloc | AlignedFunction::Pvalloc if scan.peek() == Some(b')') => {
            (PAGE_BYTES, sane(first)?)
        }
        _ => (first, second(scan)?),
    };
    if !alignment.is_power_of_two() || alignment > SIZE_BYTES_MAX {
        return Err("a power of two, at most 2^47, as alignment");
    }
    Ok(Call::Aligned {
        function,
        alignment_log2: u8::try_from(alignment.trailing_zeros()).expect("below 64"),
        size,
        slot: result(scan)?,
    })
}

fn bare(call: Call, scan: &mut Scan) -> Parse<Call> {
    close(scan)?;
    Ok(call)
}

fn close(scan: &mut Scan) -> Parse<()> {
    scan.expect(b')', "')' behind the arguments")
}

fn size(scan: &mut Scan) -> Parse<u64> {
    sane(scan.decimal("a size, a decimal number")?)
}

fn second(scan: &mut Scan) -> Parse<u64> {
    scan.expect(b',', "',' and a second argument")?;
    size(scan)
}

fn sane(bytes: u64) -> Parse<u64> {
    match bytes {
        0..=SIZE_BYTES_MAX => Ok(bytes),
        _ => Err("a request of at most 2^47 bytes"),
    }
}

fn result(scan: &mut Scan) -> Parse<u64> {
    close(scan)?;
    scan.expect(b'=', "'=' and the slot returned")?;
    slot(scan)
}

fn slot(scan: &mut Scan) -> Parse<u64> {
    scan.expect(b'#', "a slot, #…")?;
    scan.decimal("a slot number behind '#'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_tell_what_logalloc_cannot() {
        let line = parse(b"1 3 valloc(16384,100)=#7 t=12 s=4").unwrap();
        assert_eq!((line.thread, line.time_ns), (3, Some(12)));
        assert_eq!(line.site, Some(SiteId(4)));
        let function = AlignedFunction::Valloc;
        assert_eq!(
            line.call,
            Call::Aligned {
                function,
                alignment_log2: 14,
                size: 100,
                slot: 7
            }
        );
        let call = |text: &str| parse(text.as_bytes()).map(|line| line.call);
        let sized = Call::Free {
            slot: 7,
            sized: true,
        };
        assert_eq!(call("1 1 free_sized(#7)"), Ok(sized));
        assert_eq!(call("1 1 free_unseen()"), Ok(Call::FreeUnseen));
        assert_eq!(call("1 1 thread_end() t=5"), Ok(Call::ThreadEnd));
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        for (text, expected) in [
            (
                "1 1 malloc(140737488355329)=#1",
                "a request of at most 2^47 bytes",
            ),
            (
                "1 1 calloc(8388608,16777217)=#1",
                "a request of at most 2^47 bytes",
            ),
            ("1 1 calloc(4294967296,1)=#1", "a count below 2^32"),
            (
                "1 1 memalign(24,1)=#1",
                "a power of two, at most 2^47, as alignment",
            ),
            ("1 1 malloc(4)=0x10", "a slot, #…"),
            ("1 1 malloc(4)=#1 s=4294967296", "a call site below 2^32"),
            ("1 1 oops()", FUNCTIONS),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(expected), "{text}");
        }
    }
}
