//! Whatever trace is written is read back the same, up to what the grammar cannot tell, and what it
//! cannot tell is counted.

use std::path::Path;

use proptest::prelude::*;
use rustc_hash::FxHashMap;

use super::builder::TraceBuilder;
use super::{
    AlignedFunction, Event, Losses, Operation, OutputFormat, ReadOptions, ThreadIndex, Trace,
};
use super::{export, read, stream::feed, testing, write, write_to};

/// What of an operation a grammar keeps.
fn kept(format: OutputFormat, operation: Operation) -> Option<Operation> {
    use Operation::*;
    match (format, operation) {
        (OutputFormat::Text | OutputFormat::Binary, _) => Some(operation),
        (_, ThreadStart | FreeUnseen)
        | (OutputFormat::Logalloc, ThreadEnd)
        | (OutputFormat::Android, Mark) => None,
        (OutputFormat::Rep, ThreadEnd | Mark | FailedAllocation) => None,
        (OutputFormat::Rep, Calloc { block, .. } | Aligned { block, .. }) => Some(Malloc {
            block,
            size: operation.requested_bytes(),
        }),
        (
            OutputFormat::Android,
            Aligned {
                block,
                alignment_log2,
                size,
                ..
            },
        ) => {
            let function = AlignedFunction::Memalign;
            Some(Aligned {
                block,
                alignment_log2,
                function,
                size,
            })
        }
        (_, Free { block, .. }) => Some(Free {
            block,
            sized: false,
        }),
        _ => Some(operation),
    }
}

/// The events as the grammar keeps them, threads numbered in order of appearance.
fn expected(format: OutputFormat, trace: &Trace) -> Vec<Event> {
    let mut threads: FxHashMap<ThreadIndex, ThreadIndex> = FxHashMap::default();
    trace
        .events()
        .iter()
        .filter_map(|event| {
            let operation = kept(format, event.operation)?;
            let next = ThreadIndex(threads.len() as u32);
            let thread = match format {
                OutputFormat::Rep => ThreadIndex(0),
                _ => *threads.entry(event.thread).or_insert(next),
            };
            Some(Event { thread, operation })
        })
        .collect()
}

fn there_and_back(trace: &Trace, path: &Path, format: OutputFormat) -> (Losses, Trace) {
    let losses = write(trace, path, format).unwrap();
    (losses, read(path, &ReadOptions::default()).unwrap())
}

/// What every native format keeps.
fn assert_same(back: &Trace, trace: &Trace) {
    assert_eq!(back.events(), trace.events());
    assert_eq!(back.times_ns(), trace.times_ns());
    assert_eq!(back.sites(), trace.sites());
    assert_eq!(back.site_names(), trace.site_names());
    assert_eq!(back.block_count(), trace.block_count());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn every_grammar_keeps_what_it_can(trace in testing::traces(80)) {
        prop_assume!(trace.counts().operations() > 0);
        let folder = tempfile::tempdir().unwrap();
        for (format, name) in [
            (OutputFormat::Binary, "b.trace"),
            (OutputFormat::Text, "t.log"),
            (OutputFormat::Logalloc, "a.log"),
            (OutputFormat::Android, "a.txt"),
            (OutputFormat::Rep, "a.rep"),
        ] {
            let path = folder.path().join(name);
            let mut sink = export::create(&path, format).unwrap();
            feed(&trace, &mut sink).unwrap();
            let written = sink.finish(&trace.ending()).unwrap();
            let back = read(&path, &ReadOptions::default()).unwrap();
            let expected = expected(format, &trace);
            prop_assert_eq!(back.events(), expected.as_slice(), "{}", name);
            prop_assert_eq!(back.block_count(), trace.block_count());
            prop_assert_eq!(written.events, expected.len() as u64);
            // Of a failed allocation the trace itself holds no size, and a text must write one.
            let native = matches!(format, OutputFormat::Text | OutputFormat::Binary);
            let exact = native || trace.counts().failed_allocation == 0;
            let unchanged = expected == trace.events() && exact;
            let losses = written.losses;
            prop_assert_eq!(losses.is_empty(), unchanged, "{}: {:?}", name, losses);
        }
    }

    #[test]
    fn the_native_formats_lose_nothing(trace in testing::stamped_traces(200)) {
        prop_assume!(trace.counts().operations() > 0);
        let folder = tempfile::tempdir().unwrap();
        for (format, name) in NATIVE {
            let path = folder.path().join(name);
            let (losses, back) = there_and_back(&trace, &path, format);
            assert_same(&back, &trace);
            prop_assert!(losses.is_empty());
            // Written once more it is the same file, and so it is through every other format.
            for (other, other_name) in NATIVE {
                let between = folder.path().join(format!("between-{other_name}"));
                let (_, again) = there_and_back(&back, &between, other);
                let last = folder.path().join(format!("last-{name}"));
                write(&again, &last, format).unwrap();
                prop_assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&last).unwrap());
            }
        }
    }
}

/// The formats that lose nothing.
const NATIVE: [(OutputFormat, &str); 2] = [
    (OutputFormat::Text, "n.log"),
    (OutputFormat::Binary, "n.trace"),
];

#[test]
fn the_extension_chooses_the_compression() {
    let trace = testing::sawtooth(3000, 70);
    let folder = tempfile::tempdir().unwrap();
    let mut sizes_bytes = Vec::new();
    for (name, compression) in [
        ("a.log", None),
        ("b", None),
        ("a.log.gz", Some("gzip")),
        ("a.log.zst", Some("zstd")),
    ] {
        let path = folder.path().join(name);
        let (_, back) = there_and_back(&trace, &path, OutputFormat::Text);
        assert_eq!(back.events(), trace.events());
        assert_eq!(
            back.origin().compression.first().map(String::as_str),
            compression
        );
        sizes_bytes.push(std::fs::metadata(&path).unwrap().len());
    }
    assert_eq!(sizes_bytes[0], sizes_bytes[1]);
    assert!(sizes_bytes[2] < sizes_bytes[0] / 4 && sizes_bytes[3] < sizes_bytes[0] / 4);
}

#[test]
fn android_keeps_time_stamps_and_the_others_say_that_they_do_not() {
    let mut builder = TraceBuilder::new(testing::origin());
    let thread = ThreadIndex(0);
    let block = builder.malloc(thread, 10);
    builder.stamp(1_000);
    builder.free(thread, block, false);
    builder.stamp(1_700);
    builder.thread_end(thread);
    builder.stamp(2_000);
    let trace = builder.finish();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.txt");
    let (losses, back) = there_and_back(&trace, &path, OutputFormat::Android);
    assert_eq!(back.times_ns(), Some(&[1_000, 1_700, 2_000][..]));
    assert!(losses.is_empty(), "{losses:?}");
    let losses = write(&trace, &path, OutputFormat::Logalloc).unwrap();
    assert_eq!(
        losses.counts(),
        [("time stamps", 3), ("ends of threads", 1)]
    );
}

#[test]
fn the_size_of_a_failed_allocation_is_made_up_and_counted() {
    let mut builder = TraceBuilder::new(testing::origin());
    builder.malloc(ThreadIndex(0), 10);
    builder.failed_allocation(ThreadIndex(0));
    let trace = builder.finish();
    for (format, what) in [
        (
            OutputFormat::Logalloc,
            "sizes of allocations that failed while recording",
        ),
        (
            OutputFormat::Android,
            "sizes of allocations that failed while recording",
        ),
        (OutputFormat::Rep, "allocations that failed while recording"),
    ] {
        let losses = write_to(&trace, std::io::sink(), format).unwrap();
        assert_eq!(losses.counts(), [(what, 1)]);
    }
}

#[test]
fn a_reallocation_to_no_bytes_is_no_free_in_rep() {
    let mut builder = TraceBuilder::new(testing::origin());
    let block = builder.malloc(ThreadIndex(0), 10);
    let block = builder.realloc(ThreadIndex(0), Some(block), 0);
    builder.free(ThreadIndex(0), block, false);
    // Of null it is an allocation, whose block is freed like any other.
    let block = builder.realloc(ThreadIndex(0), None, 0);
    builder.free(ThreadIndex(0), block, false);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.rep");
    let (losses, back) = there_and_back(&builder.finish(), &path, OutputFormat::Rep);
    assert_eq!(back.counts().realloc, 2);
    assert_eq!(back.counts().free, 2);
    assert_eq!(
        losses.counts(),
        [("reallocations to no bytes, written as one byte", 1)]
    );
}

#[test]
fn what_cannot_be_written_is_said_and_leaves_nothing() {
    let trace = testing::sawtooth(10, 3);
    let error = write(&trace, Path::new("/nowhere/t.log"), OutputFormat::Text).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("/nowhere/t.log: cannot write: "),
        "{error}"
    );
    let folder = tempfile::tempdir().unwrap();
    let occupied = folder.path().join("folder");
    std::fs::create_dir(&occupied).unwrap();
    write(&trace, &occupied, OutputFormat::Text).unwrap_err();
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(left.len(), 1, "the temporary file is gone");
}
