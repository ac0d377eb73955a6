//! MyMalloc's shared object in real processes: what a malloc must survive, a process for each case, under
//! the default settings and under those that change the most.
#![cfg(feature = "suite")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::text_of;

const SHIM: &str = env!("MYMALLOC_SHIM_MYMALLOC");

/// Compiles one of `tests/programs`.
fn compile(folder: &Path, name: &str, compiler: &str, options: &[&str]) -> PathBuf {
    let program = folder.join(name.replace('.', "-"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/programs")
        .join(name);
    let compiled = Command::new(compiler)
        .args(["-O1", "-w", "-pthread", "-o"])
        .arg(&program)
        .args(options)
        .arg(source)
        .output()
        .unwrap_or_else(|error| panic!("{compiler}: {error}"));
    assert!(compiled.status.success(), "{}", text_of(&compiled));
    program
}

fn run(command: &mut Command) -> Output {
    let output = command.output().expect("it runs");
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        text_of(&output)
    );
    output
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn survive_all(environment: &[(&str, &str)], without: &[&str]) {
    let folder = folder();
    let program = compile(folder.path(), "survive.c", "cc", &[]);
    let names = text_of(&run(&mut Command::new(&program)));
    assert!(names.lines().count() >= 15, "{names}");
    for name in names.lines().filter(|name| !without.contains(name)) {
        let mut command = Command::new(&program);
        command
            .arg(name)
            .env("LD_PRELOAD", SHIM)
            .envs(environment.iter().copied());
        let text = text_of(&run(&mut command));
        assert_eq!(text, format!("survived {name}\n"), "{environment:?}");
    }
}

#[test]
fn every_case_is_survived() {
    survive_all(&[], &[]);
}

#[test]
fn every_case_is_survived_when_memory_goes_back_at_once() {
    survive_all(&[("MYMALLOC_PURGE_DELAY", "0")], &[]);
}

#[test]
fn every_case_is_survived_with_huge_pages() {
    survive_all(&[("MYMALLOC_HUGE_PAGES", "1")], &[]);
}

/// Guards cost addresses, so the cases that count what fits below a limit do not apply.
#[test]
fn every_case_is_survived_between_guard_pages_beside_a_thread() {
    survive_all(
        &[
            ("MYMALLOC_SECURE", "1"),
            ("MYMALLOC_BACKGROUND", "1"),
            ("MYMALLOC_PURGE_DELAY", "0"),
        ],
        &["address_space_limit_small", "address_space_limit"],
    );
}

/// A limit that holds before the process starts leaves room for no window, or a small one.
#[test]
fn a_process_born_under_a_limit_runs() {
    let folder = folder();
    let program = compile(folder.path(), "survive.c", "cc", &[]);
    for (limit_kib, name) in [
        ("200000", "nothing_is_unique"),
        ("200000", "calloc_overflow_and_zeroes"),
        ("200000", "blocks_outlive_threads"),
        ("60000", "nothing_is_unique"),
    ] {
        let script = format!("ulimit -s 1024; ulimit -v {limit_kib}; exec \"$0\" {name}");
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(script)
            .arg(&program)
            .env("LD_PRELOAD", SHIM);
        assert_eq!(text_of(&run(&mut command)), format!("survived {name}\n"));
    }
}

#[test]
fn replaced_operators_are_called_for_every_form() {
    if Command::new("c++").arg("--version").output().is_err() {
        println!("skipped: c++ is not installed");
        return;
    }
    let folder = folder();
    let program = compile(folder.path(), "replaced.cpp", "c++", &["-std=c++17"]);
    let plain = text_of(&run(&mut Command::new(&program)));
    assert!(plain.ends_with(" 0 1\n"), "{plain}");
    let served = text_of(&run(Command::new(&program).env("LD_PRELOAD", SHIM)));
    assert_eq!(served, plain);
}

#[test]
fn new_handlers_are_called_and_exceptions_pass() {
    if Command::new("c++").arg("--version").output().is_err() {
        println!("skipped: c++ is not installed");
        return;
    }
    let folder = folder();
    for options in [&["-std=c++17"][..], &["-std=c++17", "-static-libgcc"]] {
        let program = compile(folder.path(), "handlers.cpp", "c++", options);
        let plain = text_of(&run(&mut Command::new(&program)));
        assert!(
            plain.contains("handler throws, array: own, 1 calls, 2 unwound"),
            "{plain}"
        );
        assert!(
            plain.contains("handler gives back: nothing, 1 calls, 2 unwound"),
            "{plain}"
        );
        let served = text_of(&run(Command::new(&program).env("LD_PRELOAD", SHIM)));
        assert_eq!(served, plain);
    }
}
