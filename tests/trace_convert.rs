//! `mymalloc trace convert` says what it writes and what it cannot.

#![cfg(feature = "suite")]
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::{Command, Output};

/// Runs `convert` in a folder with the trace `in`.
fn convert(folder: &Path, trace: impl AsRef<[u8]>, arguments: &[&str]) -> Output {
    std::fs::write(folder.join("in"), trace).unwrap();
    Command::new(env!("CARGO_BIN_EXE_mymalloc"))
        .args(["trace", "convert"])
        .args(arguments)
        .args(["in", "out"])
        .current_dir(folder)
        .output()
        .unwrap()
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn losses_are_counted_in_events() {
    let folder = tempfile::tempdir().unwrap();
    let trace = include_str!("data/android-times.txt");
    let output = convert(folder.path(), trace, &["--format", "logalloc"]);
    let (stdout, stderr) = texts(&output);
    // Eight events, of which logalloc cannot tell the end of a thread.
    assert_eq!(stdout, "out: 7 events\n");
    assert_eq!(
        std::fs::read_to_string(folder.path().join("out"))
            .unwrap()
            .lines()
            .count(),
        7
    );
    assert_eq!(
        stderr,
        "warning: in: this grammar writes memalign for every function that allocates with an \
         alignment\n\
         warning: 8 events lost in this format: time stamps\n\
         warning: 1 event lost in this format: ends of threads\n"
    );
    assert!(output.status.success());
}

#[test]
fn what_lenient_reading_did_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let trace = "1 1 malloc(4)=#1\n1 1 oops\n1 1 free(#9)\n1 1 malloc(4)=#0\n";
    let (stdout, stderr) = texts(&convert(folder.path(), trace, &["--lenient"]));
    assert_eq!(stdout, "out: 3 events\n");
    assert_eq!(
        stderr,
        "warning: in: 1 line dropped\n\
         warning: in: slots used before they were assigned were taken as null (1 use)\n"
    );
}

#[test]
fn one_process_of_several() {
    let folder = tempfile::tempdir().unwrap();
    let trace = "5 5 malloc(1)=0x10\n6 6 malloc(1)=0x10\n6 6 free(0x10)\n";
    let output = convert(folder.path(), trace, &[]);
    assert!(texts(&output).1.contains("--process PID"));
    let (stdout, _) = texts(&convert(folder.path(), trace, &["--process", "6"]));
    assert_eq!(stdout, "out: 2 events\n");
}

#[test]
fn the_native_text_loses_nothing_and_says_what_it_came_from() {
    let folder = tempfile::tempdir().unwrap();
    let trace = include_str!("data/android-times.txt");
    let (stdout, stderr) = texts(&convert(folder.path(), trace, &[]));
    assert_eq!(stdout, "out: 8 events\n");
    assert!(!stderr.contains("lost"), "{stderr}");
    let text = std::fs::read_to_string(folder.path().join("out")).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "# mymalloc trace text 1");
    assert_eq!(lines[8], "1 3 malloc(16)=#1 t=2000");
    assert!(
        lines[9].contains("converted from in (android, SHA-256 "),
        "{text}"
    );
    assert_eq!(lines[10..], ["# end 8"]);
    // Read and written again, it is the same.
    let (_, stderr) = texts(&convert(folder.path(), &text, &[]));
    assert!(stderr.contains("converted from in (android"), "{stderr}");
    assert_eq!(
        std::fs::read_to_string(folder.path().join("out")).unwrap(),
        text
    );
}

#[test]
fn json_lines_name_everything() {
    let folder = tempfile::tempdir().unwrap();
    let trace = "1 1 calloc(2,8)=#1\n1 1 realloc(#1,20)=#1\n1 2 free(#1)\n1 1 free(#0)\n";
    convert(folder.path(), trace, &["--format", "jsonl"]);
    let text = std::fs::read_to_string(folder.path().join("out")).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["format"], "mymalloc-trace");
    let expected = [
        r#"{"call":"calloc","thread":0,"block":0,"count":2,"size":8}"#,
        r#"{"call":"realloc","thread":0,"old":0,"block":1,"size":20}"#,
        r#"{"call":"free","thread":1,"block":1}"#,
        r#"{"call":"free","thread":0,"block":null}"#,
    ];
    assert_eq!(text.lines().collect::<Vec<_>>()[1..5], expected);
    assert_eq!(lines[5]["call"], "end");
    assert_eq!(lines[5]["events"], 4);
}
