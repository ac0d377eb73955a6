//! The benches from command line to report, on few cells. They take samples in copies of their own
//! process, so this test has its own `main` (`harness = false`): called with [`FOLDER`] set it is a
//! bench, otherwise it runs the tests below in such processes.

#[path = "../benches/common/mod.rs"]
mod common;

use std::path::Path;
use std::process::{Command, ExitCode, Output};

use mymalloc::measure::results::{Pass, Results, Sample, Status};
use mymalloc::report;
use tempfile::TempDir;

/// The environment variable that makes this process a bench, and names the folder of its report.
const FOLDER: &str = "MYMALLOC_TEST_BENCH_FOLDER";

const TESTS: [(&str, fn()); 8] = [
    (
        "a_filtered_cell_becomes_a_report",
        a_filtered_cell_becomes_a_report,
    ),
    (
        "later_runs_replace_what_they_measured",
        later_runs_replace_what_they_measured,
    ),
    (
        "a_subject_that_fails_is_a_row",
        a_subject_that_fails_is_a_row,
    ),
    ("threads_hand_blocks_over", threads_hand_blocks_over),
    ("warm_up_is_not_counted", warm_up_is_not_counted),
    ("bundled_traces_are_replayed", bundled_traces_are_replayed),
    (
        "lists_and_trials_leave_no_report",
        lists_and_trials_leave_no_report,
    ),
    ("what_cannot_work_is_one_line", what_cannot_work_is_one_line),
];

fn main() -> ExitCode {
    mymalloc::run::child::intercept();
    if let Some(folder) = std::env::var_os(FOLDER) {
        let suite = match std::env::args().any(|word| word.contains("quickstart")) {
            true => common::Suite::Replay,
            false => common::Suite::Synthetic,
        };
        return common::main(suite, Path::new(&folder));
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let filter = words.iter().find(|word| !word.starts_with('-'));
    let is_list = words.iter().any(|word| word == "--list");
    for (name, test) in TESTS {
        if filter.is_some_and(|filter| !name.contains(filter.as_str())) {
            continue;
        }
        if is_list {
            println!("{name}: test");
        } else {
            test();
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}

/// Runs a bench whose report goes to `folder`.
fn bench(folder: &Path, words: &[&str]) -> Output {
    Command::new(std::env::current_exe().expect("this program"))
        .args(words)
        .env(FOLDER, folder)
        .env("CRITERION_HOME", folder.join("criterion"))
        .output()
        .expect("this program starts")
}

/// Runs a bench that must succeed, and returns the results it left.
fn measure(folder: &Path, words: &[&str]) -> Results {
    let output = bench(folder, &[&["--bench"], words].concat());
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{out}\n{err}");
    let index = folder.join("index.html");
    let last = out.lines().last().unwrap_or_default();
    assert_eq!(last, format!("Report: {}", index.display()), "{out}\n{err}");
    assert!(index.is_file());
    report::read_results(&folder.join("results.json")).expect("results that can be read")
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn samples<'a>(results: &'a Results, subject: &str, pass: Pass) -> Vec<&'a Sample> {
    results
        .samples
        .iter()
        .filter(|sample| sample.subject == subject && sample.pass == pass)
        .collect()
}

fn workloads(results: &Results) -> Vec<&str> {
    results
        .workloads
        .iter()
        .map(|workload| workload.name.as_str())
        .collect()
}

fn a_filtered_cell_becomes_a_report() {
    let folder = folder();
    let results = measure(
        folder.path(),
        &["--quick", "synthetic-batch/(system|mimalloc)"],
    );
    assert_eq!(workloads(&results), ["synthetic-batch"]);
    let operations = results.workloads[0]
        .profile
        .as_ref()
        .expect("a trace has one")
        .counts
        .operations();
    assert_eq!(operations, 200_000);
    assert_eq!(results.summary.len(), 2);
    for row in &results.summary {
        assert_eq!(row.status, Status::Ok, "{:?}", row.reason);
        assert_eq!(row.operations, operations);
        assert!(row.ns_per_operation.is_some() && row.ratio_to_baseline.is_some());
        assert!(row.rss_peak_bytes > Some(0) && row.live_bytes_peak > Some(0));
        assert_eq!(samples(&results, &row.subject, Pass::Memory).len(), 1);
        let speed = samples(&results, &row.subject, Pass::Speed);
        assert!(speed.len() >= 2 && speed.iter().all(|sample| sample.operations == operations));
        let mut blocks: Vec<u32> = speed.iter().map(|sample| sample.block).collect();
        blocks.dedup();
        assert!(blocks.into_iter().eq(0..speed.len() as u32));
    }
    let charts = std::fs::read_dir(folder.path().join("charts"))
        .expect("charts")
        .count();
    assert!(charts >= 2, "{charts} charts");
}

fn later_runs_replace_what_they_measured() {
    let folder = folder();
    let first = measure(
        folder.path(),
        &["--quick", "synthetic-lifo/(system|jemalloc)"],
    );
    let second = measure(folder.path(), &["--quick", "threads-creation/system"]);
    assert_eq!(workloads(&second), ["synthetic-lifo", "threads-creation"]);
    let of_lifo = |results: &Results| -> Vec<Sample> {
        let samples = results
            .samples
            .iter()
            .filter(|sample| sample.workload == "synthetic-lifo");
        samples.cloned().collect()
    };
    assert_eq!(of_lifo(&first), of_lifo(&second));
    assert_eq!(second.summary.len(), 3);
    assert!(
        second
            .warnings
            .iter()
            .any(|warning| warning.contains("earlier run"))
    );
    // All of a workload's rows are of one run: jemalloc's old row would be compared with a new one.
    let third = measure(folder.path(), &["--quick", "synthetic-lifo/system"]);
    let rows: Vec<(&str, &str)> = third
        .summary
        .iter()
        .map(|row| (row.workload.as_str(), row.subject.as_str()))
        .collect();
    assert_eq!(
        rows,
        [("synthetic-lifo", "system"), ("threads-creation", "system")]
    );
}

fn a_subject_that_fails_is_a_row() {
    let folder = folder();
    // A hundred thousand live blocks under a list that is searched from its head: it is killed.
    let filter = "fleet-empirical-beta/(pagelist|system)";
    let results = measure(folder.path(), &["--quick", filter]);
    let [pagelist, system] = &results.summary[..] else {
        panic!("two rows: {:?}", results.summary)
    };
    assert_eq!(pagelist.subject, "pagelist");
    assert_eq!(pagelist.status, Status::TimedOut);
    let reason = pagelist.reason.as_deref().unwrap_or_default();
    assert!(reason.contains("killed after 1 s"), "{reason}");
    let told = |warning: &String| warning.contains("pagelist on fleet-empirical-beta");
    assert!(results.warnings.iter().any(told), "{:?}", results.warnings);
    assert_eq!(system.status, Status::Ok, "{:?}", system.reason);
}

fn threads_hand_blocks_over() {
    let folder = folder();
    let filter = "threads-(cross-free|producer)";
    let results = measure(
        folder.path(),
        &["--quick", &format!("{filter}.*/(system|mimalloc)")],
    );
    assert_eq!(results.summary.len(), 4);
    for row in &results.summary {
        assert_eq!(row.status, Status::Ok, "{:?}", row.reason);
        assert_eq!(row.operations, 200_000);
    }
    for workload in &results.workloads {
        let profile = workload.profile.as_ref().expect("a trace has one");
        assert_eq!(profile.threads, 2);
        assert!(profile.cross_thread_frees > 40_000);
    }
}

fn warm_up_is_not_counted() {
    let folder = folder();
    let words = [
        "--warm-up-time",
        "0.1",
        "--measurement-time=0.1",
        "--sample-size",
        "12",
    ];
    let results = measure(
        folder.path(),
        &[&words[..], &["synthetic-batch/system"]].concat(),
    );
    let speed = samples(&results, "system", Pass::Speed);
    assert_eq!(speed.len(), 12);
    // criterion's flat sampling repeats the workload equally often in each sample; the warm-up
    // repeats it once, twice, four times.
    let passes = |sample: &&Sample| sample.speed.as_ref().map(|speed| speed.passes_ns.len());
    assert!(
        speed
            .iter()
            .all(|sample| passes(sample) == passes(&speed[0]))
    );
}

fn bundled_traces_are_replayed() {
    let folder = folder();
    let results = measure(folder.path(), &["--quick", "quickstart/(system|jemalloc)"]);
    assert_eq!(workloads(&results), ["quickstart"]);
    assert!(results.summary.iter().all(|row| row.status == Status::Ok));
    assert!(!results.workloads[0].description.is_empty());
}

fn lists_and_trials_leave_no_report() {
    let folder = folder();
    let (out, _) = texts(&bench(folder.path(), &["--bench", "--list", "churn-64/"]));
    let names = ["mymalloc", "pagelist", "system", "mimalloc", "jemalloc"];
    let expected = names
        .map(|name| format!("synthetic-churn-64/{name}: benchmark\n"))
        .concat();
    assert_eq!(out, expected);
    // `cargo test --benches` calls without `--bench`.
    for words in [
        &["threads-creation/system"][..],
        &["--bench", "--test", "fifo/system"],
    ] {
        let output = bench(folder.path(), words);
        let (out, err) = texts(&output);
        assert!(
            output.status.success() && out.contains("Success"),
            "{out}\n{err}"
        );
    }
    assert!(!folder.path().join("index.html").exists());
    assert!(!folder.path().join("results.json").exists());
}

fn what_cannot_work_is_one_line() {
    let folder = folder();
    let output = bench(folder.path(), &["--bench", "("]);
    let (_, err) = texts(&output);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(
        err.starts_with("error: the filter \"(\" is no regular expression"),
        "{err}"
    );
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("written");
    let output = bench(&file, &["--bench", "--quick", "synthetic-batch/system"]);
    let (_, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("file: cannot make"), "{err}");
}
