//! What people type wrongly, and files that cannot be used: exit codes, one clear line, and nothing
//! half-written.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use super::quick;
use super::suite::{
    assert_one_line_error, folder, mymalloc, replay, results, shared_object, stderr, trace_text,
    write_trace,
};

/// A file with these bytes is refused with this code and these words, and leaves no report.
fn assert_refused(name: &str, bytes: &[u8], code: i32, words: &[&str]) {
    let folder = folder();
    let trace = folder.path().join(name);
    fs::write(&trace, bytes).expect("the folder is ours");
    let out = folder.path().join("report");
    let output = quick(&trace, &out, &[]);
    assert_one_line_error(&output, code, &[&[name], words].concat());
    assert!(!out.exists(), "nothing was written, not even a folder");
}

#[test]
fn a_missing_file() {
    let folder = folder();
    let output = quick(
        &folder.path().join("no.log"),
        &folder.path().join("report"),
        &[],
    );
    assert_one_line_error(&output, 1, &["no.log"]);
}

#[test]
fn a_directory() {
    let folder = folder();
    let output = quick(folder.path(), &folder.path().join("report"), &[]);
    assert_one_line_error(&output, 1, &["directory"]);
}

#[test]
fn unusable_contents() {
    assert_refused("empty.log", b"", 1, &["empty"]);
    assert_refused(
        "binary.log",
        &[0, 159, 146, 150, 0, 1, 2, 3, 10, 255],
        1,
        &[],
    );
    assert_refused(
        "latin.log",
        b"1 1 malloc(8)=#1\n1 1 mall\xf6c(8)=#2\n",
        1,
        &[":2:"],
    );
    assert_refused("prose.log", b"Dear reader,\nthis is no trace.\n", 1, &[]);
    let mut bad = trace_text(100);
    bad.push_str("1 1 free(#77777)\n");
    let line = format!(":{}:", bad.lines().count());
    assert_refused("unknown.log", bad.as_bytes(), 1, &[&line, "77777"]);
}

#[test]
fn a_truncated_compressed_trace() {
    let text = trace_text(5000);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text.as_bytes()).expect("memory");
    let gzip = gzip.finish().expect("memory");
    assert_refused("cut.log.gz", &gzip[..gzip.len() / 2], 1, &[]);
    let zstd = zstd::encode_all(text.as_bytes(), 3).expect("memory");
    assert_refused("cut.log.zst", &zstd[..zstd.len() / 2], 1, &[]);
}

#[test]
fn a_million_bad_lines() {
    let bad = "1 1 freee(#1)\n".repeat(1_000_000);
    let mut text = trace_text(50);
    let lines = text.lines().count();
    text.push_str(&bad);
    assert_refused(
        "million.log",
        text.as_bytes(),
        1,
        &[&format!(":{}:", lines + 1)],
    );
    // Lenient: counted, and the rest is replayed.
    let folder = folder();
    let trace = folder.path().join("million.log");
    fs::write(&trace, text).expect("the folder is ours");
    let out = folder.path().join("report");
    let output = quick(&trace, &out, &["--lenient"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("1000000 lines"),
        "{}",
        stderr(&output)
    );
    assert_eq!(
        results(&out).workloads[0]
            .origin
            .as_ref()
            .expect("a trace has one")
            .dropped_lines,
        1_000_000
    );
}

#[test]
fn unusable_requests() {
    let folder = folder();
    let trace = write_trace(folder.path(), 100);
    let out = folder.path().join("report");
    let refuse = |extra: &[&str], words: &[&str]| {
        let output = quick(&trace, &out, extra);
        assert_one_line_error(&output, 2, words);
        assert!(!out.join("results.json").exists());
    };
    refuse(
        &["--baseline", "hoard"],
        &[
            "hoard",
            "known: mymalloc, pagelist, system, mimalloc, jemalloc",
        ],
    );
    refuse(&["--baseline", "mimaloc"], &["did you mean mimalloc?"]);
    if cfg!(not(feature = "talc")) {
        refuse(
            &["--baseline", "talc"],
            &["without the feature talc", "cargo run --features talc"],
        );
    }
    refuse(&["--subject", "x"], &["NAME=PATH.so"]);
    refuse(
        &["--subject", "x=/no/such.so"],
        &["/no/such.so", "no such file"],
    );
    let text = folder.path().join("text.so");
    fs::write(&text, "not a library").expect("the folder is ours");
    refuse(
        &["--subject", &format!("x={}", text.display())],
        &["text.so", "not an ELF file"],
    );
    let object = shared_object(folder.path(), "no_malloc.c", "nothing", &[]);
    refuse(
        &["--subject", &format!("x={}", object.display())],
        &["nothing.so", "no malloc"],
    );
    let cut = folder.path().join("cut.so");
    fs::write(&cut, &fs::read(&object).expect("just made")[..300]).expect("the folder is ours");
    refuse(&["--subject", &format!("x={}", cut.display())], &["cut.so"]);
    refuse(
        &["--subject", &format!("system={}", object.display())],
        &["system"],
    );
    // What clap itself refuses takes more than a line, and the same code.
    for extra in [
        ["--blocks", "0"],
        ["--touch", "some"],
        ["--timeout", "-3"],
        ["--memory-limit", "much"],
        ["--memory-limit", "1M"],
        ["--unknown", "1"],
    ] {
        let output = quick(&trace, &out, &extra);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{extra:?}: {}",
            stderr(&output)
        );
    }
    let none = replay().output().expect("starts");
    assert_eq!(none.status.code(), Some(2));
}

#[test]
fn an_unwritable_folder_for_the_report() {
    let folder = folder();
    let trace = write_trace(folder.path(), 100);
    let file = folder.path().join("file");
    fs::write(&file, "").expect("the folder is ours");
    let output = quick(&trace, &file.join("report"), &[]);
    assert_one_line_error(&output, 1, &["report"]);
    let output = quick(&trace, Path::new("/proc/report"), &[]);
    assert_one_line_error(&output, 1, &["/proc/report"]);
}

#[test]
fn damaged_results_files() {
    let folder = folder();
    let path = folder.path().join("results.json");
    let refuse = |bytes: &[u8], words: &[&str]| {
        fs::write(&path, bytes).expect("the folder is ours");
        let output = mymalloc()
            .arg("report")
            .arg(&path)
            .output()
            .expect("starts");
        assert_one_line_error(&output, 1, words);
        assert!(!folder.path().join("index.html").exists());
    };
    refuse(b"", &["results.json"]);
    refuse(b"{\"schema_version\": 2,", &["results.json"]);
    refuse(b"{\"schema_version\": 999}", &["999"]);
    refuse(b"[1, 2]", &["results.json"]);
}
