//! Reading TOML that people write: every mistake is one line that says where it is, and for a key or
//! word that is not known, which one may have been meant.

#![forbid(unsafe_code)]

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Parses a file's text; `path` is for messages.
///
/// # Errors
/// The line of the first mistake, and what it is.
pub(crate) fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| {
        let place = error.span().map_or(0, |span| span.start);
        Error::line(path, line_at(text, place), explained(error.message()))
    })
}

/// Understands a table of a file that was parsed as far as the table. The file is read again only to
/// find the line of a mistake.
///
/// # Errors
/// As [`parse`]; without a line where the message names no key that stands in the table.
pub(crate) fn understand<T: DeserializeOwned>(
    path: &Path,
    name: &str,
    table: toml::Table,
) -> Result<T> {
    table.try_into().map_err(|error: toml::de::Error| {
        let message = format!("[{name}]: {}", explained(error.message()));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let word = quoted(error.message()).next();
        match word.and_then(|word| line_in_table(&text, name, word)) {
            Some(line) => Error::line(path, line, message),
            None => Error::file(path, message),
        }
    })
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
/// a field to whoever wrote the file.
fn explained(message: &str) -> String {
    let message = message.lines().collect::<Vec<_>>().join(", ");
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
    let known: Vec<&str> = words.collect();
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

/// The line, from 1, in which a key or value stands as a whole word below `[table]`.
fn line_in_table(text: &str, table: &str, word: &str) -> Option<u64> {
    let header = format!("[{table}]");
    let start = text.lines().position(|line| line.trim() == header)?;
    let is_word = |line: &str| {
        let letter = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let code = line.split('#').next().unwrap_or(line);
        code.split(|c| !letter(c)).any(|part| part == word)
    };
    let found = text.lines().skip(start + 1).position(is_word)?;
    Some((start + 1 + found) as u64 + 1)
}

/// The number of the line that holds a byte of the text.
fn line_at(text: &str, place: usize) -> u64 {
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
            ("", "d.toml:1: missing field `command`"),
        ] {
            let error = parse::<Example>(Path::new("d.toml"), text).expect_err(text);
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn mistakes_in_a_table_name_their_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("d.toml");
        let text = "commnad = 'above' # commnad\n[inner]\n# commnad\ncommnad = 'x'\n";
        std::fs::write(&path, text).expect("ours");
        let mut file: toml::Table = text.parse().expect("TOML");
        let inner = file.remove("inner").expect("there");
        let table = inner.as_table().expect("a table").clone();
        let error = understand::<Example>(&path, "inner", table).expect_err("misspelt");
        let text = error.to_string();
        let expected = "d.toml:4: [inner]: unknown key `commnad`; did you mean `command`?";
        assert!(text.ends_with(expected), "{text}");
    }
}
