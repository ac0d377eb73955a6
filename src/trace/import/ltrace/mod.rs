//! The log of `ltrace`.
//!
//! ```text
//! [THREAD] [MODULE->]FUNCTION(ARGUMENT, …)      = RESULT
//! [THREAD] [MODULE->]FUNCTION(ARGUMENT, … <unfinished ...>
//! [THREAD] <... FUNCTION resumed> )             = RESULT
//! ```
//! THREAD is there with `-f`. A call is broken in two when another thread comes between, or when a
//! function calls another one that is logged: what an allocator's function calls is part of it.
//! Arguments that ltrace knows no prototype for are followed by junk.

mod line;

use rustc_hash::FxHashMap;

use self::line::{Event, Function};
use super::grammar::{Closing, LineGrammar, LineParser};
use super::intake::Rules;
use super::operators::Operator;
use super::scan::{Parse, Scan};
use super::{Record, Request};
use crate::trace::{AlignedFunction, Format, plural};

/// The grammar.
pub(super) static GRAMMAR: LineGrammar = LineGrammar {
    name: "ltrace",
    example: "9669 demo->malloc(42) = 0x560c8288d2a0",
    by_hand: false,
    made_with: "ltrace -f -o FILE -e malloc+calloc+realloc+reallocarray+free+memalign+\
                aligned_alloc+posix_memalign+valloc+pvalloc PROGRAM",
    recognises: |text, _| line::recognises(text),
    processes: false,
    foreign_lines: true,
    late_frees: false,
    notes: &[
        "ltrace does not see calls inside a shared library, such as the C library's own",
        "ltrace numbers threads and forked processes alike",
    ],
    parser: |_| Box::new(Parser::default()),
};

/// As in glibc on nearly all machines.
const PAGE_BYTES: u64 = 4096;

/// Most calls of one thread that are open at a time: each is called by the one before.
const DEPTH_MAX: usize = 16;

/// Most threads inside a call at a time.
const OPEN_THREADS_MAX: usize = 100_000;

#[derive(Default)]
struct Parser {
    /// The calls that each thread is in, outermost first.
    open: FxHashMap<Option<u64>, Vec<Open>>,
    /// The thread inside a realloc, by the old pointer.
    reallocating: FxHashMap<u64, Option<u64>>,
    /// Calls of posix_memalign, whose pointer is not shown.
    lost: u64,
    /// Reallocs whose old block another thread got before they returned.
    divided: u64,
    /// Calls whose thread ended before they returned.
    cut_off: u64,
}

/// A call that has not returned.
#[derive(Clone, Copy)]
struct Open {
    function: Function,
    request: Request,
    /// Another thread got the old block in the meantime.
    old_is_gone: bool,
}

impl LineParser for Parser {
    fn line(&mut self, text: &[u8], _: u64, out: &mut Vec<Record>) -> Parse<()> {
        let line = line::parse(text)?;
        let thread = line.thread;
        match line.event {
            Event::Other => Ok(()),
            Event::Exited => {
                let open = self.open.remove(&thread).unwrap_or_default();
                self.cut_off += open.len() as u64;
                for open in open {
                    if let Request::Realloc { old, .. } = open.request {
                        self.reallocating.remove(&old);
                    }
                }
                Ok(())
            }
            Event::Call {
                function,
                arguments,
                result,
            } => {
                let inside_another = self.open.contains_key(&thread);
                let request = request(function, arguments)?;
                match result {
                    // Done by the call around it.
                    Some(result) if inside_another => value(result).map(drop),
                    Some(result) => self.ended(thread, function, request, result, out),
                    None => self.begun(thread, function, request, out),
                }
            }
            Event::Resumed { function, result } => {
                let open = self.resumed(thread, function)?;
                if self.open.contains_key(&thread) {
                    return value(result).map(drop);
                }
                if let Request::Realloc { old, .. } = open.request {
                    self.reallocating.remove(&old);
                }
                match open.request {
                    // Told when it began.
                    Request::Free { .. } => Ok(()),
                    Request::Realloc { size, .. } if open.old_is_gone => {
                        let request = Request::Malloc { size, result: 0 };
                        self.ended(thread, Function::Malloc, request, result, out)
                    }
                    request => self.ended(thread, function, request, result, out),
                }
            }
        }
    }

    fn rules(&self) -> Rules {
        Rules {
            unseen_calls: true,
            ..Rules::default()
        }
    }

    fn format(&self) -> Format {
        Format::Ltrace
    }

    fn finish(&mut self, closing: &mut Closing) {
        let mut warn = |count: u64, what: &str, why: &str| {
            if count > 0 {
                closing
                    .warnings
                    .push(format!("{} {why}", plural(count, what)));
            }
        };
        let still_open: usize = self.open.values().map(Vec::len).sum();
        warn(
            self.lost,
            "block",
            "of posix_memalign lost: ltrace does not show their pointers",
        );
        warn(
            self.divided,
            "realloc",
            "taken as a free and a malloc, since another thread got the old block in between",
        );
        warn(
            self.cut_off + still_open as u64,
            "call",
            "left out that had not returned when the log or the thread ended",
        );
    }
}

impl Parser {
    /// A call began and has not returned.
    fn begun(
        &mut self,
        thread: Option<u64>,
        function: Function,
        request: Request,
        out: &mut Vec<Record>,
    ) -> Parse<()> {
        if !self.open.contains_key(&thread) {
            if self.open.len() >= OPEN_THREADS_MAX {
                return Err("at most 100000 threads inside a call");
            }
            match request {
                // Others may get the block before this thread comes to say that it was freed.
                Request::Free { .. } => out.push(record(thread, request)),
                Request::Realloc { old, .. } if old != 0 => {
                    self.reallocating.insert(old, thread);
                }
                _ => {}
            }
        }
        let open = self.open.entry(thread).or_default();
        if open.len() >= DEPTH_MAX {
            return Err("at most 16 calls inside each other");
        }
        open.push(Open {
            function,
            request,
            old_is_gone: false,
        });
        Ok(())
    }

    /// The innermost call of a thread goes on.
    fn resumed(&mut self, thread: Option<u64>, function: Function) -> Parse<Open> {
        const EXPECTED: &str = "a call that began on a line before";
        let open = self.open.get_mut(&thread).ok_or(EXPECTED)?;
        let innermost = open
            .pop_if(|open| open.function == function)
            .ok_or(EXPECTED)?;
        if open.is_empty() {
            self.open.remove(&thread);
        }
        Ok(innermost)
    }

    /// A call returned.
    fn ended(
        &mut self,
        thread: Option<u64>,
        function: Function,
        mut request: Request,
        result: &[u8],
        out: &mut Vec<Record>,
    ) -> Parse<()> {
        if let Request::Free { .. } = request {
            out.push(record(thread, request));
            return Ok(());
        }
        let value = value(result)?;
        if function == Function::PosixMemalign {
            if value == 0 {
                self.lost += 1;
                return Ok(());
            }
            // It returns an error, and no block.
        } else {
            set_result(&mut request, value);
            self.divide(value, out);
        }
        out.push(record(thread, request));
        Ok(())
    }

    /// Another thread is inside a realloc of the block at this address, which must be gone then.
    fn divide(&mut self, address: u64, out: &mut Vec<Record>) {
        let Some(thread) = self.reallocating.remove(&address) else {
            return;
        };
        let open = self.open.get_mut(&thread).and_then(|open| open.first_mut());
        if let Some(open) = open {
            open.old_is_gone = true;
            self.divided += 1;
            let request = Request::Free {
                pointer: address,
                sized: false,
            };
            out.push(record(thread, request));
        }
    }
}

fn record(thread: Option<u64>, request: Request) -> Record {
    Record {
        thread,
        ..Record::of(request)
    }
}

/// The request of a call, without its result.
fn request(function: Function, arguments: &[u8]) -> Parse<Request> {
    let mut scan = Scan::new(arguments);
    let mut first = true;
    let mut next = || {
        if !std::mem::take(&mut first) && !scan.skip_all(b", ") {
            return Err("',' and another argument");
        }
        scan.number("a number")
    };
    let aligned = |function, alignment, size| Request::Aligned {
        function,
        alignment,
        size,
        result: 0,
    };
    let result = 0;
    Ok(match function {
        Function::Malloc | Function::Operator(Operator::New { aligned: false }) => {
            let size = next()?;
            Request::Malloc { size, result }
        }
        Function::Calloc => Request::Calloc {
            count: next()?,
            size: next()?,
            result,
        },
        Function::Realloc => Request::Realloc {
            old: next()?,
            size: next()?,
            result,
        },
        Function::Reallocarray => Request::Realloc {
            old: next()?,
            size: next()?.saturating_mul(next()?),
            result,
        },
        Function::Free => Request::Free {
            pointer: next()?,
            sized: false,
        },
        Function::Operator(Operator::Delete { sized }) => Request::Free {
            pointer: next()?,
            sized,
        },
        Function::Memalign => aligned(AlignedFunction::Memalign, next()?, next()?),
        Function::AlignedAlloc => aligned(AlignedFunction::AlignedAlloc, next()?, next()?),
        Function::Operator(Operator::New { aligned: true }) => {
            let size = next()?;
            aligned(AlignedFunction::AlignedAlloc, next()?, size)
        }
        Function::PosixMemalign => {
            next()?;
            aligned(AlignedFunction::PosixMemalign, next()?, next()?)
        }
        Function::Valloc => aligned(AlignedFunction::Valloc, PAGE_BYTES, next()?),
        Function::Pvalloc => aligned(AlignedFunction::Pvalloc, PAGE_BYTES, next()?),
    })
}

/// What a call returned, as a number; `<void>` is 0.
fn value(result: &[u8]) -> Parse<u64> {
    const EXPECTED: &str = "what was returned, 0x…, a number or <void>";
    if result == b"<void>" {
        return Ok(0);
    }
    let mut scan = Scan::new(result);
    let value = scan.number(EXPECTED)?;
    scan.end(EXPECTED)?;
    Ok(value)
}

fn set_result(request: &mut Request, value: u64) {
    match request {
        Request::Malloc { result, .. }
        | Request::Calloc { result, .. }
        | Request::Aligned { result, .. }
        | Request::Realloc { result, .. }
        | Request::ReallocEnd { result, .. } => *result = value,
        Request::Free { .. }
        | Request::ReallocBegin { .. }
        | Request::ThreadStart
        | Request::ThreadEnd
        | Request::Mark => {}
    }
}
