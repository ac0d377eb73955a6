//! The text of DJ Delorie's malloc trace.

use mymalloc::trace::Format;

use super::told::{STRICT, assert_refused, assert_says, assert_told, outcome, strict};

#[test]
fn every_call() {
    let trace = strict("dj-dump.txt");
    assert_eq!(trace.origin().format, Format::DjDump);
    // The log has thread 1's malloc(778) before the free of its address by thread 0.
    assert_told(
        &trace,
        "0 malloc(42)=b0
         0 calloc(1,168)=b1
         1 malloc(777)=b2
         1 free(b0)
         0 realloc(b1,84)=b3
         0 memalign(512,1024)=b4
         0 posix_memalign(4096,1000)=b5
         0 fails
         0 valloc(4096,1024)=b6
         0 pvalloc(4096,100)=b7
         0 free(b2)
         1 malloc(778)=b8
         1 free(b8)
         0 free(unseen)
         0 free(null)
         0 free(b3)",
    );
    let warnings = &trace.origin().warnings;
    assert_says(warnings, "moved behind it (1 record)");
    assert_says(
        warnings,
        "1 free of blocks whose allocation was not recorded",
    );
    assert_says(&trace.origin().notes, "product of calloc's count and size");
}

#[test]
fn older_dumps_have_three_numbers() {
    assert_told(
        &strict("dj-dump-old.txt"),
        "0 malloc(42)=b0\n0 memalign(16,64)=b1\n0 free(b0)",
    );
}

#[test]
fn bad_lines() {
    let good = "00000001 malloc -------- 0000000000000000 0000000000000008 0000000000000010\n";
    for (line, expected) in [
        (
            "00000001 mallco -------- 0 8 20",
            "expected malloc, calloc, realloc",
        ),
        (
            "00000001 malloc -------- 0 8",
            "expected three hexadecimal numbers behind the path",
        ),
        (
            "00000001 malloc -------- 0 8 20 0",
            "expected size3, hexadecimal",
        ),
        (
            "00000001 malloc -------- 0 8 20 0 0 0",
            "expected the end of the line",
        ),
        ("xyz", "expected a thread number, hexadecimal"),
    ] {
        let text = format!("{good}{line}\n");
        assert_refused(&text, &format!("t:2: found \"{line}\", {expected}"));
    }
    let free = "00000001 free -------- 0000000000000010 0000000000000000 0000000000000000\n";
    assert_refused(
        &format!("{good}{free}{free}"),
        "t:3: free of 0x10, which line 2 freed already",
    );
}

#[test]
fn an_allocation_that_waits_in_vain() {
    let line = |size: u32| {
        format!(
            "00000001 malloc -------- {:016x} {size:016x} {:016x}\n",
            0, 0x10
        )
    };
    assert_refused(
        &format!("{}{}", line(8), line(9)),
        "t:2: 0x10 is allocated again while it is live: line 1 allocated it",
    );
}

#[test]
fn a_realloc_that_became_a_malloc_and_a_free_is_one_call() {
    let line = |what: &str, path: &str, numbers: [u32; 3]| {
        let [given, size, returned] = numbers;
        format!("00000001 {what:>8} {path} {given:016x} {size:016x} {returned:016x}\n")
    };
    let text = [
        line("malloc", "--------------", [0, 8, 0x10]),
        line("realloc", "------R-------", [0x10, 99, 0x20]),
        line("malloc", "--------------", [0, 99, 0x20]),
        line("free", "--------------", [0x10, 0, 0]),
        line("free", "--------------", [0x20, 0, 0]),
    ];
    let trace = outcome(text.concat().as_bytes(), &STRICT).unwrap();
    assert_told(&trace, "0 malloc(8)=b0\n0 realloc(b0,99)=b1\n0 free(b1)");
}
