//! Allocate and Free of tags.

use mymalloc::trace::Format;

use super::told::{assert_refused, assert_says, assert_told, strict};

#[test]
fn tags_are_any_words() {
    let trace = strict("tags.txt");
    assert_eq!(trace.origin().format, Format::Tags);
    assert_told(
        &trace,
        "0 malloc(512)=b0
         0 malloc(24)=b1
         0 malloc(128)=b2
         0 free(b1)
         0 malloc(32)=b3
         0 free(b0)
         0 free(b2)",
    );
    assert_says(&trace.origin().notes, "no threads");
}

#[test]
fn bad_lines() {
    for (text, expected) in [
        (
            "Allocate a 8\nFree b\n",
            "t:2: free of tag \"b\", which was not allocated before",
        ),
        (
            "Allocate a 8\nAllocate a 9\n",
            "t:2: tag \"a\" is allocated again while it is live: line 1",
        ),
        (
            "Allocate a 8\nFree a\nFree a\n",
            "t:3: free of tag \"a\", which line 2 freed already",
        ),
        (
            "Allocate a 8\nAllocate b\n",
            "t:2: found \"Allocate b\", expected a blank and a size",
        ),
        (
            "Allocate a 8\nAllocate b -1\n",
            "t:2: found \"Allocate b -1\", expected a size, a decimal number",
        ),
        (
            "Allocate a 8\nFree a b\n",
            "t:2: found \"Free a b\", expected the end of the line",
        ),
        (
            "Allocate a 8\nFree\n",
            "t:2: found \"Free\", expected a blank and a tag",
        ),
        (
            "Allocate a 8\nfree a\n",
            "t:2: found \"free a\", expected Allocate or Free",
        ),
    ] {
        assert_refused(text, expected);
    }
    let long = format!("Allocate a 8\nAllocate {} 8\n", "x".repeat(65));
    let message = super::told::outcome(long.as_bytes(), &super::told::STRICT).unwrap_err();
    assert!(
        message.contains("expected a tag of at most 64 bytes"),
        "{message}"
    );
}
