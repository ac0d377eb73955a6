//! What the integration tests share: the programs, small traces, shared objects made by `cc`.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod small;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mymalloc::measure::results::{Results, Status, SummaryRow};

/// The `replay` program.
pub(crate) fn replay() -> Command {
    Command::new(env!("CARGO_BIN_EXE_replay"))
}

/// The `mymalloc` program.
pub(crate) fn mymalloc() -> Command {
    Command::new(env!("CARGO_BIN_EXE_mymalloc"))
}

/// A folder that goes away with the test.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A trace of `count` allocations in the native grammar that frees nine of ten, with some of each
/// function.
pub(crate) fn trace_text(count: u32) -> String {
    let mut text = String::new();
    for number in 1..=count {
        let size = number * 37 % 900 + 1;
        match number % 10 {
            3 => writeln!(text, "1 1 calloc({},8)=#{number}", size / 8 + 1),
            6 => writeln!(text, "1 1 posix_memalign(64,{size})=#{number}"),
            _ => writeln!(text, "1 1 malloc({size})=#{number}"),
        }
        .expect("strings grow");
        if number > 20 {
            let old = number - 20;
            match old % 10 {
                0 => {}
                4 => writeln!(text, "1 1 realloc(#{old},{})=#{old}", size + 100)
                    .expect("strings grow"),
                _ => writeln!(text, "1 1 free(#{old})").expect("strings grow"),
            }
        }
    }
    text
}

/// Writes a trace of `count` allocations and returns its path.
pub(crate) fn write_trace(folder: &Path, count: u32) -> PathBuf {
    let path = folder.join("trace.log");
    std::fs::write(&path, trace_text(count)).expect("the folder is ours");
    path
}

/// Compiles a C file of `tests/objects` to a shared object.
pub(crate) fn shared_object(folder: &Path, source: &str, name: &str, defines: &[&str]) -> PathBuf {
    let path = folder.join(format!("{name}.so"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/objects")
        .join(source);
    let output = Command::new("cc")
        // Without builtins: the compiler must not take our own calloc for the C library's.
        .args(["-shared", "-fPIC", "-O1", "-fno-builtin", "-o"])
        .arg(&path)
        .arg(&source)
        .args(defines.iter().map(|define| format!("-D{define}")))
        .output()
        .expect("a C compiler (cc) is needed to build mimalloc, so it is there");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    path
}

/// Standard error as text.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Standard output as text.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The results file in a report's folder.
pub(crate) fn results(directory: &Path) -> Results {
    mymalloc::report::read_results(&directory.join("results.json")).expect("a results file")
}

/// The row of a subject.
pub(crate) fn row<'a>(results: &'a Results, subject: &str) -> &'a SummaryRow {
    results
        .summary
        .iter()
        .find(|row| row.subject == subject)
        .expect("a row for the subject")
}

/// Asserts a failure of the program told in exactly one line that has every one of `words`.
pub(crate) fn assert_one_line_error(output: &Output, code: i32, words: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert_eq!(text.lines().count(), 1, "one line: {text}");
    assert!(text.starts_with("error: "), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

/// Asserts a row that is `ok` and fully measured.
pub(crate) fn assert_complete(row: &SummaryRow) {
    assert_eq!(row.status, Status::Ok, "{row:?}");
    assert!(
        row.ns_per_operation.is_some() && row.ratio_to_baseline.is_some(),
        "{row:?}"
    );
}

/// Processes of this machine that have to do with a folder, whoever their parent is: they work in it,
/// name it in their command, or have mapped a file of it. Each with its command.
pub(crate) fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().expect("text");
    let has = |process: &procfs::process::Process| -> Option<String> {
        let command = process.cmdline().ok()?.join(" ");
        let there = |path: PathBuf| path.to_string_lossy().contains(folder);
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", process.pid()));
        let concerned = command.contains(folder)
            || process.cwd().is_ok_and(there)
            || maps.is_ok_and(|maps| maps.contains(folder));
        concerned.then(|| format!("{} {command}", process.pid()))
    };
    procfs::process::all_processes()
        .expect("Linux has /proc")
        .flatten()
        .filter_map(|process| has(&process))
        .collect()
}
