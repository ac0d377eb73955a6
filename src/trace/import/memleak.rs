//! What bcc's `memleak -t` prints of each call, and what its successor writes into the kernel's trace
//! pipe.
//!
//! ```text
//! (b'TASK', THREAD, CPU, b'FLAGS', SECONDS, b'alloc exited, size = SIZE, result = ADDRESS')
//! (b'TASK', THREAD, CPU, b'FLAGS', SECONDS, b'free entered, address = ADDRESS, size = SIZE')
//! TASK-THREAD [CPU] FLAGS SECONDS: bpf_trace_printk: alloc exited, size = SIZE, result = ADDRESS
//! ```
//! ADDRESS is hexadecimal without `0x`. Lines with "alloc entered" say nothing more, and what memleak
//! prints between them is skipped.

use super::grammar::{Closing, LineGrammar, LineParser};
use super::intake::Rules;
use super::scan::{Parse, Scan, find};
use super::{Record, Request};
use crate::trace::{Format, plural};

/// The grammar.
pub(super) static GRAMMAR: LineGrammar = LineGrammar {
    name: "bcc memleak",
    example: "(b'app', 5193, 1, b'....', 71.25, b'alloc exited, size = 16, result = 948cd0')",
    by_hand: false,
    made_with: "memleak -t -p PID",
    recognises: |text, _| message(text).is_some(),
    processes: false,
    foreign_lines: true,
    late_frees: false,
    notes: &[
        "memleak has no alignments; calloc is an allocation of the product, realloc a free and an \
         allocation",
        "memleak writes mmap and munmap like malloc and free, and no free of what it did not see \
         allocated",
    ],
    parser: |_| Box::new(Parser::default()),
};

#[derive(Default)]
struct Parser {
    /// Events that the kernel dropped, as it says between the lines.
    lost: u64,
}

impl LineParser for Parser {
    fn line(&mut self, text: &[u8], _: u64, out: &mut Vec<Record>) -> Parse<()> {
        let Some((before, message)) = message(text) else {
            self.lost = self.lost.saturating_add(lost(text));
            return Ok(());
        };
        let mut scan = Scan::new(message);
        let request = if scan.skip_all(b"alloc entered, size = ") {
            return Ok(());
        } else if scan.skip_all(b"alloc exited, size = ") {
            let size = scan.decimal("a size, a decimal number")?;
            if !scan.skip_all(b", result = ") {
                return Err("', result = ' and an address");
            }
            let result = scan.hexadecimal("an address, hexadecimal")?;
            Request::Malloc { size, result }
        } else if scan.skip_all(b"free entered, address = ") {
            let pointer = scan.hexadecimal("an address, hexadecimal")?;
            Request::Free {
                pointer,
                sized: false,
            }
        } else {
            return Err("alloc entered, alloc exited or free entered");
        };
        let (thread, time_ns) = caller(before)?;
        out.push(Record {
            thread: Some(thread),
            time_ns: Some(time_ns),
            ..Record::of(request)
        });
        Ok(())
    }

    /// What is unmapped piece by piece is not told as freed; and it can look at samples only.
    fn rules(&self) -> Rules {
        Rules {
            unseen_calls: true,
            ..Rules::default()
        }
    }

    fn format(&self) -> Format {
        Format::Memleak
    }

    fn finish(&mut self, closing: &mut Closing) {
        if self.lost > 0 {
            let events = plural(self.lost, "event");
            closing
                .warnings
                .push(format!("{events} lost by the kernel's trace buffer"));
        }
    }
}

/// What memleak says of a call, and what stands before it.
fn message(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let starts: [&[u8]; 3] = [
        b"alloc exited, size = ",
        b"alloc entered, size = ",
        b"free entered, address = ",
    ];
    let at = starts.iter().find_map(|start| find(text, start))?;
    Some(text.split_at(at))
}

/// `CPU:3 [LOST 12 EVENTS]`
fn lost(text: &[u8]) -> u64 {
    let Some(at) = find(text, b"[LOST ") else {
        return 0;
    };
    let mut scan = Scan::new(&text[at + b"[LOST ".len()..]);
    scan.decimal("").unwrap_or(0)
}

/// The thread and the moment, from what stands before the message.
fn caller(before: &[u8]) -> Parse<(u64, u64)> {
    const EXPECTED: &str = "(task, thread, cpu, flags, seconds, before the message";
    const EXPECTED_PIPE: &str = "task-thread [cpu] flags seconds: before the message";
    if before.trim_ascii_start().starts_with(b"(") {
        // The task's name may hold anything: the fields are read from the end.
        let mut fields = before.rsplit(|&byte| byte == b',');
        let _quote = fields.next();
        let (seconds, _flags, _cpu, thread) =
            (fields.next(), fields.next(), fields.next(), fields.next());
        let (Some(seconds), Some(thread)) = (seconds, thread) else {
            return Err(EXPECTED);
        };
        return Ok((
            Scan::new(thread.trim_ascii()).decimal(EXPECTED)?,
            nanoseconds(seconds.trim_ascii(), EXPECTED)?,
        ));
    }
    let mut words = before
        .rsplit(|&byte| byte == b' ')
        .filter(|word| !word.is_empty());
    let is_time =
        |word: &&[u8]| word.first().is_some_and(u8::is_ascii_digit) && word.contains(&b'.');
    let seconds = words.find(is_time);
    let seconds = seconds.ok_or(EXPECTED_PIPE)?;
    let task = words.find(|word| word.first() == Some(&b'['));
    let task = task.and(words.next()).ok_or(EXPECTED_PIPE)?;
    let thread = task.rsplit(|&byte| byte == b'-').next().unwrap_or_default();
    let seconds = seconds.strip_suffix(b":").ok_or(EXPECTED_PIPE)?;
    Ok((
        Scan::new(thread).decimal(EXPECTED_PIPE)?,
        nanoseconds(seconds, EXPECTED_PIPE)?,
    ))
}

/// A decimal fraction of seconds in nanoseconds.
fn nanoseconds(text: &[u8], expected: &'static str) -> Parse<u64> {
    let mut scan = Scan::new(text);
    let seconds = scan.decimal(expected)?;
    let mut nanoseconds = seconds.checked_mul(1_000_000_000).ok_or(expected)?;
    if scan.skip(b'.') {
        let mut unit = 100_000_000;
        for &digit in scan.rest() {
            if !digit.is_ascii_digit() {
                return Err(expected);
            }
            nanoseconds = nanoseconds
                .checked_add(u64::from(digit - b'0') * unit)
                .ok_or(expected)?;
            unit /= 10;
        }
        return Ok(nanoseconds);
    }
    scan.end(expected)?;
    Ok(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_called_and_when() {
        let expected = Ok((5193, 71_250_000_001));
        for before in [
            "(b'app', 5193, 1, b'....', 71.250000001, b'",
            "('a, (b', 5193, 1, 'd...1', 71.250000001, '",
            "  my app-2-5193    [001] ..s31 71.250000001: bpf_trace_printk: ",
            "app-5193 [001] d... 71.250000001: 0x00000001: ",
        ] {
            assert_eq!(caller(before.as_bytes()), expected, "{before}");
        }
        for before in ["", "(", "(a, b, c, d, e", "x", "[1] 7:", "a-b [1] ... 7: "] {
            assert!(caller(before.as_bytes()).is_err(), "{before}");
        }
        assert_eq!(nanoseconds(b"7", "x"), Ok(7_000_000_000));
        assert_eq!(nanoseconds(b"7.1234567899", "x"), Ok(7_123_456_789));
        assert_eq!(nanoseconds(b"18446744074", "x"), Err("x"));
        assert_eq!(nanoseconds(b"7.1x", "x"), Err("x"));
    }

    #[test]
    fn the_kernel_tells_what_it_lost() {
        assert_eq!(lost(b"CPU:3 [LOST 12 EVENTS]"), 12);
        assert_eq!(lost(b"[LOST many]"), 0);
        assert_eq!(lost(b"anything"), 0);
    }
}
