//! The mistakes that `tests/programs/misuse` makes with memory, under MyMalloc: a pointer that is no
//! allocated block ends the program, with one line that says which and why; a write into memory that is
//! not the program's reaches nothing of the allocator's; a size that cannot be is refused.
#![cfg(feature = "suite")]

mod common;

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::text_of;

const SHIM: &str = env!("MYMALLOC_SHIM_MYMALLOC");

/// The kinds that issue and table promise.
const KINDS_MIN: usize = 80;

fn compile(folder: &Path) -> PathBuf {
    let program = folder.join("misuse");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/misuse");
    let files = std::fs::read_dir(sources).expect("there");
    let files = files.map(|file| file.expect("readable").path());
    let compiled = Command::new("cc")
        .args(["-O1", "-w", "-pthread", "-o"])
        .arg(&program)
        .args(files.filter(|file| file.extension().is_some_and(|end| end == "c")))
        .output()
        .expect("a C compiler");
    assert!(compiled.status.success(), "{}", text_of(&compiled));
    program
}

fn run(program: &Path, name: &str) -> Output {
    let mut command = Command::new(program);
    let output = command.arg(name).env("LD_PRELOAD", SHIM).output();
    output.expect("it runs")
}

/// What the program itself said last.
fn last_line(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines().next_back().unwrap_or("").to_owned()
}

#[test]
fn every_mistake_is_caught_or_does_no_harm() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = compile(folder.path());
    let names = Command::new(&program).output().expect("it runs");
    let names = String::from_utf8(names.stdout).expect("text");
    assert!(names.lines().count() >= KINDS_MIN, "{names}");
    for line in names.lines() {
        let (_, name) = line.split_once(' ').expect("a group and a name");
        let output = run(&program, name);
        let (last, text) = (last_line(&output), text_of(&output));
        if last.starts_with("skipped") {
            println!("{name}: {last}");
        } else if name.starts_with("write_") {
            let stopped = output.status.signal() == Some(libc::SIGSEGV) && last == "writing";
            assert!(stopped || last == "harmless", "{name}: {text}");
        } else if name.starts_with("overflow_") {
            assert_eq!(last, "refused", "{name}: {text}");
        } else {
            match name {
                // Nothing tells this block from one that its owner frees.
                "twice_after_it_was_handed_out_again" => {
                    assert!(last.starts_with("corrupted"), "{name}: {text}");
                }
                // Fewer bytes than a block has are what its owner may have asked for.
                "far_too_few_bytes_deleted" => assert_eq!(last, "harmless", "{name}: {text}"),
                _ => assert_told(name, &output),
            }
        }
    }
}

#[test]
fn who_makes_no_mistake_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = run(&compile(folder.path()), "nothing");
    assert!(output.status.success(), "{}", text_of(&output));
    assert_eq!(text_of(&output), "made\nharmless\n");
}

/// The program was ended before it could go on, with one line that names the pointer and the reason.
fn assert_told(name: &str, output: &Output) {
    let said = text_of(output);
    let told = String::from_utf8_lossy(&output.stderr);
    let is_ended = output.status.signal() == Some(libc::SIGABRT);
    assert!(is_ended && last_line(output) != "made", "{name}: {said}");
    assert_eq!(told.lines().count(), 1, "{name}: {said}");
    let reason = match name {
        // Gone to other classes, or back to the system.
        "twice_after_thousands" | "twice_after_trim" => "",
        "misaligned_large" => "lies inside a block",
        _ if name.starts_with("twice") || name == "size_of_freed" => "was freed already",
        _ if name.starts_with("inside") || name == "size_of_inside" => "lies inside a block",
        _ if name.starts_with("misaligned") => "not aligned to 16 bytes",
        _ if name.starts_with("too_many_bytes") => "has fewer bytes than the size given",
        "foreign_tagged" | "foreign_small_number" | "foreign_stack" => "not of this allocator",
        _ => "",
    };
    if ["twice_64", "misaligned_8", "inside_small"].contains(&name) {
        assert!(told.ends_with("(size class 64 bytes)\n"), "{name}: {said}");
    }
    assert!(
        told.starts_with("mymalloc: ") && told.contains("(0x") && told.contains(reason),
        "{name}: {said}"
    );
}
