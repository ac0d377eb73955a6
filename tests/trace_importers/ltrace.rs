//! ltrace.

use mymalloc::trace::Format;

use super::told::{LENIENT, STRICT, assert_refused, assert_says, assert_told, outcome, strict};

#[test]
fn the_demo() {
    let trace = strict("ltrace.txt");
    assert_eq!(trace.origin().format, Format::Ltrace);
    // posix_memalign's pointer is not shown and pvalloc was not traced: their frees are unseen. The
    // calloc inside reallocarray is part of it.
    assert_told(
        &trace,
        "0 malloc(42)=b0
         0 calloc(4,42)=b1
         0 malloc(0)=b2
         0 realloc(b1,84)=b3
         0 realloc(null,64)=b4
         0 memalign(512,1024)=b5
         0 aligned_alloc(256,1024)=b6
         0 valloc(4096,1024)=b7
         0 realloc(null,240)=b8
         0 malloc(200000)=b9
         0 realloc(b9,4000000)=b10
         1 malloc(777)=b11
         1 free(b0)
         0 free(b11)
         0 free(null)
         0 free(b2)
         0 free(b3)
         0 free(b4)
         0 free(b5)
         0 free(unseen)
         0 free(b6)
         0 free(b7)
         0 free(unseen)
         0 free(b8)
         0 free(b10)
         0 malloc(16)=b12
         0 free(b12)
         0 malloc(99)=b13",
    );
    assert_eq!(
        trace.origin().warnings,
        [
            "1 block of posix_memalign lost: ltrace does not show their pointers",
            "2 frees of blocks whose allocation was not recorded: not replayed"
        ]
    );
    assert_says(&trace.origin().notes, "calls inside a shared library");
}

#[test]
fn four_threads_that_interrupt_each_other() {
    let trace = strict("ltrace-threads.txt");
    assert_told(
        &trace,
        "0 malloc(100)=b0
         0 malloc(101)=b1
         0 malloc(102)=b2
         1 realloc(null,1000)=b3
         2 realloc(null,1000)=b4
         3 realloc(null,1000)=b5
         1 realloc(b3,2000)=b6
         2 realloc(b4,2000)=b7
         2 realloc(b7,3000)=b8
         3 realloc(b5,2000)=b9
         2 realloc(b8,4000)=b10
         2 realloc(b10,5000)=b11
         3 realloc(b9,3000)=b12
         1 realloc(b6,3000)=b13
         2 realloc(b11,6000)=b14
         3 realloc(b12,4000)=b15
         2 realloc(b14,7000)=b16
         2 realloc(b16,8000)=b17
         2 free(b2)
         3 realloc(b15,5000)=b18
         1 realloc(b13,4000)=b19
         3 realloc(b18,6000)=b20
         3 realloc(b20,7000)=b21
         3 realloc(b21,8000)=b22
         3 free(b1)
         1 realloc(b19,5000)=b23
         1 realloc(b23,6000)=b24
         1 realloc(b24,7000)=b25
         1 realloc(b25,8000)=b26
         1 free(b0)
         0 free(b26)
         0 free(b22)
         0 free(b17)
         0 calloc(3,7)=b27
         0 free(b27)",
    );
    assert!(trace.origin().warnings.is_empty());
}

#[test]
fn a_free_counts_when_it_begins() {
    let text = "1 a->malloc(8) = 0x10\n1 a->free(0x10 <unfinished ...>\n2 a->malloc(9) = 0x10\n\
                1 <... free resumed> ) = <void>\n";
    let trace = outcome(text.as_bytes(), &STRICT).unwrap();
    assert_told(&trace, "0 malloc(8)=b0\n0 free(b0)\n1 malloc(9)=b1");
    assert!(trace.origin().warnings.is_empty());
}

#[test]
fn a_realloc_whose_old_block_another_thread_gets() {
    let text = "1 a->malloc(8) = 0x10\n1 a->realloc(0x10, 99 <unfinished ...>\n\
                2 a->malloc(9) = 0x10\n1 <... realloc resumed> ) = 0x20\n2 a->free(0x10) = <void>\n";
    let trace = outcome(text.as_bytes(), &STRICT).unwrap();
    assert_told(
        &trace,
        "0 malloc(8)=b0\n0 free(b0)\n1 malloc(9)=b1\n0 malloc(99)=b2\n1 free(b1)",
    );
    assert_says(
        &trace.origin().warnings,
        "1 realloc taken as a free and a malloc",
    );
}

#[test]
fn an_address_that_is_allocated_twice_was_freed_in_between() {
    let text = "a->malloc(8) = 0x10\na->malloc(9) = 0x10\na->free(0x10) = <void>\n";
    let trace = outcome(text.as_bytes(), &STRICT).unwrap();
    assert_told(
        &trace,
        "0 malloc(8)=b0\n0 free(b0)\n0 malloc(9)=b1\n0 free(b1)",
    );
    assert_says(&trace.origin().warnings, "1 free made up");
}

#[test]
fn operators_and_what_they_call() {
    let text = "7 a->_Znwm(4, 1 <unfinished ...>\n7 libstdc++.so.6->malloc(4) = 0x10\n\
                7 <... _Znwm resumed> ) = 0x10\n7 a->puts(\"->malloc(8) = 1\") = 2\n\
                7 a->_ZdlPvm(0x10, 4) = <void>\n7 --- SIGCHLD (Child exited) ---\n";
    let trace = outcome(text.as_bytes(), &STRICT).unwrap();
    assert_told(&trace, "0 malloc(4)=b0\n0 free(b0,sized)");
}

#[test]
fn calls_that_never_return_are_counted() {
    let text = "7 a->malloc(8) = 0x10\n7 a->malloc(9 <unfinished ...>\n8 a->calloc(1, 2 <unfinished ...>\n\
                7 +++ killed by SIGKILL +++\n";
    let trace = outcome(text.as_bytes(), &STRICT).unwrap();
    assert_told(&trace, "0 malloc(8)=b0");
    assert_says(
        &trace.origin().warnings,
        "2 calls left out that had not returned",
    );
}

#[test]
fn bad_lines() {
    for (text, expected) in [
        (
            "7 a->malloc(8) = 0x10\n7 a->malloc(8",
            "t:2: found \"7 a->malloc(8\", expected ') = ' and what was returned",
        ),
        (
            "7 a->malloc(8) = 0x10\n7 a->calloc(8) = 0x20\n",
            "t:2: found \"7 a->calloc(8) = 0x20\", expected ',' and another argument",
        ),
        (
            "7 a->malloc(8) = 0x10\n7 <... free resumed> ) = <void>\n",
            "t:2: found \"7 <... free resumed> ) = <void>\", expected a call that began",
        ),
        (
            "7 a->malloc(8) = 0x10\n7 a->malloc(8) = nothing\n",
            "t:2: found \"7 a->malloc(8) = nothing\", expected what was returned",
        ),
        (
            "7 a->malloc(8) = 0x10\n7 a->reallocarray(0, 0x1000000000, 0x1000000000) = 0x20\n",
            "t:2: a request of 2^64 or more bytes",
        ),
    ] {
        assert_refused(text, expected);
    }
    let message = outcome(b"7 a->puts(\"x\") = 2\n", &LENIENT).unwrap_err();
    assert!(
        message.contains("ltrace traces are made with `ltrace -f"),
        "{message}"
    );
}

#[test]
fn calls_inside_calls_have_an_end() {
    let text = format!(
        "malloc(8) = 0x10\n{}",
        "realloc(0x10, 8 <unfinished ...>\n".repeat(100)
    );
    let message = outcome(text.as_bytes(), &STRICT).unwrap_err();
    assert!(message.starts_with("t:18: "), "{message}");
    assert!(
        message.contains("at most 16 calls inside each other"),
        "{message}"
    );
}
