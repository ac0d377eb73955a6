//! heaptrack's files, raw and interpreted, of every version: recordings of our own program
//! (`tests/data/heaptrack/shapes.cc`), and lines written by hand.

#![cfg(feature = "suite")]
#![forbid(unsafe_code)]

#[path = "importers/common.rs"]
mod common;

use std::path::PathBuf;

use common::{LENIENT, STRICT, event, free, malloc, outcome};
use mymalloc::trace::{Event, Format, Operation, Trace, read};

fn recording(name: &str) -> Vec<u8> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/data/heaptrack", name]
        .iter()
        .collect();
    std::fs::read(path).unwrap()
}

/// What `shapes.cc` does. Block 0 is the C++ library's own; the frees of block 2 and 8 and the like
/// are in the program's order.
fn shapes(unseen: bool) -> Vec<Event> {
    let mut operations = vec![
        malloc(0, 72_704),
        malloc(1, 42),
        // calloc(4, 25), and its realloc.
        malloc(2, 100),
        free(2),
        malloc(3, 3000),
        // Circle, and ten of them.
        malloc(4, 24),
        malloc(5, 240),
        malloc(6, 1000),
        free(6),
        malloc(7, 1000),
        free(7),
        malloc(8, 1000),
        free(8),
        malloc(9, 5000),
        malloc(10, 5001),
        // memalign goes unseen, posix_memalign does not, and the free of the first does not either.
        malloc(11, 640),
    ];
    if unseen {
        operations.push(Operation::FreeUnseen);
    }
    operations.extend([
        // The thread's state and its thread-local storage.
        malloc(12, 24),
        malloc(13, 320),
        malloc(14, 777),
        free(1),
        free(14),
        free(12),
        free(4),
        free(5),
        free(10),
        free(9),
        free(11),
        free(3),
        malloc(15, 99),
        free(0),
    ]);
    operations
        .into_iter()
        .map(|operation| event(0, operation))
        .collect()
}

/// The name of the call site of each event.
fn site_names(trace: &Trace) -> Vec<&str> {
    let sites = trace.sites().expect("heaptrack knows call sites");
    let name = |site: &mymalloc::trace::SiteId| trace.site_names()[site.0 as usize].as_str();
    sites.iter().map(name).collect()
}

#[test]
fn a_raw_recording() {
    let trace = outcome(&recording("shapes.raw.txt"), &STRICT).unwrap();
    assert_eq!(trace.origin().format, Format::HeaptrackRaw);
    assert_eq!(trace.events(), shapes(true));
    assert_eq!(trace.times_ns(), None);
    let warnings = &trace.origin().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("1 free of blocks whose allocation was not recorded"));
    let names = site_names(&trace);
    assert_eq!(names[1], "shapes+0x1260");
    assert_eq!(names[3], "unknown");
    // Not libstdc++'s operator new, but who called it.
    assert_eq!(names[5], "shapes+0x1296");
    assert_eq!(names[6], "shapes+0x12a4");
    assert_eq!(names[18], "ld-linux-x86-64.so.2+0x10cb2");
    assert!(names.contains(&"shapes+0x122e"), "{names:?}");
}

#[test]
fn an_interpreted_recording() {
    let trace = outcome(&recording("shapes.interpreted.txt"), &STRICT).unwrap();
    assert_eq!(trace.origin().format, Format::HeaptrackInterpreted);
    assert_eq!(trace.events(), shapes(false));
    assert_eq!(trace.origin().warnings, [""; 0]);
    let notes = trace.origin().notes.join("; ");
    for note in [
        "neither threads nor alignments",
        "memalign, pvalloc",
        "10 ms",
        "youngest block",
    ] {
        assert!(notes.contains(note), "{notes}");
    }
    let names = site_names(&trace);
    assert_eq!(names[0], "libstdc++.so.6 at 0x7fb469aa57b9");
    assert_eq!(names[1], "main");
    assert_eq!(names[5], "main");
    let thread = "std::thread::thread<void (&)(void*), void*&, void>(void (&)(void*), void*&)";
    assert_eq!(names[16], thread);
    // The innermost of the functions inlined into each other.
    assert_eq!(names[17], "calloc");
    assert_eq!(names[18], "in_thread");
}

#[test]
fn compressed_as_heaptrack_leaves_it() {
    for name in ["shapes.raw.txt", "shapes.interpreted.txt"] {
        let text = recording(name);
        for compressed in [common::gzip(&text), common::zstd(&text)] {
            let trace = outcome(&compressed, &STRICT).unwrap();
            assert_eq!(trace.events(), shapes(name.contains("raw")));
            assert_eq!(trace.origin().compression.len(), 1);
        }
    }
}

#[test]
fn native_text_keeps_the_calls_and_their_sites() {
    for name in ["shapes.raw.txt", "shapes.interpreted.txt"] {
        let trace = outcome(&recording(name), &STRICT).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.log");
        mymalloc::trace::write(&trace, &path, mymalloc::trace::OutputFormat::Text).unwrap();
        let back = read(&path, &STRICT).unwrap();
        assert_eq!(back.events(), trace.events(), "{name}");
        assert_eq!(site_names(&back), site_names(&trace), "{name}");
    }
}

/// Cut behind any line, or inside one, what remains is read up to there, and told.
#[test]
fn truncated_anywhere() {
    for name in ["shapes.raw.txt", "shapes.interpreted.txt"] {
        let text = recording(name);
        let whole = shapes(name.contains("raw"));
        let ends: Vec<usize> = (0..=text.len())
            .filter(|&end| end == 0 || text[end - 1] == b'\n')
            .collect();
        for &end in &ends {
            match outcome(&text[..end], &STRICT) {
                Ok(trace) => {
                    assert!(whole.starts_with(trace.events()), "{name}: {end}");
                    let last = text[..end]
                        .split(|&byte| byte == b'\n')
                        .rev()
                        .find(|line| !line.is_empty());
                    let closed = matches!(last.unwrap()[0], b'c' | b'R' | b'#');
                    let told = trace
                        .origin()
                        .warnings
                        .iter()
                        .any(|one| one.contains("truncated"));
                    assert_ne!(closed, told, "{name}: {end}");
                }
                Err(message) => {
                    assert!(
                        message.contains("no allocator operation")
                            || message == "t: the file is empty",
                        "{name}: {end}: {message}"
                    );
                }
            }
        }
        for end in 0..text.len() {
            for options in [&STRICT, &LENIENT] {
                match outcome(&text[..end], options) {
                    // A number cut short is another number: at most the last event differs.
                    Ok(trace) => {
                        let events = trace.events();
                        let kept = &events[..events.len().saturating_sub(2)];
                        assert!(whole.starts_with(kept), "{name}: {end}");
                    }
                    Err(message) => common::assert_clear(&message),
                }
            }
        }
    }
}

fn events_of(text: &str) -> Vec<Event> {
    let trace = outcome(text.as_bytes(), &STRICT).unwrap_or_else(|error| panic!("{error}"));
    trace.events().to_vec()
}

#[test]
fn raw_files_of_version_2_have_plain_strings() {
    let text = "v 10100 2\nx /opt/a/demo\nX ./demo  x\nI 1000 10\nS leak:x\nA\nm -\n\
        m x 1000 0 100\nm /lib/a b.so 5000 0 80 100 80\nt 1010 0\nt 5110 1\n\
        + 2a 2 7f0\n- 7f0\n- 99\nc 1\nR 1\n";
    let trace = outcome(text.as_bytes(), &STRICT).unwrap();
    let expected = [malloc(0, 42), free(0), Operation::FreeUnseen].map(|one| event(0, one));
    assert_eq!(trace.events(), expected);
    assert_eq!(trace.site_names(), ["unknown", "demo+0x10", "a b.so+0x110"]);
    assert_eq!(site_names(&trace), ["a b.so+0x110", "unknown", "unknown"]);
}

#[test]
fn interpreted_files_of_version_1_and_2_have_strings_to_the_end_of_the_line() {
    for version in ["v 10200", "v 10100 1", "v 10100 2"] {
        let text = format!(
            "{version}\nX demo\ns demo\ns void f(int, char)\ns operator new(unsigned long)\n\
             i 10 1 2\ni 20 0 3\ni 30 1\ni 40 0\nt 1 0\nt 2 1\nt 3 0\nt 4 2\n\
             a 8 2\na 8 3\na 8 0\na 8 4\n+ 0\n+ 1\n+ 2\n+ 3\n+ 0\n- 0\n- 0\n# end\n"
        );
        let trace = outcome(text.as_bytes(), &STRICT).unwrap();
        let blocks: Vec<Event> = (0..5).map(|block| event(0, malloc(block, 8))).collect();
        let frees = [event(0, free(4)), event(0, free(0))];
        assert_eq!(trace.events(), [&blocks[..], &frees].concat());
        let f = "void f(int, char)";
        let names = [f, "demo at 0x30", "unknown", f, f, "unknown", "unknown"];
        assert_eq!(site_names(&trace), names);
    }
}

#[test]
fn interpreted_files_of_version_0_name_blocks() {
    let text = "v 10000\nX demo\ns demo\ns main\ni 10 1 2\nt 1 0\n\
        + 8 1 7f10\n+ 8 1 7f20\n- 7f10\n- 7f20\n- 7f30\nc 1\n";
    let trace = outcome(text.as_bytes(), &STRICT).unwrap();
    let expected = [
        malloc(0, 8),
        malloc(1, 8),
        free(0),
        free(1),
        Operation::FreeUnseen,
    ];
    assert_eq!(trace.events(), expected.map(|one| event(0, one)));
    assert_eq!(trace.origin().format, Format::HeaptrackInterpreted);
    assert_eq!(site_names(&trace)[0], "main");
}

#[test]
fn an_address_that_is_allocated_again_was_freed() {
    let text = "v 10400 3\nx 4 demo\n+ 8 0 10\n+ 9 0 10\n- 10\n- 10\nc 1\n";
    let expected = [
        malloc(0, 8),
        free(0),
        malloc(1, 9),
        free(1),
        Operation::FreeUnseen,
    ];
    assert_eq!(events_of(text), expected.map(|one| event(0, one)));
    let trace = outcome(text.as_bytes(), &STRICT).unwrap();
    let warnings = trace.origin().warnings.join("; ");
    assert!(warnings.contains("1 free made up"), "{warnings}");
    assert_eq!(trace.sites().unwrap().len(), 5);
}

#[test]
fn names_longer_than_a_line() {
    let name = "x".repeat(10_000);
    let text = format!(
        "v 10400 3\ns 2710 {name}\ns 4 main\ni 1 0 1\ni 2 0 2\nt 1 0\nt 2 0\na 8 1\na 9 2\n+ 0\n\
         + 1\nX {name}\nR 1\n"
    );
    let trace = outcome(text.as_bytes(), &STRICT).unwrap();
    let names = site_names(&trace);
    assert!(
        names[0].starts_with("xxxx") && names[0].ends_with("..."),
        "{names:?}"
    );
    assert_eq!(names[1], "main");
}

#[test]
fn faults_are_told_with_their_line() {
    let raw = "v 10400 3\nx 4 demo\nm 1 x 0 0 100\nt 10 0\n+ 8 1 10\n";
    let interpreted = "v 10400 3\ns 4 main\ni 1 0 1\nt 1 0\na 8 1\n+ 0\n";
    for (head, line, said) in [
        (
            raw,
            "+ 8 2 20",
            "expected a call stack that stands before this line",
        ),
        (
            raw,
            "+ 8 ffffffffffffffff 20",
            "expected a call stack that stands",
        ),
        (raw, "+ 8 1", "expected a pointer"),
        (raw, "+ 8 1 20 30", "expected the end of the line"),
        (
            raw,
            "+ 1000000000000 1 20",
            "a request of 281474976710656 bytes",
        ),
        (
            raw,
            "+ 10000000000000000 1 20",
            "expected a number below 2^64",
        ),
        (raw, "+ 8 1 0x20", "expected a pointer"),
        (raw, "-", "expected what is freed"),
        (raw, "- x", "expected what is freed"),
        (raw, "t 10 2", "expected a call stack that stands before"),
        (raw, "m a x 0 0 100", "a string as long as its length says"),
        (raw, "m 1 x 0 0", "expected the bytes of a segment"),
        (raw, "a 8 1", "expected a line of a raw recording"),
        (raw, "s 1 a", "expected a line of a raw recording"),
        (raw, "v 10400 4", "expected a file version of at most 3"),
        (raw, "? 1", "expected one of the letters"),
        (raw, "+8 1 20", "expected a letter and a blank"),
        (
            interpreted,
            "+ 1",
            "expected an allocation that an 'a' line above describes",
        ),
        (
            interpreted,
            "- 1000000000000000",
            "expected an allocation that an 'a' line",
        ),
        (
            interpreted,
            "a 8 2",
            "expected a call stack that stands before",
        ),
        (
            interpreted,
            "t 2 0",
            "expected an instruction that stands before",
        ),
        (interpreted, "i 1 3", "expected a string that stands before"),
        (
            interpreted,
            "i 1 0 3",
            "expected a string that stands before",
        ),
        (
            interpreted,
            "i 1 0 1 x",
            "expected a function, a file or a line",
        ),
        (
            interpreted,
            "s 3 main",
            "a string as long as its length says",
        ),
        (
            interpreted,
            "x 1 a",
            "expected a line of an interpreted recording",
        ),
        (interpreted, "c x", "expected a number"),
    ] {
        let text = format!("{head}{line}\n");
        let message = outcome(text.as_bytes(), &STRICT).expect_err(line);
        common::assert_clear(&message);
        let number = head.lines().count() + 1;
        assert!(message.starts_with(&format!("t:{number}: ")), "{message}");
        assert!(message.contains(said), "{message:?} should say {said:?}");
        let trace = outcome(text.as_bytes(), &LENIENT).unwrap();
        assert_eq!(trace.events(), [event(0, malloc(0, 8))]);
        assert_eq!(trace.origin().dropped_lines, 1, "{line}");
    }
    let text = format!("{interpreted}- 0\n- 0\n");
    let message = outcome(text.as_bytes(), &STRICT).unwrap_err();
    assert!(
        message.contains("an allocation of which a block is live"),
        "{message}"
    );
}

#[test]
fn a_recording_without_a_call() {
    let message = outcome(b"v 10400 3\nx 1 a\nc 0\nR 1\n", &STRICT).unwrap_err();
    assert_eq!(
        message,
        "t: the trace holds no allocator operation; heaptrack traces are made with `heaptrack \
         PROGRAM`"
    );
}
