//! The orders of `replay`, from the command line.

mod suite;

use std::path::Path;

use mymalloc::measure::results::{Order, Status, Verdict};
use suite::{assert_complete, assert_one_line_error, folder, replay, results, row, stderr, stdout};

/// Three threads; blocks go from the first to the second, and the third comes later.
const TRACE: &str = "\
100: malloc 0x1000 48
100: malloc 0x2000 100
200: free 0x1000
200: malloc 0x3000 200
100: realloc 0x4000 0x3000 300
200: thread_done 0x0
300: calloc 0x5000 4 8
300: free 0x2000
100: free 0x5000
";

fn run(folder: &Path, trace: &Path, order: &[&str]) -> std::process::Output {
    replay()
        .args(["--quick", "--blocks", "2", "--subjects", "system,null,bump"])
        .args(order)
        .arg("--out")
        .args([&folder.join("report"), trace])
        .output()
        .expect("the program starts")
}

#[test]
fn each_order_is_told_in_the_results() {
    let folder = folder();
    let trace = folder.path().join("trace.txt");
    std::fs::write(&trace, TRACE).expect("the folder is ours");
    for (words, order) in [
        (vec![], Order::Threads),
        (vec!["--order", "threads"], Order::Threads),
        (vec!["--order", "strict"], Order::Strict),
        (vec!["--order", "serial"], Order::Serial),
    ] {
        let output = run(folder.path(), &trace, &words);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let results = results(&folder.path().join("report"));
        assert_complete(row(&results, "system"));
        assert_complete(row(&results, "bump"));
        let workload = &results.workloads[0];
        assert_eq!(workload.order, Some(order));
        let threaded = order != Order::Serial;
        assert_eq!(workload.threaded.is_some(), threaded);
        for subject in ["system", "bump", "null"] {
            let row = row(&results, subject);
            assert_eq!(row.wall_ns_per_operation.is_some(), threaded, "{row:?}");
            assert_eq!(row.wall_ratio_to_baseline.is_some(), threaded, "{row:?}");
            assert_eq!(row.wall_harness_share.is_some(), threaded, "{row:?}");
            assert_eq!(row.waiting_share.is_some(), threaded, "{row:?}");
            assert!(
                row.waiting_share
                    .is_none_or(|share| (0.0..=1.0).contains(&share))
            );
        }
        for words in [
            "Compared is the CPU time",
            "waited for one another",
            "null, which does",
        ] {
            assert_eq!(
                stdout(&output).contains(words),
                threaded,
                "{}",
                stdout(&output)
            );
        }
        if let Some(record) = workload.threaded {
            assert_eq!((record.threads, record.cross_thread_frees), (3, 4));
            assert_eq!(record.threads_alive_peak, 2);
        }
        for speed in results.samples.iter().filter_map(|s| s.speed.as_ref()) {
            let expected = if threaded { speed.passes_ns.len() } else { 0 };
            for times_ns in [
                &speed.cpu_ns,
                &speed.hand_over_cpu_ns,
                &speed.waiting_ns,
                &speed.pacing_ns,
                &speed.alive_ns,
                &speed.lateness_mean_ns,
                &speed.lateness_max_ns,
            ] {
                assert_eq!(times_ns.len(), expected);
            }
            // Told of serial replays too.
            assert_eq!(speed.process_cpu_ns.len(), speed.passes_ns.len());
            for (pass, cpu_ns) in speed.cpu_ns.iter().enumerate() {
                let apart_ns = speed.hand_over_cpu_ns[pass];
                assert!(apart_ns > 0, "two threads are made: {speed:?}");
                assert!(cpu_ns + apart_ns <= speed.process_cpu_ns[pass], "{speed:?}");
                assert!(speed.waiting_ns[pass] <= speed.alive_ns[pass], "{speed:?}");
            }
            let compared = if threaded {
                &speed.cpu_ns
            } else {
                &speed.passes_ns
            };
            assert_eq!(speed.compared_ns(), compared);
        }
    }
}

#[test]
fn one_thread_may_be_replayed_in_any_order() {
    let folder = folder();
    let trace = suite::write_trace(folder.path(), 300);
    for order in ["serial", "threads", "strict"] {
        let output = run(folder.path(), &trace, &["--order", order]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let results = results(&folder.path().join("report"));
        for subject in ["system", "null", "bump"] {
            let row = row(&results, subject);
            assert_eq!(row.status, Status::Ok, "{order}: {:?}", row.reason);
        }
    }
}

#[test]
fn recorded_time_is_no_fault_of_the_allocator() {
    let folder = folder();
    let trace = folder.path().join("slow.txt");
    // A second of recording, with time stamps in nanoseconds.
    let text = "7: malloc 0x10 48 1000 1100\n8: malloc 0x20 32 1200 1300\n\
                7: free 0x20 1000001000 1000001100\n8: free 0x10 1000001200 1000001300\n";
    std::fs::write(&trace, text).expect("the folder is ours");
    let output = replay()
        .args(["--quick", "--blocks", "1", "--subjects", "system"])
        .args(["--order", "paced", "--timeout", "0.9", "--out"])
        .args([&folder.path().join("report"), &trace])
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let results = results(&folder.path().join("report"));
    let row = row(&results, "system");
    assert_eq!(row.status, Status::Ok, "{:?}", row.reason);
    assert!(row.lateness_mean_ns.is_some());
    assert_eq!(row.wall_verdict, Verdict::Unknown);
    for speed in results.samples.iter().filter_map(|s| s.speed.as_ref()) {
        for (pass, wall_ns) in speed.passes_ns.iter().enumerate() {
            // From the first to the last recorded start of an operation.
            assert!(*wall_ns >= 1_000_000_000, "{speed:?}");
            assert!(speed.pacing_ns[pass] > 0, "{speed:?}");
            // Sleeping is no work: both threads together worked for a small part of it.
            assert!(speed.cpu_ns[pass] < 500_000_000, "{speed:?}");
        }
    }
}

#[test]
fn paced_needs_time_stamps() {
    let folder = folder();
    let trace = folder.path().join("trace.txt");
    std::fs::write(&trace, TRACE).expect("the folder is ours");
    let output = run(folder.path(), &trace, &["--order", "paced"]);
    assert_one_line_error(
        &output,
        2,
        &["trace.txt", "no time stamps", "--order threads"],
    );

    let timed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/android-times.txt");
    let output = run(folder.path(), &timed, &["--order", "paced"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let results = results(&folder.path().join("report"));
    assert_eq!(results.workloads[0].order, Some(Order::Paced));
}
