//! Every grammar is read, from plain and from compressed files, by its content alone.

#![cfg(feature = "suite")]
#![forbid(unsafe_code)]

use std::io::Write;
use std::path::{Path, PathBuf};

use mymalloc::trace::{
    AlignedFunction, BlockId, Event, EventCounts, Format, Operation, ReadOptions, ThreadIndex,
    Trace, read,
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn strict(path: &Path) -> Trace {
    read(path, &ReadOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn of_text(text: &[u8], options: &ReadOptions) -> Trace {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace");
    std::fs::write(&path, text).unwrap();
    read(&path, options).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn an_android_recording() {
    let trace = strict(&fixture("android.txt"));
    assert_eq!(trace.origin().format, Format::Android);
    assert_eq!(trace.events().len(), 400);
    assert_eq!(trace.counts().total(), 400);
    assert_eq!(trace.counts().operations(), 400);
    assert_eq!(trace.origin().dropped_lines, 0);
    assert_eq!(trace.times_ns(), None);
    let first = |n: usize| trace.events()[n].operation;
    assert_eq!(
        first(0),
        Operation::Malloc {
            block: BlockId(0),
            size: 1024
        }
    );
    assert_eq!(
        first(1),
        Operation::Free {
            block: BlockId(0),
            sized: false
        }
    );
    assert_eq!(
        first(2),
        Operation::Malloc {
            block: BlockId(1),
            size: 20
        }
    );
}

#[test]
fn android_time_stamps_and_reused_thread_numbers() {
    let trace = strict(&fixture("android-times.txt"));
    assert_eq!(
        trace.times_ns(),
        Some(&[1000, 1200, 1300, 1500, 1700, 1800, 1900, 2000][..]),
        "the start of each call, the only time of a thread's end"
    );
    let threads: Vec<u32> = trace.events().iter().map(|event| event.thread.0).collect();
    assert_eq!(
        threads,
        [0, 0, 1, 0, 1, 1, 1, 2],
        "200 after its end is another thread"
    );
    let (block, function) = (BlockId(2), AlignedFunction::Memalign);
    let aligned = Operation::Aligned {
        block,
        alignment_log2: 8,
        function,
        size: 1000,
    };
    assert_eq!(trace.events()[2].operation, aligned);
    assert_eq!(trace.counts().thread_end, 1);
    assert_eq!(trace.counts().operations(), 7);
}

/// The calls that both logalloc fixtures hold.
fn logalloc_events() -> Vec<Event> {
    use AlignedFunction::{AlignedAlloc, Memalign, PosixMemalign, Valloc};
    let b = BlockId;
    let aligned = |block, alignment_log2, function| Operation::Aligned {
        block: b(block),
        alignment_log2,
        function,
        size: 1024,
    };
    let free = |block| Operation::Free {
        block: b(block),
        sized: false,
    };
    [
        (0, Operation::Mark),
        (
            0,
            Operation::Malloc {
                block: b(0),
                size: 42,
            },
        ),
        (
            1,
            Operation::Malloc {
                block: b(1),
                size: 24,
            },
        ),
        (
            1,
            Operation::Calloc {
                block: b(2),
                count: 4,
                size: 42,
            },
        ),
        (0, aligned(3, 12, PosixMemalign)),
        (0, free(1)),
        (
            0,
            Operation::Realloc {
                old: Some(b(0)),
                block: b(4),
                size: 84,
            },
        ),
        (
            0,
            Operation::Realloc {
                old: Some(b(4)),
                block: b(5),
                size: 90,
            },
        ),
        (
            0,
            Operation::Realloc {
                old: None,
                block: b(6),
                size: 12,
            },
        ),
        (0, Operation::FailedAllocation),
        (0, Operation::FailedAllocation),
        (0, aligned(7, 8, AlignedAlloc)),
        (0, aligned(8, 9, Memalign)),
        (0, aligned(9, 12, Valloc)),
        (0, Operation::FreeNull),
        (0, Operation::FreeNull),
        (1, free(9)),
        (1, free(5)),
        (1, free(6)),
    ]
    .map(|(thread, operation)| Event {
        thread: ThreadIndex(thread),
        operation,
    })
    .to_vec()
}

#[test]
fn logalloc_raw_and_munged_mean_the_same() {
    for (name, format) in [
        ("logalloc-raw.log", Format::LogallocRaw),
        ("logalloc-munged.log", Format::LogallocMunged),
    ] {
        let trace = strict(&fixture(name));
        assert_eq!(trace.origin().format, format);
        assert_eq!(trace.events(), logalloc_events(), "{name}");
        let counts = EventCounts {
            malloc: 2,
            calloc: 1,
            realloc: 3,
            aligned: 4,
            free: 4,
            free_null: 2,
            mark: 1,
            failed_allocation: 2,
            ..EventCounts::default()
        };
        assert_eq!(*trace.counts(), counts);
    }
}

#[test]
fn one_process_of_several() {
    let path = fixture("logalloc-processes.log");
    let of = |process, lenient| {
        let options = ReadOptions {
            process,
            lenient,
            ..ReadOptions::default()
        };
        read(&path, &options).unwrap_or_else(|error| panic!("{error}"))
    };
    let first = of(Some(501), false);
    assert_eq!((first.counts().malloc, first.counts().free), (2, 1));
    let second = of(Some(502), false);
    assert_eq!((second.counts().malloc, second.counts().free), (1, 1));
    assert!(
        second
            .origin()
            .notes
            .iter()
            .any(|note| note.ends_with("left out: 501"))
    );
    assert!(
        second
            .origin()
            .notes
            .iter()
            .any(|note| note.contains("without a thread number"))
    );
    assert_eq!(second.origin().dropped_lines, 0);
    let lenient = of(None, true);
    assert_eq!(
        lenient.events(),
        first.events(),
        "the first process is kept"
    );
    assert_eq!(lenient.origin().dropped_lines, 2);
}

#[test]
fn the_three_headers_of_rep() {
    let b = BlockId;
    let expected = [
        Operation::Malloc {
            block: b(0),
            size: 512,
        },
        Operation::Malloc {
            block: b(1),
            size: 128,
        },
        Operation::Realloc {
            old: Some(b(0)),
            block: b(2),
            size: 640,
        },
        Operation::Free {
            block: b(1),
            sized: false,
        },
        Operation::Realloc {
            old: None,
            block: b(3),
            size: 64,
        },
        Operation::FreeNull,
        Operation::Malloc {
            block: b(4),
            size: 32,
        },
        Operation::Free {
            block: b(2),
            sized: false,
        },
        Operation::Free {
            block: b(3),
            sized: false,
        },
        Operation::Free {
            block: b(4),
            sized: false,
        },
    ];
    for name in ["classic.rep", "wide.rep", "short.rep"] {
        let trace = strict(&fixture(name));
        assert_eq!(trace.origin().format, Format::Rep);
        let operations: Vec<_> = trace.events().iter().map(|event| event.operation).collect();
        assert_eq!(operations, expected, "{name}");
        assert_eq!(trace.thread_count(), 1);
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zip(text: &[u8]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    archive.add_directory("dumps/", options).unwrap();
    archive.start_file("dumps/trace.txt", options).unwrap();
    archive.write_all(text).unwrap();
    archive.finish().unwrap().into_inner()
}

#[test]
fn compressed_files_hold_the_same_whatever_their_name() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "android.txt",
        "logalloc-raw.log",
        "logalloc-munged.log",
        "classic.rep",
    ] {
        let text = std::fs::read(fixture(name)).unwrap();
        let plain = strict(&fixture(name));
        // Two members behind each other, as `cat a.gz b.gz` makes them, are one text.
        let (head, tail) = text.split_at(text.len() / 2);
        let members = [gzip(head), gzip(tail)].concat();
        for (bytes, compression) in [
            (text.clone(), None),
            (gzip(&text), Some("gzip")),
            (members, Some("gzip")),
            (zstd::encode_all(&text[..], 3).unwrap(), Some("zstd")),
            (zip(&text), Some("zip")),
        ] {
            let path = folder.path().join("misleading.zip.rep.gz");
            std::fs::write(&path, &bytes).unwrap();
            let trace = strict(&path);
            assert_eq!(trace.events(), plain.events(), "{name} {compression:?}");
            assert_eq!(trace.origin().format, plain.origin().format);
            assert_eq!(
                trace.origin().compression.first().map(String::as_str),
                compression
            );
            assert_eq!(
                trace.origin().sha256,
                sha256(&bytes),
                "of the bytes as stored"
            );
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn foreign_line_ends_and_byte_order_marks_are_no_mistakes() {
    let trace = of_text(
        b"\xef\xbb\xbf1 1 malloc(4)=#1\r\n\r\n1 1 free(#1)  \r\n",
        &ReadOptions::default(),
    );
    assert_eq!(trace.counts().total(), 2);
}

#[test]
fn what_came_back_from_realloc_decides_what_it_was() {
    let text = "1: malloc 0x10 8\n\
                1: realloc 0x0 0x10 99\n\
                1: realloc 0x10 0x10 0\n\
                1: realloc 0x0 0x10 0\n\
                1: realloc 0x0 0x0 0\n\
                1: malloc 0x10 0\n";
    let trace = of_text(text.as_bytes(), &ReadOptions::default());
    let operations: Vec<_> = trace.events().iter().map(|event| event.operation).collect();
    let expected = [
        Operation::Malloc {
            block: BlockId(0),
            size: 8,
        },
        Operation::FailedAllocation,
        Operation::Realloc {
            old: Some(BlockId(0)),
            block: BlockId(1),
            size: 0,
        },
        Operation::Free {
            block: BlockId(1),
            sized: false,
        },
        Operation::FailedAllocation,
        Operation::Malloc {
            block: BlockId(2),
            size: 0,
        },
    ];
    assert_eq!(operations, expected);
}

#[test]
fn munged_slots_never_assigned_mean_null_if_lenient() {
    let text = b"1 1 free(#7)\n1 1 realloc(#8,5)=#1\n1 1 free(#1)\n1 1 free(#1)\n";
    let trace = of_text(
        text,
        &ReadOptions {
            lenient: true,
            ..ReadOptions::default()
        },
    );
    let operations: Vec<_> = trace.events().iter().map(|event| event.operation).collect();
    let expected = [
        Operation::FreeNull,
        Operation::Realloc {
            old: None,
            block: BlockId(0),
            size: 5,
        },
        Operation::Free {
            block: BlockId(0),
            sized: false,
        },
    ];
    assert_eq!(operations, expected);
    assert_eq!(
        trace.origin().dropped_lines,
        1,
        "a slot freed twice is no null"
    );
    assert_eq!(
        trace.origin().warnings,
        ["slots used before they were assigned were taken as null (2 uses)"]
    );
}
