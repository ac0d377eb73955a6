//! The tools' memory does not grow with the length of a trace. Each test runs them as processes of their
//! own and keeps nothing itself: what a child is said to have held includes its parent's share until it
//! becomes another program.

#![cfg(feature = "suite")]

#[path = "common/tools.rs"]
mod tools;

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use tools::{folder, stderr, stdout, told};

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

/// Runs a tool to its end and gives the most memory that its process held, in bytes.
#[expect(
    clippy::zombie_processes,
    reason = "wait4 reaps it, and tells what it used"
)]
fn peak_rss_bytes(folder: &Path, arguments: &[&str]) -> u64 {
    let child = Command::new(env!("CARGO_BIN_EXE_mymalloc"))
        .arg("trace")
        .args(arguments)
        .current_dir(folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = libc::pid_t::try_from(child.id()).unwrap();
    let mut status = 0;
    // SAFETY: all its fields may be zero.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both places are ours, and the child has not been waited for: its handle is not used.
    let reaped = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    assert_eq!(reaped, pid);
    let status = ExitStatus::from_raw(status);
    assert!(status.success(), "{arguments:?}: {status}");
    u64::try_from(usage.ru_maxrss).unwrap() * 1024
}

/// Every tool that goes through a trace, on two lengths of the same.
#[test]
fn memory_does_not_grow_with_the_length() {
    const SHORT_COPIES: u64 = 5;
    const LONG_COPIES: u64 = 100;
    const BLOCKS: u64 = 100_000;
    const MIB: u64 = 1 << 20;
    let folder = folder(&[]);
    let folder = folder.path();
    write_long(&folder.join("one.log.zst"), BLOCKS, 20_000);
    told(folder, &["convert", "one.log.zst", "one.trace"]);
    for (name, copies) in [("short.trace", SHORT_COPIES), ("long.trace", LONG_COPIES)] {
        let copies = copies.to_string();
        told(
            folder,
            &["scale", "--repeat", "--copies", &copies, "one.trace", name],
        );
    }
    let text = told(folder, &["stat", "--format", "json", "long.trace"]);
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(found["profile"]["counts"]["malloc"], LONG_COPIES * BLOCKS);
    assert_eq!(found["profile"]["live_blocks_peak"], 20_000);
    let tools: [&[&str]; 3] = [
        &["stat"],
        &["scale", "--copies", "1"],
        &["slice", "--first", "600000", "--count", "200000"],
    ];
    for tool in tools {
        let of = |name| {
            let output: &[&str] = if tool[0] == "stat" {
                &[]
            } else {
                &["out.trace"]
            };
            peak_rss_bytes(folder, &[tool, &[name], output].concat())
        };
        let (short, long) = (of("short.trace"), of("long.trace"));
        assert!(long < 200 * MIB, "{tool:?}: {long} bytes");
        assert!(
            long < short + 16 * MIB,
            "{tool:?}: {short} bytes became {long}"
        );
    }
}
