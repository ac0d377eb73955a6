//! How much of large blocks a program touches.

use super::{Recorder, built, source};

/// Of the class whose smallest size is 2^`log2`: pages in its blocks, and those touched.
fn of_class(wire: &super::decode::Wire, log2: usize) -> (u64, u64) {
    wire.touched((log2 - 14) * 4)
}

#[test]
fn pages_of_large_blocks_are_counted() {
    let program = built("touched", "cc", &[], &source("programs/touched.c"));
    let recording = Recorder::new("touched").run(&program, &[]).succeeded();
    let wire = recording.wire();
    assert_eq!(wire.flags() & 16, 16);
    assert_eq!(wire.missing(), 0);
    let page_kib = wire.page_bytes() / 1024;
    // All of a block but what it shares with others at its ends.
    let inner = |kib: u64| kib / page_kib - 1..=kib / page_kib;
    let (pages, touched) = of_class(&wire, 18);
    assert!(
        (inner(256).start() * 2..=inner(256).end() * 2).contains(&pages),
        "{pages}"
    );
    assert_eq!(touched, 5);
    let (pages, touched) = of_class(&wire, 21);
    assert!(inner(2048).contains(&pages), "{pages}");
    assert_eq!(touched, 9, "a block that lives on counts at the end");
    let (pages, touched) = of_class(&wire, 16);
    assert!(inner(64).contains(&pages), "{pages}");
    assert_eq!(touched, pages);
    let (pages, touched) = of_class(&wire, 20);
    assert!(inner(1024).contains(&pages), "{pages}");
    // What the block had before it grew, or that and a page of which it had a part.
    assert!(
        (*inner(64).start()..=inner(64).end() + 1).contains(&touched),
        "{touched}"
    );
    assert_eq!(of_class(&wire, 15), (0, 0));
}

#[test]
fn unasked_nothing_is_counted() {
    let program = built("touched", "cc", &[], &source("programs/touched.c"));
    let recording = Recorder::new("").run(&program, &[]).succeeded();
    let wire = recording.wire();
    assert_eq!(wire.flags() & 16, 0);
    assert!((14..40).all(|log2| of_class(&wire, log2) == (0, 0)));
}
