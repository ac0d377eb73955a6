//! valgrind --trace-malloc=yes.

use mymalloc::trace::{Format, ReadOptions};

use super::told::{
    LENIENT, STRICT, assert_refused, assert_says, assert_told, outcome, strict, told,
};

/// What `__libc_freeres` does: so many frees of null, one of a block, and so many of null again.
fn freed_at_the_end(before: usize, block: &str, after: usize) -> Vec<String> {
    let nulls = |count| vec!["0 free(null)".to_owned(); count];
    [nulls(before), vec![block.to_owned()], nulls(after)].concat()
}

#[test]
fn the_demo() {
    let trace = strict("valgrind.txt");
    assert_eq!(trace.origin().format, Format::Valgrind);
    let events = told(&trace);
    let (program, end) = events.split_at(34);
    let expected = "0 malloc(42)=b0
         0 calloc(4,42)=b1
         0 malloc(0)=b2
         0 realloc(b1,84)=b3
         0 realloc(null,64)=b4
         0 memalign(512,1024)=b5
         0 memalign(4096,1000)=b6
         0 memalign(256,1024)=b7
         0 memalign(4096,1024)=b8
         0 realloc(null,240)=b9
         0 malloc(200000)=b10
         0 realloc(b10,4000000)=b11
         0 calloc(17,16)=b12
         0 malloc(777)=b13
         0 free(b0)
         0 free(null)
         0 free(null)
         0 free(b13)
         0 free(null)
         0 free(b2)
         0 free(b3)
         0 free(b4)
         0 free(b5)
         0 free(b6)
         0 free(b7)
         0 free(b8)
         0 free(b9)
         0 free(b11)
         0 malloc(16)=b14
         0 free(b14)
         0 malloc(99)=b15";
    let expected = super::told::lines(expected);
    assert_eq!(program[..expected.len()], expected);
    let end = [&program[expected.len()..], end].concat();
    assert_eq!(end, freed_at_the_end(44, "0 free(b12)", 48));
    assert_says(&trace.origin().notes, "no thread numbers");
    assert_says(&trace.origin().notes, "memalign for posix_memalign");
    assert_says(&trace.origin().notes, "--run-libc-freeres=no");
}

#[test]
fn operators_of_cxx() {
    let trace = strict("valgrind-cxx.txt");
    let events = told(&trace);
    let expected = super::told::lines(
        "0 malloc(72704)=b0
         0 malloc(4)=b1
         0 free(b1,sized)
         0 malloc(40)=b2
         0 free(b2)
         0 aligned_alloc(64,128)=b3
         0 free(b3,sized)
         0 aligned_alloc(64,384)=b4
         0 free(b4)
         0 malloc(20)=b5
         0 free(b5)
         0 free(b0)",
    );
    assert_eq!(events[..expected.len()], expected);
    assert!(events[expected.len()..].iter().all(|e| e == "0 free(null)"));
    assert_eq!(events.len() - expected.len(), 77);
}

#[test]
fn messages_stand_behind_output_without_a_line_end() {
    let trace = strict("valgrind-threads.txt");
    let events = told(&trace);
    // The first of three threads: its start, eight reallocs, its end.
    let expected = super::told::lines(
        "0 malloc(100)=b0
         0 calloc(17,16)=b1
         0 realloc(null,1000)=b2
         0 realloc(b2,2000)=b3
         0 realloc(b3,3000)=b4
         0 realloc(b4,4000)=b5
         0 realloc(b5,5000)=b6
         0 realloc(b6,6000)=b7
         0 realloc(b7,7000)=b8
         0 realloc(b8,8000)=b9
         0 free(b0)
         0 free(null)
         0 free(null)
         0 malloc(101)=b10",
    );
    assert_eq!(events[..expected.len()], expected);
    // stdout's buffer, and the calloc whose line begins with the program's output.
    let expected = super::told::lines(
        "0 free(b9)
         0 free(b19)
         0 free(b29)
         0 malloc(4096)=b30
         0 calloc(3,7)=b31
         0 free(b31)",
    );
    let at = 39;
    assert_eq!(events[at..at + expected.len()], expected);
    let counts = trace.counts();
    assert_eq!((counts.malloc, counts.calloc, counts.realloc), (4, 4, 24));
    // Every block but those of `malloc(101)` and so on is freed by the program; the starts' and
    // stdout's by valgrind.
    assert_eq!((counts.free, counts.free_null), (3 + 3 + 1 + 3 + 1, 127));
}

#[test]
fn one_process_of_several() {
    let text = "--7-- malloc(8) = 0x10\n--8-- free(0x10)\n--8-- malloc(9) = 0x20\n";
    let message = outcome(text.as_bytes(), &STRICT).unwrap_err();
    assert_eq!(
        message,
        "t:2: the log holds several processes (7, 8): choose one with --process PID"
    );
    let child = ReadOptions {
        process: Some(8),
        ..STRICT
    };
    // A child may free what it inherited.
    let trace = outcome(text.as_bytes(), &child).unwrap();
    assert_told(&trace, "0 free(unseen)\n0 malloc(9)=b0");
    assert_says(&trace.origin().notes, "left out: 7");
}

#[test]
fn newer_versions_do_not_show_every_pointer() {
    let text = "--7-- posix_memalign(al 64, size 8)\n\
                --7-- aligned_alloc(al 64, size 8)malloc(4) = 0x10\n\
                --7-- free(0x40)\n--7-- free(0x10)\n--7-- free(0x80)\n";
    let trace = outcome(text.as_bytes(), &STRICT).unwrap();
    assert_told(
        &trace,
        "0 malloc(4)=b0\n0 free(unseen)\n0 free(b0)\n0 free(unseen)",
    );
    let warnings = &trace.origin().warnings;
    assert_says(warnings, "2 blocks of posix_memalign or aligned_alloc lost");
    assert_says(
        warnings,
        "2 frees of blocks whose allocation was not recorded",
    );
}

#[test]
fn bad_lines() {
    for (text, expected) in [
        (
            "==7== Memcheck\nhello\n--7-- malloc(8) = 0x10\n--7-- malloc(x) = 0x20\n",
            "t:4: found \"--7-- malloc(x) = 0x20\", expected an argument",
        ),
        (
            "--7-- malloc(8) = 0x10\nhello\n--7-- free(0x20)\n",
            "t:3: free of 0x20, which was not allocated before",
        ),
        (
            "--7-- malloc(8) = 0x10\n--7-- calloc(4294967296,4294967296) = 0x20\n",
            "t:2: a request of 2^64 or more bytes",
        ),
        (
            "--7-- malloc(8) = 0x10\n--7-- memalign(al 1152921504606846976, size 8) = 0x20\n",
            "t:2: alignment 1152921504606846976, expected a power of two",
        ),
        (
            "--7-- malloc(8) = 0x10\n--7-- malloc(8",
            "t:2: found \"--7-- malloc(8\", expected ')' behind the arguments",
        ),
    ] {
        assert_refused(text, expected);
    }
    let message = outcome(b"==7== Memcheck\n==7== \nhello\n", &LENIENT).unwrap_err();
    let expected = "t: the trace holds no allocator operation; valgrind --trace-malloc traces are \
                    made with `valgrind --trace-malloc=yes --log-file=FILE PROGRAM`";
    assert_eq!(message, expected);
}

#[test]
fn output_before_the_first_message_is_no_bad_line() {
    let text = "hello\nworld\n--7-- malloc(8) = 0x10\n";
    assert_told(
        &outcome(text.as_bytes(), &STRICT).unwrap(),
        "0 malloc(8)=b0",
    );
    let trace = outcome(text.as_bytes(), &LENIENT).unwrap();
    assert_eq!(trace.origin().dropped_lines, 0);
    let late = format!("{}--7-- malloc(8) = 0x10\n", "hello\n".repeat(2000));
    let message = outcome(late.as_bytes(), &STRICT).unwrap_err();
    assert!(
        message.starts_with("t:1: not a trace: found \"hello\""),
        "{message}"
    );
    assert!(
        message.ends_with("1000 lines were looked at, --lenient looks at all"),
        "{message}"
    );
    assert_told(
        &outcome(late.as_bytes(), &LENIENT).unwrap(),
        "0 malloc(8)=b0",
    );
}
