//! The binary formats of other tools: what is read of files that hold every kind of record, and that
//! cut, altered and hostile files are refused in one clear line, or read as far as they are whole.

#![cfg(feature = "suite")]
#![forbid(unsafe_code)]

#[path = "importers/common.rs"]
mod common;
#[path = "importers/fixtures.rs"]
mod fixtures;

use common::{
    LENIENT, STRICT, aligned, calloc, event, failed, free, malloc, null, outcome, realloc,
};
use fixtures::Fixture;
use mymalloc::trace::{AlignedFunction, Event, Format, Operation, OutputFormat, read, write};

use AlignedFunction::{AlignedAlloc, Memalign, PosixMemalign, Pvalloc, Valloc};

/// The format and events of a fixture, by hand.
fn expected(name: &str) -> (Format, Vec<Event>) {
    let end = Operation::ThreadEnd;
    match name {
        "dj trace" => (
            Format::DjTrace,
            vec![
                event(0, malloc(0, 100)),
                event(0, calloc(1, 1, 96)),
                event(0, realloc(None, 2, 50)),
                event(0, realloc(Some(2), 3, 60)),
                event(0, free(0)),
                event(1, aligned(Memalign, 4, 6, 200)),
                event(1, aligned(Valloc, 5, 12, 10)),
                event(1, aligned(Pvalloc, 6, 12, 20)),
                event(1, aligned(PosixMemalign, 7, 5, 30)),
                event(1, failed()),
                event(1, failed()),
                event(1, null()),
                event(1, free(1)),
                event(1, free(3)),
            ],
        ),
        // Thread 1 waits in its first turn, until the third operation of thread 0 has set the mark.
        "dj workload" => (
            Format::DjWorkload,
            vec![
                event(0, malloc(0, 1000)),
                event(0, calloc(1, 1, 96)),
                event(0, realloc(None, 2, 70)),
                event(1, aligned(Memalign, 3, 6, 200)),
                event(0, realloc(Some(2), 4, 80)),
                event(1, aligned(Valloc, 5, 12, 10)),
                event(1, aligned(Pvalloc, 6, 12, 20)),
                event(1, failed()),
                event(1, free(1)),
                event(0, free(0)),
                event(1, malloc(7, 30)),
                event(0, null()),
                event(0, free(4)),
            ],
        ),
        "bytehound" => (
            Format::Bytehound,
            vec![
                event(0, malloc(0, 100)),
                event(0, malloc(1, 50)),
                event(0, realloc(Some(0), 2, 3000)),
                event(0, free(1)),
                event(0, malloc(3, 0)),
                event(0, free(2)),
            ],
        ),
        "protobuf" => {
            let sized = Operation::Free {
                block: mymalloc::trace::BlockId(1),
                sized: true,
            };
            (
                Format::Protobuf,
                vec![
                    event(0, malloc(0, 100)),
                    event(0, aligned(AlignedAlloc, 1, 6, 200)),
                    event(0, calloc(2, 3, 70_000)),
                    event(0, realloc(Some(0), 3, 50)),
                    event(0, realloc(None, 4, 60)),
                    event(0, sized),
                    event(0, free(2)),
                    event(0, null()),
                    event(0, failed()),
                    event(0, malloc(5, 0)),
                ],
            )
        }
        "alk" => (
            Format::Alk,
            vec![
                event(0, malloc(0, 100)),
                event(0, aligned(Memalign, 1, 6, 200)),
                event(0, realloc(Some(0), 2, 300)),
                event(1, free(1)),
                event(1, malloc(3, 0)),
                event(1, end),
                event(0, free(2)),
            ],
        ),
        "chattymalloc" => (
            Format::Chattymalloc,
            vec![
                event(0, Operation::FreeUnseen),
                event(0, malloc(0, 100)),
                event(0, calloc(1, 4, 24)),
                event(0, realloc(None, 2, 50)),
                event(0, realloc(Some(0), 3, 5000)),
                event(1, malloc(4, 70)),
                event(1, free(4)),
                event(1, aligned(Memalign, 5, 5, 10)),
                event(1, aligned(PosixMemalign, 6, 6, 20)),
                event(1, aligned(Valloc, 7, 12, 30)),
                event(1, aligned(Pvalloc, 8, 12, 40)),
                event(1, aligned(AlignedAlloc, 9, 7, 128)),
                event(1, failed()),
                event(1, null()),
                event(0, end),
                event(1, free(1)),
                event(1, free(2)),
            ],
        ),
        _ => panic!("no events are known of {name}"),
    }
}

#[test]
fn every_record_of_every_format() {
    for Fixture { name, bytes, .. } in fixtures::all() {
        let trace = outcome(&bytes, &STRICT).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (format, events) = expected(name);
        assert_eq!(trace.origin().format, format, "{name}");
        assert_eq!(trace.events(), events, "{name}");
        let unseen = trace.counts().free_unseen as usize;
        assert_eq!(trace.origin().warnings.len(), unseen, "{name}");
        assert_eq!(trace.origin().dropped_lines, 0, "{name}");
        // What such a file cannot tell is said.
        assert!(!trace.origin().notes.is_empty(), "{name}");
        for note in &trace.origin().notes {
            assert!(note.len() > 20 && !note.contains('\n'), "{name}: {note}");
        }
    }
}

#[test]
fn only_bytehound_has_times() {
    for Fixture { name, bytes, .. } in fixtures::all() {
        let trace = outcome(&bytes, &STRICT).unwrap();
        let times = [
            1_000_000, 1_001_000, 1_500_000, 1_500_000, 2_000_000, 2_001_000,
        ];
        match name {
            "bytehound" => assert_eq!(trace.times_ns(), Some(&times[..])),
            _ => assert_eq!(trace.times_ns(), None, "{name}"),
        }
    }
}

#[test]
fn compressed_files_are_the_same() {
    for Fixture { name, bytes, .. } in fixtures::all() {
        for compressed in [common::gzip(&bytes), common::zstd(&bytes)] {
            let trace = outcome(&compressed, &STRICT).unwrap();
            assert_eq!(trace.events(), expected(name).1, "{name}");
            assert_eq!(trace.origin().compression.len(), 1);
            // A compressed stream that ends early is worth what it holds.
            let cut = &compressed[..compressed.len() - 9];
            let message = outcome(cut, &STRICT).unwrap_err();
            assert!(message.contains("stream ends early"), "{name}: {message}");
        }
    }
}

#[test]
fn native_text_written_of_them_holds_the_same_events() {
    for Fixture { name, bytes, .. } in fixtures::all() {
        let trace = outcome(&bytes, &STRICT).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.log");
        write(&trace, &path, OutputFormat::Text).unwrap();
        let back = read(&path, &STRICT).unwrap();
        assert_eq!(back.events(), trace.events(), "{name}");
        assert_eq!(back.times_ns(), trace.times_ns(), "{name}");
    }
}

/// Cut at any byte, a file is refused, or read as far as it is whole; and if lenient, no event is
/// read that the whole file does not have.
#[test]
fn truncated_anywhere() {
    for Fixture {
        name,
        bytes,
        boundaries,
    } in fixtures::all()
    {
        let whole = expected(name).1;
        // Of a workload whole threads may be missing, so that the others' turns come sooner.
        let within = |part: &[Event]| name == "dj workload" || common::is_subsequence(part, &whole);
        for length in 0..bytes.len() {
            let at_boundary = boundaries.contains(&length);
            let cut = &bytes[..length];
            match outcome(cut, &STRICT) {
                Ok(trace) => {
                    assert!(at_boundary, "{name}: {length} bytes are no whole record");
                    assert!(within(trace.events()), "{name}: {length}");
                }
                Err(message) => common::assert_clear(&message),
            }
            match outcome(cut, &LENIENT) {
                Ok(trace) => {
                    let origin = trace.origin();
                    let told = origin.warnings.len() as u64 + origin.dropped_lines;
                    assert!(at_boundary || told > 0, "{name}: {length}");
                    let kept = origin.dropped_lines > 0 || within(trace.events());
                    assert!(kept, "{name}: {length}");
                }
                Err(message) => common::assert_clear(&message),
            }
        }
    }
    // Where the format allows it, the place is named.
    let cut = |fixture: Fixture, bytes: usize| {
        let length = fixture.bytes.len() - bytes;
        outcome(&fixture.bytes[..length], &STRICT).unwrap_err()
    };
    let message = cut(fixtures::dj_trace(), 1);
    assert_eq!(
        message,
        "t: byte 1152 (record 19): the file ends after 63 of the record's 64 bytes: it is truncated \
         (--lenient reads what stands before)"
    );
    let message = cut(fixtures::bytehound(), 8);
    assert!(
        message.contains("the zero at the end is missing"),
        "{message}"
    );
    let message = cut(fixtures::protobuf(), 3);
    assert!(message.contains("truncated"), "{message}");
    let message = cut(fixtures::dj_workload(), 1);
    assert!(
        message.contains("expected the thread's end (1)"),
        "{message}"
    );
}

/// Cut behind its last line, a file of protocol buffers is whole but for the announcement.
#[test]
fn a_missing_announcement_is_told() {
    let Fixture {
        bytes, boundaries, ..
    } = fixtures::protobuf();
    let trace = outcome(&bytes[..boundaries[boundaries.len() - 2]], &STRICT).unwrap();
    assert_eq!(trace.events(), expected("protobuf").1);
    assert!(trace.origin().warnings[0].contains("may be truncated"));
}
