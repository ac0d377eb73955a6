//! bcc's memleak.

use mymalloc::trace::Format;

use super::told::{assert_refused, assert_says, assert_told, strict};

#[test]
fn as_it_prints() {
    let trace = strict("memleak.txt");
    assert_eq!(trace.origin().format, Format::Memleak);
    // The last mapping has the address of the one before, whose end nobody saw.
    assert_told(
        &trace,
        "0 malloc(16)=b0
         0 free(b0)
         1 malloc(204800)=b1
         0 malloc(0)=b2
         0 fails
         0 free(b1)
         0 malloc(8192)=b3",
    );
    let times = [12_000, 31_000, 40_000, 50_000, 60_000, 70_000, 70_000];
    let times = times.map(|after| 71_250_000_000 + after);
    assert_eq!(trace.times_ns(), Some(&times[..]));
    assert_says(&trace.origin().notes, "mmap and munmap");
    assert_says(&trace.origin().warnings, "1 free made up");
}

#[test]
fn as_the_trace_pipe_has_it() {
    let trace = strict("memleak-pipe.txt");
    assert_told(&trace, "0 malloc(16)=b0\n0 free(b0)\n0 malloc(32)=b1");
    assert_says(&trace.origin().warnings, "7 events lost");
}

#[test]
fn bad_lines() {
    let line = |what: &str| format!("(b'a', 7, 0, b'....', 1.5, b'{what}')\n");
    let good = line("alloc exited, size = 8, result = 10");
    for (bad, expected) in [
        (
            line("alloc exited, size = 8"),
            "expected ', result = ' and an address",
        ),
        (
            line("alloc exited, size = x"),
            "expected a size, a decimal number",
        ),
        (
            line("free entered, address = "),
            "expected an address, hexadecimal",
        ),
        (
            "(free entered, address = 10".to_owned(),
            "expected (task, thread, cpu, flags, seconds",
        ),
        (
            "free entered, address = 10".to_owned(),
            "expected task-thread [cpu] flags seconds",
        ),
    ] {
        let shown: String = bad.trim_end().chars().take(40).collect();
        let dots = if bad.trim_end().len() > 40 { "..." } else { "" };
        assert_refused(
            &format!("{good}{bad}"),
            &format!("t:2: found \"{shown}{dots}\", {expected}"),
        );
    }
}
