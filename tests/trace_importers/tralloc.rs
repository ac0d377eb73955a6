//! tracing-allocator and tralloc.

use mymalloc::trace::Format;

use super::told::{assert_refused, assert_says, assert_told, strict};

#[test]
fn the_readme_and_more() {
    let trace = strict("tralloc.txt");
    assert_eq!(trace.origin().format, Format::Tralloc);
    assert_told(
        &trace,
        "0 malloc(12)=b0
         0 malloc(16)=b1
         0 free(b1,sized)
         0 free(b0,sized)
         0 fails
         0 free(unseen)",
    );
    let times = [
        0x2_9801_ACDA_259B,
        0x2_9801_ACDB_7EFB,
        0x2_9801_ACDB_AAC1,
        0x2_9801_ACDB_CD09,
        0x2_9801_ACDC_0000,
        0x2_9801_ACDC_1234,
    ];
    assert_eq!(trace.times_ns(), Some(&times[..]));
    assert_says(&trace.origin().notes, "no thread numbers and no alignments");
    assert_says(&trace.origin().notes, "1 line of the program's own");
    assert_says(&trace.origin().warnings, "1 free of blocks");
}

#[test]
fn bad_lines() {
    let good = "0000000000000001 A 0000000000000010 0000000000000008\n";
    for (line, expected) in [
        (
            "0000000000000002 A 10 0000000000000008",
            "expected an address, 16 hexadecimal digits",
        ),
        (
            "0000000000000002 D 0000000000000010",
            "expected a blank and a size",
        ),
        (
            "0000000000000002 D 0000000000000010 8",
            "expected a size, 16 hexadecimal digits",
        ),
    ] {
        assert_refused(
            &format!("{good}{line}\n"),
            &format!("t:2: found \"{line}\", {expected}"),
        );
    }
    assert_refused(
        &format!("{good}{good}"),
        "t:2: 0x10 is allocated again while it is live: line 1 allocated it",
    );
}
