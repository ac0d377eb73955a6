//! `mymalloc trace …`: the tools that write a trace, and what becomes of their files.

#![cfg(feature = "suite")]
#![forbid(unsafe_code)]

#[path = "common/tools.rs"]
mod tools;

use std::path::Path;
use std::process::{Command, Stdio};

use mymalloc::trace::profile::Profile;
use mymalloc::trace::{Operation, ReadOptions, Trace, read};
use tools::{TRACE, assert_refused, folder, names, stderr, trace};

/// The same grammar with time stamps in nanoseconds: see `data/android-times.txt`.
const TIMED: &str = include_str!("data/android-times.txt");

/// Every tool that writes, with what it needs beside its files.
const TOOLS: [&[&str]; 6] = [
    &["convert"],
    &["slice", "--count", "3"],
    &["filter", "--max-size", "1000"],
    &["anonymise"],
    &["scale", "--copies", "2"],
    &["merge"],
];

/// What a tool made of the files in a folder, as `out.log`.
fn made(folder: &Path, arguments: &[&str]) -> Trace {
    let output = trace(folder, arguments);
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        stderr(&output)
    );
    read(&folder.join("out.log"), &ReadOptions::default()).unwrap()
}

/// Requested bytes of the allocations, in order.
fn sizes(trace: &Trace) -> Vec<u64> {
    let operations = trace.events().iter().map(|event| &event.operation);
    let allocations = operations.filter(|operation| operation.allocates().is_some());
    allocations.map(Operation::requested_bytes).collect()
}

#[test]
fn no_tool_overwrites_what_it_reads() {
    for tool in TOOLS {
        let folder = folder(&[("in", TRACE)]);
        std::os::unix::fs::symlink("in", folder.path().join("link")).unwrap();
        std::fs::hard_link(folder.path().join("in"), folder.path().join("hard")).unwrap();
        for other in ["in", "./in", "link", "hard"] {
            let arguments = [tool, &["in", other]].concat();
            assert_refused(folder.path(), &arguments, 2, "is the trace to read");
        }
        assert_eq!(
            std::fs::read_to_string(folder.path().join("in")).unwrap(),
            TRACE
        );
        assert_eq!(names(folder.path()), ["hard", "in", "link"]);
    }
}

#[test]
fn a_failure_leaves_the_old_file_and_nothing_else() {
    let broken = format!("{TRACE}1 1 oops(1)\n");
    for tool in TOOLS {
        let folder = folder(&[("in", &broken), ("out.log", "old")]);
        let arguments = [tool, &["in", "out.log"]].concat();
        assert_refused(folder.path(), &arguments, 1, "in:7: ");
        assert_eq!(
            std::fs::read_to_string(folder.path().join("out.log")).unwrap(),
            "old"
        );
        assert_eq!(names(folder.path()), ["in", "out.log"]);
        // And what can be read is kept if asked for.
        let arguments = [tool, &["--lenient", "in", "out.log"]].concat();
        assert!(!sizes(&made(folder.path(), &arguments)).is_empty());
    }
}

#[test]
fn an_interrupt_leaves_nothing() {
    let folder = folder(&[]);
    let fifo = folder.path().join("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    for tool in [&["convert"][..], &["anonymise"], &["slice", "--first", "1"]] {
        let child = Command::new(env!("CARGO_BIN_EXE_mymalloc"))
            .arg("trace")
            .args(tool)
            .args(["fifo", "out.log"])
            .current_dir(folder.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Opens when the tool does; it stays open, so that the tool waits for more.
        let mut writer = std::fs::File::options().write(true).open(&fifo).unwrap();
        std::io::Write::write_all(&mut writer, TRACE.as_bytes()).unwrap();
        let pid = child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-INT", &pid])
                .status()
                .unwrap()
                .success()
        );
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(130),
            "{tool:?}: {}",
            stderr(&output)
        );
        assert_eq!(names(folder.path()), ["fifo"], "{tool:?}");
    }
}

#[test]
fn a_slice_begins_with_the_live_set() {
    let folder = folder(&[("in", TRACE)]);
    let slice = |more: &[&'static str]| [&["slice"], more, &["in", "out.log"]].concat();
    let piece = made(folder.path(), &slice(&["--first", "3", "--count", "2"]));
    // The block of 200 bytes came by realloc, and the one of 32 by calloc; then free and malloc.
    assert_eq!(sizes(&piece), [32, 200, 5000]);
    assert_eq!(piece.counts().calloc, 1);
    assert_eq!(piece.counts().realloc, 0);
    assert_eq!(Profile::of(&piece).cross_thread_frees, 1);
    let piece = made(folder.path(), &slice(&["--first", "3", "--no-live-set"]));
    assert_eq!(sizes(&piece), [5000]);
    assert_eq!((piece.counts().free, piece.counts().free_null), (0, 1));

    for (arguments, words) in [
        (&["--first", "6"][..], "the trace has 6 events"),
        (&["--count", "0"], "none lies in this piece"),
        (
            &["--first", "3", "--count", "1", "--no-live-set"],
            "only frees of blocks",
        ),
        (&["--from", "1s"], "no time stamps"),
        (&[], "which piece?"),
    ] {
        std::fs::remove_file(folder.path().join("out.log")).ok();
        assert_refused(folder.path(), &slice(arguments), 2, words);
        assert_eq!(names(folder.path()), ["in"], "{arguments:?}");
    }
}

#[test]
fn a_slice_by_time() {
    let folder = folder(&[("in", TIMED)]);
    let whole = read(&folder.path().join("in"), &ReadOptions::default()).unwrap();
    let times = whole.times_ns().unwrap();
    // Up to right before the last moment.
    let length_ns = times[times.len() - 1] - times[0];
    let until = format!("{length_ns}ns");
    let piece = made(
        folder.path(),
        &["slice", "--until", &until, "in", "out.log"],
    );
    let expected = times
        .iter()
        .filter(|&&time| time - times[0] < length_ns)
        .count();
    assert_eq!(piece.events(), &whole.events()[..expected]);
}

#[test]
fn a_filter_keeps_blocks_with_all_that_happens_to_them() {
    let folder = folder(&[("in", TRACE)]);
    let filter = |more: &[&'static str]| [&["filter"], more, &["in", "out.log"]].concat();
    assert_eq!(
        sizes(&made(folder.path(), &filter(&["--thread", "1"]))),
        [32]
    );
    assert_eq!(
        sizes(&made(folder.path(), &filter(&["--thread", "0,1"]))),
        [100, 32, 200, 5000]
    );
    assert_eq!(
        sizes(&made(folder.path(), &filter(&["--min-size", "4K"]))),
        [5000]
    );
    let small = made(folder.path(), &filter(&["--max-size", "150"]));
    // The realloc to 200 bytes became a free.
    assert_eq!(sizes(&small), [100, 32]);
    assert_eq!((small.counts().free, small.counts().realloc), (1, 0));
    let large = made(folder.path(), &filter(&["--max-size", "150", "--invert"]));
    assert_eq!(sizes(&large), [200, 5000]);
    assert_eq!((large.counts().free, large.counts().realloc), (1, 1));
    assert_eq!(
        sizes(&made(folder.path(), &filter(&["--operation", "calloc"]))),
        [32]
    );

    std::fs::remove_file(folder.path().join("out.log")).unwrap();
    for (arguments, words) in [
        (&[][..], "filter by what?"),
        (&["--thread", "9"], "none is left with: thread 9"),
        (
            &["--min-size", "2", "--max-size", "1"],
            "exchange --min-size and --max-size",
        ),
        (&["--site", "main"], "has no call sites"),
    ] {
        assert_refused(folder.path(), &filter(arguments), 2, words);
        assert_eq!(names(folder.path()), ["in"], "{arguments:?}");
    }
}

#[test]
fn an_anonymous_trace_holds_nothing_of_the_original() {
    let folder = folder(&[("secret-program.txt", TIMED)]);
    let input = folder.path().join("secret-program.txt");
    let original = read(&input, &ReadOptions::default()).unwrap();
    for format in ["text", "logalloc", "jsonl"] {
        let arguments = ["anonymise", "--round-sizes", "16", "--format", format];
        let arguments = [&arguments[..], &["secret-program.txt", "out"]].concat();
        let output = trace(folder.path(), &arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        let text = std::fs::read_to_string(folder.path().join("out")).unwrap();
        for secret in [
            "secret",
            ".txt",
            &original.origin().sha256,
            "memalign for every function",
        ] {
            assert!(!text.contains(secret), "{format}: {secret}: {text}");
        }
        // Thread ids, addresses and times of the file.
        for word in TIMED.split_whitespace().filter(|word| word.len() > 4) {
            let is_number = word
                .trim_start_matches("0x")
                .chars()
                .all(|c| c.is_ascii_hexdigit());
            let digits = word.trim_start_matches("0x").trim_end_matches(':');
            assert!(
                !is_number || !text.contains(digits),
                "{format}: {word}: {text}"
            );
        }
    }
    let arguments = [
        "anonymise",
        "--round-sizes",
        "classes",
        "secret-program.txt",
        "out.log",
    ];
    let result = made(folder.path(), &arguments);
    assert_eq!(result.events().len(), original.events().len());
    assert!(result.times_ns().is_none());
    assert_refused(
        folder.path(),
        &[
            "anonymise",
            "--round-sizes",
            "0",
            "secret-program.txt",
            "out.log",
        ],
        2,
        "invalid value '0'",
    );
}

#[test]
fn scaling_multiplies() {
    let folder = folder(&[("in", TRACE)]);
    let whole = read(&folder.path().join("in"), &ReadOptions::default()).unwrap();
    let one = Profile::of(&whole);
    for (mode, threads) in [("--interleave", 6), ("--stretch", 2)] {
        let copies = made(
            folder.path(),
            &["scale", "--copies", "3", mode, "in", "out.log"],
        );
        let all = Profile::of(&copies);
        assert_eq!(all.counts.total(), 18, "{mode}");
        assert_eq!(all.threads, threads, "{mode}");
        assert_eq!(all.live_bytes_end, 3 * one.live_bytes_end, "{mode}");
        assert_eq!(all.cross_thread_frees, 3, "{mode}");
    }
    std::fs::remove_file(folder.path().join("out.log")).unwrap();
    for (copies, words) in [
        ("0", "no trace"),
        ("4000000000", "at most 715827882 copies"),
    ] {
        let arguments = ["scale", "--stretch", "--copies", copies, "in", "out.log"];
        assert_refused(folder.path(), &arguments, 2, words);
    }
    let arguments = ["scale", "--copies", "5001", "in", "out.log"];
    assert_refused(
        folder.path(),
        &arguments,
        2,
        "threads at once, and the limit is 10000",
    );
    assert_eq!(names(folder.path()), ["in"]);
}

#[test]
fn merging_keeps_threads_apart() {
    let other = "7 9 malloc(1)=#1\n7 9 malloc(2)=#2\n7 9 malloc(3)=#3\n";
    let folder = folder(&[("a", TRACE), ("b", other), ("timed", TIMED)]);
    let in_turn = ["merge", "--order", "round-robin", "a", "b", "out.log"];
    let result = made(folder.path(), &in_turn);
    assert_eq!(sizes(&result), [100, 1, 32, 2, 200, 3, 5000]);
    assert_eq!(result.thread_count(), 3);
    let result = made(folder.path(), &["merge", "a", "b", "out.log"]);
    assert_eq!(sizes(&result), [100, 32, 200, 5000, 1, 2, 3]);
    // By time if all have stamps: the same twice is every event twice in a row, on other threads.
    let once = read(&folder.path().join("timed"), &ReadOptions::default()).unwrap();
    let twice = made(folder.path(), &["merge", "timed", "timed", "out.log"]);
    assert_eq!(twice.events().len(), 2 * once.events().len());
    assert_eq!(twice.thread_count(), 2 * once.thread_count());
    let doubled: Vec<u64> = sizes(&once)
        .into_iter()
        .flat_map(|size| [size, size])
        .collect();
    let ordered = |mut sizes: Vec<u64>| {
        sizes.sort_unstable();
        sizes
    };
    assert_eq!(ordered(sizes(&twice)), ordered(doubled));
    std::fs::remove_file(folder.path().join("out.log")).unwrap();
    let arguments = ["merge", "--order", "time", "timed", "b", "out.log"];
    assert_refused(
        folder.path(),
        &arguments,
        2,
        "b: has no time stamps to merge by",
    );
    assert_refused(
        folder.path(),
        &["merge", "a", "missing", "out.log"],
        1,
        "missing: ",
    );
    assert_eq!(names(folder.path()), ["a", "b", "timed"]);
}

#[test]
fn tools_that_read_twice_refuse_pipes() {
    let folder = folder(&[("in", TRACE)]);
    assert!(
        Command::new("mkfifo")
            .arg(folder.path().join("fifo"))
            .status()
            .unwrap()
            .success()
    );
    for arguments in [
        &["scale", "--copies", "2", "fifo", "out.log"][..],
        &["merge", "in", "fifo", "out.log"],
        &["filter", "--site", "x", "fifo", "out.log"],
    ] {
        assert_refused(folder.path(), arguments, 2, "reads a trace twice");
    }
}

#[test]
fn standard_output_holds_the_trace_and_nothing_else() {
    let folder = folder(&[("in", TRACE)]);
    for format in ["binary", "text", "jsonl"] {
        let arguments = ["convert", "--format", format, "in"];
        let to_file = [&arguments[..], &["out"]].concat();
        assert!(trace(folder.path(), &to_file).status.success());
        let output = trace(folder.path(), &[&arguments[..], &["/dev/stdout"]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let expected = std::fs::read(folder.path().join("out")).unwrap();
        assert_eq!(output.stdout, expected, "{format}");
        assert_eq!(stderr(&output), "/dev/stdout: 6 events\n");
    }
}

#[test]
fn names_need_not_be_text() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = folder(&[]);
    let input = folder.path().join(std::ffi::OsStr::from_bytes(b"in\xff"));
    std::fs::write(&input, TRACE).unwrap();
    for (name, magic) in [
        (&b"\xff.trace"[..], &b"\x93MMTR\r\n\x1a"[..]),
        (b"\xff.jsonl", b"{\"format\""),
        (b"\xff.log.gz", b"\x1f\x8b"),
        (b"\xff.trace.zst", b"\x28\xb5\x2f\xfd"),
    ] {
        let output = folder.path().join(std::ffi::OsStr::from_bytes(name));
        let status = Command::new(env!("CARGO_BIN_EXE_mymalloc"))
            .args(["trace", "convert"])
            .args([&input, &output])
            .status()
            .unwrap();
        assert!(status.success());
        assert!(
            std::fs::read(&output).unwrap().starts_with(magic),
            "{name:?}"
        );
        let back = read(&output, &ReadOptions::default()).map(|trace| trace.events().len());
        assert!(name.ends_with(b"jsonl") || back.unwrap() == 6, "{name:?}");
    }
}

#[test]
fn a_filter_by_lifetime() {
    let folder = folder(&[("in", TRACE)]);
    let filter = |range: &'static str| ["filter", "--lifetime", range, "in", "out.log"];
    // 100 bytes live 2 events, 200 bytes one; 32 and 5000 are never freed.
    assert_eq!(sizes(&made(folder.path(), &filter("2..2"))), [100]);
    assert_eq!(sizes(&made(folder.path(), &filter("..1"))), [200]);
    assert_eq!(sizes(&made(folder.path(), &filter("2.."))), [100, 32, 5000]);
    let rest = ["filter", "--lifetime", "..100", "--invert", "in", "out.log"];
    assert_eq!(sizes(&made(folder.path(), &rest)), [32, 5000]);
    let note = made(folder.path(), &filter("2..")).origin().notes.join(" ");
    assert!(
        note.contains("freed after 2 further events or more, or never"),
        "{note}"
    );
    std::fs::remove_file(folder.path().join("out.log")).unwrap();
    for (range, words) in [
        ("5..4", "exchange MIN and MAX"),
        ("x", "such as 1..100"),
        ("50..60", "none is left with: freed after 50 to 60"),
    ] {
        assert_refused(folder.path(), &filter(range), 2, words);
    }
}

/// The piece through the index of a binary file is the one that reading from the beginning gives.
#[test]
fn a_slice_of_a_binary_file() {
    let folder = folder(&[]);
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads/traces/cc1plus.trace");
    let input = bundled.to_str().unwrap();
    for live_set in [&["--no-live-set"][..], &[]] {
        // Across the end of a chunk.
        let range = ["slice", "--first", "1048000", "--count", "2000"];
        let piece = |name| [&range[..], live_set, &[name, "out.log"]].concat();
        let by_index = made(folder.path(), &piece(input));
        let packed = folder.path().join("packed.trace.zst");
        std::fs::write(
            &packed,
            zstd::encode_all(&*std::fs::read(&bundled).unwrap(), 1).unwrap(),
        )
        .unwrap();
        let from_the_beginning = made(folder.path(), &piece("packed.trace.zst"));
        assert_eq!(by_index.events(), from_the_beginning.events());
        assert_eq!(by_index.origin().notes, from_the_beginning.origin().notes);
    }
}

/// However many there are: only one of them is open at a time.
#[test]
fn many_traces_follow_one_another_with_few_files_open() {
    const TRACES: usize = 100;
    let folder = folder(&[("a", TRACE)]);
    let script = "ulimit -n 32 && exec \"$0\" trace merge --order sequential \"$@\" out.log";
    let output = Command::new("/bin/sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_mymalloc")])
        .args(["a"; TRACES])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let events = |name| {
        let path = folder.path().join(name);
        let trace = read(&path, &ReadOptions::default()).unwrap();
        trace.events().len()
    };
    assert_eq!(events("out.log"), TRACES * events("a"));
}
