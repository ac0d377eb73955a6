//! The short paths' price: instructions inside the shared object of a pair of malloc and free. Counts by callgrind
//! are the same on every machine of an architecture and at any load. Needs `valgrind`, which `.ci/run` installs:
//! feature `debian-tests`.
#![cfg(all(
    feature = "debian-tests",
    target_arch = "x86_64",
    not(feature = "portable")
))]

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

const SHIM: &str = env!("MYMALLOC_SHIM_MYMALLOC");

/// What a pair may take, with checks and without.
const INSTRUCTIONS_MAX: f64 = if cfg!(feature = "unchecked") {
    32.0
} else {
    46.0
};

const PAIRS: &str = "
#include <stdlib.h>
static void *blocks[100];
int main(int count, char **argument) {
  int batch = atoi(argument[1]);
  for (long i = atol(argument[2]); i > 0; i -= batch) {
    for (int k = 0; k < batch; k++) blocks[k] = malloc(64);
    __asm__ volatile(\"\" : : \"r\"(blocks) : \"memory\");
    for (int k = 0; k < batch; k++) free(blocks[k]);
  }
}
";

/// Instructions of the shared object's own in what callgrind has written. Lines of cost follow the name of the object
/// (`ob=`; `cob=` is that of what is called) that they belong to; the one behind `calls=` is the cost of what was called.
fn instructions_inside(profile: &str, object: &str) -> u64 {
    let mut objects = HashMap::new();
    let (mut is_inside, mut is_of_callee, mut sum) = (false, false, 0);
    for line in profile.lines() {
        if let Some((kind @ ("ob" | "cob"), name)) = line.split_once('=') {
            // "(2) path" the first time, "(2)" from then on.
            let (number, path) = name.split_once(' ').unwrap_or((name, ""));
            let path = objects.entry(number).or_insert(path);
            if kind == "ob" {
                is_inside = *path == object;
            }
        } else if line.starts_with("calls=") {
            is_of_callee = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            let cost = line.split(' ').nth(1).and_then(|cost| cost.parse().ok());
            if is_inside && !is_of_callee {
                sum += cost.unwrap_or(0);
            }
            is_of_callee = false;
        }
    }
    sum
}

fn instructions(program: &Path, folder: &Path, batch: u32, pairs: u64) -> u64 {
    let profile = folder.join("profile");
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(program)
        .args([batch.to_string(), pairs.to_string()])
        .env("LD_PRELOAD", SHIM)
        .output()
        .expect("valgrind is installed");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let profile = std::fs::read_to_string(profile).expect("callgrind has written it");
    instructions_inside(&profile, SHIM)
}

#[test]
fn a_pair_of_malloc_and_free_takes_at_most_what_is_said() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let (source, program) = (folder.path().join("pairs.c"), folder.path().join("pairs"));
    std::fs::write(&source, PAIRS).expect("the folder is ours");
    let output = Command::new("cc")
        .args(["-O1", "-fno-builtin", "-o"])
        .args([&program, &source])
        .output()
        .expect("a C compiler is installed");
    assert!(output.status.success(), "{output:?}");
    for batch in [1, 100] {
        let of = |pairs| instructions(&program, folder.path(), batch, pairs);
        let each = (of(60_000) - of(20_000)) as f64 / 40_000.0;
        println!("{batch} blocks at a time: {each:.2} instructions a pair");
        // Fewer than half would mean that something was not counted.
        assert!((16.0..=INSTRUCTIONS_MAX).contains(&each), "{each}");
    }
}
