//! What a native file says of its trace beside the events: notes, warnings, how it was recorded, the
//! names of call sites. It passes from file to file unchanged, so that converting there and back
//! gives the same bytes.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::path::Path;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::stream::Ending;
use super::{Format, Origin, Recording};
use crate::error::{Error, Result};

/// Entries of a list: some million call sites are the most that a recording has. An entry of three
/// bytes in a file takes eight times as many in memory, so without this limit a small compressed file
/// could fill it.
const ENTRIES_MAX: usize = 1 << 22;

/// What a file keeps of an [`Ending`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Provenance<'e> {
    #[serde(default, skip_serializing_if = "is_none")]
    dropped_lines: u64,
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "limited"
    )]
    dropped_examples: Cow<'e, [String]>,
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "limited"
    )]
    notes: Cow<'e, [String]>,
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "limited"
    )]
    warnings: Cow<'e, [String]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recording: Option<Cow<'e, Recording>>,
    /// Names of call sites, by number.
    #[serde(
        default,
        skip_serializing_if = "is_empty",
        deserialize_with = "limited"
    )]
    sites: Cow<'e, [String]>,
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

// The reference to what it stands at is what serde hands over.
#[allow(clippy::ptr_arg)]
fn is_empty(texts: &Cow<[String]>) -> bool {
    texts.is_empty()
}

/// A list of texts, of at most [`ENTRIES_MAX`].
fn limited<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Cow<'static, [String]>, D::Error> {
    struct Texts;

    impl<'de> Visitor<'de> for Texts {
        type Value = Vec<String>;

        fn expecting(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
            write!(out, "a list of at most {ENTRIES_MAX} texts")
        }

        fn visit_seq<A: SeqAccess<'de>>(
            self,
            mut entries: A,
        ) -> std::result::Result<Self::Value, A::Error> {
            let mut texts = Vec::new();
            while let Some(text) = entries.next_element()? {
                if texts.len() == ENTRIES_MAX {
                    return Err(A::Error::invalid_length(texts.len() + 1, &self));
                }
                texts.push(text);
            }
            Ok(texts)
        }
    }

    deserializer.deserialize_seq(Texts).map(Cow::Owned)
}

impl<'e> Provenance<'e> {
    /// What a file made of this trace will say. The first native file that a trace passes into says
    /// where it came from; the later ones repeat that.
    pub(crate) fn of(ending: &'e Ending) -> Self {
        let origin = &ending.origin;
        let mut notes = Cow::Borrowed(origin.notes.as_slice());
        if let Some(note) = source(origin) {
            notes.to_mut().push(note);
        }
        Self {
            dropped_lines: origin.dropped_lines,
            dropped_examples: Cow::Borrowed(&origin.dropped_examples),
            notes,
            warnings: Cow::Borrowed(&origin.warnings),
            recording: origin.recording.as_ref().map(Cow::Borrowed),
            sites: Cow::Borrowed(&ending.site_names),
        }
    }

    /// As it stands in a file: one JSON object.
    ///
    /// # Errors
    /// A list has more entries than a reader would take.
    pub(crate) fn to_json(&self) -> Result<String> {
        let lists = [
            &self.dropped_examples,
            &self.notes,
            &self.warnings,
            &self.sites,
        ];
        if let Some(list) = lists.iter().find(|list| list.len() > ENTRIES_MAX) {
            return Err(Error::Failed(format!(
                "a trace's file holds at most {ENTRIES_MAX} names of call sites or notes, and this \
                 trace has {}",
                list.len()
            )));
        }
        Ok(serde_json::to_string(self).expect("texts and numbers only"))
    }

    /// What a JSON object in a file says.
    ///
    /// # Errors
    /// It is none, or not one of these; what is wrong, in words.
    pub(crate) fn parse(json: &[u8]) -> std::result::Result<Provenance<'static>, String> {
        serde_json::from_slice(json).map_err(|error| {
            // It quotes what was found, however long that is.
            const SHOWN_CHARS: usize = 200;
            let message = error.to_string();
            match message.chars().nth(SHOWN_CHARS) {
                None => message,
                Some(_) => {
                    let shown: String = message.chars().take(SHOWN_CHARS).collect();
                    let (line, column) = (error.line(), error.column());
                    format!("{shown}... at line {line} column {column}")
                }
            }
        })
    }

    /// The ending of a trace that stands in `path`, in a native format. What is known of the bytes is
    /// filled in by whoever reads them.
    pub(crate) fn into_ending(self, path: &Path, format: Format) -> Ending {
        Ending {
            origin: Origin {
                source: path.display().to_string(),
                format,
                compression: Vec::new(),
                sha256: String::new(),
                dropped_lines: self.dropped_lines,
                dropped_examples: self.dropped_examples.into_owned(),
                notes: self.notes.into_owned(),
                warnings: self.warnings.into_owned(),
                recording: self.recording.map(Cow::into_owned),
            },
            site_names: self.sites.into_owned(),
        }
    }
}

/// Where a trace came from that has not stood in a native file yet.
fn source(origin: &Origin) -> Option<String> {
    let name = match origin.format {
        Format::Binary | Format::Text => return None,
        _ if origin.recording.is_some() => return None,
        Format::Generated => return Some(format!("made by the generator {}", origin.source)),
        // As results files write it.
        format => serde_json::to_value(format).ok()?.as_str()?.to_owned(),
    };
    let name = name.replace('_', " ");
    Some(format!(
        "converted from {} ({name}, SHA-256 {})",
        origin.source, origin.sha256
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_in_short() {
        let long = format!("{{\"dropped_lines\":\"{}\"}}", "\u{e4}".repeat(10_000));
        for (json, said) in [
            ("{", "EOF while parsing an object at line 1 column 1"),
            (long.as_str(), "... at line 1 column 20019"),
        ] {
            let message = Provenance::parse(json.as_bytes()).unwrap_err();
            assert!(message.ends_with(said), "{message}");
            assert!(message.chars().count() < 250, "{message}");
        }
    }

    #[test]
    fn lists_have_an_end() {
        let json = |count: usize| format!("{{\"sites\":[{}\"\"]}}", "\"\",".repeat(count - 1));
        let read = |json: &str| serde_json::from_str::<Provenance>(json).map(|_| ());
        read(&json(ENTRIES_MAX)).expect("the limit itself is allowed");
        let message = read(&json(ENTRIES_MAX + 1)).unwrap_err().to_string();
        assert!(
            message.starts_with("invalid length 4194305, expected a list of at most 4194304 texts"),
            "{message}"
        );
        let mut ending = Ending {
            origin: Origin::generated("test", Vec::new()),
            site_names: vec![String::new(); ENTRIES_MAX],
        };
        Provenance::of(&ending).to_json().expect("likewise");
        ending.site_names.push(String::new());
        let message = Provenance::of(&ending).to_json().unwrap_err().to_string();
        assert!(message.ends_with("and this trace has 4194305"), "{message}");
    }
}
