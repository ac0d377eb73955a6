//! Finds the grammar of a file by the first line that belongs to one.

use super::ReadOptions;
use super::bytes;
use super::dropped::Dropped;
use super::fault::{Fault, show};
use super::grammar::{self, LineGrammar};
use super::reader::trimmed;
use super::refusal::ADVICE;
use crate::error::{Error, Result};
use crate::trace::input::Lines;

/// Strict reading looks this far for the first line of a known grammar.
const DETECTION_LINES: u64 = 1000;

/// Finds the grammar and leaves the line that told it to be read. Lines before it are bad, and are
/// added to `dropped` if one is lenient, unless the grammar has other lines between its own.
pub(super) fn detect(
    lines: &mut Lines,
    options: &ReadOptions,
    dropped: &mut Dropped,
) -> Result<&'static LineGrammar> {
    let mut first_bad = None;
    let mut found = None;
    let mut bad = Dropped::default();
    let mut given_up = false;
    while let Some(line) = lines.next()? {
        let text = trimmed(line.text, line.number);
        if text.is_empty() {
            continue;
        }
        if !line.overlong
            && let Some(grammar) = grammar::of(text, first_bad.is_none())
        {
            found = Some(grammar);
            break;
        }
        let fault = if line.overlong {
            Fault::Overlong
        } else {
            Fault::Unknown
        };
        let explain = || fault.explain(&show(text, line.overlong), |_| String::new());
        first_bad.get_or_insert_with(|| (line.number, explain()));
        if options.lenient {
            bad.add(line.number, explain);
        } else if line.number >= DETECTION_LINES {
            given_up = true;
            break;
        }
    }
    let path = lines.path();
    match (found, first_bad) {
        (Some(grammar), Some((number, explanation)))
            if !options.lenient && !grammar.foreign_lines =>
        {
            let LineGrammar { name, example, .. } = grammar;
            let message = format!("{explanation}, expected {name}, such as \"{example}\" {ADVICE}");
            Err(Error::line(path, number, message))
        }
        (Some(grammar), _) => {
            if !grammar.foreign_lines {
                *dropped = bad;
            }
            lines.unread();
            Ok(grammar)
        }
        (None, Some((number, explanation))) => {
            let known = known();
            let further = if given_up {
                format!("; {DETECTION_LINES} lines were looked at, --lenient looks at all")
            } else {
                String::new()
            };
            let message = format!(
                "not a trace: {explanation}; known are {known} (workloads/formats.md){further}"
            );
            Err(Error::line(path, number, message))
        }
        (None, None) if lines.number() == 0 => Err(Error::file(path, "the file is empty")),
        (None, None) => Err(Error::file(path, "the file holds blank lines only")),
    }
}

/// All families of formats in a sentence, each once: lines of text first.
fn known() -> String {
    let mut names = grammar::known();
    for family in bytes::families() {
        if !names.iter().any(|name| name == family) {
            names.push(family.to_owned());
        }
    }
    names.join(", ")
}
