//! Recordings that end before the program does, one way or the other.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mymalloc::trace::{ReadOptions, read};

use super::{
    STRESS, compiled, ends_with, errors, files, no_session_is_left, record, send, trace, wait_until,
};

#[test]
fn signals_reach_the_program_and_the_trace_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let script = "trap 'exit 7' INT; : > ready; while :; do sleep 0.05; done";
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let child = record(folder, &["-o", "a.trace"], &["sh", "-c", script])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program is there");
        wait_until("the program runs", || folder.join("ready").exists());
        std::fs::remove_file(folder.join("ready")).expect("ours");
        send(&child, signal);
        let output = child.wait_with_output().expect("ours");
        let code = if signal == libc::SIGINT { 7 } else { 143 };
        assert_eq!(output.status.code(), Some(code), "{}", errors(&output));
        assert!(trace(folder.join("a.trace")).counts().operations() > 0);
    }
    no_session_is_left(folder);
}

#[test]
fn a_recording_that_is_not_whole_is_kept_and_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let program = compiled(folder, "stress", STRESS);
    let program = program.to_str().expect("text");
    let small = ["--max-size", "1M", "-o", "a.trace"];
    let output = ends_with(1, record(folder, &small, &[program, "20000"]));
    let said = errors(&output);
    assert!(
        said.contains("error: a.trace: the size limit was reached (--max-size)"),
        "{said}"
    );
    let whole = trace(folder.join("a.trace"));
    let kept = whole.counts().operations();
    assert!((10_000..140_000).contains(&kept), "{kept}");

    // No file may grow above half a megabyte: as if the disk were full.
    let script = format!("ulimit -f 1024; exec {program} 20000");
    let output = ends_with(
        1,
        record(folder, &["-o", "b.trace"], &["sh", "-c", &script]),
    );
    assert!(errors(&output).contains("error: b.trace: its file could not be written"));
    assert!(trace(folder.join("b.trace")).counts().operations() > 10_000);

    // The folder goes while the program runs, which does not notice.
    std::fs::create_dir(folder.join("gone")).expect("ours");
    let script = "sleep 0.3; rm -rf gone; sleep 0.3; exit 3";
    let output = ends_with(
        3,
        record(folder, &["-o", "gone/c.trace"], &["sh", "-c", script]),
    );
    assert!(
        errors(&output).contains("its folder is gone; written to c.trace"),
        "{}",
        errors(&output)
    );
    assert!(trace(folder.join("c.trace")).counts().operations() > 0);
    no_session_is_left(folder);
}

/// Where the recorder writes.
fn session(folder: &Path) -> PathBuf {
    let entries = std::fs::read_dir(folder).expect("there").flatten();
    let mut paths = entries.map(|entry| entry.path());
    let session = paths.find(|path| path.to_string_lossy().contains(".recording-"));
    session.expect("the recorder writes there")
}

/// Ends the program that is recorded in this folder, by its number.
fn kill_program(session: &Path) {
    let main = std::fs::read_to_string(session.join("main")).expect("the first process wrote it");
    let process: i32 = main
        .split_ascii_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .expect("a number");
    // SAFETY: the program that this test has started, which runs for good.
    unsafe { libc::kill(process, libc::SIGKILL) };
    // It is nobody's child here.
    wait_until("the program is gone", || {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
        stat.map_or(true, |stat| stat.contains(") Z "))
    });
}

#[test]
fn a_recording_that_goes_on_is_read_or_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    // One that waits; and one that uses its windows again and again.
    let busy = r#"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(void) {
    fclose(fopen("ready", "w"));
    for (;;) {
        for (int i = 0; i < 2000; i++) { void *volatile block = malloc(64); free(block); }
        usleep(1000);
    }
}
"#;
    let busy = compiled(folder, "busy", busy);
    let waiting = "x=$(echo a); : > ready; while :; do sleep 0.05; done";
    for program in [
        &["sh", "-c", waiting][..],
        &[busy.to_str().expect("text")][..],
    ] {
        let options = ["--max-size", "64M", "-o", "a.trace"];
        let mut child = record(folder, &options, program)
            .stderr(Stdio::null())
            .spawn()
            .expect("the program is there");
        wait_until("the program runs", || folder.join("ready").exists());
        let wire = files(&session(folder), ".wire").remove(0);
        for _ in 0..5 {
            match read(&wire, &ReadOptions::default()) {
                Ok(trace) => {
                    let told = &trace.origin().warnings;
                    let is_told = |text: &String| text.contains("was still writing it");
                    assert!(told.iter().any(is_told), "{told:?}");
                }
                Err(error) => {
                    let error = error.to_string();
                    assert!(error.contains("is still writing it, so try"), "{error}");
                }
            }
        }
        send(&child, libc::SIGTERM);
        child.wait().expect("ours");
        assert!(trace(folder.join("a.trace")).counts().operations() > 0);
        std::fs::remove_file(folder.join("ready")).expect("ours");
    }
    no_session_is_left(folder);
}

#[test]
fn a_recording_is_readable_after_everybody_was_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let script = "x=$(echo a); : > ready; while [ -e ready ]; do sleep 0.05; done & wait";
    let mut child = record(folder, &["-o", "a.trace"], &["sh", "-c", script])
        .stderr(Stdio::null())
        .spawn()
        .expect("the program is there");
    wait_until("the program runs", || folder.join("ready").exists());
    let session = session(folder);
    child.kill().expect("ours");
    let status = child.wait().expect("ours");
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    kill_program(&session);
    let wires = files(&session, ".wire");
    assert_eq!(wires.len(), 1);
    let counts = *trace(&wires[0]).counts();
    assert!(counts.operations() > 0);
    let output = Command::new(env!("CARGO_BIN_EXE_mymalloc"))
        .args([
            "trace",
            "convert",
            wires[0].to_str().expect("text"),
            "out.log",
        ])
        .current_dir(folder)
        .output()
        .expect("the program is there");
    assert!(output.status.success(), "{}", errors(&output));
}

#[test]
fn a_busy_recording_is_sound_whenever_the_command_and_the_program_are_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let program = compiled(folder, "stress", STRESS);
    let program = program.to_str().expect("text");
    for turn in 1..=4_u64 {
        let mut child = record(folder, &["-o", "a.trace"], &[program, "100000000"])
            .stderr(Stdio::null())
            .spawn()
            .expect("the program is there");
        let grows_beyond = |bytes: u64| {
            let sessions = std::fs::read_dir(folder).expect("there").flatten();
            let mut sessions = sessions
                .map(|entry| entry.path())
                .filter(|path| path.to_string_lossy().contains(".recording-"));
            let wires = sessions.find(|path| path.join("main").exists());
            let wires = wires.map(|path| files(&path, ".wire")).unwrap_or_default();
            let length = |path: &PathBuf| path.metadata().map_or(0, |found| found.len());
            wires.iter().map(length).sum::<u64>() > bytes
        };
        // Its windows are copied, by the command and by itself.
        wait_until("the program is busy", || grows_beyond(turn * 7_654_321));
        child.kill().expect("ours");
        child.wait().expect("ours");
        // It goes on, and copies by itself.
        wait_until("the program goes on", || {
            grows_beyond(turn * 7_654_321 + (20 << 20))
        });
        let session = session(folder);
        kill_program(&session);
        let wires = files(&session, ".wire");
        // Read strictly: whatever is missing was under way in a thread.
        let counts = *trace(&wires[0]).counts();
        assert!(counts.operations() > 1_000_000, "{counts:?}");
        assert_eq!(counts.free_unseen, 0);
        std::fs::remove_dir_all(&session).expect("ours");
    }
}
