//! A file that is no good trace is told so in one clear line, and costs neither memory nor time.

#![cfg(feature = "suite")]
#![forbid(unsafe_code)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use mymalloc::error::Error;
use mymalloc::trace::{ReadOptions, Trace, read};

const LENIENT: ReadOptions = ReadOptions {
    lenient: true,
    process: None,
    progress: false,
    interrupted: None,
};
const STRICT: ReadOptions = ReadOptions {
    lenient: false,
    process: None,
    progress: false,
    interrupted: None,
};

/// Reads a file `t` of this content. A message comes back without the folder's name.
fn outcome(content: &[u8], options: &ReadOptions) -> Result<Trace, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t");
    std::fs::write(&path, content).unwrap();
    read(&path, options).map_err(|error| {
        let prefix = format!("{}/", folder.path().display());
        error.to_string().replace(&prefix, "")
    })
}

/// The message, which must be one line without unprintable characters.
fn refused(content: &[u8], options: &ReadOptions) -> String {
    let message = outcome(content, options).expect_err("the file should be refused");
    assert!(!message.chars().any(char::is_control), "{message:?}");
    assert!(message.len() < 500, "{message:?}");
    message
}

fn assert_refused(content: impl AsRef<[u8]>, expected: &str) {
    let message = refused(content.as_ref(), &STRICT);
    assert!(
        message.starts_with(expected),
        "{message:?} should start with {expected:?}"
    );
}

#[test]
fn files_that_are_no_text() {
    let folder = tempfile::tempdir().unwrap();
    let missing = read(&folder.path().join("none"), &STRICT).unwrap_err();
    assert!(
        missing
            .to_string()
            .contains("none: cannot read: No such file"),
        "{missing}"
    );
    assert_eq!(missing.exit_code(), 1);
    let directory = read(folder.path(), &STRICT).unwrap_err();
    assert!(
        directory
            .to_string()
            .ends_with("is a directory; a trace is a file"),
        "{directory}"
    );
    assert_refused("", "t: the file is empty");
    assert_refused("\n \r\n\n", "t: the file holds blank lines only");
    assert_refused(
        b"\x7fELF\x02\x01\0\0\n",
        "t:1: not a trace: found \"\\u{7f}ELF\\u{2}",
    );
    assert_refused(b"\xff\xfe1\0 \0", "t:1: not a trace: found \"\\xff\\xfe1");
    let random: Vec<u8> = (0_u32..100_000)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    assert_refused(random, "t:1: not a trace: found ");
}

#[test]
fn an_unknown_grammar_lists_the_known_ones() {
    let message = refused(b"#include <stdio.h>\nint main() {}\n", &STRICT);
    for part in [
        "logalloc (\"1 1 malloc(42)=#1\")",
        "memory_replay (\"100: malloc 0x",
        ".rep (\"a 0 512\")",
        "tags (\"",
        "heaptrack",
        ", mtrace",
        "valgrind",
        "ltrace",
        "DJ Delorie's trace_dump",
        "dj trace,",
        "chattymalloc",
        "tracing-allocator",
        "memleak",
        "mymalloc's own",
        ".wl",
        "bytehound",
        "protobuf",
        "alk",
        "(workloads/formats.md)",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn the_first_bad_line_is_named_and_what_was_expected() {
    for (text, expected) in [
        (
            "1 1 malloc(4)=#1\n1 1 mallco(4)=#2\n",
            "t:2: found \"1 1 mallco(4)=#2\", expected malloc, calloc",
        ),
        (
            "1 1 malloc(4)=#1\n\n1 1 free(#1",
            "t:3: found \"1 1 free(#1\", expected ')' behind the pointer",
        ),
        (
            "1 1 malloc(4)=#1\n\x02\u{fc}\n",
            "t:2: found \"\\u{2}ü\", expected a process number",
        ),
        (
            "1 1 malloc(4)=#1\n1 1 free(0x10)\n",
            "t:2: found \"1 1 free(0x10)\", expected pointers to be all",
        ),
        (
            "1 1 malloc(99999999999999999999)=#1\n",
            "t:1: found \"1 1 malloc(99999999999999999999)=#1\", expected a number below 2^64",
        ),
        (
            "1 1 malloc(140737488355329)=#1\n",
            "t:1: a request of 140737488355329 bytes, expected at most 2^47",
        ),
        (
            "1 1 calloc(4294967296,4294967296)=#1\n",
            "t:1: a request of 2^64 or more bytes",
        ),
        (
            "1 1 posix_memalign(24,8)=#1\n",
            "t:1: alignment 24, expected a power of two",
        ),
        (
            "7: malloc 0x10000000000000000 8\n",
            "t:1: found \"7: malloc 0x10000000000000000 8\", expected an address below 2^64",
        ),
        (
            "7: malloc 0x10 8 5 6\n7: free 0x10\n",
            "t:2: found \"7: free 0x10\", expected time stamps on every line",
        ),
        (
            "some output\n7: malloc 0x10 8\n",
            "t:1: found \"some output\", which no known grammar has, expected Android memory_replay, such as",
        ),
        (
            "3\n1\n2\na 0 8\n",
            "t:4: found \"a 0 8\", expected a header of two or four numbers",
        ),
        (
            "1\n2\na 0 8\nf 0 0\n",
            "t:4: found \"f 0 0\", expected the end of the line",
        ),
        (
            "a 0 8\n",
            "t:1: found \"a 0 8\", expected a header of two or four numbers",
        ),
    ] {
        assert_refused(text, expected);
    }
}

#[test]
fn events_that_cannot_have_happened() {
    for (text, expected) in [
        (
            "1: malloc 0x10 8\n1: free 0x10\n1: free 0x10\n",
            "t:3: free of 0x10, which line 2 freed already (",
        ),
        (
            "1: malloc 0x10 8\n1: free 0x10\n1: realloc 0x20 0x10 9\n",
            "t:3: realloc of 0x10, which line 2 freed already",
        ),
        (
            "1: malloc 0x10 8\n1: free 0x20\n",
            "t:2: free of 0x20, which was not allocated before (",
        ),
        (
            "1: malloc 0x10 8\n1: realloc 0x30 0x20 9\n",
            "t:2: realloc of 0x20, which was not allocated before",
        ),
        (
            "1: malloc 0x10 8\n2: calloc 0x10 8 1\n",
            "t:2: 0x10 is allocated again while it is live: line 1",
        ),
        (
            "1: malloc 0x10 8\n1: malloc 0x20 8\n1: realloc 0x10 0x20 9\n",
            "t:3: 0x10 is allocated again while it is live: line 1",
        ),
        (
            "1 1 malloc(8)=#1\n1 1 free(#9)\n",
            "t:2: free of #9, which was not assigned before this line (--lenient takes such slots as null)",
        ),
        (
            "1\n3\na 0 8\nf 0\nf 0\n",
            "t:5: free of block 0, which line 4 freed already",
        ),
    ] {
        assert_refused(text, expected);
    }
}

#[test]
fn use_before_allocation_names_the_other_thread() {
    let unknown = "1: malloc 0x10 8\n1: free 0x20\n2: malloc 0x30 8\n2: malloc 0x20 8\n";
    assert_refused(
        unknown,
        "t:2: free of 0x20, which was not allocated before; thread 2 allocates it later, on line 4: \
         the lines are out of order",
    );
    let freed = "1: malloc 0x10 8\n1: free 0x10\n1: free 0x10\n9: malloc 0x10 8\n";
    assert_refused(
        freed,
        "t:3: free of 0x10, which line 2 freed already; thread 9 allocates it later, on line 4",
    );
}

#[test]
fn several_processes_are_named() {
    let text = "5 5 malloc(1)=0x10\n6 6 malloc(1)=0x10\n5 5 free(0x10)\n70 70 free(0x0)\n";
    assert_refused(
        text,
        "t:2: the log holds several processes (5, 6, 70): choose one with --process PID",
    );
    let absent = ReadOptions {
        process: Some(8),
        ..STRICT
    };
    assert_eq!(
        refused(text.as_bytes(), &absent),
        "t: no line of process 8; the log holds 5, 6, 70"
    );
    let message = refused(b"1: malloc 0x10 8\n", &absent);
    assert_eq!(
        message,
        "--process: Android memory_replay traces have no process numbers"
    );
}

#[test]
fn a_rep_that_does_not_hold_what_its_header_says() {
    let text = b"100\n2\n4\n1\na 0 8\na 1 8\nf 0\n";
    assert_refused(
        text,
        "t: the header announces 2 blocks and 4 operations, the file has 2 and 3: it is truncated",
    );
    let trace = outcome(text, &LENIENT).unwrap();
    assert_eq!(trace.counts().total(), 3);
    let warning = "the header announces 2 blocks and 4 operations, the file has 2 and 3: it is \
                   truncated or altered";
    assert_eq!(trace.origin().warnings, [warning]);
    assert_refused(
        "1\n1\na 0 8\nf 0\n",
        "t: the header announces 1 block and 1 operation, the file has 1 and 2",
    );
}

#[test]
fn lenient_reading_counts_what_it_drops() {
    let text = "program output\n1: malloc 0x10 8\n??\n1: free 0x20\n1: free 0x10\n1: free 0x10\n\
                1: malloc 0x30 8\n2: malloc 0x30 9\n\n7\n1: frei 0x30\n1: malloc 0x40 7\n";
    let trace = outcome(text.as_bytes(), &LENIENT).unwrap();
    assert_eq!((trace.counts().malloc, trace.counts().free), (3, 1));
    assert_eq!(trace.counts().total(), 4);
    assert_eq!(trace.thread_count(), 1, "a dropped line makes no thread");
    let origin = trace.origin();
    assert_eq!(origin.dropped_lines, 7);
    assert_eq!(
        origin.dropped_examples,
        [
            "line 1: found \"program output\", which no known grammar has",
            "line 3: found \"??\", expected a thread number",
            "line 4: free of 0x20, which was not allocated before",
            "line 6: free of 0x10, which line 5 freed already",
            "line 8: 0x30 is allocated again while it is live: line 7 allocated it",
        ]
    );
}

#[test]
fn time_stamps_that_only_some_lines_have_are_told() {
    // Events were handed on before the odd line came, so the first line decides.
    let stamped = b"7: malloc 0x10 8 5 6\n7: free 0x10\n7: malloc 0x10 9 8 9\n";
    let trace = outcome(stamped, &LENIENT).unwrap();
    assert_eq!(trace.times_ns(), Some(&[5, 5, 8][..]));
    assert_eq!(
        trace.origin().warnings,
        ["only some lines have time stamps: the others were given that of the line before"]
    );
    let trace = outcome(b"7: malloc 0x10 8\n7: free 0x10 5 6\n", &LENIENT).unwrap();
    assert_eq!(trace.times_ns(), None);
    assert_eq!(
        trace.origin().warnings,
        ["only some lines have time stamps: none was kept"]
    );
}

/// More events than readers keep back, then one without a stamp: all have one all the same, and the
/// trace can be written as any other.
#[test]
fn a_stamp_that_is_missing_late() {
    let mut text: String = (0..5000)
        .map(|n| format!("7: malloc {:#x} 8 {n} {n}\n", 16 + 16 * n))
        .collect();
    text.push_str("7: free 0x10\n");
    assert_refused(
        &text,
        "t:5001: found \"7: free 0x10\", expected time stamps on every line",
    );
    let trace = outcome(text.as_bytes(), &LENIENT).unwrap();
    let times_ns = trace.times_ns().expect("all events are stamped");
    assert_eq!((times_ns.len(), times_ns[5000]), (5001, 4999));
}

#[test]
fn one_bad_line_is_one() {
    let message = refused(b"1: nonsense 0x10\n", &LENIENT);
    assert!(
        message.starts_with("t: no allocator operation is left: 1 bad line; line 1: "),
        "{message}"
    );
}

#[test]
fn a_million_bad_lines() {
    let bad = "1: nonsense 0x10\n".repeat(1_000_000);
    assert_refused(&bad, "t:1: found \"1: nonsense 0x10\", expected malloc,");
    let message = refused(bad.as_bytes(), &LENIENT);
    let expected = "t: no allocator operation is left: 1000000 bad lines; line 1: found";
    assert!(message.starts_with(expected), "{message}");
    let one_good = format!("{bad}1: malloc 0x10 8\n");
    let trace = outcome(one_good.as_bytes(), &LENIENT).unwrap();
    assert_eq!(
        (trace.counts().total(), trace.origin().dropped_lines),
        (1, 1_000_000)
    );
    let garbage = "garbage\n".repeat(1_000_000);
    assert_refused(&garbage, "t:1: not a trace: found \"garbage\"");
    let message = refused(garbage.as_bytes(), &LENIENT);
    assert!(
        message.starts_with("t:1: not a trace: found \"garbage\""),
        "{message}"
    );
}

#[test]
fn a_line_without_end() {
    let mut text = b"1: malloc 0x10 8\n".to_vec();
    text.extend(std::iter::repeat_n(b'0', 50_000_000));
    assert_refused(&text, "t:2: found a line of more than 4096 bytes, \"0000");
    text.extend_from_slice(b"\n1: free 0x10\n");
    let trace = outcome(&text, &LENIENT).unwrap();
    assert_eq!(
        (trace.counts().total(), trace.origin().dropped_lines),
        (2, 1)
    );
}

/// 20,000 valid lines that do not compress to nothing.
fn long_text() -> Vec<u8> {
    let line = |n: u64| format!("1: malloc {:#x} {}\n", n * 16 + 16, n * n % 9973);
    (0..20_000).map(line).collect::<String>().into_bytes()
}

#[test]
fn compressed_streams_that_end_early() {
    let text = long_text();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&text).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(&text[..], 3).unwrap();
    for (bytes, name) in [(gzip, "gzip"), (zstd, "zstd")] {
        assert_eq!(outcome(&bytes, &STRICT).unwrap().counts().total(), 20_000);
        let cut = &bytes[..bytes.len() * 3 / 4];
        let message = refused(cut, &STRICT);
        let (place, what) = message.split_once(": ").unwrap();
        let line: u64 = place.strip_prefix("t:").unwrap().parse().unwrap();
        assert!((1_000..20_000).contains(&line), "{message}");
        let expected =
            format!("the {name} stream ends early behind this line: the file is truncated");
        assert_eq!(what, expected);
        // What was recorded before the cut can be used, and the report says that it was cut.
        let trace = outcome(cut, &LENIENT).unwrap();
        assert!((1_000..20_000).contains(&trace.counts().total()));
        let warnings = &trace.origin().warnings;
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].starts_with("line "), "{warnings:?}");
        assert!(warnings[0].contains("ends early"), "{warnings:?}");
        let header = refused(&bytes[..8], &STRICT);
        let expected = format!("t: the {name} stream ends early: the file is truncated");
        assert_eq!(header, expected);
        let mut damaged = bytes.clone();
        damaged[bytes.len() / 2..]
            .iter_mut()
            .for_each(|byte| *byte ^= 0x55);
        let message = refused(&damaged, &STRICT);
        assert!(message.starts_with("t:"), "{message}");
    }
}

#[test]
fn what_stands_behind_a_gzip_stream() {
    // The last line has no end, and is used all the same.
    let text = b"1: malloc 0x10 8\n1: free 0x10";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text).unwrap();
    let gzip = gzip.finish().unwrap();
    // Tapes and some tools fill up with zeros.
    let padded = [&gzip[..], &[0; 100_000]].concat();
    let trace = outcome(&padded, &STRICT).unwrap();
    assert_eq!(trace.counts().total(), 2);
    assert!(trace.origin().warnings.is_empty());
    for junk in [
        &b"junk"[..],
        b"\0\0junk",
        b"\x1f is no header",
        b"PK\x03\x04",
    ] {
        let bytes = [&gzip[..], junk].concat();
        assert_eq!(
            refused(&bytes, &STRICT),
            "t: trailing data after the gzip stream"
        );
        let trace = outcome(&bytes, &LENIENT).unwrap();
        assert_eq!(trace.counts().total(), 2);
        let warnings = &trace.origin().warnings;
        assert_eq!(*warnings, ["trailing data after the gzip stream"]);
    }
    let cut = [&gzip[..], &gzip[..gzip.len() / 2]].concat();
    let message = refused(&cut, &STRICT);
    assert!(message.ends_with("the file is truncated"), "{message}");
}

#[test]
fn zstd_frames_to_be_skipped() {
    let text = long_text();
    for magic in [0x184d_2a50_u32, 0x184d_2a5f] {
        let mut bytes = magic.to_le_bytes().to_vec();
        bytes.extend_from_slice(&4_u32.to_le_bytes());
        bytes.extend_from_slice(b"size");
        bytes.extend(zstd::encode_all(&text[..], 3).unwrap());
        let trace = outcome(&bytes, &STRICT).unwrap();
        assert_eq!(trace.counts().total(), 20_000);
        assert_eq!(trace.origin().compression, ["zstd"]);
    }
}

#[test]
fn zip_methods_that_are_not_known_are_named() {
    let stored = zip(&["a"]);
    for method in [12_u16, 14] {
        let mut bytes = stored.clone();
        for (signature, offset) in [(b"PK\x03\x04", 8), (b"PK\x01\x02", 10)] {
            let header = bytes.windows(4).position(|w| w == signature).unwrap();
            bytes[header + offset..][..2].copy_from_slice(&method.to_le_bytes());
        }
        assert_refused(
            &bytes,
            "t: unsupported compression method in the zip archive",
        );
    }
}

/// Reads a pipe that a thread fills with `content`.
fn through_a_pipe(content: &'static [u8]) -> Result<Trace, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = fifo(folder.path());
    let destination = path.clone();
    // The reader may refuse the rest.
    let writer = std::thread::spawn(move || std::fs::write(destination, content));
    let outcome = read(&path, &STRICT).map_err(|error| error.to_string());
    drop(writer.join().unwrap());
    outcome
}

fn fifo(folder: &Path) -> PathBuf {
    let path = folder.join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    path
}

#[test]
fn pipes_hold_traces_but_no_archives() {
    let trace = through_a_pipe(b"1: malloc 0x10 8\n1: free 0x10\n").unwrap();
    assert_eq!(trace.counts().total(), 2);
    let message = through_a_pipe(zip(&["a"]).leak()).unwrap_err();
    assert!(
        message.ends_with("fifo: a zip archive must be a file, not a pipe"),
        "{message}"
    );
}

#[test]
fn an_interrupt_ends_reading() {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "1: malloc 0x10 8\n").unwrap();
    let options = ReadOptions {
        interrupted: Some(|| true),
        ..LENIENT
    };
    let error = read(&file, &options).unwrap_err();
    assert!(matches!(error, Error::Interrupted), "{error}");
    // Nobody ever writes to the pipe; the question is asked again while it waits.
    let options = ReadOptions {
        interrupted: Some(|| ASKED.fetch_add(1, Relaxed) >= 3),
        ..LENIENT
    };
    let error = read(&fifo(folder.path()), &options).unwrap_err();
    assert!(matches!(error, Error::Interrupted), "{error}");
    assert!(ASKED.load(Relaxed) > 3);
}

fn zip(names: &[&str]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for name in names {
        archive
            .start_file(*name, zip::write::SimpleFileOptions::default())
            .unwrap();
        archive.write_all(&long_text()).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

#[test]
fn zip_archives_hold_one_file() {
    assert_eq!(
        outcome(&zip(&["a"]), &STRICT).unwrap().counts().total(),
        20_000
    );
    assert_refused(zip(&[]), "t: the zip archive holds no file");
    assert_refused(
        zip(&["a", "b/c"]),
        "t: the zip archive holds 2 files (a, b/c), it must hold one",
    );
    let many = zip(&["1", "2", "3", "4", "5", "6", "7"]);
    assert_refused(
        many,
        "t: the zip archive holds 7 files (1, 2, 3, 4, 5, ...)",
    );
    let whole = zip(&["a"]);
    assert_refused(
        &whole[..whole.len() / 2],
        "t: the zip archive is truncated, damaged or unsupported: ",
    );
}

#[test]
fn a_trace_without_an_operation_is_none() {
    assert_refused(
        "1 1 jemalloc_stats()\n",
        "t: the trace holds no allocator operation",
    );
    assert_refused("1\n2\n", "t: the trace holds no allocator operation");
}

#[test]
fn errors_of_files_exit_with_1_and_of_requests_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t");
    std::fs::write(&path, "1: malloc 0x10 8\n1: oops\n").unwrap();
    let error = read(&path, &STRICT).unwrap_err();
    assert!(matches!(error, Error::Line { line: 2, .. }));
    assert_eq!(error.exit_code(), 1);
    let error = read(
        &path,
        &ReadOptions {
            process: Some(1),
            ..STRICT
        },
    )
    .unwrap_err();
    assert_eq!(error.exit_code(), 2);
}
