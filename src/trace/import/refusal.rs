//! The error for a bad line. Looks on in the file for what helps to understand it.

use super::Record;
use super::fault::Fault;
use super::grammar::LineParser;
use super::processes::Processes;
use super::reader::trimmed;
use crate::error::Error;
use crate::trace::input::Lines;

/// How far on an error looks for the line that allocates the pointer it is about.
const LOOKAHEAD_LINES: u64 = 4_000_000;

/// The same for a pointer that was live before: a later line may well use the address afresh.
const LOOKAHEAD_LINES_FREED: u64 = 1000;

/// Behind every error that `--lenient` would turn into a dropped line.
pub(super) const ADVICE: &str = "(--lenient drops such lines)";

/// The same for a slot that no line has assigned.
const ADVICE_SLOT: &str = "(--lenient takes such slots as null)";

/// Refuses line `number`, behind which `lines` stands. The parser is of no use afterwards.
pub(super) fn refuse(
    fault: Fault,
    explanation: String,
    number: u64,
    lines: &mut Lines,
    parser: &mut dyn LineParser,
    processes: &mut Processes,
) -> Error {
    let message = match fault {
        Fault::NotLive {
            pointer,
            freed_line,
            ..
        } => {
            let unassigned = parser.unassigned_is_null() && freed_line.is_none();
            let advice = if unassigned { ADVICE_SLOT } else { ADVICE };
            let explanation = if unassigned {
                explanation.replace("not allocated before", "not assigned before this line")
            } else {
                explanation
            };
            let within = match freed_line {
                Some(_) => LOOKAHEAD_LINES_FREED,
                None => LOOKAHEAD_LINES,
            };
            match allocation_after(lines, pointer, within, parser, processes) {
                Some((later, Some(thread))) => format!(
                    "{explanation}; thread {thread} allocates it later, on line {later}: the \
                     lines are out of order {advice}"
                ),
                Some((later, None)) => format!(
                    "{explanation}; it is allocated later, on line {later}: the lines are out \
                     of order {advice}"
                ),
                None => format!("{explanation} {advice}"),
            }
        }
        Fault::OtherProcess(_) => {
            count_processes(lines, parser, processes);
            let named = processes.named(true);
            format!("the log holds several processes ({named}): choose one with --process PID")
        }
        Fault::Full => explanation,
        _ => format!("{explanation} {ADVICE}"),
    };
    Error::line(lines.path(), number, message)
}

/// The line and thread of the next allocation that returns `pointer`.
fn allocation_after(
    lines: &mut Lines,
    pointer: u64,
    within: u64,
    parser: &mut dyn LineParser,
    processes: &Processes,
) -> Option<(u64, Option<u64>)> {
    let last = lines.number().saturating_add(within);
    let mut records = Vec::new();
    while let Some(number) = next_records(lines, last, parser, &mut records) {
        let allocates = |record: &&Record| {
            processes.would_keep(record.process) && record.request.result() == Some(pointer)
        };
        if let Some(record) = records.iter().find(allocates) {
            return Some((number, record.thread));
        }
    }
    None
}

fn count_processes(lines: &mut Lines, parser: &mut dyn LineParser, processes: &mut Processes) {
    let last = lines.number().saturating_add(LOOKAHEAD_LINES);
    let mut records = Vec::new();
    while next_records(lines, last, parser, &mut records).is_some() {
        for process in records.iter().filter_map(|record| record.process) {
            if !processes.would_keep(Some(process)) && processes.count(process) {
                return;
            }
        }
    }
}

/// The records of the next line that can be parsed, and its number.
fn next_records(
    lines: &mut Lines,
    last: u64,
    parser: &mut dyn LineParser,
    records: &mut Vec<Record>,
) -> Option<u64> {
    records.clear();
    while let Ok(Some(line)) = lines.next() {
        if line.number > last {
            return None;
        }
        let text = trimmed(line.text, line.number);
        if !text.is_empty() && !line.overlong && parser.line(text, line.number, records).is_ok() {
            return Some(line.number);
        }
    }
    None
}
