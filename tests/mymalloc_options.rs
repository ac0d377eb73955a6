//! MyMalloc's options, by the environment of real processes.
#![cfg(feature = "suite")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::text_of;

const SHIM: &str = env!("MYMALLOC_SHIM_MYMALLOC");

fn options_program(folder: &Path) -> PathBuf {
    let program = folder.join("options");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/options.c");
    let compiled = Command::new("cc")
        .args(["-O1", "-w", "-pthread", "-o"])
        .arg(&program)
        .arg(source)
        .output()
        .expect("a C compiler");
    assert!(compiled.status.success(), "{}", text_of(&compiled));
    program
}

fn run(program: &Path, argument: &str, environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(program);
    command
        .arg(argument)
        .env("LD_PRELOAD", SHIM)
        .envs(environment.iter().copied());
    command.output().expect("it runs")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn a_bad_value_is_one_line_and_is_ignored() {
    let folder = folder();
    let program = options_program(folder.path());
    for (name, value, expected) in [
        (
            "MYMALLOC_PURGE_DELAY",
            "soon",
            "a number of milliseconds, or -1",
        ),
        (
            "MYMALLOC_PURGE_DELAY",
            "-2",
            "a number of milliseconds, or -1",
        ),
        ("MYMALLOC_LIMIT", "1M", "a number of bytes of at least 4M"),
        ("MYMALLOC_LIMIT", "64MB", "a number of bytes of at least 4M"),
        ("MYMALLOC_SECURE", "yes", "0 or 1"),
        ("MYMALLOC_BACKGROUND", "", "0 or 1"),
        ("MYMALLOC_HUGE_PAGES", "2M", "0 or 1"),
        ("MYMALLOC_VERBOSE", "\u{1b}[31m", "0 or 1"),
    ] {
        let output = run(&program, "nothing", &[(name, value)]);
        let text = text_of(&output);
        assert!(output.status.success(), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.starts_with(&format!("mymalloc: {name}=")) && text.contains(expected),
            "{text}"
        );
        assert!(
            text.ends_with("ignored\n") && !text.contains('\u{1b}'),
            "{text}"
        );
    }
    let good = [
        ("MYMALLOC_PURGE_DELAY", "-1"),
        ("MYMALLOC_LIMIT", "1G"),
        ("MYMALLOC_SECURE", "1"),
        ("MYMALLOC_BACKGROUND", "1"),
        ("MYMALLOC_HUGE_PAGES", "1"),
        ("MYMALLOC_VERBOSE", "0"),
    ];
    let output = run(&program, "nothing", &good);
    assert_eq!(text_of(&output), "");
    assert!(output.status.success());
}

#[test]
fn statistics_are_told_at_the_end() {
    let folder = folder();
    let program = options_program(folder.path());
    let text = text_of(&run(&program, "nothing", &[("MYMALLOC_VERBOSE", "1")]));
    assert!(text.starts_with("mymalloc: KiB mapped "), "{text}");
}

#[test]
fn memory_ends_at_the_limit_and_comes_back() {
    let folder = folder();
    let program = options_program(folder.path());
    for secure in ["0", "1"] {
        let environment = [("MYMALLOC_LIMIT", "64M"), ("MYMALLOC_SECURE", secure)];
        let output = run(&program, "limit", &environment);
        assert_eq!(text_of(&output), "ok\n");
    }
}

/// Idle memory goes back though the program does nothing; without the thread it would stay.
#[test]
fn a_thread_gives_memory_back_for_a_program_that_sleeps() {
    let folder = folder();
    let program = options_program(folder.path());
    let environment = [
        ("MYMALLOC_BACKGROUND", "1"),
        ("MYMALLOC_PURGE_DELAY", "100"),
    ];
    assert_eq!(text_of(&run(&program, "idle", &environment)), "ok\n");
}

/// Fewer faults where the system has huge pages, if only by one of them, and nothing else changes.
#[test]
fn huge_pages_are_asked_for() {
    let folder = folder();
    let program = options_program(folder.path());
    let run_huge = |environment: &[(&str, &str)]| -> (u64, bool) {
        let text = text_of(&run(&program, "huge", environment));
        let parts = text.trim_end().split_once(" faults, huge pages: ");
        let (count, has) = parts.unwrap_or_else(|| panic!("{text}"));
        (count.parse().expect("a number"), has == "yes")
    };
    let (without, _) = run_huge(&[]);
    let (with, has) = run_huge(&[("MYMALLOC_HUGE_PAGES", "1")]);
    println!("{without} faults, {with} with huge pages");
    assert!(without > 15_000, "64 MiB in pages of 4 KiB: {without}");
    assert!(
        !has || with + 400 < without,
        "{without} without, {with} with"
    );
    assert!(with < without + 100, "{without} without, {with} with");
}

/// A guard follows the last page of a block that `realloc` has changed, too.
#[test]
fn guard_pages_follow_blocks_that_change() {
    let folder = folder();
    let program = options_program(folder.path());
    for case in [
        "overflow_shrunk",
        "overflow_shrunk_medium",
        "overflow_grown",
    ] {
        let text = text_of(&run(&program, case, &[("MYMALLOC_SECURE", "1")]));
        assert_eq!(text, "faulted\n", "{case}");
    }
}

/// What runs over the end of a slice, or of a large block, faults.
#[test]
fn guard_pages_catch_what_overflows() {
    let folder = folder();
    let program = options_program(folder.path());
    for case in ["overflow_small", "overflow_medium", "overflow_large"] {
        let text = text_of(&run(&program, case, &[("MYMALLOC_SECURE", "1")]));
        assert_eq!(text, "faulted\n", "{case}");
    }
}

#[test]
fn blocks_come_in_no_order_that_can_be_foretold() {
    let folder = folder();
    let program = options_program(folder.path());
    let distances = || text_of(&run(&program, "order", &[("MYMALLOC_SECURE", "1")]));
    let (first, second) = (distances(), distances());
    assert!(
        first.lines().count() == 32 && first != second,
        "{first}\n{second}"
    );
    let plain = || text_of(&run(&program, "order", &[]));
    assert_eq!(plain(), plain(), "by default each run is like the other");
}
