//! What holds for every importer.

use mymalloc::trace::{Operation, OutputFormat, ReadOptions, Trace, read, write};
use proptest::prelude::*;

use super::told::{LENIENT, STRICT, fixture, outcome, strict};

/// Every fixture.
fn names() -> Vec<String> {
    let folder = std::fs::read_dir(fixture("")).unwrap();
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".txt")).collect();
    names.sort();
    names
}

#[test]
fn every_grammar_has_a_fixture_that_is_read_strictly() {
    let mut formats: Vec<String> = names()
        .iter()
        .map(|name| format!("{:?}", strict(name).origin().format))
        .collect();
    formats.dedup();
    for format in [
        "Mtrace",
        "Valgrind",
        "Ltrace",
        "DjDump",
        "ChattymallocText",
        "Tralloc",
        "Memleak",
        "Tags",
    ] {
        assert!(formats.contains(&format.to_owned()), "{format}");
    }
}

#[test]
fn what_the_source_cannot_tell_is_noted() {
    for name in names() {
        let trace = strict(&name);
        assert!(!trace.origin().notes.is_empty(), "{name}");
        assert_eq!(trace.origin().dropped_lines, 0, "{name}");
        let lenient = read(&fixture(&name), &LENIENT).unwrap();
        assert_eq!(
            lenient.events(),
            trace.events(),
            "{name}: nothing to be lenient about"
        );
        assert_eq!(lenient.origin(), trace.origin(), "{name}");
    }
}

/// What the native text can tell of an event.
fn kept(operation: Operation) -> Option<Operation> {
    match operation {
        Operation::FreeUnseen | Operation::ThreadStart | Operation::ThreadEnd => None,
        Operation::Free { block, .. } => Some(Operation::Free {
            block,
            sized: false,
        }),
        other => Some(other),
    }
}

#[test]
fn written_as_native_text_and_read_again_they_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for name in names() {
        let trace = strict(&name);
        let path = folder.path().join(&name);
        let losses = write(&trace, &path, OutputFormat::Text).unwrap();
        let back = read(&path, &STRICT).unwrap();
        let operations = |trace: &Trace| -> Vec<_> {
            let events = trace.events().iter();
            let kept = |operation| match losses.is_empty() {
                true => Some(operation),
                false => kept(operation),
            };
            events
                .filter_map(|event| Some((event.thread, kept(event.operation)?)))
                .collect()
        };
        assert_eq!(operations(&back), operations(&trace), "{name}");
    }
}

#[test]
fn the_list_of_known_grammars_is_no_novel() {
    let message = outcome(b"#include <stdio.h>\n", &STRICT).unwrap_err();
    for name in [
        "mtrace",
        "valgrind",
        "ltrace",
        "memleak",
        "tags (\"Allocate 7 512\")",
    ] {
        assert!(message.contains(name), "{message}");
    }
    assert!(message.len() < 500, "{message}");
}

#[test]
fn other_grammars_are_not_taken_for_these() {
    // ltrace's and logalloc's calls look alike, and so do Android's and chattymalloc's lines.
    for (text, expected) in [
        ("1 1 malloc(8)=#1\n", "LogallocMunged"),
        ("1 malloc(8)=0x10\n", "LogallocRaw"),
        ("1 malloc(8) = 0x10\n", "Ltrace"),
        ("1: malloc 0x10 8\n", "Android"),
        ("1: malloc 0x10 8 100 200\n", "Android"),
        ("1: malloc 0x10 8 0 200ns\n", "ChattymallocText"),
        ("1\n1\na 0 8\n", "Rep"),
        ("+ 0x10 0x8\n", "Mtrace"),
    ] {
        let trace = outcome(text.as_bytes(), &STRICT).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(format!("{:?}", trace.origin().format), expected, "{text}");
    }
}

/// One change of a text; what it means depends on the text.
#[derive(Clone, Debug)]
enum Change {
    Byte(usize, u8),
    Drop(usize),
    Double(usize),
    Swap(usize, usize),
    Cut(usize),
    Join(usize),
}

fn changes() -> impl Strategy<Value = Change> {
    let at = any::<u16>().prop_map(usize::from);
    prop_oneof![
        4 => (at.clone(), prop_oneof![any::<u8>(), Just(b' '), Just(b'('), 0x30_u8..0x3a])
            .prop_map(|(at, byte)| Change::Byte(at, byte)),
        1 => at.clone().prop_map(Change::Drop),
        1 => at.clone().prop_map(Change::Double),
        1 => (at.clone(), at.clone()).prop_map(|(a, b)| Change::Swap(a, b)),
        1 => at.clone().prop_map(Change::Cut),
        1 => at.prop_map(Change::Join),
    ]
}

fn changed(text: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut text = text.to_vec();
    for change in changes {
        let mut lines: Vec<&[u8]> = text.split_inclusive(|&byte| byte == b'\n').collect();
        let (bytes, count) = (text.len(), lines.len());
        if bytes == 0 {
            break;
        }
        match *change {
            Change::Byte(at, byte) => {
                text[at % bytes] = byte;
                continue;
            }
            Change::Cut(at) => {
                text.truncate(at % bytes);
                continue;
            }
            Change::Join(at) => {
                let line = lines[at % count].trim_ascii_end();
                lines[at % count] = line;
            }
            Change::Drop(at) => {
                lines.remove(at % count);
            }
            Change::Double(at) => lines.insert(at % count, lines[at % count]),
            Change::Swap(a, b) => lines.swap(a % count, b % count),
        }
        text = lines.concat();
    }
    text
}

/// Whatever stands in a file, it is read or refused with one line that names the file.
fn assert_survives(content: &[u8], options: &ReadOptions) {
    if let Err(message) = outcome(content, options) {
        assert!(message.starts_with("t:"), "{message}");
        assert!(!message.chars().any(char::is_control), "{message:?}");
        assert!(message.len() < 600, "{message}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn altered_files_are_read_or_refused(
        changes in proptest::collection::vec(changes(), 1..12),
    ) {
        for name in names() {
            let text = std::fs::read(fixture(&name)).unwrap();
            let text = changed(&text, &changes);
            assert_survives(&text, &STRICT);
            assert_survives(&text, &LENIENT);
        }
    }
}
