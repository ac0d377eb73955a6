//! Reads one line of ltrace.

use super::super::operators::{Operator, operator};
use super::super::scan::{Parse, Scan, find};

/// What a line says, and of which thread.
pub(super) struct Line<'t> {
    /// Number of the thread, with `-f` only.
    pub(super) thread: Option<u64>,
    pub(super) event: Event<'t>,
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Event<'t> {
    /// A call of an allocator's function, with what it returned if it has.
    Call {
        function: Function,
        arguments: &'t [u8],
        result: Option<&'t [u8]>,
    },
    /// The rest of a call that began on an earlier line.
    Resumed {
        function: Function,
        result: &'t [u8],
    },
    /// The thread ended.
    Exited,
    /// Anything else: other functions, signals.
    Other,
}

/// A function of an allocator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Function {
    Malloc,
    Calloc,
    Realloc,
    Reallocarray,
    Free,
    Memalign,
    PosixMemalign,
    AlignedAlloc,
    Valloc,
    Pvalloc,
    Operator(Operator),
}

fn function(name: &[u8]) -> Option<Function> {
    Some(match name {
        b"malloc" => Function::Malloc,
        b"calloc" => Function::Calloc,
        b"realloc" => Function::Realloc,
        b"reallocarray" => Function::Reallocarray,
        b"free" | b"cfree" => Function::Free,
        b"memalign" => Function::Memalign,
        b"posix_memalign" => Function::PosixMemalign,
        b"aligned_alloc" => Function::AlignedAlloc,
        b"valloc" => Function::Valloc,
        b"pvalloc" => Function::Pvalloc,
        _ => Function::Operator(operator(name)?),
    })
}

/// Whether a line is ltrace's, of whatever function. The lines of logalloc look like calls as well,
/// but have no blank before `=`.
pub(super) fn recognises(text: &[u8]) -> bool {
    let (_, rest) = prefix(text);
    if let Some(rest) = rest.strip_prefix(b"+++ ") {
        return rest.starts_with(b"exited ") || rest.starts_with(b"killed ");
    }
    if rest.starts_with(b"<... ") {
        return find(rest, b" resumed>").is_some();
    }
    let Some((name, arguments)) = called(rest) else {
        return false;
    };
    !name.is_empty() && (is_unfinished(arguments) || returned(arguments).is_some())
}

pub(super) fn parse(text: &[u8]) -> Parse<Line<'_>> {
    let (thread, rest) = prefix(text);
    let event = event(rest)?;
    Ok(Line { thread, event })
}

fn event(rest: &[u8]) -> Parse<Event<'_>> {
    if rest.starts_with(b"+++ ") {
        return Ok(Event::Exited);
    }
    if let Some(rest) = rest.strip_prefix(b"<... ") {
        let mut scan = Scan::new(rest);
        let Some(function) = function(scan.word()) else {
            return Ok(Event::Other);
        };
        if !scan.skip_all(b" resumed>") {
            return Err("'resumed>' behind the function's name");
        }
        let result = returned(scan.rest())
            .ok_or("') = ' and what was returned")?
            .1;
        return Ok(Event::Resumed { function, result });
    }
    let Some((function, arguments)) =
        called(rest).and_then(|(name, arguments)| Some((function(name)?, arguments)))
    else {
        return Ok(Event::Other);
    };
    if is_unfinished(arguments) {
        return Ok(Event::Call {
            function,
            arguments,
            result: None,
        });
    }
    let (arguments, result) = returned(arguments).ok_or("') = ' and what was returned")?;
    Ok(Event::Call {
        function,
        arguments,
        result: Some(result),
    })
}

/// What stands before a call: `[pid N] ` or `N `, a time, and with `-i` where the call came from.
fn prefix(text: &[u8]) -> (Option<u64>, &[u8]) {
    let mut scan = Scan::new(text);
    let bracketed = scan.skip_all(b"[pid ");
    let before = scan;
    let mut thread = scan.decimal("").ok();
    if bracketed {
        scan.skip(b']');
    }
    if thread.is_none() || scan.peek() != Some(b' ') {
        scan = before;
        thread = None;
    }
    scan.blanks();
    if scan.at_digit() && scan.rest().contains(&b' ') {
        scan.token();
        scan.blanks();
    }
    if scan.rest().starts_with(b"[0x") {
        scan.token();
        scan.blanks();
    }
    (thread, scan.rest())
}

/// The name of the function called and what stands behind its '('. A module and `->` may come before.
fn called(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut scan = Scan::new(text);
    let name = scan.word();
    if scan.skip(b'(') {
        return Some((name, scan.rest()));
    }
    let mut rest = text;
    while let Some(at) = find(rest, b"->") {
        rest = &rest[at + 2..];
        let mut scan = Scan::new(rest);
        let name = scan.word();
        if !name.is_empty() && scan.skip(b'(') {
            return Some((name, scan.rest()));
        }
    }
    None
}

fn is_unfinished(text: &[u8]) -> bool {
    text.ends_with(b"<unfinished ...>") || text.ends_with(b"<no return ...>")
}

/// The arguments, and what stands behind `) = ` (with any number of blanks between).
fn returned(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.windows(3).rposition(|window| window == b" = ")?;
    let arguments = text[..at].trim_ascii_end().strip_suffix(b")")?;
    let mut scan = Scan::new(&text[at + 3..]);
    let result = scan.token();
    // With `-T`, what the call took stands behind it.
    Some((arguments, result))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_put_things_before_a_call() {
        for (line, thread) in [
            ("malloc(42) = 0x10", None),
            ("demo->malloc(42)            = 0x10", None),
            ("9669 demo->malloc(42) = 0x10", Some(9669)),
            ("9669 th reads:x->malloc(42) = 0x10", Some(9669)),
            ("[pid 9669] malloc(42) = 0x10", Some(9669)),
            ("12:34:56.789 malloc(42) = 0x10", None),
            (
                "9669 1795642686.829485 [0x55640803e227] demo->malloc(42) = 0x10 <0.000268>",
                Some(9669),
            ),
        ] {
            assert!(recognises(line.as_bytes()), "{line}");
            let parsed = parse(line.as_bytes()).unwrap();
            let expected = Event::Call {
                function: Function::Malloc,
                arguments: b"42",
                result: Some(b"0x10"),
            };
            assert_eq!((parsed.thread, parsed.event), (thread, expected), "{line}");
        }
    }

    #[test]
    fn other_lines() {
        let event = |line| parse(str::as_bytes(line)).map(|line| line.event);
        assert_eq!(event("puts(\"a->malloc(1) = 2\") = 18"), Ok(Event::Other));
        assert_eq!(event("--- SIGCHLD (Child exited) ---"), Ok(Event::Other));
        assert_eq!(event("7 +++ exited (status 0) +++"), Ok(Event::Exited));
        assert_eq!(event("7 <... strdup resumed> ) = 0x10"), Ok(Event::Other));
        assert_eq!(
            event("7 <... free resumed> ) = <void>"),
            Ok(Event::Resumed {
                function: Function::Free,
                result: b"<void>"
            })
        );
        assert_eq!(event("malloc(42"), Err("') = ' and what was returned"));
        assert!(!recognises(b"1 1 malloc(42)=#1"));
        assert!(!recognises(b"some output"));
        assert!(!recognises(b"1 free(#1)"));
    }
}
