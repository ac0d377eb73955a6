//! The orders of `replay`, from the command line.

mod suite;

use std::path::Path;

use mymalloc::measure::results::Order;
use suite::{assert_complete, assert_one_line_error, folder, replay, results, row, stderr};

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
        if let Some(record) = workload.threaded {
            assert_eq!((record.threads, record.cross_thread_frees), (3, 4));
            assert_eq!(record.threads_alive_peak, 2);
        }
        for speed in results.samples.iter().filter_map(|s| s.speed.as_ref()) {
            let expected = if threaded { speed.passes_ns.len() } else { 0 };
            for times_ns in [&speed.cpu_ns, &speed.waiting_ns, &speed.alive_ns] {
                assert_eq!(times_ns.len(), expected);
            }
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
