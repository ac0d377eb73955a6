//! What people type, right and wrong: exit codes, one clear line, nothing half-written.

#[path = "command_line/refusals.rs"]
mod refusals;
mod suite;

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use mymalloc::measure::results::{StopReason, SummaryRow};
use suite::{
    assert_complete, assert_one_line_error, folder, mymalloc, replay, results, row, stderr, stdout,
    trace_text, write_trace,
};

/// `replay --quick --blocks 2` of a trace into a folder of its own.
fn quick(trace: &Path, out: &Path, extra: &[&str]) -> Output {
    replay()
        .args(["--quick", "--blocks", "2", "--subjects", "system,null"])
        .args(extra)
        .arg("--out")
        .args([out, trace])
        .output()
        .expect("the program starts")
}

/// The list stands in the help of two commands and in the catalogue, and this project's own allocators are in it.
#[test]
fn the_help_names_the_subjects_compared_by_default() {
    let catalogue = include_str!("../workloads/subjects.toml");
    let catalogue: toml::Table = catalogue.parse().expect("bundled");
    let defaults: Vec<&str> = catalogue["defaults"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|name| name.as_str().expect("a name"))
        .collect();
    assert!(defaults.contains(&"mymalloc") && defaults.contains(&"pagelist"));
    for command in ["replay", "suite"] {
        let help = mymalloc()
            .args([command, "--help"])
            .output()
            .expect("starts");
        let words: Vec<String> = stdout(&help)
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        let named = format!("[default: {}", defaults.join(","));
        assert!(words.join(" ").contains(&named), "{command}: {named}");
    }
}

#[test]
fn a_trace_becomes_a_report() {
    let folder = folder();
    let trace = write_trace(folder.path(), 2000);
    let out = folder.path().join("report");
    let output = replay()
        .args(["--quick", "--out"])
        .args([&out, &trace])
        .output()
        .expect("starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    let last = text.lines().last().expect("some output");
    assert_eq!(
        last,
        format!("Report: {}", out.join("index.html").display())
    );
    assert!(
        text.lines()
            .all(|line| line.chars().count() <= 80 || line == last),
        "{text}"
    );
    let results = results(&out);
    for subject in [
        "mymalloc", "pagelist", "system", "mimalloc", "jemalloc", "null", "bump",
    ] {
        assert_complete(row(&results, subject));
        assert!(text.contains(subject), "{subject}: {text}");
    }
    let counts = results.workloads[0]
        .profile
        .as_ref()
        .expect("a trace has one")
        .counts;
    assert_eq!(counts.operations(), row(&results, "system").operations);
    assert!(fs::read_dir(out.join("charts")).expect("charts").count() >= 4);
}

#[test]
fn samples_are_complete_and_in_blocks() {
    let folder = folder();
    let trace = write_trace(folder.path(), 500);
    let out = folder.path().join("report");
    let output = replay()
        .args([
            "--quick",
            "--blocks",
            "7",
            "--subjects",
            "mimalloc",
            "--out",
        ])
        .args([&out, &trace])
        .output()
        .expect("starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let results = results(&out);
    // The baseline joined by itself; verify once, speed seven times, memory once, latency once, which
    // `--quick` has too. Its twin is timed.
    assert_eq!(results.samples.len(), 2 * (1 + 7 + 1 + 1) + 7);
    assert_eq!(
        results.settings.baseline_twin.as_deref(),
        Some("system-again")
    );
    assert_eq!(results.subjects[2].twin_of.as_deref(), Some("system"));
    assert_eq!(row(&results, "system-again").blocks, 7);
    let [stop] = &results.first_run().stops[..] else {
        panic!("one workload");
    };
    assert_eq!((stop.reason, stop.blocks), (StopReason::Blocks, 7));
    assert!(
        results
            .samples
            .iter()
            .all(|one| one.elapsed_ns.is_some_and(|ns| ns > 0))
    );
    for sample in results
        .samples
        .iter()
        .filter_map(|sample| sample.speed.as_ref())
    {
        assert_eq!(
            sample.passes_ns.len() as u32,
            results.settings.passes_per_sample
        );
        assert!(sample.passes_ns.iter().all(|ns| *ns > 0));
    }
}

#[test]
fn the_same_command_replaces_the_report() {
    let folder = folder();
    let trace = write_trace(folder.path(), 300);
    let out = folder.path().join("report");
    assert_eq!(quick(&trace, &out, &[]).status.code(), Some(0));
    fs::write(out.join("notes.txt"), "mine").expect("the folder is ours");
    let first = fs::read(out.join("results.json")).expect("written");
    let output = quick(&trace, &out, &["--seed", "9"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_ne!(fs::read(out.join("results.json")).expect("written"), first);
    assert_eq!(results(&out).settings.seed, 9);
    // Nothing but the report's own files is touched, and no temporary file stays.
    let mut names: Vec<String> = fs::read_dir(&out)
        .expect("the report's folder")
        .map(|entry| {
            entry
                .expect("readable")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    assert_eq!(names, ["charts", "index.html", "notes.txt", "results.json"]);
}

#[test]
fn a_report_is_drawn_again_without_measuring() {
    let folder = folder();
    let trace = write_trace(folder.path(), 300);
    let out = folder.path().join("report");
    assert_eq!(quick(&trace, &out, &[]).status.code(), Some(0));
    let drawn = fs::read(out.join("index.html")).expect("written");
    let measured = fs::read(out.join("results.json")).expect("written");
    fs::remove_file(out.join("index.html")).expect("there");
    let output = mymalloc()
        .arg("report")
        .arg(out.join("results.json"))
        .output()
        .expect("starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(fs::read(out.join("index.html")).expect("written"), drawn);
    assert_eq!(
        fs::read(out.join("results.json")).expect("still there"),
        measured
    );
}

#[test]
fn formats_for_other_programs() {
    let folder = folder();
    let trace = write_trace(folder.path(), 300);
    let out = folder.path().join("report");
    let json = quick(&trace, &out, &["--format", "json"]);
    let summary: serde_json::Value = serde_json::from_str(&stdout(&json)).expect("JSON only");
    assert!(
        summary.to_string().contains("ratio_to_baseline"),
        "{summary}"
    );
    let csv = stdout(&quick(&trace, &out, &["--format", "csv"]));
    assert!(
        csv.lines().next().expect("a header").contains("subject"),
        "{csv}"
    );
    assert_eq!(csv.lines().count(), 4, "{csv}");
    let markdown = stdout(&quick(&trace, &out, &["--format", "markdown"]));
    assert!(
        markdown.contains("|---") || markdown.contains("| ---"),
        "{markdown}"
    );
}

#[test]
fn a_file_name_that_is_not_text() {
    let folder = folder();
    let name = std::ffi::OsStr::from_bytes(b"\xff.log");
    let output = quick(
        &folder.path().join(name),
        &folder.path().join("report"),
        &[],
    );
    assert_one_line_error(&output, 1, &[".log"]);
    fs::write(folder.path().join(name), trace_text(100)).expect("the folder is ours");
    let output = quick(
        &folder.path().join(name),
        &folder.path().join("report"),
        &[],
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn a_full_disk_under_standard_output() {
    let folder = folder();
    let trace = write_trace(folder.path(), 100);
    let full = fs::File::options()
        .write(true)
        .open("/dev/full")
        .expect("Linux has it");
    let output = replay()
        .args(["--quick", "--blocks", "1", "--subjects", "system", "--out"])
        .args([&folder.path().join("report"), &trace])
        .stdout(full)
        .output()
        .expect("starts");
    assert_one_line_error(&output, 1, &["standard output"]);
}

#[test]
fn peaks_between_regular_samples_are_seen() {
    // Bursts of 60 blocks of 100 KB, gone again before the next regular sample, in a long row of
    // small operations; and blocks of two pages, whose last page only their last byte reaches.
    let mut text = String::new();
    for round in 0..200 {
        for number in 1..=300 {
            text.push_str(&format!("1 1 malloc(32)=#{number}\n"));
        }
        if round % 20 == 10 {
            (1001..=1060).for_each(|n| text.push_str(&format!("1 1 malloc(100000)=#{n}\n")));
            (1001..=1060).for_each(|n| text.push_str(&format!("1 1 free(#{n})\n")));
        }
        (1..=300).for_each(|number| text.push_str(&format!("1 1 free(#{number})\n")));
    }
    let folder = folder();
    let trace = folder.path().join("bursts.log");
    fs::write(&trace, text).expect("the folder is ours");
    let out = folder.path().join("report");
    let subjects = ["--subjects", "system,mimalloc,jemalloc,pagelist"];
    let output = replay()
        .args(["--quick", "--blocks", "1"])
        .args(subjects)
        .arg("--out")
        .args([&out, &trace])
        .output()
        .expect("starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let results = results(&out);
    let twin = |row: &&SummaryRow| results.settings.baseline_twin.as_ref() == Some(&row.subject);
    for row in results.summary.iter().filter(|row| !twin(row)) {
        let live = row.live_bytes_peak.expect("measured") as f64;
        let peak = row.rss_peak_bytes.expect("measured") as f64;
        // Every page of every block was written, so RSS cannot be below the live bytes by more than
        // the kernel's counters lag, and the height between two samples.
        assert!(peak > 0.95 * live, "{}: {peak} of {live} live", row.subject);
        let retained = row.rss_retained_bytes.expect("measured") as f64;
        assert!(retained <= peak, "{}: {retained} after {peak}", row.subject);
    }
}

#[test]
fn an_interrupt_leaves_nothing_half_written() {
    let folder = folder();
    let trace = write_trace(folder.path(), 20_000);
    let out = folder.path().join("report");
    assert_eq!(quick(&trace, &out, &[]).status.code(), Some(0));
    let before = fs::read(out.join("results.json")).expect("written");
    let temporary = folder.path().join("temporary");
    fs::create_dir(&temporary).expect("the folder is ours");
    let mut child = replay()
        .args(["--blocks", "100000", "--subjects", "system,null", "--out"])
        .args([&out, &trace])
        .env("TMPDIR", &temporary)
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    // The measurement is under way as soon as a compiled trace lies in the temporary folder.
    while !has_program(&temporary) {
        assert!(
            child.try_wait().expect("our child").is_none(),
            "it ended by itself"
        );
        std::thread::yield_now();
    }
    signal(child.id(), "INT");
    let output = child.wait_with_output().expect("our child");
    assert_one_line_error(&output, 130, &["interrupted"]);
    assert_eq!(
        fs::read(out.join("results.json")).expect("still there"),
        before
    );
    assert_eq!(
        fs::read_dir(&temporary).expect("still there").count(),
        0,
        "temporary files gone"
    );
}

#[test]
fn no_signal_leaves_temporary_files() {
    // The impatient one ends the process at its third, wherever it is.
    for signals in [&["TERM"][..], &["HUP"], &["INT", "TERM", "INT", "TERM"]] {
        let folder = folder();
        let trace = write_trace(folder.path(), 20_000);
        let temporary = folder.path().join("temporary");
        fs::create_dir(&temporary).expect("the folder is ours");
        let mut child = replay()
            .args(["--blocks", "100000", "--subjects", "system,null", "--out"])
            .args([&folder.path().join("report"), &trace])
            .env("TMPDIR", &temporary)
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("starts");
        while !has_program(&temporary) {
            assert!(
                child.try_wait().expect("our child").is_none(),
                "it ended by itself"
            );
            std::thread::yield_now();
        }
        for name in signals {
            // Not yet waited for, so the number is still its own.
            signal(child.id(), name);
        }
        let status = child.wait().expect("our child");
        assert_eq!(status.code(), Some(130), "{signals:?}");
        let left = fs::read_dir(&temporary).expect("still there").count();
        assert_eq!(left, 0, "temporary files gone after {signals:?}");
    }
}

fn has_program(temporary: &Path) -> bool {
    let inside = |directory: PathBuf| directory.join("program-0").exists();
    fs::read_dir(temporary)
        .expect("ours")
        .flatten()
        .any(|entry| inside(entry.path()))
}

fn signal(process: u32, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &process.to_string()])
        .status();
    assert!(status.expect("kill is everywhere").success());
}

#[test]
fn the_shims_are_written_ready_to_preload() {
    let sizes = ["mymalloc", "pagelist"].map(is_written_ready_to_preload);
    assert!(sizes[0] < 100_000, "{} bytes of MyMalloc", sizes[0]);
}

/// Bytes of the file.
fn is_written_ready_to_preload(allocator: &str) -> u64 {
    let folder = folder();
    let path = folder.path().join("mylibmalloc.so");
    let output = mymalloc()
        .args(["lib", "--allocator", allocator, "--out"])
        .arg(&path)
        .output()
        .expect("starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let mode = fs::metadata(&path).expect("written").permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    let listing = |preload: Option<&Path>| {
        let mut command = Command::new("ls");
        command.arg("-la").arg(env!("CARGO_MANIFEST_DIR"));
        if let Some(path) = preload {
            command.env("LD_PRELOAD", path);
        }
        let output = command.output().expect("ls is everywhere");
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{}",
            stderr(&output)
        );
        output.stdout
    };
    assert_eq!(listing(Some(&path)), listing(None));
    fs::metadata(&path).expect("written").len()
}

#[test]
fn help_and_completions() {
    for command in [&mut replay(), mymalloc().arg("replay")] {
        let output = command.arg("--help").output().expect("starts");
        let text = stdout(&output);
        assert_eq!(output.status.code(), Some(0));
        assert!(
            text.contains("Examples:") && text.contains("--subject"),
            "{text}"
        );
    }
    for shell in ["bash", "zsh", "fish"] {
        let output = mymalloc()
            .args(["completions", shell])
            .output()
            .expect("starts");
        assert!(stdout(&output).contains("replay"), "{shell}");
    }
}
