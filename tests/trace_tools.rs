//! `mymalloc trace …`: what the tools print and write, and what they refuse.

#![cfg(feature = "suite")]
#![forbid(unsafe_code)]

#[path = "common/tools.rs"]
mod tools;

use tools::{TRACE, assert_refused, folder, stderr, stdout, told, trace};

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

#[test]
fn validate_says_what_it_held_against_what() {
    let folder = folder(&[("in.log", TRACE)]);
    let path = folder.path();
    told(path, &["convert", "in.log", "in.trace"]);
    told(path, &["convert", "in.log", "native.log"]);
    told(path, &["convert", "in.log", "in.trace.gz"]);
    let words = |name: &str| {
        let text = told(path, &["validate", name]);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for (name, expected) in [
        (
            "in.trace",
            "the CRC-32 of 1 chunk and of the three sections behind matches",
        ),
        ("in.trace", "the index leads to every chunk"),
        ("in.trace.gz", "the CRC-32 of every section matches"),
        ("in.trace.gz", "the CRC-32 of what was compressed matches"),
        (
            "native.log",
            "to its last line, which tells as many events as there are",
        ),
        ("in.log", "the format has no checksums"),
    ] {
        assert!(words(name).contains(expected), "{name}: {}", words(name));
    }
    // A bit in every part of the file in turn: each is found. (The library's tests turn every bit.)
    let whole = std::fs::read(path.join("in.trace")).unwrap();
    for place in (0..whole.len()).step_by(11) {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x10;
        std::fs::write(path.join("damaged.trace"), damaged).unwrap();
        let output = trace(path, &["validate", "damaged.trace"]);
        assert_eq!(output.status.code(), Some(1), "byte {place}");
        assert!(
            stdout(&output).contains("fault: "),
            "byte {place}: {}",
            stdout(&output)
        );
    }
}

#[test]
fn speed_measures_any_trace() {
    let folder = folder(&[("in", TRACE)]);
    let text = told(folder.path(), &["speed", "--seconds", "0.001", "in"]);
    let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((row.len(), row[0], row[1]), (7, "in", "6"), "{text}");
}
