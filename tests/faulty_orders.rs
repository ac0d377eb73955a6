//! Whatever the order of replay, a faulty allocator is found, with the operation that a serial replay
//! names.

mod suite;

use std::path::Path;

use mymalloc::measure::results::Status;
use suite::{folder, replay, results, row, shared_object, stderr, trace_text};

/// The reason of a faulty allocator's row in an order of replay.
fn reason(folder: &Path, object: &Path, trace: &Path, order: &str) -> String {
    let out = folder.join(format!("report-{order}"));
    let output = replay()
        .args(["--quick", "--blocks", "1", "--subjects", "system"])
        .args(["--order", order, "--subject"])
        .arg(format!("faulty={}", object.display()))
        .arg("--out")
        .args([&out, trace])
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let results = results(&out);
    assert_eq!(row(&results, "system").status, Status::Ok);
    let faulty = row(&results, "faulty");
    assert_eq!(faulty.status, Status::Wrong, "{:?}", faulty.reason);
    faulty.reason.clone().expect("a reason")
}

/// An operation in seven is a second thread's.
fn trace_of_two_threads() -> String {
    let text = trace_text(1500);
    let threads = text.lines().enumerate().map(|(index, line)| {
        let operation = line.strip_prefix("1 1 ").expect("the native grammar");
        format!("1 {} {operation}\n", if index % 7 == 3 { 2 } else { 1 })
    });
    threads.collect()
}

#[test]
fn faults_are_named_alike_in_every_order() {
    let folder = folder();
    let mut text = trace_of_two_threads();
    // What makes one of the faults.
    text.push_str("1 2 malloc(12345)=#100000\n");
    for number in 200_000..201_000 {
        text.push_str(&format!("1 1 malloc(50)=#{number}\n"));
    }
    let trace = folder.path().join("trace.log");
    std::fs::write(&trace, text).expect("the folder is ours");
    for fault in [
        "FAULT_BOASTING_USABLE",
        "FAULT_OVERLAP",
        "FAULT_SCRIBBLE",
        "FAULT_WRITE_AFTER_FREE",
    ] {
        let object = shared_object(folder.path(), "faulty.c", fault, &[fault]);
        let serial = reason(folder.path(), &object, &trace, "serial");
        for order in ["threads", "strict"] {
            let found = reason(folder.path(), &object, &trace, order);
            let expected = format!("{serial} (replayed on one thread)");
            assert_eq!(found, expected, "{fault} in the order {order}");
        }
    }
}
