//! The recorder's own cost, counted: instructions that it adds to a pair of malloc and free. Counts by
//! callgrind are the same on every machine of an architecture and at any load. Needs `valgrind`, which
//! `.ci/run` installs: feature `debian-tests`.
#![cfg(all(feature = "debian-tests", target_arch = "x86_64"))]

use std::path::Path;
use std::process::Command;

const SHIM: &str = env!("MYMALLOC_SHIM_RECORDER");

const PAIRS: &str = "
#include <stdlib.h>
int main(int count, char **argument) {
  for (long i = atol(argument[1]); i > 0; i--) {
    void *block = malloc(64);
    __asm__ volatile(\"\" : : \"r\"(block) : \"memory\");
    free(block);
  }
}
";

/// Instructions of the program's `main`, and what it calls, for so many pairs.
fn instructions(program: &Path, folder: &Path, options: Option<&str>, pairs: u64) -> u64 {
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(["--collect-atstart=no", "--toggle-collect=main"])
        .arg(program)
        .arg(pairs.to_string());
    if let Some(options) = options {
        let out = folder.join(format!("{options} {pairs}"));
        std::fs::create_dir(&out).expect("the folder is ours");
        command
            .env("LD_PRELOAD", SHIM)
            .env("MYMALLOC_RECORD", &out)
            .env("MYMALLOC_RECORD_OPTIONS", options);
    }
    let output = command.output().expect("valgrind is installed");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    // "==1== Collected : 123456"
    let collected = text.lines().find_map(|line| line.split_once("Collected :"));
    let number = collected.expect("callgrind tells its count").1.trim();
    number.parse().expect("a number")
}

/// Instructions of a pair: the difference that more of them make.
fn instructions_per_pair(program: &Path, folder: &Path, options: Option<&str>) -> f64 {
    let more = instructions(program, folder, options, 20_000);
    let less = instructions(program, folder, options, 10_000);
    (more - less) as f64 / 10_000.0
}

#[test]
fn a_pair_of_malloc_and_free_costs_at_most_ninety_instructions_more() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let source = folder.path().join("pairs.c");
    let program = folder.path().join("pairs");
    std::fs::write(&source, PAIRS).expect("the folder is ours");
    let output = Command::new("cc")
        .args(["-O2", "-o"])
        .args([&program, &source])
        .output()
        .expect("a C compiler is installed");
    assert!(output.status.success(), "{output:?}");
    let bare = instructions_per_pair(&program, folder.path(), None);
    let recorded = instructions_per_pair(&program, folder.path(), Some("follow"));
    let more = recorded - bare;
    println!("a pair: {bare:.1} instructions, recorded {recorded:.1}: {more:.1} more");
    // Fewer would mean that it was not recorded.
    assert!((40.0..=90.0).contains(&more), "{more}");
    let files = std::fs::read_dir(folder.path().join("follow 20000")).expect("recorded");
    let bytes: u64 = files
        .map(|file| file.expect("a file").metadata().expect("its length").len())
        .sum();
    assert!(bytes >= 2 * 20_000 * 8, "{bytes} bytes for 40,000 events");
}
