//! Against allocators as Debian packages them, which `.ci/run` installs. Not part of a plain
//! `cargo test`: feature `debian-tests`.
#![cfg(feature = "debian-tests")]

mod suite;

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use mymalloc::measure::results::{Pass, Results, Status, SummaryRow};
use suite::{
    assert_complete, folder, mymalloc, processes_of, replay, results, row, shared_object, stderr,
    stdout, write_trace,
};

const OBJECTS: [(&str, &str); 3] = [
    (
        "jemalloc-preloaded",
        "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2",
    ),
    (
        "tcmalloc-preloaded",
        "/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4",
    ),
    (
        "mimalloc-preloaded",
        "/usr/lib/x86_64-linux-gnu/libmimalloc.so.2",
    ),
];

#[test]
fn preloaded_allocators_serve_the_calls_themselves() {
    let folder = folder();
    let trace = write_trace(folder.path(), 3000);
    let out = folder.path().join("report");
    let mut command = replay();
    command.args(["--quick", "--subjects", "system"]);
    for (name, path) in OBJECTS {
        assert!(
            Path::new(path).exists(),
            "install Debian's package of {path}"
        );
        command.args(["--subject", &format!("{name}={path}")]);
    }
    let output = command
        .arg("--out")
        .args([&out, &trace])
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let results = results(&out);
    for (name, path) in OBJECTS {
        assert_complete(row(&results, name));
        assert!(row(&results, name).rss_peak_bytes.is_some());
        for sample in results
            .samples
            .iter()
            .filter(|sample| sample.subject == name)
        {
            let receipt = sample.receipt.as_ref().expect("a receipt");
            assert_eq!(receipt.path, path);
            assert_eq!(receipt.functions.len(), 7, "{receipt:?}");
        }
        let record = results.subjects.iter().find(|subject| subject.name == name);
        let record = record.expect("recorded");
        // By its own word, though nobody said how to ask.
        let version = record.version.as_ref().expect("a version");
        assert!(
            version.contains(|letter: char| letter.is_ascii_digit()),
            "{version}"
        );
        assert!(record.build.as_ref().is_some_and(|build| build.len() >= 40));
    }
}

#[test]
fn catalogue_entries_of_debian_packages_work_by_name() {
    let folder = folder();
    let trace = write_trace(folder.path(), 500);
    let out = folder.path().join("report");
    let output = replay()
        .args([
            "--quick",
            "--subjects",
            "system,jemalloc-debian,tcmalloc-debian,mimalloc-debian",
        ])
        .arg("--out")
        .args([&out, &trace])
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for name in ["jemalloc-debian", "tcmalloc-debian", "mimalloc-debian"] {
        assert_complete(row(&results(&out), name));
        assert!(stdout(&output).contains(name));
    }
}

/// The bundled programs that fit a pattern, once each under these subjects.
fn programs(
    folder: &Path,
    pattern: &str,
    subjects: &[&str],
    extra: &[String],
) -> (Output, Results) {
    let out = folder.join("report");
    let output = mymalloc()
        .args([
            "suite",
            "--blocks",
            "1",
            "--fresh",
            "--timeout",
            "240",
            "--name",
            pattern,
        ])
        .args(["--subjects", &subjects.join(",")])
        .args(extra)
        .arg("--out")
        .arg(&out)
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let results = results(&out);
    (output, results)
}

fn row_of<'a>(results: &'a Results, workload: &str, subject: &str) -> &'a SummaryRow {
    let mut rows = results.summary.iter();
    rows.find(|row| row.workload == workload && row.subject == subject)
        .expect("a row")
}

/// Every bundled program does its work, and prints what its definition expects, under the C library's
/// malloc and under a preloaded one. Only the Rust compiler may be one that cannot be measured: the
/// one that rustup installs is linked with an allocator of its own.
#[test]
fn each_bundled_program_runs_under_the_c_library_and_a_preloaded_allocator() {
    let folder = folder();
    let start = Instant::now();
    let (_, results) = programs(
        folder.path(),
        "program-*",
        &["system", "jemalloc-debian"],
        &[],
    );
    // Each runs seven times, for some seconds; none waits for a time limit.
    assert!(
        start.elapsed() < Duration::from_secs(1500),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(results.workloads.len(), 8);
    for workload in &results.workloads {
        for subject in ["system", "jemalloc-debian"] {
            let row = row_of(&results, &workload.name, subject);
            let reason = row.reason.as_deref().unwrap_or_default();
            if workload.name == "program-rust-build" && row.status == Status::Refused {
                assert!(
                    reason.contains("rustc is linked with an allocator of its own"),
                    "{reason}"
                );
                continue;
            }
            assert_eq!(
                row.status,
                Status::Ok,
                "{} {subject}: {reason}",
                workload.name
            );
            assert!(
                row.rss_peak_bytes > Some(1 << 20) && row.wall_ns.is_some(),
                "{row:?}"
            );
            let of_row = |sample: &&mymalloc::measure::results::Sample| {
                sample.workload == workload.name && sample.subject == subject
            };
            for sample in results.samples.iter().filter(of_row) {
                let receipt = sample.receipt.as_ref().expect("a receipt");
                assert_eq!(receipt.functions.len(), 7, "{receipt:?}");
                assert!(
                    receipt.build.is_some() && receipt.version.is_some(),
                    "{receipt:?}"
                );
                assert_eq!(receipt.path.contains("jemalloc"), subject != "system");
                assert_eq!(sample.program.is_some(), sample.pass != Pass::Verify);
            }
        }
    }
}

/// An allocator that changes what programs keep: they end well, and their output is wrong.
#[test]
fn an_allocator_that_corrupts_the_output_of_a_real_program_is_wrong() {
    let folder = folder();
    let object = shared_object(
        folder.path(),
        "faulty.c",
        "corrupt",
        &["FAULT_CORRUPT_TEXT"],
    );
    let extra = [
        "--subject".to_owned(),
        format!("corrupt={}", object.display()),
    ];
    let (output, results) = programs(folder.path(), "program-perl", &["system"], &extra);
    let system = row_of(&results, "program-perl", "system");
    assert_eq!(system.status, Status::Ok, "{system:?}");
    let corrupt = row_of(&results, "program-perl", "corrupt");
    assert_eq!(corrupt.status, Status::Wrong, "{corrupt:?}");
    let reason = corrupt.reason.as_ref().expect("a reason");
    assert!(
        reason.starts_with("wrong output: it has SHA-256 "),
        "{reason}"
    );
    assert!(corrupt.ns_per_operation.is_none(), "it is not ranked");
    assert!(stdout(&output).contains("corrupt"), "{}", stdout(&output));
    assert_eq!(processes_of(folder.path()), [""; 0]);
}

/// The page of a report in a browser: no sideways scrolling at the widths of a desk and a phone, no
/// errors, in light and dark; nothing is fetched from anywhere (the browser has no network to be
/// asked: any request would be an error in its log).
#[test]
fn the_page_fits_a_desk_and_a_phone() {
    let folder = folder();
    let trace = write_trace(folder.path(), 3000);
    let out = folder.path().join("report");
    let output = replay()
        .args(["--quick", "--out"])
        .args([&out, &trace])
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let page = std::fs::read_to_string(out.join("index.html")).expect("a page");
    for width in [390, 1280] {
        let dom = rendered(folder.path(), &page, width);
        let measured = dom
            .split("data-measured=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .unwrap_or_else(|| panic!("the page was not measured: {dom}"));
        let numbers: Vec<i64> = measured
            .split(' ')
            .map(|number| number.parse().expect("a number"))
            .collect();
        let [scroll_width, client_width, height, charts] = numbers[..] else {
            panic!("four numbers: {measured}");
        };
        assert_eq!(client_width, width, "the frame's width");
        assert!(
            scroll_width <= width,
            "{scroll_width} pixels wide in {width}"
        );
        assert!(height > 1000 && charts >= 5, "a whole report: {measured}");
    }
}

/// The document of a page in a frame of this width, after the browser has laid it out.
fn rendered(folder: &Path, page: &str, width: i64) -> String {
    let escaped = page.replace('&', "&amp;").replace('"', "&quot;");
    let wrapper = format!(
        "<!doctype html><body><iframe width=\"{width}\" height=\"900\" style=\"border:0\" \
         srcdoc=\"{escaped}\"></iframe><script>onload = () => {{\
         const page = document.querySelector('iframe').contentDocument;\
         const root = page.documentElement;\
         const shown = [...page.querySelectorAll('svg')].filter(svg => svg.getClientRects().length);\
         document.body.dataset.measured = \
         [root.scrollWidth, root.clientWidth, root.scrollHeight, shown.length].join(' ');\
         }};</script></body>"
    );
    let path = folder.join(format!("frame-{width}.html"));
    std::fs::write(&path, wrapper).expect("the folder is ours");
    let output = std::process::Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
        ])
        .args([
            "--disable-sync",
            "--hide-scrollbars",
            "--window-size=1400,1000",
            "--dump-dom",
        ])
        .arg(format!(
            "--user-data-dir={}",
            folder.join("profile").display()
        ))
        .arg(format!("file://{}", path.display()))
        .output()
        .expect("install Debian's chromium");
    stdout(&output)
}
