//! glibc's mtrace.

use mymalloc::trace::Format;

use super::told::{LENIENT, assert_refused, assert_says, assert_told, outcome, strict};

#[test]
fn the_demo() {
    let trace = strict("mtrace.txt");
    assert_eq!(trace.origin().format, Format::Mtrace);
    // memalign, posix_memalign, aligned_alloc, valloc and pvalloc (a page more than was asked for)
    // are written like malloc, calloc(4,42) like malloc(168).
    assert_told(
        &trace,
        "0 malloc(42)=b0
         0 malloc(168)=b1
         0 malloc(0)=b2
         0 realloc(b1,84)=b3
         0 malloc(64)=b4
         0 malloc(1024)=b5
         0 malloc(1000)=b6
         0 malloc(1024)=b7
         0 malloc(1024)=b8
         0 malloc(4097)=b9
         0 malloc(240)=b10
         0 malloc(200000)=b11
         0 realloc(b11,4000000)=b12
         0 malloc(288)=b13
         0 malloc(777)=b14
         0 free(b0)
         0 free(b14)
         0 free(b2)
         0 free(b3)
         0 free(b4)
         0 free(b5)
         0 free(b6)
         0 free(b7)
         0 free(b8)
         0 free(b9)
         0 free(b10)
         0 free(b12)
         0 malloc(16)=b15
         0 free(b15)
         0 malloc(99)=b16
         0 free(b13)",
    );
    let notes = &trace.origin().notes;
    assert_says(notes, "no thread numbers");
    assert_says(notes, "calloc and every aligned allocation as malloc");
    assert!(trace.origin().warnings.is_empty());
}

#[test]
fn a_program_whose_path_has_blanks_colons_and_parentheses() {
    let trace = strict("mtrace-mid-life.txt");
    assert_told(
        &trace,
        "0 malloc(10)=b0
         0 free(unseen)
         0 malloc(5)=b1
         0 realloc(b1,20)=b2
         0 fails
         0 malloc(15)=b3
         0 free(b3)",
    );
    let warning = "1 free of blocks whose allocation was not recorded: not replayed";
    assert_eq!(trace.origin().warnings, [warning]);
}

#[test]
fn bad_lines() {
    for (text, expected) in [
        (
            "= Start\n@ a:[0x1] + 0x10 0x8\n@ a:[0x1] * 0x10\n",
            "t:3: found \"@ a:[0x1] * 0x10\", expected +, -, <, > or !",
        ),
        (
            "= Start\n@ a:[0x1] + 0x10 0x8\n@ a:[0x1] > 0x20 0x8\n",
            "t:3: found \"@ a:[0x1] > 0x20 0x8\", expected a line with '<'",
        ),
        (
            "= Start\n@ a:[0x1] + 0x10 0x8\n@ a:[0x1] + 0x20 0x8000000000000\n",
            "t:3: a request of 2251799813685248 bytes, expected at most 2^47",
        ),
        (
            "+ 0x10 0x8\n- 0x10\n- 0x10\n",
            "t:3: free of 0x10, which line 2 freed already",
        ),
        (
            "+ 0x10 0x8\n+ 0x10 0x8\n",
            "t:2: 0x10 is allocated again while it is live: line 1 allocated it",
        ),
    ] {
        assert_refused(text, expected);
    }
}

#[test]
fn a_log_that_ends_inside_a_realloc() {
    let text = "= Start\n+ 0x10 0x8\n< 0x10\n";
    let expected = "the log ends inside the realloc that begins on line 3: it is truncated";
    assert_refused(
        text,
        &format!("t: {expected} (--lenient reads it all the same)"),
    );
    let trace = outcome(text.as_bytes(), &LENIENT).unwrap();
    assert_told(&trace, "0 malloc(8)=b0");
    assert_eq!(trace.origin().warnings, [expected]);
}

#[test]
fn a_log_of_a_program_that_did_nothing() {
    assert_refused(
        "= Start\n= End\n",
        "t: the trace holds no allocator operation; mtrace traces are made with \
         `LD_PRELOAD=libc_malloc_debug.so.0 MALLOC_TRACE=FILE PROGRAM`",
    );
}
