//! Formats that are no lines of text, or begin with a line that says what they are: each is told by
//! its first bytes and reads the rest itself.

use super::{
    ReadOptions, alk, bytehound, chattymalloc_records, dj_trace, dj_workload, native, protobuf,
};
use crate::error::Result;
use crate::trace::binary;
use crate::trace::input::Lines;
use crate::trace::stream::{Ending, EventSink};

/// A format of bytes.
pub(super) struct ByteFormat {
    /// Its family in a word or two, for whoever has a file of none: the message names all of them.
    pub(super) family: &'static str,
    /// Whether a file is of this format, by its first bytes: [`HEAD_BYTES`], or all there are.
    pub(super) recognises: fn(&[u8]) -> bool,
    /// Reads it from its first byte on. The origin's compression and hash are filled in later.
    pub(super) read: fn(&mut Lines, &ReadOptions, &mut dyn EventSink) -> Result<Ending>,
}

/// How much of a file is looked at to tell its format.
pub(super) const HEAD_BYTES: usize = 16 * 1024;

/// All of them; the first that recognises a file reads it. Those without a magic number look at all
/// of the head, and none takes another's files.
const FORMATS: &[ByteFormat] = &[
    super::wire::FORMAT,
    ByteFormat {
        family: "mymalloc's own",
        recognises: binary::recognises,
        read: binary::read,
    },
    ByteFormat {
        family: "mymalloc's own",
        recognises: native::recognises,
        read: native::read,
    },
    ByteFormat {
        family: "dj trace",
        recognises: dj_trace::recognises,
        read: dj_trace::read,
    },
    ByteFormat {
        family: ".wl",
        recognises: dj_workload::recognises,
        read: dj_workload::read,
    },
    ByteFormat {
        family: "bytehound",
        recognises: bytehound::recognises,
        read: bytehound::read,
    },
    ByteFormat {
        family: "protobuf",
        recognises: protobuf::recognises,
        read: protobuf::read,
    },
    ByteFormat {
        family: "alk",
        recognises: alk::recognises,
        read: alk::read,
    },
    ByteFormat {
        family: "chattymalloc",
        recognises: chattymalloc_records::recognises,
        read: chattymalloc_records::read,
    },
];

/// The format of a file that begins with `head`, if it is none of lines.
pub(super) fn of(head: &[u8]) -> Option<&'static ByteFormat> {
    FORMATS.iter().find(|format| (format.recognises)(head))
}

/// The families of all of them; some have several formats.
pub(super) fn families() -> impl Iterator<Item = &'static str> {
    FORMATS.iter().map(|format| format.family)
}

#[cfg(test)]
#[path = "../../../tests/importers/fixtures.rs"]
mod fixtures;

#[cfg(test)]
mod tests {
    use super::super::grammar;
    use super::*;

    type Recogniser = fn(&[u8]) -> bool;

    /// By the names that the fixtures have.
    const RECOGNISERS: [(&str, Recogniser); 6] = [
        ("dj trace", dj_trace::recognises),
        ("dj workload", dj_workload::recognises),
        ("bytehound", bytehound::recognises),
        ("protobuf", protobuf::recognises),
        ("alk", alk::recognises),
        ("chattymalloc", chattymalloc_records::recognises),
    ];

    fn recognised(head: &[u8]) -> Vec<&'static str> {
        let head = &head[..head.len().min(HEAD_BYTES)];
        let all = RECOGNISERS.iter();
        all.filter(|(_, recognises)| recognises(head))
            .map(|&(name, _)| name)
            .collect()
    }

    #[test]
    fn every_format_recognises_its_own_files_alone() {
        for fixture in fixtures::all() {
            assert_eq!(recognised(&fixture.bytes), [fixture.name]);
            // A cut file is recognised as itself, or not at all.
            for length in 0..fixture.bytes.len() {
                let found = recognised(&fixture.bytes[..length]);
                assert!(
                    found.iter().all(|&name| name == fixture.name),
                    "{} of {length} bytes is taken for {found:?}",
                    fixture.name
                );
            }
            let first_line = fixture.bytes.split(|&byte| byte == b'\n').next();
            let line = first_line.unwrap_or_default().trim_ascii_end();
            assert!(line.is_empty() || grammar::of(line, true).is_none());
        }
    }

    #[test]
    fn no_format_takes_text_or_zeros_for_its_own() {
        let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        let mut texts = 0;
        for folder in [data.clone(), data.join("heaptrack")] {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    let content = std::fs::read(&path).unwrap();
                    assert_eq!(recognised(&content), [""; 0], "{}", path.display());
                    texts += 1;
                }
            }
        }
        assert!(texts > 10);
        for byte in 0..=255 {
            for length in [1, 8, 24, 40, 45, 48, 64, 90, 128, 4096, HEAD_BYTES] {
                assert_eq!(recognised(&vec![byte; length]), [""; 0], "{byte} {length}");
            }
        }
        assert_eq!(recognised(b""), [""; 0]);
        assert_eq!(
            recognised(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"),
            [""; 0]
        );
    }
}
