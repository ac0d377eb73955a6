//! The harness's own cost, counted: instructions of a replay against `null`, which does nothing.
//! Counts by callgrind are the same on every machine of an architecture and at any load. Needs
//! `valgrind`, which `.ci/run` installs: feature `debian-tests`.
#![cfg(all(feature = "debian-tests", target_arch = "x86_64"))]

mod suite;

use std::path::{Path, PathBuf};
use std::process::Command;

use mymalloc::measure::results::{Order, Pass, Touch};
use mymalloc::replay::program::Program;
use mymalloc::run::answer::AnswerFile;
use mymalloc::run::request::{ChildArguments, FIRST_ARGUMENT, Task};
use mymalloc::trace::{self, ReadOptions};

use suite::{folder, stderr};

/// The program in the profile that users measure with. `cargo test` builds it with assertions, which
/// would be counted.
fn measured_program(folder: &Path) -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--bin", "replay"])
        .args(["--message-format", "json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "{}", stderr(&output));
    let executable = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "replay")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names what it built");
    // The next `cargo test` replaces it.
    let copy = folder.join("replay");
    std::fs::copy(executable, &copy).expect("the folder is ours");
    copy
}

/// Instructions of all replays of a child that replays the program so often, allocator included.
fn instructions(program: &Path, saved: &Path, passes: u32) -> u64 {
    let folder = folder();
    let answer = folder.path().join("answer");
    AnswerFile::create(&answer).expect("the folder is ours");
    let arguments = ChildArguments {
        pass: Pass::Speed,
        touch: Touch::Page,
        order: Order::Serial,
        passes,
        token: "null".to_owned(),
        answer: answer.into(),
        task: Task::Program(saved.as_os_str().to_owned()),
    };
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        // The loop and what it calls; neither the start of the process nor the freeing afterwards.
        .args(["--collect-atstart=no", LOOP])
        .arg(program)
        .arg(FIRST_ARGUMENT)
        .args(arguments.to_words())
        .output()
        .expect("valgrind is installed");
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    // "==1== Collected : 123456"
    let collected = text.lines().find_map(|line| line.split_once("Collected :"));
    let number = collected.expect("callgrind tells its count").1.trim();
    number.parse().expect("a number")
}

const LOOP: &str = "--toggle-collect=mymalloc::replay::serial::Replayer::replay*";

/// Instructions per operation of a replay: the difference that one more makes.
fn instructions_per_operation(program: &Path, file: &str) -> f64 {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("workloads/traces")
        .join(file);
    let trace = trace::read(&path, &ReadOptions::default()).expect("a bundled trace");
    let compiled = Program::compile(&trace).expect("it compiles");
    let operations = compiled.operations();
    let folder = folder();
    let saved = folder.path().join("program");
    compiled.save(&saved).expect("the folder is ours");
    let more = instructions(program, &saved, 3) - instructions(program, &saved, 2);
    more as f64 / operations as f64
}

#[test]
fn null_takes_at_most_twenty_instructions_per_operation() {
    let folder = folder();
    let program = measured_program(folder.path());
    for file in ["systemui.txt.zst", "quickstart.log.zst"] {
        let each = instructions_per_operation(&program, file);
        println!("{file}: {each:.2} instructions per operation with null");
        assert!((5.0..=20.0).contains(&each), "{file}: {each}");
    }
}
