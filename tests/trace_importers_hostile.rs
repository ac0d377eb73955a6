//! Files in other tools' formats that nobody's tool wrote: every fault is told with its place, and
//! nothing fills the memory. Files altered at random: `fuzz_smoke.rs`.

#![cfg(feature = "suite")]
#![forbid(unsafe_code)]

#[path = "importers/common.rs"]
mod common;
#[allow(dead_code, reason = "these tests make their files of its records")]
#[path = "importers/fixtures.rs"]
mod fixtures;

use common::{LENIENT, STRICT, outcome};
use fixtures::{
    allocations_max, chatty_record, dj_record, instruction, low_first, step, trace_line, workload,
};
use mymalloc::trace::stream::{Batch, EventSink};
use mymalloc::trace::{ReadOptions, read_into};

/// Strict reading refuses the content and says `expected`; lenient reading keeps what is good and
/// says what was not, or refuses all.
fn refused(content: &[u8], expected: &str) {
    let message = outcome(content, &STRICT).expect_err(expected);
    common::assert_clear(&message);
    assert!(
        message.contains(expected),
        "{message:?} should say {expected:?}"
    );
    match outcome(content, &LENIENT) {
        Ok(trace) => {
            let origin = trace.origin();
            let told = origin.dropped_lines > 0 || !origin.warnings.is_empty();
            assert!(told, "{expected}");
        }
        Err(message) => common::assert_clear(&message),
    }
}

/// More good records than are looked at to tell the format, then one that `said` tells of.
fn refused_late(good: impl Fn(u64) -> Vec<u8>, count: u64, cases: &[(Vec<u8>, &'static str)]) {
    let good: Vec<u8> = (0..count).flat_map(good).collect();
    assert!(good.len() > 16 * 1024);
    for (record, said) in cases {
        let content = [good.as_slice(), record].concat();
        refused(&content, said);
        let place = format!("t: byte {} (record {}): ", good.len(), count + 1);
        let message = outcome(&content, &STRICT).unwrap_err();
        assert!(message.starts_with(&place), "{message:?} {place:?}");
        // What stands behind is read, if lenient.
        let trace = outcome(&content, &LENIENT).unwrap();
        assert_eq!(trace.counts().total(), count);
        assert_eq!(trace.origin().dropped_lines, 1);
        assert!(trace.origin().dropped_examples[0].starts_with(&place[3..]));
    }
}

#[test]
fn dj_traces() {
    let good = |n| dj_record(1, 1, 0, [0, 0x1_0000 + 64 * n, 10, 0]);
    refused_late(
        good,
        400,
        &[
            (
                dj_record(1, 77, 0, [0; 4]),
                "found 01 00 00 00 4d 00 00 00 00 00 00 00 00 00 00 00 ..., expected a record type",
            ),
            (
                dj_record(1, 0, 0, [0; 4]),
                "an unused record to be all zeros",
            ),
            (dj_record(1, 255, 0, [1, 0, 8, 0]), "expected a record type"),
            (vec![1; 64], "expected zeros in the last 16 bytes"),
            (
                dj_record(1, 1, 0, [0, 5, 1 << 48, 0]),
                "a request of 281474976710656 bytes, expected at most 2^47",
            ),
            (
                dj_record(1, 2, 0, [0, 5, u64::MAX, 0]),
                "a request of 2^64 or more bytes",
            ),
            (
                dj_record(1, 8, 0, [0, 5, 10, 24]),
                "alignment 24, expected a power of two",
            ),
            (
                dj_record(1, 1, 0, [0, 0x1_0000, 10, 0]),
                "0x10000 is allocated again while it is live: record 1 allocated it",
            ),
        ],
    );
}

#[test]
fn alk_traces() {
    let good = |n| instruction(0, n, 10, 0);
    refused_late(
        good,
        700,
        &[
            (instruction(8, 0, 0, 0), "an instruction from 0 to 7"),
            (instruction(0, 1 << 30, 0, 0), "a register below 2^30"),
            (instruction(4, 0, 1 << 60, 1), "a new register below 2^30"),
            (
                instruction(1, 700, 0, 0),
                "free of register 700, which was not allocated before",
            ),
            (
                instruction(0, 3, 1, 0),
                "register 3 is allocated again while it is live: record 4 allocated it",
            ),
            (
                instruction(0, 700, 1 << 60, 0),
                "a request of 1152921504606846976 bytes",
            ),
            (
                instruction(3, 700, 8, 3 << 60),
                "alignment 3458764513820540928, expected a power of two",
            ),
        ],
    );
}

#[test]
fn chattymalloc_records() {
    let good = |n| chatty_record(7, 1, 0x1_0000 + 64 * n, 10, 0);
    let slow = [
        vec![0; 8],
        1_000_000_000_u64.to_le_bytes().to_vec(),
        good(999)[16..].to_vec(),
    ]
    .concat();
    refused_late(
        good,
        400,
        &[
            (chatty_record(7, 11, 5, 1, 0), "a function from 1 to 10"),
            (chatty_record(7, 0, 0, 0, 0), "a function from 1 to 10"),
            (chatty_record(0, 1, 5, 1, 0), "a thread number above 0"),
            (chatty_record(-7, 1, 5, 1, 0), "a thread number above 0"),
            (slow, "a duration of less than 10^9 nanoseconds"),
            (
                chatty_record(7, 4, 5, 1 << 40, 1 << 40),
                "a request of 2^64 or more bytes",
            ),
            (
                chatty_record(8, 9, 5, 1, 3),
                "alignment 3, expected a power of two",
            ),
        ],
    );
}

#[test]
fn protobuf_traces() {
    let good = |n| trace_line(1, [Some(n), Some(10), None]);
    let long_line = [vec![0x0a], low_first(4000), vec![0; 4000]].concat();
    refused_late(
        good,
        3000,
        &[
            (
                trace_line(1, [Some(u64::MAX), Some(1), None]),
                "a block number below 2^64 - 1",
            ),
            (
                trace_line(2, [Some(3000), None, None]),
                "free of block 3000, which was not allocated before",
            ),
            (
                trace_line(3, [Some(4000), Some(1), Some(1 << 60)]),
                "a request of 1152921504606846976 bytes",
            ),
            (
                trace_line(1, [Some(4), None, None]),
                "block 4 is allocated again while it is live: record 5 allocated it",
            ),
            (
                trace_line(9, [None; 3]),
                "a malloc, free, realloc or calloc",
            ),
            (vec![0x0a, 2, 0xff, 0xff], "a call as a protocol buffer"),
            (long_line, "a line of at most 1024 bytes"),
        ],
    );
    let all = |tail: &[u8]| [(0..3000).flat_map(good).collect(), tail.to_vec()].concat();
    // Here the next field is not to be found: what stands before is all.
    for (tail, said) in [
        (&[0x0f][..], "no field of a protocol buffer begins here"),
        (&[0x10, 0x80], "a number of the field has no end"),
        (&[0xff; 11], "a number of the field has no end"),
        (
            &[
                0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
            ],
            "a number of the field is above 2^64",
        ),
        // A field of 2^60 bytes.
        (
            &[
                0x1a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10, 0,
            ],
            "the file ends inside a field",
        ),
        (
            &[0x0a, 30, 1],
            "the file ends after 1 of the record's 30 bytes",
        ),
    ] {
        refused(&all(tail), said);
        let trace = outcome(&all(tail), &LENIENT).unwrap();
        assert_eq!(trace.counts().total(), 3000);
    }
    refused(
        &all(&allocations_max(2999)),
        "the file announces 2999 blocks at a time and uses the block number 2999",
    );
    // Fields of later versions are passed over, whatever their type.
    let later = all(&[
        &[
            0x1d, 1, 2, 3, 4, 0x19, 1, 2, 3, 4, 5, 6, 7, 8, 0x22, 2, 9, 9, 0x28, 7,
        ][..],
        &allocations_max(1 << 60),
    ]
    .concat());
    let trace = outcome(&later, &STRICT).unwrap();
    assert_eq!(trace.counts().total(), 3000);
    assert_eq!(trace.origin().warnings, [""; 0]);
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn bytehound_replays() {
    let many = |tail: &[u64]| {
        let mut all = vec![1 << 20];
        all.extend((0..600).flat_map(|slot| [1, slot, 7, 10]));
        all.extend_from_slice(tail);
        words(&all)
    };
    let place = "byte 19208 (record 601): ";
    for (tail, said) in [
        (&[6, 0, 0, 0, 0][..], "an operation from 1 to 5"),
        (&[9, u64::MAX, 0, 0, 0], "an operation from 1 to 5"),
        (&[1, 1 << 20, 0, 1, 0], "a slot below the number"),
        (&[1, u64::MAX, 0, 1, 0], "a slot below the number"),
        (
            &[2, 700, 0, 0, 0],
            "free of slot 700, which was not allocated",
        ),
        (&[2, 5, 0, 9, 0], "no size with a free"),
        (&[3, 700, 0, 9, 0], "realloc of slot 700, which was not"),
        (
            &[1, 5, 0, 9, 0],
            "slot 5 is allocated again while it is live: record 6",
        ),
        (&[1, 700, 0, 1 << 60, 0], "a request of 1152921504606846976"),
        (&[1, 700, u64::MAX, 1, 0], "a time that fits nanoseconds"),
        (&[4, 1, 1, 0, 0], "a frame and nothing else"),
        (&[5, 1, 0, 0, 0], "zeros behind a return"),
        (&[5, 0, 0, 0, 0], "no more returns than calls"),
    ] {
        refused(&many(tail), said);
        refused(&many(tail), place);
        let trace = outcome(&many(tail), &LENIENT).unwrap();
        assert_eq!(trace.counts().total(), 600);
    }
    refused(&many(&[]), "byte 19208: the zero at the end is missing");
    refused(
        &many(&[2, 1]),
        "the file ends after 16 of the record's 32 bytes",
    );
    refused(&many(&[0, 0]), "there are bytes behind the zero at the end");
    assert!(outcome(&many(&[0]), &STRICT).is_ok());
}

#[test]
fn workloads() {
    let one = |blocks, marks, steps: &[Vec<u8>]| {
        let mut steps = steps.to_vec();
        steps.insert(0, step(2, &[1, 8]));
        workload(blocks, marks, &[steps]).bytes
    };
    let done = || step(1, &[]);
    for (steps, said) in [
        (
            vec![step(15, &[1]), done()],
            "byte 12: found 0f 01 01, expected an operation",
        ),
        (
            vec![step(2, &[10, 8]), done()],
            "a block number within what the file announces",
        ),
        (
            vec![step(6, &[1]), done()],
            "a mark within what the file announces",
        ),
        (
            vec![step(2, &[2, 1 << 60]), done()],
            "a request of 1152921504606846976 bytes",
        ),
        (
            vec![step(12, &[2, 3 << 60, 8]), done()],
            "alignment 3458764513820540928",
        ),
        (vec![vec![5]], "expected a number that ends"),
        (
            vec![vec![
                2, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
            ]],
            "2^64",
        ),
        (
            vec![],
            "expected the thread's end (1) before the end of its stream",
        ),
        (
            vec![step(5, &[1]), step(5, &[1]), done()],
            "byte 14: free of block 1, which the operation at byte 12 freed already",
        ),
        (
            vec![step(5, &[2]), done()],
            "free of block 2, which was not allocated before",
        ),
        (
            vec![step(2, &[1, 9]), done()],
            "block 1 is allocated again while it is live: the operation at byte 9 allocated it",
        ),
    ] {
        refused(&one(3, 0, &steps), said);
    }
    // Two threads that wait for each other.
    let deadlock = workload(
        2,
        2,
        &[
            vec![step(2, &[1, 8]), step(7, &[2]), step(6, &[1]), done()],
            vec![step(7, &[1]), step(6, &[2]), step(5, &[1]), done()],
        ],
    );
    refused(
        &deadlock.bytes,
        "found 07 02, expected a mark that a thread sets which does not wait itself",
    );
    let trace = outcome(&deadlock.bytes, &LENIENT).unwrap();
    assert_eq!((trace.counts().malloc, trace.counts().free), (1, 1));
    assert_eq!(trace.origin().dropped_lines, 1);
}

/// The opening block of a workload, by itself.
#[test]
fn openings_of_workloads() {
    let opening = |steps: &[Vec<u8>]| steps.concat();
    let head = || vec![step(8, &[9]), step(9, &[0])];
    for steps in [
        // 2^60 threads, none of which begins.
        [
            head(),
            vec![step(10, &[1 << 60]), step(11, &[9]), step(1, &[])],
        ]
        .concat(),
        [
            head(),
            vec![step(10, &[1]), step(11, &[1 << 60]), step(1, &[])],
        ]
        .concat(),
        [head(), vec![step(10, &[2]), step(11, &[9]), step(1, &[])]].concat(),
        [head(), vec![step(10, &[1]), step(11, &[0]), step(1, &[])]].concat(),
        [
            head(),
            vec![
                step(10, &[2]),
                step(11, &[11]),
                step(11, &[11]),
                step(1, &[]),
                step(1, &[]),
            ],
        ]
        .concat(),
    ] {
        let message = outcome(&opening(&steps), &STRICT).unwrap_err();
        common::assert_clear(&message);
        let message = outcome(&opening(&steps), &LENIENT).unwrap_err();
        common::assert_clear(&message);
    }
}

/// Counts events and keeps none.
struct Counter(u64);

impl EventSink for Counter {
    fn take(&mut self, batch: &Batch) -> mymalloc::error::Result<()> {
        self.0 += batch.events.len() as u64;
        Ok(())
    }
}

/// Resident memory of this process, in bytes: the most there was.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

/// A file of some kilobytes that holds a quarter of a gigabyte of zeros, or of the same few records.
#[test]
fn bombs_are_read_in_bounded_memory() {
    const BOMB_BYTES: usize = 1 << 28;
    let repeated = |first: &[u8], period: &[u8]| {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        std::io::Write::write_all(&mut encoder, first).unwrap();
        let piece = period.repeat((1 << 20) / period.len() + 1);
        for _ in 0..BOMB_BYTES / piece.len() {
            std::io::Write::write_all(&mut encoder, &piece).unwrap();
        }
        encoder.finish().unwrap()
    };
    let malloc_and_free = |malloc: Vec<u8>, free: Vec<u8>| [malloc, free].concat();
    let bombs = [
        // Unused records.
        repeated(&dj_record(1, 1, 0, [0, 5, 10, 0]), &[0; 64]),
        repeated(
            &chatty_record(1, 1, 5, 10, 0),
            &malloc_and_free(chatty_record(1, 1, 6, 10, 0), chatty_record(1, 2, 6, 0, 0)),
        ),
        repeated(
            &[],
            &malloc_and_free(
                trace_line(1, [Some(0), Some(10), None]),
                trace_line(2, [Some(0), None, None]),
            ),
        ),
        repeated(b"v 10400 3\nx 1 a\n+ 1 0 10\n", b"+ 1 0 20\n- 20\n"),
        repeated(b"v 10400 3\ns 1 a\na 10 0\n+ 0\n", b"+ 0\n- 0\n"),
    ];
    let before = peak_bytes();
    for (number, bomb) in bombs.iter().enumerate() {
        assert!(bomb.len() < 2 << 20, "bomb {number}: {} bytes", bomb.len());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bomb");
        std::fs::write(&path, bomb).unwrap();
        let mut counter = Counter(0);
        let options = ReadOptions::default();
        read_into(&path, &options, &mut counter)
            .unwrap_or_else(|error| panic!("{number}: {error}"));
        assert!(counter.0 > 0);
    }
    let grown = peak_bytes() - before;
    assert!(grown < 100 << 20, "{} MiB more", grown >> 20);
}

/// A hundred thousand threads that all allocate an address which nobody frees: each waits for the release,
/// but not all of them at once.
#[test]
fn records_are_not_held_back_without_end() {
    let mut content = dj_record(0, 1, 0, [0, 0x1000, 8, 0]);
    for thread in 1..100_000 {
        content.extend(dj_record(thread, 1, 0, [0, 0x1000, 8, 0]));
    }
    content.extend(dj_record(0, 3, 0, [0x1000, 0, 0, 0]));
    let message = outcome(&content, &STRICT).unwrap_err();
    let first = "byte 64 (record 2): 0x1000 is allocated again while it is live: record 1";
    assert!(message.contains(first), "{message}");
    let before = peak_bytes();
    let trace = outcome(&content, &LENIENT).unwrap();
    let grown = peak_bytes() - before;
    assert!(grown < 50 << 20, "{} MiB more", grown >> 20);
    // The first block and one of those that waited; the others came too early or too late.
    assert_eq!((trace.counts().malloc, trace.counts().free), (2, 1));
    assert_eq!(trace.origin().dropped_lines, 99_998);
    // One thread that waits and goes on, without end.
    let mut content = dj_record(0, 1, 0, [0, 0x1000, 8, 0]);
    for address in 1..100_000 {
        content.extend(dj_record(1, 1, 0, [0, 0x1000 * address, 8, 0]));
    }
    let message = outcome(&content, &STRICT).unwrap_err();
    assert!(message.contains(first), "{message}");
    let trace = outcome(&content, &LENIENT).unwrap();
    assert_eq!(trace.counts().malloc, 99_999);
    assert_eq!(trace.origin().dropped_lines, 1);
}

/// Twenty thousand threads that want the same block, and as many that wait for a mark nobody sets: each
/// call wakes one thread, not all of them.
#[test]
fn threads_that_want_the_same_are_woken_one_by_one() {
    const THREADS: usize = 20_000;
    let one = || vec![step(2, &[1, 8]), step(5, &[1]), step(1, &[])];
    let content = workload(1, 0, &vec![one(); THREADS]).bytes;
    let trace = outcome(&content, &STRICT).unwrap();
    assert_eq!(trace.counts().malloc, THREADS as u64);
    assert_eq!(trace.counts().free, THREADS as u64);
    // A realloc that finds its old block and waits for the new one leaves the old one to others.
    let content = workload(
        3,
        2,
        &[
            vec![
                step(2, &[2, 8]),
                step(7, &[2]),
                step(5, &[2]),
                step(2, &[1, 8]),
                step(1, &[]),
            ],
            vec![step(4, &[2, 1, 9]), step(5, &[2]), step(1, &[])],
            vec![step(5, &[1]), step(2, &[1, 8]), step(6, &[1]), step(1, &[])],
            vec![step(2, &[1, 8]), step(6, &[2]), step(1, &[])],
        ],
    );
    let trace = outcome(&content.bytes, &STRICT).unwrap();
    assert_eq!((trace.counts().malloc, trace.counts().realloc), (4, 1));
    let waiting = || vec![step(7, &[1]), step(1, &[])];
    let mut streams = vec![waiting(); THREADS];
    streams.push(vec![step(2, &[1, 8]), step(1, &[])]);
    let content = workload(1, 1, &streams).bytes;
    let trace = outcome(&content, &LENIENT).unwrap();
    assert_eq!(trace.counts().malloc, 1);
    assert_eq!(trace.origin().dropped_lines, THREADS as u64);
}
