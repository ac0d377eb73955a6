//! Latencies from the command line: who gets them without asking, and where they are told.

mod suite;

use std::path::Path;

use mymalloc::measure::latency::ALL_SIZES;
use mymalloc::measure::results::{Pass, Results, Status};
use suite::{assert_complete, folder, mymalloc, replay, results, row, stderr, stdout, write_trace};

/// Two threads; the second frees and reallocates what the first allocates.
const THREADED: &str = "\
100: malloc 0x1000 48
100: malloc 0x2000 100
200: free 0x1000
200: realloc 0x3000 0x2000 300
100: malloc 0x5000 20
100: free 0x5000
200: free 0x3000
";

fn run(folder: &Path, trace: &Path, more: &[&str]) -> (Results, String) {
    let out = folder.join("report");
    let output = replay()
        .args(["--quick", "--blocks", "2", "--subjects", "system,null,bump"])
        .args(more)
        .arg("--out")
        .args([&out, trace])
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    (results(&out), stdout(&output))
}

fn page(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("report/index.html")).expect("a page")
}

#[test]
fn latencies_are_measured_without_asking() {
    let folder = folder();
    let trace = write_trace(folder.path(), 3000);
    let (results, table) = run(folder.path(), &trace, &[]);
    assert_eq!(results.settings.latency_blocks, 1);
    for subject in ["system", "null", "bump"] {
        let row = row(&results, subject);
        assert_complete(row);
        let all = row
            .latency
            .iter()
            .filter(|row| row.size_class_bytes == ALL_SIZES);
        let calls: u64 = all.map(|row| row.count).sum();
        assert_eq!(calls, row.operations, "{subject}");
    }
    for word in ["latency", "malloc p99", "free p99", "max"] {
        assert!(table.contains(word), "{word} is not in: {table}");
    }
    let page = page(folder.path());
    for word in [
        "<h3>Latency</h3>",
        "p99.99",
        "by size",
        "at least ten calls lie beyond",
        "memory that is resident already",
        "In a second replay",
        "which is subtracted",
    ] {
        assert!(page.contains(word), "{word} is not in the page");
    }
}

#[test]
fn threads_are_told_apart_where_there_are_any() {
    let folder = folder();
    let trace = folder.path().join("threads.txt");
    std::fs::write(&trace, THREADED).expect("ours");
    for (order, crossing) in [("threads", 2), ("strict", 2), ("serial", 0)] {
        let (results, _) = run(folder.path(), &trace, &["--order", order]);
        for subject in ["system", "null", "bump"] {
            let rows = &row(&results, subject).latency;
            let others = rows
                .iter()
                .filter(|row| row.other_thread && row.size_class_bytes == ALL_SIZES);
            let calls: u64 = others.map(|row| row.count).sum();
            assert_eq!(calls, crossing, "{subject} {order}");
        }
        let words = "another thread";
        assert_eq!(
            page(folder.path()).contains(&format!("free of {words}")),
            crossing > 0
        );
    }
}

#[test]
fn the_pass_can_be_repeated_or_left_out() {
    let folder = folder();
    let trace = write_trace(folder.path(), 300);
    for (blocks, expected) in [("0", 0), ("2", 2)] {
        let (results, table) = run(folder.path(), &trace, &["--latency-blocks", blocks]);
        let samples = results.samples.iter();
        let own = samples.filter(|one| one.subject == "system" && one.pass == Pass::Latency);
        assert_eq!(own.count(), expected);
        assert_eq!(row(&results, "system").latency.is_empty(), expected == 0);
        assert_eq!(table.contains("malloc p99"), expected > 0);
        assert_eq!(
            page(folder.path()).contains("<h3>Latency</h3>"),
            expected > 0
        );
    }
}

/// A kernel is not refused for a pass that it does not have; the report says why there is none.
#[test]
fn kernels_have_no_latency_and_say_so() {
    let folder = folder();
    let definitions = folder.path().join("definitions");
    std::fs::create_dir(&definitions).expect("ours");
    let kernel = "kernel = 'thread-creation'\nthreads = 3\nblocks = 50\nsize = 64";
    let text = format!(
        "name = 'k'\nkind = 'threads'\ndescription = 'd'\nstands_for = 's'\norigin = 'o'\n\
         licence = 'l'\nbias = 'b'\ntags = ['small']\n[threads]\n{kernel}\n"
    );
    std::fs::write(definitions.join("k.toml"), text).expect("ours");
    let output = mymalloc()
        .args(["suite", "--subjects", "system,mimalloc", "--blocks", "2"])
        .args(["--latency-blocks", "1", "--definitions"])
        .arg(&definitions)
        .arg("--out")
        .arg(folder.path().join("report"))
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let results = results(&folder.path().join("report"));
    assert_eq!(results.settings.latency_blocks, 1);
    for subject in ["system", "mimalloc"] {
        let row = row(&results, subject);
        assert_eq!((row.status, &row.reason), (Status::Ok, &None));
        assert!(row.latency.is_empty());
    }
    assert!(results.samples.iter().all(|one| one.pass != Pass::Latency));
    let reason = "no single call is timed";
    assert!(page(folder.path()).contains(reason));
    let table = stdout(&output).replace("\n  ", " ");
    assert!(table.contains(reason), "{table}");
}
