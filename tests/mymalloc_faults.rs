//! Every system call of MyMalloc's fails, each in turn: the n-th alone, and all from the n-th on. What the
//! program asked for is refused with `ENOMEM` or granted, nothing is lost, and when calls succeed again,
//! so does everything.
#![cfg(feature = "suite")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::text_of;

const SHIM: &str = env!("MYMALLOC_SHIM_MYMALLOC");

struct Faults {
    folder: tempfile::TempDir,
}

impl Faults {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let library = folder.path().join("libfaults.so");
        for (output, source, options) in [
            (
                &library,
                tests.join("objects/faults.c"),
                &["-shared", "-fPIC"][..],
            ),
            (
                &folder.path().join("faults"),
                tests.join("programs/faults.c"),
                &["-pthread"],
            ),
        ] {
            let mut compile = Command::new("cc");
            compile
                .args(["-O1", "-w", "-o"])
                .arg(output)
                .arg(&source)
                .args(options);
            if !options.contains(&"-shared") {
                compile.arg(&library);
            }
            let compiled = compile.output().expect("a C compiler");
            assert!(compiled.status.success(), "{}", text_of(&compiled));
        }
        Self { folder }
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("libfaults.so")
    }

    fn run(&self, arguments: &[&str], environment: &[(&str, &str)]) -> String {
        let name = Path::new(SHIM).file_name().expect("a file");
        let mut command = Command::new(self.folder.path().join("faults"));
        command
            .args(arguments)
            .env("LD_PRELOAD", format!("{}:{SHIM}", self.library().display()))
            .env("FAULTS_OBJECT", name)
            .envs(environment.iter().copied());
        let output = command.output().expect("it runs");
        let text = text_of(&output);
        assert!(
            output.status.success(),
            "{arguments:?} {environment:?}: {}\n{text}",
            output.status
        );
        text
    }
}

/// Numbers by their names, a line each.
fn number(text: &str, name: &str) -> u64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{name} in {text}"))
}

fn each_call_fails(kinds: &[&str], environment: &[(&str, &str)]) {
    let text = Faults::new().run(&[], environment);
    for kind in kinds {
        assert!(number(&text, kind) > 0, "no {kind} failed: {text}");
    }
    println!("{text}");
}

#[test]
fn each_call_fails_in_turn() {
    each_call_fails(&["mmap", "munmap", "mremap", "madvise"], &[]);
}

#[test]
fn one_call_in_many_fails_between_guard_pages() {
    // Guards come and go by mprotect.
    let kinds = ["mmap", "munmap", "mremap", "madvise", "mprotect"];
    each_call_fails(&kinds, &[("MYMALLOC_SECURE", "1")]);
}

#[test]
fn the_first_calls_of_a_process_fail() {
    let faults = Faults::new();
    for first in ["0", "1", "2", "3", "4", "5", "6", "7"] {
        for count in ["1", "1000000"] {
            faults.run(&[first, count], &[]);
        }
    }
}
