//! `mymalloc trace …`: what the tools print and write, and what they refuse.

#![cfg(feature = "suite")]
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::{Command, Output};

/// Two threads, a reallocation, a block freed by the other thread, and one that is never freed.
const TRACE: &str = "\
1 1 malloc(100)=#1
1 2 calloc(4,8)=#2
1 1 realloc(#1,200)=#1
1 2 free(#1)
1 1 malloc(5000)=#1
1 1 free(#0)
";

fn trace(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mymalloc"))
        .arg("trace")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The standard output of a tool that succeeds.
fn told(folder: &Path, arguments: &[&str]) -> String {
    let output = trace(folder, arguments);
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        stderr(&output)
    );
    stdout(&output)
}

/// The tool ends with this code and one line that holds these words.
fn assert_refused(folder: &Path, arguments: &[&str], code: i32, words: &str) {
    let output = trace(folder, arguments);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    let errors: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 1, "{arguments:?}: {text}");
    assert!(errors[0].contains(words), "{arguments:?}: {text}");
}

#[test]
fn stat_tells_everything_within_80_columns() {
    let folder = folder(&[("in", TRACE)]);
    let text = told(folder.path(), &["stat", "in"]);
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let has = |line: &str| {
        text.lines()
            .any(|l| l.split_whitespace().eq(line.split_whitespace()))
    };
    for line in [
        "4 blocks with 5.21 KiB in all; at most 4.91 KiB live at once, in 2 blocks.",
        "50 % of frees are by another thread than the one that allocated.",
        "2 blocks with 4.91 KiB were never freed.",
        "malloc 2 33 % ##############################",
        "free(NULL) 1 17 % ###############",
        "32 B 1 25 % ##############################",
        "4–5 KiB 1 0 4.88 KiB 4.88 KiB 1",
        "Of a block: 1",
        "Copied, at most: 100 B",
        "Blocks that were reallocated: 1, at most 1 time each",
        "1.5 to 2 1 100 % ##############################",
        "1 2 1 32 B 1 1",
    ] {
        assert!(has(line), "{line}\n{text}");
    }
}

#[test]
fn stat_as_json_holds_the_same_numbers() {
    let folder = folder(&[("in", TRACE)]);
    let text = told(folder.path(), &["stat", "--format", "json", "in"]);
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(found["profile"]["counts"]["malloc"], 2);
    assert_eq!(found["profile"]["live_bytes_peak"], 200 + 5000 + 32 - 200);
    assert_eq!(found["profile"]["cross_thread_frees"], 1);
    assert_eq!(found["threads"].as_array().unwrap().len(), 2);
    assert_eq!(found["reallocs"]["copied_bytes_most"], 100);
    assert_eq!(found["origin"]["source"], "in");
    let classes = found["classes"].as_array().unwrap();
    let sum = |key: &str| {
        classes
            .iter()
            .map(|class| class[key].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!((sum("allocations"), sum("frees")), (4, 2));
    assert_eq!(
        sum("requested_bytes"),
        found["profile"]["requested_bytes"].as_u64().unwrap()
    );
}

#[test]
fn stat_draws_a_page_that_needs_nothing_else() {
    let folder = folder(&[("<script>.log", TRACE)]);
    let output = told(
        folder.path(),
        &["stat", "--html", "out.html", "<script>.log"],
    );
    assert_eq!(output, "Page: out.html\n");
    let page = std::fs::read_to_string(folder.path().join("out.html")).unwrap();
    assert!(!page.contains("<script"), "names are escaped");
    assert!(page.contains("&lt;script&gt;.log"));
    for outside in ["src=", "href=\"http", "url(", "@import", "<link"] {
        assert!(!page.contains(outside), "{outside}");
    }
    // Live bytes, threads, sizes, lifetimes, the map, churn, each wide and narrow.
    assert_eq!(page.matches("<svg").count(), 12);
    for heading in [
        "Over time",
        "Sizes and lifetimes",
        "Churn",
        "Reallocations",
        "Threads",
        "The trace",
    ] {
        assert!(page.contains(&format!("<h2>{heading}</h2>")), "{heading}");
    }
    assert_refused(
        folder.path(),
        &["stat", "--html", "./<script>.log", "<script>.log"],
        2,
        "is the trace to read",
    );
}

#[test]
fn validate_tells_what_holds() {
    let folder = folder(&[("in", TRACE)]);
    let text = told(folder.path(), &["validate", "in"]);
    assert!(text.starts_with("in: valid\n"), "{text}");
    for line in [
        "events:       6",
        "threads:      2",
        "never freed:  4.91 KiB in 2 blocks",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn validate_tells_what_does_not_hold() {
    let broken = format!("{TRACE}1 1 free(#7)\n1 1 malloc(1)=#3\n");
    let folder = folder(&[("in", &broken), ("good", TRACE)]);
    let output = trace(folder.path(), &["validate", "good", "in"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert!(text.starts_with("good: valid\n"), "{text}");
    assert!(
        text.contains("in: not valid; what follows is of the "),
        "{text}"
    );
    assert!(text.contains("fault: in:7: "), "{text}");
    assert!(stderr(&output).is_empty(), "{}", stderr(&output));
    assert_refused(folder.path(), &["validate", "missing"], 1, "missing: ");
}

#[test]
fn diff_puts_two_traces_side_by_side() {
    let second = "1 1 malloc(100)=#1\n1 1 malloc(10000)=#2\n";
    let folder = folder(&[("a", TRACE), ("b", second)]);
    let text = told(folder.path(), &["diff", "a", "b"]);
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    let has = |line: &str| {
        text.lines()
            .any(|l| l.split_whitespace().eq(line.split_whitespace()))
    };
    for line in [
        "A: a",
        "malloc 2 2 1.000",
        "largest 4.88 KiB 9.77 KiB 2.000",
        "threads 2 1 0.500",
        "free 1 0 0.000",
    ] {
        assert!(has(line), "{line}\n{text}");
    }
    let json = told(folder.path(), &["diff", "--format", "json", "a", "b"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["rows"][0]["what"], "events");
    assert_eq!(json["rows"][0]["first"], 6.0);
}

/// Runs a tool whose process gets so much address space and no more.
fn told_within(address_space_kib: u64, folder: &Path, arguments: &[&str]) -> String {
    let script = format!("ulimit -v {address_space_kib} && exec \"$0\" trace \"$@\"");
    let output = Command::new("/bin/sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_mymalloc")])
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        stderr(&output)
    );
    stdout(&output)
}

/// Writes a trace of `2 * blocks` events, of which `live` blocks live at once.
fn write_long(path: &Path, blocks: u64, live: u64) {
    use std::io::Write as _;
    let file = std::fs::File::create(path).unwrap();
    let mut out = zstd::Encoder::new(file, 1).unwrap();
    for block in 0..blocks {
        let slot = block % live + 1;
        let (thread, size) = (block / 1000 % 7 + 1, block % 97 * 11);
        if block >= live {
            writeln!(out, "1 {thread} free(#{slot})").unwrap();
        }
        writeln!(out, "1 {thread} malloc({size})=#{slot}").unwrap();
    }
    for slot in 1..=live {
        writeln!(out, "1 1 free(#{slot})").unwrap();
    }
    out.finish().unwrap();
}

#[test]
fn a_long_trace_passes_in_little_memory() {
    // In memory its events alone would be 480 MB.
    const BLOCKS: u64 = 10_000_000;
    const ADDRESS_SPACE_KIB: u64 = 300 << 10;
    let folder = folder(&[]);
    write_long(&folder.path().join("long.log.zst"), BLOCKS, 100_000);
    let arguments = ["stat", "--format", "json", "long.log.zst"];
    let text = told_within(ADDRESS_SPACE_KIB, folder.path(), &arguments);
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(found["profile"]["counts"]["malloc"], BLOCKS);
    assert_eq!(found["profile"]["live_blocks_peak"], 100_000);
    assert_eq!(found["profile"]["live_blocks_end"], 0);
}
