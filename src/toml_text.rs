//! Reading TOML that people write: every mistake is one line that says where it is, and for a key or
//! word that is not known, which one may have been meant.

#![forbid(unsafe_code)]

use std::path::Path;

use serde::de::DeserializeOwned;
use toml::de::DeTable;

pub(crate) use section::Section;

use crate::error::{Error, Result};

mod section;

/// Of a longer message, which quotes a word without an end, so much is shown.
const MESSAGE_LETTERS_MAX: usize = 500;

/// Parses a file's text; `path` is for messages.
///
/// # Errors
/// The line of the first mistake, and what it is.
pub(crate) fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let message = explained(error.message(), &text[span.clone()], &[]);
        Error::line(path, line_at(text, span.start), message)
    })
}

/// The line, from 1, of a key below the tables named before it; if there is no such key, of the nearest
/// table above that is there.
pub(crate) fn line_of(text: &str, keys: &[&str]) -> u64 {
    let Ok(file) = DeTable::parse(text) else {
        return 1;
    };
    let (mut table, mut line) = (file.get_ref(), 1);
    for key in keys {
        let Some((place, value)) = table.iter().find(|(own, _)| own.get_ref() == key) else {
            break;
        };
        line = line_at(text, place.span().start);
        match value.get_ref().as_table() {
            Some(inner) => table = inner,
            None => break,
        }
    }
    line
}

/// The known word that is nearest to one that is not, if any is near.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// As much alike as a word and itself with two letters of six swapped or one of four wrong.
    const NEAR: f64 = 0.7;
    let likeness = |candidate: &&str| strsim::normalized_damerau_levenshtein(word, candidate);
    known
        .into_iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .filter(|best| likeness(best) >= NEAR)
}

/// The parser's message in the words of a user: "unknown field `a`, expected one of `b`, `c`" is not
/// a field to whoever wrote the file. `place` is what stands where the mistake is; `also` are keys
/// that are known beside those of the message. One line that a terminal can show, whatever the file
/// holds: it may be no text at all.
fn explained(message: &str, place: &str, also: &[&'static str]) -> String {
    let message = in_words(message, place, also);
    let mut line = String::with_capacity(message.len());
    for letter in message.chars().take(MESSAGE_LETTERS_MAX) {
        match letter.is_control() {
            true => line.extend(letter.escape_debug()),
            false => line.push(letter),
        }
    }
    line
}

fn in_words(message: &str, place: &str, also: &[&'static str]) -> String {
    const UNEXPECTED: &str = "unexpected keys in table: ";
    const AVAILABLE: &str = ", available keys: ";
    let message = message.lines().collect::<Vec<_>>().join(", ");
    if let Some(field) = message.strip_prefix("missing field ") {
        return format!("missing key {field}");
    }
    if message == "expected empty table" {
        return "no further key is known here".to_owned();
    }
    if let Some((_, known)) = message
        .strip_prefix(UNEXPECTED)
        .and_then(|rest| rest.split_once(AVAILABLE))
    {
        let known: Vec<&str> = known.split(", ").chain(also.iter().copied()).collect();
        return unknown("key", place, &known);
    }
    let (what, rest) = if let Some(rest) = message.strip_prefix("unknown field ") {
        ("key", rest)
    } else if let Some(rest) = message.strip_prefix("unknown variant ") {
        ("word", rest)
    } else {
        return message;
    };
    let mut words = quoted(rest);
    let Some(word) = words.next() else {
        return message.clone();
    };
    let mut known: Vec<&str> = words.collect();
    if what == "key" {
        known.extend(also);
    }
    unknown(what, word, &known)
}

fn unknown(what: &str, word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(meant) => format!("unknown {what} `{word}`; did you mean `{meant}`?"),
        None if known.is_empty() => format!("unknown {what} `{word}`; there is none here"),
        None => format!("unknown {what} `{word}`; known: {}", known.join(", ")),
    }
}

/// The words in backticks.
fn quoted(message: &str) -> impl Iterator<Item = &str> {
    message.split('`').skip(1).step_by(2)
}

/// The number of the line that holds a byte of the text.
pub(crate) fn line_at(text: &str, place: usize) -> u64 {
    let before = &text.as_bytes()[..place.min(text.len())];
    before.iter().filter(|&&byte| byte == b'\n').count() as u64 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only what cannot be read into it is tested")]
    struct Example {
        command: String,
        kind: Option<Kind>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Kind {
        Trace,
        Synthetic,
    }

    #[test]
    fn mistakes_name_their_line_and_the_nearest_word() {
        for (text, expected) in [
            (
                "command = 'x'\n\ncommnad = 'y'",
                "d.toml:3: unknown key `commnad`; did you mean `command`?",
            ),
            (
                "zebra = 1",
                "d.toml:1: unknown key `zebra`; known: command, kind",
            ),
            (
                "command = 'x'\nkind = 'sinthetic'",
                "d.toml:2: unknown word `sinthetic`; did you mean `synthetic`?",
            ),
            ("", "d.toml:1: missing key `command`"),
            (
                "command = 'x'\nkind = 'a\tb'",
                "d.toml:2: unknown word `a\\tb`; known: trace, synthetic",
            ),
        ] {
            let error = parse::<Example>(Path::new("d.toml"), text).expect_err(text);
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn a_key_is_found_whatever_stands_around_it() {
        let text = "# outer\nouter = 1 # inner\n[ table ] # note\n'inner' = 2\ndeep.er = 3\n";
        for (keys, line) in [
            (&["outer"][..], 2),
            (&["table"], 3),
            (&["table", "inner"], 4),
            (&["table", "deep", "er"], 5),
            (&["table", "none"], 3),
            (&["none"], 1),
        ] {
            assert_eq!(line_of(text, keys), line, "{keys:?}");
        }
    }
}
