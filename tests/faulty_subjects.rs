//! Allocators that crash, hang or do wrong are rows with their reason; the others still finish.

mod suite;

use std::path::Path;
use std::process::Output;

use mymalloc::measure::results::{Results, Status};
use suite::{
    assert_complete, folder, replay, results, row, shared_object, stderr, stdout, write_trace,
};

/// Replays a trace against the C library and one faulty shared object.
fn against(fault: &str, extra: &[&str]) -> (Output, Results) {
    let folder = folder();
    let trace = write_trace(folder.path(), 4000);
    let object = shared_object(folder.path(), "faulty.c", "faulty", &[fault]);
    let out = folder.path().join("report");
    let output = replay()
        .args([
            "--quick",
            "--blocks",
            "2",
            "--subjects",
            "system,mimalloc",
            "--subject",
        ])
        .arg(format!("faulty={}", object.display()))
        .args(extra)
        .arg("--out")
        .args([&out, &trace])
        .output()
        .expect("the program starts");
    let results = results(&out);
    (output, results)
}

/// The fault shows as this status, the reason has these words, and nothing else suffers.
fn assert_row(fault: &str, extra: &[&str], status: Status, words: &[&str]) {
    let (output, results) = against(fault, extra);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let faulty = row(&results, "faulty");
    assert_eq!(faulty.status, status, "{fault}: {:?}", faulty.reason);
    let reason = faulty.reason.clone().expect("a reason");
    for word in words {
        assert!(
            reason.contains(word),
            "{fault}: {word:?} is not in: {reason}"
        );
    }
    assert!(
        faulty.ns_per_operation.is_none(),
        "a subject that failed is not ranked"
    );
    assert!(
        stdout(&output).contains("warning: faulty"),
        "{}",
        stdout(&output)
    );
    assert_complete(row(&results, "system"));
    assert_complete(row(&results, "mimalloc"));
}

#[test]
fn without_a_fault_the_test_allocator_is_right() {
    let (output, results) = against("FAULT_NONE", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let faulty = row(&results, "faulty");
    assert_complete(faulty);
    let receipt = results
        .samples
        .iter()
        .find(|sample| sample.subject == "faulty")
        .and_then(|sample| sample.receipt.clone())
        .expect("a receipt");
    assert!(receipt.path.ends_with("faulty.so"), "{receipt:?}");
    assert_eq!(receipt.functions.len(), 7, "{receipt:?}");
}

#[test]
fn a_crash_is_placed() {
    assert_row(
        "FAULT_CRASH",
        &[],
        Status::Crashed,
        &["SIGSEGV", "operation", "verify"],
    );
}

#[test]
fn an_early_exit_is_a_crash() {
    assert_row("FAULT_EXIT", &[], Status::Crashed, &["exit code 7"]);
}

#[test]
fn an_abort_keeps_its_message() {
    assert_row(
        "FAULT_ABORT",
        &[],
        Status::Crashed,
        &["SIGABRT", "heap corrupted"],
    );
}

#[test]
fn a_hang_is_ended_at_the_time_limit() {
    assert_row(
        "FAULT_HANG",
        &["--timeout", "1"],
        Status::TimedOut,
        &["killed after 1 s"],
    );
}

#[test]
fn a_hang_takes_its_own_children_along() {
    let (output, results) = against("FAULT_FORK_AND_HANG", &["--timeout", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(row(&results, "faulty").status, Status::TimedOut);
    assert_eq!(processes_with_the_hidden_argument(std::process::id()), 0);
}

#[test]
fn a_hang_outside_its_group_is_ended_too() {
    assert_row(
        "FAULT_LEAVE_GROUP_AND_HANG",
        &["--timeout", "1"],
        Status::TimedOut,
        &["killed after 1 s"],
    );
}

#[test]
fn an_object_that_vanishes_is_refused() {
    assert_row(
        "FAULT_VANISH",
        &[],
        Status::Refused,
        &["replaced or removed"],
    );
}

/// Processes that are samples and not below another run of this test suite: those whose parent is
/// gone, as a forked grandchild's would be.
fn processes_with_the_hidden_argument(_own: u32) -> usize {
    let orphaned_sample = |process: &procfs::process::Process| -> Option<bool> {
        let sample = process.cmdline().ok()?.get(1)? == "__sample";
        Some(sample && process.stat().ok()?.ppid == 1)
    };
    procfs::process::all_processes()
        .expect("Linux has /proc")
        .flatten()
        .filter(|process| orphaned_sample(process).unwrap_or(false))
        .count()
}

#[test]
fn null_is_wrong() {
    assert_row(
        "FAULT_NULL",
        &[],
        Status::Wrong,
        &["returned null", "operation"],
    );
}

#[test]
fn overlapping_memory_is_wrong() {
    assert_row(
        "FAULT_OVERLAP",
        &[],
        Status::Wrong,
        &["overlaps a live block"],
    );
}

#[test]
fn misaligned_memory_is_wrong() {
    assert_row("FAULT_MISALIGN", &[], Status::Wrong, &["misaligned"]);
}

#[test]
fn lost_content_is_wrong() {
    assert_row("FAULT_WRITE_AFTER_FREE", &[], Status::Wrong, &["content"]);
}

#[test]
fn calloc_without_zeroes_is_wrong() {
    assert_row(
        "FAULT_DIRTY_CALLOC",
        &[],
        Status::Wrong,
        &["calloc", "not zero"],
    );
}

#[test]
fn a_realloc_that_loses_content_is_wrong() {
    assert_row(
        "FAULT_LOSSY_REALLOC",
        &[],
        Status::Wrong,
        &["realloc", "content"],
    );
}

#[test]
fn a_lying_usable_size_is_wrong() {
    assert_row("FAULT_LYING_USABLE", &[], Status::Wrong, &["usable size"]);
}

#[test]
fn functions_from_two_objects_are_refused() {
    let folder = folder();
    let trace = write_trace(folder.path(), 300);
    let object = shared_object(folder.path(), "partial.c", "partial", &[]);
    let out = folder.path().join("report");
    let output = replay()
        .args([
            "--quick",
            "--blocks",
            "2",
            "--subjects",
            "system",
            "--subject",
        ])
        .arg(format!("partial={}", object.display()))
        .arg("--out")
        .args([out.as_path(), Path::new(&trace)])
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let results = results(&out);
    let partial = row(&results, "partial");
    assert_eq!(partial.status, Status::Refused, "{:?}", partial.reason);
    assert!(
        partial.reason.clone().expect("a reason").contains("free"),
        "{:?}",
        partial.reason
    );
}
