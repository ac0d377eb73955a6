//! A trace passes from format to format without loss, the bundled ones as well: binary to text and back
//! gives the same bytes.
//!
//! All of them are gone through if `MYMALLOC_TEST_ALL_TRACES` is set, otherwise those of less than a
//! million events.

#![cfg(feature = "suite")]
#![forbid(unsafe_code)]

#[path = "common/tools.rs"]
mod tools;
#[path = "common/trace_file.rs"]
mod trace_file;

use std::path::{Path, PathBuf};

use mymalloc::trace::builder::TraceBuilder;
use mymalloc::trace::{
    Origin, OutputFormat, ReadOptions, Recording, SiteId, ThreadIndex, TouchedBlocks, Trace, read,
    write,
};
use tools::{folder, told};

/// Every bundled trace but the longest, which rustc's is.
const SHORT: [&str; 6] = ["cc1", "git", "perl", "quickstart", "sqlite", "systemui"];

fn bundled() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads/traces");
    let all = std::env::var_os("MYMALLOC_TEST_ALL_TRACES").is_some();
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = entries
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            let stem = name.split('.').next().unwrap();
            name != "NOTICE" && (all || SHORT.contains(&stem))
        })
        .collect();
    paths.sort();
    assert!(paths.len() >= SHORT.len(), "{paths:?}");
    paths
}

fn whole(path: &Path) -> Trace {
    read(path, &ReadOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn binary_to_text_and_back_gives_the_same_bytes() {
    let folder = folder(&[]);
    let folder = folder.path();
    let bytes = |name: &str| std::fs::read(folder.join(name)).unwrap();
    for path in bundled() {
        let name = path.to_str().unwrap();
        told(folder, &["convert", name, "1.trace"]);
        told(folder, &["convert", "1.trace", "2.log"]);
        told(folder, &["convert", "2.log", "3.trace"]);
        told(folder, &["convert", "3.trace", "4.log"]);
        assert!(bytes("1.trace") == bytes("3.trace"), "{name}");
        assert!(bytes("2.log") == bytes("4.log"), "{name}");
        let (original, back) = (whole(&path), whole(&folder.join("3.trace")));
        assert!(original.events() == back.events(), "{name}");
        assert!(original.times_ns() == back.times_ns(), "{name}");
        assert!(original.sites() == back.sites(), "{name}");
        assert_eq!(original.site_names(), back.site_names());
        assert_eq!(original.origin().recording, back.origin().recording);
        // Where it came from is the one note that the first native file adds.
        assert!(back.origin().notes.starts_with(&original.origin().notes));
        assert!(back.origin().notes.len() <= original.origin().notes.len() + 1);
        assert_eq!(original.origin().warnings, back.origin().warnings);
    }
}

/// Every text in a JSON value.
fn texts(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => found.push(text.clone()),
        serde_json::Value::Array(values) => values.iter().for_each(|value| texts(value, found)),
        serde_json::Value::Object(values) => values.values().for_each(|value| texts(value, found)),
        _ => {}
    }
}

/// Where a sequence of bytes occurs in what a file holds, decompressed.
fn holds(file: &trace_file::TraceFile, wanted: &[u8]) -> bool {
    let mut pieces = file.pieces.iter();
    pieces.any(|piece| piece.windows(wanted.len()).any(|bytes| bytes == wanted))
}

/// What our recorder tells of a program, every text and number different from all others.
fn told_by_the_recorder() -> Trace {
    let mut origin = Origin::generated("", vec!["of the note-taker".to_owned()]);
    origin.warnings.push("by the warner".to_owned());
    origin.dropped_examples.push("line 5: odd".to_owned());
    origin.recording = Some(Recording {
        recorder: "recorder-11.7".to_owned(),
        program: "/opt/secret/bin/prog".to_owned(),
        arguments: vec!["--user".to_owned(), "fritz".to_owned()],
        process: 7_654_321,
        parent: 7_654_320,
        began: "2026-11-22T21:04:05Z".to_owned(),
        wall_ns: 98_765_432_198,
        ended: "exit code 77".to_owned(),
        allocator: "/usr/lib/liballoc.so.9".to_owned(),
        c_library: "glibc 9.99".to_owned(),
        touched: vec![TouchedBlocks {
            from_bytes: 65_536,
            pages: 77_001,
            touched_pages: 77_000,
        }],
        ..Recording::default()
    });
    let mut builder = TraceBuilder::new(origin);
    for site in 0..4 {
        let block = builder.malloc(ThreadIndex(0), 100);
        builder.stamp(1_700_000_000_000 + u64::from(site));
        builder.site(SiteId(site));
        builder.free(ThreadIndex(0), block, false);
        builder.stamp(1_700_000_500_000 + u64::from(site));
        builder.site(SiteId(site));
    }
    let names = [
        "unknown",
        "parse (/home/fritz/p.c:3)",
        "lex::next",
        "libfoo.so+0x77",
    ];
    builder.name_sites(names.map(str::to_owned).to_vec());
    builder.finish()
}

/// Whatever names a program is in no byte of an anonymous file.
#[test]
fn an_anonymous_file_names_no_program() {
    let folder = folder(&[]);
    let folder = folder.path();
    let input = folder.join("secret-name.trace");
    write(&told_by_the_recorder(), &input, OutputFormat::Binary).unwrap();
    let original = trace_file::decode(&std::fs::read(&input).unwrap());
    let mut secrets = Vec::new();
    texts(
        &serde_json::from_str(&original.about).unwrap(),
        &mut secrets,
    );
    secrets.retain(|secret| secret != "unknown");
    let numbers = ["7654321", "7654320", "98765432198"].map(str::to_owned);
    secrets.extend(numbers);
    for secret in &secrets {
        assert!(holds(&original, secret.as_bytes()), "{secret}");
    }
    assert!(secrets.len() > 12, "{secrets:?}");
    secrets.push("secret-name".to_owned());
    secrets.push(whole(&input).origin().sha256.clone());
    told(folder, &["anonymise", "secret-name.trace", "out.trace"]);
    let out = trace_file::decode(&std::fs::read(folder.join("out.trace")).unwrap());
    for secret in secrets {
        assert!(!holds(&out, secret.as_bytes()), "{secret}: {}", out.about);
    }
    assert_eq!(out.events, original.events);
    assert!(out.times_ns.is_empty());
}

/// Names of functions, thread ids and addresses of logs: as text, and as the bytes of a number.
#[test]
fn an_anonymous_file_holds_no_address() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let folder = folder(&[]);
    let folder = folder.path();
    for name in [
        "heaptrack/shapes.raw.txt",
        "android.txt",
        "traces/tralloc.txt",
    ] {
        let path = data.join(name);
        let log = std::fs::read_to_string(&path).unwrap();
        told(folder, &["anonymise", path.to_str().unwrap(), "out.trace"]);
        let out = std::fs::read(folder.join("out.trace")).unwrap();
        let out = trace_file::decode(&out);
        let mut searched = 0;
        for word in log.split(|c: char| c.is_whitespace() || ":,()=".contains(c)) {
            let digits = word.strip_prefix("0x").unwrap_or(word);
            let number = u64::from_str_radix(digits, 16).ok();
            let secret = match number {
                // Sizes and small numbers stay.
                Some(0..0x100_0000) => continue,
                Some(address) => {
                    assert!(!holds(&out, &address.to_le_bytes()[..6]), "{name}: {word}");
                    digits
                }
                None if word.len() < 4 => continue,
                None => word,
            };
            searched += 1;
            // Words of our own: the columns and `about` have keys and sentences.
            let ours = [
                "note", "site", "sites", "left", "free", "malloc", "realloc", "calloc",
            ];
            assert!(
                ours.contains(&secret) || !holds(&out, secret.as_bytes()),
                "{name}: {secret}: {}",
                out.about
            );
        }
        assert!(searched > 10, "{name}");
        for secret in whole(&path).site_names() {
            let known = ["", "unknown"].contains(&secret.as_str());
            assert!(known || !holds(&out, secret.as_bytes()), "{name}: {secret}");
        }
    }
}
