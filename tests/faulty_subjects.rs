//! Allocators that crash, hang or do wrong are rows with their reason; the others still finish.

mod suite;

use std::path::Path;
use std::process::Output;

use mymalloc::measure::results::{Results, Status};
use suite::{
    assert_complete, folder, processes_of, replay, results, row, shared_object, stderr, stdout,
    trace_text, write_trace,
};

/// Replays a trace against the C library and one faulty shared object; none of the processes that this
/// makes is left.
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
    assert_eq!(processes_of(folder.path()), [""; 0], "{fault}");
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
    assert!(receipt.build.is_some(), "{receipt:?}");
    assert_eq!(receipt.version, None, "it tells none");
    let record = |name: &str| {
        let found = results.subjects.iter().find(|subject| subject.name == name);
        found.expect("recorded").clone()
    };
    assert_eq!(record("faulty").build, receipt.build);
    // Linked subjects: the calls stayed in this program, whose build is told too.
    for sample in &results.samples {
        let receipt = sample.receipt.as_ref().expect("each sample has one");
        assert_eq!(receipt.functions.len(), 7, "{receipt:?}");
        if sample.subject == "mimalloc" {
            assert!(receipt.path.ends_with("replay"), "{receipt:?}");
            assert_eq!(receipt.build, record("mimalloc").build);
            assert_eq!(receipt.version, record("mimalloc").version);
            assert!(receipt.version.is_some() && receipt.build.is_some());
        }
    }
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

#[test]
fn a_deadlock_is_ended_at_the_time_limit() {
    assert_row(
        "FAULT_DEADLOCK",
        &["--timeout", "1"],
        Status::TimedOut,
        &["killed after 1 s", "operation"],
    );
}

#[test]
fn a_spin_is_ended_at_the_time_limit() {
    assert_row(
        "FAULT_SPIN",
        &["--timeout", "1"],
        Status::TimedOut,
        &["killed after 1 s", "operation"],
    );
}

#[test]
fn an_early_exit_with_code_0_is_a_crash_too() {
    assert_row(
        "FAULT_EXIT_0",
        &[],
        Status::Crashed,
        &["ended early with exit code 0", "operation"],
    );
}

#[test]
fn one_that_eats_memory_is_ended_at_the_memory_limit() {
    let words = ["killed at ", "the limit is 256 MiB (--memory-limit)"];
    for fault in ["FAULT_EAT", "FAULT_EAT_IN_CHILDREN"] {
        assert_row(
            fault,
            &["--memory-limit", "256M", "--timeout", "60"],
            Status::OutOfMemory,
            &words,
        );
        let (_, results) = against(fault, &["--memory-limit", "256M", "--timeout", "60"]);
        assert_eq!(results.settings.memory_limit_bytes, Some(256 << 20));
        let reason = row(&results, "faulty").reason.clone().expect("a reason");
        let seen: u64 = reason
            .split_whitespace()
            .find_map(|word| word.parse().ok())
            .expect("a number of MiB");
        // Seen soon after the limit was passed, however busy the machine.
        assert!((256..4096).contains(&seen), "{reason}");
    }
}

#[test]
fn without_a_limit_given_it_is_half_of_what_is_available() {
    let (_, results) = against("FAULT_NONE", &[]);
    let limit = results.settings.memory_limit_bytes.expect("a limit");
    let total = results.runs[0].environment.memory_total_bytes;
    assert!(limit > 0 && limit <= total.expect("Linux tells") / 2);
}

#[test]
fn one_that_reserves_address_space_is_not_punished() {
    // The test allocator maps 16 GiB and uses little of it.
    let (output, results) = against("FAULT_NONE", &["--memory-limit", "256M"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_complete(row(&results, "faulty"));
}

#[test]
fn one_that_writes_to_standard_output_is_not_heard() {
    let (output, results) = against("FAULT_SPEAK", &["--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_complete(row(&results, "faulty"));
    let text = stdout(&output);
    assert!(!text.contains("speaking"), "{text}");
    serde_json::from_str::<serde_json::Value>(&text).expect("JSON and nothing else");
}

#[test]
fn one_that_closes_all_descriptors_still_answers() {
    let (output, results) = against("FAULT_CLOSE", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let faulty = row(&results, "faulty");
    let replayed = |status| {
        let of_subject = results.samples.iter().filter(|one| one.subject == "faulty");
        of_subject.filter(|sample| sample.status == status).count()
    };
    // What needs no descriptor is measured; memory cannot be read without one.
    assert!(replayed(Status::Ok) >= 1, "{faulty:?}");
    assert_eq!(faulty.status, Status::Refused, "{faulty:?}");
    let reason = faulty.reason.clone().expect("a reason");
    for word in ["memory pass", "closed a file"] {
        assert!(reason.contains(word), "{word:?} is not in: {reason}");
    }
}

#[test]
fn one_that_starts_processes_is_refused_and_they_are_ended() {
    assert_row(
        "FAULT_FORK",
        &[],
        Status::Refused,
        &["it started processes of its own", "not measured"],
    );
}

#[test]
fn one_that_changes_its_surroundings_harms_no_one() {
    let (output, results) = against("FAULT_SURROUNDINGS", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_complete(row(&results, "faulty"));
    assert_complete(row(&results, "system"));
}

#[test]
fn functions_chosen_by_the_linker_are_found() {
    let (output, results) = against("FAULT_NONE_IFUNC", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_complete(row(&results, "faulty"));
}

#[test]
fn one_that_waits_for_its_processes_is_refused_too() {
    for (fault, word) in [
        ("FAULT_FORK_AND_WAIT", "it started processes of its own"),
        ("FAULT_FORK_AND_FORGET", "processes"),
        ("FAULT_LEAVE_A_PROGRAM", "it started processes of its own"),
    ] {
        assert_row(fault, &[], Status::Refused, &[word, "not measured"]);
    }
}

#[test]
fn one_that_writes_without_end_is_ended_before_the_disk_is_full() {
    assert_row(
        "FAULT_FLOOD",
        &["--timeout", "60"],
        Status::Crashed,
        &["SIGXFSZ", "it said: "],
    );
}

#[test]
fn what_is_left_behind_is_found() {
    // The check that the other tests rely on.
    let folder = folder();
    let named = folder.path().join("named");
    let mut child = std::process::Command::new("sh")
        .args(["-c", "echo; read line; true"])
        .arg(&named)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("sh");
    // It runs, and what it executes is known to the kernel, when it has said so.
    let mut said = [0];
    let mut output = child.stdout.take().expect("a pipe");
    std::io::Read::read_exact(&mut output, &mut said).expect("a line");
    assert_eq!(processes_of(folder.path()).len(), 1);
    drop(child.stdin.take());
    child.wait().expect("it ends");
    assert_eq!(processes_of(folder.path()), [""; 0]);
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
        &["overlaps a live block", "operation", "of the trace, "],
    );
}

#[test]
fn misaligned_memory_is_wrong() {
    assert_row(
        "FAULT_MISALIGN",
        &[],
        Status::Wrong,
        &["misaligned", "operation", "of the trace, "],
    );
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
        &["operation", "of the trace, calloc(", "not zero"],
    );
}

#[test]
fn a_realloc_that_loses_content_is_wrong() {
    assert_row(
        "FAULT_LOSSY_REALLOC",
        &[],
        Status::Wrong,
        &["operation", "of the trace, realloc to", "content"],
    );
}

#[test]
fn a_lying_usable_size_is_wrong() {
    assert_row(
        "FAULT_LYING_USABLE",
        &[],
        Status::Wrong,
        &["usable size is less", "operation", "of the trace, "],
    );
}

#[test]
fn a_boasting_usable_size_is_wrong() {
    assert_row(
        "FAULT_BOASTING_USABLE",
        &[],
        Status::Wrong,
        &[
            "usable size that is not true",
            "operation",
            "of the trace, ",
        ],
    );
}

#[test]
fn the_operation_that_changes_a_live_block_is_named() {
    let folder = folder();
    let object = shared_object(folder.path(), "faulty.c", "faulty", &["FAULT_SCRIBBLE"]);
    // Blocks are freed twenty allocations later at the soonest, so the one changed is live, and
    // thousands of operations follow before the trace ends.
    let mut text = trace_text(1500);
    let culprit = text.lines().count() + 1;
    text.push_str("1 1 malloc(12345)=#100000\n");
    for number in 200_000..203_000 {
        text.push_str(&format!("1 1 malloc(50)=#{number}\n"));
    }
    let trace = folder.path().join("scribbled.log");
    std::fs::write(&trace, text).expect("the folder is ours");
    let out = folder.path().join("report");
    let output = replay()
        .args(["--quick", "--blocks", "1", "--subjects", "system"])
        .arg("--subject")
        .arg(format!("faulty={}", object.display()))
        .arg("--out")
        .args([&out, &trace])
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let results = results(&out);
    let reason = row(&results, "faulty").reason.clone().expect("a reason");
    let named = format!("operation {culprit} of the trace, malloc(12345) changed the content");
    assert!(reason.contains(&named), "{named:?} is not in: {reason}");
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
    let reason = partial.reason.clone().expect("a reason");
    // The function, and the object that has it.
    assert!(reason.contains("partial.so serves malloc"), "{reason}");
    assert!(reason.contains("free from /"), "{reason}");
    assert!(reason.contains("libc"), "{reason}");
}

/// Replays against one object; its row's status and reason.
fn with_object(folder: &Path, object: &Path) -> (Status, String) {
    let trace = write_trace(folder, 300);
    let out = folder.join("report");
    let output = replay()
        .args([
            "--quick",
            "--blocks",
            "2",
            "--subjects",
            "system",
            "--subject",
        ])
        .arg(format!("odd={}", object.display()))
        .arg("--out")
        .args([out.as_path(), Path::new(&trace)])
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let results = results(&out);
    assert_complete(row(&results, "system"));
    let odd = row(&results, "odd");
    (odd.status, odd.reason.clone().unwrap_or_default())
}

#[test]
fn an_object_that_the_linker_ignores_is_refused_with_its_words() {
    let folder = folder();
    let object = shared_object(folder.path(), "faulty.c", "odd", &["FAULT_NONE"]);
    let mut bytes = std::fs::read(&object).expect("just made");
    // Made for a system that is not this one.
    bytes[7] = 0x7f;
    std::fs::write(&object, bytes).expect("the folder is ours");
    let (status, reason) = with_object(folder.path(), &object);
    assert_eq!(status, Status::Refused, "{reason}");
    for word in ["the preload was ignored", "odd.so", "cannot be preloaded"] {
        assert!(reason.contains(word), "{word:?} is not in: {reason}");
    }
}

#[test]
fn an_object_that_lacks_another_is_refused_with_the_linkers_words() {
    let folder = folder();
    let needed = shared_object(folder.path(), "no_malloc.c", "needed", &[]);
    let object = folder.path().join("odd.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/objects/faulty.c");
    let made = std::process::Command::new("cc")
        .args([
            "-shared",
            "-fPIC",
            "-fno-builtin",
            "-Wl,--no-as-needed",
            "-o",
        ])
        .args([&object, &source, &needed])
        .status();
    assert!(made.expect("cc is there").success());
    std::fs::remove_file(&needed).expect("ours");
    let (status, reason) = with_object(folder.path(), &object);
    assert_eq!(status, Status::Refused, "{reason}");
    for word in ["error while loading shared libraries", "needed.so"] {
        assert!(reason.contains(word), "{word:?} is not in: {reason}");
    }
}
