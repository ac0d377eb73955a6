//! Runs `mymalloc trace …` in a folder of its own.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::path::Path;
use std::process::{Command, Output};

/// Two threads, a reallocation, a block freed by the other thread, and one that is never freed.
pub(crate) const TRACE: &str = "\
1 1 malloc(100)=#1
1 2 calloc(4,8)=#2
1 1 realloc(#1,200)=#1
1 2 free(#1)
1 1 malloc(5000)=#1
1 1 free(#0)
";

/// Runs a tool.
pub(crate) fn trace(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mymalloc"))
        .arg("trace")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

/// A folder with these files.
pub(crate) fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The standard output of a tool that succeeds.
pub(crate) fn told(folder: &Path, arguments: &[&str]) -> String {
    let output = trace(folder, arguments);
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        stderr(&output)
    );
    stdout(&output)
}

/// The tool ends with this code and one line that holds these words.
pub(crate) fn assert_refused(folder: &Path, arguments: &[&str], code: i32, words: &str) {
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

/// What stands in a folder.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
