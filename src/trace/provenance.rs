//! What a native file says of its trace beside the events: notes, warnings, how it was recorded, the
//! names of call sites. It passes from file to file unchanged, so that converting there and back
//! gives the same bytes.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::stream::Ending;
use super::{Format, Origin, Recording};

/// What a file keeps of an [`Ending`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Provenance<'e> {
    #[serde(default, skip_serializing_if = "is_none")]
    dropped_lines: u64,
    #[serde(default, skip_serializing_if = "is_empty")]
    dropped_examples: Cow<'e, [String]>,
    #[serde(default, skip_serializing_if = "is_empty")]
    notes: Cow<'e, [String]>,
    #[serde(default, skip_serializing_if = "is_empty")]
    warnings: Cow<'e, [String]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recording: Option<Cow<'e, Recording>>,
    /// Names of call sites, by number.
    #[serde(default, skip_serializing_if = "is_empty")]
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
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers only")
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
