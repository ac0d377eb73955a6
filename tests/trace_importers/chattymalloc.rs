//! chattymalloc, as text.

use mymalloc::trace::Format;

use super::told::{assert_refused, assert_says, assert_told, strict};

#[test]
fn every_call() {
    let trace = strict("chattymalloc.txt");
    assert_eq!(trace.origin().format, Format::ChattymallocText);
    // A realloc is written when it has ended: thread 1 had got its old block before.
    assert_told(
        &trace,
        "0 malloc(42)=b0
         0 calloc(4,42)=b1
         1 malloc(777)=b2
         1 free(b0)
         0 realloc(b1,84)=b3
         0 memalign(512,1024)=b4
         0 posix_memalign(4096,1000)=b5
         0 aligned_alloc(256,1024)=b6
         0 valloc(4096,1024)=b7
         0 pvalloc(4096,100)=b8
         0 realloc(b3,4000)=b9
         1 malloc(16)=b10
         1 ends
         0 fails
         0 free(null)
         0 free(b2)
         0 free(unseen)",
    );
    let warnings = &trace.origin().warnings;
    assert_says(warnings, "moved behind it (1 record)");
    assert_says(&trace.origin().notes, "no time stamps");
}

#[test]
fn bad_lines() {
    let good = "7: malloc 0x10 8 0 5ns\n";
    for (line, expected) in [
        ("7: mallco 0x20 8 0 5ns", "expected malloc, calloc, realloc"),
        ("7: malloc 20 8 0 5ns", "expected a pointer, 0x…"),
        ("7: malloc 0x20 8", "expected a blank and a third argument"),
        (
            "7: malloc 0x20 8 0 5",
            "expected the call's duration, as in 2us:31ns",
        ),
        ("x", "expected a thread number"),
    ] {
        assert_refused(
            &format!("{good}{line}\n"),
            &format!("t:2: found \"{line}\", {expected}"),
        );
    }
    assert_refused(
        &format!("{good}7: free 0x10 8 8 5ns\n7: free 0x10 8 8 5ns\n"),
        "t:3: free of 0x10, which line 2 freed already",
    );
    assert_refused(
        &format!("{good}7: posix_memalign 0x20 8 24 5ns\n"),
        "t:2: alignment 24, expected a power of two",
    );
}
